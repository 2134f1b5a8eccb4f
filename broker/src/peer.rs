//! What the rest of the broker holds of a connection: where to put its deliveries, and how to get
//! its attention.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use dialtone_protocol::ConnectionId;
use dialtone_protocol::frame::Close;
use dialtone_transport::Kind;
use parking_lot::Mutex;

use crate::cluster::End;
use crate::outbox::Outbox;
use crate::router::group::Load;

/// A connection as others see it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: ConnectionId,
    pub(crate) outbox: Outbox,
    pub(crate) about: Box<About>,
    pub(crate) messages_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) subscriptions: AtomicU32,
    /// What a link to another node has beside a client's connection; `None` for clients.
    pub(crate) link: Option<Box<End>>,
    orders: Mutex<Option<Order>>,
}

/// What does not change during a connection.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) identity: Arc<str>,
    pub(crate) client: String,
    /// What an inbox subject must carry beside the connection's number.
    pub(crate) inbox_secret: String,
    pub(crate) kind: Kind,
    pub(crate) encrypted: bool,
    pub(crate) remote: Option<std::net::SocketAddr>,
    pub(crate) since: Instant,
}

/// What a connection's own task is asked to do. A later order replaces an earlier one only if it
/// is more final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ask the provider again what the principal may do.
    Refresh,
    /// Write what is due, then end with this goodbye.
    Close(Close),
}

impl Peer {
    pub(crate) fn new(id: ConnectionId, about: About, outbox: Outbox) -> Self {
        Self {
            id,
            outbox,
            about: Box::new(about),
            messages_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            subscriptions: AtomicU32::new(0),
            link: None,
            orders: Mutex::new(None),
        }
    }

    /// Another node.
    pub(crate) fn node(id: ConnectionId, about: About, outbox: Outbox, end: End) -> Self {
        Self {
            link: Some(Box::new(end)),
            ..Self::new(id, about, outbox)
        }
    }

    /// Asks the connection's task to do something.
    pub(crate) fn order(&self, order: Order) {
        {
            let mut orders = self.orders.lock();
            if !matches!(*orders, Some(Order::Close(_))) {
                *orders = Some(order);
            }
        }
        self.outbox.wake_owner();
    }

    pub(crate) fn take_order(&self) -> Option<Order> {
        self.orders.lock().take()
    }

    pub(crate) fn count_in(&self, messages: u64, bytes: u64) {
        self.messages_in.fetch_add(messages, Relaxed);
        self.bytes_in.fetch_add(bytes, Relaxed);
    }
}

impl Load for Arc<Peer> {
    fn pending(&self) -> usize {
        self.outbox.pending()
    }

    fn is_open(&self) -> bool {
        self.outbox.is_open()
    }

    fn id(&self) -> ConnectionId {
        self.id
    }
}

#[cfg(test)]
impl About {
    /// About somebody of whom nothing matters.
    pub(crate) fn for_tests() -> Self {
        Self {
            identity: Arc::from("test"),
            client: String::new(),
            inbox_secret: String::new(),
            kind: Kind::Memory,
            encrypted: false,
            remote: None,
            since: Instant::now(),
        }
    }
}
