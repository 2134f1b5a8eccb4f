//! A file that is written from one end to the other, and is there when all of it is.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{blocking, hex};
use crate::error::{Code, Error};
use crate::files::Replacement;
use crate::room::Room;

/// How much is read at once of what was written before, in bytes.
const READ_LEN: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sink {
    path: PathBuf,
    file: Replacement,
    room: Arc<Room>,
    written: u64,
    digest: Sha256,
}

impl Sink {
    /// Begins a file. With a mark, what was written under it before is gone on with, and kept if this breaks off.
    pub(crate) async fn open(
        path: PathBuf,
        mark: Option<String>,
        room: Arc<Room>,
    ) -> Result<Self, Error> {
        blocking(move || {
            let file = match &mark {
                Some(mark) => Replacement::resume(&path, mark)?,
                None => Replacement::begin(&path, &format!("{:016x}", rand::random::<u64>()))?,
            };
            let mut sink = Self {
                path,
                file,
                room,
                written: 0,
                digest: Sha256::new(),
            };
            if mark.is_some() {
                sink.read_again()?;
            }
            Ok(sink)
        })
        .await
    }

    /// The digest is that of the whole file, also of what was written before.
    fn read_again(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; READ_LEN];
        loop {
            let read = self.file.file().and_then(|file| file.read(&mut buffer));
            let len = read.map_err(|error| Error::io("read", &self.path, &error))?;
            let Some(bytes) = buffer.get(..len).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
            };
            self.digest.update(bytes);
            self.written += len as u64;
        }
    }

    /// Bytes of the file so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Appends; the sink is away while it is written.
    pub(crate) async fn write(mut self, bytes: Bytes) -> Result<Self, Error> {
        blocking(move || {
            self.room.take(bytes.len() as u64)?;
            let written = self.file.file().and_then(|file| file.write_all(&bytes));
            written.map_err(|error| Error::io("write", &self.path, &error))?;
            self.digest.update(&bytes);
            self.written += bytes.len() as u64;
            Ok(self)
        })
        .await
    }

    /// Puts the file in its place if it is what was to come; otherwise removes it. Gives its digest.
    pub(crate) async fn commit(
        self,
        size: Option<u64>,
        digest: Option<String>,
    ) -> Result<String, Error> {
        blocking(move || {
            let found = hex(&self.digest.finalize());
            let wrong = if size.is_some_and(|size| size != self.written) {
                Some(format!("{} bytes came", self.written))
            } else {
                digest
                    .filter(|digest| !digest.eq_ignore_ascii_case(&found))
                    .map(|digest| format!("its SHA-256 is {found}, not {digest}"))
            };
            if let Some(wrong) = wrong {
                self.file.discard();
                let text = format!("{} is not what was sent: {wrong}", self.path.display());
                return Err(Error::new(Code::Conflict, text));
            }
            self.file.commit()?;
            Ok(found)
        })
        .await
    }
}
