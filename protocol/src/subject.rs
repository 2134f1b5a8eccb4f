//! What a message is called, and what a subscriber asks for.
//!
//! [`Pattern::matches`] is the definition of routing: everything faster is tested against it.

use std::fmt;
use std::sync::Arc;

use crate::limits::{SEGMENTS_MAX, SUBJECT_LEN_MAX};

/// Why a subject or a pattern was refused; the text names the rule that it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The empty string names nothing.
    #[error("a subject must not be empty")]
    Empty,
    /// Longer than [`SUBJECT_LEN_MAX`] bytes.
    #[error("a subject must be at most {SUBJECT_LEN_MAX} bytes long, this one has {len}")]
    TooLong {
        /// The length that was offered, in bytes.
        len: usize,
    },
    /// More than [`SEGMENTS_MAX`] segments.
    #[error("a subject must have at most {SEGMENTS_MAX} segments")]
    TooManySegments,
    /// Two dots in a row, or a dot at either end.
    #[error("a subject must not have an empty segment (segment {index})")]
    EmptySegment {
        /// Which segment, counted from 1.
        index: usize,
    },
    /// White space or a control character inside a segment.
    #[error("a subject must not contain white space or control characters (segment {index})")]
    Whitespace {
        /// Which segment, counted from 1.
        index: usize,
    },
    /// The segment `>` somewhere else than at the end of a pattern.
    #[error("the wildcard > must be the last segment (it is segment {index})")]
    TailNotLast {
        /// Which segment, counted from 1.
        index: usize,
    },
    /// A wildcard where a concrete subject is needed.
    #[error("a subject to publish to must not contain * or end with >")]
    Wildcard,
    /// Not UTF-8.
    #[error("a subject must be UTF-8")]
    NotUtf8,
}

/// The name of a message: one or more segments separated by dots, without wildcards.
///
/// Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(
    /// Passed [`check_subject`].
    Arc<str>,
);

/// What a subscriber asks for: a subject in which a segment may be `*` (exactly one segment) and
/// the last may be `>` (one or more segments).
///
/// `*` and `>` are wildcards only when they are a whole segment. Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(
    /// Passed [`check_pattern`].
    Arc<str>,
);

impl Subject {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// When `text` breaks one of the rules of [`SubjectError`].
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        check_subject(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The subject as it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// When `text` breaks one of the rules of [`SubjectError`].
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        check_pattern(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The pattern as it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern has a wildcard segment. Without one it matches itself alone.
    pub fn has_wildcard(&self) -> bool {
        has_wildcard(&self.0)
    }

    /// Whether a message to `subject` is meant for a subscriber of this pattern.
    pub fn matches(&self, subject: &Subject) -> bool {
        matches(&self.0, &subject.0)
    }

    /// Whether every subject that `other` can match is matched by this pattern too; this decides
    /// whether a permission for this pattern allows a subscription to `other`.
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.0, &other.0)
    }
}

/// Checks a concrete subject without keeping it.
///
/// # Errors
/// When `text` breaks one of the rules of [`SubjectError`].
pub fn check_subject(text: &str) -> Result<(), SubjectError> {
    if is_plain(text.as_bytes()) {
        return Ok(());
    }
    check_pattern(text)?;
    if text.contains('*') || text.ends_with('>') {
        return Err(SubjectError::Wildcard);
    }
    Ok(())
}

/// Checks a pattern without keeping it.
///
/// # Errors
/// When `text` breaks one of the rules of [`SubjectError`].
pub fn check_pattern(text: &str) -> Result<(), SubjectError> {
    if is_plain(text.as_bytes()) {
        return Ok(());
    }
    check_segments(text)
}

/// The rules of a pattern, one after the other.
fn check_segments(text: &str) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if text.len() > SUBJECT_LEN_MAX {
        return Err(SubjectError::TooLong { len: text.len() });
    }
    let mut tail_at = None;
    for (position, segment) in text.split('.').enumerate() {
        let index = position + 1;
        if index > SEGMENTS_MAX {
            return Err(SubjectError::TooManySegments);
        }
        if segment.is_empty() {
            return Err(SubjectError::EmptySegment { index });
        }
        if segment.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(SubjectError::Whitespace { index });
        }
        if let Some(index) = tail_at {
            return Err(SubjectError::TailNotLast { index });
        }
        if segment == ">" {
            tail_at = Some(index);
        }
    }
    Ok(())
}

/// Whether this is a valid subject of printable ASCII without anything that could be a wildcard, as
/// nearly all are: decided in one pass, where the full rules take several.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let (mut segments, mut previous) = (1, b'.');
    for &byte in bytes {
        let valid = match byte {
            b'.' => {
                segments += 1;
                previous != b'.'
            }
            b'*' | b'>' => false,
            b'!'..=b'~' => true,
            _ => false,
        };
        if !valid {
            return false;
        }
        previous = byte;
    }
    previous != b'.' && segments <= SEGMENTS_MAX && bytes.len() <= SUBJECT_LEN_MAX
}

/// Whether a checked pattern has a segment that is a wildcard.
pub fn has_wildcard(pattern: &str) -> bool {
    pattern
        .split('.')
        .any(|segment| segment == "*" || segment == ">")
}

/// The definition of routing, on checked strings (see [`Pattern::matches`]).
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut segments = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, segments.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(segment)) if literal == segment => {}
            (_, None | Some(_)) => return false,
        }
    }
    segments.next().is_none()
}

/// The definition of [`Pattern::covers`], on checked strings.
pub fn covers(pattern: &str, other: &str) -> bool {
    let mut others = other.split('.');
    for wanted in pattern.split('.') {
        match (wanted, others.next()) {
            (">", Some(_)) => return true,
            // `>` stands for any number of segments, which a single `*` cannot cover.
            ("*", Some(segment)) if segment != ">" => {}
            (literal, Some(segment)) if literal == segment => {}
            (_, None | Some(_)) => return false,
        }
    }
    others.next().is_none()
}

macro_rules! text_newtype {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = SubjectError;

            fn from_str(text: &str) -> Result<Self, SubjectError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = SubjectError;

            fn try_from(text: &str) -> Result<Self, SubjectError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = SubjectError;

            fn try_from(text: String) -> Result<Self, SubjectError> {
                Self::new(&text)
            }
        }
    )+};
}

text_newtype!(Subject, Pattern);

impl From<Subject> for Pattern {
    /// Every subject is a pattern that matches itself alone.
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, subject: &str, expected: bool) {
        let pattern = Pattern::new(pattern).unwrap();
        let subject = Subject::new(subject).unwrap();
        assert_eq!(
            pattern.matches(&subject),
            expected,
            "{pattern} on {subject}"
        );
    }

    #[test]
    fn patterns_match_as_the_specification_says() {
        check("a", "a", true);
        check("a", "A", false);
        check("a.b", "a", false);
        check("a", "a.b", false);
        check("*", "a", true);
        check("*", "a.b", false);
        check("a.*", "a.b", true);
        check("a.*.c", "a.b.c", true);
        check("a.*.c", "a.b.d", false);
        check(">", "a", true);
        check(">", "a.b.c", true);
        check("a.>", "a", false);
        check("a.>", "a.b", true);
        check("a.>", "a.b.c", true);
        check("*.>", "a", false);
        check("*.>", "a.b", true);
        check("a>b", "a>b", true);
        check(">x", ">x", true);
        check("ä.*", "ä.ö", true);
    }

    #[test]
    fn refusals_name_the_rule() {
        let wrong = |text: &str| Pattern::new(text).unwrap_err();
        assert_eq!(wrong(""), SubjectError::Empty);
        assert_eq!(wrong("a..b"), SubjectError::EmptySegment { index: 2 });
        assert_eq!(wrong(".a"), SubjectError::EmptySegment { index: 1 });
        assert_eq!(wrong("a."), SubjectError::EmptySegment { index: 2 });
        assert_eq!(wrong("a.b c"), SubjectError::Whitespace { index: 2 });
        assert_eq!(wrong("a.\u{a0}"), SubjectError::Whitespace { index: 2 });
        assert_eq!(wrong("a.>.b"), SubjectError::TailNotLast { index: 2 });
        assert_eq!(
            wrong(&"a".repeat(SUBJECT_LEN_MAX + 1)),
            SubjectError::TooLong {
                len: SUBJECT_LEN_MAX + 1
            }
        );
        assert_eq!(
            wrong(&vec!["a"; SEGMENTS_MAX + 1].join(".")),
            SubjectError::TooManySegments
        );
        for subject in ["a.*", "a.>", "a*", "a.b>", "*a.b"] {
            assert_eq!(
                Subject::new(subject).unwrap_err(),
                SubjectError::Wildcard,
                "{subject}"
            );
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![Just("*".to_owned()), "[abc]", Just("x*".to_owned())]
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        (proptest::collection::vec(segment(), 1..4), any::<bool>()).prop_map(
            |(mut segments, tail)| {
                if tail {
                    segments.push(">".to_owned());
                }
                Pattern::new(&segments.join(".")).unwrap()
            },
        )
    }

    fn subject() -> impl Strategy<Value = Subject> {
        proptest::collection::vec("[abc]", 1..6)
            .prop_map(|segments| Subject::new(&segments.join(".")).unwrap())
    }

    proptest! {
        #[test]
        fn a_covering_pattern_matches_whatever_the_covered_one_does(
            wide in pattern(), narrow in pattern(), subject in subject(),
        ) {
            if wide.covers(&narrow) && narrow.matches(&subject) {
                prop_assert!(wide.matches(&subject));
            }
        }

        #[test]
        fn a_pattern_covers_a_subject_exactly_when_it_matches_it(wide in pattern(), subject in subject()) {
            prop_assert_eq!(wide.covers(&Pattern::from(subject.clone())), wide.matches(&subject));
        }

        #[test]
        fn the_short_way_accepts_only_what_the_rules_do(text in "[a.*> \\u{e4}]{0,12}") {
            if is_plain(text.as_bytes()) {
                prop_assert!(check_segments(&text).is_ok());
                prop_assert!(!text.contains(['*', '>']));
            }
        }

        #[test]
        fn checking_never_panics(text in ".{0,64}") {
            let _checked = (check_pattern(&text), check_subject(&text));
        }
    }
}
