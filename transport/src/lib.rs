//! Moves bytes between two Dialtone processes, over QUIC, WebSocket or memory; both ends of each transport.
//!
//! Read [`Endpoint`] (where), [`Listener`] and [`dial()`] (how a [`Connection`] comes about), then [`Reader`] and
//! [`Writer`]. Nothing here knows what a frame is: a [`Batch`] holds whole frames as opaque bytes, and what arrives is
//! a stream of bytes per [`Lane`].
//!
//! Everything on the way of a message is a `poll_*` function, so that a broker can write to any connection from the
//! thread that has something to say, with a waker that does nothing, and leave the rest to the connection's own task.
//!
//! # Adding a transport
//! 1. A file like [`memory`] or [`quic`] with a receiver, a sender, a way to listen and a way to dial.
//! 2. A variant of [`Endpoint`] with its scheme, and of [`Kind`].
//! 3. The compiler then asks for an arm in `connection.rs`, `listen.rs` and `dial.rs`.
//! 4. A line in `tests/conformance.rs`, which says what every transport must do.

mod batch;
mod connection;
mod dial;
mod endpoint;
mod error;
mod lane;
mod listen;
pub mod memory;
pub mod quic;
pub mod stream;
pub mod tls;
pub mod websocket;

pub use self::batch::{Batch, SLICES_MAX};
pub use self::connection::{CHANNEL_BINDING_LABEL, Connection, Info, Kind, Reader, Writer};
pub use self::dial::{DialOptions, dial};
pub use self::endpoint::{ENDPOINT_LEN_MAX, Endpoint, EndpointError, PORT_QUIC, PORT_WS, PORT_WSS};
pub use self::error::{BindError, DialError, Error, HandshakeError};
pub use self::lane::Lane;
pub use self::listen::{Incoming, ListenOptions, Listener};

/// The TLS application protocol of QUIC connections.
pub const ALPN: &[u8] = b"dialtone/1";
