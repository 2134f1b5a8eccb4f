//! What somebody who follows a query has, and what it is to be told when rows change. Pure.
//!
//! An update says what is different: whoever applies all of them in their order has what the query would find.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::rule::Table;

/// What happened to a row, as its follower sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is there now; whoever has it already replaces it.
    Insert,
    /// Some of its fields are different. Those that are empty now are null.
    Update,
    /// It is not there any more, or not for this follower.
    Delete,
}

/// A change that a follower is told, under the names that clients of the original know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Update {
    /// What happened.
    pub action: Action,
    /// The row that is new, or the fields that are different with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_val: Option<Json>,
    /// The same fields as they were, or the key of the row that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_val: Option<Json>,
}

/// What was found when it was looked again.
#[derive(Debug)]
pub(super) enum Found {
    /// All rows.
    All(Vec<Json>),
    /// Some, by their keys; nothing where there is none any more.
    Some(Vec<(Json, Option<Json>)>),
}

/// The rows that a follower has.
#[derive(Debug)]
pub struct Known {
    /// The fields that name a row.
    key: Vec<&'static str>,
    rows: BTreeMap<String, Map<String, Json>>,
    /// What they take, about.
    bytes: usize,
}

impl Known {
    /// Of a table, with these rows, which have all fields of its key.
    pub fn new(table: &'static Table, rows: Vec<Json>) -> Self {
        let mut known = Self {
            key: key_fields(table),
            rows: BTreeMap::new(),
            bytes: 0,
        };
        for row in rows {
            let row = fields(row);
            let name = known.name(&row);
            drop(known.replace(&name, row));
        }
        known
    }

    /// All rows, by their keys.
    pub fn rows(&self) -> Vec<Json> {
        self.rows.values().cloned().map(Json::Object).collect()
    }

    /// Takes what was found.
    pub(super) fn take(&mut self, found: Found) -> Vec<Update> {
        match found {
            Found::All(rows) => self.all(rows),
            Found::Some(rows) => {
                let updates = rows
                    .into_iter()
                    .filter_map(|(key, row)| self.row(&key, row));
                updates.collect()
            }
        }
    }

    /// How much the rows take in memory, about, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row with this key is now this, or not there.
    pub fn row(&mut self, key: &Json, row: Option<Json>) -> Option<Update> {
        let key = fields(key.clone());
        let name = self.name(&key);
        let Some(row) = row.map(fields) else {
            let old = self.rows.remove(&name)?;
            self.bytes -= size(&name, &old);
            return Some(self.deleted(&old));
        };
        self.put(&name, row)
    }

    /// All rows are now these.
    pub fn all(&mut self, rows: Vec<Json>) -> Vec<Update> {
        let mut updates = Vec::new();
        let mut left = std::mem::take(&mut self.rows);
        for row in rows {
            let row = fields(row);
            let name = self.name(&row);
            if let Some(old) = left.remove(&name) {
                self.rows.insert(name.clone(), old);
            }
            updates.extend(self.put(&name, row));
        }
        for (name, old) in &left {
            self.bytes -= size(name, old);
            updates.push(self.deleted(old));
        }
        updates
    }

    /// What a follower is told of a row that may have changed while it was away, if it is there.
    pub(super) fn again(&self, key: &Json) -> Option<Update> {
        let row = self.rows.get(&self.name(&fields(key.clone())))?;
        Some(Update {
            action: Action::Insert,
            new_val: Some(Json::Object(row.clone())),
            old_val: None,
        })
    }

    /// What a follower is told of a row that is not there any more.
    pub(super) fn gone(&self, key: &Json) -> Update {
        self.deleted(&fields(key.clone()))
    }

    /// Whether a follower has the row.
    pub(super) fn has(&self, key: &Json) -> bool {
        self.rows.contains_key(&self.name(&fields(key.clone())))
    }

    fn put(&mut self, name: &str, row: Map<String, Json>) -> Option<Update> {
        let Some(old) = self.replace(name, row.clone()) else {
            return Some(Update {
                action: Action::Insert,
                new_val: Some(Json::Object(row)),
                old_val: None,
            });
        };
        let (mut new_val, mut old_val) = (Map::new(), Map::new());
        let names = row
            .keys()
            .chain(old.keys().filter(|name| !row.contains_key(*name)));
        for name in names {
            let (now, before) = (row.get(name), old.get(name));
            if now != before {
                new_val.insert(name.clone(), now.cloned().unwrap_or_default());
                old_val.insert(name.clone(), before.cloned().unwrap_or_default());
            }
        }
        if new_val.is_empty() {
            return None;
        }
        for name in &self.key {
            let value = row.get(*name).cloned().unwrap_or_default();
            new_val.insert((*name).to_owned(), value.clone());
            old_val.insert((*name).to_owned(), value);
        }
        Some(Update {
            action: Action::Update,
            new_val: Some(Json::Object(new_val)),
            old_val: Some(Json::Object(old_val)),
        })
    }

    /// Keeps a row, and returns what was in its place.
    fn replace(&mut self, name: &str, row: Map<String, Json>) -> Option<Map<String, Json>> {
        self.bytes += size(name, &row);
        let old = self.rows.insert(name.to_owned(), row)?;
        self.bytes -= size(name, &old);
        Some(old)
    }

    fn deleted(&self, old: &Map<String, Json>) -> Update {
        let key = self.key.iter().map(|name| {
            let value = old.get(*name).cloned().unwrap_or_default();
            ((*name).to_owned(), value)
        });
        Update {
            action: Action::Delete,
            new_val: None,
            old_val: Some(Json::Object(key.collect())),
        }
    }

    /// A row by its key, as a text.
    fn name(&self, row: &Map<String, Json>) -> String {
        let key = self
            .key
            .iter()
            .map(|name| row.get(*name).cloned().unwrap_or_default());
        Json::Array(key.collect()).to_string()
    }
}

/// What clients call the columns of a table's key.
pub(super) fn key_fields(table: &'static Table) -> Vec<&'static str> {
    let name = |column: &&'static str| {
        let field = table.fields.iter().find(|field| field.column == *column);
        field.map_or(*column, |field| field.name)
    };
    table.key.iter().map(name).collect()
}

/// What a value takes beside its texts: itself, and its part of what holds it.
const VALUE_BYTES: usize = 64;

fn size(name: &str, row: &Map<String, Json>) -> usize {
    name.len() + VALUE_BYTES + fields_size(row)
}

fn fields_size(fields: &Map<String, Json>) -> usize {
    let sizes = fields
        .iter()
        .map(|(name, value)| name.len() + value_size(value));
    sizes.sum()
}

fn value_size(value: &Json) -> usize {
    let inner = match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text.len(),
        Json::Array(elements) => elements.iter().map(value_size).sum(),
        Json::Object(fields) => fields_size(fields),
    };
    VALUE_BYTES + inner
}

fn fields(row: Json) -> Map<String, Json> {
    if let Json::Object(fields) = row {
        fields
    } else {
        Map::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::TABLES;
    use super::*;

    fn projects() -> &'static Table {
        TABLES
            .iter()
            .find(|table| table.name == "projects")
            .unwrap()
    }

    /// What a client does with updates.
    fn apply(rows: &mut BTreeMap<String, Map<String, Json>>, update: &Update) {
        let value = update.new_val.as_ref().or(update.old_val.as_ref()).unwrap();
        let id = value["project_id"].to_string();
        let fields = value.as_object().unwrap().clone();
        match update.action {
            Action::Insert => drop(rows.insert(id, fields)),
            Action::Delete => drop(rows.remove(&id)),
            Action::Update => {
                let row = rows.get_mut(&id).unwrap();
                for (name, value) in fields {
                    if value.is_null() {
                        row.remove(&name);
                    } else {
                        row.insert(name, value);
                    }
                }
            }
        }
    }

    fn row(id: u8, title: Option<u8>) -> Json {
        let mut row = json!({"project_id": id});
        if let Some(title) = title {
            row["title"] = title.into();
        }
        row
    }

    #[test]
    fn what_is_different_is_told_with_the_key() {
        let mut known = Known::new(projects(), vec![row(1, Some(1))]);
        assert_eq!(
            known.row(&json!({"project_id": 1}), Some(row(1, Some(1)))),
            None
        );
        let update = known
            .row(&json!({"project_id": 1}), Some(row(1, None)))
            .unwrap();
        assert_eq!(
            serde_json::to_value(&update).unwrap(),
            json!({"action": "update", "new_val": {"project_id": 1, "title": null}, "old_val": {"project_id": 1, "title": 1}})
        );
        let gone = known.row(&json!({"project_id": 1}), None).unwrap();
        assert_eq!(
            serde_json::to_value(&gone).unwrap(),
            json!({"action": "delete", "old_val": {"project_id": 1}})
        );
        assert!(known.is_empty());
        assert_eq!(known.row(&json!({"project_id": 1}), None), None);
    }

    proptest! {
        /// Whoever applies the updates has what is there, however it came to that.
        #[test]
        fn updates_lead_to_what_is_there(
            first in proptest::collection::btree_map(0_u8..6, proptest::option::of(0_u8..3), 0..6),
            steps in proptest::collection::vec(
                prop_oneof![
                    (0_u8..6, proptest::option::of(proptest::option::of(0_u8..3))).prop_map(|(id, row)| (Some(id), row, Vec::new())),
                    proptest::collection::vec((0_u8..6, proptest::option::of(0_u8..3)), 0..6).prop_map(|rows| (None, None, rows)),
                ],
                0..20,
            ),
        ) {
            let rows: Vec<Json> = first.iter().map(|(id, title)| row(*id, *title)).collect();
            let mut there = first;
            let mut known = Known::new(projects(), rows.clone());
            let mut client = BTreeMap::new();
            for row in rows {
                client.insert(row["project_id"].to_string(), row.as_object().unwrap().clone());
            }
            for (id, one, all) in steps {
                let updates: Vec<Update> = match id {
                    Some(id) => {
                        match one {
                            Some(title) => drop(there.insert(id, title)),
                            None => drop(there.remove(&id)),
                        }
                        let now = there.get(&id).map(|title| row(id, *title));
                        known.row(&json!({"project_id": id}), now).into_iter().collect()
                    }
                    None => {
                        there = all.into_iter().collect();
                        known.all(there.iter().map(|(id, title)| row(*id, *title)).collect())
                    }
                };
                for update in &updates {
                    apply(&mut client, update);
                }
                let expected: BTreeMap<String, Map<String, Json>> = there
                    .iter()
                    .map(|(id, title)| (json!(id).to_string(), row(*id, *title).as_object().unwrap().clone()))
                    .collect();
                prop_assert_eq!(&client, &expected);
                prop_assert_eq!(known.len(), expected.len());
                prop_assert_eq!(known.bytes(), Known::new(projects(), known.rows()).bytes());
            }
        }
    }
}
