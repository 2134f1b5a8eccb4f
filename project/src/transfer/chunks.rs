//! Files as existing clients read and write them: numbered chunks as many answers to one request.
//!
//! Reading, `{path}` is answered with chunks with the header `seq` from 1 on, then with nothing and the header `done`,
//! or with nothing and the header `error`. Writing, `{name, path}` lets the project read from the client in the same
//! way, at `files:read{name}`, and is answered when the file is there.
//!
//! What is longer than a fragment may be overtaken by what is not, and existing readers take a chunk that comes too early
//! for a sign that others were lost. So chunks that are sent from here are never that long, and chunks that come are put
//! in order.

mod order;

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use dialtone_client::service::Answer;
use dialtone_client::{
    Client, Encoding, Headers, Many, Message, Service, ServiceError, ServiceOptions, SubscribeError,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use self::order::{Chunk, Order, Wait};
use super::{Sink, Source, Transfers};
use crate::error::{Code, Error};
use crate::subjects::Place;

/// Longest chunk that is sent, in bytes; shorter where that would be a message in fragments.
const CHUNK_LEN_MAX: usize = 256 << 10;

/// So many chunks are sent before it is waited until the broker has passed them on.
const CHUNKS_PER_ACK: u64 = 8;

/// Bytes before those of a chunk: that these are bytes, and how many.
const PACKED_LEN: usize = 5;

/// How long is waited for more after the end was told, where more could be on its way.
const STRAGGLER_MAX: Duration = Duration::from_secs(5);

/// Longest name of an offer.
const NAME_LEN_MAX: usize = 64;

/// `MessagePack` for nothing.
const NIL: &[u8] = &[0xc0];

#[derive(Debug, Deserialize)]
struct Read {
    path: String,
}

#[derive(Debug, Deserialize)]
struct Write {
    name: String,
    path: String,
}

/// Answers requests for files.
pub(crate) async fn serve_reading(
    client: &Client,
    place: &Place,
    transfers: Arc<Transfers>,
    concurrency_max: usize,
) -> Result<Service, SubscribeError> {
    let options = ServiceOptions {
        concurrency_max,
        ..ServiceOptions::default()
    };
    let own = client.clone();
    let handler = move |message: Message| {
        let (client, transfers) = (own.clone(), Arc::clone(&transfers));
        async move {
            let headers = match send(&transfers, &client, &message).await {
                Ok((bytes, digest)) => Headers::new()
                    .with("done", true)
                    .with("bytes", bytes)
                    .with("sha256", digest),
                Err(error) => Headers::new()
                    .with("error", error.text)
                    .with("code", error.code.name()),
            };
            Ok::<_, ServiceError>(Answer::new(Encoding::MessagePack, NIL.to_vec()).headers(headers))
        }
    };
    client
        .service_with(place.offered(""), options, handler)
        .await
}

/// Answers requests to fetch files.
pub(crate) async fn serve_writing(
    client: &Client,
    place: &Place,
    transfers: Arc<Transfers>,
    concurrency_max: usize,
) -> Result<Service, SubscribeError> {
    let options = ServiceOptions {
        concurrency_max,
        ..ServiceOptions::default()
    };
    let (own, subject) = (client.clone(), place.service("files:write"));
    let place = place.clone();
    let handler = move |message: Message| {
        let (client, place, transfers) = (own.clone(), place.clone(), Arc::clone(&transfers));
        async move {
            let answer: Json = match fetch(&transfers, &client, &place, &message).await {
                Ok((bytes, chunks)) => {
                    json!({"status": "success", "bytes": bytes, "chunks": chunks})
                }
                Err(error) => {
                    json!({"status": "error", "error": error.text, "code": error.code.name()})
                }
            };
            Ok::<_, ServiceError>(match message.encoding() {
                Encoding::Json => Answer::json(&answer)?,
                Encoding::MessagePack | Encoding::Other(_) => Answer::msgpack(&answer)?,
            })
        }
    };
    client.service_with(subject, options, handler).await
}

/// Sends all chunks of a file; how many bytes there were, and their digest.
async fn send(
    transfers: &Transfers,
    client: &Client,
    message: &Message,
) -> Result<(u64, String), Error> {
    let Read { path } = decode(message)?;
    let _permit = transfers.begin()?;
    let mut source = Source::open(transfers.home.resolve(&path)?, 0, None).await?;
    let whole = client.limits().fragment_len_max as usize;
    let chunk_len = whole.saturating_sub(PACKED_LEN).clamp(1, CHUNK_LEN_MAX);
    let (size, mut seq) = (source.size(), 0_u64);
    loop {
        let (rest, bytes) = source.next(chunk_len).await?;
        source = rest;
        if bytes.is_empty() {
            return Ok((size, source.digest()));
        }
        seq += 1;
        let draft = message.answer().map_err(|error| {
            Error::new(
                Code::BadRequest,
                format!("{error}, and nobody hears the answers"),
            )
        })?;
        let headers = Headers::new().with("seq", seq);
        let draft = draft.headers(&headers).payload(packed(&bytes));
        let unsent = |error| Error::new(Code::Internal, format!("a chunk cannot be sent: {error}"));
        if seq.is_multiple_of(CHUNKS_PER_ACK) {
            if draft.publish_acked().await.map_err(unsent)? == 0 {
                return Err(Error::new(Code::NotFound, "receiver is gone"));
            }
        } else {
            draft.publish().await.map_err(unsent)?;
        }
    }
}

/// Reads a file from a client.
async fn fetch(
    transfers: &Transfers,
    client: &Client,
    place: &Place,
    message: &Message,
) -> Result<(u64, u64), Error> {
    let Write { name, path } = decode(message)?;
    check_name(&name)?;
    let target = transfers.home.resolve(&path)?;
    let _permit = transfers.begin()?;
    let mut sink = Sink::open(target, None, Arc::clone(transfers.home.room())).await?;
    let subject = place.offered(&name);
    let idle = transfers.timing.transfer_idle;
    let unsent = |error: &dyn std::fmt::Display| {
        Error::new(Code::NotFound, format!("nobody sends {path:?}: {error}"))
    };
    let offered = client
        .wait_for_interest(&subject, idle.min(Duration::from_mins(1)))
        .await;
    if !offered.map_err(|error| unsent(&error))? {
        return Err(unsent(&"it is not offered"));
    }
    let many = Many {
        wait_max: idle,
        messages_max: None,
    };
    let draft = client.message(&*subject).msgpack(&json!({"path": path}));
    let draft = draft.map_err(|error| unsent(&error))?;
    let mut answers = draft
        .request_many(many)
        .await
        .map_err(|error| unsent(&error))?;
    let mut order = Order::default();
    loop {
        let next = answers.next();
        let answer = match order.wait() {
            Wait::Long => next.await,
            Wait::Short => tokio::time::timeout(STRAGGLER_MAX, next)
                .await
                .unwrap_or(None),
            Wait::Over => None,
        };
        let Some(answer) = answer else { break };
        order.push(chunk(&answer)?)?;
        while let Some(bytes) = order.pop() {
            sink = sink.write(bytes).await?;
        }
    }
    if let Some((bytes, digest)) = order.end() {
        let written = sink.written();
        sink.commit(bytes, digest).await?;
        return Ok((written, order.count()));
    }
    let why = answers.error().map_or_else(
        || format!("nothing came for {} s", idle.as_secs()),
        |error| error.to_string(),
    );
    let count = order.count();
    Err(Error::new(
        Code::Timeout,
        format!("{path:?} broke off after chunk {count}: {why}"),
    ))
}

/// Reads an answer.
fn chunk(answer: &Message) -> Result<Chunk, Error> {
    let headers = answer
        .headers()
        .map_err(|error| Error::new(Code::BadRequest, error.to_string()))?;
    if let Some(error) = headers.get("error") {
        let text = error
            .as_str()
            .map_or_else(|| error.to_string(), str::to_owned);
        return Err(Error::new(
            Code::Failed,
            format!("the sender failed: {text}"),
        ));
    }
    if headers.get("done").is_some() {
        return Ok(Chunk::Done {
            bytes: headers.get("bytes").and_then(Json::as_u64),
            digest: headers.text("sha256").map(str::to_owned),
        });
    }
    let seq = headers.get("seq").and_then(Json::as_u64);
    let seq = seq.ok_or_else(|| Error::new(Code::BadRequest, "a chunk has no number"))?;
    Ok(Chunk::Bytes {
        seq,
        bytes: unpacked(answer)?,
    })
}

/// Bytes as `MessagePack` has them, because a text must not be taken for them.
fn packed(bytes: &Bytes) -> Bytes {
    let mut packed = BytesMut::with_capacity(bytes.len() + PACKED_LEN);
    packed.put_u8(0xc6);
    packed.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    packed.put_slice(bytes);
    packed.freeze()
}

/// The bytes in a message, without copying them.
fn unpacked(message: &Message) -> Result<Bytes, Error> {
    let payload = message.payload();
    let wrong = || Error::new(Code::BadRequest, "a chunk holds no bytes");
    if message.encoding() != Encoding::MessagePack {
        return Ok(payload.clone());
    }
    let (head, len) = match payload.as_ref() {
        [0xc4, len, ..] => (2, usize::from(*len)),
        [0xc5, a, b, ..] => (3, usize::from(u16::from_be_bytes([*a, *b]))),
        [0xc6, a, b, c, d, ..] => (5, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        _ => return Err(wrong()),
    };
    if payload.len() != head + len {
        return Err(wrong());
    }
    Ok(payload.slice(head..))
}

fn decode<T: serde::de::DeserializeOwned>(message: &Message) -> Result<T, Error> {
    message
        .decode()
        .map_err(|error| Error::new(Code::BadRequest, format!("not a request: {error}")))
}

/// A name becomes part of a subject.
fn check_name(name: &str) -> Result<(), Error> {
    let is_name = (1..=NAME_LEN_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_name {
        return Ok(());
    }
    let text = format!("is no name of at most {NAME_LEN_MAX} letters, digits, '-' and '_'");
    Err(Error::argument("name", text))
}
