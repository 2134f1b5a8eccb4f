//! What can go wrong, one type per operation, each with a stable code.

use std::sync::Arc;
use std::time::Duration;

use dialtone_protocol::frame::{Close, Refused};
use dialtone_protocol::{Code, SubjectError, Violation};
use dialtone_transport::{DialError, Endpoint, EndpointError};

/// No address could be reached.
pub const UNREACHABLE: Code = Code::Other(590);
/// The connection was lost while an answer was awaited.
pub const DISCONNECTED: Code = Code::Other(591);
/// The client was closed.
pub const CLOSED: Code = Code::Other(592);
/// The caller asked for something that makes no sense.
pub const BAD_CALL: Code = Code::Other(593);

/// Why there is no connection: it could not be made, or it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address was given.
    #[error("no address to connect to was given")]
    NoAddress,
    /// An address that cannot be understood.
    #[error("address {url:?} is not valid")]
    BadAddress {
        /// What was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: EndpointError,
    },
    /// There is no runtime to run the client on.
    #[error("connect was called outside of a tokio runtime, and no runtime was given")]
    NoRuntime,
    /// The transport did not come about.
    #[error("cannot connect to {endpoint}")]
    Unreachable {
        /// What was dialled.
        endpoint: Endpoint,
        /// Why it failed.
        #[source]
        source: Box<DialError>,
    },
    /// The handshake took too long.
    #[error("{endpoint} did not answer the handshake within {limit:?}")]
    TimedOut {
        /// What was dialled.
        endpoint: Endpoint,
        /// How long was waited.
        limit: Duration,
    },
    /// The transport failed.
    #[error("connection to {endpoint} failed")]
    Transport {
        /// Where the connection went.
        endpoint: Endpoint,
        /// Why it failed.
        #[source]
        source: dialtone_transport::Error,
    },
    /// The connection ended without a word of the broker.
    #[error("connection to {endpoint} ended")]
    Ended {
        /// Where the connection went.
        endpoint: Endpoint,
    },
    /// The broker broke the rules of the protocol, or was silent for too long.
    #[error("broker at {endpoint} broke the protocol")]
    Violation {
        /// Where the connection went.
        endpoint: Endpoint,
        /// What it did.
        #[source]
        source: Violation,
    },
    /// The broker said why it ends the connection.
    #[error("{endpoint} closed the connection: {}", both(*code, text))]
    Refused {
        /// Where the connection went.
        endpoint: Endpoint,
        /// The broker's code.
        code: Code,
        /// The broker's words.
        text: String,
    },
}

impl ConnectError {
    pub(crate) fn refused(endpoint: &Endpoint, close: Close) -> Self {
        Self::Refused {
            endpoint: endpoint.clone(),
            code: close.code,
            text: close.text,
        }
    }

    /// What the broker said about the end of the connection, if it did.
    pub(crate) fn refusal(&self) -> Option<Refused> {
        match self {
            Self::Refused { code, text, .. } => Some(Refused::new(*code, text.clone())),
            Self::NoAddress
            | Self::BadAddress { .. }
            | Self::NoRuntime
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Transport { .. }
            | Self::Ended { .. }
            | Self::Violation { .. } => None,
        }
    }

    /// A stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NoAddress | Self::BadAddress { .. } | Self::NoRuntime => BAD_CALL,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::TimedOut { .. } => Code::Timeout,
            Self::Transport { .. } | Self::Ended { .. } => DISCONNECTED,
            Self::Violation { source, .. } => source.code,
            Self::Refused { code, .. } => *code,
        }
    }

    /// Whether trying again cannot help: the credentials or the version of the protocol are not accepted.
    pub fn is_final(&self) -> bool {
        let code = self.code();
        code == BAD_CALL || code == Code::Unauthenticated || code == Code::UnsupportedVersion
    }
}

/// Why a client has ended for good.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Its owner closed or drained it.
    #[error("the client was closed")]
    Closed,
    /// Its last handle was dropped.
    #[error("the last handle of the client was dropped")]
    Dropped,
    /// The broker refuses the client, and trying again cannot help.
    #[error("the broker refuses the client")]
    Refused(#[source] Arc<ConnectError>),
    /// As many attempts as were allowed have failed.
    #[error("gave up after {attempts} attempts")]
    GaveUp {
        /// How many attempts were made.
        attempts: u32,
        /// Why the last one failed.
        #[source]
        last: Arc<ConnectError>,
    },
}

impl Reason {
    /// A stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Closed | Self::Dropped => CLOSED,
            Self::Refused(error) | Self::GaveUp { last: error, .. } => error.code(),
        }
    }
}

/// Why a message was not published.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Not a concrete subject.
    #[error("cannot publish to this subject")]
    Subject(#[from] SubjectError),
    /// The payload or the headers are larger than the broker accepts.
    #[error("{what} of {len} bytes is larger than the limit of {max}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The outgoing queue is full; said by `try_publish` alone.
    #[error("the outgoing queue is full")]
    Full,
    /// The broker refused the message.
    #[error("the broker refused the message: {}", said(.0))]
    Refused(Refused),
    /// The connection was lost before the acknowledgement came; the message may have been delivered.
    #[error("the connection was lost before the message was acknowledged")]
    Disconnected,
    /// The broker closed the connection and said why; as with a lost one, it may have been carried out.
    #[error("the broker closed the connection: {}", said(.0))]
    Cut(Refused),
    /// No acknowledgement came in time.
    #[error("the message was not acknowledged within {0:?}")]
    TimedOut(Duration),
    /// The client has ended.
    #[error("the client has ended")]
    Closed(#[source] Reason),
}

impl PublishError {
    /// A stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Subject(_) => Code::InvalidSubject,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Full => Code::TooMany,
            Self::Refused(refused) => refused.code,
            Self::Disconnected => DISCONNECTED,
            Self::Cut(why) => why.code,
            Self::TimedOut(_) => Code::Timeout,
            Self::Closed(reason) => reason.code(),
        }
    }
}

/// Why a subscription did not begin.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Not a pattern.
    #[error("cannot subscribe to this pattern")]
    Pattern(#[from] SubjectError),
    /// The principal may not subscribe to it.
    #[error("the broker refused the subscription: {0}")]
    Denied(String),
    /// A limit on subscriptions was reached.
    #[error("subscription is one too many: {0}")]
    TooMany(String),
    /// The broker refused it for another reason.
    #[error("the broker refused the subscription: {}", said(.0))]
    Refused(Refused),
    /// The client has ended.
    #[error("the client has ended")]
    Closed(#[source] Reason),
}

impl SubscribeError {
    /// A stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Pattern(_) => Code::InvalidSubject,
            Self::Denied(_) => Code::Denied,
            Self::TooMany(_) => Code::TooMany,
            Self::Refused(refused) => refused.code,
            Self::Closed(reason) => reason.code(),
        }
    }
}

impl From<Refused> for SubscribeError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some codes have a variant of their own"
    )]
    fn from(refused: Refused) -> Self {
        match refused.code {
            Code::Denied => Self::Denied(refused.text),
            Code::TooMany => Self::TooMany(refused.text),
            _ => Self::Refused(refused),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody subscribes to the subject.
    #[error("nobody subscribes to {subject}")]
    NoSubscribers {
        /// The subject.
        subject: String,
    },
    /// No answer came in time.
    #[error("no answer came within {0:?}")]
    TimedOut(Duration),
    /// The connection was lost, and with it the place where the answer would have come; it may have been carried out.
    #[error("the connection was lost before the answer came")]
    Disconnected,
    /// The broker closed the connection and said why; as with a lost one, it may have been carried out.
    #[error("the broker closed the connection: {}", said(.0))]
    Cut(Refused),
    /// The permission to ask there was withdrawn while an answer was waited for; it may have been carried out before.
    #[error("the permission to ask was withdrawn before the answer came: {}", said(.0))]
    Withdrawn(Refused),
    /// The request could not be sent.
    #[error("the request was not sent")]
    Publish(#[from] PublishError),
}

impl RequestError {
    /// A stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::NoSubscribers { .. } => Code::NoSubscribers,
            Self::TimedOut(_) => Code::Timeout,
            Self::Disconnected => DISCONNECTED,
            Self::Cut(why) | Self::Withdrawn(why) => why.code,
            Self::Publish(error) => error.code(),
        }
    }
}

/// Why the broker did not answer a question.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Not a concrete subject.
    #[error("cannot ask about this subject")]
    Subject(#[from] SubjectError),
    /// The broker refused to answer.
    #[error("the broker refused to answer: {}", said(.0))]
    Refused(Refused),
    /// The connection was lost before the answer came.
    #[error("the connection was lost before the answer came")]
    Disconnected,
    /// The broker closed the connection and said why; as with a lost one, it may have been carried out.
    #[error("the broker closed the connection: {}", said(.0))]
    Cut(Refused),
    /// No answer came in time.
    #[error("no answer came within {0:?}")]
    TimedOut(Duration),
    /// The client has ended.
    #[error("the client has ended")]
    Closed(#[source] Reason),
}

impl AskError {
    /// A stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Subject(_) => Code::InvalidSubject,
            Self::Refused(refused) => refused.code,
            Self::Disconnected => DISCONNECTED,
            Self::Cut(why) => why.code,
            Self::TimedOut(_) => Code::Timeout,
            Self::Closed(reason) => reason.code(),
        }
    }
}

/// Why a message was not answered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RespondError {
    /// The message names no subject for an answer.
    #[error("the message does not ask for an answer")]
    NotARequest,
    /// The answer could not be sent.
    #[error("the answer was not sent")]
    Publish(#[from] PublishError),
}

/// Why a payload could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Not the JSON that was expected.
    #[error("payload is not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// Not the `MessagePack` that was expected.
    #[error("payload is not the expected MessagePack")]
    MessagePack(#[from] rmp_serde::decode::Error),
    /// An encoding that this crate does not read.
    #[error("payload has the unknown encoding {0}")]
    UnknownEncoding(u8),
}

/// Why a value could not be made a payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// JSON cannot hold it.
    #[error("value cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// `MessagePack` cannot hold it.
    #[error("value cannot be written as MessagePack")]
    MessagePack(#[from] rmp_serde::encode::Error),
}

/// A refusal for people.
fn said(refused: &Refused) -> String {
    both(refused.code, &refused.text)
}

/// A code and the words that came with it, which often are those of the code.
fn both(code: Code, text: &str) -> String {
    if text.is_empty() {
        code.to_string()
    } else if text.contains(code.name()) {
        format!("{text} ({})", code.number())
    } else {
        format!("{code}: {text}")
    }
}
