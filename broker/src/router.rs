//! Who gets a message: the table of subscriptions.
//!
//! Patterns without a wildcard live in a sharded map, the others in a [`trie`]. What a subject
//! resolves to is a [`Route`], which connections keep and which says itself when it is outdated:
//! every change bumps the generation of what it can concern, so that a busy subject's route
//! survives changes elsewhere.
//!
//! Routing is defined by [`Pattern::matches`](dialtone_protocol::Pattern::matches); the property
//! test at the end of this file and the fuzz target hold the table to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use dashmap::DashMap;
use dialtone_protocol::Pattern;
use parking_lot::RwLock;
use smallvec::SmallVec;

pub mod entry;
pub mod group;
pub mod trie;

use entry::Key;
pub use entry::{Entry, Member, Part, Snapshot, Target};
use trie::Trie;

/// Literal patterns are counted in this many generations; a change outdates one of them. A power
/// of two, 8 KiB in all.
const GENERATIONS: usize = 1_024;

/// The table of subscriptions of a node, for receivers of type `P`.
#[derive(Debug)]
pub struct Router<P> {
    id: u64,
    literals: DashMap<Key<P>, (), RandomState>,
    wildcards: RwLock<Trie<P>>,
    wildcard_count: AtomicUsize,
    literal_generations: Box<[AtomicU64]>,
    wildcard_generation: AtomicU64,
    hasher: RandomState,
    subscriptions: AtomicUsize,
}

/// What a subject resolves to.
#[derive(Debug, Clone)]
pub struct Route<P> {
    parts: SmallVec<[Part<P>; 1]>,
    literal_generation: u64,
    wildcard_generation: u64,
}

impl<P> Route<P> {
    /// The receivers, one part for each pattern that matches.
    #[inline]
    pub fn parts(&self) -> &[Part<P>] {
        &self.parts
    }

    /// A route to nobody that is outdated at once.
    pub fn outdated() -> Self {
        Self {
            parts: SmallVec::new(),
            literal_generation: u64::MAX,
            wildcard_generation: u64::MAX,
        }
    }

    /// Whether messages that follow each other may be delivered together: with a queue group each
    /// message chooses its receiver.
    #[inline]
    pub fn may_run(&self) -> bool {
        self.parts.iter().all(|part| part.groups().is_empty())
    }

    /// How many (pattern, group) pairs and ungrouped subscriptions there are, taps excluded.
    pub fn count(&self) -> u32 {
        {
            let count: usize = self
                .parts
                .iter()
                .map(|part| part.targets().len() + part.groups().len())
                .sum();
            u32::try_from(count).unwrap_or(u32::MAX)
        }
    }
}

impl<P> Default for Router<P> {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            literals: DashMap::with_hasher(RandomState::new()),
            wildcards: RwLock::new(Trie::default()),
            wildcard_count: AtomicUsize::new(0),
            literal_generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            wildcard_generation: AtomicU64::new(0),
            hasher: RandomState::new(),
            subscriptions: AtomicUsize::new(0),
        }
    }
}

impl<P: Clone> Router<P> {
    /// A number that no other router of the process has; never 0.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The hash of a subject, which [`resolve`](Self::resolve) and caches of routes use.
    #[inline]
    pub fn hash(&self, subject: &[u8]) -> u64 {
        self.hasher.hash_one(subject)
    }

    /// Whether a route of a subject with this hash still holds.
    #[inline]
    pub fn is_current(&self, route: &Route<P>, hash: u64) -> bool {
        self.literal_generation(hash).load(Ordering::Acquire) == route.literal_generation
            && self.wildcard_generation.load(Ordering::Acquire) == route.wildcard_generation
    }

    /// Who gets a message to this checked subject.
    pub fn resolve(&self, subject: &str, hash: u64) -> Route<P> {
        // Generations are read first: a change in between outdates the route that is made here.
        let mut route = Route {
            literal_generation: self.literal_generation(hash).load(Ordering::Acquire),
            wildcard_generation: self.wildcard_generation.load(Ordering::Acquire),
            parts: SmallVec::new(),
        };
        if let Some(found) = self.literals.get(subject) {
            route.parts.extend(found.key().0.part());
        }
        if self.wildcard_count.load(Ordering::Acquire) > 0 {
            self.wildcards
                .read()
                .each_match(subject, &mut |entry| route.parts.extend(entry.part()));
        }
        route
    }

    /// Whether somebody subscribes to this checked subject, taps aside.
    pub fn is_interested(&self, subject: &str) -> bool {
        self.resolve(subject, self.hash(subject.as_bytes())).count() > 0
    }

    /// Adds a subscription. The entry is what [`unsubscribe`](Self::unsubscribe) needs.
    pub fn subscribe(&self, pattern: &Pattern, member: Member<P>) -> Arc<Entry<P>> {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        if pattern.has_wildcard() {
            let entry = {
                let mut trie = self.wildcards.write();
                let entry = trie.entry(pattern.as_str());
                entry.add(member);
                self.wildcard_count.store(trie.len(), Ordering::Release);
                entry
            };
            self.wildcard_generation.fetch_add(1, Ordering::AcqRel);
            return entry;
        }
        let slot = self
            .literals
            .entry(Key(Arc::new(Entry::new(pattern.as_str()))))
            .or_default();
        let entry = Arc::clone(&slot.key().0);
        entry.add(member);
        drop(slot);
        self.outdate_literal(pattern.as_str());
        entry
    }

    /// Removes a subscription.
    pub fn unsubscribe(&self, entry: &Entry<P>, is_it: impl Fn(&Target<P>) -> bool) {
        let name = entry.name();
        let removed = if dialtone_protocol::subject::has_wildcard(name) {
            let removed = {
                let mut trie = self.wildcards.write();
                let removed = entry.remove(is_it);
                if entry.is_empty() {
                    trie.remove(name);
                }
                self.wildcard_count.store(trie.len(), Ordering::Release);
                removed
            };
            self.wildcard_generation.fetch_add(1, Ordering::AcqRel);
            removed
        } else {
            let removed = entry.remove(is_it);
            self.literals.remove_if(name, |key, ()| key.0.is_empty());
            self.outdate_literal(name);
            removed
        };
        if removed {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Calls `found` for every pattern in the table, in no particular order that changes only where
    /// the table does.
    pub fn each_entry(&self, mut found: impl FnMut(&Arc<Entry<P>>)) {
        for item in &self.literals {
            found(&item.key().0);
        }
        self.wildcards.read().each(&mut found);
    }

    /// Subscriptions in the table.
    pub fn len(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Distinct patterns in the table.
    pub fn patterns(&self) -> usize {
        self.literals.len() + self.wildcard_count.load(Ordering::Relaxed)
    }

    fn outdate_literal(&self, subject: &str) {
        self.literal_generation(self.hash(subject.as_bytes()))
            .fetch_add(1, Ordering::AcqRel);
    }

    #[inline]
    fn literal_generation(&self, hash: u64) -> &AtomicU64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only the low bits choose the generation"
        )]
        let index = hash as usize % GENERATIONS;
        &self.literal_generations[index]
    }
}

#[cfg(test)]
mod tests {
    use dialtone_protocol::frame::Pick;
    use dialtone_protocol::{Subject, SubscriptionId};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Subscribe(Pattern, Option<u8>, bool),
        Unsubscribe(usize),
        Publish(Subject),
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let segment = prop_oneof![3 => "[abc]", 1 => Just("*".to_owned())];
        (proptest::collection::vec(segment, 1..4), any::<bool>()).prop_map(
            |(mut segments, tail)| {
                if tail {
                    segments.push(">".to_owned());
                }
                Pattern::new(&segments.join(".")).unwrap()
            },
        )
    }

    fn subject() -> impl Strategy<Value = Subject> {
        proptest::collection::vec("[abc]", 1..5)
            .prop_map(|segments| Subject::new(&segments.join(".")).unwrap())
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (pattern(), proptest::option::of(0..2_u8), any::<bool>())
                .prop_map(|(pattern, group, tap)| Op::Subscribe(pattern, group, tap)),
            2 => any::<usize>().prop_map(Op::Unsubscribe),
            5 => subject().prop_map(Op::Publish),
        ]
    }

    /// One subscription of the obvious model.
    struct Held {
        id: u32,
        pattern: Pattern,
        group: Option<String>,
        tap: bool,
        entry: Arc<Entry<()>>,
    }

    fn check_publish(
        router: &Router<()>,
        held: &[Held],
        subject: &Subject,
        cached: &mut Option<Route<()>>,
    ) {
        let hash = router.hash(subject.as_str().as_bytes());
        let fresh = router.resolve(subject.as_str(), hash);
        // A cached route that calls itself current must say the same as a fresh one.
        let route = match cached.take() {
            Some(route) if router.is_current(&route, hash) => route,
            _ => fresh,
        };
        let matching = || held.iter().filter(|h| h.pattern.matches(subject));
        let mut plain: Vec<u32> = matching()
            .filter(|h| h.group.is_none() || h.tap)
            .map(|h| h.id)
            .collect();
        let mut found: Vec<u32> = Vec::new();
        let mut groups = 0;
        for part in &route.parts {
            found.extend(
                part.targets()
                    .iter()
                    .chain(part.taps())
                    .map(|t| t.subscription.0),
            );
            for group in part.groups() {
                groups += 1;
                for member in &group.members {
                    let h = matching().find(|h| h.id == member.subscription.0).unwrap();
                    assert_eq!(h.group.as_deref(), Some(&*group.name));
                }
            }
        }
        plain.sort_unstable();
        found.sort_unstable();
        assert_eq!(plain, found);
        let mut pairs: Vec<_> = matching()
            .filter(|h| !h.tap)
            .filter_map(|h| h.group.as_deref().map(|group| (h.pattern.as_str(), group)))
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        assert_eq!(pairs.len(), groups);
        let ungrouped = matching().filter(|h| h.group.is_none() && !h.tap).count();
        assert_eq!(route.count() as usize, pairs.len() + ungrouped);
        *cached = Some(route);
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_the_definition(ops in proptest::collection::vec(op(), 1..80)) {
            let router = Router::<()>::default();
            let mut held: Vec<Held> = Vec::new();
            let mut cached: std::collections::BTreeMap<Subject, Option<Route<()>>> = std::collections::BTreeMap::new();
            for (id, op) in (1..).zip(ops) {
                match op {
                    Op::Subscribe(pattern, group, tap) => {
                        let group = group.map(|g| g.to_string());
                        let member = Member {
                            target: Target { peer: (), subscription: SubscriptionId(id), drop_oldest: 0 },
                            group: group.clone().map(|g| (g.into(), Pick::Any)),
                            tap,
                        };
                        let entry = router.subscribe(&pattern, member);
                        held.push(Held { id, pattern, group, tap, entry });
                    }
                    Op::Unsubscribe(index) if !held.is_empty() => {
                        let gone = held.swap_remove(index % held.len());
                        router.unsubscribe(&gone.entry, |t| t.subscription.0 == gone.id);
                    }
                    Op::Unsubscribe(_) => {}
                    Op::Publish(subject) => {
                        let cached = cached.entry(subject.clone()).or_default();
                        check_publish(&router, &held, &subject, cached);
                    }
                }
                prop_assert_eq!(router.len(), held.len());
            }
            for gone in held.drain(..) {
                router.unsubscribe(&gone.entry, |t| t.subscription.0 == gone.id);
            }
            prop_assert_eq!((router.len(), router.patterns()), (0, 0));
        }
    }
}
