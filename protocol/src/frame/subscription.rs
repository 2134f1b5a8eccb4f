//! Beginning and ending subscriptions (§4).

use serde::{Deserialize, Serialize};

use crate::error::{Code, Violation};
use crate::frame::Refused;
use crate::id::{RequestId, SubscriptionId};
use crate::limits::GROUP_LEN_MAX;
use crate::subject::check_pattern;

/// One subscription that a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Wanted {
    /// The number that deliveries will carry; not 0 and not in use.
    pub id: SubscriptionId,
    /// What the subscriber asks for.
    pub pattern: String,
    /// The queue group, of whose members one gets each message. The first member's `pick` decides
    /// for the group.
    pub group: Option<String>,
    /// How the member of the group is chosen.
    pub pick: Pick,
    /// Invisible to counts and to interest.
    pub tap: bool,
    /// When this many messages wait, the oldest is dropped and counted, instead of the connection
    /// being closed as a slow consumer. 0 turns that off.
    pub drop_oldest: u16,
}

impl Wanted {
    /// A plain subscription: no queue group, no tap, nothing dropped. The number is given by
    /// [`client::Session::add`](crate::session::client::Session::add).
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            id: SubscriptionId::INBOX,
            pattern: pattern.into(),
            group: None,
            pick: Pick::Any,
            tap: false,
            drop_oldest: 0,
        }
    }

    /// Judges what can be judged without knowing the other subscriptions of the connection.
    ///
    /// # Errors
    /// When the number is 0, the pattern is not valid, or the group is empty or longer than
    /// [`GROUP_LEN_MAX`].
    pub fn check(&self) -> Result<(), Refused> {
        if self.id == SubscriptionId::INBOX {
            return Err(Refused::new(
                Code::Conflict,
                "subscription 0 is the connection's inbox",
            ));
        }
        check_pattern(&self.pattern).map_err(Violation::from)?;
        match self.group.as_ref().map(String::len) {
            None | Some(1..=GROUP_LEN_MAX) => Ok(()),
            Some(len) => {
                let text =
                    format!("the name of a queue group has 1 to {GROUP_LEN_MAX} bytes, not {len}");
                Err(Refused::new(Code::InvalidSubject, text))
            }
        }
    }

    /// How many bytes it takes on the wire at most, so that a frame of many can be kept within its
    /// limit.
    pub fn wire_len_max(&self) -> usize {
        // Five for the number, ten for each length, and one each for the group's tag and the tap;
        // two for the pick, and three for the bound.
        const FIELDS: usize = 5 + 2 * 10 + 2 + 2 + 3;
        FIELDS + self.pattern.len() + self.group.as_ref().map_or(0, String::len)
    }
}

/// How a queue group chooses the member that gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Pick {
    /// Of two random members, the one that has less to read.
    Any,
    /// Always the same member for the same subject, as long as it is there.
    Subject,
    /// Always the same member for the same text in this segment of the subject, counted from 0.
    Segment(u8),
}

/// Begin subscriptions. They begin in order, each on its own: some may be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Subscribe {
    /// Returned in the answer.
    pub request: RequestId,
    /// At most [`SUBSCRIBE_BATCH_MAX`](crate::limits::SUBSCRIBE_BATCH_MAX).
    pub wanted: Vec<Wanted>,
}

/// Which subscriptions of a batch were refused; the others have begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Subscribed {
    /// From the question.
    pub request: RequestId,
    /// The refused ones with their reasons.
    pub refused: Vec<(SubscriptionId, Refused)>,
}

/// End subscriptions. Unknown numbers are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Unsubscribe {
    /// Returned in the answer.
    pub request: RequestId,
    /// At most [`SUBSCRIBE_BATCH_MAX`](crate::limits::SUBSCRIBE_BATCH_MAX).
    pub ids: Vec<SubscriptionId>,
}

/// The subscriptions have ended: nothing is delivered to them after this frame on its lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Unsubscribed {
    /// From the question.
    pub request: RequestId,
}

/// The broker ended a subscription, for example because a permission ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Ended {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub text: String,
}

/// Messages of a drop-oldest subscription were dropped at this point of the flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Dropped {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// How many messages since the last such frame.
    pub count: u64,
}
