//! What a server prints, in a file that does not grow for ever: when it is full it becomes the old one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much is read at once, in bytes.
const READ_LEN: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    len_max: u64,
}

impl Log {
    /// A new one; what was there becomes the old one.
    pub(super) fn open(path: &Path, len_max: u64) -> io::Result<Self> {
        Ok(Self {
            file: begin(path)?,
            path: path.to_owned(),
            len: 0,
            len_max,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.len + bytes.len() as u64 > self.len_max {
            self.file = begin(&self.path)?;
            self.len = 0;
        }
        self.len += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// The end of it, for an error message.
    pub(super) fn tail(&self, len_max: usize) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let start = self.len.saturating_sub(len_max as u64);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(len_max as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_or_else(
            |error| format!("(it cannot be read: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).trim().to_owned(),
        )
    }
}

fn begin(path: &Path) -> io::Result<File> {
    match std::fs::rename(path, path.with_extension("old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Writes what comes through a pipe to the log, until its end.
pub(super) async fn keep(mut pipe: Box<dyn AsyncRead + Send + Unpin>, log: &Mutex<Log>) {
    let mut buffer = vec![0; READ_LEN];
    loop {
        let len = pipe.read(&mut buffer).await.unwrap_or(0);
        let Some(bytes) = buffer.get(..len).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let written = log.lock().write(bytes);
        if let Err(error) = written {
            // A server must not stand still because a disk is full.
            tracing::debug!(%error, "what a server prints is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_keeps_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::open(&path, 10).unwrap();
        for piece in ["aaaa", "bbbb", "cccc", "dddd", "eeee"] {
            log.write(piece.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "eeee");
        assert_eq!(
            std::fs::read_to_string(folder.path().join("log.old")).unwrap(),
            "ccccdddd"
        );
        assert_eq!(log.tail(2), "ee");
        log.write("a line that is longer than the bound".as_bytes())
            .unwrap();
        assert_eq!(log.tail(5), "bound");
    }
}
