//! Why a request is not answered by the server it was for, and what the client is told.

use std::time::Duration;

use http::{Method, StatusCode};
use thiserror::Error;

use crate::target::{Service, TargetError};

/// A request that the proxy answers itself. The variants and their codes are stable.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The request is malformed or could mean different things to different readers.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The path leads nowhere.
    #[error("{0}")]
    Target(#[from] TargetError),
    /// Nothing of the proxy's.
    #[error("there is nothing at this address")]
    NotFound,
    /// No valid credentials.
    #[error("sign in to open this project")]
    SignIn,
    /// Not permitted, or no such project.
    #[error("this project does not exist, or you have no access to it")]
    Denied,
    /// A page of another site opened a WebSocket with the user's cookies.
    #[error("pages of {0} may not connect to this project")]
    Origin(String),
    /// The servers of projects are at another host than the site.
    #[error("the servers of projects are at a host of their own")]
    Elsewhere,
    /// A ticket is not good: too old, shown already, or of another browser.
    #[error("this link into the project was for one moment and one browser")]
    Ticket,
    /// The method means nothing here.
    #[error("{0} is not possible here")]
    Method(Method),
    /// The project is being started.
    #[error("the project is starting")]
    Starting(Duration),
    /// The project does not run.
    #[error("the project is not running")]
    NotRunning,
    /// The project runs, but not this server.
    #[error("the project has no server {0}")]
    NoService(Service),
    /// Nothing listens where the server should be.
    #[error("{0} of the project does not accept connections")]
    Unreachable(Service),
    /// Connecting took too long.
    #[error("{0} of the project cannot be reached in time")]
    ConnectTimeout(Service),
    /// No answer came in time.
    #[error("{0} of the project has not answered in time")]
    FirstByteTimeout(Service),
    /// The server closed the connection before it answered, or its answer is no HTTP.
    #[error("{0} of the project has ended the connection without an answer")]
    Broken(Service),
    /// The client stopped sending the body of its request.
    #[error("the body of the request has not arrived in time")]
    BodyTimeout,
    /// The body of the request is longer than allowed.
    #[error("the body of the request is longer than {0} bytes")]
    BodyTooLong(u64),
    /// Access ended while the request was under way.
    #[error("access to this project has ended")]
    Ended,
    /// The project has as many requests in progress as it may.
    #[error("the project has too many requests in progress")]
    Busy,
    /// Whoever knows about access or places does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The file does not exist or may not be read.
    #[error("there is no file at this path")]
    NoFile,
    /// The path names a folder.
    #[error("this path is a folder; only files can be downloaded")]
    Folder,
    /// Reading failed.
    #[error("the file cannot be read")]
    Unreadable,
    /// No broker accepts a connection.
    #[error("no broker can be reached")]
    NoBroker,
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Target(TargetError::Path(_)) => StatusCode::BAD_REQUEST,
            Self::Target(TargetError::Kind(_) | TargetError::Service(_))
            | Self::NotFound
            | Self::NoFile
            | Self::Folder
            | Self::NoService(_) => StatusCode::NOT_FOUND,
            Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::Denied | Self::Origin(_) | Self::Ticket | Self::Ended => StatusCode::FORBIDDEN,
            Self::Elsewhere => StatusCode::MISDIRECTED_REQUEST,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Starting(_) | Self::NotRunning | Self::Busy | Self::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unreachable(_) | Self::Broken(_) | Self::NoBroker => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout(_) | Self::FirstByteTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A stable word for programs, in the header `dialtone-proxy-error` and the access log.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Target(TargetError::Path(_)) => "bad_path",
            Self::Target(TargetError::Kind(_) | TargetError::Service(_)) | Self::NotFound => {
                "not_found"
            }
            Self::SignIn => "sign_in",
            Self::Denied => "denied",
            Self::Origin(_) => "origin",
            Self::Elsewhere => "elsewhere",
            Self::Ticket => "ticket",
            Self::Method(_) => "method",
            Self::Starting(_) => "starting",
            Self::NotRunning => "not_running",
            Self::NoService(_) => "no_service",
            Self::Unreachable(_) => "unreachable",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::FirstByteTimeout(_) => "first_byte_timeout",
            Self::Broken(_) => "broken",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLong(_) => "body_too_long",
            Self::Ended => "ended",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::NoFile => "no_file",
            Self::Folder => "folder",
            Self::Unreadable => "unreadable",
            Self::NoBroker => "no_broker",
        }
    }

    /// What a person can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::Target(_) | Self::NotFound => "Check the address.",
            Self::SignIn => {
                "Sign in with cookies enabled, or send an API key, and open this page again."
            }
            Self::Denied => {
                "Ask an owner of the project to add you, and check that you are signed in as the right user."
            }
            Self::Origin(_) => {
                "Open the project's page itself, or ask the operator to allow this origin."
            }
            Self::Elsewhere => {
                "Open the project's page, which leads there, or send an API key without cookies."
            }
            Self::Ticket => "Open the project again from the site.",
            Self::Method(_) => "Use GET or HEAD.",
            Self::Starting(_) => "This page tries again by itself.",
            Self::NotRunning => "Start the project, and open this page again.",
            Self::NoService(_) => {
                "Start the server in the project, and check the port or the name in the address."
            }
            Self::Unreachable(_) | Self::Broken(_) => {
                "Check in the project that the server runs and listens on this port at every address, then try again."
            }
            Self::ConnectTimeout(_) | Self::FirstByteTimeout(_) => {
                "The server may be busy: look at its load, and try again in a moment."
            }
            Self::BodyTimeout => "Check the connection, and send it again.",
            Self::BodyTooLong(_) => "Send it in parts, or ask the operator to raise the limit.",
            Self::Ended => "Sign in again, or ask an owner of the project.",
            Self::Busy => "Close some of the project's pages, and try again in a moment.",
            Self::Unavailable(_) | Self::NoBroker => {
                "Try again in a moment; if it stays so, tell the operator."
            }
            Self::NoFile | Self::Folder => "Check the path.",
            Self::Unreadable => "Check the file in the project.",
        }
    }

    /// When a program may try again.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some pass by themselves"
    )]
    pub const fn retry(&self) -> Option<Duration> {
        match self {
            Self::Starting(retry) => Some(*retry),
            Self::NotRunning | Self::Busy | Self::Unavailable(_) | Self::NoBroker => {
                Some(Duration::from_secs(5))
            }
            _ => None,
        }
    }
}
