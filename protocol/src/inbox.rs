//! The subjects at which a connection receives answers without subscribing (§6.4).
//!
//! ```text
//! _INBOX.<node>.<connection, hex>-<secret>.<anything>
//! ```
//!
//! The broker that a reply reaches finds the connection from the subject alone. The secret has at
//! least 128 bits, so that knowing an inbox is the permission to publish to it.

use crate::id::ConnectionId;

/// The first segment of every inbox, with its dot.
pub const PREFIX: &str = "_INBOX.";

/// The inbox of a connection, without a trailing dot.
pub fn name(node: &str, connection: ConnectionId, secret: &str) -> String {
    format!("{PREFIX}{node}.{:x}-{secret}", connection.0)
}

/// A subject inside somebody's inbox, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// The node that the connection is at.
    pub node: &'a [u8],
    /// The connection's number there.
    pub connection: ConnectionId,
    /// What must equal the connection's secret.
    pub secret: &'a [u8],
}

/// Takes the bytes of a subject apart; `None` when it is not inside an inbox of this form.
#[inline]
pub fn parse(subject: &[u8]) -> Option<Address<'_>> {
    let rest = subject.strip_prefix(PREFIX.as_bytes())?;
    let (node, rest) = split_at_byte(rest, b'.')?;
    let (number, rest) = split_at_byte(rest, b'-')?;
    let (secret, token) = split_at_byte(rest, b'.')?;
    let plausible = !node.is_empty() && (1..=16).contains(&number.len()) && !token.is_empty();
    if !plausible {
        return None;
    }
    let mut connection = 0_u64;
    for &digit in number {
        let value = char::from(digit).to_digit(16)?;
        connection = connection << 4 | u64::from(value);
    }
    Some(Address {
        node,
        connection: ConnectionId(connection),
        secret,
    })
}

#[inline]
fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&b| b == byte)?;
    let (before, after) = bytes.split_at(at);
    Some((before, after.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_again_in_every_subject_inside_it() {
        let inbox = name("n1", ConnectionId(0x2a), "s3cret");
        assert_eq!(inbox, "_INBOX.n1.2a-s3cret");
        let inside = format!("{inbox}.17.x");
        let address = parse(inside.as_bytes()).unwrap();
        assert_eq!(
            address,
            Address {
                node: b"n1",
                connection: ConnectionId(0x2a),
                secret: b"s3cret"
            }
        );
    }

    #[test]
    fn other_subjects_are_not_inboxes() {
        for subject in [
            "_INBOX",
            "_INBOX.",
            "_INBOX.n1.2a-s",
            "_INBOX.n1.2a-s.",
            "_INBOX.n1.zz-s.1",
            "_INBOX..1-s.1",
            "_INBOX.account-x.abc",
            "a.b",
        ] {
            assert_eq!(parse(subject.as_bytes()), None, "{subject}");
        }
    }
}
