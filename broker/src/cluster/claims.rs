//! Which nodes this one is about to have a link with, because it has dialled them and was answered.
//!
//! The same node may answer at several addresses: a seed, and those that it tells. Of the links that
//! would come of it only one is made. Two made at the same time could be seen in different orders by
//! their ends, each of which would then end what the other one keeps.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// See the module. Clones share what is claimed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<BTreeSet<String>>>);

/// The right to make a link with a node, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    node: String,
}

impl Claims {
    /// Claims a node, unless that is claimed.
    pub(crate) fn claim(&self, node: &str) -> Option<Claim> {
        self.0.lock().insert(node.to_owned()).then(|| Claim {
            claims: self.clone(),
            node: node.to_owned(),
        })
    }

    /// Whether a node is claimed.
    pub(crate) fn contains(&self, node: &str) -> bool {
        self.0.lock().contains(node)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().remove(&self.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_claimed_once_until_the_claim_is_dropped() {
        let claims = Claims::default();
        let claim = claims.claim("n1");
        assert!(claim.is_some() && claims.contains("n1"));
        assert!(claims.claim("n1").is_none());
        assert!(claims.claim("n2").is_some());
        drop(claim);
        assert!(!claims.contains("n1") && claims.claim("n1").is_some());
    }
}
