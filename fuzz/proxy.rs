//! What the proxy reads of a request: the path and the head, both of which anybody may write.

use dialtone_proxy::headers::forwarded::Sender;
use dialtone_proxy::headers::{request, response};
use dialtone_proxy::target::{self, Route, Want};
use dialtone_proxy::{ProjectId, path};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri, Version};

/// Whatever a path is, what it leads to lies within its project, and a file within its folder.
pub fn proxy_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for base in ["", "/app"] {
        let Ok(Route::Project(target)) = target::route(base, text) else {
            continue;
        };
        assert_eq!(path::check(text), Ok(()), "what is followed is checked");
        let id = target
            .scope
            .strip_prefix(base)
            .and_then(|rest| rest.get(1..37));
        let id: Option<ProjectId> = id.and_then(|id| id.parse().ok());
        assert_eq!(id, Some(target.project), "the scope is that of the project");
        match target.want {
            Want::Server { seen, .. } => {
                let seen = text.get(seen).expect("it is a part of the path");
                assert!(seen.starts_with('/'), "{seen}");
                assert!(
                    text.starts_with(&target.scope),
                    "the scope is a part of the path"
                );
            }
            Want::File(file) => {
                let climbs = |part: &str| matches!(part, "" | "." | "..");
                assert!(file.is_empty() || !file.split('/').any(climbs), "{file}");
            }
        }
    }
}

/// Whatever a head is, nothing of ours passes, and what passes has one meaning.
pub fn proxy_head(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let uri = Uri::try_from(lines.next().unwrap_or_default()).unwrap_or_default();
    let mut headers = headers_of(lines);
    let names = request::Names::default();
    let mut answer = headers.clone();
    let Ok(host) = request::check(&Method::POST, &uri, Version::HTTP_11, &headers) else {
        check_answer(&mut answer, &names);
        return;
    };
    drop(request::take_credentials(&mut headers, &names));
    let upgrade = request::upgrade(&Method::GET, Version::HTTP_11, &headers);
    let sender = Sender {
        address: [10, 0, 0, 1].into(),
        encrypted: true,
        host: &host,
        trusted: false,
    };
    request::prepare(&mut headers, sender, Some("/id/server/web/"), upgrade);
    assert_eq!(headers.get_all("host").iter().count(), 1);
    assert!(headers.get_all("content-length").iter().count() <= 1);
    assert!(headers.get_all("cookie").iter().count() <= 1);
    assert!(!headers.contains_key("transfer-encoding"));
    assert_eq!(
        headers.get("x-forwarded-for").map(HeaderValue::as_bytes),
        Some(&b"10.0.0.1"[..])
    );
    let cookies = headers
        .get("cookie")
        .map_or(&b""[..], HeaderValue::as_bytes);
    assert!(!has_ours(cookies, &names), "{headers:?}");
    check_answer(&mut answer, &names);
}

fn check_answer(answer: &mut HeaderMap, names: &request::Names) {
    let source = response::Source {
        scope: "/id/server/web/",
        stripped: true,
        host: "h",
        cookies: &names.cookies,
    };
    response::prepare(answer, source);
    for cookie in answer.get_all("set-cookie") {
        let pair = cookie.as_bytes().split(|byte| *byte == b';').next();
        assert!(!has_ours(pair.unwrap_or_default(), names), "{cookie:?}");
        let text = String::from_utf8_lossy(cookie.as_bytes()).to_ascii_lowercase();
        let mut paths = text
            .split(';')
            .filter(|part| part.trim_start().starts_with("path"));
        let last = paths.next_back().unwrap_or_default().trim();
        assert!(last.starts_with("path=/id/server/web"), "{text}");
    }
}

/// Whether the first pair, or any pair of a request's line, is a cookie of ours.
fn has_ours(line: &[u8], names: &request::Names) -> bool {
    line.split(|byte| *byte == b';').any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        let name = name.trim_ascii();
        pair.contains(&b'=')
            && names
                .cookies
                .iter()
                .any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
    })
}

fn headers_of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    const LINES_MAX: usize = 64;
    let mut headers = HeaderMap::new();
    for line in lines.take(LINES_MAX) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
