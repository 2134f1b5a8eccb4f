//! The subjects that the broker answers itself.
//!
//! | subject | answer |
//! |---|---|
//! | `sys.status` | the [`Status`](crate::status::Status) of the node |
//! | `sys.connections` | its connections, at most 1,024 |
//! | `sys.kick.<id>` | ends a connection; `{"kicked": true}` |
//! | `sys.drain` | begins to drain the node |
//!
//! Answers are JSON; one that is an error says so in the headers `error` and `code`, as every
//! service's does. Whoever may publish to a subject may use it.

use std::sync::Arc;

use dialtone_protocol::frame::message::PublishView;
use dialtone_protocol::frame::{Close, Message, Publish};
use dialtone_protocol::{Code, ConnectionId, Frame, SubscriptionId};
use serde::Serialize;
use serde_json::json;

use crate::broker::{Handle, Shared};
use crate::outbox::Delivery;
use crate::peer::{Order, Peer};
use crate::registry::Inbox;
use crate::router::Target;
use crate::router::group::{self, Dice};

/// What these subjects begin with.
pub(crate) const PREFIX: &str = "sys.";

/// Most connections that one answer lists.
const CONNECTIONS_MAX: usize = 1_024;

/// The encoding tag of JSON.
const JSON: u8 = 1;

/// Carries out a request to the broker itself and puts the answer, if one is wanted, into `sink`.
pub(crate) fn answer(
    shared: &Arc<Shared>,
    asker: &Arc<Peer>,
    request: &PublishView<'_>,
    mut sink: impl FnMut(&Target<Arc<Peer>>, Delivery<'_>),
) {
    let subject = String::from_utf8_lossy(request.subject);
    let performed = perform(
        shared,
        asker,
        subject.strip_prefix(PREFIX).unwrap_or(&subject),
    );
    let Some(reply) = request.reply else { return };
    let (headers, payload) = match performed {
        Ok(payload) => (None, payload),
        Err(unknown) => {
            let headers = json!({ "error": unknown.text, "code": unknown.code });
            (Some(encode(&headers)), b"null".to_vec())
        }
    };
    let mut frame = Vec::new();
    Frame::Publish(Publish {
        request: None,
        unreliable: false,
        fragment: None,
        message: Message {
            subject: reply,
            reply: None,
            encoding: JSON,
            headers: headers.as_deref(),
            payload: &payload,
        },
    })
    .encode(&mut frame);
    let body = frame
        .get(dialtone_protocol::codec::LEN_FIELD..)
        .unwrap_or_default();
    let Ok(view) = PublishView::decode(body) else {
        return;
    };
    let delivery = Delivery {
        unreliable: false,
        fragment: None,
        section: view.section,
        shared: None,
    };
    for target in receivers(shared, reply) {
        sink(&target, delivery);
    }
}

/// A request that asks for nothing there is.
struct Unknown {
    /// In the manner of HTTP, as services answer.
    code: u16,
    text: String,
}

fn perform(shared: &Arc<Shared>, asker: &Peer, command: &str) -> Result<Vec<u8>, Unknown> {
    let handle = Handle {
        shared: Arc::clone(shared),
    };
    let answer = match command.split_once('.').unwrap_or((command, "")) {
        ("status", "") => encode(&handle.status()),
        ("connections", "") => encode(&handle.all_connections(CONNECTIONS_MAX)),
        ("drain", "") => {
            tracing::info!(identity = %asker.about.identity, "drain requested");
            handle.drain();
            encode(&json!({ "draining": true }))
        }
        ("kick", id) => {
            let Ok(id) = id.parse() else {
                let text = format!("{id:?} is not the number of a connection");
                return Err(Unknown { code: 422, text });
            };
            encode(&json!({ "kicked": kick(shared, ConnectionId(id)) }))
        }
        _ => {
            let text = format!(
                "unknown command \"{PREFIX}{command}\"; there are: status, connections, kick.<id>, drain"
            );
            return Err(Unknown { code: 404, text });
        }
    };
    Ok(answer)
}

fn kick(shared: &Shared, id: ConnectionId) -> bool {
    let Some(peer) = shared.registry.get(id) else {
        return false;
    };
    peer.order(Order::Close(Close {
        code: Code::Kicked,
        text: "ended by an administrator".into(),
    }));
    true
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| error.to_string().into_bytes())
}

/// Who gets an answer: an inbox of this node, or subscribers.
fn receivers(shared: &Shared, reply: &str) -> Vec<Target<Arc<Peer>>> {
    match shared.registry.find_inbox(&shared.node, reply.as_bytes()) {
        Inbox::No => {}
        Inbox::Gone => return Vec::new(),
        Inbox::Of(peer) => {
            let subscription = SubscriptionId::INBOX;
            return vec![Target {
                peer,
                subscription,
                drop_oldest: 0,
            }];
        }
    }
    let route = shared
        .router
        .resolve(reply, shared.router.hash(reply.as_bytes()));
    let mut dice = Dice::new(rand::random());
    let mut targets = Vec::new();
    for part in route.parts() {
        targets.extend(part.targets().iter().chain(part.taps()).cloned());
        targets.extend(
            part.groups()
                .iter()
                .filter_map(|g| group::choose(g, reply.as_bytes(), &mut dice))
                .cloned(),
        );
    }
    targets
}
