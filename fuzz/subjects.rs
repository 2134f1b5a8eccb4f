//! Subjects and patterns against their definition, written down a second time.

use dialtone_protocol::limits::{SEGMENTS_MAX, SUBJECT_LEN_MAX};
use dialtone_protocol::{Pattern, Subject, inbox};

/// Takes the lines of the text as patterns and subjects, and compares each with each.
pub fn subject(data: &[u8]) {
    let _address = inbox::parse(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines: Vec<&str> = text.split('\n').take(4).collect();
    for line in &lines {
        let pattern = Pattern::new(line);
        assert_eq!(pattern.is_ok(), is_pattern(line), "{line:?} as a pattern");
        assert_eq!(
            Subject::new(line).is_ok(),
            is_subject(line),
            "{line:?} as a subject"
        );
    }
    let patterns: Vec<Pattern> = lines
        .iter()
        .filter_map(|line| Pattern::new(line).ok())
        .collect();
    let subjects: Vec<Subject> = lines
        .iter()
        .filter_map(|line| Subject::new(line).ok())
        .collect();
    for pattern in &patterns {
        for subject in &subjects {
            let matches = pattern.matches(subject);
            assert_eq!(
                matches,
                matches_by_definition(pattern.as_str(), subject.as_str()),
                "{pattern} on {subject}"
            );
            assert_eq!(
                matches,
                pattern.covers(&Pattern::from(subject.clone())),
                "{pattern} over {subject}"
            );
        }
        assert!(pattern.covers(pattern), "{pattern} over itself");
        for other in &patterns {
            check_cover(pattern, other, &subjects);
        }
    }
}

fn check_cover(wide: &Pattern, narrow: &Pattern, subjects: &[Subject]) {
    if wide.covers(narrow) {
        let escapes = |subject: &&Subject| narrow.matches(subject) && !wide.matches(subject);
        assert_eq!(subjects.iter().find(escapes), None, "{wide} over {narrow}");
        return;
    }
    // What a fresh word in place of each wildcard makes of the narrow pattern is not covered; a
    // literal with a star in it stands for no subject at all.
    let filled: Vec<&str> = narrow
        .as_str()
        .split('.')
        .map(|s| if s == "*" { "fresh" } else { s })
        .collect();
    let filled = filled.join(".");
    let longer = filled
        .strip_suffix('>')
        .filter(|_| narrow.as_str().split('.').next_back() == Some(">"));
    let examples = match longer {
        Some(start) => vec![format!("{start}fresh"), format!("{start}fresh.fresh")],
        None => vec![filled],
    };
    let is_known = |text: &str| text.contains("fresh");
    let subjects: Option<Vec<Subject>> = examples
        .iter()
        .map(|text| Subject::new(text).ok())
        .collect();
    if let Some(subjects) = subjects.filter(|_| !is_known(wide.as_str())) {
        assert!(
            subjects.iter().any(|subject| !wide.matches(subject)),
            "{wide} should cover {narrow}"
        );
    }
}

fn is_pattern(text: &str) -> bool {
    let segments: Vec<&str> = text.split('.').collect();
    let clean = |segment: &&str| {
        !segment.is_empty()
            && !segment.contains(char::is_whitespace)
            && !segment.contains(char::is_control)
    };
    let tail = segments.iter().position(|segment| *segment == ">");
    text.len() <= SUBJECT_LEN_MAX
        && segments.len() <= SEGMENTS_MAX
        && segments.iter().all(clean)
        && tail.is_none_or(|at| at + 1 == segments.len())
}

fn is_subject(text: &str) -> bool {
    is_pattern(text) && !text.contains('*') && !text.ends_with('>')
}

fn matches_by_definition(pattern: &str, subject: &str) -> bool {
    let (first, rest) = pattern
        .split_once('.')
        .map_or((pattern, None), |(first, rest)| (first, Some(rest)));
    let (segment, remains) = subject
        .split_once('.')
        .map_or((subject, None), |(first, rest)| (first, Some(rest)));
    if first == ">" && rest.is_none() {
        return true;
    }
    let fits = first == "*" || first == segment;
    fits && match (rest, remains) {
        (None, None) => true,
        (Some(rest), Some(remains)) => matches_by_definition(rest, remains),
        (None, Some(_)) | (Some(_), None) => false,
    }
}
