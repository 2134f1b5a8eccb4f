//! Sockets over subjects: messages both ways, in order and each once as long as both ends live, and requests.
//!
//! ```text
//!   S.server.status               client → any server     which server to talk to
//!   S.server.<server>.<client>    client → server         data, requests, commands
//!   S.client.<client>             server → client         data, requests, commands
//! ```
//!
//! Data is numbered in the header `CN-SocketSeq` and kept until the other end says that it has it.
//!
//! A [`Server`] accepts sockets, [`connect`] makes one. A socket survives that its client of the broker loses the
//! connection and has it again: what was written meanwhile is sent, and nothing is lost or comes twice. It does not
//! survive its other end. When that has begun anew, the socket ends, and [`connect`] makes another one, since what the
//! other end knew is gone.
//!
//! ```no_run
//! # async fn example(client: dialtone_client::Client) -> anyhow::Result<()> {
//! use dialtone_conat::socket::{self, Data, Inbound, Server};
//! use tokio_util::task::TaskTracker;
//!
//! let tasks = TaskTracker::new();
//! let options = socket::Options::default();
//! let mut server = Server::listen(&client, "room.*", "s1", options.clone(), &tasks).await?;
//! tasks.spawn(async move {
//!     while let Some(mut socket) = server.accept().await {
//!         while let Some(inbound) = socket.next().await {
//!             match inbound {
//!                 Inbound::Data(data) => drop(socket.writer().write(data).await),
//!                 Inbound::Request(request) => socket::respond(&request, Data::of(&"pong")).await,
//!             }
//!         }
//!     }
//! });
//!
//! let limit = std::time::Duration::from_secs(10);
//! let socket = socket::connect(&client, "room.a", options, limit, &tasks).await?;
//! socket.writer().write(Data::of(&[1, 2, 3])).await?;
//! let answer = socket.writer().request(Data::of(&"ping"), limit).await?;
//! assert_eq!(socket::decode::<String>(&answer), Ok("pong".to_owned()));
//! # Ok(())
//! # }
//! ```

use dialtone_client::{Encoding, Headers, Message};
use serde::Serialize;
use thiserror::Error;

mod client;
mod data;
mod link;
pub use data::{Data, Options};

mod pump;
mod server;

pub use client::{ConnectError, connect};
pub use pump::{Inbound, Socket, Writer};
pub use server::Server;

pub(crate) use pump::answer;
pub use pump::respond;

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
///
/// # Errors
/// A text that says what is wrong.
pub fn decode<T: serde::de::DeserializeOwned>(message: &Message) -> Result<T, String> {
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
    crate::session::Name::of(rand::random()).to_string()
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
