//! Random secrets, and the hashes by which the store knows them.

use std::fmt::{self, Write as _};

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The digits of [`base62`](encode62) numbers and of random text, in order of their value.
const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Characters of a token: 43 of 62 kinds have 256 bits.
pub const TOKEN_LEN: usize = 43;

/// Longest text that is looked at as a token, in bytes.
pub const TOKEN_LEN_MAX: usize = 256;

/// A secret that nobody can guess. It is shown to whoever may have it once, and stored as its [`hash`](Self::hash).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one with 256 random bits.
    pub fn random() -> Self {
        Self(random_text(TOKEN_LEN))
    }

    /// One that somebody offers; `None` if it cannot be one.
    pub fn offered(text: &str) -> Option<Self> {
        let plausible = (1..=TOKEN_LEN_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        plausible.then(|| Self(text.to_owned()))
    }

    /// Whether a text has the form of those that are made here, so that it is no secret of somebody else's.
    pub fn has_form(text: &str) -> bool {
        text.len() == TOKEN_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it, and what it is found by.
    pub fn hash(&self) -> String {
        hash(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The SHA-256 of a random secret, as 64 hexadecimal digits. One pass is enough for secrets that nobody can guess, and
/// looking one up by its hash tells nobody anything about the others.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Random text of letters and digits, from the system's generator for secrets.
pub fn random_text(len: usize) -> String {
    let mut random = rand::rng();
    (0..len)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}

/// Whether two secrets are the same, in a time that depends on their lengths alone.
pub fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// A number in `width` digits of base 62; `None` if it does not fit.
pub fn encode62(number: u64, width: usize) -> Option<String> {
    let mut digits = vec![ALPHABET[0]; width];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(rest % 62).ok()?];
        rest /= 62;
    }
    (rest == 0).then(|| digits.into_iter().map(char::from).collect())
}

/// Reads what [`encode62`] writes; `None` if it is something else.
pub fn decode62(text: &str) -> Option<u64> {
    let value = |byte: u8| ALPHABET.iter().position(|&digit| digit == byte);
    text.bytes().try_fold(0_u64, |number, byte| {
        let digit = u64::try_from(value(byte)?).ok()?;
        number.checked_mul(62)?.checked_add(digit)
    })
}

/// Bytes as hexadecimal digits in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_long_random_and_never_printed() {
        let tokens: Vec<Token> = (0..100).map(|_| Token::random()).collect();
        let texts: HashSet<&str> = tokens.iter().map(Token::reveal).collect();
        assert_eq!(texts.len(), tokens.len());
        for token in &tokens {
            assert_eq!(token.reveal().len(), TOKEN_LEN);
            assert_eq!(Token::offered(token.reveal()).as_ref(), Some(token));
            assert!(!format!("{token:?}").contains(token.reveal()));
            assert_eq!(token.hash().len(), 64);
            assert!(!token.hash().contains(token.reveal()));
        }
        assert_eq!(
            Token("abc".to_owned()).hash(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_cannot_be_a_token_is_not_looked_up() {
        let long = "x".repeat(TOKEN_LEN_MAX + 1);
        for text in ["", "a b", "a;b", "ä", "a\n", long.as_str()] {
            assert_eq!(Token::offered(text), None, "{text:?}");
        }
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        assert!(is_same("", "") && is_same("abc", "abc"));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!is_same("abc", other));
        }
    }

    #[test]
    fn numbers_have_fixed_widths() {
        assert_eq!(encode62(0, 6).as_deref(), Some("000000"));
        assert_eq!(encode62(61, 6).as_deref(), Some("00000Z"));
        assert_eq!(encode62(62, 6).as_deref(), Some("000010"));
        assert_eq!(encode62(62_u64.pow(6), 6), None);
        assert_eq!(decode62("00000-"), None);
        assert_eq!(decode62("ZZZZZZZZZZZZZZZZ"), None);
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(number in 0..62_u64.pow(6)) {
            let text = encode62(number, 6).unwrap();
            prop_assert_eq!(text.len(), 6);
            prop_assert_eq!(decode62(&text), Some(number));
        }
    }
}
