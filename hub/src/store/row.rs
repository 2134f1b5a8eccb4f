//! Rows as they come from either database.

use std::time::Duration;

use serde_json::Value as Json;
use sqlx::Row as _;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgRow, PgTypeInfo, PgValueRef, Postgres};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::error::{Error, of};
use crate::id::{AccountId, OrganizationId, ProjectId};
use crate::time::Time;

/// `timestamptz` in `pg_type`.
const TIMESTAMPTZ: Oid = Oid(1184);

/// Milliseconds from 1970 to 2000, when the times of PostgreSQL begin.
const EPOCH_POSTGRES: i64 = 946_684_800_000;

/// A row of either database.
#[derive(Debug)]
pub(super) enum Row {
    /// Of PostgreSQL.
    Postgres(PgRow),
    /// Of SQLite.
    Sqlite(SqliteRow),
}

impl Row {
    /// What stands in a column, where NULL cannot.
    pub(super) fn get<T: Column>(&self, name: &str) -> Result<T, Error> {
        self.maybe(name)?
            .ok_or_else(|| Error::Corrupt(format!("there is nothing in column {name}")))
    }

    /// A list of texts, which stands in a column as JSON.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, Error> {
        serde_json::from_value(self.get(name)?)
            .map_err(|error| Error::Corrupt(format!("column {name}: {error}")))
    }

    /// A duration, which stands in a column as milliseconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Error> {
        let millis: Option<i64> = self.maybe(name)?;
        millis
            .map(|millis| u64::try_from(millis).map(Duration::from_millis))
            .transpose()
            .map_err(|error| Error::Corrupt(format!("column {name}: {error}")))
    }

    /// What stands in a column.
    pub(super) fn maybe<T: Column>(&self, name: &str) -> Result<Option<T>, Error> {
        T::read(self, name)
    }
}

/// What can stand in a column.
pub(super) trait Column: Sized {
    /// Reads it from a column with this name.
    fn read(row: &Row, name: &str) -> Result<Option<Self>, Error>;
}

macro_rules! columns {
    ($($type:ty: $sqlite:ty => $convert:expr;)*) => {$(
        impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Option<Self>, Error> {
                match row {
                    Row::Postgres(row) => row.try_get(name).map_err(|error| of(&error)),
                    Row::Sqlite(row) => {
                        let found: Option<$sqlite> =
                            row.try_get_unchecked(name).map_err(|error| of(&error))?;
                        let convert: fn($sqlite) -> Result<$type, String> = $convert;
                        found
                            .map(convert)
                            .transpose()
                            .map_err(|error| Error::Corrupt(format!("column {name}: {error}")))
                    }
                }
            }
        }
    )*};
}

columns! {
    i64: i64 => Ok;
    String: String => Ok;
    bool: i64 => |number| Ok(number != 0);
    Vec<u8>: Vec<u8> => Ok;
    Uuid: String => |text| Uuid::try_parse(&text).map_err(|error| error.to_string());
    Json: String => |text| serde_json::from_str(&text).map_err(|error| error.to_string());
    Time: i64 => |millis| Ok(Time::from_millis(millis));
}

macro_rules! id_columns {
    ($($id:ident),*) => {$(
        impl Column for $id {
            fn read(row: &Row, name: &str) -> Result<Option<Self>, Error> {
                Ok(Uuid::read(row, name)?.map(Self::from_uuid))
            }
        }
    )*};
}

id_columns!(AccountId, ProjectId, OrganizationId);

impl sqlx::Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl sqlx::Encode<'_, Postgres> for Time {
    fn encode_by_ref(
        &self,
        buf: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        let micros = self
            .millis()
            .checked_sub(EPOCH_POSTGRES)
            .and_then(|millis| millis.checked_mul(1000))
            .ok_or("a time that PostgreSQL does not know")?;
        sqlx::Encode::<Postgres>::encode_by_ref(&micros, buf)
    }
}

impl sqlx::Decode<'_, Postgres> for Time {
    fn decode(value: PgValueRef<'_>) -> Result<Self, sqlx::error::BoxDynError> {
        let micros = <i64 as sqlx::Decode<'_, Postgres>>::decode(value)?;
        // `infinity` and its opposite are the ends of the range.
        Ok(Self::from_millis(
            micros.div_euclid(1000).saturating_add(EPOCH_POSTGRES),
        ))
    }
}
