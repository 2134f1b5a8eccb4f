//! What a request is answered when it was not done.

use dialtone_client::Headers;
use dialtone_client::persist::wire::FaultKind;
use dialtone_client::persist::{AppendError, CallError, OpenError};
use serde_json::Value;

/// Why a request was not done: the headers `error` and `code` of its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) text: String,
    /// A number in the manner of HTTP, or a word that clients know.
    pub(super) code: Option<Value>,
}

impl Refusal {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: None,
        }
    }

    pub(super) fn with_code(text: impl Into<String>, code: impl Into<Value>) -> Self {
        Self {
            text: text.into(),
            code: Some(code.into()),
        }
    }

    /// As clients see it: a stringified error.
    pub(super) fn error(&self) -> String {
        format!("Error: {}", self.text)
    }

    pub(super) fn headers(&self) -> Headers {
        let headers = Headers::new().with("error", self.error());
        match &self.code {
            Some(code) => headers.with("code", code.clone()),
            None => headers,
        }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        match error.kind() {
            Some(FaultKind::Reject | FaultKind::TooLarge) => {
                Self::with_code(error.to_string(), "reject")
            }
            Some(FaultKind::WrongLastSequence) => {
                Self::with_code(error.to_string(), "wrong-last-sequence")
            }
            Some(_) | None => Self::with_code(error.to_string(), error.code().number()),
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::WrongLastSequence { text, .. } => {
                Self::with_code(text, "wrong-last-sequence")
            }
            AppendError::Rejected { text, .. } => Self::with_code(text, "reject"),
            AppendError::Call(error) => error.into(),
            other => Self::new(other.to_string()),
        }
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Name(_) => Self::with_code(error.to_string(), 400),
            OpenError::NotFound { .. } => Self::with_code(error.to_string(), 404),
            OpenError::Exists { text } => Self::with_code(text, 409),
            OpenError::Call(error) => error.into(),
            other => Self::new(other.to_string()),
        }
    }
}
