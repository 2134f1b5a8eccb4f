//! From a message to the part of the service that does what it asks for.

use std::sync::Arc;

use dialtone_client::persist::wire::{self, Append, Fault, FaultKind, REQUEST_LEN_MAX, Request};
use dialtone_client::persist::{Owner, StreamName};
use dialtone_client::{Encoding, Message};

use super::reply::Reply;
use super::shared::{Shared, stopping};
use super::{admin, consume, read, registry, watch, write};
use crate::counters;
use crate::stream::Stream;

/// A request with who asks and where the answer goes.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) owner: Owner,
    pub(crate) reply: Reply,
}

/// Streams that decided something in this turn, and are flushed at its end.
pub(crate) type Touched = Vec<Arc<Stream>>;

/// Does what a message asks for, or sees to it that it is done.
pub(crate) fn receive(shared: &Arc<Shared>, message: Message, touched: &mut Touched) {
    counters::add(&shared.counters.requests, 1);
    let decoded = decode(&message);
    let reply = Reply::new(message, shared);
    match decoded {
        Ok(_) if shared.stopping.is_cancelled() => reply.fault(&stopping()),
        Ok((owner, Request::Append(append))) => {
            append_or_route(shared, owner, append, reply, touched);
        }
        Ok((owner, request)) => other(shared, owner, request, reply),
        Err(fault) => reply.fault(&fault),
    }
}

fn decode(message: &Message) -> Result<(Owner, Request), Fault> {
    let scope = message.subject().as_str().split('.').nth(1);
    let owner = scope.and_then(Owner::from_scope).ok_or_else(|| {
        let text = format!("{} names nobody who may ask", message.subject());
        Fault::new(FaultKind::Denied, text)
    })?;
    let len = message.payload().len();
    if len > REQUEST_LEN_MAX {
        let text =
            format!("a request of {len} bytes is longer than the limit of {REQUEST_LEN_MAX}");
        return Err(Fault::new(FaultKind::TooLarge, text));
    }
    let encoding = message.encoding();
    let request = wire::decode(message.payload(), encoding).map_err(|error| {
        let source = std::error::Error::source(&error)
            .map_or_else(String::new, |source| format!(": {source}"));
        let format = match encoding {
            Encoding::Json => "JSON",
            Encoding::MessagePack => "MessagePack",
            Encoding::Other(_) => "a known encoding",
        };
        let text = format!("this is no request in {format}: {error}{source}");
        Fault::new(FaultKind::BadRequest, text)
    })?;
    Ok((owner, request))
}

/// The hot path: a stream that is open decides at once.
fn append_or_route(
    shared: &Arc<Shared>,
    owner: Owner,
    append: Append,
    reply: Reply,
    touched: &mut Touched,
) {
    let stream = shared.registry.get(&append.stream);
    let Some(stream) = stream.filter(|stream| owner.may_use(&stream.name)) else {
        other(shared, owner, Request::Append(append), reply);
        return;
    };
    write::append(shared, &stream, append, reply);
    // Writers often come in runs for the same stream.
    if !touched
        .last()
        .is_some_and(|last| Arc::ptr_eq(last, &stream))
    {
        touched.push(stream);
    }
}

fn other(shared: &Arc<Shared>, owner: Owner, request: Request, reply: Reply) {
    let Some(name) = stream_of(&request) else {
        admin::of_node(shared, owner, request, reply);
        return;
    };
    match allowed(&owner, name) {
        Ok(name) => {
            let job = Job {
                request,
                owner,
                reply,
            };
            registry::route(shared, name, job);
        }
        Err(fault) => reply.fault(&fault),
    }
}

fn allowed(owner: &Owner, name: &str) -> Result<StreamName, Fault> {
    let name = StreamName::new(name)
        .map_err(|error| Fault::new(FaultKind::BadRequest, error.to_string()))?;
    if !owner.may_use(&name) {
        let text = format!("{} may not use the stream {name}", owner.scope());
        return Err(Fault::new(FaultKind::Denied, text));
    }
    Ok(name)
}

fn stream_of(request: &Request) -> Option<&str> {
    Some(match request {
        Request::Append(append) => &append.stream,
        Request::Get(get) => &get.stream,
        Request::Read(read) => &read.stream,
        Request::Keys(keys) => &keys.stream,
        Request::Remove(remove) => &remove.stream,
        Request::Watch(watch) => &watch.stream,
        Request::Create(create) => &create.stream,
        Request::Update(update) => &update.stream,
        Request::Info(info) => &info.stream,
        Request::Delete(delete) => &delete.stream,
        Request::Restore(restore) => &restore.stream,
        Request::Verify(verify) => &verify.stream,
        Request::ConsumerCreate(create) => &create.stream,
        Request::ConsumerInfo(show) => &show.stream,
        Request::ConsumerList(list) => &list.stream,
        Request::ConsumerDelete(delete) => &delete.stream,
        Request::Fetch(fetch) => &fetch.stream,
        Request::Ack(ack) => &ack.stream,
        Request::List(_) | Request::Nodes | Request::Status => return None,
    })
}

/// Does what is asked of a stream that is open.
pub(crate) fn execute(shared: &Arc<Shared>, stream: &Arc<Stream>, job: Job) {
    let Job {
        request,
        owner,
        reply,
    } = job;
    match request {
        Request::Append(append) => write::append(shared, stream, append, reply),
        Request::Remove(remove) => write::remove(stream, shared, &remove, reply),
        Request::Update(update) => write::update(stream, shared, update, reply),
        Request::Restore(restore) => write::restore(stream, shared, restore, reply),
        Request::Get(get) => read::get(shared, stream, get, reply),
        Request::Read(read) => read::read(shared, stream, read, reply),
        Request::Keys(keys) => read::keys(stream, shared, &keys, reply),
        Request::Watch(watch) => watch::watch(shared, stream, &owner, watch, reply),
        Request::Fetch(fetch) => consume::fetch(shared, stream, owner, fetch, reply),
        Request::Ack(ack) => consume::ack(shared, stream, owner, ack, reply),
        Request::ConsumerCreate(create) => consume::create(stream, shared, create, reply),
        Request::ConsumerInfo(show) => consume::info(stream, shared, &show, reply),
        Request::ConsumerList(_) => consume::list(stream, reply),
        Request::ConsumerDelete(delete) => consume::delete(stream, &delete, reply),
        Request::Create(create) => admin::exists(stream, shared, &create, reply),
        Request::Info(_) => admin::info(stream, shared, reply),
        Request::Verify(verify) => admin::verify(shared, stream, &verify, reply),
        Request::Delete(_) | Request::List(_) | Request::Nodes | Request::Status => {
            let text = "this is not done by an open stream";
            reply.fault(&Fault::new(FaultKind::Internal, text));
            return;
        }
    }
    shared.flush(stream);
}
