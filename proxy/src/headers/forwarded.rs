//! Who sent a request, told to the server behind the proxy: `Forwarded` (RFC 7239) and `X-Forwarded-*`.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

/// What is known of the connection on which a request came.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The client, or the proxy in front of this one.
    pub address: IpAddr,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The host that the client asked for.
    pub host: &'a str,
    /// Whether what the client says about where the request came from is to be believed.
    pub trusted: bool,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Longest chain of addresses that is passed on from a proxy that is trusted, in bytes.
const CHAIN_LEN_MAX: usize = 1024;

/// Tells who sent the request; `prefix` is what the server does not see of the path, where it does not see all.
pub(crate) fn tell(headers: &mut HeaderMap, sender: Sender<'_>, prefix: Option<&str>) {
    let (chain, proto, forwarded) = if sender.trusted {
        let text = |name: &HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        (
            text(&X_FORWARDED_FOR),
            text(&X_FORWARDED_PROTO),
            text(&FORWARDED),
        )
    } else {
        (None, None, None)
    };
    for name in [
        FORWARDED,
        X_FORWARDED_FOR,
        X_FORWARDED_HOST,
        X_FORWARDED_PROTO,
        X_FORWARDED_PORT,
        X_FORWARDED_PREFIX,
        X_REAL_IP,
    ] {
        headers.remove(name);
    }
    let proto = proto.filter(|proto| matches!(proto.as_str(), "http" | "https"));
    let proto = proto
        .as_deref()
        .unwrap_or(if sender.encrypted { "https" } else { "http" });
    let address = sender.address;
    put(
        headers,
        X_FORWARDED_FOR,
        &joined(chain, &address.to_string()),
    );
    put(headers, X_FORWARDED_PROTO, proto);
    put(headers, X_FORWARDED_HOST, sender.host);
    let node = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let host = sender.host.replace(['"', '\\'], "");
    let element = format!("for={node};host=\"{host}\";proto={proto}");
    put(headers, FORWARDED, &joined(forwarded, &element));
    if let Some(prefix) = prefix {
        put(headers, X_FORWARDED_PREFIX, prefix.trim_end_matches('/'));
    }
}

fn joined(before: Option<String>, last: &str) -> String {
    match before.filter(|before| before.len() <= CHAIN_LEN_MAX) {
        Some(before) => format!("{before}, {last}"),
        None => last.to_owned(),
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(trusted: bool, address: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("1.2.3.4"));
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.insert(X_REAL_IP, HeaderValue::from_static("1.2.3.4"));
        headers.insert(FORWARDED, HeaderValue::from_static("for=1.2.3.4"));
        let sender = Sender {
            address: address.parse().unwrap(),
            encrypted: false,
            host: "h:1",
            trusted,
        };
        tell(&mut headers, sender, Some("/id/server/80/"));
        headers
    }

    #[test]
    fn claims_are_replaced_unless_trusted() {
        let headers = told(false, "10.0.0.1");
        assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.1");
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
        assert_eq!(headers[FORWARDED], "for=10.0.0.1;host=\"h:1\";proto=http");
        assert_eq!(headers[X_FORWARDED_PREFIX], "/id/server/80");
        assert!(!headers.contains_key(X_REAL_IP));
    }

    #[test]
    fn trusted_chains_grow() {
        let headers = told(true, "::1");
        assert_eq!(headers[X_FORWARDED_FOR], "1.2.3.4, ::1");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(
            headers[FORWARDED],
            "for=1.2.3.4, for=\"[::1]\";host=\"h:1\";proto=https"
        );
    }
}
