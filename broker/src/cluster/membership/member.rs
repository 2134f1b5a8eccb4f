//! What is remembered of a node and of a seed.

use std::time::{Duration, Instant};

use dialtone_protocol::frame::link::NodeInfo;
use dialtone_transport::Endpoint;

use super::super::backoff::Backoff;
use super::super::status::{MemberState, MemberStatus};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) info: NodeInfo,
    pub(super) state: State,
    pub(super) since: Instant,
    /// When somebody last told of it as being there.
    pub(super) heard: Instant,
    pub(super) backoff: Backoff,
    /// Which of its addresses is next.
    pub(super) turn: usize,
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// With the number of the link.
    Linked(u64),
    Unlinked,
    Left,
}

#[derive(Debug)]
pub(super) struct Seed {
    pub(super) endpoint: Endpoint,
    /// Who answered there last.
    pub(super) node: Option<String>,
    pub(super) backoff: Backoff,
    pub(super) error: Option<String>,
}

impl Seed {
    pub(super) fn new(endpoint: Endpoint, now: Instant) -> Self {
        Self {
            endpoint,
            node: None,
            backoff: Backoff::new(now),
            error: None,
        }
    }
}

impl Member {
    pub(super) fn new(info: NodeInfo, now: Instant) -> Self {
        Self {
            info,
            state: State::Unlinked,
            since: now,
            heard: now,
            backoff: Backoff::new(now),
            turn: 0,
            error: None,
        }
    }

    pub(super) fn turn_to(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }

    /// Others are told of those that are there, and of those that are known to be gone for good.
    pub(super) fn is_told_of(&self) -> bool {
        matches!(self.state, State::Linked(_) | State::Left)
    }

    pub(super) fn next_address(&self) -> Option<Endpoint> {
        let addresses = &self.info.addresses;
        let index = self.turn.checked_rem(addresses.len())?;
        addresses.get(index)?.parse().ok()
    }

    pub(super) fn forgotten_at(&self, forget_after: Duration) -> Option<Instant> {
        match self.state {
            State::Linked(_) => None,
            State::Unlinked => Some(self.heard.max(self.since) + forget_after),
            State::Left => Some(self.since + forget_after),
        }
    }

    pub(super) fn is_forgotten(&self, forget_after: Duration, now: Instant) -> bool {
        self.forgotten_at(forget_after).is_some_and(|at| at <= now)
    }

    pub(super) fn status(&self, now: Instant) -> MemberStatus {
        MemberStatus {
            node: self.info.name.clone(),
            incarnation: self.info.incarnation,
            state: match self.state {
                State::Linked(_) => MemberState::Linked,
                State::Unlinked => MemberState::Unlinked,
                State::Left => MemberState::Left,
            },
            addresses: self.info.addresses.clone(),
            client_addresses: self.info.client_addresses.clone(),
            since_s: now.saturating_duration_since(self.since).as_secs(),
            error: self.error.clone(),
        }
    }
}
