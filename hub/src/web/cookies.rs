//! Cookies that are set over HTTP, and from where a request comes.

use std::net::IpAddr;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE, USER_AGENT};

use super::Answer;
use crate::auth::cookie::{Names, SameSite};
use crate::entry::{Entry, Origin, SignedIn};

/// What the cookies of an answer depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookies<'a> {
    /// Where the site is, and what it says about cookies.
    pub(super) entry: &'a Entry,
    /// What they are called.
    pub(super) names: &'a Names,
    /// Whether nobody on the way to the browser can read along.
    pub(super) encrypted: bool,
}

impl Cookies<'_> {
    /// The `Set-Cookie` header for somebody who has come in.
    pub(super) fn session(&self, signed_in: &SignedIn) -> String {
        let (cookie, lifetime) = (&signed_in.cookie, signed_in.lifetime);
        self.names
            .remember(cookie, lifetime, self.same_site(), self.is_secure())
    }

    /// The `Set-Cookie` header for somebody who has gone.
    pub(super) fn forgotten(&self) -> String {
        self.names.forget(self.same_site(), self.is_secure())
    }

    /// The `Set-Cookie` header of an attempt to sign in by another site; with no time at all, of its end.
    pub(super) fn attempt(&self, name: &str, value: &str, lifetime: Duration) -> String {
        let secure = self.is_secure();
        self.names.set_other(name, value, "/auth", lifetime, secure)
    }

    fn same_site(&self) -> SameSite {
        match self.entry.settings.get().get("samesite_remember_me") {
            "lax" => SameSite::Lax,
            "none" => SameSite::None,
            _ => SameSite::Strict,
        }
    }

    fn is_secure(&self) -> bool {
        self.encrypted || self.entry.site.starts_with("https://")
    }
}

/// Adds a cookie to an answer.
pub fn set_cookie(answer: &mut Answer, cookie: &str) {
    // What is in a cookie is encoded, so that it is always a header.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(SET_COOKIE, value);
    }
}

/// From where a request comes, for what is written down about it.
pub(super) fn origin(headers: &HeaderMap, ip: Option<IpAddr>) -> Origin {
    let agent = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    Origin {
        ip: ip.map(|ip| ip.to_string()),
        user_agent: agent.map(ToOwned::to_owned),
    }
}
