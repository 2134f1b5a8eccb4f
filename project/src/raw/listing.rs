//! A folder as a page.

use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};

use crate::error::{Code, Error};
use crate::home::Home;

/// What may stand in a segment of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name, and whether it is a folder.
type Entry = (String, bool);

/// The page of a folder below the home, with entries that do not begin with a dot.
pub(super) fn page(home: &Home, path: &str, entries_max: usize) -> Result<String, Error> {
    let mut entries = read(home, path, entries_max)?;
    entries.sort_unstable_by(|(a, a_is_folder), (b, b_is_folder)| {
        b_is_folder.cmp(a_is_folder).then_with(|| a.cmp(b))
    });
    Ok(render(path, &entries))
}

/// The kernel resolves the path below the home, so that no link leads out of it.
fn read(home: &Home, path: &str, entries_max: usize) -> Result<Vec<Entry>, Error> {
    let shown = home.root().join(path);
    let failed = |error: rustix::io::Errno| Error::io("list", &shown, &error.into());
    let root =
        std::fs::File::open(home.root()).map_err(|error| Error::io("list", &shown, &error))?;
    let path = if path.is_empty() { "." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let folder = openat2(&root, path, flags, Mode::empty(), resolve).map_err(failed)?;
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if entries.len() == entries_max {
            let text = format!("{} has more than {entries_max} entries", shown.display());
            return Err(Error::new(Code::TooMany, text));
        }
        entries.push((name, entry.file_type() == FileType::Directory));
    }
    Ok(entries)
}

fn render(path: &str, entries: &[Entry]) -> String {
    let title = escaped(if path.is_empty() { "/" } else { path });
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1>\n<ul>\n"
    );
    if !path.is_empty() {
        page.push_str("<li><a href=\"../\">../</a></li>\n");
    }
    for (name, is_folder) in entries {
        let slash = if *is_folder { "/" } else { "" };
        let link = utf8_percent_encode(name, SEGMENT);
        let shown = escaped(name);
        page.extend([
            "<li><a href=\"./",
            &link.to_string(),
            slash,
            "\">",
            &shown,
            slash,
        ]);
        page.push_str("</a></li>\n");
    }
    page.push_str("</ul></body></html>\n");
    page
}

/// What a browser takes for text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The headers of the page: nothing on it runs.
pub(super) fn describe(headers: &mut HeaderMap) {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    let policy = HeaderValue::from_static(
        "sandbox allow-top-navigation-by-user-activation allow-popups; default-src 'none'",
    );
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("<b>\"&.txt"), "").unwrap();
        std::fs::write(folder.path().join(".hidden"), "").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("out")).unwrap();
        let page_of = |path| page(&home, path, 10);
        let page = page_of("").unwrap();
        assert!(page.contains("<a href=\"./sub/\">sub/</a>"), "{page}");
        assert!(
            page.contains("<a href=\"./%3Cb%3E%22%26%2Etxt\">&lt;b&gt;")
                || page.contains("./%3Cb%3E%22%26.txt")
        );
        assert!(!page.contains("hidden") && !page.contains("<b>"));
        assert!(page_of("sub").unwrap().contains("../"));
        assert!(page_of("out").is_err(), "it leads out of the home");
        assert_eq!(super::page(&home, "", 1).unwrap_err().code, Code::TooMany);
    }
}
