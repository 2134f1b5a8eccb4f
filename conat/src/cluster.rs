//! Where the nodes that serve Socket.IO can be reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

/// Addresses of this node and of the others; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Addresses(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    own: Vec<String>,
    others: BTreeMap<String, Other>,
}

#[derive(Debug)]
struct Other {
    addresses: Vec<String>,
    heard: Instant,
}

/// Most other nodes that are remembered.
const OTHERS_MAX: usize = 1_024;

impl Addresses {
    /// Of this node.
    pub fn set_own(&self, own: Vec<String>) {
        self.0.write().own = own;
    }

    /// Of this node.
    pub fn own(&self) -> Vec<String> {
        self.0.read().own.clone()
    }

    /// Those of this node first.
    pub fn all(&self) -> Vec<String> {
        let known = self.0.read();
        let mut all = known.own.clone();
        for address in known.others.values().flat_map(|other| &other.addresses) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }

    /// The first address of each node.
    pub fn topology(&self, own: &str) -> BTreeMap<String, String> {
        let known = self.0.read();
        let mut nodes: BTreeMap<String, String> = known
            .others
            .iter()
            .filter_map(|(id, other)| Some((id.clone(), other.addresses.first()?.clone())))
            .collect();
        if let Some(address) = known.own.first() {
            nodes.insert(own.to_owned(), address.clone());
        }
        nodes
    }

    /// Another node says where it is.
    pub fn heard(&self, id: &str, addresses: Vec<String>, now: Instant) {
        let mut known = self.0.write();
        if known.others.len() >= OTHERS_MAX && !known.others.contains_key(id) {
            return;
        }
        let other = Other {
            addresses,
            heard: now,
        };
        known.others.insert(id.to_owned(), other);
    }

    /// Forgets a node.
    pub fn forget(&self, id: &str) {
        self.0.write().others.remove(id);
    }

    /// Forgets the nodes that were not heard for so long.
    pub fn expire(&self, silent: Duration, now: Instant) {
        let keep = |other: &Other| now.saturating_duration_since(other.heard) <= silent;
        self.0.write().others.retain(|_, other| keep(other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_come_first_and_silent_nodes_are_forgotten() {
        let addresses = Addresses::default();
        let now = Instant::now();
        addresses.set_own(vec!["http://n1:1".to_owned()]);
        addresses.heard("a", vec!["http://a:1".to_owned()], now);
        let later = now + Duration::from_secs(9);
        addresses.heard("b", vec!["http://b:1".to_owned()], later);
        assert_eq!(addresses.all(), ["http://n1:1", "http://a:1", "http://b:1"]);
        addresses.expire(Duration::from_secs(8), later);
        assert_eq!(addresses.all(), ["http://n1:1", "http://b:1"]);
        let topology = addresses.topology("n1");
        assert_eq!(topology.keys().collect::<Vec<_>>(), ["b", "n1"]);
    }
}
