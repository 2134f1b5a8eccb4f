//! From queries to plans.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::options::{Direction, Options};
use super::rule::{Field, Table, Who};
use super::tables::TABLES;
use super::value::Value;
use super::{QUERIES_MAX, get, set};
use crate::api::{Code, Error, Need};
use crate::caller::Caller;
use crate::id::{AccountId, ProjectId};
use crate::permission::Fact;
use crate::time::Time;

/// What is to be done for a query, and what must hold for that.
#[derive(Debug)]
pub struct Planned {
    /// What the client calls the table.
    pub name: &'static str,
    /// Whether the client expects a list.
    pub many: bool,
    /// What must hold, all of it, before it is done.
    pub needs: Vec<Need>,
    /// What is to be done.
    pub plan: Plan,
}

/// What is to be done for a query.
#[derive(Debug)]
pub enum Plan {
    /// Reading rows.
    Get(Select),
    /// Writing a row.
    Set(Change),
    /// Nothing, because a query to write has nothing to write.
    Nothing,
}

/// Reading rows.
#[derive(Debug, Clone)]
pub struct Select {
    /// Of which table.
    pub table: &'static Table,
    /// Which fields.
    pub fields: Vec<&'static Field>,
    /// What holds of each row.
    pub conditions: Vec<Condition>,
    /// By which columns they are ordered.
    pub order: Vec<(&'static str, Direction)>,
    /// Most rows.
    pub limit: u32,
}

/// Writing a row.
#[derive(Debug)]
pub struct Change {
    /// Of which table.
    pub table: &'static Table,
    /// How.
    pub kind: ChangeKind,
    /// The columns of the primary key, all of them.
    pub key: Vec<(&'static str, Value)>,
    /// Other columns and what they become.
    pub values: Vec<(&'static str, Assigned)>,
    /// What holds of the row if it is there; otherwise nothing is changed and the caller is refused.
    pub existing: Vec<Condition>,
    /// Whether the caller hides the project among its own.
    pub hide: Option<(ProjectId, AccountId, bool)>,
}

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is changed, and must be there.
    Update,
    /// It is made, and must not be there.
    Insert,
    /// It is made or changed.
    Upsert,
    /// It is deleted.
    Delete,
}

/// What a column becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Assigned {
    /// This value.
    Value(Value),
    /// The time of the database.
    Now,
    /// The time of the database, in a new row alone.
    Created,
    /// This value, in a new row alone.
    New(Value),
    /// What is there, with this merged into it, of at most so many bytes.
    Merge(Json, usize),
}

/// Something that holds of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A column compares like this with a value.
    Compare(&'static str, Comparison, Value),
    /// A column is empty, or is not.
    Empty(&'static str, bool),
    /// A column has one of these values.
    AnyOf(&'static str, Vec<Value>),
    /// A column has none of these texts.
    NoneOf(&'static str, &'static [&'static str]),
    /// A column is a project of which the account is a member.
    MemberProject(&'static str, AccountId),
    /// A column is a list of accounts in which this one is.
    Listed(&'static str, AccountId),
    /// A column is an account that shares a project with this one, or this one.
    SharesProject(&'static str, AccountId),
    /// A column is a time that is not longer ago.
    Within(&'static str, Duration),
}

impl Condition {
    /// The column that it is about.
    pub(crate) fn column(&self) -> &'static str {
        match self {
            Self::Compare(column, ..)
            | Self::Empty(column, _)
            | Self::AnyOf(column, _)
            | Self::NoneOf(column, _)
            | Self::MemberProject(column, _)
            | Self::Listed(column, _)
            | Self::SharesProject(column, _)
            | Self::Within(column, _) => column,
        }
    }
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// They are the same.
    Equal,
    /// They are not.
    NotEqual,
    /// The column is lower.
    Less,
    /// The column is not higher.
    LessOrEqual,
    /// The column is higher.
    Greater,
    /// The column is not lower.
    GreaterOrEqual,
    /// The column's text is like the pattern, with `%` and `_`, whatever the case of its letters.
    Like,
}

/// Plans a query, or a list of them.
///
/// # Errors
/// When it is none, or asks for something that is not the caller's; the error names the table and the field.
pub fn plan(
    caller: Caller,
    query: &Json,
    options: &Json,
    now: Time,
) -> Result<Vec<Planned>, Error> {
    let options = Options::read(options)?;
    let (caller, sudo) = acting(caller, &options)?;
    let list = query.as_array().map(Vec::as_slice);
    let queries = list.unwrap_or_else(|| std::slice::from_ref(query));
    if queries.len() > QUERIES_MAX {
        let text = format!("has more than {QUERIES_MAX} queries ({})", queries.len());
        return Err(Error::argument("query", text));
    }
    let mut planned = Vec::with_capacity(queries.len());
    for query in queries {
        let mut one = plan_one(caller, query, &options, now)?;
        one.needs.splice(0..0, sudo.clone());
        planned.push(one);
    }
    Ok(planned)
}

/// Who a query is done as: an administrator may name another account.
fn acting(caller: Caller, options: &Options) -> Result<(Caller, Option<Need>), Error> {
    match (options.account_id, caller) {
        (None, _) => Ok((caller, None)),
        (Some(other), Caller::Account(own)) => {
            let need = is_admin(own, "must be an admin to act as another account");
            Ok((Caller::Account(other), Some(need)))
        }
        (Some(_), Caller::Project(_) | Caller::Hub) => {
            Err(Error::denied("must be an admin to act as another account"))
        }
    }
}

/// That the account is an administrator of the site.
pub(super) fn is_admin(account: AccountId, otherwise: &str) -> Need {
    Need {
        any_of: vec![Fact::Admin(account)],
        otherwise: Error::denied(otherwise),
    }
}

fn plan_one(caller: Caller, query: &Json, options: &Options, now: Time) -> Result<Planned, Error> {
    let Some((name, value)) = query.as_object().and_then(only_entry) else {
        let text = "must be an object with the name of one table";
        return Err(Error::argument("query", text));
    };
    let table = TABLES.iter().find(|table| table.name == name);
    let table = table.ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        Error::argument("query", format_args!("there is no table {shown:?}"))
    })?;
    let (many, template) = match value.as_array() {
        Some(list) => (true, list.first().filter(|_| list.len() == 1)),
        None => (false, Some(value)),
    };
    let template = template.and_then(Json::as_object).ok_or_else(|| {
        Error::argument(
            table.name,
            "must be an object with fields, or a list of one",
        )
    })?;
    let template = substituted(template, caller, now);
    let writes = options
        .set
        .unwrap_or_else(|| !template.values().any(has_null))
        || options.delete;
    let (plan, needs) = if writes {
        set::plan(caller, table, &template, options, now)?
    } else {
        let (select, needs) = get::plan(caller, table, &template, options, many)?;
        (Plan::Get(select), needs)
    };
    Ok(Planned {
        name: table.name,
        many,
        needs,
        plan,
    })
}

fn only_entry(fields: &Map<String, Json>) -> Option<(&String, &Json)> {
    fields.iter().next().filter(|_| fields.len() == 1)
}

fn has_null(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(elements) => elements.iter().any(has_null),
        Json::Object(fields) => fields.values().any(has_null),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

/// With the texts `{account_id}`, `{project_id}` and `{now}` replaced by what they mean.
fn substituted(template: &Map<String, Json>, caller: Caller, now: Time) -> Map<String, Json> {
    let account = caller.account().map(|id| id.to_string());
    let project = caller.project().map(|id| id.to_string());
    let replace = |value: &Json| match value.as_str() {
        Some("{account_id}") => account.clone().map_or(Json::Null, Json::from),
        Some("{project_id}") => project.clone().map_or(Json::Null, Json::from),
        Some("{now}") => now.millis().into(),
        Some(_) | None => value.clone(),
    };
    template
        .iter()
        .map(|(name, value)| (name.clone(), replace(value)))
        .collect()
}

/// What must hold of a caller for whom something is meant.
pub(super) fn who(caller: Caller, who: Who, table: &Table) -> Result<Vec<Need>, Error> {
    match (who, caller) {
        (Who::Account | Who::AccountOrProject, Caller::Account(_))
        | (Who::AccountOrProject | Who::Project, Caller::Project(_)) => Ok(Vec::new()),
        (Who::Project, Caller::Account(_)) => {
            Err(Error::denied(format!("{}: is for projects", table.name)))
        }
        (Who::Admin, Caller::Account(account)) => {
            let otherwise = format!("{}: must be an admin", table.name);
            Ok(vec![is_admin(account, &otherwise)])
        }
        (Who::Account | Who::Admin, Caller::Project(_)) | (_, Caller::Hub) => Err(Error::new(
            Code::NotSignedIn,
            format!("{}: user must be signed in", table.name),
        )),
    }
}
