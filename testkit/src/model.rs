//! A broker that is obviously right: a list of subscriptions, and `Pattern::matches` for each of them.

use std::collections::BTreeMap;

use dialtone_protocol::frame::Wanted;
use dialtone_protocol::{Pattern, Subject, SubscriptionId};

/// A peer of the model, by a number of the test's choice.
pub type PeerId = usize;

/// A subscription: whose, and its number.
pub type Receiver = (PeerId, SubscriptionId);

/// Who subscribes to what.
#[derive(Debug, Default, Clone)]
pub struct Model {
    subscriptions: Vec<(PeerId, Wanted)>,
}

/// Who must get a message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Each of these gets it once; taps are among them.
    pub each: Vec<Receiver>,
    /// One of each of these gets it.
    pub one_of: Vec<Vec<Receiver>>,
    /// What an acknowledgement says.
    pub count: u32,
}

impl Model {
    /// A subscription begins.
    pub fn subscribe(&mut self, peer: PeerId, wanted: Wanted) {
        self.subscriptions.push((peer, wanted));
    }

    /// A subscription ends; `false` when there was none.
    pub fn unsubscribe(&mut self, peer: PeerId, id: SubscriptionId) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions
            .retain(|(owner, wanted)| (*owner, wanted.id) != (peer, id));
        self.subscriptions.len() < before
    }

    /// A peer has gone.
    pub fn leave(&mut self, peer: PeerId) {
        self.subscriptions.retain(|(owner, _)| *owner != peer);
    }

    /// The numbers of a peer's subscriptions.
    pub fn held_by(&self, peer: PeerId) -> Vec<SubscriptionId> {
        let held = self
            .subscriptions
            .iter()
            .filter(|(owner, _)| *owner == peer);
        held.map(|(_, wanted)| wanted.id).collect()
    }

    /// Who must get a message to `subject`.
    ///
    /// # Panics
    /// When the subject or a pattern is not valid, which is the test's mistake.
    pub fn route(&self, subject: &str) -> Expected {
        let subject = Subject::new(subject).expect("the test publishes to valid subjects");
        let mut groups: BTreeMap<(&str, &str), Vec<Receiver>> = BTreeMap::new();
        let mut expected = Expected::default();
        for (peer, wanted) in &self.subscriptions {
            let pattern =
                Pattern::new(&wanted.pattern).expect("the test subscribes to valid patterns");
            if !pattern.matches(&subject) {
                continue;
            }
            match &wanted.group {
                Some(group) if !wanted.tap => {
                    groups
                        .entry((&wanted.pattern, group))
                        .or_default()
                        .push((*peer, wanted.id));
                }
                _ => {
                    expected.each.push((*peer, wanted.id));
                    expected.count += u32::from(!wanted.tap);
                }
            }
        }
        expected.one_of = groups.into_values().collect();
        expected.count += u32::try_from(expected.one_of.len()).unwrap_or(u32::MAX);
        expected
    }

    /// Whether somebody other than a tap subscribes to `subject`.
    pub fn is_interested(&self, subject: &str) -> bool {
        self.route(subject).count > 0
    }
}
