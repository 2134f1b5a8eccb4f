//! Which nodes there are, which of them are linked, and whom to dial. Pure: time and chance are
//! arguments, dialling is done by the caller.
//!
//! ```text
//!   seed or gossip ──▶ unlinked ◀──────── link ends ─────── linked
//!                        │  │  ───────── a link is made ──────▶ │
//!          forget_after  │  │ told that it left                 │ says that it leaves
//!                        ▼  ▼                                   │
//!                    forgotten ◀── forget_after ── left ◀───────┘
//! ```
//!
//! What is known of a node is ordered by its incarnation (a number of its run), then by whether it
//! has left, then by the revision of what it says about itself; the highest is believed. Nodes tell
//! each other of those that they are linked with, and of those that left, so that a node that is
//! gone is told of by nobody and forgotten by all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dialtone_protocol::Code;
use dialtone_protocol::frame::Refused;
use dialtone_protocol::frame::link::{NODE_ADDRESSES_MAX, NodeInfo};
use dialtone_transport::Endpoint;

use super::backoff::{Backoff, Waits};
use super::handle::ForgetError;
use super::status::{MemberState, MemberStatus, SeedStatus};

mod member;
use member::{Member, Seed, State};

/// The bounds of a [`Membership`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most nodes that are remembered, this one not counted.
    pub members_max: usize,
    /// Most seeds.
    pub seeds_max: usize,
    /// How long a node that cannot be reached, or has left, is remembered.
    pub forget_after: Duration,
    /// How often everything is told again.
    pub gossip_interval: Duration,
    /// Waits before a node is dialled again.
    pub redial: Waits,
}

/// The nodes of a cluster as one of them knows them.
#[derive(Debug)]
pub struct Membership {
    own: NodeInfo,
    bounds: Bounds,
    members: BTreeMap<String, Member>,
    seeds: Vec<Seed>,
    /// Names of nodes about whom there is something new to be told.
    news: BTreeSet<String>,
    next_gossip: Instant,
}

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialling {
    /// The node that is expected there; `None` for a seed.
    pub node: Option<String>,
    /// Where.
    pub endpoint: Endpoint,
}

/// How dialling has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialled {
    /// A link with this node was made, or there was one already.
    Node(String),
    /// This node itself answered.
    Itself,
    /// Nobody answered, or refused, for this reason.
    Failed(String),
}

impl Membership {
    /// A node that knows itself only.
    pub fn new(own: NodeInfo, bounds: Bounds, now: Instant) -> Self {
        Self {
            own,
            bounds,
            members: BTreeMap::new(),
            seeds: Vec::new(),
            news: BTreeSet::new(),
            next_gossip: now + bounds.gossip_interval,
        }
    }

    /// What the node says about itself.
    pub fn own(&self) -> &NodeInfo {
        &self.own
    }

    /// Whether the node takes part: it has not left.
    pub fn is_active(&self) -> bool {
        !self.own.left
    }

    /// The node can be reached elsewhere from now on.
    pub fn set_own_addresses(&mut self, addresses: Vec<String>, client_addresses: Vec<String>) {
        self.own.addresses = addresses;
        self.own.client_addresses = client_addresses;
        self.own.revision += 1;
        self.news.insert(self.own.name.clone());
    }

    /// Replaces the seeds; those that stay keep what is known about them.
    pub fn set_seeds(&mut self, endpoints: Vec<Endpoint>, now: Instant) {
        let mut old = std::mem::take(&mut self.seeds);
        for endpoint in endpoints {
            if self.seeds.len() >= self.bounds.seeds_max {
                break;
            }
            if self.seeds.iter().any(|seed| seed.endpoint == endpoint) {
                continue;
            }
            let known = old.iter().position(|seed| seed.endpoint == endpoint);
            let seed = match known {
                Some(at) => old.swap_remove(at),
                None => Seed::new(endpoint, now),
            };
            self.seeds.push(seed);
        }
    }

    /// Dials `endpoint` now and keeps it as a seed. A node that has left takes part again, as a new
    /// run. `time` is the time of day in milliseconds since 1970, for the new incarnation.
    pub fn join(&mut self, endpoint: Endpoint, time: u64, now: Instant) {
        if self.own.left {
            self.own.left = false;
            self.own.incarnation = time.max(self.own.incarnation.saturating_add(1));
            self.news.insert(self.own.name.clone());
            for member in self.members.values_mut() {
                member.backoff.hurry(now);
            }
        }
        match self.seeds.iter_mut().find(|seed| seed.endpoint == endpoint) {
            Some(seed) => seed.backoff.hurry(now),
            None => {
                if self.seeds.len() >= self.bounds.seeds_max {
                    self.seeds.pop();
                }
                self.seeds.push(Seed::new(endpoint, now));
            }
        }
    }

    /// The node leaves. Its links are ended by the caller.
    pub fn leave(&mut self) {
        self.own.left = true;
    }

    /// Forgets a node that is gone.
    ///
    /// # Errors
    /// When it is not known, or is linked.
    pub fn forget(&mut self, node: &str, now: Instant) -> Result<(), ForgetError> {
        let named = || node.to_owned();
        match self.members.get_mut(node) {
            None => Err(ForgetError::Unknown { node: named() }),
            Some(member) if matches!(member.state, State::Linked(_)) => {
                Err(ForgetError::Linked { node: named() })
            }
            Some(member) => {
                member.info.left = true;
                member.turn_to(State::Left, now);
                self.news.insert(named());
                Ok(())
            }
        }
    }

    /// Whether a link with the node that says this may be made.
    ///
    /// # Errors
    /// When this node has left, or that one is an earlier run, was removed, or is one too many.
    pub fn admit(&self, info: &NodeInfo) -> Result<(), Refused> {
        if self.own.left {
            let text = format!("node {} has left the cluster", self.own.name);
            return Err(Refused::new(Code::Draining, text));
        }
        let Some(member) = self.members.get(&info.name) else {
            return if self.members.len() < self.bounds.members_max {
                Ok(())
            } else {
                let text = format!(
                    "the cluster has its limit of {} nodes",
                    self.members.len() + 1
                );
                Err(Refused::new(Code::TooMany, text))
            };
        };
        // Of a run that is not linked only hearsay is left: a clock that was set back must not shut
        // a node out.
        let is_linked = matches!(member.state, State::Linked(_));
        if member.info.incarnation > info.incarnation && (is_linked || member.info.left) {
            let text = format!("another run of node {} is newer", info.name);
            return Err(Refused::new(Code::Conflict, text));
        }
        if member.info.left && member.info.incarnation == info.incarnation {
            let text = format!("node {} was removed from the cluster", info.name);
            return Err(Refused::new(Code::Conflict, text));
        }
        Ok(())
    }

    /// What a node that says this must be told to take part: a later run of it than this one is known, and has left.
    /// Its clock was set back in between. It takes a higher incarnation then, as in [`on_members`](Self::on_members).
    pub fn later_run_of(&self, info: &NodeInfo) -> Option<NodeInfo> {
        let known = &self.members.get(&info.name)?.info;
        (known.left && known.incarnation > info.incarnation).then(|| known.clone())
    }

    /// A link with this number was made with the node.
    pub fn on_linked(&mut self, info: NodeInfo, link: u64, now: Instant) {
        let name = info.name.clone();
        let is_news = match self.members.get_mut(&name) {
            Some(member) => {
                member.turn_to(State::Linked(link), now);
                member.backoff.succeeded(now);
                member.error = None;
                // What it says itself is believed, whatever others have told.
                let differs = member.info != info;
                member.info = info;
                differs
            }
            None => {
                let mut member = Member::new(info, now);
                member.turn_to(State::Linked(link), now);
                self.members.insert(name.clone(), member);
                true
            }
        };
        if is_news {
            self.news.insert(name);
        }
    }

    /// The link has ended. One that was replaced has done so before.
    pub fn on_unlinked(&mut self, node: &str, link: u64, why: Option<String>, now: Instant) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        if member.state != State::Linked(link) {
            return;
        }
        let state = if member.info.left {
            State::Left
        } else {
            State::Unlinked
        };
        member.turn_to(state, now);
        member.heard = now;
        member.error = why;
        member.backoff = Backoff::new(first_dial(&self.own, node, self.bounds.redial, now));
    }

    /// The node says that it leaves.
    pub fn on_leave(&mut self, node: &str) {
        if let Some(member) = self.members.get_mut(node)
            && !member.info.left
        {
            member.info.left = true;
            self.news.insert(node.to_owned());
        }
    }

    /// Another node tells what nodes there are. `time` is as for [`join`](Self::join).
    pub fn on_members(&mut self, told: Vec<NodeInfo>, now: Instant) {
        for info in told {
            if info.name == self.own.name {
                self.on_told_of_itself(&info);
            } else {
                self.on_told(info, now);
            }
        }
    }

    /// Somebody took this node for gone: says that it is not.
    fn on_told_of_itself(&mut self, info: &NodeInfo) {
        if info.left && !self.own.left && info.incarnation >= self.own.incarnation {
            self.own.incarnation = info.incarnation.saturating_add(1);
            self.news.insert(self.own.name.clone());
        }
    }

    fn on_told(&mut self, mut info: NodeInfo, now: Instant) {
        info.addresses.truncate(NODE_ADDRESSES_MAX);
        info.client_addresses.truncate(NODE_ADDRESSES_MAX);
        let Some(member) = self.members.get_mut(&info.name) else {
            // Of those who left only who knew them need know: else nodes would remind each other of
            // them for ever.
            if !info.left && self.members.len() < self.bounds.members_max {
                let mut member = Member::new(info, now);
                let due = first_dial(&self.own, &member.info.name, self.bounds.redial, now);
                member.backoff = Backoff::new(due);
                self.members.insert(member.info.name.clone(), member);
            }
            return;
        };
        if !info.left && info.incarnation >= member.info.incarnation {
            member.heard = now;
        }
        if !is_newer(&info, &member.info) {
            return;
        }
        member.info = info;
        match member.state {
            State::Linked(_) => {}
            State::Unlinked | State::Left if member.info.left => member.turn_to(State::Left, now),
            State::Unlinked | State::Left => {
                member.turn_to(State::Unlinked, now);
                member.backoff.hurry(now);
            }
        }
    }

    /// Dialling has ended. `jitter` is from 0 to 1. Whether it has failed for another reason than
    /// the last time.
    pub fn on_dialled(
        &mut self,
        target: &Dialling,
        end: &Dialled,
        jitter: f64,
        now: Instant,
    ) -> bool {
        let waits = self.bounds.redial;
        let (backoff, error) = if let Some(node) = &target.node {
            let Some(member) = self.members.get_mut(node) else {
                return false;
            };
            member.turn = member.turn.wrapping_add(1);
            (&mut member.backoff, &mut member.error)
        } else {
            let found = self
                .seeds
                .iter_mut()
                .find(|seed| seed.endpoint == target.endpoint);
            let Some(seed) = found else { return false };
            if let Dialled::Node(node) = end {
                seed.node = Some(node.clone());
            }
            if *end == Dialled::Itself {
                seed.node = Some(self.own.name.clone());
            }
            (&mut seed.backoff, &mut seed.error)
        };
        let before = error.clone();
        match end {
            // Who has been reached is dialled no more while it is linked. When another node than
            // the expected one has answered, that is a failure of the address.
            Dialled::Node(found) if target.node.as_ref().is_none_or(|node| node == found) => {
                *error = None;
                backoff.succeeded(now + waits.min);
            }
            Dialled::Node(found) => {
                *error = Some(format!("node {found} answers at {}", target.endpoint));
                backoff.failed(now, waits, jitter);
            }
            Dialled::Itself => {
                *error = None;
                backoff.failed(now, waits, jitter);
            }
            Dialled::Failed(why) => {
                *error = Some(why.clone());
                backoff.failed(now, waits, jitter);
            }
        }
        error.is_some() && *error != before
    }

    /// Forgets who is due to be forgotten, and says whom to dial.
    pub fn poll(&mut self, now: Instant) -> Vec<Dialling> {
        let forget_after = self.bounds.forget_after;
        self.members
            .retain(|_, member| !member.is_forgotten(forget_after, now));
        if self.own.left {
            return Vec::new();
        }
        if self.next_gossip <= now {
            self.next_gossip = now + self.bounds.gossip_interval;
            let linked = self.members.values().filter(|member| member.is_told_of());
            self.news
                .extend(linked.map(|member| member.info.name.clone()));
            self.news.insert(self.own.name.clone());
        }
        let mut diallings = Vec::new();
        for member in self.members.values_mut() {
            if member.state == State::Unlinked
                && let Some(endpoint) = member.next_address()
                && member.backoff.begin(now)
            {
                let node = Some(member.info.name.clone());
                diallings.push(Dialling { node, endpoint });
            }
        }
        for index in 0..self.seeds.len() {
            if self.needs_seed(index)
                && let Some(seed) = self.seeds.get_mut(index)
                && seed.backoff.begin(now)
            {
                let endpoint = seed.endpoint.clone();
                diallings.push(Dialling {
                    node: None,
                    endpoint,
                });
            }
        }
        diallings
    }

    /// When to call [`poll`](Self::poll) at the latest.
    pub fn next_deadline(&self, now: Instant) -> Instant {
        let forget_after = self.bounds.forget_after;
        if self.own.left {
            // Nobody is dialled or told anything.
            let forgotten = self.members.values();
            let forgotten = forgotten.filter_map(|member| member.forgotten_at(forget_after));
            return forgotten.fold(now + self.bounds.gossip_interval, Instant::min);
        }
        let members = self.members.values().filter_map(|member| {
            let forgotten = member.forgotten_at(forget_after);
            let dialled = member
                .backoff
                .due()
                .filter(|_| member.state == State::Unlinked && !member.info.addresses.is_empty());
            [forgotten, dialled].into_iter().flatten().min()
        });
        let seeds = (0..self.seeds.len()).filter(|&index| self.needs_seed(index));
        let seeds = seeds.filter_map(|index| self.seeds.get(index)?.backoff.due());
        members.chain(seeds).fold(self.next_gossip, Instant::min)
    }

    /// Whether nobody who is linked answers at a seed.
    fn needs_seed(&self, index: usize) -> bool {
        let Some(seed) = self.seeds.get(index) else {
            return false;
        };
        let url = seed.endpoint.to_string();
        if seed.node.as_deref() == Some(self.own.name.as_str()) || self.own.addresses.contains(&url)
        {
            return false;
        }
        let answers = |member: &Member| {
            let is_linked = matches!(member.state, State::Linked(_));
            let is_there = seed.node.as_ref() == Some(&member.info.name)
                || member.info.addresses.contains(&url);
            is_linked && is_there
        };
        !self.members.values().any(answers)
    }

    /// What there is new to be told to all links.
    pub fn take_news(&mut self) -> Vec<NodeInfo> {
        let names = std::mem::take(&mut self.news);
        let told = names.iter().filter_map(|name| {
            if *name == self.own.name {
                return Some(self.own.clone());
            }
            let member = self.members.get(name)?;
            member.is_told_of().then(|| member.info.clone())
        });
        told.collect()
    }

    /// What a new link is told.
    pub fn view(&self) -> Vec<NodeInfo> {
        let told = self.members.values().filter(|member| member.is_told_of());
        std::iter::once(self.own.clone())
            .chain(told.map(|member| member.info.clone()))
            .collect()
    }

    /// Where clients reach the nodes that are linked, in the order of their names.
    pub fn client_addresses(&self) -> Vec<String> {
        let linked = self
            .members
            .values()
            .filter(|member| matches!(member.state, State::Linked(_)) && !member.info.left);
        linked
            .flat_map(|member| member.info.client_addresses.iter().cloned())
            .collect()
    }

    /// The seeds, as they were given.
    pub fn seeds(&self) -> Vec<SeedStatus> {
        let seeds = self.seeds.iter().map(|seed| SeedStatus {
            url: seed.endpoint.to_string(),
            node: seed.node.clone(),
            error: seed.error.clone(),
        });
        seeds.collect()
    }

    /// All nodes, this one included, by name.
    pub fn status(&self, now: Instant) -> Vec<MemberStatus> {
        let own = MemberStatus {
            node: self.own.name.clone(),
            incarnation: self.own.incarnation,
            state: if self.own.left {
                MemberState::Left
            } else {
                MemberState::Own
            },
            addresses: self.own.addresses.clone(),
            client_addresses: self.own.client_addresses.clone(),
            since_s: 0,
            error: None,
        };
        let mut all: Vec<MemberStatus> = self
            .members
            .values()
            .map(|member| member.status(now))
            .collect();
        all.push(own);
        all.sort_by(|one, other| one.node.cmp(&other.node));
        all
    }
}

/// What is believed of two things said about a node.
fn is_newer(one: &NodeInfo, other: &NodeInfo) -> bool {
    let order = |info: &NodeInfo| (info.incarnation, info.left, info.revision);
    order(one) > order(other)
}

/// When a node that became known is dialled for the first time: of two nodes that learn of each
/// other at the same time, the one whose name is smaller begins.
fn first_dial(own: &NodeInfo, other: &str, redial: Waits, now: Instant) -> Instant {
    if own.name.as_str() < other {
        now
    } else {
        now + redial.min
    }
}
