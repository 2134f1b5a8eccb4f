//! The wire protocol of Dialtone, without any I/O.
//!
//! Reading order: [`subject`] says what messages are called, [`frame`] what travels on the wire,
//! [`codec`] how frames are cut out of bytes, [`session`] what each end does with them.
//! `docs/protocol.md` is the normative text; section numbers in comments refer to it.
//!
//! This crate has no clock, no socket, no randomness and no environment: time and identifiers are
//! arguments. Both ends of a connection are state machines that take frames and time and return
//! what should be done, so that they run the same under a simulator, a fuzzer and a broker.

pub mod subject;
pub use subject::{Pattern, Subject, SubjectError};

pub mod id;
pub use id::{ConnectionId, RequestId, SubscriptionId};

pub mod error;
pub use error::{Code, DecodeError, Violation};

pub mod limits;
pub use limits::Limits;

pub mod frame;
pub use frame::Frame;

pub mod codec;
pub mod fragment;
pub mod inbox;
pub mod rate;
pub mod session;

/// The newest version of the protocol that this crate speaks (§2).
pub const VERSION: u16 = 1;

/// The oldest version of the protocol that this crate still speaks (§2).
pub const VERSION_MIN: u16 = 1;

/// The ALPN name of the protocol on QUIC (§1.2).
pub const ALPN: &[u8] = b"dialtone/1";

/// The WebSocket subprotocol name (§1.1).
pub const WEBSOCKET_SUBPROTOCOL: &str = "dialtone.1";
