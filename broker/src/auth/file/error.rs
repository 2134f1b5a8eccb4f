//! What can be wrong with a file of users.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::parse::{FILE_LEN_MAX, PROBLEMS_MAX};

/// Why a file of users was not taken. The users that were known before stay.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the users in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        #[source]
        source: io::Error,
    },
    /// Longer than any sensible file of users.
    #[error("the file of users {} is longer than {FILE_LEN_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It says something that makes no sense. The text has a line for each problem, in the form
    /// `file:line:column: …`.
    #[error("{}", Lines { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of the file as far as possible.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong. Never repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The character in the line, counted from 1.
    pub column: usize,
    /// Whose entry it is, where that can be told.
    pub user: Option<String>,
    /// The field of the entry, where that can be told.
    pub field: Option<String>,
    /// What is wrong, for people.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if let Some(user) = &self.user {
            write!(f, "user {user:?}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// The problems as an editor or a terminal wants them.
struct Lines<'a> {
    path: &'a PathBuf,
    problems: &'a [Problem],
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{problem}", self.path.display())?;
        }
        if self.problems.len() >= PROBLEMS_MAX {
            write!(
                f,
                "\n(there may be more; only the first {PROBLEMS_MAX} are listed)"
            )?;
        }
        Ok(())
    }
}
