//! Why a project did not do what it was asked for, for people and for programs.

use std::fmt;
use std::io;
use std::path::Path;

use serde_json::{Value as Json, json};

/// What kind of failure it is; names do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is no call.
    BadRequest,
    /// There is no function of that name.
    UnknownFunction,
    /// An argument is missing, too large, or not of its form.
    InvalidArgument,
    /// The file, process, job or server is not there.
    NotFound,
    /// It is a folder, where a file is asked for.
    Folder,
    /// The file system, or the project, does not allow it.
    PermissionDenied,
    /// It is there already, or was changed meanwhile.
    Conflict,
    /// A command ended with another code than zero.
    Failed,
    /// A bound of the project is reached.
    TooMany,
    /// The project's files would take more room than they may.
    DiskQuota,
    /// It took longer than it may.
    Timeout,
    /// What it needs is not installed here.
    NotConfigured,
    /// The operating system refused.
    Internal,
}

impl Code {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::UnknownFunction => "unknown-function",
            Self::InvalidArgument => "invalid-argument",
            Self::NotFound => "not-found",
            Self::Folder => "is-folder",
            Self::PermissionDenied => "permission-denied",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
            Self::TooMany => "too-many",
            Self::DiskQuota => "disk-quota",
            Self::Timeout => "timeout",
            Self::NotConfigured => "not-configured",
            Self::Internal => "internal",
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    /// What kind of failure it is.
    pub code: Code,
    /// What went wrong and where, in words that the caller may read.
    pub text: String,
}

impl Error {
    /// A failure with its text.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// An argument that is wrong, named by where it stands.
    pub fn argument(place: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, format!("{place}: {text}"))
    }

    /// What the operating system said about a file.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other kinds say nothing that a caller could act on"
    )]
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::PermissionDenied => Code::PermissionDenied,
            io::ErrorKind::QuotaExceeded => Code::DiskQuota,
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => Code::Conflict,
            io::ErrorKind::IsADirectory => Code::Folder,
            io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename => Code::InvalidArgument,
            _ => Code::Internal,
        };
        Self::new(code, format!("cannot {what} {}: {error}", path.display()))
    }

    /// As it is answered: existing clients look at `error`, and remove the first word.
    pub fn to_json(&self) -> Json {
        json!({"error": format!("Error: {}", self.text), "code": self.code.name()})
    }
}
