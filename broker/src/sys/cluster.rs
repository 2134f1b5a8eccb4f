//! The subjects below `sys.cluster`: what the node knows of its cluster, and what it should do in it.

use dialtone_transport::{Endpoint, EndpointError};
use serde_json::json;

use super::{PREFIX, Unknown, encode};
use crate::broker::Handle;
use crate::cluster::ForgetError;
use crate::peer::Peer;

/// Carries out a request; `command` is the subject behind `sys.cluster.`.
pub(super) fn perform(handle: &Handle, asker: &Peer, command: &str) -> Result<Vec<u8>, Unknown> {
    let Some(cluster) = handle.cluster() else {
        return error(404, "this node stands alone: it belongs to no cluster");
    };
    let identity = &asker.about.identity;
    match command.split_once('.').unwrap_or((command, "")) {
        ("" | "status", "") => Ok(encode(&cluster.status())),
        ("leave", "") => {
            tracing::info!(%identity, "leaving the cluster was requested");
            cluster.leave();
            Ok(encode(&json!({ "left": true })))
        }
        // A URL has dots of its own.
        ("join", url) => match parse(url) {
            Ok(endpoint) => {
                tracing::info!(%identity, %endpoint, "joining a node was requested");
                cluster.join(endpoint);
                Ok(encode(&json!({ "joining": url })))
            }
            Err(text) => error(422, &text),
        },
        ("forget", node) => match cluster.forget(node) {
            Ok(()) => {
                tracing::info!(%identity, node, "forgetting a node was requested");
                Ok(encode(&json!({ "forgotten": node })))
            }
            Err(refused @ ForgetError::Unknown { .. }) => error(404, &refused.to_string()),
            Err(refused @ ForgetError::Linked { .. }) => error(409, &refused.to_string()),
        },
        _ => error(
            404,
            &format!(
                "unknown command \"{PREFIX}cluster.{command}\"; there are: status, join.<url>, leave, forget.<node>"
            ),
        ),
    }
}

fn parse(url: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = url
        .parse()
        .map_err(|error: EndpointError| error.to_string())?;
    match endpoint {
        Endpoint::Ws { .. } => Err("links are encrypted; use quic:// or wss://".to_owned()),
        Endpoint::Quic { .. } | Endpoint::Wss { .. } | Endpoint::Memory(_) => Ok(endpoint),
    }
}

fn error(code: u16, text: &str) -> Result<Vec<u8>, Unknown> {
    Err(Unknown {
        code,
        text: text.to_owned(),
    })
}
