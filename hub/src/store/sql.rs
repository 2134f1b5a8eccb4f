//! Statements in the words of both databases, the values bound to them, and the rows that come back.
//!
//! Most statements are the same text on both. What differs often has a word of its own:
//!
//! | in the text | means |
//! |---|---|
//! | `{now}` | the time of the database when it got the statement |
//! | `{each $N}` | each of the identifiers of that value, behind `IN` |
//! | `{after $N}`, `{ago $N}` | that time, and as many milliseconds as the value says |
//!
//! Where more differs, [`Sql::pair`] has both texts.

use std::borrow::Cow;

use serde_json::Value as Json;
use uuid::Uuid;

use crate::id::{AccountId, OrganizationId, ProjectId};
use crate::time::{self, Time};

/// In PostgreSQL: not the time when the transaction began, and one that an index can be searched by.
const NOW_POSTGRES: &str = "date_trunc('milliseconds', statement_timestamp())";
const NOW_SQLITE: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A server that several hubs share.
    Postgres,
    /// A file of one hub.
    Sqlite,
}

/// A statement in the words of each database. Values are written `$1`, `$2`, … on both.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    postgres: Cow<'static, str>,
    sqlite: Cow<'static, str>,
}

impl Sql {
    /// One text for both.
    pub(super) const fn same(text: &'static str) -> Self {
        Self::pair(text, text)
    }

    /// A text for each.
    pub(super) const fn pair(postgres: &'static str, sqlite: &'static str) -> Self {
        Self {
            postgres: Cow::Borrowed(postgres),
            sqlite: Cow::Borrowed(sqlite),
        }
    }

    /// A text made of parts that stand in this program, never of what somebody sent.
    pub(super) fn built(text: String) -> Self {
        Self {
            postgres: Cow::Owned(text.clone()),
            sqlite: Cow::Owned(text),
        }
    }

    /// With its first value.
    pub(super) fn bind(self, value: impl Into<Value>) -> Statement {
        Statement::from(self).bind(value)
    }

    fn render(&self, dialect: Dialect) -> String {
        let (text, now) = match dialect {
            Dialect::Postgres => (&self.postgres, NOW_POSTGRES),
            Dialect::Sqlite => (&self.sqlite, NOW_SQLITE),
        };
        let mut out = String::with_capacity(text.len() + NOW_POSTGRES.len());
        let mut rest: &str = text;
        while let Some((before, word, after)) = next_word(rest) {
            out.push_str(before);
            match word.split_once(' ') {
                None => out.push_str(now),
                Some(("each", value)) => match dialect {
                    Dialect::Postgres => out.extend(["SELECT unnest(", value, ")"]),
                    Dialect::Sqlite => out.extend(["SELECT value FROM json_each(", value, ")"]),
                },
                Some((direction, value)) => {
                    let sign = if direction == "ago" { '-' } else { '+' };
                    let unit = match dialect {
                        Dialect::Postgres => " * interval '1 millisecond'",
                        Dialect::Sqlite => "",
                    };
                    out.extend(["(", now, " "]);
                    out.push(sign);
                    out.extend([" ", value, unit, ")"]);
                }
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// What stands before the next word in braces, the word, and what stands behind it. Braces of JSON are no words.
fn next_word(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let (open, _) = text.get(from..)?.match_indices('{').next()?;
        let open = from + open;
        let inner = text.get(open + 1..)?;
        if ["now}", "after $", "ago $", "each $"]
            .iter()
            .any(|word| inner.starts_with(word))
        {
            let (word, after) = inner.split_once('}')?;
            return Some((text.get(..open)?, word, after));
        }
        from = open + 1;
    }
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    sql: Sql,
    values: Vec<Value>,
}

impl From<Sql> for Statement {
    fn from(sql: Sql) -> Self {
        Self {
            sql,
            values: Vec::new(),
        }
    }
}

impl Statement {
    /// With its next value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The text for this database, and the values.
    pub(super) fn into_parts(self, dialect: Dialect) -> (String, Vec<Value>) {
        (self.sql.render(dialect), self.values)
    }
}

/// A value of a statement. `None` is NULL.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `text`, `TEXT`
    Text(Option<String>),
    /// `bigint`, `INTEGER`
    Int(Option<i64>),
    /// `boolean`, `INTEGER` of 0 or 1
    Bool(Option<bool>),
    /// `uuid`, `TEXT` in lower case
    Uuid(Option<Uuid>),
    /// `timestamptz`, `INTEGER` of milliseconds
    Time(Option<Time>),
    /// `jsonb`, `TEXT`
    Json(Option<Json>),
    /// `uuid[]`, `TEXT` with a JSON array
    Uuids(Vec<Uuid>),
    /// `bytea`, `BLOB`
    Bytes(Vec<u8>),
}

macro_rules! values {
    ($($from:ty => $variant:ident, $convert:expr;)*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                let convert: fn($from) -> _ = $convert;
                Self::$variant(Some(convert(value)))
            }
        }
        impl From<Option<$from>> for Value {
            fn from(value: Option<$from>) -> Self {
                Self::$variant(value.map($convert))
            }
        }
    )*};
}

values! {
    &str => Text, str::to_owned;
    &String => Text, String::clone;
    String => Text, |text| text;
    i64 => Int, |number| number;
    std::time::Duration => Int, time::millis;
    bool => Bool, |value| value;
    Uuid => Uuid, |id| id;
    AccountId => Uuid, AccountId::uuid;
    ProjectId => Uuid, ProjectId::uuid;
    OrganizationId => Uuid, OrganizationId::uuid;
    Time => Time, |time| time;
    Json => Json, |json| json;
    &Json => Json, Json::clone;
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<Uuid>> for Value {
    fn from(ids: Vec<Uuid>) -> Self {
        Self::Uuids(ids)
    }
}

/// An identifier as SQLite has it.
pub(super) fn uuid_text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &'static str, postgres: &str, sqlite: &str) {
        let now = |text: &str, now| text.replace("NOW", now);
        let sql = Sql::same(text);
        assert_eq!(sql.render(Dialect::Postgres), now(postgres, NOW_POSTGRES));
        assert_eq!(sql.render(Dialect::Sqlite), now(sqlite, NOW_SQLITE));
    }

    #[test]
    fn words_become_what_each_database_understands() {
        check("SELECT 1", "SELECT 1", "SELECT 1");
        check("a = {now}", "a = NOW", "a = NOW");
        check(
            "{after $2}, {now}, {ago $10}",
            "(NOW + $2 * interval '1 millisecond'), NOW, (NOW - $10 * interval '1 millisecond')",
            "(NOW + $2), NOW, (NOW - $10)",
        );
        check(
            "'{}' {now} '{\"a\"}'",
            "'{}' NOW '{\"a\"}'",
            "'{}' NOW '{\"a\"}'",
        );
        check("{unknown}", "{unknown}", "{unknown}");
    }
}
