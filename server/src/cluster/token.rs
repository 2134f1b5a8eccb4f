//! A join token: one text with all that a new node needs to become part of a cluster.
//!
//! It holds the node's private key, so that whoever has it can be that node. Its expiry says until when it may be used
//! to join; what has been made of it goes on until its certificate ends.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::print::time;

/// What a token begins with; the number is the version of what follows.
pub(crate) const PREFIX: &str = "dialtone-join-1.";
/// What tokens of all versions begin with.
const PREFIX_ANY: &str = "dialtone-join-";
/// Longest token that is read, in characters; one with three seeds has some 1,700.
const TOKEN_LEN_MAX: usize = 64 << 10;
/// Most seeds of a token.
pub(crate) const SEEDS_MAX: usize = 64;
/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 8;

/// What a token holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinToken {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The new node's name.
    pub(crate) node: String,
    /// What the cluster trusts, as DER.
    pub(crate) authorities: Vec<Vec<u8>>,
    /// The new node's certificate chain, as DER.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// Its private key, as PKCS #8 in DER.
    pub(crate) key: Vec<u8>,
    /// Where other nodes may be found.
    pub(crate) seeds: Vec<String>,
    /// Until when it may be used, in seconds since 1970.
    pub(crate) expires: u64,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("seeds", &self.seeds)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why a text is no token, or not one that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Something else.
    #[error("this is no join token: it does not begin with {PREFIX}")]
    NotOne,
    /// Made by another version of the program.
    #[error("the join token was made by another version of dialtone, which this one ({}) does not understand", env!("CARGO_PKG_VERSION"))]
    Version,
    /// Not what was made.
    #[error("the join token is damaged or incomplete: {0}; copy it whole")]
    Damaged(&'static str),
    /// Too late.
    #[error("the join token for node {node:?} of cluster {cluster:?} expired at {}", time(UNIX_EPOCH + Duration::from_secs(*.at)))]
    Expired {
        /// Of which cluster.
        cluster: String,
        /// For which node.
        node: String,
        /// When, in seconds since 1970.
        at: u64,
    },
}

impl JoinToken {
    /// Reads a token, whether or not it has expired. White space within it does not matter.
    pub(crate) fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_LEN_MAX {
            return Err(TokenError::Damaged("it is too long"));
        }
        let text: String = text.split_ascii_whitespace().collect();
        let Some(body) = text.strip_prefix(PREFIX) else {
            return Err(if text.starts_with(PREFIX_ANY) {
                TokenError::Version
            } else {
                TokenError::NotOne
            });
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_detail| TokenError::Damaged("it is cut off, or has a character too many"))?;
        let (checksum, content) = bytes
            .split_at_checked(CHECKSUM_LEN)
            .ok_or(TokenError::Damaged("it is too short"))?;
        if checksum_of(content) != checksum {
            return Err(TokenError::Damaged("its checksum does not fit"));
        }
        let token: Self = postcard::from_bytes(content)
            .map_err(|_detail| TokenError::Damaged("its contents make no sense"))?;
        if token.seeds.len() > SEEDS_MAX {
            return Err(TokenError::Damaged("it has too many seeds"));
        }
        Ok(token)
    }

    /// Whether it may still be used.
    pub(crate) fn check_expiry(&self, now: SystemTime) -> Result<(), TokenError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now < self.expires {
            return Ok(());
        }
        Err(TokenError::Expired {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            at: self.expires,
        })
    }

    /// The text.
    pub(crate) fn to_text(&self) -> Result<String, postcard::Error> {
        let content = postcard::to_stdvec(self)?;
        let bytes = [checksum_of(&content).as_slice(), &content].concat();
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }
}

/// Whether a text is meant to be a token.
pub(crate) fn is_token(text: &str) -> bool {
    text.trim_start().starts_with(PREFIX_ANY)
}

fn checksum_of(content: &[u8]) -> Vec<u8> {
    let mut digest = Sha256::digest(content).to_vec();
    digest.truncate(CHECKSUM_LEN);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster: "prod".to_owned(),
            node: "n2".to_owned(),
            authorities: vec![vec![1; 400]],
            certificates: vec![vec![2; 500]],
            key: vec![3; 138],
            seeds: vec!["quic://10.0.0.1:4434".to_owned()],
            expires: 1_800_000_000,
        }
    }

    #[test]
    fn a_token_is_read_again_wherever_it_was_wrapped() {
        let text = token().to_text().unwrap();
        assert!(is_token(&text));
        assert_eq!(JoinToken::parse(&text), Ok(token()));
        let (begin, end) = text.split_at(100);
        assert_eq!(
            JoinToken::parse(&format!("  {begin}\r\n {end}\n")),
            Ok(token())
        );
    }

    #[test]
    fn every_way_of_damaging_a_token_is_noticed() {
        let text = token().to_text().unwrap();
        for len in 0..text.len() {
            JoinToken::parse(text.split_at(len).0).unwrap_err();
        }
        for at in PREFIX.len()..text.len() {
            let (before, rest) = text.split_at(at);
            let (own, after) = rest.split_at(1);
            let other = if own == "A" { "B" } else { "A" };
            let damaged = format!("{before}{other}{after}");
            let error = JoinToken::parse(&damaged).unwrap_err();
            assert!(matches!(error, TokenError::Damaged(_)), "{at}: {error}");
        }
        let longer = JoinToken::parse(&format!("{text}AAAA")).unwrap_err();
        assert!(matches!(longer, TokenError::Damaged(_)), "{longer}");
        let endless = "A".repeat(TOKEN_LEN_MAX + 1);
        assert_eq!(
            JoinToken::parse(&endless),
            Err(TokenError::Damaged("it is too long"))
        );
    }

    #[test]
    fn other_texts_are_told_apart() {
        for (text, error) in [
            ("", TokenError::NotOne),
            ("quic://10.0.0.1:4434", TokenError::NotOne),
            ("dialtone-join-2.AAAA", TokenError::Version),
        ] {
            assert_eq!(JoinToken::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_token_expires() {
        let at = UNIX_EPOCH + Duration::from_secs(token().expires);
        token().check_expiry(at - Duration::from_secs(1)).unwrap();
        let error = token().check_expiry(at).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the join token for node \"n2\" of cluster \"prod\" expired at 2027-01-15T08:00:00.000Z"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", token());
        assert!(!shown.contains("3, 3"), "{shown}");
    }
}
