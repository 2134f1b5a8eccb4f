//! Putting an object.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    CHUNK_LEN, CHUNK_LEN_MAX, CHUNKS_AHEAD, DIGEST_LEN, Ledger, ObjectError, ObjectInfo,
    ObjectStore, chunk_digest, chunk_key, chunk_of, chunk_prefix, hex, info, manifest_key,
    object_key, written,
};
use crate::headers::Headers;
use crate::persist::error::AppendError;
use crate::persist::wire::{Record, Select, StoredRecord, Written};

/// How an object is put.
pub struct PutOptions {
    /// What its owner says about it; at most 64 KiB as JSON.
    pub metadata: Headers,
    /// Length of its chunks, in bytes; 1 MiB by default, at most [`CHUNK_LEN_MAX`]. A resumed upload keeps its own.
    pub chunk_len: u32,
    /// Goes on with an upload of the same name that was interrupted; on by default. The source is read from its
    /// beginning all the same, and what differs is sent again.
    pub resume: bool,
    /// Is told how many bytes are stored.
    pub progress: Option<Box<dyn FnMut(u64) + Send>>,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self {
            metadata: Headers::new(),
            chunk_len: CHUNK_LEN,
            resume: true,
            progress: None,
        }
    }
}

impl std::fmt::Debug for PutOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutOptions")
            .field("metadata", &self.metadata)
            .field("chunk_len", &self.chunk_len)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

type Sending = BoxFuture<'static, Result<Written, AppendError>>;

/// An upload as it goes on.
struct Upload<'s> {
    store: &'s ObjectStore,
    id: String,
    chunk_len: u32,
    /// The number of the ledger's record that says so.
    claim: u64,
    /// What an earlier attempt has left and this one has not used: number and digest, and the number in the stream.
    left: HashMap<(u64, String), u64>,
    sending: VecDeque<(u64, Sending)>,
    digests: Vec<u8>,
    stored: u64,
    progress: Option<Box<dyn FnMut(u64) + Send>>,
}

impl ObjectStore {
    /// Reads a source to its end and puts it as an object, in place of one of that name if there is one. Until this
    /// returns, readers see what there was before.
    ///
    /// When it fails, what was sent is kept, and the next `put` of that name goes on from there.
    ///
    /// # Errors
    /// When the source cannot be read, the service refuses, or somebody else puts the same object meanwhile.
    pub async fn put(
        &self,
        name: &str,
        source: impl AsyncRead + Send + Unpin,
        options: PutOptions,
    ) -> Result<ObjectInfo, ObjectError> {
        let before = self.record(name).await?;
        let mut upload = self.begin(name, options.chunk_len, options.resume).await?;
        upload.progress = options.progress;
        let (size, digest) = upload.send_all(source).await?;
        let object = ObjectInfo {
            name: name.to_owned(),
            size,
            sha256: hex(&digest),
            chunk_len: upload.chunk_len,
            chunks: (upload.digests.len() / DIGEST_LEN) as u64,
            time: 0,
            metadata: options.metadata,
            upload: upload.id.clone(),
            attempt: self.stream.next_id(),
        };
        let manifest = manifest_key(&object.upload, &object.attempt);
        let digests = Record::keyed(manifest, std::mem::take(&mut upload.digests));
        self.stream.append(digests).await?;
        self.complete(name, object, before, upload).await
    }

    /// Takes over the ledger, and what an earlier attempt has left.
    async fn begin(
        &self,
        name: &str,
        chunk_len: u32,
        resume: bool,
    ) -> Result<Upload<'_>, ObjectError> {
        let (known, seq) = self.ledger(name).await?;
        let mut ledger = if resume { known } else { known.give_up() };
        if ledger.upload.is_none() {
            ledger.chunk_len = chunk_len.clamp(1, CHUNK_LEN_MAX);
        }
        let id = ledger
            .upload
            .get_or_insert_with(|| self.stream.next_id())
            .clone();
        let claims = self.write(name, Vec::new(), &ledger, seq).await?;
        self.clean(&ledger.obsolete, &[]).await?;
        let keys = self.stream.keys(Some(&chunk_prefix(&id))).await?;
        let left = keys.iter().filter_map(|entry| {
            let (number, digest) = chunk_of(&entry.key)?;
            Some(((number, digest.to_owned()), entry.seq))
        });
        let left = left.collect();
        Ok(Upload {
            store: self,
            id,
            chunk_len: ledger.chunk_len,
            claim: claims.last().map_or(0, |claim| claim.seq),
            left,
            sending: VecDeque::new(),
            digests: Vec::new(),
            stored: 0,
            progress: None,
        })
    }

    /// Makes the object what was sent, in one step, and removes what it was.
    async fn complete(
        &self,
        name: &str,
        object: ObjectInfo,
        before: Option<StoredRecord>,
        upload: Upload<'_>,
    ) -> Result<ObjectInfo, ObjectError> {
        let replaced = before.as_ref().map(info).transpose()?;
        let ledger = Ledger {
            obsolete: replaced.into_iter().map(|object| object.upload).collect(),
            ..Ledger::default()
        };
        // A trace of a removal may stand where nothing was seen.
        let there = self.stream.get(Select::Key(object_key(name))).await?;
        let seq = there
            .filter(StoredRecord::is_tombstone)
            .or(before)
            .map_or(0, |record| record.seq);
        let record = written(&object)?.key(object_key(name)).after_key(seq);
        let written = self
            .write(name, vec![record], &ledger, upload.claim)
            .await?;
        let mut done: Vec<u64> = upload.left.into_values().collect();
        done.sort_unstable();
        done.extend(written.last().map(|ledger| ledger.seq));
        self.clean(&ledger.obsolete, &done).await?;
        Ok(ObjectInfo {
            time: written.first().map_or(0, |info| info.time),
            ..object
        })
    }
}

impl Upload<'_> {
    /// Sends every chunk that is not there; size and digest of all.
    async fn send_all(
        &mut self,
        mut source: impl AsyncRead + Send + Unpin,
    ) -> Result<(u64, Vec<u8>), ObjectError> {
        let (mut size, mut number, mut whole) = (0, 0, Sha256::new());
        loop {
            let chunk = next_chunk(&mut source, self.chunk_len).await?;
            if chunk.is_empty() {
                break;
            }
            whole.update(&chunk);
            size += chunk.len() as u64;
            self.send(number, chunk).await?;
            number += 1;
        }
        while !self.sending.is_empty() {
            self.sent_one().await?;
        }
        Ok((size, whole.finalize().to_vec()))
    }

    async fn send(&mut self, number: u64, chunk: Bytes) -> Result<(), ObjectError> {
        let digest = chunk_digest(&chunk);
        self.digests.extend(digest);
        let digest = hex(&digest);
        let len = chunk.len() as u64;
        if self.left.remove(&(number, digest.clone())).is_some() {
            self.advance(len);
            return Ok(());
        }
        if self.sending.len() == CHUNKS_AHEAD {
            self.sent_one().await?;
        }
        let record = Record::new(chunk).key(chunk_key(&self.id, number, &digest));
        let stream = self.store.stream.clone();
        let mut sending = async move { stream.append(record).await }.boxed();
        // Polled once, so that it is on its way while the next chunk is read.
        match futures_util::poll!(&mut sending) {
            std::task::Poll::Ready(result) => {
                result?;
                self.advance(len);
            }
            std::task::Poll::Pending => self.sending.push_back((len, sending)),
        }
        Ok(())
    }

    async fn sent_one(&mut self) -> Result<(), ObjectError> {
        let Some((len, sending)) = self.sending.pop_front() else {
            return Ok(());
        };
        sending.await?;
        self.advance(len);
        Ok(())
    }

    fn advance(&mut self, len: u64) {
        self.stored += len;
        if let Some(progress) = &mut self.progress {
            progress(self.stored);
        }
    }
}

/// The next chunk, which is shorter only at the end of the source, and empty behind it.
async fn next_chunk(
    source: &mut (impl AsyncRead + Send + Unpin),
    len: u32,
) -> std::io::Result<Bytes> {
    let len = len as usize;
    let mut chunk = BytesMut::with_capacity(len);
    while chunk.len() < len {
        let room = (len - chunk.len()) as u64;
        if (&mut *source).take(room).read_buf(&mut chunk).await? == 0 {
            break;
        }
    }
    Ok(chunk.freeze())
}
