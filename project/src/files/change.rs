//! Files that are deleted and moved.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Code, Error};
use crate::home::Home;

/// Deletes files, links and whole folders, but never the home. One that is not there is no error: it is as was wanted.
pub(crate) fn delete(home: &Home, paths: &[PathBuf]) -> Result<(), Error> {
    for path in paths {
        refuse_home(home, path, "delete")?;
    }
    for path in paths {
        let removed = match path.symlink_metadata() {
            Ok(about) if about.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("delete", path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Moves files and folders into a folder. Nothing is overwritten.
pub(crate) fn move_into(home: &Home, paths: &[PathBuf], folder: &Path) -> Result<(), Error> {
    if !folder.is_dir() {
        let text = format!("there is no folder {}", folder.display());
        return Err(Error::new(Code::NotFound, text));
    }
    for path in paths {
        let Some(name) = path.file_name() else {
            return Err(Error::argument("paths", "has one without a name"));
        };
        rename(home, path, &folder.join(name))?;
    }
    Ok(())
}

/// Gives a file or folder another name, on the same file system or another one. Nothing is overwritten.
pub(crate) fn rename(home: &Home, from: &Path, to: &Path) -> Result<(), Error> {
    refuse_home(home, from, "move")?;
    let failed = |error: io::Error| {
        let what = format!("move {} to", from.display());
        Error::io(&what, to, &error)
    };
    if to.starts_with(from) && to != from {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is within itself",
        )));
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::XDEV) => move_across(from, to).map_err(failed),
        // Some file systems cannot refuse to overwrite by themselves.
        Err(Errno::INVAL) if to.symlink_metadata().is_err() => {
            std::fs::rename(from, to).map_err(failed)
        }
        Err(Errno::INVAL) => Err(failed(io::ErrorKind::AlreadyExists.into())),
        Err(error) => Err(failed(error.into())),
    }
}

/// To another file system: copied beside its place, then put there, then removed where it was.
fn move_across(from: &Path, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(format!(".partialmove-{:08x}", rand::random::<u32>()));
    let partial = PathBuf::from(partial);
    let copied = copy(from, &partial).and_then(|()| std::fs::rename(&partial, to));
    if let Err(error) = copied {
        // What could not be copied is not worth keeping, and may not be there at all.
        drop(remove(&partial));
        return Err(error);
    }
    remove(from)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let about = from.symlink_metadata()?;
    if about.is_symlink() {
        return std::os::unix::fs::symlink(from.read_link()?, to);
    }
    if !about.is_dir() {
        std::fs::copy(from, to)?;
        let times = std::fs::FileTimes::new().set_modified(about.modified()?);
        return std::fs::File::open(to)?.set_times(times);
    }
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    std::fs::set_permissions(to, about.permissions())
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

fn refuse_home(home: &Home, path: &Path, what: &str) -> Result<(), Error> {
    if home.root().starts_with(path) {
        let text = format!(
            "{} is the home, or above it: it is not to {what}",
            path.display()
        );
        return Err(Error::new(Code::PermissionDenied, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        (folder, home)
    }

    #[test]
    fn nothing_is_overwritten() {
        let (_folder, home) = home();
        let at = |name: &str| home.resolve(name).unwrap();
        std::fs::write(at("a"), "a").unwrap();
        std::fs::write(at("b"), "b").unwrap();
        std::fs::create_dir(at("sub")).unwrap();
        assert_eq!(
            rename(&home, &at("a"), &at("b")).unwrap_err().code,
            Code::Conflict
        );
        rename(&home, &at("a"), &at("new/c")).unwrap();
        assert_eq!(std::fs::read(at("new/c")).unwrap(), b"a");
        move_into(&home, &[at("b"), at("new")], &at("sub")).unwrap();
        assert_eq!(std::fs::read(at("sub/new/c")).unwrap(), b"a");
        assert!(
            rename(&home, &at("sub"), &at("sub/new/x")).is_err(),
            "into itself"
        );
        assert_eq!(
            move_into(&home, &[at("sub")], &at("none"))
                .unwrap_err()
                .code,
            Code::NotFound
        );
        assert_eq!(
            rename(&home, &at("gone"), &at("x")).unwrap_err().code,
            Code::NotFound
        );
    }

    #[test]
    fn the_home_stays_and_links_are_not_followed() {
        let (_folder, home) = home();
        let at = |name: &str| home.resolve(name).unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), at("link")).unwrap();
        delete(&home, &[at("link"), at("gone")]).unwrap();
        assert!(outside.path().join("kept").exists());
        for path in ["", "..", "/"] {
            let error = delete(&home, &[at(path)]).unwrap_err();
            assert_eq!(error.code, Code::PermissionDenied, "{path}");
        }
        assert!(rename(&home, &at(""), &at("x")).is_err());
    }

    #[test]
    fn a_tree_is_copied_whole() {
        let (_folder, home) = home();
        let at = |name: &str| home.resolve(name).unwrap();
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/c"), "c").unwrap();
        std::os::unix::fs::symlink("b/c", at("a/link")).unwrap();
        move_across(&at("a"), &at("z")).unwrap();
        assert_eq!(std::fs::read(at("z/link")).unwrap(), b"c");
        assert!(at("z/link").is_symlink() && !at("a").exists());
        std::fs::write(at("y"), "").unwrap();
        assert!(move_across(&at("z"), &at("y")).is_err() && at("z/b/c").exists());
    }
}
