//! The head of a request: what it must be, what is taken out of it, and what its server is told.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Uri, Version};

use super::forwarded::{self, Sender};
use super::{cookies, has_token, remove_hop_by_hop};
use crate::access::Credentials;
use crate::error::Refusal;

/// Headers by which services of ours prove who they are; never a client's to send on.
const OURS: [HeaderName; 3] = [
    crate::targets::TOKEN_HEADER,
    HeaderName::from_static("x-dialtone-project-secret"),
    HeaderName::from_static("x-dialtone-identity"),
];

/// Which credentials are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Names of cookies; in any case, and with or without `__Host-` and `__Secure-`.
    pub cookies: Vec<String>,
    /// What the keys of `Authorization: Bearer` begin with. Other values are the project's own and pass.
    pub keys: Vec<String>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            cookies: [
                "remember_me",
                "api_key",
                "project_secret",
                "project_id",
                "hub_password",
            ]
            .map(str::to_owned)
            .to_vec(),
            keys: vec!["sk-".to_owned()],
        }
    }
}

/// What a request wants beyond an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing, or a protocol that is not passed on: it is answered as an ordinary request.
    None,
    /// To go on as a WebSocket.
    WebSocket,
}

/// Checks what the parser lets pass and other servers might understand differently; gives the host that is asked for.
///
/// # Errors
/// [`Refusal::BadRequest`] with the reason.
pub fn check(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<String, Refusal> {
    if *method == Method::CONNECT {
        return Err(Refusal::BadRequest(
            "this is no forward proxy: CONNECT leads nowhere",
        ));
    }
    let host = host(uri, version, headers)?;
    if headers.contains_key(TRANSFER_ENCODING) {
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(Refusal::BadRequest(
                "Content-Length and Transfer-Encoding contradict each other",
            ));
        }
        let mut codings = super::tokens(headers, &TRANSFER_ENCODING);
        let chunked_alone = codings
            .next()
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
            && codings.next().is_none();
        if !chunked_alone || version == Version::HTTP_2 {
            return Err(Refusal::BadRequest(
                "the only transfer coding that is understood is chunked, once",
            ));
        }
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let is_number = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
        if !is_number || lengths.next().is_some() {
            return Err(Refusal::BadRequest("Content-Length must be one number"));
        }
    }
    // A name with an underscore becomes that of another header in programs that take them as variables.
    let twin = |name: &HeaderName| {
        name.as_str().contains('_')
            && matches!(
                name.as_str().replace('_', "-").as_str(),
                "content-length" | "transfer-encoding" | "host" | "cookie"
            )
    };
    if headers.keys().any(twin) {
        return Err(Refusal::BadRequest(
            "a header's name differs from a well-known one by an underscore",
        ));
    }
    Ok(host)
}

fn host(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<String, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::BadRequest("Host must be given once"));
    }
    let named = first
        .map(HeaderValue::to_str)
        .transpose()
        .map_err(|_not| Refusal::BadRequest("Host must be text"))?;
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let host = match (authority, named) {
        (Some(authority), Some(named)) if !authority.eq_ignore_ascii_case(named) => {
            return Err(Refusal::BadRequest(
                "Host differs from the host of the request's address",
            ));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) if version < Version::HTTP_11 => "",
        (None, None) => return Err(Refusal::BadRequest("Host is missing")),
    };
    let is_host = host.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    });
    if !is_host || (host.is_empty() && version >= Version::HTTP_11) {
        return Err(Refusal::BadRequest(
            "Host must be a name or an address, with or without a port",
        ));
    }
    Ok(host.to_owned())
}

/// Takes our credentials out.
pub fn take_credentials(headers: &mut HeaderMap, names: &Names) -> Credentials {
    let mut credentials = Credentials::default();
    cookies::take_ours(headers, &names.cookies, &mut credentials);
    let key = |value: &HeaderValue| -> Option<String> {
        let text = value.to_str().ok()?;
        let (scheme, key) = text.split_once(' ')?;
        let key = key.trim();
        let ours = scheme.eq_ignore_ascii_case("bearer")
            && names
                .keys
                .iter()
                .any(|prefix| key.starts_with(prefix.as_str()));
        ours.then(|| key.to_owned())
    };
    if headers.contains_key(AUTHORIZATION) {
        let found: Vec<String> = headers
            .get_all(AUTHORIZATION)
            .iter()
            .filter_map(key)
            .collect();
        if !found.is_empty() {
            headers.remove(AUTHORIZATION);
            credentials.key = found.into_iter().next();
        }
    }
    for name in &OURS {
        headers.remove(name);
    }
    credentials
}

/// Whether the request wants to go on as a WebSocket. To be asked before [`prepare`].
pub fn upgrade(method: &Method, version: Version, headers: &HeaderMap) -> Upgrade {
    let wants = *method == Method::GET
        && version == Version::HTTP_11
        && headers.contains_key(UPGRADE)
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && !headers.contains_key(TRANSFER_ENCODING)
        && headers.get(CONTENT_LENGTH).is_none_or(|len| len == "0");
    if wants {
        Upgrade::WebSocket
    } else {
        Upgrade::None
    }
}

/// The origin of the page that opens a WebSocket, if it is of another site than `host` and not among those allowed.
pub fn foreign_origin(headers: &HeaderMap, host: &str, allowed: &[String]) -> Option<String> {
    let origin = headers.get(ORIGIN)?;
    let Ok(origin) = origin.to_str() else {
        return Some("an unreadable origin".to_owned());
    };
    let same = origin
        .split_once("://")
        .is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(host));
    let known = allowed
        .iter()
        .any(|known| known.eq_ignore_ascii_case(origin));
    (!same && !known).then(|| origin.chars().take(100).collect())
}

/// Makes the head into the one that the server behind the proxy gets.
pub fn prepare(
    headers: &mut HeaderMap,
    sender: Sender<'_>,
    prefix: Option<&str>,
    upgrade: Upgrade,
) {
    remove_hop_by_hop(headers);
    // The proxy itself has answered `100 Continue`.
    headers.remove(EXPECT);
    if let Ok(host) = HeaderValue::from_str(sender.host) {
        headers.insert(HOST, host);
    }
    forwarded::tell(headers, sender, prefix);
    if upgrade == Upgrade::WebSocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn checked(uri: &'static str, lines: &[(&str, &str)]) -> Result<String, String> {
        let uri = Uri::from_static(uri);
        check(&Method::POST, &uri, Version::HTTP_11, &headers(lines))
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn ordinary_heads_pass() {
        assert_eq!(
            checked("/", &[("host", "a.example:80")]),
            Ok("a.example:80".to_owned())
        );
        assert_eq!(
            checked("/", &[("host", "[::1]:80"), ("content-length", "5")]),
            Ok("[::1]:80".to_owned())
        );
        assert_eq!(checked("http://a/x", &[("host", "A")]), Ok("a".to_owned()));
        assert!(checked("/", &[("host", "a"), ("transfer-encoding", "chunked")]).is_ok());
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        for lines in [
            &[][..],
            &[("host", "")],
            &[("host", "a"), ("host", "a")],
            &[("host", "a b")],
            &[("host", "a/b")],
            &[("host", "a@b")],
            &[
                ("host", "a"),
                ("content-length", "5"),
                ("transfer-encoding", "chunked"),
            ],
            &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
            &[
                ("host", "a"),
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            &[("host", "a"), ("transfer-encoding", "identity")],
            &[
                ("host", "a"),
                ("content-length", "5"),
                ("content-length", "5"),
            ],
            &[("host", "a"), ("content-length", "+5")],
            &[("host", "a"), ("content-length", "5, 5")],
            &[("host", "a"), ("content_length", "5")],
            &[("host", "a"), ("transfer_encoding", "chunked")],
        ] {
            assert!(checked("/", lines).is_err(), "{lines:?}");
        }
        assert!(checked("http://b/", &[("host", "a")]).is_err());
    }

    #[test]
    fn credentials_of_ours_never_pass() {
        let mut passed = headers(&[
            ("authorization", "Bearer sk-1"),
            ("authorization", "Basic abc"),
            ("cookie", "api_key=k; x=1"),
            ("x-dialtone-project-secret", "s"),
            ("x-dialtone-project-token", "t"),
        ]);
        let credentials = take_credentials(&mut passed, &Names::default());
        assert_eq!(credentials.key.as_deref(), Some("sk-1"));
        assert_eq!(credentials.cookies, ["api_key=k"]);
        assert_eq!(passed, headers(&[("cookie", "x=1")]));
        let mut own = headers(&[("authorization", "token abc")]);
        assert!(take_credentials(&mut own, &Names::default()).is_empty());
        assert!(
            own.contains_key(AUTHORIZATION),
            "a project's own credential passes"
        );
    }

    fn sender() -> Sender<'static> {
        Sender {
            address: [10, 0, 0, 1].into(),
            encrypted: true,
            host: "h",
            trusted: false,
        }
    }

    #[test]
    fn what_is_about_one_connection_stays() {
        let mut passed = headers(&[
            ("connection", "close, x-secret, content-length, cookie"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("proxy-authorization", "x"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("cookie", "a=1"),
        ]);
        prepare(&mut passed, sender(), None, Upgrade::None);
        for name in [
            "connection",
            "x-secret",
            "keep-alive",
            "te",
            "upgrade",
            "proxy-authorization",
            "expect",
        ] {
            assert!(!passed.contains_key(name), "{name}");
        }
        assert_eq!(passed["content-length"], "3");
        assert_eq!(passed["cookie"], "a=1");
        assert_eq!(passed["x-forwarded-proto"], "https");
    }

    #[test]
    fn only_websockets_are_upgrades() {
        let upgrade = |lines| upgrade(&Method::GET, Version::HTTP_11, &headers(lines));
        assert_eq!(
            upgrade(&[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "WebSocket")
            ]),
            Upgrade::WebSocket
        );
        assert_eq!(
            upgrade(&[("connection", "upgrade"), ("upgrade", "h2c")]),
            Upgrade::None
        );
        assert_eq!(upgrade(&[("upgrade", "websocket")]), Upgrade::None);
        assert_eq!(
            upgrade(&[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("content-length", "5")
            ]),
            Upgrade::None
        );
    }

    #[test]
    fn pages_of_other_sites_are_named() {
        let foreign = |origin| {
            foreign_origin(
                &headers(&[("origin", origin)]),
                "a.example:80",
                &["https://ok".to_owned()],
            )
        };
        assert_eq!(foreign("http://a.example:80"), None);
        assert_eq!(foreign("https://ok"), None);
        assert_eq!(foreign("http://evil").as_deref(), Some("http://evil"));
        assert_eq!(foreign("null").as_deref(), Some("null"));
        assert_eq!(foreign_origin(&HeaderMap::new(), "a", &[]), None);
    }
}
