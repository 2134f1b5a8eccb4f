//! Texts that are read and written by one request.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::replace::Replacement;
use crate::error::{Code, Error};

/// Reads a text; what is no UTF-8 is replaced.
pub(crate) fn read_text(path: &Path, len_max: u64) -> Result<String, Error> {
    let failed = |error| Error::io("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::new();
    let mut limited = file.take(len_max + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > len_max {
        let text = format!("{} is longer than {len_max} bytes", path.display());
        return Err(Error::new(Code::TooMany, text));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Writes a text; when this returns, it is on disk.
pub(crate) fn write_text(path: &Path, content: &str, len_max: u64) -> Result<(), Error> {
    if content.len() as u64 > len_max {
        let text = format!("is longer than {len_max} bytes");
        return Err(Error::argument("content", text));
    }
    let mark = format!("{:08x}", rand::random::<u32>());
    let mut file = Replacement::begin(path, &mark)?;
    let written = file
        .file()
        .and_then(|file| file.write_all(content.as_bytes()));
    written.map_err(|error| Error::io("write", path, &error))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        write_text(&path, "grüße", 100).unwrap();
        assert_eq!(read_text(&path, 7).unwrap(), "grüße");
        assert_eq!(read_text(&path, 6).unwrap_err().code, Code::TooMany);
        assert_eq!(
            write_text(&path, "abc", 2).unwrap_err().code,
            Code::InvalidArgument
        );
        std::fs::write(&path, b"\xff!").unwrap();
        assert_eq!(read_text(&path, 100).unwrap(), "\u{fffd}!");
        assert!(read_text(folder.path(), 100).is_err());
    }
}
