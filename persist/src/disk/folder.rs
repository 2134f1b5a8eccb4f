//! A folder of the file system.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use thiserror::Error;

use super::{Disk, File};

/// Name of the file that says that a process uses the folder. It is locked, and not looked at.
const LOCK: &str = "lock";

/// Most parts that one call hands to the kernel: `IOV_MAX` of Linux and macOS.
const PARTS_MAX: usize = 1024;

/// A folder that this process alone uses.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The folder itself, to make names durable.
    names: fs::File,
    /// Locked as long as the value lives; the kernel lets go of it when the process dies.
    _lock: fs::File,
}

/// Why a folder cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It does not exist and cannot be made, or may not be written.
    #[error("failed to use the folder {}", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("the folder {} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

impl Folder {
    /// Makes the folder if it is not there, and takes it for this process.
    ///
    /// # Errors
    /// When it cannot be made or written, or when another process has it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let unusable = |source| OpenError::Unusable {
            path: path.clone(),
            source,
        };
        make(&path).map_err(unusable)?;
        let names = fs::File::open(&path).map_err(unusable)?;
        let lock = options()
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::InUse { path }),
            Err(errno) => return Err(unusable(errno.into())),
        }
        Ok(Self {
            path,
            names,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder and those above it, and makes their names survive the loss of power.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        make(above)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Files hold what users said, so that nobody else may read them.
fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = options().create_new(true).open(self.path.join(name))?;
        Ok(Arc::new(OnDisk(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = options().open(self.path.join(name))?;
        Ok(Arc::new(OnDisk(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.names.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::fstatvfs(&self.names)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
}

/// A file of the file system.
#[derive(Debug)]
struct OnDisk(fs::File);

impl File for OnDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut len = 0;
        // Ends at the end of the file, or when all was read; each round reads at least a byte.
        while len < into.len() {
            let at = offset + u64::try_from(len).map_err(io::Error::other)?;
            match self.0.read_at(&mut into[len..], at) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(len)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut parts = parts;
        let mut offset = offset;
        IoSlice::advance_slices(&mut parts, 0);
        // Ends when nothing is left; each round writes at least a byte.
        while !parts.is_empty() {
            let now = parts.len().min(PARTS_MAX);
            match rustix::io::pwritev(&self.0, &parts[..now], offset) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(len) => {
                    offset += u64::try_from(len).map_err(io::Error::other)?;
                    IoSlice::advance_slices(&mut parts, len);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // A file system that cannot reserve still writes.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(len),
            result => Ok(result?),
        }
    }
}
