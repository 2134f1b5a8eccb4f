//! The file of an exported stream: frames with checksums. `docs/stream-file.md` describes it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use dialtone_client::Encoding;
use dialtone_client::persist::wire::{Config, StoredRecord, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The first bytes of a file.
const MAGIC: &[u8; 16] = b"dialtone stream\n";

/// The version of the format that is written, and the highest that is read.
const VERSION: u32 = 1;

/// Longest body of a frame, in bytes: a record with the largest payload, headers, key and id.
const BODY_MAX: usize = 40 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Head,
    Record,
    End,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Head => b'H',
            Self::Record => b'R',
            Self::End => b'E',
        }
    }
}

/// What the file says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Of the format.
    pub(super) version: u32,
    /// The stream that was exported.
    pub(super) stream: String,
    /// When, in milliseconds since 1970.
    pub(super) exported: u64,
    /// The last number that the stream had given.
    pub(super) last_seq: u64,
    /// How it was kept.
    pub(super) config: Config,
}

/// What the file says last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    records: u64,
    /// Of every byte before this frame.
    sha256: String,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It is something else.
    #[error("this is no exported stream: it does not begin with \"dialtone stream\"")]
    Foreign,
    /// It was written by a later version.
    #[error("the file has version {0} of the format, and this program reads up to {VERSION}")]
    Newer(u32),
    /// A part has other bytes than were written.
    #[error("the file is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the part begins.
        at: u64,
        /// Which part, and what is wrong.
        what: String,
    },
    /// It ends early.
    #[error("the file is cut off at byte {at}, after {records} records")]
    CutOff {
        /// Where it ends.
        at: u64,
        /// How many whole records it has.
        records: u64,
    },
    /// It cannot be read or written.
    #[error("the file cannot be read or written")]
    Io(#[from] io::Error),
}

/// Writes a file.
pub(super) struct Writer<W> {
    out: W,
    whole: Sha256,
    records: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, stream: &str, last_seq: u64, config: Config) -> io::Result<Self> {
        let mut writer = Self {
            out,
            whole: Sha256::new(),
            records: 0,
        };
        writer.write(MAGIC)?;
        let head = Head {
            version: VERSION,
            stream: stream.to_owned(),
            exported: crate::commands::records::now(),
            last_seq,
            config,
        };
        writer.frame(Kind::Head, &head)?;
        Ok(writer)
    }

    pub(super) fn record(&mut self, record: &StoredRecord) -> io::Result<()> {
        self.records += 1;
        self.frame(Kind::Record, record)
    }

    /// Writes the end; how many records there are.
    pub(super) fn finish(mut self) -> io::Result<(W, u64)> {
        let end = End {
            records: self.records,
            sha256: crate::payload::hex(&self.whole.clone().finalize()),
        };
        self.frame(Kind::End, &end)?;
        self.out.flush()?;
        Ok((self.out, self.records))
    }

    fn frame<T: Serialize>(&mut self, kind: Kind, value: &T) -> io::Result<()> {
        let body = encode(value, Encoding::MessagePack).map_err(io::Error::other)?;
        let len = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut head = Vec::with_capacity(9);
        head.push(kind.byte());
        head.extend(len.to_le_bytes());
        head.extend(checksum(&head, &body).to_le_bytes());
        self.write(&head)?;
        self.write(&body)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.whole.update(bytes);
        self.out.write_all(bytes)
    }
}

/// CRC-32C of kind, length and body.
fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    digest.update(body);
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
}

/// Reads a file.
pub(super) struct Reader<R> {
    input: R,
    whole: Sha256,
    at: u64,
    records: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Begins with what the file says first.
    pub(super) fn new(input: R) -> Result<(Self, Head), FileError> {
        let mut reader = Self {
            input,
            whole: Sha256::new(),
            at: 0,
            records: 0,
            ended: false,
        };
        let mut magic = [0; MAGIC.len()];
        let found = reader.fill(&mut magic)?;
        if found < magic.len() || &magic != MAGIC {
            return Err(FileError::Foreign);
        }
        reader.whole.update(magic);
        let (kind, body) = reader.frame()?;
        if kind != Kind::Head.byte() {
            return Err(reader.damaged(MAGIC.len() as u64, "the head is missing"));
        }
        // A later version may have made the head another one; its number stays readable.
        let head: Head = reader.decode(MAGIC.len() as u64, "the head", &body)?;
        if head.version > VERSION {
            return Err(FileError::Newer(head.version));
        }
        Ok((reader, head))
    }

    /// The next record; `None` when the end was there and is right.
    pub(super) fn next(&mut self) -> Result<Option<StoredRecord>, FileError> {
        if self.ended {
            return Ok(None);
        }
        let (at, before) = (self.at, self.whole.clone());
        let (kind, body) = self.frame()?;
        let what = format!("record {} of the file", self.records + 1);
        if kind == Kind::Record.byte() {
            self.records += 1;
            return self.decode(at, &what, &body).map(Some);
        }
        if kind != Kind::End.byte() {
            return Err(self.damaged(at, "a frame of an unknown kind"));
        }
        let end: End = self.decode(at, "the end", &body)?;
        if end.records != self.records {
            let what = format!("it has {} of {} records", self.records, end.records);
            return Err(self.damaged(at, &what));
        }
        if end.sha256 != crate::payload::hex(&before.finalize()) {
            return Err(self.damaged(at, "the SHA-256 of the file is another one"));
        }
        self.ended = true;
        if self.fill(&mut [0])? > 0 {
            return Err(self.damaged(self.at, "something follows the end"));
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<(u8, Bytes), FileError> {
        let at = self.at;
        let mut head = [0; 9];
        self.read(&mut head)?;
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let what = format!("the frame after {} records", self.records);
        if len > BODY_MAX {
            return Err(self.damaged(at, &format!("{what} claims {len} bytes")));
        }
        let mut body = vec![0; len];
        self.read(&mut body)?;
        let sum = checksum(&[kind, l0, l1, l2, l3], &body);
        if sum != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(self.damaged(at, &format!("{what} does not have its checksum")));
        }
        Ok((kind, body.into()))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), FileError> {
        let found = self.fill(into)?;
        if found < into.len() {
            return Err(FileError::CutOff {
                at: self.at,
                records: self.records,
            });
        }
        self.whole.update(&*into);
        Ok(())
    }

    /// Reads until there is enough or nothing more; how much.
    fn fill(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut found = 0;
        while let Some(rest) = into.get_mut(found..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(more) => found += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.at += found as u64;
        Ok(found)
    }

    fn decode<T: DeserializeOwned>(
        &self,
        at: u64,
        what: &str,
        body: &Bytes,
    ) -> Result<T, FileError> {
        decode(body, Encoding::MessagePack)
            .map_err(|error| self.damaged(at, &format!("{what} cannot be read: {error}")))
    }

    #[expect(
        clippy::unused_self,
        reason = "it reads better beside the other errors of a reader"
    )]
    fn damaged(&self, at: u64, what: &str) -> FileError {
        FileError::Damaged {
            at,
            what: what.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64) -> StoredRecord {
        StoredRecord {
            seq,
            time: 1_700_000_000_000 + seq,
            revision: seq,
            key: (seq.is_multiple_of(2)).then(|| format!("k{seq}")),
            encoding: 1,
            headers: None,
            ttl: Some(9),
            id: None,
            payload: format!("{seq}").into(),
        }
    }

    fn file() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), "s", 30, Config::default()).unwrap();
        for seq in [3, 4, 20] {
            writer.record(&record(seq)).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Vec<StoredRecord>, FileError> {
        let (mut reader, head) = Reader::new(bytes)?;
        assert_eq!((head.stream.as_str(), head.last_seq), ("s", 30));
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&file()).unwrap(), [3, 4, 20].map(record));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let file = file();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[at] ^= 1 << bit;
                read(&flipped).expect_err(&format!("bit {bit} of byte {at}"));
            }
            read(&file[..at]).expect_err(&format!("cut at {at}"));
        }
        read(&[&file[..], b"x"].concat()).unwrap_err();
    }

    #[test]
    fn a_missing_record_is_noticed() {
        let mut writer = Writer::new(Vec::new(), "s", 30, Config::default()).unwrap();
        writer.record(&record(1)).unwrap();
        let len = writer.out.len();
        writer.record(&record(2)).unwrap();
        let second = writer.out.len();
        let mut bytes = writer.finish().unwrap().0;
        bytes.drain(len..second);
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains("1 of 2 records"), "{error}");
    }
}
