//! What a file is, by its name, and its name in a header. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand in a parameter of a header as it is (RFC 8187 §3.2.1).
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');

/// The type of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileKind {
    name: String,
    is_harmless: bool,
}

impl FileKind {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a browser that shows it runs nothing of it.
    pub(super) fn is_harmless(&self) -> bool {
        self.is_harmless
    }
}

/// By the end of the name.
pub(super) fn of(name: &str) -> FileKind {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    let essence = guess.essence_str();
    let is_image = guess.type_() == "image" && !essence.contains("svg");
    let is_harmless = is_image
        || matches!(guess.type_().as_str(), "audio" | "video")
        || matches!(
            essence,
            "text/plain" | "text/csv" | "text/markdown" | "application/json" | "application/pdf"
        );
    let name = if guess.type_() == "text" {
        format!("{essence}; charset=utf-8")
    } else {
        essence.to_owned()
    };
    FileKind { name, is_harmless }
}

/// A name as a header has it.
pub(super) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NAME).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_run_is_not_shown() {
        for (name, kind, harmless) in [
            ("a.png", "image/png", true),
            ("a.txt", "text/plain; charset=utf-8", true),
            ("a.pdf", "application/pdf", true),
            ("a.mp4", "video/mp4", true),
            ("a.html", "text/html; charset=utf-8", false),
            ("a.svg", "image/svg+xml", false),
            ("a.xhtml", "application/xhtml+xml", false),
            ("a.js", "text/javascript; charset=utf-8", false),
            ("a.xml", "text/xml; charset=utf-8", false),
            ("a", "application/octet-stream", false),
            ("", "application/octet-stream", false),
        ] {
            let found = of(name);
            assert_eq!(
                (found.name(), found.is_harmless()),
                (kind, harmless),
                "{name}"
            );
        }
    }

    #[test]
    fn names_cannot_break_out_of_their_header() {
        assert_eq!(encoded("é \"a\";\r\n.txt"), "%C3%A9%20%22a%22%3B%0D%0A.txt");
    }
}
