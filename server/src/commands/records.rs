//! How records look: for people, for programs, and raw.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dialtone_client::persist::wire::{Removal, RemovalCause, StoredRecord};
use serde_json::{Map, Value, json};

use super::show::{self, Style};
use crate::args::PrintArgs;
use crate::payload;
use crate::print::{Output, bytes, harmless, time};

/// The encoding tag of lines that are not JSON: bytes as they are.
pub(super) const PLAIN: u8 = 2;

/// A time of the service as RFC 3339.
pub(super) fn at(ms: u64) -> String {
    time(UNIX_EPOCH + Duration::from_millis(ms))
}

/// The time now as the service counts it.
pub(super) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Prints a record.
pub(super) fn print(out: &mut Output, how: PrintArgs, record: &StoredRecord) -> io::Result<()> {
    if how.raw {
        return out.write_all(&record.payload);
    }
    if how.lines {
        return line(out, record);
    }
    if how.json {
        return out.json(&object(record));
    }
    block(out, record)
}

fn line(out: &mut Output, record: &StoredRecord) -> io::Result<()> {
    match text(record) {
        Some(text) => out.write_all(text.as_bytes())?,
        None => out.write_all(&record.payload)?,
    }
    out.write_all(b"\n")
}

/// The text that a `MessagePack` payload is, if it is one.
fn text(record: &StoredRecord) -> Option<String> {
    if record.encoding != payload::MESSAGE_PACK {
        return None;
    }
    match payload::show(record.encoding, &record.payload.0) {
        payload::Shown::Value(Value::String(text)) => Some(text),
        payload::Shown::Value(_)
        | payload::Shown::Packed(_)
        | payload::Shown::Text(_)
        | payload::Shown::Bytes(_) => None,
    }
}

fn block(out: &mut Output, record: &StoredRecord) -> io::Result<()> {
    let paint = out.paint;
    let number = paint.cyan(format_args!("#{}", record.seq));
    let key = match &record.key {
        Some(key) => format!("  {}", paint.bold(harmless(key))),
        None => String::new(),
    };
    let size = bytes(record.payload.len() as u64);
    let about = paint.dim(format_args!("{size}  {}", at(record.time)));
    out.line(format_args!("{number}{key}  {about}"))?;
    if let Ok(headers) = record.read_headers() {
        for (name, value) in headers.iter() {
            let name = paint.dim(format_args!("{}:", harmless(name)));
            out.line(format_args!("{name} {}", harmless(&value.to_string())))?;
        }
    }
    let style = Style::new(false, false, false).text(true);
    show::value(out, style, record.encoding, &record.payload.0)
}

/// A record as JSON.
pub(super) fn object(record: &StoredRecord) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("seq", record.seq.into());
    put("time", at(record.time).into());
    if let Some(key) = &record.key {
        put("key", key.as_str().into());
    }
    put("size", record.payload.len().into());
    put("encoding", record.encoding.into());
    if let Ok(headers) = record.read_headers()
        && !headers.is_empty()
    {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.clone()));
        put("headers", headers.collect::<Map<_, _>>().into());
    }
    if let Some(ttl) = record.ttl {
        put("ttl_ms", ttl.into());
    }
    if let Some(id) = &record.id {
        put("id", id.as_str().into());
    }
    if record.is_tombstone() {
        put("deleted", true.into());
        return Value::Object(object);
    }
    let (name, value) = show::named(record.encoding, &record.payload.0);
    put(name, value);
    Value::Object(object)
}

/// A removal in words.
pub(super) fn cause(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Request => "removed",
        RemovalCause::Limit => "evicted",
        RemovalCause::Expiry => "expired",
    }
}

/// Numbers as `1-3, 7`.
pub(super) fn ranges(ranges: &[(u64, u64)]) -> String {
    let text = ranges.iter().map(|(from, to)| {
        if from == to {
            from.to_string()
        } else {
            format!("{from}-{to}")
        }
    });
    text.collect::<Vec<_>>().join(", ")
}

/// Prints that records are gone, where the form has a place for that.
pub(super) fn print_removal(out: &mut Output, how: PrintArgs, removal: &Removal) -> io::Result<()> {
    if how.json {
        let keys: Vec<Value> = removal
            .keys
            .iter()
            .map(|entry| json!({ "key": entry.key, "seq": entry.seq }))
            .collect();
        return out.json(&json!({
            "removed": removal.ranges,
            "cause": cause(removal.cause),
            "keys": keys,
            "time": at(removal.time),
        }));
    }
    if how.raw || how.lines {
        return Ok(());
    }
    let text = format!("{} #{}", cause(removal.cause), ranges(&removal.ranges));
    let text = out.paint.dim(text);
    out.line(text)
}

/// A table with a line of titles; the columns are as wide as they must be, and the last one is not padded.
pub(super) fn table<const N: usize>(
    out: &mut Output,
    titles: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or(0)
    });
    let paint = out.paint;
    let titles = titles.map(str::to_owned);
    out.line(paint.dim(row(&titles, &widths)))?;
    rows.iter()
        .try_for_each(|cells| out.line(row(cells, &widths)))
}

fn row<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let padded = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
