//! One pattern and its subscribers.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use compact_str::CompactString;
use dialtone_protocol::SubscriptionId;
use dialtone_protocol::frame::{Pick, Wanted};
use parking_lot::Mutex;
use smallvec::SmallVec;

/// A receiver: the peer and its number for the subscription.
#[derive(Debug, Clone)]
pub struct Target<P> {
    /// Who receives.
    pub peer: P,
    /// The number that deliveries carry.
    pub subscription: SubscriptionId,
    /// Most messages that wait before the oldest is dropped; 0 turns that off.
    pub drop_oldest: u16,
}

/// A subscription to be added.
#[derive(Debug)]
pub struct Member<P> {
    /// Who receives.
    pub target: Target<P>,
    /// The queue group and how its member is chosen.
    pub group: Option<(Box<str>, Pick)>,
    /// Invisible to counts and to interest; a tap is in no group.
    pub tap: bool,
}

/// A pattern's subscribers at some moment. Shared by all routes that contain the pattern.
#[derive(Debug)]
pub struct Snapshot<P> {
    /// Each of these gets every message and counts.
    pub targets: Box<[Target<P>]>,
    /// Each of these gets every message and does not count.
    pub taps: Box<[Target<P>]>,
    /// One member of each of these gets a message.
    pub groups: Box<[Group<P>]>,
}

/// A queue group at some moment.
#[derive(Debug, Clone)]
pub struct Group<P> {
    /// Its name.
    pub name: Box<str>,
    /// How a member is chosen.
    pub pick: Pick,
    /// Never empty.
    pub members: Vec<Target<P>>,
}

/// What a pattern contributes to a route. A single plain subscriber, by far the most frequent case,
/// needs no snapshot of its own.
#[derive(Debug, Clone)]
pub enum Part<P> {
    /// One plain subscriber.
    One(Target<P>),
    /// Any others.
    Many(Arc<Snapshot<P>>),
}

/// One pattern and its subscribers.
#[derive(Debug)]
pub struct Entry<P> {
    /// Kept inside the entry when it is short, as most are.
    name: CompactString,
    members: Mutex<Members<P>>,
}

/// Kept small, since a node may hold a million of them: most patterns have one plain subscriber.
#[derive(Debug)]
struct Members<P> {
    plain: SmallVec<[Target<P>; 1]>,
    others: Option<Box<Others<P>>>,
    /// Made when a route asks for it, so that a storm of subscriptions does not copy the list for
    /// each of them.
    snapshot: Option<Arc<Snapshot<P>>>,
}

#[derive(Debug)]
struct Others<P> {
    taps: Vec<Target<P>>,
    groups: Vec<Group<P>>,
}

impl<P> Entry<P> {
    pub(super) fn new(name: &str) -> Self {
        let members = Members {
            plain: SmallVec::new(),
            others: None,
            snapshot: None,
        };
        Self {
            name: CompactString::new(name),
            members: Mutex::new(members),
        }
    }

    /// The pattern.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_empty(&self) -> bool {
        let members = self.members.lock();
        members.plain.is_empty() && members.others.is_none()
    }

    pub(super) fn add(&self, member: Member<P>) {
        let mut members = self.members.lock();
        members.snapshot = None;
        if member.group.is_none() && !member.tap {
            members.plain.push(member.target);
            return;
        }
        let others = members.others.get_or_insert_with(|| {
            Box::new(Others {
                taps: Vec::new(),
                groups: Vec::new(),
            })
        });
        match member.group {
            Some((name, pick)) if !member.tap => others.join(name, pick, member.target),
            _ => others.taps.push(member.target),
        }
    }

    /// Removes the subscription that `is_it` recognises; whether there was one.
    pub(super) fn remove(&self, is_it: impl Fn(&Target<P>) -> bool) -> bool {
        let mut members = self.members.lock();
        members.snapshot = None;
        if let Some(index) = members.plain.iter().position(&is_it) {
            members.plain.remove(index);
            if members.plain.is_empty() {
                members.plain.shrink_to_fit();
            }
            return true;
        }
        let Some(others) = members.others.as_deref_mut() else {
            return false;
        };
        let removed = others.remove(is_it);
        if others.taps.is_empty() && others.groups.is_empty() {
            members.others = None;
        }
        removed
    }

    /// Calls `found` for every subscription, with its group and whether it is a tap.
    pub fn each_member(&self, mut found: impl FnMut(&Target<P>, Option<&str>, bool)) {
        let members = self.members.lock();
        members
            .plain
            .iter()
            .for_each(|target| found(target, None, false));
        let Some(others) = members.others.as_deref() else {
            return;
        };
        others
            .taps
            .iter()
            .for_each(|target| found(target, None, true));
        for group in &others.groups {
            group
                .members
                .iter()
                .for_each(|target| found(target, Some(&group.name), false));
        }
    }

    /// A subscription as it was asked for.
    pub fn describe(&self, is_it: impl Fn(&Target<P>) -> bool) -> Option<Wanted> {
        let members = self.members.lock();
        let wanted = |target: &Target<P>| {
            let mut wanted = Wanted::new(self.name.as_str());
            wanted.id = target.subscription;
            wanted.drop_oldest = target.drop_oldest;
            wanted
        };
        if let Some(target) = members.plain.iter().find(|target| is_it(target)) {
            return Some(wanted(target));
        }
        let others = members.others.as_deref()?;
        if let Some(target) = others.taps.iter().find(|target| is_it(target)) {
            return Some(Wanted {
                tap: true,
                ..wanted(target)
            });
        }
        others.groups.iter().find_map(|group| {
            let target = group.members.iter().find(|target| is_it(target))?;
            Some(Wanted {
                group: Some(group.name.to_string()),
                pick: group.pick,
                ..wanted(target)
            })
        })
    }
}

impl<P: Clone> Entry<P> {
    /// Who gets a message to a subject that the pattern matches; `None` when nobody does by now.
    pub(super) fn part(&self) -> Option<Part<P>> {
        let mut members = self.members.lock();
        if members.others.is_none() && members.plain.len() <= 1 {
            return members.plain.first().cloned().map(Part::One);
        }
        Some(Part::Many(members.snapshot()))
    }
}

impl<P: Clone> Members<P> {
    fn snapshot(&mut self) -> Arc<Snapshot<P>> {
        if let Some(snapshot) = &self.snapshot {
            return Arc::clone(snapshot);
        }
        let (taps, groups) = match self.others.as_deref() {
            Some(others) => (
                others.taps.as_slice().into(),
                others.groups.as_slice().into(),
            ),
            None => (Box::default(), Box::default()),
        };
        // Receivers with the same number follow each other, so that they can share an encoding.
        let mut targets: Box<[Target<P>]> = self.plain.as_slice().into();
        targets.sort_by_key(|target| target.subscription);
        let snapshot = Arc::new(Snapshot {
            targets,
            taps,
            groups,
        });
        self.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}

impl<P> Part<P> {
    /// Each of these gets every message and counts.
    #[inline]
    pub fn targets(&self) -> &[Target<P>] {
        match self {
            Self::One(target) => std::slice::from_ref(target),
            Self::Many(snapshot) => &snapshot.targets,
        }
    }

    /// Each of these gets every message and does not count.
    #[inline]
    pub fn taps(&self) -> &[Target<P>] {
        match self {
            Self::One(_) => &[],
            Self::Many(snapshot) => &snapshot.taps,
        }
    }

    /// One member of each of these gets a message.
    #[inline]
    pub fn groups(&self) -> &[Group<P>] {
        match self {
            Self::One(_) => &[],
            Self::Many(snapshot) => &snapshot.groups,
        }
    }
}

impl<P> Others<P> {
    fn join(&mut self, name: Box<str>, pick: Pick, target: Target<P>) {
        match self.groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.members.push(target),
            None => self.groups.push(Group {
                name,
                pick,
                members: vec![target],
            }),
        }
    }

    fn remove(&mut self, is_it: impl Fn(&Target<P>) -> bool) -> bool {
        if let Some(index) = self.taps.iter().position(&is_it) {
            self.taps.remove(index);
            return true;
        }
        for index in 0..self.groups.len() {
            let members = &mut self.groups[index].members;
            if let Some(found) = members.iter().position(&is_it) {
                members.remove(found);
                if members.is_empty() {
                    self.groups.remove(index);
                }
                return true;
            }
        }
        false
    }
}

/// An entry as a key of the map: found by its pattern, which is thus kept once.
#[derive(Debug)]
pub(super) struct Key<P>(pub(super) Arc<Entry<P>>);

impl<P> Borrow<str> for Key<P> {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl<P> PartialEq for Key<P> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl<P> Eq for Key<P> {}

impl<P> Hash for Key<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}
