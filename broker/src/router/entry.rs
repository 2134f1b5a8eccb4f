//! One pattern and its subscribers.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use compact_str::CompactString;
use dialtone_protocol::SubscriptionId;
use dialtone_protocol::frame::link::{DESTINATION_SETS, GroupInterest, PatternInterest};
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
    /// Other nodes with plain subscribers or taps: each gets every message once, whatever the
    /// number of patterns and groups behind it.
    pub links: Box<[Linked<P>]>,
}

/// The way to another node.
#[derive(Debug, Clone)]
pub struct Link<P> {
    /// Names the link among all of the node, for good.
    pub id: u64,
    /// Where messages for the other node are put.
    pub peer: P,
    /// The [stable hash](super::hash::stable_hash) of the other node's name, by which all nodes
    /// choose alike.
    pub node: u64,
    /// Whether it leads to another cluster.
    pub is_gateway: bool,
}

/// Another node with plain subscribers or taps.
#[derive(Debug, Clone)]
pub struct Linked<P> {
    /// The way there.
    pub link: Link<P>,
    /// Whether it has plain subscribers, which count, and not taps alone.
    pub counts: bool,
}

/// Members of a queue group at another node.
#[derive(Debug, Clone)]
pub struct Remote<P> {
    /// The way there.
    pub link: Link<P>,
    /// The other node's number for the group.
    pub number: SubscriptionId,
    /// How many members it has there.
    pub members: u32,
}

/// Whose interest is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of the node's own subscribers.
    Node,
    /// Of the node's own subscribers and those of the other nodes of its cluster.
    Cluster,
}

/// A queue group at some moment.
#[derive(Debug, Clone)]
pub struct Group<P> {
    /// Its name.
    pub name: Box<str>,
    /// How a member is chosen.
    pub pick: Pick,
    /// The node's number for it, by which other nodes ask for one of its members.
    pub number: SubscriptionId,
    /// Those of this node.
    pub members: Vec<Target<P>>,
    /// Those of other nodes. Together with `members` never empty.
    pub remotes: Vec<Remote<P>>,
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
    links: Vec<Linked<P>>,
}

impl<P> Default for Others<P> {
    fn default() -> Self {
        Self {
            taps: Vec::new(),
            groups: Vec::new(),
            links: Vec::new(),
        }
    }
}

/// Gives numbers to queue groups. Where a number comes again after 2³¹ groups, the pattern of the
/// group still tells it from others: a number means something only for subjects that match.
#[derive(Debug, Default)]
pub(super) struct GroupNumbers(AtomicU32);

impl GroupNumbers {
    fn next(&self) -> SubscriptionId {
        let number = self.0.fetch_add(1, Ordering::Relaxed) % (DESTINATION_SETS - 1);
        SubscriptionId(number + 1)
    }
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

    pub(super) fn add(&self, member: Member<P>, numbers: &GroupNumbers) {
        let mut members = self.members.lock();
        members.snapshot = None;
        if member.group.is_none() && !member.tap {
            members.plain.push(member.target);
            return;
        }
        let others = members.others.get_or_insert_default();
        match member.group {
            Some((name, pick)) if !member.tap => {
                let group = others.group(&name, pick, numbers);
                if group.members.is_empty() {
                    // The first member at the node decides for the node.
                    group.pick = pick;
                }
                group.members.push(member.target);
            }
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
        if others.is_empty() {
            members.others = None;
        }
        removed
    }

    /// Replaces what another node asks for in this pattern, in one step.
    pub(super) fn set_link(
        &self,
        link: &Link<P>,
        interest: &PatternInterest,
        numbers: &GroupNumbers,
    ) where
        P: Clone,
    {
        let mut members = self.members.lock();
        members.snapshot = None;
        let others = members.others.get_or_insert_default();
        others.forget_link(link.id);
        if interest.plain || interest.tap {
            others.links.push(Linked {
                link: link.clone(),
                counts: interest.plain,
            });
        }
        for group in &interest.groups {
            let remote = Remote {
                link: link.clone(),
                number: group.number,
                members: group.members.max(1),
            };
            let group = others.group(&group.name, group.pick, numbers);
            group.remotes.push(remote);
        }
        others.groups.retain(|group| !group.is_empty());
        if others.is_empty() {
            members.others = None;
        }
    }

    /// What is asked for in this pattern, as another node is told. Groups are in the order of their
    /// names.
    pub fn interest(&self, scope: Scope) -> PatternInterest {
        let members = self.members.lock();
        let mut interest = PatternInterest {
            pattern: self.name.to_string(),
            plain: !members.plain.is_empty(),
            tap: false,
            groups: Vec::new(),
        };
        let Some(others) = members.others.as_deref() else {
            return interest;
        };
        interest.tap = !others.taps.is_empty();
        if scope == Scope::Cluster {
            for linked in others.links.iter().filter(|linked| !linked.link.is_gateway) {
                interest.plain |= linked.counts;
                interest.tap |= !linked.counts;
            }
        }
        let groups = others
            .groups
            .iter()
            .filter_map(|group| group.interest(scope));
        interest.groups = groups.collect();
        interest
            .groups
            .sort_unstable_by(|one, other| one.name.cmp(&other.name));
        interest
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
        let (taps, groups, links) = match self.others.as_deref() {
            Some(others) => (
                others.taps.as_slice().into(),
                others.groups.as_slice().into(),
                others.links.as_slice().into(),
            ),
            None => (Box::default(), Box::default(), Box::default()),
        };
        // Receivers with the same number follow each other, so that they can share an encoding.
        let mut targets: Box<[Target<P>]> = self.plain.as_slice().into();
        targets.sort_by_key(|target| target.subscription);
        let snapshot = Arc::new(Snapshot {
            targets,
            taps,
            groups,
            links,
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

    /// Other nodes with plain subscribers or taps.
    #[inline]
    pub fn links(&self) -> &[Linked<P>] {
        match self {
            Self::One(_) => &[],
            Self::Many(snapshot) => &snapshot.links,
        }
    }
}

impl<P> Group<P> {
    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.remotes.is_empty()
    }

    /// Whether it has members at this node or, in the scope of the cluster, at one of its others.
    fn interest(&self, scope: Scope) -> Option<GroupInterest> {
        let remotes = self
            .remotes
            .iter()
            .filter(|remote| scope == Scope::Cluster && !remote.link.is_gateway);
        let own = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let members = remotes.fold(own, |sum, remote| sum.saturating_add(remote.members));
        (members > 0).then(|| GroupInterest {
            name: self.name.to_string(),
            pick: self.pick,
            number: self.number,
            members,
        })
    }
}

impl<P> Others<P> {
    fn is_empty(&self) -> bool {
        self.taps.is_empty() && self.groups.is_empty() && self.links.is_empty()
    }

    /// The group of this name, made when it is not there.
    fn group(&mut self, name: &str, pick: Pick, numbers: &GroupNumbers) -> &mut Group<P> {
        let found = self.groups.iter().position(|group| *group.name == *name);
        let index = found.unwrap_or(self.groups.len());
        if found.is_none() {
            self.groups.push(Group {
                name: name.into(),
                pick,
                number: numbers.next(),
                members: Vec::new(),
                remotes: Vec::new(),
            });
        }
        &mut self.groups[index]
    }

    fn forget_link(&mut self, id: u64) {
        self.links.retain(|linked| linked.link.id != id);
        for group in &mut self.groups {
            group.remotes.retain(|remote| remote.link.id != id);
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
                if self.groups[index].is_empty() {
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
