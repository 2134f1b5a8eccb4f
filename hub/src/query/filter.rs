//! What a query says about the rows that it wants: a value, or comparisons with values.

use serde_json::{Map, Value as Json};

use super::VALUES_MAX;
use super::options::is_plain;
use super::plan::{Comparison, Condition};
use super::rule::{Field, Kind, Table};
use super::value::Value;
use crate::api::Error;

/// What a field of a query says.
#[derive(Debug, PartialEq)]
pub(super) enum Wanted {
    /// That it is wanted.
    Anything,
    /// What holds of it.
    Conditions(Vec<Condition>),
}

/// Reads what a query says about a field.
pub(super) fn read(table: &Table, field: &'static Field, value: &Json) -> Result<Wanted, Error> {
    if value.is_null() {
        return Ok(Wanted::Anything);
    }
    if !is_plain(field.kind) {
        // A template for what is inside of it, with nulls for what is wanted: it comes as a whole.
        if value.is_object() || value.is_array() {
            return Ok(Wanted::Anything);
        }
        return Err(wrong(table, field, "cannot be compared"));
    }
    if let Some(comparisons) = value.as_object() {
        return conditions(table, field, comparisons);
    }
    let condition = if value.is_array() {
        any_of(table, field, value)?
    } else {
        compare(table, field, Comparison::Equal, value)?
    };
    Ok(Wanted::Conditions(vec![condition]))
}

fn conditions(
    table: &Table,
    field: &'static Field,
    comparisons: &Map<String, Json>,
) -> Result<Wanted, Error> {
    if comparisons.is_empty() || comparisons.len() > 8 {
        return Err(wrong(table, field, "must have 1 to 8 comparisons"));
    }
    let conditions = comparisons.iter().map(|(operator, value)| {
        Ok(match (operator.as_str(), value) {
            ("==" | "=" | "IS", Json::Null) => Condition::Empty(field.column, true),
            ("!=" | "<>" | "IS NOT", Json::Null) => Condition::Empty(field.column, false),
            ("ANY", value) => any_of(table, field, value)?,
            (operator, value) => {
                let comparison = comparison(operator)
                    .filter(|found| {
                        *found != Comparison::Like || matches!(field.kind, Kind::Text(_))
                    })
                    .ok_or_else(|| {
                        let shown: String = operator.chars().take(16).collect();
                        wrong(table, field, format!("cannot be compared by {shown:?}"))
                    })?;
                compare(table, field, comparison, value)?
            }
        })
    });
    Ok(Wanted::Conditions(
        conditions.collect::<Result<_, Error>>()?,
    ))
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "==" | "=" => Comparison::Equal,
        "!=" | "<>" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        "ILIKE" => Comparison::Like,
        _ => return None,
    })
}

fn compare(
    table: &Table,
    field: &'static Field,
    comparison: Comparison,
    value: &Json,
) -> Result<Condition, Error> {
    let value = Value::read(field.kind, value).map_err(|unfit| wrong(table, field, unfit))?;
    if let (Comparison::Like, Value::Text(pattern)) = (comparison, &value)
        && !is_pattern(pattern)
    {
        return Err(wrong(
            table,
            field,
            "must be a pattern that does not end with a single \\",
        ));
    }
    Ok(Condition::Compare(field.column, comparison, value))
}

/// Whether each `\\` has something behind it, without which PostgreSQL refuses the statement.
fn is_pattern(text: &str) -> bool {
    let trailing = text.bytes().rev().take_while(|byte| *byte == b'\\').count();
    trailing % 2 == 0
}

fn any_of(table: &Table, field: &'static Field, values: &Json) -> Result<Condition, Error> {
    let values = values
        .as_array()
        .filter(|values| (1..=VALUES_MAX).contains(&values.len()))
        .ok_or_else(|| wrong(table, field, format!("must be a list of 1 to {VALUES_MAX}")))?;
    values
        .iter()
        .map(|value| Value::read(field.kind, value))
        .collect::<Result<Vec<Value>, _>>()
        .map(|values| Condition::AnyOf(field.column, values))
        .map_err(|unfit| wrong(table, field, unfit))
}

/// An error that names the field.
pub(super) fn wrong(table: &Table, field: &Field, text: impl std::fmt::Display) -> Error {
    Error::argument(format_args!("{}.{}", table.name, field.name), text)
}
