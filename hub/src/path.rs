//! Paths below the home of a project, as they are written.
//!
//! What a path names is only known where the files are, and there symbolic links are resolved and the result is
//! contained, component by component. What is refused here is refused before anything is asked of a project.

use std::fmt;

/// Longest path, in bytes, as on Linux.
const LEN_MAX: usize = 4_096;

/// Longest name in a path, in bytes, as on Linux.
const NAME_LEN_MAX: usize = 255;

/// A path below a home, in its shortest form: names with `/` between, without `.` and `..`. The home itself is `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelativePath(String);

/// Why a text is no path below a home.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is longer than a path or a name can be.
    #[error("is longer than a path or a name in it can be")]
    Long,
    /// It has a character that no path of ours has.
    #[error("has control characters")]
    Control,
    /// It begins at the root of the machine.
    #[error("must be below the home of the project, and not begin with /")]
    Absolute,
    /// It leads out of the home.
    #[error("leads out of the home of the project")]
    Outside,
}

impl RelativePath {
    /// The shortest form of a path.
    ///
    /// # Errors
    /// When it is none, or leads out of the home, even if it comes back.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text.len() > LEN_MAX {
            return Err(Invalid::Long);
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::Control);
        }
        if text.starts_with('/') {
            return Err(Invalid::Absolute);
        }
        let mut names: Vec<&str> = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop().ok_or(Invalid::Outside)?;
                }
                name if name.len() > NAME_LEN_MAX => return Err(Invalid::Long),
                name => names.push(name),
            }
        }
        if names.is_empty() {
            return Ok(Self(".".to_owned()));
        }
        Ok(Self(names.join("/")))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_made_short_and_stay_below_the_home() {
        for (text, short) in [
            ("a/b.txt", Ok("a/b.txt")),
            ("./a//b/", Ok("a/b")),
            ("a/../b", Ok("b")),
            ("", Ok(".")),
            (".", Ok(".")),
            ("a/..", Ok(".")),
            ("..a/b..", Ok("..a/b..")),
            ("a b/ü", Ok("a b/ü")),
            ("..", Err(Invalid::Outside)),
            ("a/../../b", Err(Invalid::Outside)),
            // The home of another project, whose name begins like this one's.
            ("../6a9ad7b6-evil/x", Err(Invalid::Outside)),
            ("../home/a", Err(Invalid::Outside)),
            ("/etc/passwd", Err(Invalid::Absolute)),
            ("a\nb", Err(Invalid::Control)),
            ("a\0b", Err(Invalid::Control)),
        ] {
            let found = RelativePath::new(text);
            assert_eq!(
                found.as_ref().map(RelativePath::as_str),
                short.as_ref().copied(),
                "{text:?}"
            );
        }
        assert_eq!(RelativePath::new(&"a/".repeat(3_000)), Err(Invalid::Long));
        assert_eq!(RelativePath::new(&"a".repeat(256)), Err(Invalid::Long));
    }

    proptest! {
        /// The model: walk from a home that is deep enough, and see where one is.
        #[test]
        fn no_path_leads_out(parts in proptest::collection::vec(
            prop_oneof![Just("..".to_owned()), Just(".".to_owned()), Just(String::new()), "[a-z.]{1,4}"], 0..12)) {
            let text = parts.join("/");
            prop_assume!(!text.starts_with('/'));
            let mut depth = 0_i32;
            let mut left = false;
            for part in text.split('/') {
                match part {
                    "" | "." => {}
                    ".." => depth -= 1,
                    _ => depth += 1,
                }
                left |= depth < 0;
            }
            match RelativePath::new(&text) {
                Ok(path) => {
                    prop_assert!(!left);
                    prop_assert!(path.as_str().split('/').all(|name| name != ".." && !name.is_empty()));
                    prop_assert_eq!(RelativePath::new(path.as_str()), Ok(path));
                }
                Err(error) => {
                    prop_assert!(left);
                    prop_assert_eq!(error, Invalid::Outside);
                }
            }
        }
    }
}
