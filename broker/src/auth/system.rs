//! A password that the nodes and tools of a site share: whoever has it may do everything.
//!
//! It comes as the cookie `sys` of the upgrade request, as the predecessor's nodes and tools send it.

use std::sync::Arc;

use dialtone_protocol::Code;
use dialtone_protocol::frame::{Action, Refused};
use http::HeaderMap;
use http::header::COOKIE;
use subtle::ConstantTimeEq as _;

use super::{Answer, Authenticate, Offer, Permissions, Principal};

/// The name of the cookie.
const COOKIE_NAME: &str = "sys";

/// Who has the password.
const IDENTITY: &str = "hub-system";

/// Lets in who has the password, and asks another provider about everybody without that cookie.
pub struct SystemPassword {
    password: String,
    others: Arc<dyn Authenticate>,
}

impl std::fmt::Debug for SystemPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemPassword").finish_non_exhaustive()
    }
}

impl SystemPassword {
    /// In front of another provider.
    pub fn new(password: impl Into<String>, others: Arc<dyn Authenticate>) -> Self {
        Self {
            password: password.into(),
            others,
        }
    }

    fn principal() -> Principal {
        Principal::new(IDENTITY, Permissions::All)
    }

    /// Nothing for whoever does not claim to have it.
    fn judge(&self, headers: &HeaderMap) -> Option<Result<Principal, Refused>> {
        let claimed = cookie(headers)?;
        if bool::from(claimed.as_bytes().ct_eq(self.password.as_bytes())) {
            return Some(Ok(Self::principal()));
        }
        let text = "invalid system account password";
        Some(Err(Refused::new(Code::Unauthenticated, text)))
    }
}

impl Authenticate for SystemPassword {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        match self.judge(&offer.info.headers) {
            Some(outcome) => Box::pin(std::future::ready(outcome)),
            None => self.others.authenticate(offer),
        }
    }

    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        self.others.authorize(principal, action, subject)
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        if *principal.identity == *IDENTITY {
            return Box::pin(std::future::ready(Ok(Self::principal())));
        }
        self.others.refresh(principal)
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let texts = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let value = texts
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value.trim().trim_matches('"'))?;
    Some(percent_decoded(value))
}

/// Browsers and tools write special characters in cookies as `%` and two digits.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            (other, _) => {
                bytes.push(*other);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_not_text| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::open::Open;
    use super::*;

    /// `system`, `refused`, or `others` for whoever does not claim to have the password.
    #[track_caller]
    fn check(cookies: &str, expected: &str) {
        let provider = SystemPassword::new("pa ss", Arc::new(Open::new()));
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookies.parse().unwrap());
        let found = match provider.judge(&headers) {
            Some(Ok(principal)) if *principal.identity == *IDENTITY => "system",
            Some(Ok(_)) => "somebody",
            Some(Err(_)) => "refused",
            None => "others",
        };
        assert_eq!(found, expected, "{cookies}");
    }

    #[test]
    fn who_has_the_password_is_the_system() {
        check("sys=pa ss", "system");
        check("a=b; sys=pa%20ss; c=d", "system");
        check("sys=\"pa ss\"", "system");
    }

    #[test]
    fn a_wrong_password_is_refused_and_none_is_somebody_elses_matter() {
        check("sys=pass", "refused");
        check("sys=", "refused");
        check("sys=%zz", "refused");
        check("a=b", "others");
        check("system=pa ss", "others");
    }
}
