//! One socket of the storage protocol: which stream it is about, and its requests in their order.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::wire::{
    APPEND_RECORDS_MAX, Blob, Outcome, Record, Select, StoredRecord, What, Written,
};
use dialtone_client::persist::{Persist, ReadOptions, Stream};
use dialtone_client::{Encoding, Headers, Message};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::limits::Use;
use super::recent::Recent;
use super::reply::Refusal;
use super::rows::{Item, Row, get_headers};
use super::{Shared, config, feed, path};
use crate::socket::{self, Data, Inbound, NOTHING, Socket, Writer, answer, base_subject, encode};

/// Most requests of a socket that are under way; further ones wait.
const REQUESTS_MAX: usize = 256;

/// Most requests that wait until the socket says which stream it is about.
const EARLY_MAX: usize = 1_000;

/// A message of `getAll` ends when its records have this many bytes.
const BATCH_LEN: usize = 1 << 20;

/// The first message of a socket.
#[derive(Debug, Deserialize)]
struct Hello {
    storage: Storage,
    #[serde(default)]
    changefeed: bool,
}

/// Which stream. What decides about durability counts for a new stream alone.
#[derive(Debug, Deserialize)]
struct Storage {
    path: String,
    #[serde(default)]
    ephemeral: Option<bool>,
}

/// An open stream.
struct Open {
    stream: Stream,
    recent: Arc<Recent>,
    /// Counts as long as the stream is open.
    _counted: Use,
}

type Running = FuturesUnordered<BoxFuture<'static, ()>>;

/// Serves a socket until it ends.
pub(super) async fn run(shared: Arc<Shared>, mut socket: Socket, stop: CancellationToken) {
    let serving = serve(&shared, &mut socket);
    tokio::select! {
        () = stop.cancelled() => {}
        () = serving => {}
    }
}

async fn serve(shared: &Arc<Shared>, socket: &mut Socket) {
    let mut early = Vec::new();
    let hello = loop {
        match socket.next().await {
            None => return,
            Some(Inbound::Data(data)) => break data,
            Some(Inbound::Request(request)) if early.len() < EARLY_MAX => early.push(request),
            Some(Inbound::Request(request)) => {
                let refusal = Refusal::with_code("too many requests wait", 429);
                answer(&request, &refusal.headers(), NOTHING.to_vec()).await;
            }
        }
    };
    let mut running = Running::new();
    let opened = open(shared, socket, &hello).await;
    let opened = match opened {
        Ok((open, wants_feed)) => {
            let mut session = Session {
                shared: Arc::clone(shared),
                stream: open.stream.clone(),
                recent: Arc::clone(&open.recent),
                writer: socket.writer().clone(),
                feeding: false,
            };
            if wants_feed && let Err(refusal) = session.feed(&mut running).await {
                Err(refusal)
            } else {
                Ok((session, open))
            }
        }
        Err(refusal) => Err(refusal),
    };
    match opened {
        Ok((mut session, _open)) => {
            for request in early {
                session.on_request(request, &mut running).await;
            }
            session.requests(socket, running).await;
        }
        Err(refusal) => refuse(socket, early, &refusal).await,
    }
}

async fn open(shared: &Shared, socket: &Socket, hello: &Data) -> Result<(Open, bool), Refusal> {
    let hello: Hello = hello
        .decode()
        .map_err(|error| Refusal::with_code(format!("storage: {error}"), 400))?;
    let base = base_subject(socket.subject()).unwrap_or_default();
    let scope = base.split('.').nth(1).unwrap_or_default();
    let counted = shared.usage.enter(scope)?;
    let owner = path::owner(base, &shared.options.service, &hello.storage.path)?;
    let persist = Persist::of(&shared.client, owner).timeout(shared.options.timeout);
    let config = config::of_new(hello.storage.ephemeral == Some(true));
    let recent = shared.streams.open(&hello.storage.path);
    let stream = persist.open_or_create(hello.storage.path, config).await?;
    let open = Open {
        stream,
        recent,
        _counted: counted,
    };
    Ok((open, hello.changefeed))
}

/// Says why there is no stream, and says so again to whatever is asked.
async fn refuse(socket: &mut Socket, early: Vec<Message>, refusal: &Refusal) {
    let data = Data {
        headers: refusal.headers(),
        encoding: Encoding::MessagePack,
        payload: Bytes::from_static(NOTHING),
    };
    if socket.writer().write(data).await.is_err() {
        return;
    }
    for request in early {
        answer(&request, &refusal.headers(), NOTHING.to_vec()).await;
    }
    while let Some(inbound) = socket.next().await {
        if let Inbound::Request(request) = inbound {
            answer(&request, &refusal.headers(), NOTHING.to_vec()).await;
        }
    }
}

/// A socket whose stream is open.
struct Session {
    shared: Arc<Shared>,
    stream: Stream,
    recent: Arc<Recent>,
    writer: Writer,
    feeding: bool,
}

impl Session {
    /// Requests begin in their order; each is answered when it is done.
    async fn requests(&mut self, socket: &mut Socket, mut running: Running) {
        loop {
            // The change feed is one of those that run.
            let has_room = running.len() <= REQUESTS_MAX;
            tokio::select! {
                biased;
                Some(()) = running.next(), if !running.is_empty() => {}
                inbound = socket.next(), if has_room => match inbound {
                    None => return,
                    Some(Inbound::Request(request)) => self.on_request(request, &mut running).await,
                    Some(Inbound::Data(_)) => tracing::debug!("data that nobody wants"),
                },
            }
        }
    }

    async fn on_request(&mut self, request: Message, running: &mut Running) {
        let headers = socket::headers(&request);
        match Command::parse(&headers) {
            Err(refusal) => answer(&request, &refusal.headers(), NOTHING.to_vec()).await,
            Ok(Command::Changefeed) => {
                let begun = self.feed(running).await;
                reply(&request, begun.map(|()| encode("created"))).await;
            }
            Ok(command) => {
                let (stream, id) = (self.stream.clone(), self.shared.options.id.clone());
                let recent = Arc::clone(&self.recent);
                running.push(Box::pin(async move {
                    perform(&stream, &recent, &id, command, &request).await;
                }));
            }
        }
    }

    /// Begins to tell changes, once.
    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "with a shared reference the task could not move between threads"
    )]
    async fn feed(&mut self, running: &mut Running) -> Result<(), Refusal> {
        if !self.feeding {
            // It hears of writes before the service can tell of them.
            let follower = self.recent.follow();
            let watcher = feed::begin(&self.stream).await?;
            self.feeding = true;
            let feed = feed::run(watcher, follower, self.writer.clone());
            running.push(Box::pin(feed));
        }
        Ok(())
    }
}

async fn reply(request: &Message, outcome: Result<Vec<u8>, Refusal>) {
    match outcome {
        Ok(payload) => answer(request, &Headers::new(), payload).await,
        Err(refusal) => answer(request, &refusal.headers(), NOTHING.to_vec()).await,
    }
}

async fn perform(
    stream: &Stream,
    recent: &Arc<Recent>,
    id: &str,
    command: Command,
    request: &Message,
) {
    let outcome = match command {
        Command::Set(write) => {
            let payload = Blob::from(request.payload().clone());
            let record = write.record(request.encoding().number(), payload, unique);
            set(stream, recent, record).await
        }
        Command::SetMany => set_many(stream, recent, request).await,
        Command::Get(select) => return get(stream, select, request).await,
        Command::GetAll { from, to } => return get_all(stream, from, to, request).await,
        Command::Delete(what, seqs) => delete(stream, what, seqs).await,
        Command::Config(wanted) => configure(stream, wanted).await,
        Command::Inventory => inventory(stream).await,
        Command::Keys => match stream.keys(None).await {
            Ok(keys) => {
                let keys: Vec<String> = keys.into_iter().map(|entry| entry.key).collect();
                Ok(encode(&keys))
            }
            Err(error) => Err(error.into()),
        },
        Command::ServerId => Ok(encode(id)),
        // It is begun where requests are taken.
        Command::Changefeed => Ok(encode("created")),
    };
    reply(request, outcome).await;
}

/// An id for a write that has none, with 128 bits, so that it can be repeated when its answer is lost.
fn unique() -> String {
    format!("{:032x}", rand::random::<u128>())
}

async fn set(stream: &Stream, recent: &Arc<Recent>, record: Record) -> Result<Vec<u8>, Refusal> {
    let writing = recent.write();
    let kept = writing.is_wanted().then(|| record.clone());
    let written = stream.append(record).await?;
    if let Some(record) = kept.filter(|_| !written.duplicate) {
        writing.wrote(stored(record, &written));
    }
    Ok(encode(&json!({ "seq": written.seq, "time": written.time })))
}

/// A record as it is told.
fn stored(record: Record, written: &Written) -> StoredRecord {
    StoredRecord {
        seq: written.seq,
        time: written.time,
        revision: written.revision,
        key: record.key,
        encoding: record.encoding,
        headers: record.headers,
        ttl: record.ttl,
        id: record.id,
        payload: record.payload,
    }
}

async fn set_many(
    stream: &Stream,
    recent: &Arc<Recent>,
    request: &Message,
) -> Result<Vec<u8>, Refusal> {
    let items: Vec<Item> = socket::decode(request)
        .map_err(|error| Refusal::with_code(format!("setMany: {error}"), 400))?;
    if items.is_empty() {
        return Ok(encode(&Vec::<Value>::new()));
    }
    let records: Vec<Record> = items.into_iter().map(|item| item.record(unique)).collect();
    let writing = recent.write();
    let kept = writing.is_wanted().then(|| records.clone());
    let appended = stream.append_many(records).await?;
    for (record, outcome) in kept.into_iter().flatten().zip(&appended.results) {
        if let Outcome::Written(written) = outcome
            && !written.duplicate
        {
            writing.wrote(stored(record, written));
        }
    }
    let results: Vec<Value> = appended
        .results
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Written(written) => json!({ "seq": written.seq, "time": written.time }),
            Outcome::Refused(fault) => {
                let refusal = Refusal::from(dialtone_client::persist::AppendError::from(fault));
                match &refusal.code {
                    Some(code) => json!({ "error": refusal.error(), "code": code }),
                    None => json!({ "error": refusal.error() }),
                }
            }
        })
        .collect();
    Ok(encode(&results))
}

async fn get(stream: &Stream, select: Select, request: &Message) {
    let record = match stream.get(select).await {
        Ok(Some(record)) => record,
        Ok(None) => return answer(request, &Headers::new(), NOTHING.to_vec()).await,
        Err(error) => return reply(request, Err(error.into())).await,
    };
    let Ok(draft) = request.answer() else { return };
    let headers = get_headers(&record);
    let sent = draft
        .encoding(Encoding::from_number(record.encoding))
        .headers(&headers)
        .payload(&*record.payload)
        .publish();
    if let Err(error) = sent.await {
        tracing::debug!(%error, "an answer was not sent");
    }
}

/// Answers in several messages that are numbered; the last one has nothing in it.
async fn get_all(stream: &Stream, from: u64, to: Option<u64>, request: &Message) {
    let options = ReadOptions {
        from,
        to,
        ..ReadOptions::default()
    };
    let mut records = stream.read(options);
    let mut seq = 0_u64;
    let mut batch = Vec::new();
    let mut len = 0;
    loop {
        match records.next().await {
            Some(Ok(record)) => {
                len += record.payload.len();
                batch.push(record);
            }
            Some(Err(error)) => {
                let refusal = Refusal::from(error);
                let headers = refusal.headers().with("seq", seq);
                return answer(request, &headers, NOTHING.to_vec()).await;
            }
            None => break,
        }
        if len >= BATCH_LEN {
            if !put_batch(request, seq, &batch).await {
                return;
            }
            seq += 1;
            batch.clear();
            len = 0;
        }
    }
    if !batch.is_empty() {
        if !put_batch(request, seq, &batch).await {
            return;
        }
        seq += 1;
    }
    let headers = Headers::new().with("seq", seq);
    answer(request, &headers, NOTHING.to_vec()).await;
}

/// Waits until the broker has passed the batch on, since a small message may overtake a large one; `false` when nobody
/// waits for it any more.
async fn put_batch(request: &Message, seq: u64, batch: &[StoredRecord]) -> bool {
    let rows: Vec<Row<'_>> = batch.iter().map(Row::of).collect();
    let headers = Headers::new().with("seq", seq);
    let Ok(draft) = request.answer() else {
        return false;
    };
    let draft = draft.encoding(Encoding::MessagePack).headers(&headers);
    match draft.payload(encode(&rows)).publish_acked().await {
        Ok(count) => count > 0,
        Err(error) => {
            tracing::debug!(%error, "records were not sent");
            false
        }
    }
}

async fn delete(stream: &Stream, what: What, seqs: Option<Vec<u64>>) -> Result<Vec<u8>, Refusal> {
    let Some(seqs) = seqs else {
        let removed = stream.remove(what).await?;
        let seqs = feed::numbers(&removed.ranges);
        return Ok(encode(&json!({ "seqs": seqs })));
    };
    // The service takes so many at once.
    for part in seqs.chunks(APPEND_RECORDS_MAX) {
        stream.remove(What::Seqs(part.to_vec())).await?;
    }
    Ok(encode(&json!({ "seqs": seqs })))
}

async fn configure(
    stream: &Stream,
    wanted: Option<serde_json::Map<String, Value>>,
) -> Result<Vec<u8>, Refusal> {
    let info = match wanted {
        Some(wanted) if !wanted.is_empty() => stream.update(config::patch(&wanted)).await?,
        Some(_) | None => stream.info().await?,
    };
    Ok(encode(&config::shown(&info.config)))
}

async fn inventory(stream: &Stream) -> Result<Vec<u8>, Refusal> {
    let info = stream.info().await?;
    let seq = if info.messages == 0 {
        0
    } else {
        let last = stream.get(Select::Last).await?;
        last.map_or(0, |record| record.seq)
    };
    Ok(encode(&json!({
        "bytes": info.bytes,
        "count": info.messages,
        "limits": config::limits(&info.config),
        "seq": seq,
    })))
}
