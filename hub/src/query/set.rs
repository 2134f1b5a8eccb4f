//! Planning queries that write.

use serde_json::{Map, Value as Json, json};
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use super::filter::wrong;
use super::get::{equal, not_a_member};
use super::options::Options;
use super::plan::{Assigned, Change, ChangeKind, Condition, Plan, who};
use super::rule::{Constant, Field, Kind, Rows, Set, Table, Write};
use super::value::Value;
use crate::api::{Error, Need};
use crate::auth::token::hex;
use crate::caller::Caller;
use crate::id::{AccountId, ProjectId};
use crate::permission::Fact;
use crate::settings;
use crate::time::Time;

/// Fewest characters of a secret by which a row is found.
const SECRET_LEN_MIN: usize = 16;

/// Longest name of an account, as in the original.
const USERNAME_LEN_MAX: usize = 39;

pub(super) fn plan(
    caller: Caller,
    table: &'static Table,
    template: &Map<String, Json>,
    options: &Options,
    now: Time,
) -> Result<(Plan, Vec<Need>), Error> {
    let rules = table
        .set
        .as_ref()
        .ok_or_else(|| Error::denied(format!("{}: cannot be written", table.name)))?;
    if options.delete && !rules.delete {
        return Err(Error::denied(format!(
            "{}: rows cannot be deleted",
            table.name
        )));
    }
    if !(options.delete || rules.insert || rules.update) {
        let text = format!("{}: rows can be deleted and nothing else", table.name);
        return Err(Error::denied(text));
    }
    let mut draft = Draft {
        caller,
        table,
        now,
        given: template,
        project: None,
        path: None,
        named: Vec::new(),
        values: Vec::new(),
        hide: None,
        writes: options.delete,
    };
    draft.refuse_unknown()?;
    for field in table.fields {
        draft.take(field)?;
    }
    let mut needs = who(caller, rules.who, table)?;
    needs.extend(draft.project.and_then(|project| draft.need(rules, project)));
    if !draft.writes && table.has_values() {
        return Ok((Plan::Nothing, needs));
    }
    let existing = draft.existing(rules)?;
    let kind = match (options.delete, rules.insert, rules.update) {
        (true, _, _) => ChangeKind::Delete,
        (false, true, true) => ChangeKind::Upsert,
        (false, true, false) => ChangeKind::Insert,
        (false, false, _) => ChangeKind::Update,
    };
    let (key, mut values) = draft.split()?;
    if options.delete {
        values.clear();
    }
    let change = Change {
        table,
        kind,
        key,
        values,
        existing,
        hide: draft.hide.filter(|_| !options.delete),
    };
    Ok((Plan::Set(change), needs))
}

/// A change as it comes together, field by field in the order in which the table declares them.
struct Draft<'a> {
    caller: Caller,
    table: &'static Table,
    /// What time it is.
    now: Time,
    given: &'a Map<String, Json>,
    /// The project of the row.
    project: Option<ProjectId>,
    path: Option<String>,
    /// What names the row, and what says whose it is: not changed in a row that is there.
    named: Vec<(&'static str, Value)>,
    values: Vec<(&'static str, Assigned)>,
    hide: Option<(ProjectId, AccountId, bool)>,
    /// Whether there is something to write beside what names the row.
    writes: bool,
}

impl Draft<'_> {
    fn refuse_unknown(&self) -> Result<(), Error> {
        for (name, value) in self.given {
            let field = self.table.field(name);
            let writable = field.is_some_and(|field| field.write != Write::No);
            if !writable && !value.is_null() {
                let shown: String = name.chars().take(64).collect();
                let table = self.table.name;
                return Err(Error::denied(format!(
                    "{table}: {shown:?} is no field that can be written"
                )));
            }
        }
        Ok(())
    }

    /// The value that is given for a field; null is as good as none.
    fn given(&self, field: &Field) -> Option<&Json> {
        self.given.get(field.name).filter(|value| !value.is_null())
    }

    fn value(&self, field: &Field) -> Result<Option<Value>, Error> {
        let read =
            |value| Value::read(field.kind, value).map_err(|unfit| wrong(self.table, field, unfit));
        self.given(field).map(read).transpose()
    }

    fn take(&mut self, field: &'static Field) -> Result<(), Error> {
        match field.write {
            Write::No => {}
            Write::Project => self.take_project(field)?,
            Write::Account => {
                if let Some(account) = self.caller.account() {
                    self.named.push((field.column, Value::Uuid(account.uuid())));
                }
            }
            Write::Maker => self.take_maker(field),
            Write::Key => {
                let value = self.value(field)?;
                self.named.extend(value.map(|value| (field.column, value)));
            }
            Write::SecretKey => self.take_secret(field)?,
            Write::PathHash => self.take_hash(field)?,
            Write::Now => self.values.push((field.column, Assigned::Now)),
            Write::Created => self.values.push((field.column, Assigned::Created)),
            Write::OwnMembership => self.take_membership(field)?,
            Write::Value
            | Write::Prefixed(_)
            | Write::Username
            | Write::NotBefore(_)
            | Write::Merge
            | Write::Setting => self.take_value(field)?,
        }
        Ok(())
    }

    fn take_project(&mut self, field: &'static Field) -> Result<(), Error> {
        let project = match self.caller {
            Caller::Project(own) => own,
            Caller::Account(_) | Caller::Hub => match self.value(field)? {
                Some(Value::Uuid(id)) => ProjectId::from_uuid(id),
                Some(_) | None => return Err(wrong(self.table, field, "is required")),
            },
        };
        self.project = Some(project);
        self.named.push((field.column, Value::Uuid(project.uuid())));
        Ok(())
    }

    fn take_maker(&mut self, field: &'static Field) {
        let Some(account) = self.caller.account() else {
            return;
        };
        let value = match field.kind {
            Kind::Json(_) => Value::Json(json!([account])),
            Kind::Uuid | Kind::Text(_) | Kind::Int | Kind::Bool | Kind::Time | Kind::Derived(_) => {
                Value::Uuid(account.uuid())
            }
        };
        self.values.push((field.column, Assigned::New(value)));
        self.writes = true;
    }

    fn take_secret(&mut self, field: &'static Field) -> Result<(), Error> {
        let value = self.value(field)?;
        if let Some(Value::Text(text)) = &value
            && text.len() < SECRET_LEN_MIN
        {
            let text =
                format!("must have at least {SECRET_LEN_MIN} characters that nobody can guess");
            return Err(wrong(self.table, field, text));
        }
        self.named.extend(value.map(|value| (field.column, value)));
        Ok(())
    }

    /// The identifier of what is one for each path of a project.
    fn take_hash(&mut self, field: &'static Field) -> Result<(), Error> {
        let (Some(project), Some(path)) = (self.project, &self.path) else {
            return Err(wrong(
                self.table,
                field,
                "follows from project and path, which are required",
            ));
        };
        let hash = hex(&Sha1::digest(format!("{project}{path}").as_bytes()));
        self.named.push((field.column, Value::Text(hash)));
        Ok(())
    }

    /// `{<own account>: {hide: true}}`. Groups change by functions that know who may change them, and by nothing else.
    fn take_membership(&mut self, field: &'static Field) -> Result<(), Error> {
        let Some(value) = self.given(field) else {
            return Ok(());
        };
        let only_own = "can be written for the caller's own account alone, and only whether it hides the project";
        let refused = || Error::denied(format!("{}.{}: {only_own}", self.table.name, field.name));
        let (Some(account), Some(project)) = (self.caller.account(), self.project) else {
            return Err(refused());
        };
        let users = value.as_object().filter(|users| users.len() == 1);
        let own = users.and_then(|users| users.get(&account.to_string()));
        let own = own.and_then(Json::as_object).filter(|own| own.len() == 1);
        let hide = own.and_then(|own| own.get("hide")?.as_bool());
        self.hide = Some((project, account, hide.ok_or_else(refused)?));
        self.writes = true;
        Ok(())
    }

    fn take_value(&mut self, field: &'static Field) -> Result<(), Error> {
        let Some(value) = self.value(field)? else {
            return Ok(());
        };
        if let Value::Text(text) = &value {
            check_text(field, text).map_err(|error| wrong(self.table, field, error))?;
            if field.write == Write::Setting {
                self.check_setting(text)
                    .map_err(|error| wrong(self.table, field, error))?;
            }
            if field.name == "path" {
                self.path = Some(text.clone());
            }
        }
        let assigned = match (field.write, field.kind, value) {
            (Write::Merge, Kind::Json(max), Value::Json(json)) => Assigned::Merge(json, max),
            (Write::NotBefore(least), _, Value::Time(time)) => {
                Assigned::Value(Value::Time(time.max(self.now.after(least))))
            }
            (_, _, value) => Assigned::Value(value),
        };
        self.values.push((field.column, assigned));
        self.writes = true;
        Ok(())
    }

    fn check_setting(&self, value: &str) -> Result<(), settings::Invalid> {
        let name = self.given.get("name").and_then(Json::as_str);
        settings::definition(name.unwrap_or_default())?.check(value)
    }

    fn need(&self, rules: &Set, project: ProjectId) -> Option<Need> {
        let account = self.caller.account()?;
        let (fact, otherwise) = if rules.owner {
            let text = format!("{}: must be an owner of project {project}", self.table.name);
            (Fact::Owner(account, project), Error::denied(text))
        } else {
            (
                Fact::Member(account, project),
                not_a_member(self.table, project),
            )
        };
        Some(Need {
            any_of: vec![fact],
            otherwise,
        })
    }

    /// What holds of the row if it is there. Who names a row of somebody else together with a project of its own gets
    /// nothing by that.
    fn existing(&self, rules: &Set) -> Result<Vec<Condition>, Error> {
        let mut conditions = Vec::new();
        for rows in rules.rows {
            match *rows {
                Rows::Own(column) | Rows::Member(column) => {
                    let own = self.named.iter().find(|(named, _)| *named == column);
                    let (_, value) = own.ok_or_else(|| {
                        Error::denied(format!("{}: is not the caller's", self.table.name))
                    })?;
                    conditions.push(equal(column, value.clone()));
                }
                Rows::Is(column, Constant::Bool(value)) => {
                    conditions.push(equal(column, Value::Bool(value)));
                }
                Rows::NoneOf(column, texts) => {
                    let is_named = self.named.iter().any(|(named, value)| {
                        *named == column
                            && matches!(value, Value::Text(text) if texts.contains(&text.as_str()))
                    });
                    if is_named {
                        return Err(Error::denied(format!(
                            "{}: cannot be written here",
                            self.table.name
                        )));
                    }
                }
                Rows::Listed(column) => {
                    let account = self.caller.account().ok_or_else(|| {
                        Error::denied(format!("{}: is for accounts", self.table.name))
                    })?;
                    conditions.push(Condition::Listed(column, account));
                }
                Rows::SharesProject(_) | Rows::Named(_) | Rows::Within(..) => {}
            }
        }
        Ok(conditions)
    }

    /// The primary key, and everything else.
    #[expect(
        clippy::type_complexity,
        reason = "two lists of columns, which `Change` names"
    )]
    fn split(
        &mut self,
    ) -> Result<(Vec<(&'static str, Value)>, Vec<(&'static str, Assigned)>), Error> {
        let named = std::mem::take(&mut self.named);
        let (key, others): (Vec<_>, Vec<_>) = named
            .into_iter()
            .partition(|(column, _)| self.table.key.contains(column));
        let missing = self
            .table
            .key
            .iter()
            .find(|column| !key.iter().any(|(found, _)| found == *column));
        if let Some(column) = missing {
            return Err(Error::argument(
                format_args!("{}.{column}", self.table.name),
                "is required",
            ));
        }
        let others = others
            .into_iter()
            .map(|(column, value)| (column, Assigned::Value(value)));
        Ok((
            key,
            others.chain(std::mem::take(&mut self.values)).collect(),
        ))
    }
}

/// What a text must be beside its length.
fn check_text(field: &Field, text: &str) -> Result<(), String> {
    if let Write::Prefixed(prefix) = field.write
        && !text.starts_with(prefix)
    {
        return Err(format!("must begin with {prefix:?}"));
    }
    if field.write == Write::Username && !is_username(text) {
        return Err(format!(
            "must be 1 to {USERNAME_LEN_MAX} letters, digits and single hyphens between them, and no UUID"
        ));
    }
    Ok(())
}

/// A name stands in addresses of pages where an identifier could stand as well.
pub(crate) fn is_username(text: &str) -> bool {
    (1..=USERNAME_LEN_MAX).contains(&text.len())
        && Uuid::try_parse(text).is_err()
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_accounts_are_words_with_hyphens() {
        for name in ["a", "ada-lovelace", "A1", "1815"] {
            assert!(is_username(name), "{name}");
        }
        let long = "a".repeat(USERNAME_LEN_MAX + 1);
        for name in [
            "",
            "-a",
            "a-",
            "a--b",
            "a b",
            "a/b",
            "a.b",
            "ä",
            "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11",
            &long,
        ] {
            assert!(!is_username(name), "{name}");
        }
    }
}
