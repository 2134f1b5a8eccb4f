//! Why a request was not done.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $code:literal;)+) => {
        /// A stable word for programs, with its number in the manner of HTTP.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FaultKind {
            $($(#[$doc])* $name,)+
        }

        impl FaultKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word on the wire: the header `kind`.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// The number on the wire: the header `code`.
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// The kind of a word; one that this version does not know is an internal error.
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$name,)+
                    _ => Self::Internal,
                }
            }
        }
    };
}

kinds! {
    /// The request cannot be read, or contradicts itself.
    BadRequest = "bad-request", 400;
    /// The scope may not use this stream, or not do this.
    Denied = "denied", 403;
    /// There is no such stream or consumer.
    NotFound = "not-found", 404;
    /// The stream or consumer exists already, or exists with another durability.
    Exists = "exists", 409;
    /// The expectation does not hold: somebody else was first.
    WrongLastSequence = "wrong-last-sequence", 412;
    /// The stream is not the one that was meant: it was made again or restored.
    WrongEpoch = "wrong-epoch", 409;
    /// A record, key or request is larger than the limit.
    TooLarge = "too-large", 413;
    /// A limit of the stream refuses the write: full, too large, or too fast.
    Reject = "reject", 422;
    /// Another node has the stream; the header `node` names it.
    Moved = "moved", 421;
    /// The stream is being restored.
    Restoring = "restoring", 423;
    /// The owner has as many streams or bytes as it may have, or is too fast.
    Quota = "quota", 429;
    /// Too many requests wait at this node.
    Busy = "busy", 429;
    /// The delivery is not pending: it was acknowledged, or given to somebody else.
    NotPending = "not-pending", 410;
    /// The store keeps something that is damaged; the text names the place.
    Corrupt = "corrupt", 500;
    /// The store failed and accepts nothing more.
    StoreFailed = "store-failed", 507;
    /// The node stops, or has lost the stream; another one takes over.
    Unavailable = "unavailable", 503;
    /// A fault of the service itself.
    Internal = "internal", 500;
}

impl Serialize for FaultKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for FaultKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_word(&String::deserialize(deserializer)?))
    }
}

/// Why a request, or one record of it, was not done. It has changed nothing.
///
/// As a whole answer it travels in the headers `error` (the text), `code`, `kind`, and where they apply `seq`, `node`,
/// `retry_after`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{text}")]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// What was wrong and where, for people.
    pub text: String,
    /// With `wrong-last-sequence`: the number that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// With `moved`: the node to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When a repetition may succeed, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Fault {
    /// A fault with its text.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            seq: None,
            node: None,
            retry_after: None,
        }
    }

    /// The number that there is.
    pub fn seq(mut self, seq: u64) -> Self {
        self.seq = Some(seq);
        self
    }

    /// The node to ask.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// When a repetition may succeed, in milliseconds.
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after = Some(ms);
        self
    }

    /// The headers of an answer that is this fault.
    pub fn to_headers(&self) -> crate::Headers {
        let mut headers = crate::Headers::new()
            .with("error", self.text.as_str())
            .with("code", self.kind.code())
            .with("kind", self.kind.word());
        if let Some(seq) = self.seq {
            headers = headers.with("seq", seq);
        }
        if let Some(node) = &self.node {
            headers = headers.with("node", node.as_str());
        }
        if let Some(ms) = self.retry_after {
            headers = headers.with("retry_after", ms);
        }
        headers
    }

    /// The fault that the headers of an answer say it is, if they do.
    pub fn from_headers(headers: &crate::Headers) -> Option<Self> {
        let number = |name| headers.get(name).and_then(serde_json::Value::as_u64);
        let text = headers.get("error")?;
        let text = text
            .as_str()
            .map_or_else(|| text.to_string(), str::to_owned);
        Some(Self {
            kind: headers
                .text("kind")
                .map_or(FaultKind::Internal, FaultKind::from_word),
            text,
            seq: number("seq"),
            node: headers.text("node").map(str::to_owned),
            retry_after: number("retry_after"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_stable_and_different() {
        let mut words: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.word()).collect();
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::from_word(kind.word()), *kind);
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FaultKind::ALL.len());
        assert_eq!(FaultKind::from_word("of-next-year"), FaultKind::Internal);
    }

    #[test]
    fn faults_travel_in_headers() {
        let fault = Fault::new(FaultKind::Moved, "it is elsewhere")
            .node("n2")
            .seq(3)
            .retry_after(5);
        assert_eq!(Fault::from_headers(&fault.to_headers()), Some(fault));
        assert_eq!(Fault::from_headers(&crate::Headers::new()), None);
    }
}
