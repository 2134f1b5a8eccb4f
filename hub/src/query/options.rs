//! What a query asks for beside its rows: how many, in which order.

use serde_json::Value as Json;

use super::rule::Table;
use super::{ORDER_MAX, ROWS_MAX};
use crate::api::Error;
use crate::id::AccountId;

/// Most options.
const OPTIONS_MAX: usize = 16;

/// Which comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The lowest.
    Ascending,
    /// The highest.
    Descending,
}

/// The options of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Most rows.
    pub limit: Option<u32>,
    /// Columns, with `-` before those of which the highest comes first.
    pub order_by: Vec<String>,
    /// Whether it is to write; otherwise that follows from the query.
    pub set: Option<bool>,
    /// Whether it is to delete.
    pub delete: bool,
    /// For administrators: as whom it is to be done.
    pub account_id: Option<AccountId>,
}

impl Options {
    /// Reads a list of objects, or one.
    ///
    /// # Errors
    /// When an option is not known, or has no such value.
    pub fn read(options: &Json) -> Result<Self, Error> {
        if options.is_null() {
            return Ok(Self::default());
        }
        let list = options.as_array().map(Vec::as_slice);
        let list = list.unwrap_or_else(|| std::slice::from_ref(options));
        let mut read = Self::default();
        if list.len() > OPTIONS_MAX {
            return Err(wrong("there are", format!("more than {OPTIONS_MAX}")));
        }
        for option in list {
            let Json::Object(fields) = option else {
                return Err(wrong("each", "must be an object"));
            };
            if fields.len() > OPTIONS_MAX {
                return Err(wrong("there are", format!("more than {OPTIONS_MAX}")));
            }
            for (name, value) in fields {
                read.take(name, value)?;
            }
        }
        Ok(read)
    }

    fn take(&mut self, name: &str, value: &Json) -> Result<(), Error> {
        match (name, value) {
            ("limit", Json::Number(number)) => {
                let limit = number.as_u64().and_then(|limit| u32::try_from(limit).ok());
                let limit = limit.filter(|limit| (1..=ROWS_MAX).contains(limit));
                let limit = limit.ok_or_else(|| {
                    wrong(
                        "limit",
                        format!("must be a whole number from 1 to {ROWS_MAX}"),
                    )
                })?;
                self.limit = Some(limit);
            }
            ("order_by", Json::String(column)) => self.order_by = vec![column.clone()],
            ("order_by", Json::Array(columns)) if columns.len() <= ORDER_MAX => {
                self.order_by = columns
                    .iter()
                    .map(|column| column.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(|| wrong("order_by", "must be names of columns"))?;
            }
            ("order_by", _) => {
                return Err(wrong(
                    "order_by",
                    format!("must be a column, or at most {ORDER_MAX}"),
                ));
            }
            ("set", Json::Bool(set)) => self.set = Some(*set),
            ("delete", Json::Bool(delete)) => self.delete = *delete,
            ("account_id", Json::String(text)) => {
                self.account_id = Some(text.parse().map_err(|error| wrong("account_id", error))?);
            }
            (_, Json::Null) => {}
            _ => {
                let shown: String = name.chars().take(64).collect();
                return Err(wrong(&shown, "is not an option, or has no such value"));
            }
        }
        Ok(())
    }

    /// The columns by which the rows of a table are ordered, which the caller may read.
    pub(super) fn order(
        &self,
        table: &Table,
        default: Option<&str>,
    ) -> Result<Vec<(&'static str, Direction)>, Error> {
        let wanted = self.order_by.iter().map(String::as_str);
        let default = default.filter(|_| self.order_by.is_empty());
        wanted
            .chain(default)
            .map(|column| {
                let (direction, name) = match column.strip_prefix('-') {
                    Some(name) => (Direction::Descending, name),
                    None => (Direction::Ascending, column),
                };
                let field = table.readable(name).filter(|field| is_plain(field.kind));
                field.map(|field| (field.column, direction)).ok_or_else(|| {
                    let shown: String = name.chars().take(64).collect();
                    wrong(
                        "order_by",
                        format!("{shown:?} is no column of {} to order by", table.name),
                    )
                })
            })
            .collect()
    }
}

/// Whether its values have an order that is the same on both databases.
pub(super) fn is_plain(kind: super::rule::Kind) -> bool {
    use super::rule::Kind;
    match kind {
        Kind::Uuid | Kind::Text(_) | Kind::Int | Kind::Bool | Kind::Time => true,
        Kind::Json(_) | Kind::Derived(_) => false,
    }
}

fn wrong(name: &str, text: impl std::fmt::Display) -> Error {
    Error::argument(format_args!("options: {name}"), text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_read_from_a_list_or_one() {
        assert_eq!(Options::read(&Json::Null).unwrap(), Options::default());
        let read =
            Options::read(&json!([{"limit": 7}, {"order_by": "-time"}, {"set": false}])).unwrap();
        let expected = Options {
            limit: Some(7),
            order_by: vec!["-time".to_owned()],
            set: Some(false),
            ..Options::default()
        };
        assert_eq!(read, expected);
        assert!(Options::read(&json!({"delete": true})).unwrap().delete);
    }

    #[test]
    fn other_options_are_refused_by_name() {
        for wrong in [
            json!(7),
            json!([7]),
            json!({"limit": 0}),
            json!({"limit": 10_001}),
            json!({"limit": -1}),
            json!({"limit": "7"}),
            json!({"order_by": 7}),
            json!({"order_by": [7]}),
            json!({"order_by": ["a", "b", "c", "d", "e"]}),
            json!({"slice": [1, 2]}),
            json!({"account_id": "x"}),
            json!({"set": 1}),
            json!([
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {},
                {}
            ]),
        ] {
            assert!(Options::read(&wrong).is_err(), "{wrong}");
        }
    }
}
