//! The Dialtone client: everything a program needs to talk to a broker.

mod addresses;
mod ask;
mod client;
mod driver;
pub mod error;
mod headers;
mod message;
mod options;
mod outgoing;
mod payload;
mod pending;
mod publish;
mod queue;
mod reconnect;
mod request;
pub mod service;
mod shared;
mod status;
mod subjects;
mod subscription;

pub use client::Client;
pub use error::{
    AskError, ConnectError, EncodeError, PayloadError, PublishError, Reason, RequestError, RespondError, SubscribeError,
};
pub use headers::{Headers, HeadersError};
pub use message::Message;
pub use options::{CREDENTIALS_FILE_LEN_MAX, Credentials, CredentialsError, Options};
pub use payload::{Encoding, Payload, To};
pub use publish::Draft;
pub use queue::{Bounds, Overflow};
pub use reconnect::Reconnect;
pub use request::{Answers, Many};
pub use service::{Service, ServiceError, ServiceOptions};
pub use status::Status;
pub use subscription::{Subscribe, Subscription};

pub use dialtone_protocol::frame::{Denied, Pick, Refused, Wanted};
pub use dialtone_protocol::{Code, Limits, Pattern, Subject, SubjectError};
