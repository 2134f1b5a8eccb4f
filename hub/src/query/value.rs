//! Values of fields, read from what clients send.

use std::fmt;

use serde_json::Value as Json;
use uuid::Uuid;

use super::rule::Kind;
use crate::api::has_null_character;
use crate::time::Time;

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An identifier.
    Uuid(Uuid),
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
    /// A point in time.
    Time(Time),
    /// Anything.
    Json(Json),
}

/// Latest time, in milliseconds since 1970: the end of what JavaScript can say, which both databases can store.
const TIME_MAX: i64 = 8_640_000_000_000_000;

/// A value that is not of the kind of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfit(Kind);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Uuid => f.write_str("must be a UUID"),
            Kind::Text(max) => write!(
                f,
                "must be text of at most {max} bytes without the character U+0000"
            ),
            Kind::Int => f.write_str("must be a whole number"),
            Kind::Bool => f.write_str("must be true or false"),
            Kind::Time => {
                f.write_str("must be a time in milliseconds since 1970, or as text in UTC")
            }
            Kind::Json(max) => write!(
                f,
                "must take at most {max} bytes as JSON without the character U+0000"
            ),
            Kind::Derived(_) => f.write_str("is put together from others and cannot be given"),
        }
    }
}

impl Value {
    /// Reads a value of this kind.
    pub(super) fn read(kind: Kind, value: &Json) -> Result<Self, Unfit> {
        let read = match (kind, value) {
            (Kind::Uuid, Json::String(text)) => uuid(text).map(Self::Uuid),
            (Kind::Text(max), Json::String(text)) => {
                let fits = text.len() <= max && !text.contains('\0');
                fits.then(|| Self::Text(text.clone()))
            }
            (Kind::Int, Json::Number(_)) => whole(value).map(Self::Int),
            (Kind::Bool, Json::Bool(value)) => Some(Self::Bool(*value)),
            (Kind::Time, Json::Number(_)) => whole(value).and_then(time),
            (Kind::Time, Json::String(text)) => time_of_text(text).and_then(time),
            (Kind::Json(max), value) => {
                let fits = value.to_string().len() <= max && !has_null_character(value);
                fits.then(|| Self::Json(value.clone()))
            }
            (
                Kind::Uuid | Kind::Text(_) | Kind::Int | Kind::Bool | Kind::Time | Kind::Derived(_),
                _,
            ) => None,
        };
        read.ok_or(Unfit(kind))
    }
}

fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

fn whole(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        format!("{number:.0}").parse().ok()
    })
}

fn time(millis: i64) -> Option<Value> {
    (0..=TIME_MAX)
        .contains(&millis)
        .then(|| Value::Time(Time::from_millis(millis)))
}

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.mmm]Z`, as JavaScript writes times.
fn time_of_text(text: &str) -> Option<i64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [year, month, day] = numbers::<3>(date, '-')?;
    let [hour, minute, second] = numbers::<3>(clock, ':')?;
    let in_range = (1970..=9_999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !in_range {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = ((days_before(year, month) + day - 1) * 24 + hour) * 3_600 + minute * 60 + second;
    Some(seconds * 1_000 + millis)
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<i64> = text
        .split(separator)
        .map(|part| {
            part.parse()
                .ok()
                .filter(|_| digits(part) && part.len() <= 4)
        })
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the beginning of a month.
fn days_before(year: i64, month: i64) -> i64 {
    let years: i64 = (1970..year)
        .map(|year| 365 + i64::from(is_leap(year)))
        .sum();
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_as_their_kinds() {
        let id = Uuid::new_v4();
        let at = |millis| Value::Time(Time::from_millis(millis));
        for (kind, json, value) in [
            (Kind::Uuid, json!(id), Value::Uuid(id)),
            (Kind::Text(3), json!("abc"), Value::Text("abc".to_owned())),
            (Kind::Int, json!(-7), Value::Int(-7)),
            (Kind::Int, json!(7.0), Value::Int(7)),
            (Kind::Bool, json!(false), Value::Bool(false)),
            (
                Kind::Time,
                json!(1_700_000_000_123_i64),
                at(1_700_000_000_123),
            ),
            (Kind::Time, json!("1970-01-01T00:00:00Z"), at(0)),
            (
                Kind::Time,
                json!("2024-02-29T23:59:59.999Z"),
                at(1_709_251_199_999),
            ),
            (
                Kind::Time,
                json!("2023-11-14T22:13:20.1Z"),
                at(1_700_000_000_100),
            ),
            (Kind::Json(9), json!({"a": 1}), Value::Json(json!({"a": 1}))),
        ] {
            assert_eq!(Value::read(kind, &json), Ok(value), "{json}");
        }
    }

    #[test]
    fn other_values_are_unfit() {
        for (kind, json) in [
            (Kind::Uuid, json!("x")),
            (Kind::Uuid, json!("6a9ad7b65e7d4d3c8f530c2a1d5a3c11")),
            (Kind::Text(3), json!("abcd")),
            (Kind::Text(3), json!("a\0")),
            (Kind::Int, json!(0.5)),
            (Kind::Int, json!("1")),
            (Kind::Bool, json!(1)),
            (Kind::Time, json!(-1)),
            (Kind::Time, json!(8_640_000_000_000_001_i64)),
            (Kind::Time, json!("2023-02-29T00:00:00Z")),
            (Kind::Time, json!("2023-01-01")),
            (Kind::Time, json!("2023-01-01T24:00:00Z")),
            (Kind::Time, json!("2023-1-+1T00:00:00Z")),
            (Kind::Json(5), json!("abcd")),
            (Kind::Json(50), json!("a\0")),
            (
                Kind::Derived(super::super::Derived::ProjectUsers),
                json!({}),
            ),
        ] {
            assert_eq!(Value::read(kind, &json), Err(Unfit(kind)), "{json}");
        }
    }
}
