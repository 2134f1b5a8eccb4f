//! Files in a folder of this machine, and never outside of it: the kernel itself resolves each path below the folder,
//! symbolic links too, so that nothing can be exchanged between the check and the use.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{Content, FileError, Opened};
use crate::access::Answer;

/// A folder whose files may be downloaded.
#[derive(Debug)]
pub struct Folder {
    root: File,
}

impl Folder {
    /// Opens the folder itself; it is the same one from here on, whatever becomes of its name.
    ///
    /// # Errors
    /// If it is none, or may not be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = File::open(path)?;
        if root.metadata()?.is_dir() {
            Ok(Self { root })
        } else {
            Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"))
        }
    }

    /// Opens a file below the folder. Blocks.
    ///
    /// # Errors
    /// If there is none, or the path leads out of the folder.
    pub fn file(&self, path: &str) -> Result<Opened, FileError> {
        if path.is_empty() {
            return Err(FileError::Folder);
        }
        // Without waiting: opening a named pipe would otherwise take until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&self.root, path, flags, Mode::empty(), resolve);
        let file = File::from(opened.map_err(|error| match error {
            Errno::NOENT
            | Errno::ACCESS
            | Errno::XDEV
            | Errno::LOOP
            | Errno::NOTDIR
            | Errno::PERM
            | Errno::NAMETOOLONG => FileError::NotFound,
            other => FileError::Io(other.into()),
        })?);
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(FileError::Folder);
        }
        if !about.is_file() {
            return Err(FileError::NotFound);
        }
        let version = format!(
            "{:x}-{:x}-{:x}-{:x}",
            about.ino(),
            about.len(),
            about.ctime(),
            about.ctime_nsec()
        );
        Ok(Opened {
            len: about.len(),
            modified: about.modified().ok(),
            version: Some(version),
            content: Arc::new(OnDisk(file)),
        })
    }
}

struct OnDisk(File);

impl Content for OnDisk {
    fn read(self: Arc<Self>, at: u64, len_max: usize) -> Answer<'static, io::Result<Bytes>> {
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; len_max];
                let len = self.0.read_at(&mut bytes, at)?;
                bytes.truncate(len);
                Ok(Bytes::from(bytes))
            });
            read.await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("home");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(outer.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("sub/a.txt"), "abc").unwrap();
        for (link, to) in [
            ("out", "../secret"),
            ("abs", "/etc/passwd"),
            ("in", "sub/a.txt"),
            ("up", ".."),
        ] {
            std::os::unix::fs::symlink(to, root.join(link)).unwrap();
        }
        let folder = Folder::open(&root).unwrap();
        for path in ["sub/a.txt", "in", "sub/../sub/a.txt"] {
            assert_eq!(folder.file(path).unwrap().len, 3, "{path}");
        }
        for path in [
            "out",
            "abs",
            "../secret",
            "/etc/passwd",
            "up/secret",
            "none",
            "sub/a.txt/b",
            "/proc/self/root/etc/passwd",
        ] {
            assert!(
                matches!(folder.file(path), Err(FileError::NotFound)),
                "{path}"
            );
        }
        for path in ["", "sub", "."] {
            assert!(
                matches!(folder.file(path), Err(FileError::Folder)),
                "{path}"
            );
        }
    }

    #[test]
    fn a_changed_file_has_another_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let files = Folder::open(folder.path()).unwrap();
        let first = files.file("a").unwrap().version;
        assert_eq!(files.file("a").unwrap().version, first);
        std::fs::write(folder.path().join("b"), "two").unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        assert_ne!(files.file("a").unwrap().version, first);
    }
}
