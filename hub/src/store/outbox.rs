//! What was changed, in the order in which it was committed: written in the transaction of the change, with numbers
//! that have no gaps, and read from any number on.
//!
//! Numbers of a sequence would become visible out of order, because transactions do not commit in the order in which
//! they took them, and a reader that remembers the highest one would miss what comes late. So they are counted in one
//! row, which a transaction takes last and holds until it is committed: whoever sees a number sees all before it.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::error::Error;
use super::row::Row;
use super::sql::{Dialect, Sql};
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::time::{Time, millis};

/// Where PostgreSQL tells that there is something new; what it tells is the number and nothing else.
pub(super) const CHANNEL: &str = "dialtone_hub_outbox";

/// How many changes a reader gets at once at most.
pub const BATCH_MAX: i64 = 1000;

macro_rules! tables {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A table whose changes are told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Table {
            $($(#[$doc])* $variant,)*
        }

        impl Table {
            /// Its name in the database.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The table with this name; newer hubs may know others.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

tables! {
    /// People.
    Accounts = "accounts",
    /// Sessions of browsers.
    RememberMe = "remember_me",
    /// Keys of programs.
    ApiKeys = "api_keys",
    /// Tokens without which nobody signs up.
    RegistrationTokens = "registration_tokens",
    /// Settings of the site.
    ServerSettings = "server_settings",
    /// Projects.
    Projects = "projects",
    /// Who is in which project.
    ProjectMembers = "project_members",
    /// Organisations.
    Organizations = "organizations",
    /// Who is in which organisation.
    OrganizationMembers = "organization_members",
    /// Messages between people.
    Messages = "messages",
    /// Who got which message.
    MessageRecipients = "message_recipients",
    /// What happened in projects.
    ProjectLog = "project_log",
    /// Who used which file.
    FileUse = "file_use",
    /// Who was named in which file.
    Mentions = "mentions",
    /// What is in folders of projects.
    Listings = "listings",
    /// What projects show to everybody.
    PublicPaths = "public_paths",
    /// Who would like to be let into a project.
    ProjectJoinRequests = "project_join_requests",
    /// What the site tells everybody.
    News = "news",
    /// What the site tells everybody now.
    SystemNotifications = "system_notifications",
}

/// What was done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// It is new.
    Insert,
    /// Some of its columns are different.
    Update,
    /// It is gone.
    Delete,
}

/// A change of a row. Its content is not here: who wants it reads the row, with the rights of the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of which table.
    pub table: Table,
    /// What was done.
    pub op: Op,
    /// The columns of the primary key with their values.
    pub key: Json,
    /// The columns that an update has set; they may have had the same value before.
    pub fields: Vec<String>,
    /// The project that it is about.
    pub project_id: Option<ProjectId>,
    /// The account that it is about.
    pub account_id: Option<AccountId>,
}

impl Change {
    /// A new row with this key.
    pub fn insert(table: Table, key: Json) -> Self {
        Self::new(table, Op::Insert, key, &[])
    }

    /// A row of which these columns were set.
    pub fn update(table: Table, key: Json, fields: &[&str]) -> Self {
        Self::new(table, Op::Update, key, fields)
    }

    /// A row that is gone.
    pub fn delete(table: Table, key: Json) -> Self {
        Self::new(table, Op::Delete, key, &[])
    }

    fn new(table: Table, op: Op, key: Json, fields: &[&str]) -> Self {
        Self {
            table,
            op,
            key,
            fields: fields.iter().map(ToString::to_string).collect(),
            project_id: None,
            account_id: None,
        }
    }

    /// The same, about this account.
    pub fn account(mut self, id: AccountId) -> Self {
        self.account_id = Some(id);
        self
    }

    /// The same, about this project.
    pub fn project(mut self, id: ProjectId) -> Self {
        self.project_id = Some(id);
        self
    }

    fn to_json(&self, number: usize) -> Json {
        json!({
            "n": number,
            "tbl": self.table.name(),
            "op": self.op,
            "pk": self.key,
            "fields": self.fields,
            "project_id": self.project_id,
            "account_id": self.account_id,
        })
    }
}

/// A change that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number: one more than that of the change before it.
    pub seq: i64,
    /// When it was made, about.
    pub time: Time,
    /// What was changed.
    pub change: Change,
}

/// What a reader finds behind the number up to which it has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// The next changes; possibly none.
    Changes {
        /// Those that this version understands, in order.
        entries: Vec<Entry>,
        /// Up to where they go: where to read on.
        next: i64,
    },
    /// Some changes behind the number are no longer kept. What the reader knows must be read anew, after which it
    /// reads on behind `head`.
    Gap {
        /// The last number given when this was found.
        head: i64,
    },
}

const APPEND_POSTGRES: Sql = Sql::same(
    "WITH head AS (
        UPDATE outbox_head SET seq = seq + $1 RETURNING seq
     ), added AS (
        INSERT INTO change_log (seq, time, tbl, op, pk, fields, project_id, account_id)
        SELECT head.seq - $1 + c.n, {now}, c.tbl, c.op, c.pk, c.fields, c.project_id, c.account_id
          FROM head, jsonb_to_recordset($2) AS c (
               n bigint, tbl text, op text, pk jsonb, fields jsonb, project_id uuid, account_id uuid)
     )
     SELECT seq FROM head, pg_notify($3, head.seq::text)",
);

const COUNT_SQLITE: Sql = Sql::same("UPDATE outbox_head SET seq = seq + $1 RETURNING seq");

const APPEND_SQLITE: Sql = Sql::same(
    "INSERT INTO change_log (seq, time, tbl, op, pk, fields, project_id, account_id)
     SELECT $1 + (value ->> 'n'), {now}, value ->> 'tbl', value ->> 'op', value -> 'pk', value -> 'fields',
            value ->> 'project_id', value ->> 'account_id'
       FROM json_each($2)",
);

/// Writes the changes of a transaction behind all others, as the last thing before its commit, and returns the number
/// of the last one.
pub(super) async fn append(on: &mut Reader, changes: &[Change]) -> Result<i64, Error> {
    let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
    let numbered = changes.iter().zip(1..);
    let list: Json = numbered.map(|(change, n)| change.to_json(n)).collect();
    let missing = || Error::Corrupt("the head of the log of changes is not there".to_owned());
    if on.dialect() == Dialect::Postgres {
        let append = APPEND_POSTGRES.bind(count).bind(list).bind(CHANNEL);
        return on.row(append).await?.ok_or_else(missing)?.get("seq");
    }
    let counted = on.row(COUNT_SQLITE.bind(count)).await?;
    let last: i64 = counted.ok_or_else(missing)?.get("seq")?;
    on.execute(APPEND_SQLITE.bind(last - count).bind(list))
        .await?;
    Ok(last)
}

/// The last number given.
///
/// # Errors
/// When the database does not answer.
pub async fn head(on: &mut Reader) -> Result<i64, Error> {
    Ok(ends(on).await?.0)
}

/// The last number given, and the last one that was trimmed.
async fn ends(on: &mut Reader) -> Result<(i64, i64), Error> {
    let row = on
        .row(Sql::same("SELECT seq, trimmed FROM outbox_head").into())
        .await?;
    let row = row.ok_or_else(|| Error::Corrupt("the log of changes has no head".to_owned()))?;
    Ok((row.get("seq")?, row.get("trimmed")?))
}

const READ: Sql = Sql::same(
    "SELECT seq, time, tbl, op, pk, fields, project_id, account_id
       FROM change_log WHERE seq > $1 ORDER BY seq LIMIT $2",
);

/// At most `limit` changes behind the number `after`, and no more than [`BATCH_MAX`].
///
/// # Errors
/// When the database does not answer.
pub async fn read(on: &mut Reader, after: i64, limit: i64) -> Result<Batch, Error> {
    let rows = on
        .rows(READ.bind(after).bind(limit.clamp(1, BATCH_MAX)))
        .await?;
    let Some(first) = rows.first() else {
        let (head, trimmed) = ends(on).await?;
        // A number that was never given is of another database, or of this one before it was restored.
        return Ok(if trimmed > after || after > head {
            Batch::Gap { head }
        } else {
            Batch::Changes {
                entries: Vec::new(),
                next: after,
            }
        });
    };
    if first.get::<i64>("seq")? != after + 1 {
        let (head, _) = ends(on).await?;
        return Ok(Batch::Gap { head });
    }
    let mut entries = Vec::with_capacity(rows.len());
    let mut next = after;
    for row in &rows {
        next = row.get("seq")?;
        entries.extend(entry(row)?);
    }
    Ok(Batch::Changes { entries, next })
}

/// `None` if only a newer version understands it.
fn entry(row: &Row) -> Result<Option<Entry>, Error> {
    let Some(table) = Table::from_name(&row.get::<String>("tbl")?) else {
        return Ok(None);
    };
    let understood = |error: serde_json::Error| Error::Corrupt(format!("a change: {error}"));
    let op = serde_json::from_value(row.get::<String>("op")?.into()).map_err(understood)?;
    Ok(Some(Entry {
        seq: row.get("seq")?,
        time: row.get("time")?,
        change: Change {
            table,
            op,
            key: row.get("pk")?,
            fields: serde_json::from_value(row.get("fields")?).map_err(understood)?,
            project_id: row.maybe("project_id")?,
            account_id: row.maybe("account_id")?,
        },
    }))
}

const OLD: Sql = Sql::same(
    "SELECT max(seq) AS last FROM (SELECT seq, time FROM change_log ORDER BY seq LIMIT $2) AS oldest
      WHERE time < {ago $1}",
);

/// Removes at most `limit` of the oldest changes that are older than this, and returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn trim(
    on: &mut Transaction,
    older: std::time::Duration,
    limit: i64,
) -> Result<u64, Error> {
    let found = on.row(OLD.bind(millis(older)).bind(limit)).await?;
    let Some(last) = found
        .map(|row| row.maybe::<i64>("last"))
        .transpose()?
        .flatten()
    else {
        return Ok(0);
    };
    let delete = Sql::same("DELETE FROM change_log WHERE seq <= $1");
    let gone = on.execute(delete.bind(last)).await?;
    // Last, as in every transaction that takes this row.
    let note = Sql::same("UPDATE outbox_head SET trimmed = $1 WHERE trimmed < $1");
    on.execute(note.bind(last)).await?;
    Ok(gone)
}
