//! All rows of a database, to be written into another one: what its tables are, reading them, writing them.
//!
//! A row is a list of JSON on its way: texts and numbers, times as milliseconds, bytes as hexadecimal digits, and JSON as
//! the text that it is in the database.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::connect::SCHEMA;
use super::error::Error;
use super::sql::{Dialect, Sql};
use super::transaction::{Reader, Transaction};

/// Tables that belong to the database and the hubs on it, and not to the site.
const NOT_COPIED: [&str; 2] = ["schema_migrations", "hub_servers"];

/// The one that a new database has a row of.
const HEAD: &str = "outbox_head";

/// How many rows are read together, and of tables whose rows may be large.
const ROWS: i64 = 500;
const ROWS_LARGE: i64 = 8;

/// Most columns of a table and tables of a schema that are looked at.
const COLUMNS_MAX: i64 = 10_000;

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Int,
    Bool,
    Uuid,
    Time,
    Json,
    Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    kind: Kind,
}

/// A table to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    name: String,
    columns: Vec<Column>,
    /// The column whose values the database gives.
    identity: Option<String>,
}

impl Table {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn rows(&self) -> i64 {
        let large = self.columns.iter().any(|column| column.kind == Kind::Bytes);
        if large { ROWS_LARGE } else { ROWS }
    }

    /// A row in a form that is the same for both databases, whatever they do to JSON.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if what should be JSON is something else.
    pub fn canonical(&self, row: &Json) -> Result<String, Error> {
        let values = row.as_array().map(Vec::as_slice).unwrap_or_default();
        let canonical = values.iter().zip(&self.columns).map(|(value, column)| {
            match (column.kind, value.as_str()) {
                (Kind::Json, Some(text)) => serde_json::from_str(text)
                    .map(|value: Json| plain(value))
                    .map_err(|error| {
                        let (table, column) = (&self.name, &column.name);
                        Error::Corrupt(format!("{table}.{column}: {error}"))
                    }),
                _ => Ok(value.clone()),
            }
        });
        let canonical: Vec<Json> = canonical.collect::<Result<_, _>>()?;
        Ok(Json::Array(canonical).to_string())
    }
}

/// Numbers in one way to write them: PostgreSQL keeps `1e2` as `100`.
fn plain(value: Json) -> Json {
    /// Up to there every whole number is one that a `f64` can be.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Json::Number(number) => match number.as_f64() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it is whole and within the range"
            )]
            Some(float) if float.fract() == 0.0 && float.abs() < EXACT => Json::from(float as i64),
            _ => Json::Number(number),
        },
        Json::Array(list) => Json::Array(list.into_iter().map(plain).collect()),
        Json::Object(map) => {
            // In the order of names, whatever order the map keeps.
            let plain = map.into_iter().map(|(name, value)| (name, plain(value)));
            let sorted: BTreeMap<String, Json> = plain.collect();
            Json::Object(sorted.into_iter().collect())
        }
        Json::Null | Json::Bool(_) | Json::String(_) => value,
    }
}

/// The tables of a PostgreSQL, so that those come first that others refer to.
///
/// # Errors
/// When the database does not answer, or has a column of a type that nobody has thought of.
pub async fn tables(on: &mut Reader) -> Result<Vec<Table>, Error> {
    let columns = Sql::same(
        "SELECT c.table_name::text AS tbl, c.column_name::text AS col, c.data_type::text AS kind,
                c.is_identity = 'YES' AS identity
           FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
          WHERE c.table_schema = $1 AND t.table_type = 'BASE TABLE'
          ORDER BY c.table_name, c.ordinal_position LIMIT $2",
    );
    let rows = on.rows(columns.bind(SCHEMA).bind(COLUMNS_MAX)).await?;
    let mut tables: Vec<Table> = Vec::new();
    for row in &rows {
        let name: String = row.get("tbl")?;
        if NOT_COPIED.contains(&name.as_str()) {
            continue;
        }
        let column = Column {
            name: row.get("col")?,
            kind: kind(&row.get::<String>("kind")?)?,
        };
        let identity = row.get::<bool>("identity")?.then(|| column.name.clone());
        match tables.last_mut().filter(|table| table.name == name) {
            Some(table) => {
                table.columns.push(column);
                table.identity = table.identity.take().or(identity);
            }
            None => tables.push(Table {
                name,
                columns: vec![column],
                identity,
            }),
        }
    }
    in_order(tables, &references(on).await?)
}

fn kind(data_type: &str) -> Result<Kind, Error> {
    Ok(match data_type {
        "text" => Kind::Text,
        "bigint" | "integer" => Kind::Int,
        "boolean" => Kind::Bool,
        "uuid" => Kind::Uuid,
        "timestamp with time zone" => Kind::Time,
        "jsonb" => Kind::Json,
        "bytea" => Kind::Bytes,
        other => return Err(Error::Mistake(format!("a column of type {other}"))),
    })
}

/// Which table refers to which.
async fn references(on: &mut Reader) -> Result<Vec<(String, String)>, Error> {
    let references = Sql::same(
        "SELECT own.relname::text AS own, other.relname::text AS other
           FROM pg_constraint c JOIN pg_class own ON own.oid = c.conrelid JOIN pg_class other ON other.oid = c.confrelid
           JOIN pg_namespace n ON n.oid = own.relnamespace
          WHERE c.contype = 'f' AND n.nspname = $1 AND own.oid <> other.oid LIMIT $2",
    );
    let rows = on.rows(references.bind(SCHEMA).bind(COLUMNS_MAX)).await?;
    rows.iter()
        .map(|row| Ok((row.get("own")?, row.get("other")?)))
        .collect()
}

fn in_order(mut left: Vec<Table>, references: &[(String, String)]) -> Result<Vec<Table>, Error> {
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |table: &Table, left: &[Table]| {
            references.iter().any(|(own, other)| {
                *own == table.name && left.iter().any(|table| table.name == *other)
            })
        };
        let (later, now): (Vec<_>, Vec<_>) =
            left.iter().cloned().partition(|table| waits(table, &left));
        if now.is_empty() {
            return Err(Error::Mistake("tables that refer to each other".to_owned()));
        }
        ordered.extend(now);
        left = later;
    }
    Ok(ordered)
}

/// How many rows a table has.
///
/// # Errors
/// When the database does not answer.
pub async fn count(on: &mut Reader, table: &Table) -> Result<i64, Error> {
    let count = Sql::built(format!("SELECT count(*) AS count FROM {}", table.name));
    let row = on.row(count.into()).await?;
    row.map_or(Ok(0), |row| row.get("count"))
}

/// The first of these tables of a new database that has rows.
///
/// # Errors
/// When the database does not answer.
pub async fn first_used<'a>(
    on: &mut Reader,
    tables: &'a [Table],
) -> Result<Option<&'a Table>, Error> {
    for table in tables.iter().filter(|table| table.name != HEAD) {
        let some = Sql::built(format!("SELECT 1 FROM {} LIMIT 1", table.name));
        if on.row(some.into()).await?.is_some() {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// Lets the statements of a transaction take as long as they take.
///
/// # Errors
/// When the database does not answer.
pub async fn be_patient(
    on: &mut Transaction,
    statement_max: std::time::Duration,
) -> Result<(), Error> {
    on.be_patient(statement_max).await
}

/// The next rows of a table of SQLite behind a place, and the place behind them; `None` if there are no more.
///
/// # Errors
/// When the database does not answer.
pub async fn read(
    on: &mut Reader,
    table: &Table,
    after: i64,
) -> Result<Option<(Vec<Json>, i64)>, Error> {
    let values: Vec<String> = table
        .columns
        .iter()
        .map(|column| match column.kind {
            Kind::Bytes => format!(
                "CASE WHEN {0} IS NULL THEN NULL ELSE hex({0}) END",
                column.name
            ),
            Kind::Text | Kind::Int | Kind::Bool | Kind::Uuid | Kind::Time | Kind::Json => {
                column.name.clone()
            }
        })
        .collect();
    let read = Sql::built(format!(
        "SELECT rowid AS place, json_array({}) AS line FROM {} WHERE rowid > $1 ORDER BY rowid LIMIT $2",
        values.join(", "),
        table.name
    ));
    let rows = on.rows(read.bind(after).bind(table.rows())).await?;
    let Some(last) = rows.last() else {
        return Ok(None);
    };
    let place = last.get("place")?;
    let lines = rows.iter().map(|row| row.get("line"));
    Ok(Some((lines.collect::<Result<_, _>>()?, place)))
}

/// Removes what a new table has.
///
/// # Errors
/// When the database does not answer.
pub async fn clear(on: &mut Transaction, table: &Table) -> Result<(), Error> {
    let clear = Sql::built(format!("DELETE FROM {}", table.name));
    on.execute(clear.into()).await.map(drop)
}

/// Writes rows into a table of PostgreSQL.
///
/// # Errors
/// When a row is not one for it, or the database does not answer.
pub async fn write(on: &mut Transaction, table: &Table, rows: Vec<Json>) -> Result<(), Error> {
    let names: Vec<&str> = table
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let values: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let text = format!("(e.line ->> {place})");
            match column.kind {
                Kind::Text => text,
                Kind::Int => format!("{text}::bigint"),
                Kind::Bool => format!("{text}::bigint <> 0"),
                Kind::Uuid => format!("{text}::uuid"),
                Kind::Time => {
                    format!("timestamptz 'epoch' + {text}::bigint * interval '1 millisecond'")
                }
                Kind::Json => format!("{text}::jsonb"),
                Kind::Bytes => format!("decode({text}, 'hex')"),
            }
        })
        .collect();
    let write = Sql::built(format!(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM jsonb_array_elements($1) AS e (line)",
        table.name,
        names.join(", "),
        values.join(", ")
    ));
    on.execute(write.bind(Json::Array(rows))).await.map(drop)
}

/// Begins to read a table of PostgreSQL back.
///
/// # Errors
/// When the database does not answer.
pub async fn open_back(on: &mut Transaction, table: &Table) -> Result<(), Error> {
    let values: Vec<String> = table
        .columns
        .iter()
        .map(|Column { name, kind }| match kind {
            Kind::Text | Kind::Int => name.clone(),
            Kind::Bool => format!("{name}::int"),
            Kind::Uuid | Kind::Json => format!("{name}::text"),
            Kind::Time => format!("(extract(epoch FROM {name}) * 1000)::bigint"),
            Kind::Bytes => format!("upper(encode({name}, 'hex'))"),
        })
        .collect();
    let open = Sql::built(format!(
        "DECLARE back NO SCROLL CURSOR FOR SELECT jsonb_build_array({}) AS line FROM {}",
        values.join(", "),
        table.name
    ));
    on.execute(open.into()).await.map(drop)
}

/// The next rows that are read back; none at the end, which closes it.
///
/// # Errors
/// When the database does not answer.
pub async fn read_back(on: &mut Transaction, table: &Table) -> Result<Vec<Json>, Error> {
    let fetch = Sql::built(format!("FETCH {} FROM back", table.rows()));
    let rows = on.rows(fetch.into()).await?;
    if rows.is_empty() {
        on.execute(Sql::same("CLOSE back").into()).await?;
    }
    rows.iter().map(|row| row.get("line")).collect()
}

/// The highest number that a database has ever given for a table, and the column with these.
///
/// # Errors
/// When the database does not answer.
pub async fn last_given(on: &mut Reader, table: &Table) -> Result<Option<(String, i64)>, Error> {
    let Some(column) = &table.identity else {
        return Ok(None);
    };
    // Numbers of rows that are gone are never given again.
    let last = match on.dialect() {
        Dialect::Sqlite => Sql::built(format!(
            "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{0}'), 0),
                        coalesce((SELECT max({column}) FROM {0}), 0)) AS last",
            table.name
        )),
        Dialect::Postgres => Sql::built(format!(
            "SELECT coalesce(max({column}), 0) AS last FROM {}",
            table.name
        )),
    };
    let row = on.row(last.into()).await?;
    let last = row.map_or(Ok(0), |row| row.get("last"))?;
    Ok((last > 0).then(|| (column.clone(), last)))
}

/// Lets PostgreSQL go on with the number behind this one.
///
/// # Errors
/// When the database does not answer.
pub async fn go_on_behind(
    on: &mut Transaction,
    table: &Table,
    column: &str,
    last: i64,
) -> Result<(), Error> {
    let set = Sql::same("SELECT setval(pg_get_serial_sequence($1, $2), $3)");
    let set = set.bind(&table.name).bind(column).bind(last);
    on.rows(set).await.map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(name: &str) -> Table {
        let column = |name: &str, kind| Column {
            name: name.to_owned(),
            kind,
        };
        Table {
            name: name.to_owned(),
            columns: vec![column("a", Kind::Text), column("b", Kind::Json)],
            identity: None,
        }
    }

    #[test]
    fn a_row_is_the_same_however_its_json_is_written() {
        let table = table("t");
        let one = table
            .canonical(&json!(["x", "{\"b\": 1e2, \"a\": [1.50, null]}"]))
            .unwrap();
        let other = table
            .canonical(&json!(["x", "{\"a\":[1.5,null],\"b\":100}"]))
            .unwrap();
        assert_eq!(one, other);
        let text = table.canonical(&json!(["{\"b\": 1}", null])).unwrap();
        assert_eq!(text, "[\"{\\\"b\\\": 1}\",null]");
        assert!(table.canonical(&json!(["x", "{"])).is_err());
    }

    #[test]
    fn those_that_others_refer_to_come_first() {
        let tables = ["a", "b", "c"].map(table).to_vec();
        let refer = |own: &str, other: &str| (own.to_owned(), other.to_owned());
        let ordered = in_order(tables.clone(), &[refer("a", "b"), refer("b", "c")]).unwrap();
        let names: Vec<&str> = ordered.iter().map(Table::name).collect();
        assert_eq!(names, ["c", "b", "a"]);
        assert!(in_order(tables, &[refer("a", "b"), refer("b", "a")]).is_err());
    }
}
