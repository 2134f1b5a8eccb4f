//! Questions about interest and subscriptions, and how a refusal looks (§5, §7).

use serde::{Deserialize, Serialize};

use crate::error::{Code, shortened};
use crate::frame::Wanted;
use crate::id::RequestId;

/// A call that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Refused {
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub text: String,
}

impl Refused {
    /// A refusal with its text, shortened to [`TEXT_LEN_MAX`](crate::limits::TEXT_LEN_MAX) bytes.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: shortened(text.into()),
        }
    }
}

impl From<crate::error::Violation> for Refused {
    fn from(violation: crate::error::Violation) -> Self {
        Self {
            code: violation.code,
            text: violation.text,
        }
    }
}

/// Does anybody subscribe to this subject, taps aside?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Interest {
    /// Returned in the answer.
    pub request: RequestId,
    /// A concrete subject; needs the permission to publish to it.
    pub subject: String,
    /// How long to wait for a subscriber, in milliseconds; 0 answers at once. At most
    /// [`INTEREST_WAIT_MS_MAX`](crate::limits::INTEREST_WAIT_MS_MAX); more is taken as that.
    pub wait_ms: u32,
}

/// Whether somebody subscribes. Never says who or with which pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Interested {
    /// From the question.
    pub request: RequestId,
    /// `Ok(false)` also when the wait ended without a subscriber.
    pub answer: Result<bool, Refused>,
}

/// Which subscriptions does this connection have?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct List {
    /// Returned in the answers.
    pub request: RequestId,
}

/// A part of the list of subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Listed {
    /// From the question.
    pub request: RequestId,
    /// Some of the subscriptions.
    pub subscriptions: Vec<Wanted>,
    /// Whether another part follows.
    pub more: bool,
}

/// The answer to this question is awaited no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Cancel {
    /// Of the question.
    pub request: RequestId,
}
