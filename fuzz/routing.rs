//! The table of subscriptions against the definition of routing.
//!
//! ```text
//! 0–2  flags segments   a peer subscribes; flags are group (2 bits), tap (1), pick (2), peer (3)
//! 3    n                the nth subscription ends
//! 4    n                peer n goes, and with it all its subscriptions
//! 5–7  segments         somebody publishes
//! ```
//! The low 3 bits of the first byte are the operation; the next 2 are how many segments follow it,
//! less one, a byte each.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialtone_broker::router::entry::Group;
use dialtone_broker::router::group::{self, Dice, Load};
use dialtone_broker::router::{Entry, Member, Part, Route, Router, Target};
use dialtone_protocol::frame::{Pick, Wanted};
use dialtone_protocol::{ConnectionId, Pattern, Subject, SubscriptionId};

/// Most operations of an input: the model looks at everything after each of them.
const OPS_MAX: usize = 100;

/// The member that is gone but has not been taken out of the table yet.
const CLOSED: u8 = 7;

/// Runs the input as operations on a table and compares it with a list of the subscriptions.
pub fn router(data: &[u8]) {
    let mut model = Model::default();
    let mut bytes = data.iter().copied();
    for id in 1..=OPS_MAX {
        let id = u32::try_from(id).expect("few operations");
        if model.step(id, &mut bytes).is_none() {
            break;
        }
        model.check();
    }
    for peer in 0..8 {
        model.withdraw(peer);
    }
    assert!(model.router.is_empty() && model.held.is_empty());
    assert_eq!(model.router.patterns(), 0);
    model.check();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer(u8);

impl Load for Peer {
    fn pending(&self) -> usize {
        self.0.into()
    }

    fn is_open(&self) -> bool {
        self.0 != CLOSED
    }

    fn id(&self) -> ConnectionId {
        ConnectionId(self.0.into())
    }
}

/// A subscription.
struct Held {
    peer: Peer,
    pattern: Pattern,
    wanted: Wanted,
    entry: Arc<Entry<Peer>>,
}

impl Held {
    fn group(&self) -> Option<&str> {
        self.wanted.group.as_deref()
    }

    fn is_plain(&self) -> bool {
        !self.wanted.tap && self.wanted.group.is_none()
    }
}

#[derive(Default)]
struct Model {
    router: Router<Peer>,
    held: Vec<Held>,
    routes: BTreeMap<Subject, Route<Peer>>,
}

impl Model {
    fn step(&mut self, id: u32, bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
        let op = bytes.next()?;
        let count = usize::from(op >> 3 & 3) + 1;
        match op & 7 {
            0..=2 => {
                let flags = bytes.next()?;
                let pattern = pattern(&bytes.take(count).collect::<Vec<_>>())?;
                self.subscribe(id, flags, pattern);
            }
            3 => {
                let n = usize::from(bytes.next()?);
                if !self.held.is_empty() {
                    self.unsubscribe(n % self.held.len());
                }
            }
            4 => self.withdraw(bytes.next()? & 7),
            _ => {
                let subject = subject(&bytes.take(count).collect::<Vec<_>>())?;
                self.publish(subject);
            }
        }
        Some(())
    }

    fn subscribe(&mut self, id: u32, flags: u8, pattern: Pattern) {
        let mut wanted = Wanted::new(pattern.as_str());
        wanted.id = SubscriptionId(id);
        wanted.tap = flags & 4 != 0;
        wanted.drop_oldest = id.is_multiple_of(5).into();
        // A tap is in no group, whatever it asks for.
        let group = (flags & 3 != 0).then(|| format!("g{}", flags & 3));
        let pick = match flags >> 3 & 3 {
            0 => Pick::Any,
            1 => Pick::Subject,
            segment => Pick::Segment(segment - 2),
        };
        let peer = Peer(flags >> 5);
        let target = Target {
            peer,
            subscription: wanted.id,
            drop_oldest: wanted.drop_oldest,
        };
        let member = Member {
            target,
            group: group.clone().map(|name| (name.into(), pick)),
            tap: wanted.tap,
        };
        let entry = self.router.subscribe(&pattern, member);
        if !wanted.tap && group.is_some() {
            // The first member's choice is the group's.
            let first = self
                .held
                .iter()
                .find(|held| held.pattern == pattern && held.wanted.group == group);
            wanted.pick = first.map_or(pick, |held| held.wanted.pick);
            wanted.group = group;
        }
        self.held.push(Held {
            peer,
            pattern,
            wanted,
            entry,
        });
    }

    fn unsubscribe(&mut self, index: usize) {
        let gone = self.held.remove(index);
        let is_it = |target: &Target<Peer>| target.subscription == gone.wanted.id;
        assert_eq!(gone.entry.describe(is_it).as_ref(), Some(&gone.wanted));
        self.router.unsubscribe(&gone.entry, is_it);
        assert_eq!(gone.entry.describe(is_it), None);
        // A second time changes nothing.
        self.router.unsubscribe(&gone.entry, is_it);
    }

    fn withdraw(&mut self, peer: u8) {
        let (gone, left) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| held.peer.0 == peer);
        self.held = left;
        let gone: Vec<Held> = gone;
        for held in gone {
            self.router
                .unsubscribe(&held.entry, |target| target.peer.0 == peer);
        }
    }

    /// As a connection does: takes the route that it has kept if that calls itself current.
    fn publish(&mut self, subject: Subject) {
        let hash = self.router.hash(subject.as_str().as_bytes());
        let kept = self.routes.get(&subject);
        if kept.is_none_or(|route| !self.router.is_current(route, hash)) {
            let route = self.router.resolve(subject.as_str(), hash);
            assert!(self.router.is_current(&route, hash));
            self.routes.insert(subject, route);
        }
    }

    fn check(&self) {
        assert_eq!(self.router.len(), self.held.len());
        let mut patterns: Vec<&str> = self.held.iter().map(|held| held.pattern.as_str()).collect();
        patterns.sort_unstable();
        patterns.dedup();
        let mut found = Vec::new();
        self.router
            .each_entry(|entry| found.push(entry.name().to_owned()));
        found.sort_unstable();
        assert_eq!(found, patterns);
        assert_eq!(self.router.patterns(), patterns.len());
        for (subject, route) in &self.routes {
            let hash = self.router.hash(subject.as_str().as_bytes());
            if self.router.is_current(route, hash) {
                self.check_route(subject, route);
            }
            let fresh = self.router.resolve(subject.as_str(), hash);
            self.check_route(subject, &fresh);
            let interested = self.router.is_interested(subject.as_str());
            assert_eq!(interested, fresh.count() > 0);
        }
    }

    fn check_route(&self, subject: &Subject, route: &Route<Peer>) {
        let matching: Vec<&Held> = self
            .held
            .iter()
            .filter(|held| held.pattern.matches(subject))
            .collect();
        let ids = |wants: &dyn Fn(&Held) -> bool| {
            let wanted = matching.iter().filter(|held| wants(held));
            wanted.map(|held| held.wanted.id).collect::<Vec<_>>()
        };
        let plain = ids(&Held::is_plain);
        let parts = route.parts();
        assert_eq!(
            sorted(parts.iter().flat_map(Part::targets)),
            plain,
            "{subject}"
        );
        let taps = ids(&|held| held.wanted.tap);
        assert_eq!(sorted(parts.iter().flat_map(Part::taps)), taps, "{subject}");
        let mut groups: BTreeMap<(&str, &str), Vec<SubscriptionId>> = BTreeMap::new();
        for held in &matching {
            if let Some(group) = held.group() {
                let members = groups.entry((held.pattern.as_str(), group)).or_default();
                members.push(held.wanted.id);
            }
        }
        let mut found: Vec<_> = parts
            .iter()
            .flat_map(Part::groups)
            .map(|group| self.check_group(subject, group))
            .collect();
        found.sort_unstable();
        let mut expected: Vec<_> = groups.into_values().collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{subject}");
        assert_eq!(route.count() as usize, plain.len() + found.len());
        assert_eq!(route.may_run(), found.is_empty());
    }

    /// The members of a group, of which one that is there must be chosen.
    fn check_group(&self, subject: &Subject, found: &Group<Peer>) -> Vec<SubscriptionId> {
        let members = sorted(found.members.iter());
        for id in &members {
            let held = self.held.iter().find(|held| held.wanted.id == *id);
            let held = held.expect("a member is a subscription");
            assert_eq!(held.group(), Some(&*found.name));
            assert_eq!(held.wanted.pick, found.pick);
        }
        let choose = |seed| {
            let dice = &mut Dice::new(seed);
            let chosen = group::choose_member(found, subject.as_str().as_bytes(), dice)?;
            assert!(chosen.peer.is_open() && members.contains(&chosen.subscription));
            Some(chosen.subscription)
        };
        let anybody = found.members.iter().any(|target| target.peer.is_open());
        let chosen = [choose(1), choose(u64::MAX)];
        assert!(chosen.iter().all(|chosen| chosen.is_some() == anybody));
        if found.pick != Pick::Any {
            assert_eq!(chosen[0], chosen[1], "the key decides, not the dice");
        }
        members
    }
}

fn sorted<'t>(targets: impl Iterator<Item = &'t Target<Peer>>) -> Vec<SubscriptionId> {
    let mut ids: Vec<_> = targets.map(|target| target.subscription).collect();
    ids.sort_unstable();
    ids
}

/// Few different segments, so that patterns meet subjects.
fn pattern(bytes: &[u8]) -> Option<Pattern> {
    let (last, first) = bytes.split_last()?;
    let segment = |byte: &u8| ["a", "b", "c", "ä", "*", "*", "*", "*"][usize::from(byte & 7)];
    let mut segments: Vec<&str> = first.iter().map(segment).collect();
    segments.push(if last & 7 == 7 { ">" } else { segment(last) });
    Some(Pattern::new(&segments.join(".")).expect("made of segments"))
}

fn subject(bytes: &[u8]) -> Option<Subject> {
    let segments: Vec<&str> = bytes
        .iter()
        .map(|byte| ["a", "b", "c", "ä"][usize::from(byte & 3)])
        .collect();
    let text = segments.join(".");
    (!segments.is_empty()).then(|| Subject::new(&text).expect("made of segments"))
}
