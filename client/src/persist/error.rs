//! What can go wrong between a program and its streams, one type per operation.

use std::time::Duration;

use super::wire::{Fault, FaultKind};
use crate::error::{EncodeError, PayloadError, RequestError};
use dialtone_protocol::Code;

/// Why a request to the service has no good answer; the operations say more where there is more to say.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The service refused, and nothing has changed.
    #[error("{0}")]
    Fault(Fault),
    /// Nobody answers for this scope.
    #[error("no persist service answers at {subject}")]
    NoService {
        /// Where one would answer.
        subject: String,
    },
    /// No answer came in time. A write may have happened.
    #[error(
        "the persist service did not answer within {limit:?}; whether it did what was asked is not known"
    )]
    TimedOut {
        /// How long was waited, repetitions included.
        limit: Duration,
    },
    /// The request could not be sent, or its answer could not come. With [`RequestError::Disconnected`] a write may
    /// have happened.
    #[error("the request to the persist service failed")]
    Request(#[source] RequestError),
    /// The request cannot be written as a message.
    #[error("the request cannot be encoded: {0}")]
    Encode(String),
    /// The answer is not one that this version can read.
    #[error("the answer of the persist service cannot be read: {0}")]
    Answer(String),
}

impl CallError {
    /// The kind of the refusal, if it is one.
    pub fn kind(&self) -> Option<FaultKind> {
        match self {
            Self::Fault(fault) => Some(fault.kind),
            Self::NoService { .. }
            | Self::TimedOut { .. }
            | Self::Request(_)
            | Self::Encode(_)
            | Self::Answer(_) => None,
        }
    }

    /// A stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Fault(fault) => Code::from_number(fault.kind.code()),
            Self::NoService { .. } => Code::NoSubscribers,
            Self::TimedOut { .. } => Code::Timeout,
            Self::Request(error) => error.code(),
            Self::Encode(_) => crate::error::BAD_CALL,
            Self::Answer(_) => Code::BadFrame,
        }
    }

    /// Whether a write may have happened all the same.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Answer(_) => true,
            Self::Request(error) => is_lost(error),
            Self::Fault(_) | Self::NoService { .. } | Self::Encode(_) => false,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fault(fault) => is_passing(fault.kind),
            Self::NoService { .. } | Self::TimedOut { .. } => true,
            Self::Request(RequestError::Withdrawn(_)) | Self::Encode(_) | Self::Answer(_) => false,
            Self::Request(error) => is_lost(error),
        }
    }
}

/// Whether the answer was lost on the way rather than never asked for.
pub(super) fn is_lost(error: &RequestError) -> bool {
    match error {
        RequestError::TimedOut(_)
        | RequestError::Disconnected
        | RequestError::Cut(_)
        | RequestError::Withdrawn(_) => true,
        RequestError::NoSubscribers { .. } | RequestError::Publish(_) => false,
    }
}

/// Whether a refusal says that the node, and not the request, is the reason.
pub(super) fn is_passing(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Moved | FaultKind::Busy | FaultKind::Unavailable
    )
}

impl From<RequestError> for CallError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoSubscribers { subject } => Self::NoService { subject },
            error @ (RequestError::TimedOut(_)
            | RequestError::Disconnected
            | RequestError::Cut(_)
            | RequestError::Withdrawn(_)
            | RequestError::Publish(_)) => Self::Request(error),
        }
    }
}

impl From<EncodeError> for CallError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(with_cause(&error))
    }
}

impl From<PayloadError> for CallError {
    fn from(error: PayloadError) -> Self {
        Self::Answer(with_cause(&error))
    }
}

/// An error that is not kept, with its cause.
pub(super) fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Why a stream was not opened or made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is not one.
    #[error("the stream's name is not valid")]
    Name(#[from] super::NameError),
    /// There is no such stream.
    #[error("there is no stream {stream}")]
    NotFound {
        /// Its name.
        stream: String,
    },
    /// It exists already, or exists with another durability.
    #[error("{text}")]
    Exists {
        /// What there is.
        text: String,
    },
    /// The service was not reached, or refused for another reason.
    #[error(transparent)]
    Call(CallError),
}

impl OpenError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some errors have a variant of their own"
    )]
    pub(super) fn of(stream: &str, error: CallError) -> Self {
        match error {
            CallError::Fault(fault) if fault.kind == FaultKind::NotFound => Self::NotFound {
                stream: stream.to_owned(),
            },
            CallError::Fault(fault) if fault.kind == FaultKind::Exists => {
                Self::Exists { text: fault.text }
            }
            error => Self::Call(error),
        }
    }
}

/// Why a record was not written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The expectation does not hold: somebody else was first.
    #[error("{text}")]
    WrongLastSequence {
        /// The number that there is, of the key or of the stream; 0 for none.
        actual: u64,
        /// The service's words.
        text: String,
    },
    /// A limit of the stream refuses the record.
    #[error("{text}")]
    Rejected {
        /// Which limit.
        text: String,
        /// When it may be accepted, if that is a matter of time.
        retry_after: Option<Duration>,
    },
    /// The service was not reached, or refused for another reason; [`CallError::is_unknown`] says whether the record
    /// may have been written.
    #[error(transparent)]
    Call(CallError),
}

impl From<Fault> for AppendError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some errors have a variant of their own"
    )]
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::WrongLastSequence => Self::WrongLastSequence {
                actual: fault.seq.unwrap_or(0),
                text: fault.text,
            },
            FaultKind::Reject => Self::Rejected {
                text: fault.text,
                retry_after: fault.retry_after.map(Duration::from_millis),
            },
            _ => Self::Call(CallError::Fault(fault)),
        }
    }
}

impl From<CallError> for AppendError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some errors have a variant of their own"
    )]
    fn from(error: CallError) -> Self {
        match error {
            CallError::Fault(fault) => fault.into(),
            error => Self::Call(error),
        }
    }
}

/// Why something was not said about a delivery.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The delivery is not pending: its deadline has passed and it was made again, or it was acknowledged already. After
    /// an outage that can also be the echo of one's own acknowledgement, whose answer was lost.
    #[error("delivery of record {seq} is not pending any more")]
    NotPending {
        /// The number of the record.
        seq: u64,
    },
    /// The service was not reached, or refused for another reason.
    #[error(transparent)]
    Call(#[from] CallError),
}
