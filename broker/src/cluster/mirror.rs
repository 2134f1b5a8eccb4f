//! What is known here of another node's interest. Pure: what changes is handed to the caller, who
//! keeps the router in step.
//!
//! Of each pattern only a hash is kept, since the router holds the rest: enough to know what a
//! snapshot changes, to compare all of it with the other end, and to withdraw it.

use dialtone_protocol::frame::link::{
    Check, DESTINATION_SETS, InterestChanges, PatternInterest, SnapshotPart,
};
use dialtone_protocol::limits::GROUP_LEN_MAX;
use dialtone_protocol::{Code, Violation, subject};
use hashbrown::HashMap;

use crate::chance::RandomState;

use super::interest::hash_of;
use super::status::InterestStatus;

/// What is known of another node's interest.
#[derive(Debug)]
pub struct Mirror {
    patterns: HashMap<Box<str>, Held, RandomState>,
    patterns_max: usize,
    hash: u64,
    state: State,
    /// Numbers snapshots, so that what is not in one is found.
    snapshot: u32,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    hash: u64,
    snapshot: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A snapshot is awaited, beginning with the part of this number.
    Awaits(u32),
    /// Everything up to this version is known.
    At(u64),
}

/// What is to be done about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing more.
    Fine,
    /// The other end must be asked for a snapshot.
    Resync,
}

impl Mirror {
    /// Of a node that has told nothing yet. `patterns_max` bounds what it may tell.
    pub fn new(patterns_max: usize) -> Self {
        Self {
            patterns: HashMap::default(),
            patterns_max,
            hash: 0,
            state: State::Awaits(0),
            snapshot: 0,
        }
    }

    /// The other node's interest has changed; `apply` gets what is different from before.
    ///
    /// # Errors
    /// When the frame says what no node may say.
    pub fn on_changes(
        &mut self,
        told: &InterestChanges,
        mut apply: impl FnMut(&PatternInterest),
    ) -> Result<Verdict, Violation> {
        match self.state {
            // Out of step already: the snapshot that was asked for holds these changes.
            State::Awaits(_) => return Ok(Verdict::Fine),
            State::At(version) if version != told.since => return Ok(self.resync()),
            State::At(_) => {}
        }
        for interest in &told.changes {
            self.apply(interest, &mut apply)?;
        }
        self.state = State::At(told.version);
        Ok(Verdict::Fine)
    }

    /// A part of all of the other node's interest; `apply` gets what is different from before. What
    /// stays as it was is not touched.
    ///
    /// # Errors
    /// When the frame says what no node may say.
    pub fn on_snapshot(
        &mut self,
        part: &SnapshotPart,
        mut apply: impl FnMut(&PatternInterest),
    ) -> Result<Verdict, Violation> {
        if part.index == 0 {
            self.snapshot = self.snapshot.wrapping_add(1);
        } else if self.state != State::Awaits(part.index) {
            return Ok(self.resync());
        }
        for interest in &part.patterns {
            self.apply(interest, &mut apply)?;
        }
        if !part.last {
            self.state = State::Awaits(part.index.wrapping_add(1));
            return Ok(Verdict::Fine);
        }
        let snapshot = self.snapshot;
        let gone = self
            .patterns
            .extract_if(|_, held| held.snapshot != snapshot);
        let mut gone: Vec<(Box<str>, Held)> = gone.collect();
        gone.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (pattern, held) in gone {
            self.hash = self.hash.wrapping_sub(held.hash);
            apply(&PatternInterest::none(pattern));
        }
        self.state = State::At(part.version);
        Ok(Verdict::Fine)
    }

    /// Compares with what the other end knows of itself.
    pub fn on_check(&mut self, check: &Check) -> Verdict {
        let same = self.hash == check.hash && self.patterns.len() as u64 == check.patterns;
        match self.state {
            State::At(version) if version == check.version && same => Verdict::Fine,
            // Who compares has told everything, so that nothing more would come.
            State::Awaits(_) | State::At(_) => self.resync(),
        }
    }

    fn resync(&mut self) -> Verdict {
        self.state = State::Awaits(0);
        Verdict::Resync
    }

    fn apply(
        &mut self,
        interest: &PatternInterest,
        apply: &mut impl FnMut(&PatternInterest),
    ) -> Result<(), Violation> {
        check(interest)?;
        let name = interest.pattern.as_str();
        if interest.is_none() {
            if let Some(held) = self.patterns.remove(name) {
                self.hash = self.hash.wrapping_sub(held.hash);
                apply(interest);
            }
            return Ok(());
        }
        let held = Held {
            hash: hash_of(interest),
            snapshot: self.snapshot,
        };
        let known = self.patterns.len();
        let old = match self.patterns.get_mut(name) {
            Some(known) => Some(std::mem::replace(known, held)),
            None if known >= self.patterns_max => {
                let text = format!("more than {} patterns of interest", self.patterns_max);
                return Err(Violation::new(Code::TooMany, text));
            }
            None => self.patterns.insert(name.into(), held),
        };
        let old = old.map_or(0, |old| old.hash);
        self.hash = self.hash.wrapping_sub(old).wrapping_add(held.hash);
        if old != held.hash {
            apply(interest);
        }
        Ok(())
    }

    /// Takes some of the patterns out, to be withdrawn; empty when none is left.
    pub fn take_some(&mut self, count: usize) -> Vec<Box<str>> {
        let names: Vec<Box<str>> = self.patterns.keys().take(count).cloned().collect();
        for name in &names {
            if let Some(held) = self.patterns.remove(name) {
                self.hash = self.hash.wrapping_sub(held.hash);
            }
        }
        names
    }

    /// For people.
    pub fn status(&self) -> InterestStatus {
        InterestStatus {
            patterns: self.patterns.len() as u64,
            version: match self.state {
                State::Awaits(_) => 0,
                State::At(version) => version,
            },
            hash: self.hash,
        }
    }
}

fn check(interest: &PatternInterest) -> Result<(), Violation> {
    subject::check_pattern(&interest.pattern)?;
    for group in &interest.groups {
        let number = group.number.0;
        if !(1..DESTINATION_SETS).contains(&number) {
            let text = format!("{number} cannot be the number of a queue group");
            return Err(Violation::new(Code::BadFrame, text));
        }
        if !(1..=GROUP_LEN_MAX).contains(&group.name.len()) {
            let text = format!("a queue group's name of {} bytes", group.name.len());
            return Err(Violation::new(Code::BadFrame, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dialtone_protocol::SubscriptionId;
    use dialtone_protocol::frame::Pick;
    use dialtone_protocol::frame::link::{GroupInterest, Link};
    use proptest::prelude::*;

    use super::super::interest::{Announced, Cursor};
    use super::*;

    /// What a step of a history does.
    #[derive(Debug, Clone)]
    enum Op {
        /// The interest in a pattern becomes this.
        Set(u8, bool, bool, Option<(u8, u32)>),
        /// The link is told up to so many frames.
        Tell(u8),
        /// Numbers of members are told.
        CatchUp,
        /// The mirrors are compared where the link knows everything.
        Check,
        /// A frame is lost, which a link never does, and a fault might.
        Lose,
        /// The mirror is disturbed, as by a fault of the program.
        Disturb(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..12_u8, any::<bool>(), any::<bool>(), proptest::option::of((0..3_u8, 1..4_u32)))
                .prop_map(|(p, plain, tap, group)| Op::Set(p, plain, tap, group)),
            3 => (1..4_u8).prop_map(Op::Tell),
            1 => Just(Op::CatchUp),
            1 => Just(Op::Check),
            1 => Just(Op::Lose),
            1 => (0..12_u8).prop_map(Op::Disturb),
        ]
    }

    fn interest(p: u8, plain: bool, tap: bool, group: Option<(u8, u32)>) -> PatternInterest {
        let groups = group.map(|(name, members)| GroupInterest {
            name: format!("g{name}"),
            pick: Pick::Any,
            number: SubscriptionId(u32::from(p) * 8 + u32::from(name) + 1),
            members,
        });
        PatternInterest {
            pattern: format!("p.{p}.*"),
            plain,
            tap,
            groups: groups.into_iter().collect(),
        }
    }

    struct Both {
        announced: Announced,
        cursor: Cursor,
        mirror: Mirror,
        /// What the callers of `update` have: the truth.
        truth: BTreeMap<String, PatternInterest>,
        /// What `apply` was told: the router's table.
        applied: BTreeMap<String, PatternInterest>,
    }

    impl Both {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is told")]
        fn hear(&mut self, told: &Link) {
            let applied = &mut self.applied;
            let apply = |interest: &PatternInterest| {
                let name = interest.pattern.clone();
                if interest.is_none() {
                    assert!(applied.remove(&name).is_some(), "removed twice: {name}");
                } else {
                    let old = applied.insert(name, interest.clone());
                    assert_ne!(old.as_ref(), Some(interest), "what stays is not touched");
                }
            };
            let verdict = match told {
                Link::Interest(changes) => self.mirror.on_changes(changes, apply),
                Link::Snapshot(part) => self.mirror.on_snapshot(part, apply),
                Link::Check(check) => Ok(self.mirror.on_check(check)),
                _ => panic!("{told:?}"),
            };
            if verdict.unwrap() == Verdict::Resync {
                self.cursor = Cursor::Start;
            }
        }

        fn tell(&mut self, frames: usize) {
            for _ in 0..frames {
                let Some(told) = self.announced.next(&mut self.cursor) else {
                    return;
                };
                self.hear(&told);
            }
        }

        fn check(&mut self) {
            if self.announced.knows_all(&self.cursor) {
                self.hear(&Link::Check(self.announced.check()));
            }
        }

        fn step(&mut self, op: &Op) {
            match *op {
                Op::Set(p, plain, tap, group) => {
                    let interest = interest(p, plain, tap, group);
                    if interest.is_none() {
                        self.truth.remove(&interest.pattern);
                    } else {
                        self.truth
                            .insert(interest.pattern.clone(), interest.clone());
                    }
                    self.announced.update(interest);
                }
                Op::Tell(frames) => self.tell(frames.into()),
                Op::CatchUp => self.catch_up(),
                Op::Check => self.check(),
                Op::Lose => drop(self.announced.next(&mut self.cursor)),
                Op::Disturb(p) => {
                    let name = format!("p.{p}.*");
                    if let Some(held) = self.mirror.patterns.get_mut(name.as_str()) {
                        self.mirror.hash = self.mirror.hash.wrapping_sub(held.hash).wrapping_add(1);
                        held.hash = 1;
                        self.applied.insert(name, interest(99, true, true, None));
                    }
                }
            }
        }

        fn catch_up(&mut self) {
            let truth = &self.truth;
            self.announced.catch_up(|pattern| {
                truth
                    .get(pattern)
                    .cloned()
                    .unwrap_or_else(|| PatternInterest::none(pattern))
            });
        }
    }

    proptest! {
        #[test]
        fn after_quiet_the_mirror_equals_the_truth(
            ops in proptest::collection::vec(op(), 0..200),
            changes_max in 1..40_usize,
        ) {
            let mut both = Both {
                announced: Announced::new(changes_max),
                cursor: Cursor::Start,
                mirror: Mirror::new(1_000),
                truth: BTreeMap::new(),
                applied: BTreeMap::new(),
            };
            for op in ops {
                both.step(&op);
            }
            both.catch_up();
            // One comparison finds whatever is wrong, and one snapshot mends it.
            both.tell(1_000);
            both.check();
            both.tell(1_000);
            prop_assert_eq!(&both.applied, &both.truth);
            prop_assert_eq!(both.mirror.status(), both.announced.status());
            both.check();
            prop_assert!(both.announced.knows_all(&both.cursor), "nothing is wrong any more");
            let mut left = both.mirror.take_some(5).len();
            loop {
                let some = both.mirror.take_some(5).len();
                left += some;
                if some == 0 {
                    break;
                }
            }
            prop_assert_eq!(left, both.truth.len());
            prop_assert_eq!(both.mirror.status().hash, 0);
        }
    }

    #[test]
    fn a_change_costs_one_part_and_a_lagging_link_a_snapshot_in_parts() {
        let mut announced = Announced::new(100);
        let pattern = |n: u32| PatternInterest {
            plain: true,
            ..PatternInterest::none(format!("a.rather.long.pattern.{n:0>40}"))
        };
        for n in 0..5_000 {
            assert!(announced.update(pattern(n)));
            assert!(!announced.update(pattern(n)), "nothing new");
        }
        let mut cursor = Cursor::default();
        let mut frames = 0;
        while let Some(told) = announced.next(&mut cursor) {
            let Link::Snapshot(part) = told else {
                panic!("the link knew nothing: {told:?}")
            };
            let len: usize = part
                .patterns
                .iter()
                .map(PatternInterest::wire_len_max)
                .sum();
            assert!(len <= 2 * super::super::interest::PART_LEN);
            frames += 1;
        }
        assert!((5..40).contains(&frames), "{frames}");
        announced.update(pattern(5_000));
        announced.update(PatternInterest::none(pattern(7).pattern));
        let Some(Link::Interest(changes)) = announced.next(&mut cursor) else {
            panic!("the link keeps up")
        };
        assert_eq!(changes.changes.len(), 2);
        assert_eq!(announced.next(&mut cursor), None);
        for n in 10_000..10_101 {
            announced.update(pattern(n));
        }
        assert!(matches!(
            announced.next(&mut cursor),
            Some(Link::Snapshot(_))
        ));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut mirror = Mirror::new(1);
        let mut snapshot = |patterns| {
            let part = SnapshotPart {
                index: 0,
                version: 1,
                last: true,
                patterns,
            };
            mirror
                .on_snapshot(&part, |_| {})
                .map_err(|violation| violation.code)
        };
        let named = |pattern: &str| PatternInterest {
            plain: true,
            ..PatternInterest::none(pattern)
        };
        assert_eq!(snapshot(vec![named("a..b")]), Err(Code::InvalidSubject));
        let mut group = interest(1, false, false, Some((1, 1)));
        group.groups[0].number = SubscriptionId(0);
        assert_eq!(snapshot(vec![group]), Err(Code::BadFrame));
        assert_eq!(snapshot(vec![named("a"), named("b")]), Err(Code::TooMany));
    }
}
