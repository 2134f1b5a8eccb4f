//! Cookies, both ways: ours are taken out of requests, and those that a project sets stay within it.

use http::header::{COOKIE, HeaderMap, HeaderValue};

use crate::access::Credentials;

/// Takes the cookies of these names out, and gives them as credentials. The rest stays, in one line, as HTTP/1.1 wants it.
pub(crate) fn take_ours(headers: &mut HeaderMap, names: &[String], credentials: &mut Credentials) {
    if !headers.contains_key(COOKIE) {
        return;
    }
    let mut rest: Vec<u8> = Vec::new();
    for value in headers.get_all(COOKIE) {
        for cookie in value.as_bytes().split(|byte| *byte == b';') {
            let cookie = cookie.trim_ascii();
            if cookie.is_empty() {
                continue;
            }
            if is_ours(name(cookie), names) {
                if let Ok(text) = std::str::from_utf8(cookie) {
                    credentials.cookies.push(text.to_owned());
                }
                continue;
            }
            if !rest.is_empty() {
                rest.extend_from_slice(b"; ");
            }
            rest.extend_from_slice(cookie);
        }
    }
    headers.remove(COOKIE);
    if !rest.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&rest)
    {
        headers.insert(COOKIE, value);
    }
}

/// The name of a cookie, without the spaces that some readers drop and some do not.
fn name(cookie: &[u8]) -> &[u8] {
    let end = cookie
        .iter()
        .position(|byte| *byte == b'=')
        .unwrap_or(cookie.len());
    cookie.get(..end).unwrap_or_default().trim_ascii()
}

/// Whether a cookie is one of ours, with or without the prefixes by which browsers know that it is well protected.
fn is_ours(name: &[u8], names: &[String]) -> bool {
    let plain = [&b"__Host-"[..], b"__Secure-"]
        .into_iter()
        .find_map(|prefix| {
            let start = name.get(..prefix.len())?;
            start
                .eq_ignore_ascii_case(prefix)
                .then(|| name.get(prefix.len()..).unwrap_or_default())
        })
        .unwrap_or(name);
    names
        .iter()
        .any(|ours| ours.as_bytes().eq_ignore_ascii_case(plain))
}

/// A cookie that a project's server sets, valid for `scope` and below only; `None` if it may not be set at all.
///
/// It may not have a name of ours, nor a prefix that promises validity for the whole host.
pub(crate) fn scoped(cookie: &[u8], scope: &str, names: &[String]) -> Option<HeaderValue> {
    let mut parts = cookie.split(|byte| *byte == b';');
    let pair = parts.next()?.trim_ascii();
    let name = name(pair);
    let is_host = name
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"__Host-"));
    // A cookie without a name is sent as its value alone, which then may look like a pair.
    if name.is_empty() || !pair.contains(&b'=') || is_host || is_ours(name, names) {
        return None;
    }
    let mut out = pair.to_vec();
    let mut path = None;
    for attribute in parts
        .map(<[u8]>::trim_ascii)
        .filter(|attribute| !attribute.is_empty())
    {
        let key = self::name(attribute);
        if key.eq_ignore_ascii_case(b"domain") {
            continue;
        }
        if key.eq_ignore_ascii_case(b"path") {
            path = attribute.get(key.len()..).map(<[u8]>::trim_ascii_start);
            continue;
        }
        out.extend_from_slice(b"; ");
        out.extend_from_slice(attribute);
    }
    let wanted = path
        .and_then(|rest| rest.strip_prefix(b"="))
        .map(<[u8]>::trim_ascii);
    let within = wanted.filter(|path| is_within(path, scope));
    out.extend_from_slice(b"; Path=");
    out.extend_from_slice(within.unwrap_or(scope.as_bytes()));
    HeaderValue::from_bytes(&out).ok()
}

/// Whether a path lies below the scope, which ends with a slash; the scope without its slash does as well.
fn is_within(path: &[u8], scope: &str) -> bool {
    let climbs = path
        .split(|byte| *byte == b'/')
        .any(|segment| segment == b"..");
    !climbs
        && (path.starts_with(scope.as_bytes()) || path == scope.trim_end_matches('/').as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["remember_me", "api_key"].map(str::to_owned).to_vec()
    }

    #[track_caller]
    fn check_taken(lines: &[&str], ours: &[&str], rest: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        let mut credentials = Credentials::default();
        take_ours(&mut headers, &names(), &mut credentials);
        assert_eq!(credentials.cookies, ours);
        let left = headers.get(COOKIE).map(|value| value.to_str().unwrap());
        assert_eq!(left, rest);
        assert!(headers.get_all(COOKIE).iter().count() <= 1);
    }

    #[test]
    fn our_cookies_are_taken_out() {
        check_taken(
            &["a=1; remember_me=x; b=2"],
            &["remember_me=x"],
            Some("a=1; b=2"),
        );
        check_taken(
            &["a=1", "api_key=k", "b=2"],
            &["api_key=k"],
            Some("a=1; b=2"),
        );
        check_taken(&["REMEMBER_ME=x;;"], &["REMEMBER_ME=x"], None);
        check_taken(&["remember_me =x"], &["remember_me =x"], None);
        check_taken(
            &["__Host-remember_me=x; __Secure-api_key=y"],
            &["__Host-remember_me=x", "__Secure-api_key=y"],
            None,
        );
        check_taken(&["remember_me2=x"], &[], Some("remember_me2=x"));
        check_taken(
            &["\"a\"=\"remember_me=1\""],
            &[],
            Some("\"a\"=\"remember_me=1\""),
        );
        check_taken(&[], &[], None);
    }

    #[track_caller]
    fn check_scoped(cookie: &str, wanted: Option<&str>) {
        let scoped = scoped(cookie.as_bytes(), "/id/port/80/", &names());
        assert_eq!(
            scoped.as_ref().map(|value| value.to_str().unwrap()),
            wanted,
            "{cookie}"
        );
    }

    #[test]
    fn cookies_of_projects_stay_in_their_scope() {
        check_scoped("a=1", Some("a=1; Path=/id/port/80/"));
        check_scoped(
            "a=1; Path=/; HttpOnly",
            Some("a=1; HttpOnly; Path=/id/port/80/"),
        );
        check_scoped("a=1; Path=/id/port/80/x", Some("a=1; Path=/id/port/80/x"));
        check_scoped("a=1; path=/id/port/80", Some("a=1; Path=/id/port/80"));
        check_scoped("a=1; path = /id/port/80/x", Some("a=1; Path=/id/port/80/x"));
        check_scoped(
            "a=1; Path=/id/port/80/../../x",
            Some("a=1; Path=/id/port/80/"),
        );
        check_scoped("a=1; Path=/id/port/8080/", Some("a=1; Path=/id/port/80/"));
        check_scoped(
            "a=1; Domain=example.org; Secure",
            Some("a=1; Secure; Path=/id/port/80/"),
        );
        check_scoped(
            "a=1; Path=/id/port/80/; Path=/",
            Some("a=1; Path=/id/port/80/"),
        );
    }

    #[test]
    fn cookies_that_could_be_ours_are_refused() {
        for cookie in [
            "remember_me=x",
            "Remember_Me=x; Path=/id/port/80/",
            "__Secure-api_key=x",
            "__Host-a=1; Path=/; Secure",
            "=remember_me=x",
            "remember_me",
            "",
        ] {
            check_scoped(cookie, None);
        }
    }
}
