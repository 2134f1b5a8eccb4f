//! A file that is written beside the one it replaces: whoever looks sees the old one or the new one, and nothing else.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The mode of a new file, before the user's mask.
const MODE: u32 = 0o666;

/// The file in the making. Unless it is kept, dropping it removes it.
#[derive(Debug)]
pub(crate) struct Replacement {
    target: PathBuf,
    partial: PathBuf,
    file: Option<File>,
    is_kept: bool,
}

impl Replacement {
    /// Begins a file, in a folder that is made if it is missing. `mark` tells it from others for the same target.
    pub(crate) fn begin(target: &Path, mark: &str) -> Result<Self, Error> {
        let mut this = Self::prepare(target, mark)?;
        let file = options().create_new(true).open(&this.partial);
        this.file = Some(file.map_err(|error| Error::io("create", &this.partial, &error))?);
        Ok(this)
    }

    /// Goes on with a file that was begun under the same mark and kept; begins it where there is none.
    pub(crate) fn resume(target: &Path, mark: &str) -> Result<Self, Error> {
        let mut this = Self::prepare(target, mark)?;
        let file = options()
            .read(true)
            .create(true)
            .truncate(false)
            .open(&this.partial);
        this.file = Some(file.map_err(|error| Error::io("open", &this.partial, &error))?);
        this.is_kept = true;
        Ok(this)
    }

    fn prepare(target: &Path, mark: &str) -> Result<Self, Error> {
        // Through a link, what it leads to is written, as an editor would do it.
        let target = target
            .canonicalize()
            .unwrap_or_else(|_new| target.to_owned());
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(Error::io("write", &target, &error));
        };
        if target.is_dir() {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(Error::io("write", &target, &error));
        }
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, &error))?;
        let mut partial = name.to_owned();
        partial.push(format!(".partialupload-{mark}"));
        Ok(Self {
            partial: folder.join(partial),
            target,
            file: None,
            is_kept: false,
        })
    }

    /// What is written so far.
    pub(crate) fn file(&mut self) -> io::Result<&mut File> {
        self.file
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Gives up, and removes what was written also where it would be kept.
    pub(crate) fn discard(mut self) {
        self.is_kept = false;
    }

    /// Puts it in its place; when this returns, it is on disk.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        let failed = |error| Error::io("write", &self.target, &error);
        let file = self
            .file
            .as_ref()
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        if let Ok(old) = self.target.metadata() {
            let mode = Permissions::from_mode(old.permissions().mode() & 0o7777);
            file.set_permissions(mode).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        std::fs::rename(&self.partial, &self.target).map_err(failed)?;
        self.is_kept = true;
        sync_folder(&self.target).map_err(failed)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // A link in the place of the partial file would lead elsewhere.
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::CLOEXEC.bits();
    options
        .write(true)
        .mode(MODE)
        .custom_flags(flags.cast_signed());
    options
}

/// A rename is on disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_kept
            && self.file.is_some()
            && let Err(error) = std::fs::remove_file(&self.partial)
        {
            tracing::warn!(path = %self.partial.display(), %error, "a partial file is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/a.txt");
        let mut first = Replacement::begin(&target, "1").unwrap();
        first.file().unwrap().write_all(b"one").unwrap();
        first.commit().unwrap();
        std::fs::set_permissions(&target, Permissions::from_mode(0o750)).unwrap();
        let mut second = Replacement::begin(&target, "2").unwrap();
        second.file().unwrap().write_all(b"two").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"one");
        drop(second);
        assert_eq!(
            names(&folder.path().join("deep")),
            ["a.txt"],
            "nothing is left of it"
        );
        let mut third = Replacement::resume(&target, "3").unwrap();
        third.file().unwrap().write_all(b"thr").unwrap();
        drop(third);
        assert_eq!(
            names(&folder.path().join("deep")).len(),
            2,
            "it can be gone on with"
        );
        let third = Replacement::resume(&target, "3").unwrap();
        third.commit().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"thr");
        let mode = target.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750, "a script stays one");
    }

    #[test]
    fn links_lead_to_what_is_written_and_never_from_the_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("real"), "old").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        let mut file = Replacement::begin(&at("link"), "1").unwrap();
        file.file().unwrap().write_all(b"new").unwrap();
        file.commit().unwrap();
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read(at("real")).unwrap(), b"new");
        std::os::unix::fs::symlink("real", at("x.partialupload-7")).unwrap();
        assert!(Replacement::begin(&at("x"), "7").is_err());
        assert!(Replacement::resume(&at("x"), "7").is_err());
        assert_eq!(std::fs::read(at("real")).unwrap(), b"new");
        assert!(
            Replacement::begin(folder.path(), "1").is_err(),
            "a folder is no file"
        );
    }
}
