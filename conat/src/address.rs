//! From where a client comes, as the proxies before us say.

use std::net::IpAddr;

use http::HeaderMap;

/// Headers with the address of the client, in the order in which they are believed.
const HEADERS: [&str; 8] = [
    "cf-connecting-ip",
    "x-client-ip",
    "x-forwarded-for",
    "fastly-client-ip",
    "true-client-ip",
    "x-real-ip",
    "x-cluster-client-ip",
    "appengine-user-ip",
];

/// The address that statistics show for a client; nothing is decided by it, since anybody can send these headers.
pub(crate) fn client_address(headers: &HeaderMap, socket: IpAddr) -> Option<IpAddr> {
    let texts = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let named = HEADERS
        .iter()
        .flat_map(|name| texts(name))
        .find_map(|text| parse(&text));
    let forwarded = || {
        texts("forwarded")
            .iter()
            .flat_map(|element| element.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| name.eq_ignore_ascii_case("for"))
            .find_map(|(_, value)| parse(value.trim_matches('"')))
    };
    named
        .or_else(forwarded)
        .or_else(|| Some(socket.to_canonical()))
}

/// An address, perhaps with a port behind it.
fn parse(text: &str) -> Option<IpAddr> {
    let plain = text.trim_start_matches('[');
    let plain = plain.split(']').next().unwrap_or_default();
    plain.parse().ok().or_else(|| {
        let (host, _port) = plain.rsplit_once(':')?;
        host.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], expected: &str) {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let socket = "::ffff:10.0.0.1".parse().unwrap();
        let found = client_address(&headers, socket).unwrap();
        assert_eq!(found.to_string(), expected);
    }

    #[test]
    fn the_first_valid_address_counts() {
        check(&[], "10.0.0.1");
        check(
            &[("x-forwarded-for", "unknown, 192.0.2.7, 10.1.1.1")],
            "192.0.2.7",
        );
        check(
            &[("x-real-ip", "192.0.2.1"), ("x-client-ip", "192.0.2.2")],
            "192.0.2.2",
        );
        check(
            &[("forwarded", "proto=https;for=\"[2001:db8::1]:99\"")],
            "2001:db8::1",
        );
        check(&[("x-real-ip", "nobody")], "10.0.0.1");
    }
}
