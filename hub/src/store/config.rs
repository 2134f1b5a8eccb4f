//! Where the database is, and how much is asked of it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A server that several hubs may share.
    Postgres {
        /// `postgres://USER@HOST:PORT/DATABASE`, with the parameters of libpq (`sslmode`, `sslrootcert`, `host`, …).
        url: String,
        /// The password, where the URL has none.
        password: Option<String>,
    },
    /// A file, made if it is not there. One hub has it; commands beside it may use it too.
    Sqlite {
        /// The file. Beside it are two more of the same name with `-wal` and `-shm`.
        path: PathBuf,
    },
}

/// Without passwords.
impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Without passwords.
impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres { url, .. } => f.write_str(&without_password(url)),
            Self::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
        }
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (before, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // Behind the last `@` is the host: a password may have one as well.
    let before = match before.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{user}@{host}")
        }
        None => before.to_owned(),
    };
    let parameters: Vec<&str> = parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty() && !parameter.starts_with("password="))
        .collect();
    let sign = if parameters.is_empty() { "" } else { "?" };
    format!("{scheme}://{before}{sign}{}", parameters.join("&"))
}

/// Neither of the two forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a database is `postgres://USER@HOST/DATABASE` or `sqlite:FILE`, not {0:?}")]
pub struct InvalidLocation(String);

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres {
                url: text.to_owned(),
                password: None,
            });
        }
        let path = text.strip_prefix("sqlite:").unwrap_or_default();
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(InvalidLocation(without_password(text)));
        }
        Ok(Self::Sqlite { path: path.into() })
    }
}

/// Where the database is, and how much is asked of it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it is.
    pub location: Location,
    /// Most connections at the same time; at least 3, because one listens. SQLite has one of these for writing.
    pub connections_max: u32,
    /// How many requests may have or wait for a connection; more are refused.
    pub waiting_max: usize,
    /// How long it may take to get a connection.
    pub connect_max: Duration,
    /// How long a statement may take, as the database and as we count; also how long a transaction may be left alone.
    pub statement_max: Duration,
    /// From which time a statement is logged as slow.
    pub slow_min: Duration,
    /// How often it is looked whether there are changes that nobody told of: those of other processes in SQLite, and
    /// those of the time in which the connection that listens was broken.
    pub poll: Duration,
}

impl Config {
    /// The defaults, for a database there.
    pub const fn new(location: Location) -> Self {
        Self {
            location,
            connections_max: 16,
            waiting_max: 1024,
            connect_max: Duration::from_secs(5),
            statement_max: Duration::from_secs(30),
            slow_min: Duration::from_secs(1),
            poll: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        match text.parse::<Location>() {
            Ok(location) => {
                assert_eq!(location.to_string(), shown);
                assert_eq!(format!("{location:?}"), shown);
            }
            Err(error) => assert_eq!(error.to_string(), shown),
        }
    }

    #[test]
    fn a_location_is_shown_without_its_password() {
        check("postgres://hub@db/site", "postgres://hub@db/site");
        check("postgresql:///site", "postgresql:///site");
        check(
            "postgres://hub:secr@t@db:5432/site",
            "postgres://hub@db:5432/site",
        );
        check(
            "postgres://hub@db/site?password=secret&sslmode=require",
            "postgres://hub@db/site?sslmode=require",
        );
        check("sqlite:/var/lib/hub.db", "sqlite:/var/lib/hub.db");
        check("sqlite:///var/lib/hub.db", "sqlite:/var/lib/hub.db");
        check(
            "mysql://hub:secret@db/site",
            "a database is `postgres://USER@HOST/DATABASE` or `sqlite:FILE`, not \"mysql://hub@db/site\"",
        );
        check(
            "sqlite:",
            "a database is `postgres://USER@HOST/DATABASE` or `sqlite:FILE`, not \"sqlite:\"",
        );
    }
}
