//! No credentials: whoever can reach the broker may do everything.
//!
//! Being on the broker's machine is then the credential, and two things could lend it to strangers:
//! a web page in a local browser, and a proxy that listens elsewhere. Both give themselves away in
//! the headers of the upgrade request, and both are refused.

use std::net::{IpAddr, SocketAddr};

use dialtone_protocol::Code;
use dialtone_protocol::frame::{Action, Refused};
use dialtone_transport::{Info, Kind};
use http::HeaderMap;
use http::header::ORIGIN;

use super::{Answer, Authenticate, Offer, Permissions, Principal};

/// Who everybody is.
const IDENTITY: &str = "anonymous";

/// Headers that a proxy adds when it passes on somebody else's request.
const PROXY_HEADERS: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Lets everybody do everything, as `anonymous`. A user name that is offered proves nothing and is
/// not looked at.
#[derive(Debug)]
pub struct Open {
    /// Whether peers on other machines are let in.
    everywhere: bool,
}

impl Open {
    /// For peers on this machine: loopback addresses and connections within the process.
    pub fn new() -> Self {
        Self { everywhere: false }
    }

    /// For every peer that reaches a listener. Meant for networks in which everybody is trusted.
    pub fn everywhere() -> Self {
        Self { everywhere: true }
    }

    fn judge(&self, info: &Info) -> Result<Principal, Refused> {
        if !self.everywhere {
            check_local(info)?;
        }
        Ok(Principal::new(IDENTITY, Permissions::All))
    }
}

impl Default for Open {
    fn default() -> Self {
        Self::new()
    }
}

impl Authenticate for Open {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(std::future::ready(self.judge(offer.info)))
    }

    fn authorize<'a>(
        &'a self,
        _principal: &'a Principal,
        _action: Action,
        _subject: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(true))
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(std::future::ready(Ok(principal.clone())))
    }
}

/// Refuses whoever may be speaking for somebody on another machine.
fn check_local(info: &Info) -> Result<(), Refused> {
    if !is_local(info.kind, info.remote) {
        return Err(refusal(
            "this broker has no users and is open to its own machine only",
        ));
    }
    if PROXY_HEADERS
        .iter()
        .any(|name| info.headers.contains_key(*name))
    {
        return Err(refusal(
            "this broker has no users and is open to its own machine only, not to a proxy's clients",
        ));
    }
    if !has_local_origin(&info.headers) {
        return Err(refusal(
            "this broker has no users and is not open to web pages of other sites",
        ));
    }
    Ok(())
}

fn is_local(kind: Kind, remote: Option<SocketAddr>) -> bool {
    match remote {
        Some(address) => address.ip().to_canonical().is_loopback(),
        None => matches!(kind, Kind::Memory),
    }
}

/// Whether the request comes from no web page or from one that this machine serves.
fn has_local_origin(headers: &HeaderMap) -> bool {
    headers
        .get_all(ORIGIN)
        .iter()
        .all(|origin| origin.to_str().is_ok_and(is_local_origin))
}

/// `scheme://host[:port]`, where the host can only be this machine.
fn is_local_origin(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<http::Uri>() else {
        return false;
    };
    let Some(host) = uri.host() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn refusal(text: &str) -> Refused {
    Refused::new(Code::Unauthenticated, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(kind: Kind, remote: Option<&str>, headers: &[(&'static str, &str)]) -> Info {
        let mut info = dialtone_transport::memory::pair(1).0.info;
        info.kind = kind;
        info.remote = remote.map(|address| address.parse().unwrap());
        info.headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        info
    }

    #[track_caller]
    fn check(expected: bool, kind: Kind, remote: Option<&str>, headers: &[(&'static str, &str)]) {
        let info = info(kind, remote, headers);
        let outcome = Open::new().judge(&info);
        assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
        if let Err(refused) = outcome {
            assert_eq!(refused.code, Code::Unauthenticated);
        }
        assert!(Open::everywhere().judge(&info).is_ok());
    }

    #[test]
    fn the_own_machine_is_let_in() {
        check(true, Kind::WebSocket, Some("127.0.0.1:5"), &[]);
        check(true, Kind::WebSocket, Some("127.8.8.8:5"), &[]);
        check(true, Kind::Quic, Some("[::1]:5"), &[]);
        check(true, Kind::Quic, Some("[::ffff:127.0.0.1]:5"), &[]);
        check(true, Kind::Memory, None, &[]);
    }

    #[test]
    fn other_machines_are_not() {
        check(false, Kind::WebSocket, Some("192.0.2.1:5"), &[]);
        check(false, Kind::Quic, Some("[2001:db8::1]:5"), &[]);
        check(false, Kind::Quic, Some("[::ffff:192.0.2.1]:5"), &[]);
        check(false, Kind::Quic, None, &[]);
    }

    #[test]
    fn web_pages_of_other_sites_are_not() {
        let from = |expected, origin: &str| {
            let headers = [("origin", origin)];
            check(expected, Kind::WebSocket, Some("127.0.0.1:5"), &headers);
        };
        from(true, "http://localhost:3000");
        from(true, "http://127.0.0.1");
        from(true, "http://[::1]:3000");
        from(false, "https://example.org");
        from(false, "http://localhost.example.org");
        from(false, "http://127.0.0.1.example.org");
        from(false, "null");
        from(false, "");
    }

    #[test]
    fn clients_of_a_proxy_are_not() {
        check(
            false,
            Kind::WebSocket,
            Some("127.0.0.1:5"),
            &[("x-forwarded-for", "192.0.2.1")],
        );
        check(
            false,
            Kind::WebSocket,
            Some("127.0.0.1:5"),
            &[("forwarded", "for=192.0.2.1")],
        );
    }
}
