//! Which rows of a query a change may have touched. Pure.

use serde_json::{Map, Value as Json};

use super::get::equal;
use super::known::key_fields;
use super::plan::{Condition, Select};
use super::rule::{Derived, Kind, Rows};
use super::value::Value;
use crate::caller::Caller;
use crate::store::outbox::{self, Change};

/// What is to be looked at again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Touched {
    /// Whether the caller may still follow the query.
    pub(super) rights: bool,
    /// All rows.
    pub(super) all: bool,
    /// These rows, by their keys as clients write them and as conditions.
    pub(super) rows: Vec<(Json, Vec<Condition>)>,
}

impl Touched {
    /// Everything, since nobody knows what changed.
    pub(super) fn everything() -> Self {
        Self {
            rights: true,
            all: true,
            rows: Vec::new(),
        }
    }

    /// Adds what a change may have touched.
    pub(super) fn add(&mut self, select: &Select, caller: Caller, change: &Change) {
        let table = select.table;
        let about_caller = change.account_id.is_some() && change.account_id == caller.account();
        if change.table == outbox::Table::Accounts && about_caller {
            self.rights = true;
        }
        if change.table == outbox::Table::ProjectMembers {
            self.members_changed(select, change, about_caller);
        }
        if change.table.name() == table.real {
            match row(select, &change.key) {
                Some(row) if !self.rows.contains(&row) => self.rows.push(row),
                Some(_) => {}
                None => self.all = true,
            }
        }
    }

    /// Who is in which project decides which rows somebody sees, and is itself a part of some.
    fn members_changed(&mut self, select: &Select, change: &Change, about_caller: bool) {
        let rows = select.table.get.as_ref().map_or(&[][..], |get| get.rows);
        let by_member = rows.iter().any(|rows| matches!(rows, Rows::Member(_)));
        let by_shared = rows
            .iter()
            .any(|rows| matches!(rows, Rows::SharesProject(_)));
        let shows_members = select.fields.iter().any(|field| {
            matches!(
                field.kind,
                Kind::Derived(Derived::ProjectUsers | Derived::ProjectLastActive)
            )
        });
        if about_caller && (by_member || by_shared) {
            self.rights = true;
            self.all = true;
        } else if by_shared {
            self.all = true;
        } else if shows_members {
            let project = change.project_id.map(|id| {
                let mut key = Map::new();
                key.insert("project_id".to_owned(), id.to_string().into());
                Json::Object(key)
            });
            match project.and_then(|key| row(select, &key)) {
                Some(row) if !self.rows.contains(&row) => self.rows.push(row),
                Some(_) => {}
                None => self.all = true,
            }
        }
    }
}

/// A row by the key that a change names; `None` if that does not name one.
fn row(select: &Select, key: &Json) -> Option<(Json, Vec<Condition>)> {
    let table = select.table;
    let (mut named, mut conditions) = (Map::new(), Vec::new());
    for (column, name) in table.key.iter().zip(key_fields(table)) {
        let field = table.fields.iter().find(|field| field.column == *column)?;
        let value = key.get(*column)?;
        conditions.push(equal(field.column, Value::read(field.kind, value).ok()?));
        named.insert(name.to_owned(), value.clone());
    }
    Some((Json::Object(named), conditions))
}
