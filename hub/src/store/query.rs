//! Statements for planned queries of clients ([`query`](crate::query)).
//!
//! Names of tables and columns come from the rules, which stand in this program; what a client sent is only ever bound.

use serde_json::{Map, Value as Json, json};

use super::error::Error;
use super::messages;
use super::outbox::{self, Op};
use super::row::Row;
use super::sql::{self, Dialect, Sql, Statement};
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::query::{
    Assigned, Change, ChangeKind, Comparison, Condition, Derived, Direction, Field, Kind, Select,
    Value,
};

/// A statement as it comes together: its text, and the values in the order of their numbers.
#[derive(Debug)]
struct Draft {
    dialect: Dialect,
    text: String,
    values: Vec<sql::Value>,
}

impl Draft {
    fn new(dialect: Dialect, text: &str) -> Self {
        Self {
            dialect,
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Binds a value, and returns how it is written.
    fn bind(&mut self, value: impl Into<sql::Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Writes parts with something between them.
    fn join<T>(
        &mut self,
        parts: impl IntoIterator<Item = T>,
        between: &str,
        part: impl Fn(&mut Self, T),
    ) {
        for (n, one) in parts.into_iter().enumerate() {
            if n > 0 {
                self.push(between);
            }
            part(self, one);
        }
    }

    fn finish(self) -> Statement {
        let statement = Statement::from(Sql::built(self.text));
        self.values.into_iter().fold(statement, Statement::bind)
    }
}

impl From<&Value> for sql::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Uuid(id) => (*id).into(),
            Value::Text(text) => text.into(),
            Value::Int(number) => (*number).into(),
            Value::Bool(value) => (*value).into(),
            Value::Time(time) => (*time).into(),
            Value::Json(json) => json.into(),
        }
    }
}

/// The rows that a client reads, each with the fields that are not empty.
///
/// # Errors
/// When the database does not answer.
pub async fn select(on: &mut Reader, select: &Select) -> Result<Vec<Json>, Error> {
    let mut draft = Draft::new(on.dialect(), "SELECT ");
    draft.join(&select.fields, ", ", |draft, field| put_field(draft, field));
    draft.push(&format!(" FROM {} AS t", select.table.read_from()));
    put_where(&mut draft, &select.conditions);
    put_order(&mut draft, select);
    let limit = draft.bind(i64::from(select.limit));
    draft.push(&format!(" LIMIT {limit}"));
    let rows = on.rows(draft.finish()).await?;
    rows.iter()
        .map(|row| read_row(row, &select.fields))
        .collect()
}

fn put_field(draft: &mut Draft, field: &Field) {
    let column = field.column;
    let expression = match (field.kind, draft.dialect) {
        (Kind::Derived(Derived::ProjectUsers), Dialect::Postgres) => {
            "(SELECT jsonb_object_agg(m.account_id::text, jsonb_build_object('group', m.grp, 'hide', m.hide))
                FROM project_members m WHERE m.project_id = t.project_id)"
        }
        (Kind::Derived(Derived::ProjectUsers), Dialect::Sqlite) => {
            "(SELECT json_group_object(m.account_id, json_object('group', m.grp,
                        'hide', json(CASE WHEN m.hide THEN 'true' ELSE 'false' END)))
                FROM project_members m WHERE m.project_id = t.project_id)"
        }
        (Kind::Derived(Derived::ProjectLastActive), Dialect::Postgres) => {
            "(SELECT jsonb_object_agg(m.account_id::text, (extract(epoch FROM m.last_active) * 1000)::bigint)
                FROM project_members m WHERE m.project_id = t.project_id AND m.last_active IS NOT NULL)"
        }
        (Kind::Derived(Derived::ProjectLastActive), Dialect::Sqlite) => {
            "(SELECT json_group_object(m.account_id, m.last_active)
                FROM project_members m WHERE m.project_id = t.project_id AND m.last_active IS NOT NULL)"
        }
        (Kind::Derived(Derived::AccountPassports), Dialect::Postgres) => {
            "(SELECT COALESCE(jsonb_object_agg(p.strategy || '-' || p.external_id, p.profile), '{}'::jsonb)
                FROM passport_links p WHERE p.account_id = t.account_id)"
        }
        (Kind::Derived(Derived::AccountPassports), Dialect::Sqlite) => {
            "(SELECT json_group_object(p.strategy || '-' || p.external_id, json(p.profile))
                FROM passport_links p WHERE p.account_id = t.account_id)"
        }
        (
            Kind::Uuid | Kind::Text(_) | Kind::Int | Kind::Bool | Kind::Time | Kind::Json(_),
            Dialect::Postgres | Dialect::Sqlite,
        ) => {
            draft.push(&format!("t.{column} AS {column}"));
            return;
        }
    };
    draft.push(&format!("{expression} AS {column}"));
}

fn put_where(draft: &mut Draft, conditions: &[Condition]) {
    if conditions.is_empty() {
        return;
    }
    draft.push(" WHERE ");
    draft.join(conditions, " AND ", put_condition);
}

fn put_condition(draft: &mut Draft, condition: &Condition) {
    let text = match condition {
        Condition::Compare(column, comparison, value) => {
            let value_text = draft.bind(value);
            compared(draft.dialect, column, *comparison, value, &value_text)
        }
        Condition::Empty(column, true) => format!("t.{column} IS NULL"),
        Condition::Empty(column, false) => format!("t.{column} IS NOT NULL"),
        Condition::AnyOf(column, values) => {
            let values: Vec<String> = values.iter().map(|value| draft.bind(value)).collect();
            format!("t.{column} IN ({})", values.join(", "))
        }
        Condition::NoneOf(column, texts) => {
            let texts: Vec<String> = texts.iter().map(|text| draft.bind(*text)).collect();
            format!("t.{column} NOT IN ({})", texts.join(", "))
        }
        Condition::MemberProject(column, account) => {
            let account = draft.bind(*account);
            format!(
                "t.{column} IN (SELECT project_id FROM project_members WHERE account_id = {account})"
            )
        }
        Condition::Listed(column, account) => {
            let account = draft.bind(account.to_string());
            match draft.dialect {
                Dialect::Postgres => format!("jsonb_exists(t.{column}, {account})"),
                Dialect::Sqlite => {
                    format!("EXISTS (SELECT 1 FROM json_each(t.{column}) WHERE value = {account})")
                }
            }
        }
        Condition::SharesProject(column, account) => {
            let account = draft.bind(*account);
            format!(
                "(t.{column} = {account} OR t.{column} IN (SELECT other.account_id FROM project_members other
                    JOIN project_members own ON own.project_id = other.project_id WHERE own.account_id = {account}))"
            )
        }
        Condition::Within(column, age) => {
            let age = draft.bind(*age);
            format!("t.{column} > {{ago {age}}}")
        }
    };
    draft.push(&text);
}

/// Empty columns are different from every value, and neither higher nor lower.
fn compared(
    dialect: Dialect,
    column: &str,
    comparison: Comparison,
    value: &Value,
    written: &str,
) -> String {
    // By the bytes of the texts, as SQLite does it, and not by the language of the database.
    let collated = match (dialect, value) {
        (Dialect::Postgres, Value::Text(_)) => " COLLATE \"C\"",
        (Dialect::Postgres | Dialect::Sqlite, _) => "",
    };
    let operator = match comparison {
        Comparison::Equal => return format!("t.{column} = {written}"),
        Comparison::NotEqual => return format!("t.{column} IS DISTINCT FROM {written}"),
        Comparison::Like => {
            return format!("lower(t.{column}) LIKE lower({written}) ESCAPE '\\'");
        }
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    };
    format!("t.{column}{collated} {operator} {written}")
}

/// In the order that was asked for, empty ones last, and beyond that always the same.
fn put_order(draft: &mut Draft, select: &Select) {
    draft.push(" ORDER BY ");
    for (column, direction) in &select.order {
        let is_text = select
            .table
            .fields
            .iter()
            .any(|field| field.column == *column && matches!(field.kind, Kind::Text(_)));
        let collated = match (draft.dialect, is_text) {
            (Dialect::Postgres, true) => " COLLATE \"C\"",
            (Dialect::Postgres | Dialect::Sqlite, _) => "",
        };
        let word = match direction {
            Direction::Ascending => "",
            Direction::Descending => " DESC",
        };
        draft.push(&format!(
            "(t.{column} IS NULL), t.{column}{collated}{word}, "
        ));
    }
    draft.join(select.table.key, ", ", |draft, column| {
        draft.push(&format!("t.{column}"));
    });
}

fn read_row(row: &Row, fields: &[&'static Field]) -> Result<Json, Error> {
    let mut read = Map::new();
    for field in fields {
        if let Some(value) = read_field(row, field)? {
            read.insert(field.name.to_owned(), value);
        }
    }
    Ok(Json::Object(read))
}

fn read_field(row: &Row, field: &Field) -> Result<Option<Json>, Error> {
    let column = field.column;
    Ok(match field.kind {
        Kind::Uuid => row.maybe::<uuid::Uuid>(column)?.map(|id| json!(id)),
        Kind::Text(_) => row.maybe::<String>(column)?.map(Json::from),
        Kind::Int => row.maybe::<i64>(column)?.map(Json::from),
        Kind::Bool => row.maybe::<bool>(column)?.map(Json::from),
        Kind::Time => row
            .maybe::<crate::time::Time>(column)?
            .map(|time| time.millis().into()),
        Kind::Json(_) | Kind::Derived(_) => row.maybe::<Json>(column)?,
    })
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row is as the client wants it.
    Done,
    /// There is no such row.
    NotFound,
    /// There is such a row, and it is not the client's to change.
    Refused,
    /// There is such a row already.
    Exists,
    /// What is merged would be longer than it may.
    TooLarge,
}

/// Writes a row as planned. Nothing is changed unless the outcome is that it was done.
///
/// # Errors
/// When the database does not answer, or a value is missing that a new row must have.
pub async fn change(on: &mut Transaction, change: &Change) -> Result<Outcome, Error> {
    let found = look(on, change).await?;
    let (op, outcome) = match (change.kind, found) {
        (_, Some(Found { own: false, .. })) => return Ok(Outcome::Refused),
        (ChangeKind::Insert, Some(_)) => return Ok(Outcome::Exists),
        (ChangeKind::Update | ChangeKind::Delete, None) => return Ok(Outcome::NotFound),
        (ChangeKind::Delete, Some(_)) => (Op::Delete, delete(on, change).await?),
        (ChangeKind::Update | ChangeKind::Upsert, Some(found)) => {
            (Op::Update, update(on, change, &found.merged).await?)
        }
        (ChangeKind::Insert | ChangeKind::Upsert, None) => (Op::Insert, insert(on, change).await?),
    };
    if outcome == Outcome::Done {
        hide(on, change).await?;
        tell(on, change, op);
        follow_up(on, change).await?;
    }
    Ok(outcome)
}

/// A row before it is changed.
struct Found {
    /// Whether the client may change it.
    own: bool,
    /// What is in the columns into which something is merged, in the order of the change.
    merged: Vec<Option<Json>>,
}

/// The row that is to be changed, which nobody else changes until the transaction ends.
async fn look(on: &mut Transaction, change: &Change) -> Result<Option<Found>, Error> {
    let mut draft = Draft::new(on.dialect(), "SELECT CASE WHEN ");
    if change.existing.is_empty() {
        draft.push("1 = 1");
    }
    draft.join(&change.existing, " AND ", put_condition);
    draft.push(" THEN CAST(1 AS bigint) ELSE CAST(0 AS bigint) END AS own");
    let columns: Vec<&str> = merged_columns(change).collect();
    for column in &columns {
        draft.push(&format!(", t.{column} AS {column}"));
    }
    draft.push(&format!(" FROM {} AS t WHERE ", change.table.real));
    put_key(&mut draft, change, "t.");
    if draft.dialect == Dialect::Postgres {
        draft.push(" FOR UPDATE");
    }
    let Some(row) = on.row(draft.finish()).await? else {
        return Ok(None);
    };
    let own = row.get::<i64>("own")? == 1;
    let merged = columns
        .iter()
        .map(|column| row.maybe::<Json>(column))
        .collect::<Result<_, Error>>()?;
    Ok(Some(Found { own, merged }))
}

fn merged_columns(change: &Change) -> impl Iterator<Item = &'static str> {
    change
        .values
        .iter()
        .filter_map(|(column, assigned)| match assigned {
            Assigned::Merge(..) => Some(*column),
            Assigned::Value(_) | Assigned::Now | Assigned::Created | Assigned::New(_) => None,
        })
}

fn put_key(draft: &mut Draft, change: &Change, prefix: &str) {
    draft.join(&change.key, " AND ", |draft, (column, value)| {
        let value = draft.bind(value);
        draft.push(&format!("{prefix}{column} = {value}"));
    });
}

/// What a column becomes, as it is written; `None` where it stays. What is merged needs what is there.
fn assigned(
    draft: &mut Draft,
    assigned: &Assigned,
    is_new: bool,
    before: &mut impl Iterator<Item = Option<Json>>,
) -> Result<Option<String>, Outcome> {
    Ok(match assigned {
        Assigned::Value(value) => Some(draft.bind(value)),
        Assigned::Now => Some("{now}".to_owned()),
        Assigned::Created => is_new.then(|| "{now}".to_owned()),
        Assigned::New(value) => is_new.then(|| draft.bind(value)),
        Assigned::Merge(patch, len_max) => {
            let mut merged = before.next().flatten().unwrap_or_else(|| json!({}));
            merge(&mut merged, patch);
            if merged.to_string().len() > *len_max {
                return Err(Outcome::TooLarge);
            }
            Some(draft.bind(merged))
        }
    })
}

async fn update(
    on: &mut Transaction,
    change: &Change,
    merged: &[Option<Json>],
) -> Result<Outcome, Error> {
    let mut draft = Draft::new(on.dialect(), &format!("UPDATE {} SET ", change.table.real));
    let mut before = merged.iter().cloned();
    let mut sets = Vec::new();
    for (column, value) in &change.values {
        match assigned(&mut draft, value, false, &mut before) {
            Ok(Some(value)) => sets.push(format!("{column} = {value}")),
            Ok(None) => {}
            Err(outcome) => return Ok(outcome),
        }
    }
    if sets.is_empty() {
        return Ok(Outcome::Done);
    }
    draft.push(&sets.join(", "));
    draft.push(" WHERE ");
    put_key(&mut draft, change, "");
    on.execute(draft.finish()).await?;
    Ok(Outcome::Done)
}

async fn insert(on: &mut Transaction, change: &Change) -> Result<Outcome, Error> {
    let mut draft = Draft::new(on.dialect(), "");
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for (column, value) in &change.key {
        columns.push(*column);
        values.push(draft.bind(value));
    }
    for (column, value) in &change.values {
        match assigned(&mut draft, value, true, &mut std::iter::empty()) {
            Ok(Some(value)) => {
                columns.push(column);
                values.push(value);
            }
            Ok(None) => {}
            Err(outcome) => return Ok(outcome),
        }
    }
    let (real, columns, values) = (change.table.real, columns.join(", "), values.join(", "));
    draft.push(&format!("INSERT INTO {real} ({columns}) VALUES ({values})"));
    on.execute(draft.finish()).await?;
    Ok(Outcome::Done)
}

async fn delete(on: &mut Transaction, change: &Change) -> Result<Outcome, Error> {
    let mut draft = Draft::new(
        on.dialect(),
        &format!("DELETE FROM {} WHERE ", change.table.real),
    );
    put_key(&mut draft, change, "");
    on.execute(draft.finish()).await?;
    Ok(Outcome::Done)
}

async fn hide(on: &mut Transaction, change: &Change) -> Result<(), Error> {
    let Some((project, account, hide)) = change.hide else {
        return Ok(());
    };
    let set =
        Sql::same("UPDATE project_members SET hide = $3 WHERE project_id = $1 AND account_id = $2");
    if on
        .execute(set.bind(project).bind(account).bind(hide))
        .await?
        > 0
    {
        let key = json!({"project_id": project, "account_id": account});
        let told = outbox::Change::update(outbox::Table::ProjectMembers, key, &["hide"]);
        on.changed(told.project(project).account(account));
    }
    Ok(())
}

/// What is counted of the rows of a table stays right.
async fn follow_up(on: &mut Transaction, change: &Change) -> Result<(), Error> {
    if change.table.real != outbox::Table::MessageRecipients.name() {
        return Ok(());
    }
    let owner = change
        .key
        .iter()
        .find(|(column, _)| *column == "account_id");
    let owner = owner.and_then(|(_, value)| {
        if let Value::Uuid(id) = value {
            Some(*id)
        } else {
            None
        }
    });
    match owner {
        Some(owner) => messages::count_unread(on, &[owner]).await,
        None => Ok(()),
    }
}

/// Tells those who follow the changes of the table.
fn tell(on: &mut Transaction, change: &Change, op: Op) {
    let Some(table) = outbox::Table::from_name(change.table.real) else {
        return;
    };
    let key: Map<String, Json> = change
        .key
        .iter()
        .map(|(column, value)| ((*column).to_owned(), key_json(value)))
        .collect();
    let fields: Vec<&str> = change.values.iter().map(|(column, _)| *column).collect();
    let key = Json::Object(key);
    let mut told = match op {
        Op::Insert => outbox::Change::insert(table, key),
        Op::Update => outbox::Change::update(table, key, &fields),
        Op::Delete => outbox::Change::delete(table, key),
    };
    let others = change
        .values
        .iter()
        .filter_map(|(column, value)| match value {
            Assigned::Value(value) => Some((column, value)),
            Assigned::Now | Assigned::Created | Assigned::New(_) | Assigned::Merge(..) => None,
        });
    let key = change.key.iter().map(|(column, value)| (column, value));
    for (column, value) in key.chain(others) {
        told = match (*column, value) {
            ("account_id", Value::Uuid(id)) => told.account(AccountId::from_uuid(*id)),
            ("project_id", Value::Uuid(id)) => told.project(ProjectId::from_uuid(*id)),
            _ => told,
        };
    }
    on.changed(told);
}

fn key_json(value: &Value) -> Json {
    match value {
        Value::Uuid(id) => json!(id),
        Value::Text(text) => json!(text),
        Value::Int(number) => json!(number),
        Value::Bool(value) => json!(value),
        Value::Time(time) => json!(time.millis()),
        Value::Json(json) => json.clone(),
    }
}

/// Merges objects field by field, as RFC 7396 does: null removes, and anything else replaces what is there.
fn merge(into: &mut Json, patch: &Json) {
    let Json::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(known) = into.as_object_mut() else {
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            known.remove(name);
        } else {
            merge(known.entry(name).or_insert(Json::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_merged_as_rfc_7396_has_it() {
        for (into, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (
                json!({"a": "b", "b": 1}),
                json!({"a": null}),
                json!({"b": 1}),
            ),
            (
                json!({"a": [1]}),
                json!({"a": {"b": null, "c": 1}}),
                json!({"a": {"c": 1}}),
            ),
            (
                json!([1]),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
            (json!({"a": {"b": 1}}), json!({"a": [2]}), json!({"a": [2]})),
        ] {
            let mut found = into;
            merge(&mut found, &patch);
            assert_eq!(found, merged);
        }
    }
}
