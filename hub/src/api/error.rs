//! Why a call failed, for people and for programs.

use std::fmt;

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
    /// Only accounts may call it.
    NotSignedIn,
    /// The caller may not do that.
    PermissionDenied,
    /// What it is about is not there.
    NotFound,
    /// It is there already, or was changed meanwhile.
    Conflict,
    /// The state of what it is about does not allow it now.
    FailedPrecondition,
    /// The caller calls too often, or has too many calls under way.
    TooMany,
    /// The deadline of the call has passed.
    Timeout,
    /// The caller has cancelled the call.
    Cancelled,
    /// This hub has not what the function needs.
    NotConfigured,
    /// Something that the hub needs does not answer. Later it may work.
    Unavailable,
    /// A mistake of the hub.
    Internal,
}

impl Code {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::UnknownFunction => "unknown-function",
            Self::InvalidArgument => "invalid-argument",
            Self::NotSignedIn => "not-signed-in",
            Self::PermissionDenied => "permission-denied",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::FailedPrecondition => "failed-precondition",
            Self::TooMany => "too-many",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::NotConfigured => "not-configured",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    /// What kind of failure it is.
    pub code: Code,
    /// What went wrong and where, in words that the caller may read.
    pub text: String,
    /// A name of its own where [`code`](Self::code) says too little, as `LAST_OWNER`.
    pub reason: Option<&'static str>,
}

impl Error {
    /// A failure with its text.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            reason: None,
        }
    }

    /// With a name of its own.
    pub fn reason(self, reason: &'static str) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    /// An argument that is wrong, named by where it stands.
    pub fn argument(place: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, format!("{place}: {text}"))
    }

    /// Something that the caller may not do.
    pub fn denied(text: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, text)
    }

    /// As it is answered: clients of the original look at `error`, and remove the first word.
    pub fn to_json(&self) -> Json {
        let mut answer = json!({
            "error": format!("Error: {}", self.text),
            "code": self.code.name(),
        });
        if let (Some(reason), Some(fields)) = (self.reason, answer.as_object_mut()) {
            fields.insert("reason".to_owned(), reason.into());
        }
        answer
    }
}

impl From<crate::permission::LookupError> for Error {
    fn from(error: crate::permission::LookupError) -> Self {
        Self::new(Code::Unavailable, error.to_string())
    }
}

impl From<crate::id::InvalidId> for Error {
    fn from(error: crate::id::InvalidId) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_clients_of_the_original_look_for() {
        let error = Error::denied("must be an owner").reason("NOT_OWNER");
        assert_eq!(
            error.to_json(),
            json!({"error": "Error: must be an owner", "code": "permission-denied", "reason": "NOT_OWNER"})
        );
        let error = Error::argument("args[0].title", "must be text");
        assert_eq!(
            error.to_json(),
            json!({"error": "Error: args[0].title: must be text", "code": "invalid-argument"})
        );
    }
}
