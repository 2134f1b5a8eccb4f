//! Which paths are passed on: those that mean the same to everybody who reads them.
//!
//! A proxy and the server behind it must agree on what a path names. Segments that climb, bytes that some servers take
//! for a slash, and escapes that are none are refused rather than interpreted.

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    Relative,
    /// A segment is `.` or `..`, written plainly or with escapes.
    #[error("the path has a segment that climbs to another folder")]
    Climbs,
    /// A byte that is no part of a path, plain or escaped: a control character or a backslash.
    #[error("the path holds a control character or a backslash")]
    Byte,
    /// A percent sign without two hexadecimal digits.
    #[error("the path holds a percent sign without two hexadecimal digits")]
    Escape,
    /// What the escapes stand for is not UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
}

/// Checks a path as it stands in a request, without its query.
///
/// # Errors
/// When it could name something else to the server behind the proxy.
pub fn check(path: &str) -> Result<(), PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    if !path
        .bytes()
        .any(|byte| matches!(byte, b'%' | b'.' | b'\\' | ..=b' ' | 0x7f))
    {
        return Ok(());
    }
    escapes(path)?;
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    if decoded
        .iter()
        .any(|byte| matches!(byte, ..b' ' | 0x7f | b'\\'))
    {
        return Err(PathError::Byte);
    }
    let climbs = |segment: &[u8]| {
        // Some servers cut a segment at its parameters before they look at it.
        let name = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        matches!(name, b"." | b"..")
    };
    if decoded.split(|byte| *byte == b'/').any(climbs) {
        return Err(PathError::Climbs);
    }
    Ok(())
}

/// The file that a path names below some folder: decoded, without empty segments, and never outside.
///
/// # Errors
/// As [`check`], and when it is not UTF-8.
pub fn relative(path: &str) -> Result<String, PathError> {
    let rooted = format!("/{path}");
    check(&rooted)?;
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_not| PathError::Utf8)?;
    let segments: Vec<&str> = decoded
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    Ok(segments.join("/"))
}

fn escapes(path: &str) -> Result<(), PathError> {
    let bytes = path.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PathError::Escape);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_paths_pass() {
        for path in [
            "/",
            "/a/b.txt",
            "/a//b",
            "/a/...",
            "/.well-known/x",
            "/a%20b/%C3%A9",
            "/api/contents/a%2Fb",
            "/x;v=1/y",
            "/..a/b..",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn doubtful_paths_are_refused() {
        for (path, error) in [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("/..", PathError::Climbs),
            ("/a/../b", PathError::Climbs),
            ("/a/./b", PathError::Climbs),
            ("/a/%2e%2E/b", PathError::Climbs),
            ("/a/.%2e/b", PathError::Climbs),
            ("/a%2f..%2fb", PathError::Climbs),
            ("/a/..;x=1/b", PathError::Climbs),
            ("/a\\..\\b", PathError::Byte),
            ("/a/%5c..", PathError::Byte),
            ("/a%00", PathError::Byte),
            ("/a%0d%0ab", PathError::Byte),
            ("/a%7f", PathError::Byte),
            ("/a%", PathError::Escape),
            ("/a%2", PathError::Escape),
            ("/a%zz", PathError::Escape),
        ] {
            assert_eq!(check(path), Err(error), "{path}");
        }
    }

    #[test]
    fn files_are_named_below_their_folder() {
        assert_eq!(relative("a/b%20c.txt"), Ok("a/b c.txt".to_owned()));
        assert_eq!(relative("//a///b/"), Ok("a/b".to_owned()));
        assert_eq!(relative("%2fetc/passwd"), Ok("etc/passwd".to_owned()));
        assert_eq!(relative(""), Ok(String::new()));
        assert_eq!(relative("%ff"), Err(PathError::Utf8));
        assert_eq!(relative("a/%2e%2e/b"), Err(PathError::Climbs));
    }

    proptest! {
        #[test]
        fn what_passes_never_leaves_its_folder(path in "[a./%2efc;\\\\]{0,24}") {
            if let Ok(file) = relative(&path) {
                let climbs = file.split('/').any(|segment| segment == ".." || segment == ".");
                prop_assert!(!climbs, "{path} gave {file}");
                prop_assert!(!file.starts_with('/'));
            }
        }
    }
}
