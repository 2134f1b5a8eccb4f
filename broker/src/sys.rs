//! The subjects that the broker answers itself.
//!
//! | subject | answer |
//! |---|---|
//! | `sys.status` | the [`Status`](crate::status::Status) of the node |
//! | `sys.connections` | its connections, at most 1,024 |
//! | `sys.kick.<id>` | ends a connection; `{"kicked": true}` |
//! | `sys.drain` | begins to drain the node |
//! | `sys.cluster.status` | the [`Status`](crate::cluster::status::Status) of its cluster |
//! | `sys.cluster.join` | dials the URL in the payload, until a node answers there |
//! | `sys.cluster.leave` | leaves the cluster; clients stay |
//! | `sys.cluster.forget.<node>` | forgets a node that is gone for good |
//!
//! Answers are JSON; one that is an error says so in the headers `error` and `code`, as every
//! service's does. Whoever may publish to a subject may use it.

use std::sync::Arc;

use dialtone_protocol::frame::message::PublishView;
use dialtone_protocol::frame::{Close, Message, Publish};
use dialtone_protocol::{Code, ConnectionId, Frame};
use serde::Serialize;
use serde_json::json;

use crate::broker::{Handle, Shared};
use crate::cluster::ForgetError;
use crate::connection::effects::Effects;
use crate::connection::onward::{Choice, Groups, Onward, Reach, Send};
use crate::connection::publish::inbox_target;
use crate::outbox::Delivery;
use crate::peer::{Order, Peer};
use crate::registry::Inbox;
use crate::router::group::Dice;

/// What these subjects begin with.
pub(crate) const PREFIX: &str = "sys.";

/// What services answer under the same word, as the predecessor's tools ask for it.
const OF_SERVICES: &str = "sys.conat.";

/// Whether the broker answers requests to this subject itself.
pub(crate) fn is_own(subject: &str) -> bool {
    subject.starts_with(PREFIX) && !subject.starts_with(OF_SERVICES)
}

/// Most connections that one answer lists.
const CONNECTIONS_MAX: usize = 1_024;

/// The encoding tag of JSON.
const JSON: u8 = 1;

/// Carries out a request to the broker itself and delivers the answer, if one is wanted.
pub(crate) fn answer(
    shared: &Arc<Shared>,
    asker: &Arc<Peer>,
    request: &PublishView<'_>,
    effects: &mut Effects,
) {
    let subject = String::from_utf8_lossy(request.subject);
    let performed = perform(
        shared,
        asker,
        subject.strip_prefix(PREFIX).unwrap_or(&subject),
        payload(request),
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
    deliver_answer(shared, reply, delivery, effects);
}

/// A request that asks for nothing there is.
struct Unknown {
    /// In the manner of HTTP, as services answer.
    code: u16,
    text: String,
}

fn payload<'a>(request: &PublishView<'a>) -> &'a [u8] {
    let start = request.section.len() - request.payload_len;
    request.section.get(start..).unwrap_or_default()
}

fn perform(
    shared: &Arc<Shared>,
    asker: &Peer,
    command: &str,
    payload: &[u8],
) -> Result<Vec<u8>, Unknown> {
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
        ("cluster", command) => perform_on_cluster(&handle, asker, command, payload)?,
        _ => {
            let text = format!(
                "unknown command \"{PREFIX}{command}\"; there are: status, connections, kick.<id>, drain, \
                 cluster.status, cluster.join, cluster.leave, cluster.forget.<node>"
            );
            return Err(Unknown { code: 404, text });
        }
    };
    Ok(answer)
}

fn perform_on_cluster(
    handle: &Handle,
    asker: &Peer,
    command: &str,
    payload: &[u8],
) -> Result<Vec<u8>, Unknown> {
    let identity = &asker.about.identity;
    let Some(cluster) = handle.cluster() else {
        let text = "the node belongs to no cluster".to_owned();
        return Err(Unknown { code: 404, text });
    };
    match command.split_once('.').unwrap_or((command, "")) {
        ("status", "") => Ok(encode(&cluster.status())),
        ("leave", "") => {
            tracing::info!(%identity, "leaving the cluster was requested");
            cluster.leave();
            Ok(encode(&json!({ "left": true })))
        }
        ("join", "") => {
            // Text, or a JSON string.
            let text = serde_json::from_slice::<String>(payload)
                .unwrap_or_else(|_not_json| String::from_utf8_lossy(payload).into_owned());
            let endpoint: dialtone_transport::Endpoint = text.parse().map_err(|error| Unknown {
                code: 422,
                text: format!("{error}"),
            })?;
            tracing::info!(%identity, %endpoint, "joining was requested");
            cluster.join(endpoint);
            Ok(encode(&json!({ "joining": text })))
        }
        ("forget", node) => {
            cluster.forget(node).map_err(|error| Unknown {
                code: match error {
                    ForgetError::Unknown { .. } => 404,
                    ForgetError::Linked { .. } => 409,
                },
                text: error.to_string(),
            })?;
            tracing::info!(%identity, node, "a node was forgotten on request");
            Ok(encode(&json!({ "forgotten": node })))
        }
        _ => {
            let text = format!(
                "unknown command \"{PREFIX}cluster.{command}\"; there are: status, join, leave, forget.<node>"
            );
            Err(Unknown { code: 404, text })
        }
    }
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

/// An answer goes to an inbox, or to subscribers.
fn deliver_answer(shared: &Shared, reply: &str, delivery: Delivery<'_>, effects: &mut Effects) {
    match shared.find_inbox(reply.as_bytes()) {
        Inbox::Gone => {}
        Inbox::Of(peer) => effects.deliver(&inbox_target(peer), delivery),
        Inbox::Elsewhere(peer) => effects.send_all(&[Send::to_inbox(peer)], delivery),
        Inbox::No => {
            let hash = shared.router.hash(reply.as_bytes());
            let route = shared.router.resolve(reply, hash);
            let choice = Choice {
                own: shared.node_hash,
                subject: reply.as_bytes(),
                reach: Reach::Everywhere,
                groups: Groups::All,
            };
            let (mut dice, mut onward) = (Dice::new(crate::chance::number()), Onward::new());
            choice.each_receiver(&route, &mut dice, &mut onward, |target| {
                effects.deliver(target, delivery);
            });
            effects.send_all(&onward, delivery);
        }
    }
}
