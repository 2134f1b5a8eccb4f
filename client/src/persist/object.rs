//! Object stores: large values in chunks, streamed up and down.
//!
//! A store is one stream. An object is a key `o/<name>` whose value, an [`ObjectInfo`], names an upload. The chunks of an
//! upload are keys `c/<upload>/<number>-<digest>`, and their digests in order a key `c/<upload>/m-<attempt>`. So an
//! object appears, and is replaced, with the one write of its info, after all its chunks are there; what it was before
//! can be read until then.
//!
//! A key `u/<name>` is the ledger: which upload is going on, and which ones are obsolete and to be removed. Whoever puts
//! or removes an object writes the ledger first, and again in the same step as the object, each time expecting what it
//! wrote before; so of several at the same time one succeeds and the others fail with a conflict, and after a crash the
//! next one removes what is obsolete, and [resumes](ObjectStore::put) what is not complete: chunks that are there with
//! the right digest are not sent again.
//!
//! At no time are more than [`CHUNKS_AHEAD`] chunks in memory, and one that is being read or written.
//!
//! ```no_run
//! use dialtone_client::persist::Persist;
//! use dialtone_client::persist::object::{ObjectStore, PutOptions};
//!
//! # async fn example(client: dialtone_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let store = ObjectStore::open(&Persist::new(&client), "files", Default::default()).await?;
//! let film = tokio::fs::File::open("film.mkv").await?;
//! let info = store.put("film.mkv", film, PutOptions::default()).await?;
//! println!("{} bytes, SHA-256 {}", info.size, info.sha256);
//! let mut copy = tokio::fs::File::create("copy.mkv").await?;
//! store.get("film.mkv", &mut copy).await?;
//! # Ok(())
//! # }
//! ```

mod download;
mod upload;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::{AppendError, CallError, OpenError, with_cause};
use super::handle::Persist;
use super::kv::tombstone;
use super::read::ReadOptions;
use super::stream::Stream;
use super::wire::{Config, KeyEntry, Record, Select, StoredRecord, What, Written};
use crate::headers::Headers;

pub use download::ObjectReader;
pub use upload::PutOptions;

/// Length of a chunk unless an upload says otherwise, in bytes.
pub const CHUNK_LEN: u32 = 1 << 20;

/// Longest chunk, in bytes.
pub const CHUNK_LEN_MAX: u32 = 16 << 20;

/// Most chunks of one object that are on their way.
pub const CHUNKS_AHEAD: usize = 8;

/// Most records of one removal.
const REMOVE_MAX: usize = 1_000;

/// Bytes of a chunk's digest: half of its SHA-256, which is plenty against accidents.
const DIGEST_LEN: usize = 16;

/// How long the trace of a removed object may stay when nobody cleans up, in milliseconds.
const TOMBSTONE_MS: u64 = 86_400_000;

/// Longest name of an object, in bytes.
pub const OBJECT_NAME_LEN_MAX: usize = 1_024;

/// An object as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// Its length, in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, as 64 hexadecimal digits.
    pub sha256: String,
    /// Length of its chunks, in bytes; the last one may be shorter.
    pub chunk_len: u32,
    /// How many chunks it has.
    pub chunks: u64,
    /// When it was put, in milliseconds since 1970.
    #[serde(default)]
    pub time: u64,
    /// What its owner says about it.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub metadata: Headers,
    /// Names its chunks.
    pub upload: String,
    /// Names the list of its chunks' digests.
    pub attempt: String,
}

/// What is going on with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Ledger {
    /// The upload that is not complete.
    upload: Option<String>,
    /// Length of its chunks, in bytes.
    chunk_len: u32,
    /// Uploads that nobody needs any more.
    obsolete: Vec<String>,
}

impl Ledger {
    /// What is left when the upload that is not complete is given up.
    fn give_up(self) -> Self {
        let mut obsolete = self.obsolete;
        obsolete.extend(self.upload);
        Self {
            upload: None,
            chunk_len: 0,
            obsolete,
        }
    }
}

/// What can go wrong with objects.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The name is not one.
    #[error("the name of an object has 1 to {OBJECT_NAME_LEN_MAX} bytes and no control characters")]
    Name,
    /// There is no such object.
    #[error("there is no object {name}")]
    NotFound {
        /// Its name.
        name: String,
    },
    /// A chunk is missing or has other bytes than were put.
    #[error("object {name} is damaged: {text}")]
    Damaged {
        /// Its name.
        name: String,
        /// Which chunk, and what is wrong with it.
        text: String,
    },
    /// Somebody put the object at the same time and was faster; nothing of this upload remains.
    #[error("object {name} was put by somebody else at the same time")]
    Conflict {
        /// Its name.
        name: String,
    },
    /// The source could not be read, or the destination not be written.
    #[error("cannot read or write the bytes of the object")]
    Io(#[from] std::io::Error),
    /// A chunk or the info was refused.
    #[error("the object was not written")]
    Append(#[from] AppendError),
    /// The service was not reached or refuses.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A store of objects. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    stream: Stream,
}

impl ObjectStore {
    /// Opens a store, and makes it if there is none; one that is there keeps its configuration.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn open(
        persist: &Persist,
        name: impl Into<String>,
        config: Config,
    ) -> Result<Self, OpenError> {
        Ok(Self::of(persist.open_or_create(name, config).await?))
    }

    /// The store that a stream is.
    pub fn of(stream: Stream) -> Self {
        Self { stream }
    }

    /// The stream behind the store.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// What there is of an object, if it exists.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn info(&self, name: &str) -> Result<Option<ObjectInfo>, ObjectError> {
        let record = self.record(name).await?;
        record.as_ref().map(info).transpose()
    }

    async fn record(&self, name: &str) -> Result<Option<StoredRecord>, ObjectError> {
        check(name)?;
        let record = self.stream.get(Select::Key(object_key(name))).await?;
        Ok(record.filter(|record| !record.is_tombstone()))
    }

    /// The objects whose names begin with `prefix`, in the order of their names.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let mut records = self.stream.read(ReadOptions {
            prefix: Some(object_key(prefix)),
            ..ReadOptions::default()
        });
        let mut objects = Vec::new();
        while let Some(record) = records.next().await {
            let record = record?;
            if !record.is_tombstone() {
                objects.push(info(&record)?);
            }
        }
        objects.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(objects)
    }

    /// Removes an object with what is left of an interrupted upload of it; whether there was one.
    ///
    /// # Errors
    /// When the service is not reached or refuses, or somebody puts the object meanwhile.
    pub async fn remove(&self, name: &str) -> Result<bool, ObjectError> {
        let Some(record) = self.record(name).await? else {
            self.abandon(name).await?;
            return Ok(false);
        };
        let (known, seq) = self.ledger(name).await?;
        let mut ledger = known.give_up();
        ledger.obsolete.push(info(&record)?.upload);
        let gone = tombstone(&object_key(name), TOMBSTONE_MS).after_key(record.seq);
        let written = self.write(name, vec![gone], &ledger, seq).await?;
        self.clean(&ledger.obsolete, &seqs(&written)).await?;
        Ok(true)
    }

    /// Forgets an upload of this name that was interrupted. One that is going on fails.
    ///
    /// # Errors
    /// When the service is not reached or refuses, or somebody puts the object meanwhile.
    pub async fn abandon(&self, name: &str) -> Result<(), ObjectError> {
        check(name)?;
        let (known, seq) = self.ledger(name).await?;
        if seq == 0 {
            return Ok(());
        }
        let ledger = known.give_up();
        let written = self.write(name, Vec::new(), &ledger, seq).await?;
        self.clean(&ledger.obsolete, &seqs(&written)).await
    }

    /// The ledger of a name, and its number.
    async fn ledger(&self, name: &str) -> Result<(Ledger, u64), ObjectError> {
        match self.stream.get(Select::Key(ledger_key(name))).await? {
            Some(record) => Ok((read(&record)?, record.seq)),
            None => Ok((Ledger::default(), 0)),
        }
    }

    /// Writes records and the ledger in one step, if the ledger is the one that was read; where they are, the ledger last.
    async fn write(
        &self,
        name: &str,
        mut records: Vec<Record>,
        ledger: &Ledger,
        seq: u64,
    ) -> Result<Vec<Written>, ObjectError> {
        records.push(written(ledger)?.key(ledger_key(name)).after_key(seq));
        match self.stream.append_atomic(records).await {
            Ok(written) => Ok(written),
            Err(AppendError::WrongLastSequence { .. }) => Err(ObjectError::Conflict {
                name: name.to_owned(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the chunks of uploads that nobody needs, and then records, of which the last says so.
    async fn clean(&self, obsolete: &[String], seqs: &[u64]) -> Result<(), ObjectError> {
        for upload in obsolete {
            let keys = self.stream.keys(Some(&chunk_prefix(upload))).await?;
            let chunks: Vec<u64> = keys.iter().map(|entry| entry.seq).collect();
            self.remove_records(&chunks).await?;
        }
        self.remove_records(seqs).await
    }

    async fn remove_records(&self, seqs: &[u64]) -> Result<(), ObjectError> {
        for part in seqs.chunks(REMOVE_MAX) {
            self.stream.remove(What::Seqs(part.to_vec())).await?;
        }
        Ok(())
    }
}

fn seqs(written: &[Written]) -> Vec<u64> {
    written.iter().map(|written| written.seq).collect()
}

fn check(name: &str) -> Result<(), ObjectError> {
    let fits = (1..=OBJECT_NAME_LEN_MAX).contains(&name.len());
    if fits && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(ObjectError::Name)
    }
}

fn object_key(name: &str) -> String {
    format!("o/{name}")
}

fn ledger_key(name: &str) -> String {
    format!("u/{name}")
}

/// The key of the list of an upload's digests.
fn manifest_key(upload: &str, attempt: &str) -> String {
    format!("c/{upload}/m-{attempt}")
}

fn chunk_prefix(upload: &str) -> String {
    format!("c/{upload}/")
}

/// The key of a chunk: its number and digest. Keys are in the order of their bytes, and so chunks in that of numbers.
fn chunk_key(upload: &str, number: u64, digest: &str) -> String {
    format!("c/{upload}/{number:010x}-{digest}")
}

/// What a key says about a chunk: number and digest.
fn chunk_of(key: &str) -> Option<(u64, &str)> {
    let (number, digest) = key.rsplit('/').next()?.split_once('-')?;
    Some((u64::from_str_radix(number, 16).ok()?, digest))
}

fn chunk_digest(bytes: &[u8]) -> [u8; DIGEST_LEN] {
    use sha2::Digest as _;
    let whole = sha2::Sha256::digest(bytes);
    std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes whatever is written to it");
            text
        })
}

fn info(record: &StoredRecord) -> Result<ObjectInfo, ObjectError> {
    let info: ObjectInfo = read(record)?;
    Ok(ObjectInfo {
        time: record.time,
        ..info
    })
}

fn read<T: serde::de::DeserializeOwned>(record: &StoredRecord) -> Result<T, ObjectError> {
    record.decode().map_err(|error| ObjectError::Damaged {
        name: record.key.clone().unwrap_or_default(),
        text: with_cause(&error),
    })
}

fn written<T: Serialize>(value: &T) -> Result<Record, CallError> {
    Ok(Record::msgpack(value)?)
}

/// The chunks of an upload that are there: their numbers in the stream, by their numbers in the object and digests.
fn chunks(keys: &[KeyEntry]) -> BTreeMap<(u64, &str), u64> {
    keys.iter()
        .filter_map(|entry| Some((chunk_of(&entry.key)?, entry.seq)))
        .collect()
}
