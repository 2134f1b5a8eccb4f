//! What tells a page that a person opens from one that a script asks for, and a form of ours from one of somebody else.
//!
//! Three things must come together before a form does anything for who is signed in:
//!
//! 1. The request comes from this site by its `Origin`, and by `Sec-Fetch-Site` where the browser sends it.
//! 2. It carries the token of the session, which only pages of this site show.
//! 3. Pages are given only to somebody who opens them: not to `fetch`, not into a frame. A project's page below the same
//!    host would otherwise read the token out of them.
//!
//! Programs without a browser send none of these headers, and are nobody that somebody else's page could use; they need
//! the token all the same.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use hyper::header::{HOST, ORIGIN};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// What tokens are derived for; another use of the same key gives other ones.
const PURPOSE: &[u8] = b"dialtone form 1";

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A script asks for a page, or a page is to be shown within another one.
    NotOpened,
    /// The form was not on a page of this site.
    OtherSite,
    /// The token is missing or of another session.
    Token,
}

impl Wrong {
    /// What the person is told.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotOpened => "This page can only be opened by itself, not by another page.",
            Self::OtherSite => "This form was not sent from a page of this site.",
            Self::Token => {
                "This form is from before you signed in or out. Go back, load the page again, and repeat what you did."
            }
        }
    }
}

/// The token of a session's forms.
pub fn token(session: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(session.as_bytes());
    // A key of any length will do.
    let code = mac.map(|mac| mac.chain_update(PURPOSE).finalize().into_bytes());
    URL_SAFE_NO_PAD.encode(code.unwrap_or_default())
}

/// Whether a form carries the token of this session.
///
/// # Errors
/// [`Wrong::Token`].
pub fn check_token(session: &str, given: &str) -> Result<(), Wrong> {
    let same: bool = token(session).as_bytes().ct_eq(given.as_bytes()).into();
    if same { Ok(()) } else { Err(Wrong::Token) }
}

/// Whether somebody opens a page.
///
/// # Errors
/// [`Wrong::NotOpened`].
pub fn check_opened(headers: &HeaderMap) -> Result<(), Wrong> {
    let is = |name: &str, wanted: &str| {
        headers
            .get(name)
            .is_none_or(|value| value.as_bytes() == wanted.as_bytes())
    };
    if is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document") {
        Ok(())
    } else {
        Err(Wrong::NotOpened)
    }
}

/// Whether a form was sent from this site: from the host that was asked, or from the address that the site is known by,
/// as `https://example.org` or `https://example.org/path`.
///
/// # Errors
/// [`Wrong::OtherSite`].
pub fn check_sent(headers: &HeaderMap, site: &str) -> Result<(), Wrong> {
    check_opened(headers).map_err(|_not| Wrong::OtherSite)?;
    let text = |name| {
        headers
            .get(name)
            .map(|value: &hyper::header::HeaderValue| value.to_str())
    };
    if let Some(from) = headers.get("sec-fetch-site")
        && from.as_bytes() != b"same-origin"
    {
        return Err(Wrong::OtherSite);
    }
    let origin = match text(ORIGIN) {
        None => return Ok(()),
        Some(Ok(origin)) => origin,
        Some(Err(_)) => return Err(Wrong::OtherSite),
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    let asked = text(HOST).and_then(Result::ok);
    let is_same =
        host.is_some_and(|host| asked.is_some_and(|asked| asked.eq_ignore_ascii_case(host)));
    if is_same || origin.eq_ignore_ascii_case(origin_of(site)) {
        Ok(())
    } else {
        Err(Wrong::OtherSite)
    }
}

/// An address without its path.
fn origin_of(site: &str) -> &str {
    let host = site.find("://").map_or(0, |scheme| scheme + 3);
    let rest = site.get(host..).unwrap_or_default();
    let end = rest.find('/').map_or(site.len(), |path| host + path);
    site.get(..end).unwrap_or(site)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn pages_are_for_who_opens_them() {
        let opened = |lines| check_opened(&headers(lines));
        assert_eq!(opened(&[]), Ok(()));
        assert_eq!(
            opened(&[
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document")
            ]),
            Ok(())
        );
        for lines in [
            &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")][..],
            &[
                ("sec-fetch-mode", "same-origin"),
                ("sec-fetch-dest", "empty"),
            ],
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
        ] {
            assert_eq!(opened(lines), Err(Wrong::NotOpened), "{lines:?}");
        }
    }

    #[test]
    fn forms_are_from_this_site() {
        let sent = |lines| {
            let sent = check_sent(&headers(lines), "https://hub.example");
            let below = check_sent(&headers(lines), "https://hub.example/a/b");
            assert_eq!(sent, below, "{lines:?}");
            sent
        };
        assert_eq!(sent(&[("host", "localhost:5000")]), Ok(()));
        assert_eq!(
            sent(&[("host", "a.example:1"), ("origin", "http://A.example:1")]),
            Ok(())
        );
        assert_eq!(
            sent(&[("host", "10.0.0.1:1"), ("origin", "https://hub.example")]),
            Ok(()),
            "a proxy in front may ask for another host"
        );
        for lines in [
            &[("host", "a"), ("origin", "http://b")][..],
            &[("host", "a"), ("origin", "null")],
            &[("host", "a"), ("origin", "http://a.b")],
            &[
                ("host", "a"),
                ("origin", "http://a"),
                ("sec-fetch-site", "same-site"),
            ],
            &[("host", "a"), ("sec-fetch-site", "cross-site")],
            &[("host", "a"), ("sec-fetch-site", "none")],
            &[
                ("host", "a"),
                ("origin", "http://a"),
                ("sec-fetch-mode", "cors"),
            ],
        ] {
            assert_eq!(sent(lines), Err(Wrong::OtherSite), "{lines:?}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_session_alone() {
        let token = token("one");
        assert_eq!(check_token("one", &token), Ok(()));
        assert_eq!(check_token("two", &token), Err(Wrong::Token));
        assert_eq!(check_token("one", ""), Err(Wrong::Token));
        assert_eq!(check_token("one", token.split_at(20).0), Err(Wrong::Token));
        assert!(!token.contains("one"));
    }
}
