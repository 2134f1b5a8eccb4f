//! Credentials in a file.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use dialtone_protocol::frame::Credentials;
use serde::Deserialize;

/// Longest credentials file that is read, in bytes.
pub const CREDENTIALS_FILE_LEN_MAX: u64 = 65_536;

/// Why credentials could not be read from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot read the credentials file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML with the known names.
    #[error("credentials file {} is not valid", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file is larger than [`CREDENTIALS_FILE_LEN_MAX`], or does not have exactly one kind of credentials.
    #[error("credentials file {} {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    token: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

/// Reads a credentials file.
pub(super) fn read(path: &Path) -> Result<Credentials, CredentialsError> {
    let content = |problem| CredentialsError::Content {
        path: path.to_owned(),
        problem,
    };
    let text = read_bounded(path).map_err(|source| CredentialsError::Io {
        path: path.to_owned(),
        source,
    })?;
    if text.len() as u64 > CREDENTIALS_FILE_LEN_MAX {
        return Err(content("is too large"));
    }
    let file: File = toml::from_str(&text).map_err(|source| CredentialsError::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    match file {
        File {
            token: Some(token),
            user: None,
            password: None,
        } => Ok(Credentials::Token(token)),
        File {
            token: None,
            user: Some(user),
            password: Some(password),
        } => Ok(Credentials::Password { user, password }),
        File { .. } => Err(content(
            "must have either a token, or a user and a password",
        )),
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(CREDENTIALS_FILE_LEN_MAX + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unwrap_in_result, reason = "the result is what is tested")]
    fn read_text(text: &str) -> Result<Credentials, CredentialsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_file_has_exactly_one_kind_of_credentials() {
        assert_eq!(
            read_text("token = 'x'").unwrap(),
            Credentials::Token("x".to_owned())
        );
        let password = Credentials::Password {
            user: "u".to_owned(),
            password: "p".to_owned(),
        };
        assert_eq!(read_text("user = 'u'\npassword = 'p'\n").unwrap(), password);
        for wrong in ["", "token = 'x'\nuser = 'u'", "user = 'u'"] {
            assert!(
                matches!(read_text(wrong), Err(CredentialsError::Content { .. })),
                "{wrong}"
            );
        }
        for wrong in ["tokem = 'x'", "token = 1", "token"] {
            assert!(
                matches!(read_text(wrong), Err(CredentialsError::Toml { .. })),
                "{wrong}"
            );
        }
        let large = format!("token = '{}'", "x".repeat(70_000));
        assert!(matches!(
            read_text(&large),
            Err(CredentialsError::Content {
                problem: "is too large",
                ..
            })
        ));
        assert!(matches!(
            read(Path::new("/nonexistent")),
            Err(CredentialsError::Io { .. })
        ));
    }
}
