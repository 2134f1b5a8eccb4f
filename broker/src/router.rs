//! Who gets a message: the table of subscriptions.
//!
//! Patterns without a wildcard live in a sharded map, the others in a [`trie`]. What a subject
//! resolves to is a [`Route`], which connections keep and which says itself when it is outdated:
//! every change bumps the generation of what it can concern, so that a busy subject's route
//! survives changes elsewhere.
//!
//! Routing is defined by [`Pattern::matches`](dialtone_protocol::Pattern::matches); the property
//! test at the end of this file and the fuzz target hold the table to it.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dialtone_protocol::frame::link::PatternInterest;
use dialtone_protocol::{Pattern, subject};
use parking_lot::RwLock;
use smallvec::SmallVec;

pub mod entry;
pub mod group;
pub mod hash;
pub mod trie;

pub use entry::{Entry, Link, Member, Part, Remote, Scope, Snapshot, Target};
use entry::{GroupNumbers, Key, Linked};
use trie::Trie;

use crate::chance::RandomState;

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
    group_numbers: GroupNumbers,
}

/// What a subject resolves to.
#[derive(Debug, Clone)]
pub struct Route<P> {
    parts: SmallVec<[Part<P>; 1]>,
    /// Other nodes with plain subscribers or taps, each once; `None` when there are none. One word,
    /// because routes are kept where every byte counts.
    links: Option<Arc<Box<[Linked<P>]>>>,
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
            links: None,
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

    /// How many (pattern, group) pairs and ungrouped subscriptions there are at this node, taps
    /// excluded.
    pub fn count(&self) -> u32 {
        let of_groups = |part: &Part<P>| {
            let groups = part.groups().iter();
            groups.filter(|group| !group.members.is_empty()).count()
        };
        let counts = self
            .parts
            .iter()
            .map(|part| part.targets().len() + of_groups(part));
        u32::try_from(counts.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Other nodes with plain subscribers or taps, each once, in the order of their numbers.
    #[inline]
    pub fn links(&self) -> &[Linked<P>] {
        self.links.as_ref().map_or(&[], |links| &***links)
    }

    /// Whether nobody gets anything, here or elsewhere.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether somebody subscribes, here or elsewhere, taps aside.
    pub fn is_interested(&self) -> bool {
        let counts = |part: &Part<P>| !part.targets().is_empty() || !part.groups().is_empty();
        self.parts.iter().any(counts) || self.links().iter().any(|linked| linked.counts)
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
            group_numbers: GroupNumbers::default(),
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
            links: None,
        };
        if let Some(found) = self.literals.get(subject) {
            route.parts.extend(found.key().0.part());
        }
        if self.wildcard_count.load(Ordering::Acquire) > 0 {
            self.wildcards
                .read()
                .each_match(subject, &mut |entry| route.parts.extend(entry.part()));
        }
        route.links = distinct_links(&route.parts);
        route
    }

    /// Whether somebody subscribes to this checked subject, taps aside.
    pub fn is_interested(&self, subject: &str) -> bool {
        self.resolve(subject, self.hash(subject.as_bytes()))
            .is_interested()
    }

    /// Adds a subscription. The entry is what [`unsubscribe`](Self::unsubscribe) needs.
    pub fn subscribe(&self, pattern: &Pattern, member: Member<P>) -> Arc<Entry<P>> {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        if pattern.has_wildcard() {
            let entry = {
                let mut trie = self.wildcards.write();
                let entry = trie.entry(pattern.as_str());
                entry.add(member, &self.group_numbers);
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
        entry.add(member, &self.group_numbers);
        drop(slot);
        self.outdate_literal(pattern.as_str());
        entry
    }

    /// Removes a subscription.
    pub fn unsubscribe(&self, entry: &Entry<P>, is_it: impl Fn(&Target<P>) -> bool) {
        let name = entry.name();
        let removed = if subject::has_wildcard(name) {
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

    /// Replaces what another node asks for in a checked pattern. Interest that is none removes it.
    pub fn set_link(&self, link: &Link<P>, interest: &PatternInterest) {
        let name = interest.pattern.as_str();
        if subject::has_wildcard(name) {
            {
                let mut trie = self.wildcards.write();
                let entry = if interest.is_none() {
                    trie.get(name)
                } else {
                    Some(trie.entry(name))
                };
                let Some(entry) = entry else { return };
                entry.set_link(link, interest, &self.group_numbers);
                if entry.is_empty() {
                    trie.remove(name);
                }
                self.wildcard_count.store(trie.len(), Ordering::Release);
            }
            self.wildcard_generation.fetch_add(1, Ordering::AcqRel);
            return;
        }
        if interest.is_none() {
            let Some(found) = self.literals.get(name) else {
                return;
            };
            found.key().0.set_link(link, interest, &self.group_numbers);
            drop(found);
            self.literals.remove_if(name, |key, ()| key.0.is_empty());
        } else {
            let slot = self
                .literals
                .entry(Key(Arc::new(Entry::new(name))))
                .or_default();
            slot.key().0.set_link(link, interest, &self.group_numbers);
        }
        self.outdate_literal(name);
    }

    /// What is asked for in a checked pattern at this moment, as another node is told.
    pub fn interest(&self, pattern: &str, scope: Scope) -> PatternInterest {
        let entry = if subject::has_wildcard(pattern) {
            self.wildcards.read().get(pattern)
        } else {
            let found = self.literals.get(pattern);
            found.map(|found| Arc::clone(&found.key().0))
        };
        entry.map_or_else(
            || PatternInterest::none(pattern),
            |entry| entry.interest(scope),
        )
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

    /// Distinct patterns in the table, those of other nodes included.
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

/// A node behind several patterns gets a message once.
fn distinct_links<P: Clone>(parts: &[Part<P>]) -> Option<Arc<Box<[Linked<P>]>>> {
    if parts.iter().all(|part| part.links().is_empty()) {
        return None;
    }
    let mut links: Vec<Linked<P>> = parts.iter().flat_map(Part::links).cloned().collect();
    links.sort_by_key(|linked| (linked.link.id, !linked.counts));
    links.dedup_by_key(|linked| linked.link.id);
    Some(Arc::new(links.into_boxed_slice()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dialtone_protocol::frame::Pick;
    use dialtone_protocol::frame::link::GroupInterest;
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

    /// What another node is interested in, in any of a few patterns.
    fn told() -> impl Strategy<Value = (u64, PatternInterest)> {
        let groups = proptest::collection::btree_set(0..3_u32, 0..3);
        (1..4_u64, pattern(), any::<bool>(), any::<bool>(), groups).prop_map(
            |(link, pattern, plain, tap, groups)| {
                let group = |name: u32| GroupInterest {
                    name: format!("g{name}"),
                    pick: Pick::Any,
                    number: SubscriptionId(name + 1),
                    members: name + 1,
                };
                let interest = PatternInterest {
                    pattern: pattern.as_str().to_owned(),
                    plain,
                    tap,
                    groups: groups.into_iter().map(group).collect(),
                };
                (link, interest)
            },
        )
    }

    fn link(id: u64) -> Link<u64> {
        Link {
            id,
            peer: id,
            node: id,
            is_gateway: id == 3,
        }
    }

    type Told = BTreeMap<(u64, String), PatternInterest>;

    /// A node behind several patterns is in a route once, and the members of groups where they are.
    fn check_links(router: &Router<u64>, told: &Told, subject: &Subject) {
        let route = router.resolve(subject.as_str(), router.hash(subject.as_str().as_bytes()));
        let matching = || {
            let matches = |interest: &PatternInterest| {
                Pattern::new(&interest.pattern).unwrap().matches(subject)
            };
            told.iter().filter(move |(_, interest)| matches(interest))
        };
        let mut expected: BTreeMap<u64, bool> = BTreeMap::new();
        let mut groups: Vec<(&str, &str, u64, u32)> = Vec::new();
        for ((link, pattern), interest) in matching() {
            if interest.plain || interest.tap {
                *expected.entry(*link).or_default() |= interest.plain;
            }
            for group in &interest.groups {
                groups.push((pattern, &group.name, *link, group.members));
            }
        }
        let links = route.links().iter();
        let found: Vec<(u64, bool)> = links
            .map(|linked| (linked.link.id, linked.counts))
            .collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        let found = route.parts().iter().flat_map(Part::groups);
        let count: usize = found.map(|group| group.remotes.len()).sum();
        assert_eq!(count, groups.len());
        let counts = matching().any(|(_, interest)| interest.plain || !interest.groups.is_empty());
        assert_eq!(route.is_interested(), counts);
        assert_eq!(route.count(), 0, "nobody subscribes here");
    }

    proptest! {
        #[test]
        fn interest_of_other_nodes_is_replaced_and_withdrawn_without_a_trace(
            ops in proptest::collection::vec(told(), 0..60),
            subjects in proptest::collection::vec(subject(), 5),
        ) {
            let router = Router::<u64>::default();
            let mut told = Told::new();
            for (id, interest) in ops {
                router.set_link(&link(id), &interest);
                let key = (id, interest.pattern.clone());
                if interest.is_none() {
                    told.remove(&key);
                } else {
                    told.insert(key, interest.clone());
                }
                for subject in &subjects {
                    check_links(&router, &told, subject);
                }
                // Other clusters are told of what members ask for, and never of gateways.
                let own = told.values().filter(|known| known.pattern == interest.pattern);
                let own = router.interest(&interest.pattern, Scope::Node).is_none() && own.count() < 4;
                prop_assert!(own, "nobody subscribes here");
                let cluster = router.interest(&interest.pattern, Scope::Cluster);
                let members = (1..3).filter_map(|id| told.get(&(id, interest.pattern.clone())));
                let plain = members.clone().any(|known| known.plain);
                prop_assert_eq!(cluster.plain, plain);
                prop_assert_eq!(cluster.is_none(), members.count() == 0);
            }
            prop_assert_eq!(router.len(), 0);
            for (id, pattern) in told.into_keys() {
                router.set_link(&link(id), &PatternInterest::none(pattern));
            }
            prop_assert_eq!(router.patterns(), 0);
        }

        #[test]
        fn the_table_agrees_with_the_definition(ops in proptest::collection::vec(op(), 1..80)) {
            let router = Router::<()>::default();
            let mut held: Vec<Held> = Vec::new();
            let mut cached: BTreeMap<Subject, Option<Route<()>>> = BTreeMap::new();
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
