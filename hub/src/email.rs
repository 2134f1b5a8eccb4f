//! Addresses for letters, as they are compared and stored.

use std::fmt;
use std::str::FromStr;

/// Longest address, in bytes (RFC 5321 §4.5.3.1.3, without the brackets).
pub const EMAIL_ADDRESS_LEN_MAX: usize = 254;

/// An address in lower case. Whether letters arrive there only a letter shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress(String);

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an email address: {0:?}")]
pub struct InvalidEmailAddress(String);

impl EmailAddress {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part behind the last `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl FromStr for EmailAddress {
    type Err = InvalidEmailAddress;

    /// Takes what can be an address: a name and a domain, without blanks and control characters.
    fn from_str(text: &str) -> Result<Self, InvalidEmailAddress> {
        let trimmed = text.trim();
        let invalid = || InvalidEmailAddress(trimmed.chars().take(64).collect());
        let (name, domain) = trimmed.rsplit_once('@').ok_or_else(invalid)?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "<>,;".contains(c);
        let fits = !name.is_empty()
            && !domain.is_empty()
            && trimmed.len() <= EMAIL_ADDRESS_LEN_MAX
            && !trimmed.contains(odd)
            && domain.split('.').all(|label| !label.is_empty());
        if !fits {
            return Err(invalid());
        }
        Ok(Self(trimmed.to_lowercase()))
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let parsed = text.parse::<EmailAddress>();
        assert_eq!(parsed.ok().as_ref().map(EmailAddress::as_str), expected);
    }

    #[test]
    fn addresses_are_compared_in_lower_case() {
        check("Ada@Example.ORG", Some("ada@example.org"));
        check("  ada@example.org\n", Some("ada@example.org"));
        check("root@localhost", Some("root@localhost"));
        check("\"a@b\"@example.org", Some("\"a@b\"@example.org"));
        for wrong in [
            "",
            "@",
            "ada",
            "ada@",
            "@example.org",
            "a b@c.de",
            "a@b..c",
            "a@b,c@d",
            "a\0@b",
        ] {
            check(wrong, None);
        }
        check(&format!("{}@example.org", "x".repeat(243)), None);
        assert_eq!("a@B.c".parse::<EmailAddress>().unwrap().domain(), "b.c");
    }
}
