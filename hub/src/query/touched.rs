//! Which rows of a query a change may have touched. Pure.

use serde_json::{Map, Value as Json};

use super::get::equal;
use super::known::key_fields;
use super::plan::{Condition, Select};
use super::rule::{Derived, Field, Kind, Rows};
use super::value::Value;
use crate::caller::Caller;
use crate::id::{AccountId, ProjectId};
use crate::permission::Fact;
use crate::store::outbox::{self, Change, Op};

/// What the organization of a caller is read from: it depends on who is in which.
const ORGANIZATION_VIEW: &str = "organization_views";

/// What is to be looked at again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Touched {
    /// Whether the caller may still follow the query.
    pub(super) rights: bool,
    /// All rows.
    pub(super) all: bool,
    /// All rows, if the caller is in one of these projects.
    pub(super) shared: Vec<ProjectId>,
    /// These rows.
    pub(super) rows: Vec<Row>,
}

/// A row that a change names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Its key, as clients write it.
    pub(super) key: Json,
    /// The same as conditions.
    pub(super) conditions: Vec<Condition>,
    /// The project that it is about.
    project: Option<ProjectId>,
    /// The account that it is about.
    account: Option<AccountId>,
}

/// Whether a row that a follower does not have can be one of those that it may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is the caller's.
    Yes,
    /// It is somebody else's.
    No,
    /// If this holds.
    If(Fact),
    /// The rules of the table do not say.
    Unknown,
}

impl Row {
    /// What the rules of the table say. Who is in which project may have changed as well, but then all rows are looked at.
    pub(super) fn seen(&self, select: &Select, caller: Caller) -> Seen {
        let rows = select.table.get.as_ref().map_or(&[][..], |get| get.rows);
        for rows in rows {
            match (rows, caller, self.account, self.project) {
                (Rows::Own(_), Caller::Account(own), Some(account), _) => {
                    return if own == account { Seen::Yes } else { Seen::No };
                }
                (Rows::Member(_), Caller::Account(own), _, Some(project)) => {
                    return Seen::If(Fact::Member(own, project));
                }
                (Rows::Member(_), Caller::Project(own), _, Some(project)) => {
                    return if own == project { Seen::Yes } else { Seen::No };
                }
                _ => {}
            }
        }
        Seen::Unknown
    }
}

impl Touched {
    /// Everything, since nobody knows what changed.
    pub(super) fn everything() -> Self {
        Self {
            rights: true,
            all: true,
            shared: Vec::new(),
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
        if change.table == outbox::Table::OrganizationMembers
            && table.view == Some(ORGANIZATION_VIEW)
            && about_caller
        {
            self.all = true;
        }
        if change.table.name() == table.real && concerns(select, change) {
            self.add_row(row(select, &change.key, change));
        }
    }

    /// All rows, if nobody knows which one.
    fn add_row(&mut self, row: Option<Row>) {
        match row {
            Some(row) if !self.rows.iter().any(|known| known.key == row.key) => {
                self.rows.push(row);
            }
            Some(_) => {}
            None => self.all = true,
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
            match change.project_id {
                Some(project) if !self.shared.contains(&project) => self.shared.push(project),
                Some(_) => {}
                None => self.all = true,
            }
        } else if shows_members {
            let project = change.project_id.map(|id| {
                let mut key = Map::new();
                key.insert("project_id".to_owned(), id.to_string().into());
                Json::Object(key)
            });
            self.add_row(project.and_then(|key| row(select, &key, change)));
        }
    }
}

/// Whether a change may have changed what a query finds. An update says which columns it has set; one that the query
/// neither reads nor compares changes nothing in it. Views have conditions of their own.
fn concerns(select: &Select, change: &Change) -> bool {
    if change.op != Op::Update || change.fields.is_empty() || select.table.view.is_some() {
        return true;
    }
    change.fields.iter().any(|changed| {
        let changed = changed.as_str();
        select.table.key.contains(&changed)
            || select.fields.iter().any(|field| shows(field, changed))
            || select
                .conditions
                .iter()
                .any(|condition| condition.column() == changed)
    })
}

/// Whether a field shows what a column of its row says. When members were active last is told with when the project was.
fn shows(field: &Field, column: &str) -> bool {
    match field.kind {
        Kind::Derived(Derived::ProjectLastActive) => column == "last_edited",
        Kind::Derived(Derived::ProjectUsers) => false,
        Kind::Uuid
        | Kind::Text(_)
        | Kind::Int
        | Kind::Bool
        | Kind::Time
        | Kind::Json(_)
        | Kind::Derived(Derived::AccountPassports) => field.column == column,
    }
}

/// A row by the key that a change names; `None` if that does not name one.
fn row(select: &Select, key: &Json, change: &Change) -> Option<Row> {
    let table = select.table;
    let (mut named, mut conditions) = (Map::new(), Vec::new());
    for (column, name) in table.key.iter().zip(key_fields(table)) {
        let field = table.fields.iter().find(|field| field.column == *column)?;
        let value = key.get(*column)?;
        conditions.push(equal(field.column, Value::read(field.kind, value).ok()?));
        named.insert(name.to_owned(), value.clone());
    }
    Some(Row {
        key: Json::Object(named),
        conditions,
        project: change.project_id,
        account: change.account_id,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::plan::{Plan, plan};
    use super::*;
    use crate::time::Time;

    fn select(caller: Caller, query: &Json) -> Select {
        let planned = plan(caller, query, &Json::Null, Time::from_millis(0));
        let Plan::Get(select) = planned.unwrap().pop().unwrap().plan else {
            panic!("{query} does not read");
        };
        select
    }

    fn touched(caller: Caller, query: &Json, change: &Change) -> Touched {
        let mut touched = Touched::default();
        touched.add(&select(caller, query), caller, change);
        touched
    }

    #[test]
    fn an_update_of_columns_that_a_query_does_not_name_touches_nothing() {
        let caller = Caller::Account(AccountId::random());
        let project = ProjectId::random();
        let update = |fields: &[&str]| {
            let key = json!({ "project_id": project });
            Change::update(outbox::Table::Projects, key, fields).project(project)
        };
        let titles = json!({"projects": [{"project_id": null, "title": null}]});
        let rows = |query: &Json, change: &Change| touched(caller, query, change).rows.len();
        assert_eq!(rows(&titles, &update(&["last_edited"])), 0);
        assert_eq!(rows(&titles, &update(&["run_quota", "title"])), 1);
        let active = json!({"projects": [{"project_id": null, "last_active": null}]});
        assert_eq!(rows(&active, &update(&["last_edited"])), 1);
        // What does not say what it has set may have set anything, and so has what is new or gone.
        assert_eq!(rows(&titles, &update(&[])), 1);
        let key = json!({ "project_id": project });
        let gone = Change::delete(outbox::Table::Projects, key.clone());
        assert_eq!(rows(&titles, &gone), 1);
        let new = Change::insert(outbox::Table::Projects, key);
        assert_eq!(rows(&titles, &new), 1);
        // Also those that are compared and not shown.
        let deleted = json!({"projects": [{"project_id": null, "deleted": false, "title": null}]});
        assert_eq!(rows(&deleted, &update(&["deleted"])), 1);
    }

    #[test]
    fn who_shares_projects_looks_at_those_of_its_own() {
        let caller = Caller::Account(AccountId::random());
        let (project, other) = (ProjectId::random(), AccountId::random());
        let key = json!({"project_id": project, "account_id": other});
        let joined = Change::update(outbox::Table::ProjectMembers, key, &["grp"]);
        let joined = joined.project(project).account(other);
        let query = json!({"collaborators": [{"account_id": null, "first_name": null}]});
        let touched = touched(caller, &query, &joined);
        assert_eq!((touched.all, touched.rights), (false, false));
        assert_eq!(touched.shared, [project]);
    }
}
