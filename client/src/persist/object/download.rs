//! Reading an object, or a part of it.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{
    CHUNKS_AHEAD, DIGEST_LEN, ObjectError, ObjectInfo, ObjectStore, chunk_digest, chunk_prefix,
    chunks, hex, manifest_key,
};
use crate::persist::error::CallError;
use crate::persist::wire::{KeyEntry, Select, StoredRecord};

type Fetching = BoxFuture<'static, Result<Option<StoredRecord>, CallError>>;

/// The bytes of an object, chunk by chunk, each compared with its digest, and the whole with that of the object.
pub struct ObjectReader {
    store: ObjectStore,
    info: ObjectInfo,
    /// What is read of the object, in bytes.
    range: Range<u64>,
    /// The chunks that are not asked for yet: number in the object, number in the stream, digest.
    wanted: VecDeque<(u64, u64, String)>,
    fetching: VecDeque<(u64, String, Fetching)>,
    /// Of the whole object, if that is what is read.
    whole: Option<Sha256>,
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader")
            .field("info", &self.info)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl ObjectStore {
    /// Writes the bytes of an object to a destination, and flushes it.
    ///
    /// # Errors
    /// When there is no such object, a chunk is missing or damaged, or the destination cannot be written. What was
    /// written until then is part of the object.
    pub async fn get(
        &self,
        name: &str,
        destination: impl AsyncWrite + Send + Unpin,
    ) -> Result<ObjectInfo, ObjectError> {
        let mut destination = destination;
        let mut reader = self.reader(name, ..).await?;
        while let Some(bytes) = reader.next().await? {
            destination.write_all(&bytes).await?;
        }
        destination.flush().await?;
        Ok(reader.info)
    }

    /// Begins to read an object, or a range of its bytes. What begins or ends behind its end is cut off.
    ///
    /// # Errors
    /// When there is no such object, or a chunk of it is missing.
    pub async fn reader(
        &self,
        name: &str,
        range: impl std::ops::RangeBounds<u64>,
    ) -> Result<ObjectReader, ObjectError> {
        let Some(info) = self.info(name).await? else {
            let name = name.to_owned();
            return Err(ObjectError::NotFound { name });
        };
        let range = bytes(&range, info.size);
        let keys = self.stream.keys(Some(&chunk_prefix(&info.upload))).await?;
        let there = chunks(&keys);
        let digests = self.manifest(&info, &keys).await?;
        let len = u64::from(info.chunk_len.max(1));
        let numbers = if range.is_empty() {
            0..0
        } else {
            range.start / len..range.end.div_ceil(len)
        };
        let mut wanted = VecDeque::new();
        for number in numbers {
            let digest = usize::try_from(number).ok().and_then(|at| digests.get(at));
            let Some(digest) = digest else {
                return Err(damaged(name, number, "its digest is missing"));
            };
            let Some(seq) = there.get(&(number, digest.as_str())) else {
                return Err(damaged(name, number, "it is missing"));
            };
            wanted.push_back((number, *seq, digest.clone()));
        }
        let whole = (range == (0..info.size)).then(Sha256::new);
        Ok(ObjectReader {
            store: self.clone(),
            info,
            range,
            wanted,
            fetching: VecDeque::new(),
            whole,
        })
    }
}

impl ObjectStore {
    /// The digests of an object's chunks.
    async fn manifest(
        &self,
        info: &ObjectInfo,
        keys: &[KeyEntry],
    ) -> Result<Vec<String>, ObjectError> {
        let key = manifest_key(&info.upload, &info.attempt);
        let entry = keys.iter().find(|entry| entry.key == key);
        let record = match entry {
            Some(entry) => self.stream.get(Select::Seq(entry.seq)).await?,
            None => None,
        };
        let record = record.ok_or_else(|| ObjectError::Damaged {
            name: info.name.clone(),
            text: "the list of its chunks is missing".to_owned(),
        })?;
        Ok(record.payload.chunks(DIGEST_LEN).map(hex).collect())
    }
}

fn bytes(range: &impl std::ops::RangeBounds<u64>, size: u64) -> Range<u64> {
    use std::ops::Bound;
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => size,
    };
    let end = end.min(size);
    start.min(end)..end
}

fn damaged(name: &str, number: u64, text: &str) -> ObjectError {
    ObjectError::Damaged {
        name: name.to_owned(),
        text: format!("chunk {number}: {text}"),
    }
}

impl ObjectReader {
    /// What is read.
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When a chunk is missing or damaged, also because the object was replaced meanwhile, or the service is not
    /// reached.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        self.ask().await;
        let Some((number, digest, fetching)) = self.fetching.pop_front() else {
            return self.finish();
        };
        let Some(record) = fetching.await? else {
            let text = "it is gone; the object was removed or replaced while it was read";
            return Err(damaged(&self.info.name, number, text));
        };
        let chunk = record.payload.0;
        if hex(&chunk_digest(&chunk)) != digest {
            let text = "its bytes do not have the digest that was stored";
            return Err(damaged(&self.info.name, number, text));
        }
        if let Some(whole) = &mut self.whole {
            whole.update(&chunk);
        }
        let first = number * u64::from(self.info.chunk_len);
        let part = self.range.start.max(first)..self.range.end.min(first + chunk.len() as u64);
        let offset = |at: u64| {
            usize::try_from(at - first)
                .unwrap_or(usize::MAX)
                .min(chunk.len())
        };
        let range = offset(part.start)..offset(part.end.max(part.start));
        Ok(Some(chunk.slice(range)))
    }

    /// Asks for chunks until as many are on their way as may be.
    async fn ask(&mut self) {
        while self.fetching.len() < CHUNKS_AHEAD
            && let Some((number, seq, digest)) = self.wanted.pop_front()
        {
            let stream = self.store.stream.clone();
            let mut fetching = async move { stream.get(Select::Seq(seq)).await }.boxed();
            let ready = futures_util::poll!(&mut fetching);
            let fetching = match ready {
                std::task::Poll::Ready(result) => std::future::ready(result).boxed(),
                std::task::Poll::Pending => fetching,
            };
            self.fetching.push_back((number, digest, fetching));
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>, ObjectError> {
        let Some(whole) = self.whole.take() else {
            return Ok(None);
        };
        let digest = hex(&whole.finalize());
        if digest == self.info.sha256 {
            return Ok(None);
        }
        Err(ObjectError::Damaged {
            name: self.info.name.clone(),
            text: format!("its SHA-256 is {digest}, not {}", self.info.sha256),
        })
    }
}
