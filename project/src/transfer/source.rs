//! A file that is read from one end to the other.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{blocking, hex};
use crate::error::{Code, Error};

/// See the module.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    file: File,
    /// Bytes of it when it was opened: as many are sent, whatever is added meanwhile.
    size: u64,
    at: u64,
    modified: f64,
    version: String,
    digest: Sha256,
}

impl Source {
    /// Opens a file, to be read from a place on. If a version is given, it must still be that one.
    pub(crate) async fn open(
        path: PathBuf,
        offset: u64,
        version: Option<String>,
    ) -> Result<Self, Error> {
        blocking(move || {
            let mut source = Self::open_now(&path)?;
            if version.is_some_and(|version| version != source.version) {
                let text = format!("{} was changed meanwhile", path.display());
                return Err(Error::new(Code::Conflict, text));
            }
            if offset > source.size {
                let text = format!("is behind the end of the file ({} bytes)", source.size);
                return Err(Error::argument("offset", text));
            }
            let sought = source.file.seek(SeekFrom::Start(offset));
            source.at = sought.map_err(|error| Error::io("read", &path, &error))?;
            Ok(source)
        })
        .await
    }

    fn open_now(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io("read", path, &error);
        // A named pipe would otherwise be waited for until somebody writes to it.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            let text = format!("{} is a folder", path.display());
            return Err(Error::new(Code::Folder, text));
        }
        if !about.is_file() {
            let text = format!("{} is no file that has an end", path.display());
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let modified = modified
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            size: about.len(),
            at: 0,
            modified: modified.as_secs_f64(),
            version: format!(
                "{:x}-{:x}-{:x}-{:x}",
                about.ino(),
                about.len(),
                about.ctime(),
                about.ctime_nsec()
            ),
            digest: Sha256::new(),
            file,
        })
    }

    /// How long the file is, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// When it was changed last, in seconds since 1970.
    pub(crate) const fn modified(&self) -> f64 {
        self.modified
    }

    /// Another text whenever the content is another one.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The next bytes, at most so many, none at the end; with the source itself, which is away while it is read.
    pub(crate) async fn next(mut self, len_max: usize) -> Result<(Self, Bytes), Error> {
        blocking(move || {
            let left = self.size - self.at;
            let wanted = left.min(len_max as u64);
            let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(len_max));
            let read = (&mut self.file).take(wanted).read_to_end(&mut bytes);
            read.map_err(|error| Error::io("read", &self.path, &error))?;
            if (bytes.len() as u64) < wanted {
                let text = format!("{} has become shorter meanwhile", self.path.display());
                return Err(Error::new(Code::Conflict, text));
            }
            self.at += wanted;
            self.digest.update(&bytes);
            Ok((self, Bytes::from(bytes)))
        })
        .await
    }

    /// The SHA-256 of what was read.
    pub(crate) fn digest(self) -> String {
        hex(&self.digest.finalize())
    }
}
