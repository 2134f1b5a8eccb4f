//! Planning queries that read.

use serde_json::{Map, Value as Json};

use super::filter::{self, Wanted};
use super::options::Options;
use super::plan::{Comparison, Condition, Select, who};
use super::rule::{Constant, Rows, Table};
use super::value::Value;
use crate::api::{Error, Need};
use crate::caller::Caller;
use crate::id::ProjectId;
use crate::permission::Fact;

pub(super) fn plan(
    caller: Caller,
    table: &'static Table,
    template: &Map<String, Json>,
    options: &Options,
    many: bool,
) -> Result<(Select, Vec<Need>), Error> {
    let rules = table
        .get
        .as_ref()
        .ok_or_else(|| Error::denied(format!("{}: cannot be read", table.name)))?;
    let mut needs = who(caller, rules.who, table)?;
    let mut fields = Vec::with_capacity(template.len());
    let mut conditions = Vec::new();
    for (name, value) in template {
        let field = table
            .readable(name)
            .ok_or_else(|| not_readable(table, name))?;
        if let Wanted::Conditions(found) = filter::read(table, field, value)? {
            conditions.extend(found);
        }
        fields.push(field);
    }
    if fields.is_empty() {
        return Err(Error::argument(table.name, "asks for no field"));
    }
    let named = conditions.clone();
    for rows in rules.rows {
        let (condition, need) = kept_in(caller, table, *rows, &named)?;
        conditions.extend(condition);
        needs.extend(need);
    }
    let limit = options.limit.unwrap_or(rules.limit);
    let select = Select {
        table,
        fields,
        conditions,
        order: options.order(table, rules.order)?,
        limit: if many { limit } else { 1 },
    };
    Ok((select, needs))
}

fn not_readable(table: &Table, name: &str) -> Error {
    let shown: String = name.chars().take(64).collect();
    Error::denied(format!(
        "{}: {shown:?} is no field that can be read",
        table.name
    ))
}

/// The condition that keeps a caller in its own rows, and what must hold besides so that a stranger is told so instead of
/// finding nothing.
fn kept_in(
    caller: Caller,
    table: &Table,
    rows: Rows,
    named: &[Condition],
) -> Result<(Option<Condition>, Option<Need>), Error> {
    Ok(match (rows, caller) {
        (Rows::Own(column), Caller::Account(account)) => {
            (Some(equal(column, Value::Uuid(account.uuid()))), None)
        }
        (Rows::Member(column), Caller::Account(account)) => {
            let need = named_project(column, named).map(|project| Need {
                any_of: vec![Fact::Member(account, project)],
                otherwise: not_a_member(table, project),
            });
            (Some(Condition::MemberProject(column, account)), need)
        }
        (Rows::Member(column), Caller::Project(own)) => {
            if let Some(other) = named_project(column, named).filter(|named| *named != own) {
                return Err(not_a_member(table, other));
            }
            (Some(equal(column, Value::Uuid(own.uuid()))), None)
        }
        (Rows::SharesProject(column), Caller::Account(account)) => {
            (Some(Condition::SharesProject(column, account)), None)
        }
        (Rows::Listed(column), Caller::Account(account)) => {
            (Some(Condition::Listed(column, account)), None)
        }
        (Rows::Own(_) | Rows::SharesProject(_) | Rows::Listed(_), Caller::Project(_))
        | (_, Caller::Hub) => {
            return Err(Error::denied(format!("{}: is for accounts", table.name)));
        }
        (Rows::Named(column), _) => {
            let is_named = named.iter().any(|condition| match condition {
                Condition::Compare(found, Comparison::Equal, _) | Condition::AnyOf(found, _) => {
                    *found == column
                }
                Condition::Compare(..)
                | Condition::Empty(..)
                | Condition::NoneOf(..)
                | Condition::MemberProject(..)
                | Condition::Listed(..)
                | Condition::SharesProject(..)
                | Condition::Within(..) => false,
            });
            if !is_named {
                return Err(Error::argument(
                    table.name,
                    format_args!("must say which {column}"),
                ));
            }
            (None, None)
        }
        (Rows::Within(column, age), _) => (Some(Condition::Within(column, age)), None),
        (Rows::Is(column, Constant::Bool(value)), _) => {
            (Some(equal(column, Value::Bool(value))), None)
        }
        (Rows::NoneOf(column, texts), _) => (Some(Condition::NoneOf(column, texts)), None),
    })
}

pub(super) fn equal(column: &'static str, value: Value) -> Condition {
    Condition::Compare(column, Comparison::Equal, value)
}

pub(super) fn not_a_member(table: &Table, project: ProjectId) -> Error {
    Error::denied(format!(
        "{}: must be a collaborator on project {project}",
        table.name
    ))
}

fn named_project(column: &str, named: &[Condition]) -> Option<ProjectId> {
    named.iter().find_map(|condition| match condition {
        Condition::Compare(found, Comparison::Equal, Value::Uuid(id)) if *found == column => {
            Some(ProjectId::from_uuid(*id))
        }
        Condition::Compare(..)
        | Condition::Empty(..)
        | Condition::AnyOf(..)
        | Condition::NoneOf(..)
        | Condition::MemberProject(..)
        | Condition::Listed(..)
        | Condition::SharesProject(..)
        | Condition::Within(..) => None,
    })
}
