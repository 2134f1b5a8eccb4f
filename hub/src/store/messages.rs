//! Messages between accounts: one row for what is said, and one for each account that has it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::error::Error;
use super::outbox::{Change, Table};
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::AccountId;
use crate::time::Time;

/// Most receivers that are told with a message; those of a message to an organization are not all told to all.
const TOLD_MAX: i64 = 100;

/// A message to be sent.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// Who sends it.
    pub from: AccountId,
    /// Who gets it.
    pub to: &'a [AccountId],
    /// What it is about, in one line.
    pub subject: &'a str,
    /// What it says.
    pub body: &'a str,
    /// The first message of those that it belongs to.
    pub thread: Option<i64>,
}

/// Which messages of an account are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those that it got.
    Received,
    /// Those that it sent.
    Sent,
    /// Those that it got, and has neither read nor put away.
    New,
    /// Those that it has marked.
    Starred,
}

/// A message as one of those who have it sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its number.
    pub id: i64,
    /// When it was sent.
    pub sent: Option<Time>,
    /// Who sent it.
    pub from: AccountId,
    /// Who got it; not more than a hundred are told.
    pub to: Vec<AccountId>,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// The first message of those that it belongs to.
    pub thread: Option<i64>,
    /// What this account did with it.
    pub flags: Flags,
}

/// What an account did with a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// It was read.
    pub read: bool,
    /// It was put away.
    pub saved: bool,
    /// It was marked.
    pub starred: bool,
    /// Its sender is to know that it is liked.
    pub liked: bool,
    /// It was thrown away.
    pub deleted: bool,
    /// It may be removed for good.
    pub expired: bool,
}

/// Sends a message, and returns its number.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(on: &mut Transaction, new: &New<'_>) -> Result<i64, Error> {
    let insert = Sql::same(
        "INSERT INTO messages (sent, from_id, subject, body, thread_id) VALUES ({now}, $1, $2, $3, $4) RETURNING id",
    );
    let insert = insert
        .bind(new.from)
        .bind(new.subject)
        .bind(new.body)
        .bind(new.thread);
    let row = on.row(insert).await?;
    let id: i64 = row
        .ok_or_else(|| Error::Corrupt("a message has no number".to_owned()))?
        .get("id")?;
    let mut to: Vec<Uuid> = new.to.iter().map(|id| id.uuid()).collect();
    to.sort_unstable();
    to.dedup();
    let receivers = Sql::pair(
        "INSERT INTO message_recipients (message_id, account_id) SELECT CAST($1 AS bigint), unnest($2)",
        "INSERT INTO message_recipients (message_id, account_id) SELECT $1, value FROM json_each($2)",
    );
    on.execute(receivers.bind(id).bind(to.clone())).await?;
    // Who writes to himself has the message once.
    let sender = Sql::same(
        "INSERT INTO message_recipients (message_id, account_id, received, read) VALUES ($1, $2, $3, $4)
         ON CONFLICT (message_id, account_id) DO NOTHING",
    );
    on.execute(sender.bind(id).bind(new.from).bind(false).bind(true))
        .await?;
    count_unread(on, &to).await?;
    on.changed(Change::insert(Table::Messages, json!({ "id": id })).account(new.from));
    for account in to {
        let account = AccountId::from_uuid(account);
        let key = json!({"message_id": id, "account_id": account});
        on.changed(Change::insert(Table::MessageRecipients, key).account(account));
    }
    Ok(id)
}

/// Counts for each of these accounts, in their order, what it has not read.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn count_unread(on: &mut Transaction, accounts: &[Uuid]) -> Result<(), Error> {
    // All take the rows of accounts in this order, so that none waits for another in a circle.
    let lock = Sql::pair(
        "SELECT 1 FROM accounts WHERE account_id IN ({each $1}) ORDER BY account_id FOR UPDATE",
        "SELECT 1 FROM accounts WHERE $1 IS NULL",
    );
    on.rows(lock.bind(accounts.to_vec())).await?;
    let count = Sql::same(
        "UPDATE accounts SET unread_message_count = (
            SELECT count(*) FROM message_recipients r
             WHERE r.account_id = accounts.account_id
               AND r.received AND NOT r.read AND NOT r.saved AND NOT r.deleted AND NOT r.expired)
          WHERE account_id IN ({each $1})",
    );
    on.execute(count.bind(accounts.to_vec())).await?;
    for account in accounts.iter().copied().map(AccountId::from_uuid) {
        let key = json!({ "account_id": account });
        let change = Change::update(Table::Accounts, key, &["unread_message_count"]);
        on.changed(change.account(account));
    }
    Ok(())
}

/// The thread of a message that the account has: its first message. `None` if the account has no such message.
///
/// # Errors
/// When the database does not answer.
pub async fn thread(on: &mut Reader, id: i64, account: AccountId) -> Result<Option<i64>, Error> {
    let find = Sql::same(
        "SELECT coalesce(thread_id, message_id) AS thread FROM message_views
          WHERE message_id = $1 AND account_id = $2",
    );
    let row = on.row(find.bind(id).bind(account)).await?;
    row.map(|row| row.get("thread")).transpose()
}

/// Messages of an account, the last one first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    on: &mut Reader,
    account: AccountId,
    kind: Kind,
    since: Option<Time>,
    (limit, offset): (i64, i64),
) -> Result<Vec<Message>, Error> {
    let which = match kind {
        Kind::Received => "received",
        Kind::Sent => "from_id = $1",
        Kind::New => "received AND NOT read AND NOT saved AND NOT deleted",
        Kind::Starred => "starred",
    };
    let list = Sql::built(format!(
        "SELECT message_id, sent, from_id, subject, body, thread_id, read, saved, starred, liked, deleted, expired
           FROM message_views
          WHERE account_id = $1 AND NOT expired AND {which} AND sent >= $2
          ORDER BY message_id DESC LIMIT $3 OFFSET $4"
    ));
    let since = since.unwrap_or(Time::from_millis(0));
    let rows = on
        .rows(list.bind(account).bind(since).bind(limit).bind(offset))
        .await?;
    let mut messages: Vec<Message> = rows.iter().map(message).collect::<Result<_, _>>()?;
    let ids: Vec<Json> = messages.iter().map(|message| json!(message.id)).collect();
    let mut receivers = receivers(on, ids).await?;
    for message in &mut messages {
        message.to = receivers.remove(&message.id).unwrap_or_default();
    }
    Ok(messages)
}

fn message(row: &Row) -> Result<Message, Error> {
    Ok(Message {
        id: row.get("message_id")?,
        sent: row.maybe("sent")?,
        from: row.get("from_id")?,
        to: Vec::new(),
        subject: row.get("subject")?,
        body: row.get("body")?,
        thread: row.maybe("thread_id")?,
        flags: Flags {
            read: row.get("read")?,
            saved: row.get("saved")?,
            starred: row.get("starred")?,
            liked: row.get("liked")?,
            deleted: row.get("deleted")?,
            expired: row.get("expired")?,
        },
    })
}

/// Who got these messages.
async fn receivers(
    on: &mut Reader,
    ids: Vec<Json>,
) -> Result<BTreeMap<i64, Vec<AccountId>>, Error> {
    let find = Sql::pair(
        "SELECT message_id, account_id FROM (
            SELECT message_id, account_id, row_number() OVER (PARTITION BY message_id ORDER BY account_id) AS n
              FROM message_recipients
             WHERE received AND message_id IN (SELECT CAST(value AS bigint) FROM jsonb_array_elements_text($1))
         ) AS numbered WHERE n <= $2 ORDER BY message_id, account_id",
        "SELECT message_id, account_id FROM (
            SELECT message_id, account_id, row_number() OVER (PARTITION BY message_id ORDER BY account_id) AS n
              FROM message_recipients
             WHERE received AND message_id IN (SELECT value FROM json_each($1))
         ) AS numbered WHERE n <= $2 ORDER BY message_id, account_id",
    );
    let rows = on.rows(find.bind(Json::Array(ids)).bind(TOLD_MAX)).await?;
    let mut found: BTreeMap<i64, Vec<AccountId>> = BTreeMap::new();
    for row in &rows {
        let receivers = found.entry(row.get("message_id")?).or_default();
        receivers.push(row.get("account_id")?);
    }
    Ok(found)
}
