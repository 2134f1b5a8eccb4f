//! What is passed on of a head, and what is not. Pure.
//!
//! [`request`] is the way to a project's server, [`response`] the way back. Neither ever carries a header that is about
//! one connection alone, a credential of ours, or a claim about where a request came from that nobody has checked.

pub(crate) mod cookies;
pub mod forwarded;
pub mod request;
pub mod response;

use http::header::{CONNECTION, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

/// Headers that are about one connection (RFC 9110 §7.6.1), and those that old programs use for the same.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Most headers that `Connection` may name.
const NAMED_MAX: usize = 16;

/// Removes what is about one connection, and what `Connection` says to be so.
///
/// What is needed to tell a message's length or its meaning cannot be named away: a client could otherwise have the
/// proxy send something else than it has checked.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .take(NAMED_MAX)
            .filter(|name| !is_fixed(name))
            .filter_map(|name| name.parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn is_fixed(name: &str) -> bool {
    [
        "host",
        "content-length",
        "cookie",
        "authorization",
        "origin",
        "range",
        "if-match",
        "if-none-match",
        "cache-control",
    ]
    .iter()
    .any(|fixed| name.eq_ignore_ascii_case(fixed))
}

/// The comma-separated words of a header, over all its lines.
pub(crate) fn tokens<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Whether a header names this word, in any case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}
