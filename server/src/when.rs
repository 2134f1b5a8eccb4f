//! A point in time as people give it.

use std::str::FromStr;

use jiff::Timestamp;

use crate::config::Span;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The moment at which it is asked for.
    Now,
    /// So long before that.
    Ago(Span),
    /// This moment, in milliseconds since 1970.
    At(u64),
}

impl When {
    /// The moment in milliseconds since 1970.
    pub(crate) fn ms(self, now: u64) -> u64 {
        match self {
            Self::Now => now,
            Self::Ago(span) => {
                now.saturating_sub(u64::try_from(span.get().as_millis()).unwrap_or(u64::MAX))
            }
            Self::At(ms) => ms,
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Ok(span) = text.strip_suffix(" ago").unwrap_or(text).parse() {
            return Ok(Self::Ago(span));
        }
        let expected = || {
            format!(
                "expected now, how long ago such as 2h or 1d12h, or a time such as 2026-11-26T14:30:00Z with its offset \
                 from UTC, found {text:?}"
            )
        };
        let at: Timestamp = text.parse().map_err(|_error| expected())?;
        let ms =
            u64::try_from(at.as_millisecond()).map_err(|_error| "it is before 1970".to_owned())?;
        Ok(Self::At(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let now = 1_700_000_000_000;
        for (text, ms) in [
            ("now", now),
            ("2h", now - 7_200_000),
            ("1m30s ago", now - 90_000),
            ("0", now),
            ("1970-01-01T00:00:01Z", 1_000),
            ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
            ("2023-11-14 22:13:20Z", now),
        ] {
            assert_eq!(
                text.parse::<When>().map(|when| when.ms(now)),
                Ok(ms),
                "{text}"
            );
        }
        for text in [
            "",
            "yesterday",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }
}
