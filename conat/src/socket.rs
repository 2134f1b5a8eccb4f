//! Sockets over subjects: messages both ways, in order and each once as long as both ends live, and requests.
//!
//! ```text
//!   S.server.status               client → any server     which server to talk to
//!   S.server.<server>.<client>    client → server         data, requests, commands
//!   S.client.<client>             server → client         data, requests, commands
//! ```
//!
//! Data is numbered in the header `CN-SocketSeq` and kept until the other end says that it has it.

use dialtone_client::{Encoding, Headers, Message};
use serde::Serialize;
use thiserror::Error;

mod client;
mod link;
mod pump;
mod server;

pub use client::{ConnectError, connect};
pub use pump::{Data, Inbound, Options, Socket, Writer};
pub use server::Server;

pub(crate) use pump::answer;

/// The header that makes a message a command.
pub const COMMAND: &str = "CN-SocketCmd";

/// The header that numbers data.
pub const SEQUENCE: &str = "CN-SocketSeq";

/// The other end has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the socket is closed")]
pub struct Closed;

/// `S.client.<client>` of `S.server.<server>.<client>`.
pub fn client_subject(server_subject: &str) -> Option<String> {
    let (rest, client) = server_subject.rsplit_once('.')?;
    let (rest, _server) = rest.rsplit_once('.')?;
    let (base, word) = rest.rsplit_once('.')?;
    (word == "server").then(|| format!("{base}.client.{client}"))
}

/// `S` of `S.server.<server>.<client>`.
pub fn base_subject(server_subject: &str) -> Option<&str> {
    let (rest, _client) = server_subject.rsplit_once('.')?;
    let (rest, _server) = rest.rsplit_once('.')?;
    rest.strip_suffix(".server")
}

/// A value as clients encode theirs.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    if let Err(error) = value.serialize(&mut writer) {
        // Only values that are no data can fail, and there are none.
        tracing::error!(%error, "a value cannot be encoded");
        return vec![0xc0];
    }
    out
}

/// What a client sends where nothing is to be said.
pub(crate) const NOTHING: &[u8] = &[0xc0];

/// Reads a payload as its encoding says.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(message: &Message) -> Result<T, String> {
    match message.encoding() {
        Encoding::Json => {
            serde_json::from_slice(message.payload()).map_err(|error| error.to_string())
        }
        Encoding::MessagePack | Encoding::Other(_) => {
            rmp_serde::from_slice(message.payload()).map_err(|error| error.to_string())
        }
    }
}

/// The headers of a message; none where they cannot be read.
pub(crate) fn headers(message: &Message) -> Headers {
    message.headers().unwrap_or_default()
}

/// Ten letters and digits that nobody guesses, with 59 bits.
pub(crate) fn random_id() -> String {
    crate::session::name(rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_follow_from_each_other() {
        let server = "persist.project-p.server.0.vTGO";
        assert_eq!(
            client_subject(server).unwrap(),
            "persist.project-p.client.vTGO"
        );
        assert_eq!(base_subject(server), Some("persist.project-p"));
        for other in ["a.b", "", "persist.x.client.0.a", "server.0.a"] {
            assert_eq!(client_subject(other), None, "{other}");
        }
    }
}
