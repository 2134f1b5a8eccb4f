//! Putting an object.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    CHUNK_LEN, CHUNK_LEN_MAX, CHUNKS_AHEAD, ObjectError, ObjectInfo, ObjectStore, Unfinished,
    chunk_digest, chunk_key, chunk_prefix, chunks, hex, info, object_key, read, upload_key,
    written,
};
use crate::headers::Headers;
use crate::persist::error::AppendError;
use crate::persist::wire::{Expect, Record, Select, What, Written};

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
    /// Keys and numbers of what an earlier attempt has left.
    left: Vec<crate::persist::wire::KeyEntry>,
    sending: VecDeque<(u64, Sending)>,
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
        let (size, count, digest) = upload.send_all(source).await?;
        upload.remove_surplus(count).await?;
        let object = ObjectInfo {
            name: name.to_owned(),
            size,
            sha256: hex(&digest),
            chunk_len: upload.chunk_len,
            chunks: count,
            time: 0,
            metadata: options.metadata,
            upload: upload.id.clone(),
        };
        let expected = before.as_ref().map_or(0, |record| record.seq);
        let record = Record {
            expect: Some(Expect::KeySeq(expected)),
            ..written(&object)?.key(object_key(name))
        };
        match self.stream.append(record).await {
            Ok(put) => {
                self.finish(name, before.as_ref().map(info).transpose()?).await?;
                Ok(ObjectInfo {
                    time: put.time,
                    ..object
                })
            }
            Err(AppendError::WrongLastSequence { .. }) => {
                self.abandon(name).await?;
                let name = name.to_owned();
                Err(ObjectError::Conflict { name })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn begin(
        &self,
        name: &str,
        chunk_len: u32,
        resume: bool,
    ) -> Result<Upload<'_>, ObjectError> {
        if !resume {
            self.abandon(name).await?;
        }
        let known = self.stream.get(Select::Key(upload_key(name))).await?;
        let (unfinished, left) = match known {
            Some(record) => {
                let unfinished: Unfinished = read(&record)?;
                let prefix = chunk_prefix(&unfinished.upload);
                let left = self.stream.keys(Some(&prefix)).await?;
                (unfinished, left)
            }
            None => {
                let unfinished = Unfinished {
                    upload: self.stream.next_id(),
                    chunk_len: chunk_len.clamp(1, CHUNK_LEN_MAX),
                };
                let record = written(&unfinished)?.key(upload_key(name)).after_key(0);
                self.stream.append(record).await.map_err(|error| match error {
                    AppendError::WrongLastSequence { .. } => ObjectError::Conflict {
                        name: name.to_owned(),
                    },
                    error => error.into(),
                })?;
                (unfinished, Vec::new())
            }
        };
        Ok(Upload {
            store: self,
            id: unfinished.upload,
            chunk_len: unfinished.chunk_len,
            left,
            sending: VecDeque::new(),
            stored: 0,
            progress: None,
        })
    }

    /// The object is there: its upload is no longer unfinished, and what it replaced goes.
    async fn finish(&self, name: &str, before: Option<ObjectInfo>) -> Result<(), ObjectError> {
        if let Some(record) = self.stream.get(Select::Key(upload_key(name))).await? {
            self.stream.remove(What::Seqs(vec![record.seq])).await?;
        }
        if let Some(before) = before {
            self.remove_chunks(&before.upload).await?;
        }
        Ok(())
    }
}

impl Upload<'_> {
    /// Sends every chunk that is not there; size, number of chunks, digest.
    async fn send_all(
        &mut self,
        mut source: impl AsyncRead + Send + Unpin,
    ) -> Result<(u64, u64, Vec<u8>), ObjectError> {
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
        Ok((size, number, whole.finalize().to_vec()))
    }

    async fn send(&mut self, number: u64, chunk: Bytes) -> Result<(), ObjectError> {
        let digest = chunk_digest(&chunk);
        let len = chunk.len() as u64;
        let there = chunks(&self.left).get(&number).copied();
        match there {
            Some((_, known)) if known == digest => {
                self.advance(len);
                return Ok(());
            }
            // The source has changed since.
            Some((seq, _)) => drop(self.store.stream.remove(What::Seqs(vec![seq])).await?),
            None => {}
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

    /// Removes chunks behind the last one, which an earlier attempt with a longer source has left.
    async fn remove_surplus(&self, count: u64) -> Result<(), ObjectError> {
        let surplus = chunks(&self.left);
        let surplus: Vec<u64> = surplus.range(count..).map(|(_, (seq, _))| *seq).collect();
        for part in surplus.chunks(1_000) {
            self.store.stream.remove(What::Seqs(part.to_vec())).await?;
        }
        Ok(())
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
