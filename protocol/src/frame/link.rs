//! Frames that the nodes of a cluster send each other (§12).
//!
//! They travel as one kind of the [`Frame`](crate::Frame), with a number of their own behind it: a
//! link is a protocol beside that of clients, and shares with it only deliver, ping, pong and close.

use serde::{Deserialize, Serialize};

use crate::frame::Pick;
use crate::id::SubscriptionId;

/// The newest version of links that this crate speaks (§12.1).
pub const LINK_VERSION: u16 = 2;

/// The oldest version of links that this crate still speaks.
pub const LINK_VERSION_MIN: u16 = 2;

/// Most entries in one members, interest or snapshot frame.
pub const LINK_BATCH_MAX: usize = 4_096;

/// Most addresses that a node tells, of each sort.
pub const NODE_ADDRESSES_MAX: usize = 16;

/// Numbers below this name queue groups, given by the node that has them; those from here on name
/// sets of groups, declared by the sender (§12.4).
pub const DESTINATION_SETS: u32 = 1 << 31;

/// Most sets of groups that are declared at the same time on a lane of a link. The numbers of the
/// interactive lane come first, then those of the bulk lane.
pub const DESTINATION_SETS_MAX: u32 = 4_096;

/// Most groups in a set.
pub const DESTINATION_GROUPS_MAX: usize = 65_536;

/// One unit between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Link {
    /// 0: who is there; the first frame of each end.
    Hello(Box<LinkHello>),
    /// 1: the sender knows the secret, or has accepted the certificate; the second frame.
    Proof(LinkProof),
    /// 2: what nodes there are.
    Members(Vec<NodeInfo>),
    /// 3: the interest of the sender has changed.
    Interest(InterestChanges),
    /// 4: a part of all the interest of the sender.
    Snapshot(SnapshotPart),
    /// 5: what the receiver must know by now if it has understood all.
    Check(Check),
    /// 6: it does not; a snapshot is wanted.
    Resync,
    /// 7: what a destination means from here on, on this lane.
    Destination(Destination),
    /// 8: how many got the last message on this lane?
    Count(Count),
    /// 9: so many.
    Counted(Counted),
    /// 10: the sender leaves the cluster.
    Leave,
}

/// Who is at the other end of a link. Later versions append fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct LinkHello {
    /// [`MAGIC`](super::handshake::MAGIC).
    #[cfg_attr(feature = "arbitrary", arbitrary(value = super::handshake::MAGIC))]
    pub magic: [u8; 4],
    /// The oldest version that the node speaks.
    pub version_min: u16,
    /// The newest version that the node speaks.
    pub version_max: u16,
    /// The cluster that the node belongs to.
    pub cluster: String,
    /// The cluster that the dialling node means to reach; its own but for gateways.
    pub to_cluster: String,
    /// About the node.
    pub node: NodeInfo,
    /// Name and version of the node's software, for people.
    pub server: String,
    /// Chosen at random for this link.
    pub nonce: [u8; 32],
}

/// That the sender knows the secret: an HMAC over both hellos (§12.1), or nothing where
/// certificates have proved it already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct LinkProof {
    /// The HMAC-SHA256.
    pub secret: Option<[u8; 32]>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Names this run of the node: higher than that of every earlier run.
    pub incarnation: u64,
    /// Counts what the node says about itself during this run.
    pub revision: u32,
    /// It has left on purpose, or was removed.
    pub left: bool,
    /// Where other nodes reach it, most preferred first; at most [`NODE_ADDRESSES_MAX`].
    pub addresses: Vec<String>,
    /// Where clients reach it; none while it drains.
    pub client_addresses: Vec<String>,
}

/// What a node's subscribers ask for in one pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct PatternInterest {
    /// The pattern.
    pub pattern: String,
    /// Somebody subscribes in no group.
    pub plain: bool,
    /// Somebody taps.
    pub tap: bool,
    /// The queue groups with members, by name. All three empty: nobody asks for it any more.
    pub groups: Vec<GroupInterest>,
}

/// A queue group of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct GroupInterest {
    /// Its name.
    pub name: String,
    /// How its member is chosen.
    pub pick: Pick,
    /// What deliveries carry that one of its members shall get; given by the node, below
    /// [`DESTINATION_SETS`] and not 0.
    pub number: SubscriptionId,
    /// How many members it has at the node.
    pub members: u32,
}

/// Changes of a node's interest: later ones of a pattern replace earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct InterestChanges {
    /// The version that the receiver must have for these changes to make sense.
    pub since: u64,
    /// The version that it has afterwards.
    pub version: u64,
    /// At most [`LINK_BATCH_MAX`].
    pub changes: Vec<PatternInterest>,
}

/// A part of all the interest of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct SnapshotPart {
    /// 0, 1, 2, … within a snapshot.
    pub index: u32,
    /// The version that the receiver has after the last part.
    pub version: u64,
    /// No part follows: what was in none is of no interest any more.
    pub last: bool,
    /// At most [`LINK_BATCH_MAX`].
    pub patterns: Vec<PatternInterest>,
}

/// A fingerprint of a node's interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Check {
    /// The version.
    pub version: u64,
    /// The sum of the hashes of all patterns with their interest (§12.3).
    pub hash: u64,
    /// How many patterns there are.
    pub patterns: u64,
}

/// What a destination means from here on, on the lane that says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Destination {
    /// From [`DESTINATION_SETS`] on, and below that plus twice [`DESTINATION_SETS_MAX`].
    pub number: SubscriptionId,
    /// The receiver's groups of which one member each gets the message; at most
    /// [`DESTINATION_GROUPS_MAX`].
    pub groups: Vec<SubscriptionId>,
}

/// How many of the receiver's subscribers get the whole message that follows on the lane, or got a
/// fragmented one?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Count {
    /// Returned in the answer.
    pub token: u64,
    /// Asks about the fragmented message of this number, whose last fragment comes before this on
    /// the lane, and not about the whole message that follows.
    pub fragmented: Option<u64>,
}

/// The answer to a [`Count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Counted {
    /// From the question.
    pub token: u64,
    /// (pattern, group) pairs and ungrouped subscriptions, taps excluded.
    pub count: u32,
}

impl Link {
    /// The name of the kind, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "link hello",
            Self::Proof(_) => "link proof",
            Self::Members(_) => "members",
            Self::Interest(_) => "interest changes",
            Self::Snapshot(_) => "interest snapshot",
            Self::Check(_) => "interest check",
            Self::Resync => "resync",
            Self::Destination(_) => "destination",
            Self::Count(_) => "count",
            Self::Counted(_) => "counted",
            Self::Leave => "leave",
        }
    }
}

impl PatternInterest {
    /// That nobody asks for a pattern.
    pub fn none(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            plain: false,
            tap: false,
            groups: Vec::new(),
        }
    }

    /// As it is on the wire, for hashes that both ends of a link compare.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A vector has room for everything, and every field is of a kind that can be written.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Whether nobody asks for the pattern.
    pub fn is_none(&self) -> bool {
        !self.plain && !self.tap && self.groups.is_empty()
    }

    /// How many bytes it takes on the wire at most, so that a frame of many can be kept within a
    /// limit.
    pub fn wire_len_max(&self) -> usize {
        // Three lengths of five bytes at most and two flags; of each group two numbers of five, the
        // length of its name and its pick.
        let groups: usize = self.groups.iter().map(|group| group.name.len() + 17).sum();
        self.pattern.len() + groups + 17
    }
}
