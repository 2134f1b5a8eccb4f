//! Setting some columns of a row: the statement has those that are to change and no others.

use super::sql::{Sql, Statement, Value};

/// Columns with their new values, in the order in which they were named.
#[derive(Debug, Default)]
pub(super) struct Assign {
    columns: Vec<&'static str>,
    values: Vec<Value>,
}

impl Assign {
    /// Sets a column.
    pub(super) fn set(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.columns.push(column);
        self.values.push(value.into());
        self
    }

    /// Sets a column, if there is something to set it to.
    pub(super) fn maybe<T: Into<Value>>(self, column: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.set(column, value),
            None => self,
        }
    }

    /// The columns that it sets.
    pub(super) fn columns(&self) -> &[&'static str] {
        &self.columns
    }

    /// The statement for the row of `table` where `key` has this value; `None` if it would set nothing.
    pub(super) fn update(
        self,
        table: &'static str,
        key: &'static str,
        value: impl Into<Value>,
    ) -> Option<Statement> {
        if self.columns.is_empty() {
            return None;
        }
        let sets: Vec<String> = self
            .columns
            .iter()
            .zip(2..)
            .map(|(column, n)| format!("{column} = ${n}"))
            .collect();
        let text = format!("UPDATE {table} SET {} WHERE {key} = $1", sets.join(", "));
        let statement = Sql::built(text).bind(value);
        let values = self.values.into_iter();
        Some(values.fold(statement, Statement::bind))
    }
}
