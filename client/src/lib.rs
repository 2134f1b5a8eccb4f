//! The Dialtone client: everything a program needs to talk to a broker.
//!
//! ```no_run
//! use dialtone_client::Options;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Options::new("ws://127.0.0.1:4480").connect().await?;
//!
//! let mut greetings = client.subscribe("greetings.*").await?;
//! client.publish("greetings.world", "hello").await?;
//! if let Some(message) = greetings.next().await {
//!     println!("{}: {:?}", message.subject(), message.payload());
//! }
//!
//! let answer = client.request("time", "what time is it?").await?;
//! println!("{:?}", answer.payload());
//! client.drain().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`Options`] connects and gives a [`Client`]; [`Draft`] is a message with everything that can be said
//! about it; [`Subscription`] and [`Message`] are what arrives; [`Service`] answers requests; [`socket`] moves bulk data
//! under flow control. Behind them one task, the driver, owns the connection, makes it again when it is lost, and
//! restores the subscriptions. Messages are delivered at most once, in order per publisher and subscriber; those of
//! more than [`Limits::fragment_len_max`] bytes keep their order among themselves, and others may overtake them.

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
pub mod persist;
mod publish;
mod queue;
mod reconnect;
mod request;
pub mod service;
mod shared;
pub mod socket;
mod status;
mod subjects;
mod subscription;

pub use client::Client;
pub use error::{
    AskError, ConnectError, EncodeError, PayloadError, PublishError, Reason, RequestError,
    RespondError, SubscribeError,
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
pub use socket::{Socket, SocketError, SocketListener};
pub use status::Status;
pub use subscription::{Subscribe, Subscription};

pub use dialtone_protocol::frame::{Denied, Pick, Refused, Wanted};
pub use dialtone_protocol::{Code, Limits, Pattern, Subject, SubjectError};
