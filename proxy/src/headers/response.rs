//! The head of an answer: cookies and places stay within the project's part of the site.

use http::header::{
    CONTENT_LENGTH, CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
    TRANSFER_ENCODING,
};

use super::{cookies, remove_hop_by_hop};

/// Headers with which a project could speak for the whole site.
const SITE_WIDE: [HeaderName; 6] = [
    // With that of our pages, a page of a project could hold a window of ours and read in it.
    HeaderName::from_static("cross-origin-opener-policy"),
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("strict-transport-security"),
    HeaderName::from_static("service-worker-allowed"),
    HeaderName::from_static("public-key-pins"),
];

/// Where an answer comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The part of the site that belongs to the server; it ends with a slash.
    pub scope: &'a str,
    /// Whether the server takes its own root for that of the site.
    pub stripped: bool,
    /// The host that the client asked for.
    pub host: &'a str,
    /// The names of our cookies.
    pub cookies: &'a [String],
}

/// Makes the head of a server's answer into the one that the client gets; counts the cookies that were refused.
pub fn prepare(headers: &mut HeaderMap, source: Source<'_>) -> u64 {
    // Both at once is how a server would have the client's side read another message than ours.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    for name in &SITE_WIDE {
        headers.remove(name);
    }
    if source.stripped {
        for name in [LOCATION, CONTENT_LOCATION] {
            if let Some(value) = headers
                .get(&name)
                .and_then(|value| relocated(value, source))
            {
                headers.insert(name, value);
            }
        }
    }
    if headers.contains_key(SET_COOKIE) {
        scope_cookies(headers, source)
    } else {
        0
    }
}

/// The same for an answer of a service of ours, which may speak for the site.
pub(crate) fn prepare_own(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
}

fn scope_cookies(headers: &mut HeaderMap, source: Source<'_>) -> u64 {
    let given: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    let mut refused = 0;
    for cookie in given {
        match cookies::scoped(cookie.as_bytes(), source.scope, source.cookies) {
            Some(scoped) => drop(headers.append(SET_COOKIE, scoped)),
            None => refused += 1,
        }
    }
    refused
}

/// The place that a server names by a path from its own root, as one of the site; `None` if it stays as it is.
fn relocated(place: &HeaderValue, source: Source<'_>) -> Option<HeaderValue> {
    let text = place.to_str().ok()?;
    let path = match text.split_once("://") {
        Some(("http" | "https", rest)) => {
            let (host, _) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.eq_ignore_ascii_case(source.host) {
                return None;
            }
            rest.get(host.len()..)
                .filter(|path| !path.is_empty())
                .unwrap_or("/")
        }
        _ => text,
    };
    let is_rooted = path.starts_with('/') && !path.starts_with("//");
    if !is_rooted || path.starts_with(source.scope) {
        return None;
    }
    HeaderValue::from_str(&format!("{}{}", source.scope.trim_end_matches('/'), path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(stripped: bool, cookies: &[String]) -> Source<'_> {
        Source {
            scope: "/id/server/80/",
            stripped,
            host: "h:1",
            cookies,
        }
    }

    #[track_caller]
    fn check_place(place: &str, stripped: bool, wanted: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(place).unwrap());
        prepare(&mut headers, source(stripped, &[]));
        assert_eq!(headers[LOCATION], wanted, "{place}");
    }

    #[test]
    fn places_are_put_below_the_scope_where_the_server_does_not_know_it() {
        check_place("/login?next=/", true, "/id/server/80/login?next=/");
        check_place("http://h:1/login", true, "/id/server/80/login");
        check_place("http://h:1", true, "/id/server/80/");
        check_place("/id/server/80/x", true, "/id/server/80/x");
        check_place("login", true, "login");
        check_place("//other/x", true, "//other/x");
        check_place("https://other/x", true, "https://other/x");
        check_place("/login", false, "/login");
    }

    #[test]
    fn a_project_does_not_speak_for_the_site() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "remember_me=x; Path=/"),
            ("clear-site-data", "\"cookies\""),
            ("strict-transport-security", "max-age=1"),
            ("service-worker-allowed", "/"),
            ("cross-origin-opener-policy", "same-origin"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("x-kept", "1"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_static(value));
        }
        let refused = prepare(&mut headers, source(false, &["remember_me".to_owned()]));
        assert_eq!(refused, 1);
        let mut wanted = HeaderMap::new();
        wanted.insert("x-kept", HeaderValue::from_static("1"));
        wanted.insert(
            "set-cookie",
            HeaderValue::from_static("a=1; Path=/id/server/80/"),
        );
        assert_eq!(headers, wanted);
    }

    #[test]
    fn a_length_beside_a_transfer_coding_is_dropped() {
        let mut headers = HeaderMap::new();
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        prepare(&mut headers, source(false, &[]));
        assert!(headers.is_empty(), "{headers:?}");
    }
}
