//! Which part of a file is asked for (RFC 9110 §14). Pure.

use std::ops::Range;

use http::header::{HeaderMap, IF_RANGE, RANGE};

use super::condition::Validators;

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: nothing else was asked for, or not in a way that is understood.
    Whole,
    /// These bytes, of which there is at least one.
    Part(Range<u64>),
    /// A part that the file does not have.
    Impossible,
}

/// What a request wants of a file of this length. Several parts at once are not sent; who asks gets the whole.
pub(super) fn wanted(headers: &HeaderMap, validators: &Validators, len: u64) -> Wanted {
    let Some(range) = headers.get(RANGE).and_then(|range| range.to_str().ok()) else {
        return Wanted::Whole;
    };
    let still = headers
        .get(IF_RANGE)
        .is_none_or(|seen| validators.are_still(seen));
    if !still {
        return Wanted::Whole;
    }
    parse(range, len).unwrap_or(Wanted::Whole)
}

fn parse(range: &str, len: u64) -> Option<Wanted> {
    let (unit, spec) = range.split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return None;
    }
    if first.is_empty() {
        let suffix = number(last)?;
        let start = len.saturating_sub(suffix);
        return Some(if start < len {
            Wanted::Part(start..len)
        } else {
            Wanted::Impossible
        });
    }
    let first = number(first)?;
    let end = if last.is_empty() {
        len
    } else {
        number(last)?.saturating_add(1)
    };
    if end <= first && !last.is_empty() {
        return None;
    }
    Some(if first < len {
        Wanted::Part(first..end.min(len))
    } else {
        Wanted::Impossible
    })
}

/// Digits alone; what is too large for a file is as good as the largest number.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (range, len, wanted) in [
            ("bytes=0-0", 10, Some(Wanted::Part(0..1))),
            ("bytes=2-", 10, Some(Wanted::Part(2..10))),
            ("bytes=-3", 10, Some(Wanted::Part(7..10))),
            ("bytes=-30", 10, Some(Wanted::Part(0..10))),
            (
                "bytes=0-99999999999999999999999",
                10,
                Some(Wanted::Part(0..10)),
            ),
            ("Bytes=5-9", 10, Some(Wanted::Part(5..10))),
            ("bytes=10-", 10, Some(Wanted::Impossible)),
            ("bytes=-0", 10, Some(Wanted::Impossible)),
            ("bytes=0-", 0, Some(Wanted::Impossible)),
            ("bytes=3-2", 10, None),
            ("bytes=0-1,3-4", 10, None),
            ("bytes=a-b", 10, None),
            ("bytes=+1-2", 10, None),
            ("lines=1-2", 10, None),
            ("bytes", 10, None),
        ] {
            assert_eq!(parse(range, len), wanted, "{range}");
        }
    }
}
