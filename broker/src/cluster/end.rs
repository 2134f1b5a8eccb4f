//! What the rest of the broker holds of a link, beside what it holds of every peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use dialtone_transport::Lane;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::counts::Questions;
use super::election::Candidate;
use super::sets::Sets;
use super::status::InterestStatus;

/// This node's end of a link.
#[derive(Debug)]
pub(crate) struct End {
    /// The node at the other end.
    pub(crate) node: Arc<str>,
    pub(crate) role: Role,
    /// How the link came about.
    pub(crate) candidate: Candidate,
    /// Whether this node has dialled it.
    pub(crate) dialled: bool,
    /// The other node's software.
    pub(crate) server: String,
    /// What messages for several groups carry, by lane: interactive, bulk.
    sets: [Mutex<Sets>; 2],
    /// `None` when the link has ended: nobody would answer any more.
    asked: Mutex<Option<Questions>>,
    /// Whether the other end is known to have the link in place: to the dialler it has said so with
    /// its proof, to the listener with its first frame after that.
    pub(crate) mutual: AtomicBool,
    /// The link may be dead: it is to be asked at once.
    pub(crate) probe: AtomicBool,
    /// Cancelled when nothing of this link is processed any more, and its interest is gone.
    pub(crate) ended: CancellationToken,
    pub(crate) figures: Figures,
}

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// It joins two nodes of a cluster; messages go both ways.
    Member,
    /// It was dialled to reach this other cluster: messages go there.
    GatewayTo(Arc<str>),
    /// This other cluster dialled it: messages come from there.
    GatewayFrom(Arc<str>),
}

/// What can be seen of a link.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) round_trip_us: AtomicU64,
    pub(crate) control_bytes_out: AtomicU64,
    pub(crate) control_bytes_in: AtomicU64,
    pub(crate) announced_version: AtomicU64,
    pub(crate) resyncs: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) dropped_in: AtomicU64,
    pub(crate) interest: Mutex<InterestStatus>,
}

impl End {
    pub(crate) fn new(
        node: Arc<str>,
        role: Role,
        candidate: Candidate,
        dialled: bool,
        server: String,
    ) -> Self {
        Self {
            node,
            role,
            candidate,
            dialled,
            server,
            sets: [Mutex::new(Sets::new(0)), Mutex::new(Sets::new(1))],
            asked: Mutex::new(Some(Questions::default())),
            mutual: AtomicBool::new(dialled),
            probe: AtomicBool::new(false),
            ended: CancellationToken::new(),
            figures: Figures::default(),
        }
    }

    /// The sets of groups that are declared on a lane.
    pub(crate) fn sets(&self, lane: Lane) -> &Mutex<Sets> {
        match lane {
            Lane::Interactive | Lane::Control => &self.sets[0],
            Lane::Bulk => &self.sets[1],
        }
    }

    /// Notes a question for a count; `false` when the link has ended.
    pub(crate) fn ask(&self, token: u64, deadline: Instant) -> bool {
        match &mut *self.asked.lock() {
            Some(asked) => {
                asked.insert(token, deadline);
                true
            }
            None => false,
        }
    }

    /// An answer has come; whether it was awaited.
    pub(crate) fn answered(&self, token: u64) -> bool {
        let mut asked = self.asked.lock();
        asked.as_mut().is_some_and(|asked| asked.remove(token))
    }

    /// Questions whose time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u64> {
        let mut asked = self.asked.lock();
        asked
            .as_mut()
            .map(|asked| asked.overdue(now))
            .unwrap_or_default()
    }

    /// All questions, because nobody answers them any more.
    pub(crate) fn end_asking(&self) -> impl Iterator<Item = u64> + use<> {
        let asked = self.asked.lock().take().unwrap_or_default();
        asked.into_tokens()
    }
}

impl Role {
    pub(crate) fn is_member(&self) -> bool {
        *self == Self::Member
    }

    /// The other cluster, where it is another one.
    pub(crate) fn gateway(&self) -> Option<&Arc<str>> {
        match self {
            Self::Member => None,
            Self::GatewayTo(cluster) | Self::GatewayFrom(cluster) => Some(cluster),
        }
    }
}
