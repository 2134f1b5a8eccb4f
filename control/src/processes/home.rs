//! Homes of projects: made with the right owner, and read without being led elsewhere by what is in them.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, openat2};

/// Owner alone.
const HOME_MODE: Mode = Mode::RWXU;

/// Makes a home unless it is there, and sees to it that it is a folder of this user, closed to others.
///
/// # Errors
/// When it is something else, or cannot be made.
pub(super) fn ensure(home: &Path, uid: Option<u32>) -> io::Result<()> {
    if let Some(parent) = home.parent()
        && !parent.exists()
    {
        fs::create_dir_all(parent)?;
        if uid.is_some() {
            // Others go through it to their own homes, and do not see which ones there are.
            fchmod(&File::open(parent)?, Mode::from_raw_mode(0o711))?;
        }
    }
    match fs::create_dir(home) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = File::from(rustix::fs::open(home, flags, Mode::empty())?);
    if let Some(uid) = uid {
        let owner = folder.metadata()?.uid();
        let ours = owner == uid || owner == rustix::process::geteuid().as_raw();
        if !ours {
            let text = format!("it belongs to user {owner}, not to {uid}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
    }
    if uid.is_some() || folder.metadata()?.uid() == rustix::process::geteuid().as_raw() {
        fchmod(&folder, HOME_MODE)?;
    }
    Ok(())
}

/// The beginning of a small file below a home, if it is one: no link on the way is followed, nothing that would wait is
/// waited for.
pub(super) fn read(home: &Path, name: &str, len_max: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let file = open(home, name)?;
    file.take(len_max).read_to_end(&mut content).ok()?;
    Some(content)
}

/// The end of a file below a home, as [`read`].
pub(super) fn read_end(home: &Path, name: &str, len_max: u64) -> Option<Vec<u8>> {
    use std::io::Seek as _;
    let mut file = open(home, name)?;
    let len = file.metadata().ok()?.len();
    file.seek(io::SeekFrom::Start(len.saturating_sub(len_max)))
        .ok()?;
    let mut content = Vec::new();
    file.take(len_max).read_to_end(&mut content).ok()?;
    Some(content)
}

fn open(home: &Path, name: &str) -> Option<File> {
    let folder = File::open(home).ok()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(&folder, name, flags, Mode::empty(), within).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_home_is_a_closed_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("projects").join("one");
        ensure(&home, None).unwrap();
        ensure(&home, None).unwrap();
        let mode = fs::metadata(&home).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        // Somebody who leads it elsewhere gets nothing there.
        let link = folder.path().join("projects").join("two");
        symlink("/etc", &link).unwrap();
        assert!(ensure(&link, None).is_err());
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join(".smc")).unwrap();
        fs::write(folder.path().join("secret"), "7").unwrap();
        fs::write(home.join(".smc/port"), "80").unwrap();
        symlink("../../secret", home.join(".smc/link")).unwrap();
        symlink("..", home.join("up")).unwrap();
        assert_eq!(read(&home, ".smc/port", 16).unwrap(), b"80");
        for name in [
            ".smc/link",
            "up/secret",
            "../secret",
            "/etc/passwd",
            ".smc",
            "none",
        ] {
            assert_eq!(read(&home, name, 16), None, "{name}");
        }
        assert_eq!(read_end(&home, ".smc/port", 1).unwrap(), b"0");
    }
}
