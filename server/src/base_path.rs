//! The path below which a site lies, as flags and variables have it.

use crate::config::Strings;
use crate::exit::Failure;

/// Variables that have it, the first one that is set.
const VARIABLES: [&str; 2] = ["DIALTONE_BASE_PATH", "BASE_PATH"];

/// That of the flag, or else of the environment.
pub(crate) fn of(given: Option<&str>, strings: &dyn Strings) -> Result<String, Failure> {
    let set = || VARIABLES.iter().find_map(|name| strings.get(name));
    let text = given.map(ToOwned::to_owned).or_else(set);
    parse(text.as_deref().unwrap_or_default())
}

/// Empty, or with a slash in front and none at the end.
fn parse(text: &str) -> Result<String, Failure> {
    let trimmed = text.trim_matches('/');
    if trimmed.is_empty() {
        return Ok(String::new());
    }
    let is_path = trimmed
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte));
    if !is_path
        || trimmed
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err(Failure::usage(format_args!(
            "the base path is no path: {text:?}"
        )));
    }
    Ok(format!("/{trimmed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_has_a_slash_in_front_or_is_empty() {
        for (text, path) in [("", ""), ("/", ""), ("/a/b/", "/a/b"), ("a", "/a")] {
            assert_eq!(parse(text).unwrap(), path);
        }
        for wrong in ["/a b", "/a//b", "/..", "/a?b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
