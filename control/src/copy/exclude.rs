//! Patterns of what is not copied, as of rsync. Pure.
//!
//! A pattern with a slash in front means a place below what is copied; one without any slash a name at any depth; one
//! with a slash inside the end of a path. A slash at the end means folders alone. `*` stands for anything in a name,
//! `**` for anything.

use std::path::Path;

use glob::{MatchOptions, Pattern};

/// Patterns of one copy at most.
const PATTERNS_MAX: usize = 1000;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// What is not copied.
#[derive(Debug)]
pub(super) struct Exclude {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    /// Whether it is compared with the whole path below what is copied.
    whole: bool,
    folders_only: bool,
}

impl Exclude {
    /// From patterns.
    ///
    /// # Errors
    /// With the one that is none.
    pub(super) fn new(patterns: &[String]) -> Result<Self, String> {
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("there are more than {PATTERNS_MAX}"));
        }
        let rules = patterns
            .iter()
            .map(|text| rule(text))
            .collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Whether something at this path below what is copied stays where it is.
    pub(super) fn matches(&self, path: &Path, is_folder: bool) -> bool {
        let name = path.file_name().map(Path::new);
        self.rules.iter().any(|rule| {
            let against = if rule.whole { Some(path) } else { name };
            (is_folder || !rule.folders_only)
                && against.is_some_and(|path| rule.pattern.matches_path_with(path, OPTIONS))
        })
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let (body, folders_only) = match text.strip_suffix('/') {
        Some(body) => (body, true),
        None => (text, false),
    };
    let (pattern, whole) = match body.strip_prefix('/') {
        Some(anchored) => (anchored.to_owned(), true),
        None if body.contains('/') => (format!("**/{body}"), true),
        None => (body.to_owned(), false),
    };
    let pattern = Pattern::new(&pattern).map_err(|error| format!("{text:?}: {error}"))?;
    Ok(Rule {
        pattern,
        whole,
        folders_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_rsync() {
        let table = [
            ("*.pyc", "a/b.pyc", false, true),
            ("*.pyc", "a/b.py", false, false),
            ("/top", "top", false, true),
            ("/top", "a/top", false, false),
            ("cache/", "a/cache", true, true),
            ("cache/", "a/cache", false, false),
            ("a/b", "x/a/b", false, true),
            ("a/b", "x/a/c", false, false),
            (".git", "x/.git", true, true),
            ("/a/*/c", "a/b/c", false, true),
            ("/a/*/c", "a/b/b/c", false, false),
            ("/a/**/c", "a/b/b/c", false, true),
        ];
        for (pattern, path, is_folder, expected) in table {
            let exclude = Exclude::new(&[pattern.to_owned()]).unwrap();
            assert_eq!(
                exclude.matches(Path::new(path), is_folder),
                expected,
                "{pattern} {path}"
            );
        }
        let wrong = Exclude::new(&["[".to_owned()]).unwrap_err();
        assert!(wrong.starts_with("\"[\""), "{wrong}");
    }
}
