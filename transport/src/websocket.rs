//! WebSocket over TCP or TLS: a socket upgraded by hyper, or dialled.
//!
//! The framing is our own, because it is the broker's hot path: payload is unmasked where it was read, a batch goes
//! out in one vectored write, and an idle connection holds no buffers.

mod accept;
mod buffered;
mod deframe;
mod dial;
mod frame;
mod io;
mod recv;
mod send;
mod upgrade;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

pub(crate) use self::accept::establish;
pub(crate) use self::dial::dial;
pub use self::frame::{Header, Opcode, Violation, mask_in_place};
pub(crate) use self::io::{AnyRead, AnyWrite, ReadIo, WriteIo};
pub(crate) use self::recv::Receiver;
pub(crate) use self::send::Sender;
pub use self::upgrade::{Upgrade, UpgradeError, accept_for, origin_may_connect, upgrade};

/// The subprotocol that both ends must name.
pub const SUBPROTOCOL: &str = "dialtone.1";

/// Which end of a WebSocket this is; it decides who masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    /// A fresh key for each message of a client (RFC 6455 §10.3).
    fn new_mask(self) -> Option<[u8; 4]> {
        match self {
            Self::Client => Some(rand::random()),
            Self::Server => None,
        }
    }
}

/// Both ends over a stream on which the upgrade is done; `early` was read after it.
pub(crate) fn over(
    (read, write): (ReadIo, WriteIo),
    early: Bytes,
    role: Role,
) -> (Receiver, Arc<Mutex<Sender>>) {
    let sender = Arc::new(Mutex::new(Sender::new(write, role)));
    (
        Receiver::new(read, early, role, Arc::clone(&sender)),
        sender,
    )
}

/// The WebSocket code for a code of the application; those over 999 do not exist and become 4999.
fn close_code(code: u16) -> u16 {
    if code == 0 {
        1000
    } else {
        4000 + code.min(999)
    }
}
