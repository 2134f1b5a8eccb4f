//! The Socket.IO connections of a node, as administrators see them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::event::Received;
use crate::patterns::Patterns;
use crate::user::User;

/// Who is connected.
#[derive(Debug, Default)]
pub struct Registry {
    members: Mutex<BTreeMap<Box<str>, Arc<Member>>>,
    patterns: Arc<Patterns>,
}

/// One connection.
#[derive(Debug)]
pub struct Member {
    id: Box<str>,
    transport_id: Box<str>,
    address: Option<IpAddr>,
    connected: SystemTime,
    began: Instant,
    /// Milliseconds after `began`.
    active: AtomicU64,
    user: Mutex<Option<User>>,
    received: Mutex<Received>,
    subscriptions: AtomicUsize,
    counters: Counters,
    kicked: AtomicBool,
    waker: AtomicWaker,
}

/// What a client has sent.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent_messages: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

impl Registry {
    /// What they subscribe to.
    pub(crate) fn patterns(&self) -> &Arc<Patterns> {
        &self.patterns
    }

    /// A connection begins.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Seat {
        let member = Arc::new(Member {
            id: new_id(),
            transport_id: new_id(),
            address,
            connected: SystemTime::now(),
            began: Instant::now(),
            active: AtomicU64::new(0),
            user: Mutex::new(None),
            received: Mutex::new(Received::default()),
            subscriptions: AtomicUsize::new(0),
            counters: Counters::default(),
            kicked: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.members
            .lock()
            .insert(member.id.clone(), Arc::clone(&member));
        Seat {
            registry: Arc::clone(self),
            member,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.lock().is_empty()
    }

    /// Puts a client out; whether there is one of that id.
    pub fn kick(&self, id: &str) -> bool {
        let member = self.members.lock().get(id).map(Arc::clone);
        let Some(member) = member else {
            return false;
        };
        member.kicked.store(true, Relaxed);
        member.waker.wake();
        true
    }

    /// What each connection does, by its id.
    pub fn stats(&self) -> Value {
        let members = self.members.lock();
        let stats = members
            .iter()
            .filter_map(|(id, member)| Some((id.to_string(), member.stats()?)));
        Value::Object(stats.collect())
    }

    /// How many connections each user has.
    pub fn usage(&self) -> Value {
        let members = self.members.lock();
        let mut per_user: BTreeMap<String, u64> = BTreeMap::new();
        let users = members
            .values()
            .filter_map(|member| member.user.lock().clone());
        for user in users {
            *per_user.entry(user.to_string()).or_default() += 1;
        }
        let total: u64 = per_user.values().sum();
        json!({ "total": total, "perUser": per_user })
    }
}

/// A connection's place in the registry, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<Registry>,
    member: Arc<Member>,
}

impl Seat {
    /// The connection.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.members.lock().remove(&self.member.id);
    }
}

impl Member {
    /// What the connection is called by administrators.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What Engine.IO calls it.
    pub fn transport_id(&self) -> &str {
        &self.transport_id
    }

    pub(crate) fn welcome(&self, user: User) {
        *self.user.lock() = Some(user);
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn set_received(&self, received: Received) {
        *self.received.lock() = received;
    }

    pub(crate) fn set_subscriptions(&self, count: usize) {
        self.subscriptions.store(count, Relaxed);
    }

    /// The client does something.
    pub(crate) fn touch(&self) {
        self.active.store(millis(self.began.elapsed()), Relaxed);
    }

    /// Whether an administrator wants the client out; the task that asks is woken when that changes.
    pub(crate) fn poll_kicked(&self, cx: &std::task::Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.kicked.load(Relaxed)
    }

    /// Nothing for one whose user is not known yet.
    fn stats(&self) -> Option<Value> {
        let user = self.user.lock().clone()?;
        let received = *self.received.lock();
        let connected = self.connected.duration_since(UNIX_EPOCH).map_or(0, millis);
        Some(json!({
            "user": user.json(),
            "send": {
                "messages": self.counters.sent_messages.load(Relaxed),
                "bytes": self.counters.sent_bytes.load(Relaxed),
            },
            "recv": { "messages": received.messages, "bytes": received.bytes },
            "subs": self.subscriptions.load(Relaxed),
            "connected": connected,
            "active": connected + self.active.load(Relaxed),
            "address": self.address.map(|address| address.to_string()),
        }))
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Twenty-four characters with 144 bits from a cryptographically secure generator.
fn new_id() -> Box<str> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut id = String::with_capacity(24);
    for _ in 0..2 {
        let bits: u128 = rand::random();
        for digit in 0..12 {
            let letter = (bits >> (6 * digit)) & 63;
            let letter = usize::try_from(letter).unwrap_or_default();
            id.push(LETTERS.get(letter).copied().map_or('A', char::from));
        }
    }
    id.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go() {
        let registry = Arc::new(Registry::default());
        let seat = registry.enter(None);
        assert_eq!(registry.stats(), json!({}));
        seat.member().welcome(User::of_identity("hub-hub"));
        let other = registry.enter(None);
        other.member().welcome(User::of_identity("hub-hub"));
        let usage = registry.usage();
        assert_eq!(
            usage,
            json!({ "total": 2, "perUser": { r#"{"hub_id":"hub"}"#: 2 } })
        );
        let stats = registry.stats();
        assert_eq!(stats[seat.member().id()]["subs"], json!(0));
        assert_ne!(seat.member().id(), other.member().id());
        drop((seat, other));
        assert!(registry.is_empty() && !registry.kick("nobody"));
    }
}
