//! Letters as files, for development and for sites that pick them up there.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use uuid::Uuid;

use super::Letter;

/// Writes one as `<number>.eml`; a name that begins with a dot is not finished.
pub(super) fn write(folder: &Path, id: Uuid, letter: &Letter) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (unfinished, finished) = (
        folder.join(format!(".{id}")),
        folder.join(format!("{id}.eml")),
    );
    // One that was begun before is begun anew.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    let subject = letter.subject.replace(['\r', '\n'], " ");
    write!(
        file,
        "To: {}\r\nSubject: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}",
        letter.to,
        letter.text.replace('\n', "\r\n")
    )?;
    std::fs::rename(unfinished, finished)
}
