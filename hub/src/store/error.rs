//! Why something was not stored or not found, in terms of what the caller can do about it.

use sqlx::error::{DatabaseError, ErrorKind};

/// Why a store did not do what it was asked for.
///
/// Except for [`Uncertain`](Self::Uncertain), nothing has been changed by the transaction in question.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database is not reached, is starting, or is too slow. Later it may work.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// More is asked of the database than it may have waiting.
    #[error("too many requests wait for the database ({waiting_max})")]
    Overloaded {
        /// How many may wait.
        waiting_max: usize,
    },
    /// The connection broke while a transaction was committed: it may have happened or not.
    #[error("it is not known whether the change was stored: {0}")]
    Uncertain(String),
    /// Something else with this key is there already.
    #[error("there is one already: {what}")]
    Conflict {
        /// The index that says so, or `table.column` where the database names these.
        what: String,
    },
    /// What was referred to is not there.
    #[error("refers to what is not there: {0}")]
    Missing(String),
    /// A value that the tables do not take.
    #[error("not a value for the database: {0}")]
    Invalid(String),
    /// Two transactions waited for each other, and this one was ended. Done again, it may work.
    #[error("the transaction was ended in favour of another one: {0}")]
    Deadlock(String),
    /// The disk of the database is full.
    #[error("the disk of the database is full: {0}")]
    Full(String),
    /// What is stored is damaged, or not what this version writes.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The database cannot be used in this way until somebody changes the configuration, the database or the program.
    #[error("the database cannot be used: {0}")]
    Unusable(String),
    /// A statement that the database does not understand, or a transaction used wrongly: a mistake of this program.
    #[error("a mistake in the use of the database: {0}")]
    Mistake(String),
}

impl Error {
    /// A name that stays the same, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Overloaded { .. } => "overloaded",
            Self::Uncertain(_) => "uncertain",
            Self::Conflict { .. } => "conflict",
            Self::Missing(_) => "missing",
            Self::Invalid(_) => "invalid",
            Self::Deadlock(_) => "deadlock",
            Self::Full(_) => "full",
            Self::Corrupt(_) => "corrupt",
            Self::Unusable(_) => "unusable",
            Self::Mistake(_) => "mistake",
        }
    }

    /// Whether it may work when it is tried again, nothing having been done.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Overloaded { .. } | Self::Deadlock(_) | Self::Full(_)
        )
    }

    /// Whether a row with the same value in this column is there already. Unique indexes are named `table_column_unique`.
    pub(crate) fn is_conflict(&self, table: &str, column: &str) -> bool {
        let Self::Conflict { what } = self else {
            return false;
        };
        *what == format!("{table}.{column}") || *what == format!("{table}_{column}_unique")
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver has many errors, and may get more; those that are not named may pass"
)]
/// What an error of the driver means, where it is known that nothing was committed.
pub(super) fn of(error: &sqlx::Error) -> Error {
    if let Some(database) = error.as_database_error() {
        return of_database(database);
    }
    match error {
        sqlx::Error::PoolTimedOut => Error::Unavailable("it gave no connection in time".to_owned()),
        sqlx::Error::Configuration(_) => Error::Unusable(error.to_string()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            Error::Corrupt(error.to_string())
        }
        sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Encode(_)
        | sqlx::Error::TypeNotFound { .. } => Error::Mistake(error.to_string()),
        _ => Error::Unavailable(error.to_string()),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what the driver has no kind for is told apart by its code"
)]
fn of_database(error: &dyn DatabaseError) -> Error {
    let text = error.message().to_owned();
    match error.kind() {
        ErrorKind::UniqueViolation => Error::Conflict {
            what: conflict(error),
        },
        ErrorKind::ForeignKeyViolation => Error::Missing(text),
        ErrorKind::NotNullViolation | ErrorKind::CheckViolation | ErrorKind::ExclusionViolation => {
            Error::Invalid(text)
        }
        _ => {
            let code = error.code().unwrap_or_default();
            match code.parse::<u32>() {
                // The codes of PostgreSQL have five characters, and those of SQLite at most four.
                Ok(number) if code.len() < 5 => of_sqlite(number, text),
                _ => of_postgres(&code, text),
            }
        }
    }
}

/// The index, or the column where SQLite says only that.
fn conflict(error: &dyn DatabaseError) -> String {
    if let Some(name) = error.constraint() {
        return name.to_owned();
    }
    // UNIQUE constraint failed: accounts.email_address
    // UNIQUE constraint failed: index 'accounts_name_unique'
    let what = error.message();
    let what = what.rsplit_once("failed: ").map_or(what, |(_, what)| what);
    what.trim_start_matches("index ")
        .trim_matches('\'')
        .to_owned()
}

/// By primary result code: the lower eight bits of <https://www.sqlite.org/rescode.html>.
fn of_sqlite(code: u32, text: String) -> Error {
    match code & 0xff {
        // BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, PROTOCOL.
        5..=7 | 9 | 10 | 15 => Error::Unavailable(text),
        // FULL.
        13 => Error::Full(text),
        // CORRUPT, NOTADB.
        11 | 26 => Error::Corrupt(text),
        // PERM, READONLY, CANTOPEN, AUTH.
        3 | 8 | 14 | 23 => Error::Unusable(text),
        // TOOBIG, CONSTRAINT, MISMATCH.
        18..=20 => Error::Invalid(text),
        _ => Error::Mistake(text),
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(code: &str, text: String) -> Error {
    match code {
        "53100" => Error::Full(text),
        "XX001" | "XX002" => Error::Corrupt(text),
        "40P01" | "40001" => Error::Deadlock(text),
        _ => match code.get(..2).unwrap_or_default() {
            // Values that do not fit, and privileges, passwords and names that are wrong.
            "22" => Error::Invalid(text),
            "28" | "3D" | "3F" => Error::Unusable(text),
            "42" if code == "42501" => Error::Unusable(text),
            "42" | "25" | "26" | "0A" => Error::Mistake(text),
            _ => Error::Unavailable(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases_mean_the_same() {
        let sqlite = [
            (5, "unavailable"),   // BUSY
            (261, "unavailable"), // BUSY_RECOVERY
            (266, "unavailable"), // IOERR_READ
            (13, "full"),         // FULL
            (11, "corrupt"),      // CORRUPT
            (26, "corrupt"),      // NOTADB
            (14, "unusable"),     // CANTOPEN
            (1032, "unusable"),   // READONLY_DBMOVED
            (20, "invalid"),      // MISMATCH
            (1, "mistake"),       // ERROR
        ];
        for (code, name) in sqlite {
            assert_eq!(of_sqlite(code, String::new()).code(), name, "{code}");
        }
        let postgres = [
            ("57P01", "unavailable"), // admin_shutdown
            ("57P03", "unavailable"), // cannot_connect_now
            ("57014", "unavailable"), // query_canceled: the statement took too long
            ("53300", "unavailable"), // too_many_connections
            ("53100", "full"),        // disk_full
            ("XX001", "corrupt"),     // data_corrupted
            ("28P01", "unusable"),    // invalid_password
            ("3D000", "unusable"),    // invalid_catalog_name
            ("42501", "unusable"),    // insufficient_privilege
            ("40P01", "deadlock"),    // deadlock_detected
            ("22021", "invalid"),     // character_not_in_repertoire
            ("42601", "mistake"),     // syntax_error
            ("25P02", "mistake"),     // in_failed_sql_transaction
        ];
        for (code, name) in postgres {
            assert_eq!(of_postgres(code, String::new()).code(), name, "{code}");
        }
    }
}
