//! Whether a client has the file already (RFC 9110 §13). Pure.

use std::time::{Duration, SystemTime};

use http::header::{
    HeaderMap, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
};

use super::Opened;

/// By what a client can tell one content from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    etag: Option<String>,
    /// In whole seconds, as headers have it.
    modified: Option<SystemTime>,
}

/// What becomes of a request with conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Send,
    NotModified,
    Failed,
}

impl Validators {
    pub(super) fn of(opened: &Opened) -> Self {
        let whole = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
        };
        Self {
            etag: opened
                .version
                .as_ref()
                .map(|version| format!("\"{version}\"")),
            modified: opened.modified.and_then(whole),
        }
    }

    pub(super) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// In the order of §13.2.2: tags go before times.
    pub(super) fn check(&self, headers: &HeaderMap) -> Condition {
        if headers.contains_key(IF_MATCH) {
            if !self.is_among(headers, &IF_MATCH, false) {
                return Condition::Failed;
            }
        } else if let (Some(seen), Some(modified)) =
            (date(headers.get(IF_UNMODIFIED_SINCE)), self.modified)
            && modified > seen
        {
            return Condition::Failed;
        }
        if headers.contains_key(IF_NONE_MATCH) {
            if self.is_among(headers, &IF_NONE_MATCH, true) {
                return Condition::NotModified;
            }
        } else if let (Some(seen), Some(modified)) =
            (date(headers.get(IF_MODIFIED_SINCE)), self.modified)
            && modified <= seen
        {
            return Condition::NotModified;
        }
        Condition::Send
    }

    /// Whether what a client has a part of is still the same: a tag, or a time.
    pub(super) fn are_still(&self, seen: &HeaderValue) -> bool {
        let Ok(text) = seen.to_str() else {
            return false;
        };
        if text.starts_with('"') {
            return self.etag.as_deref() == Some(text);
        }
        self.modified.is_some() && date(Some(seen)) == self.modified
    }

    fn is_among(&self, headers: &HeaderMap, name: &http::HeaderName, weakly: bool) -> bool {
        crate::headers::tokens(headers, name).any(|tag| {
            let tag = if weakly {
                tag.strip_prefix("W/").unwrap_or(tag)
            } else {
                tag
            };
            tag == "*" || self.etag.as_deref() == Some(tag)
        })
    }
}

fn date(value: Option<&HeaderValue>) -> Option<SystemTime> {
    httpdate::parse_http_date(value?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_met_as_the_standard_says() {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds: u64| {
            httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        };
        let validators = Validators {
            etag: Some("\"a-1\"".to_owned()),
            modified: Some(modified),
        };
        let (same, before, after) = (at(1_000_000), at(999_999), at(1_000_001));
        for (name, value, wanted) in [
            (IF_NONE_MATCH, "\"a-1\"", Condition::NotModified),
            (IF_NONE_MATCH, "W/\"a-1\"", Condition::NotModified),
            (IF_NONE_MATCH, "\"b\", \"a-1\"", Condition::NotModified),
            (IF_NONE_MATCH, "*", Condition::NotModified),
            (IF_NONE_MATCH, "\"b\"", Condition::Send),
            (IF_MATCH, "\"a-1\"", Condition::Send),
            (IF_MATCH, "W/\"a-1\"", Condition::Failed),
            (IF_MATCH, "\"b\"", Condition::Failed),
            (IF_MODIFIED_SINCE, &same, Condition::NotModified),
            (IF_MODIFIED_SINCE, &before, Condition::Send),
            (IF_MODIFIED_SINCE, "nonsense", Condition::Send),
            (IF_UNMODIFIED_SINCE, &after, Condition::Send),
            (IF_UNMODIFIED_SINCE, &before, Condition::Failed),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(&name, HeaderValue::from_str(value).unwrap());
            assert_eq!(validators.check(&headers), wanted, "{name}: {value}");
        }
        let still = |text: &str| validators.are_still(&HeaderValue::from_str(text).unwrap());
        assert!(still("\"a-1\"") && still(&same));
        assert!(!still("\"b\"") && !still("W/\"a-1\"") && !still(&after));
    }
}
