//! `sync`: documents that several people edit, whose changes are kept in streams.

use std::collections::BTreeMap;

use dialtone_client::persist::wire::StoredRecord;
use dialtone_client::persist::{CallError, OpenError, Persist, ReadOptions, Stream};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use sha1::{Digest as _, Sha1};

use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use crate::auth::token::hex;
use crate::id::ProjectId;
use crate::line::{self, Line};

/// Most bytes of changes in one answer; more are read from the number on that it tells.
const BYTES_MAX: usize = 4 << 20;

/// Most records of what is known of a document.
const INFO_RECORDS_MAX: u64 = 1_000;

/// Numbers behind which no record is looked at for the times when a document was edited, from its end.
const TIMES_RECORDS_MAX: u64 = 1_000_000;

/// How many numbers from the end are looked at first; twice as many each time that these were not enough.
const TIMES_SPAN_MIN: u64 = 256;

/// Histories of documents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Histories {
    line: Line,
}

#[derive(Deserialize)]
struct Wanted {
    project_id: ProjectId,
    path: String,
    start_seq: Option<u64>,
    end_seq: Option<u64>,
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let transient = error.is_transient();
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "a stream was not read");
        let code = if transient {
            Code::Unavailable
        } else {
            Code::Internal
        };
        Self::new(code, "the history cannot be read now")
    }
}

impl Histories {
    /// Those in the streams that are reached over this connection.
    pub fn new(line: Line) -> Self {
        Self { line }
    }

    /// The handlers with that of this file. That the caller is a member of the project is in the table.
    pub fn install(&self, handlers: Handlers) -> Handlers {
        handlers.with_on("sync.history", self, |on, call| async move {
            on.history(call).await
        })
    }

    async fn history(&self, mut call: Call) -> Result<Json, Error> {
        let wanted: Wanted = call.argument(0)?;
        let id = string_id(wanted.project_id, &wanted.path);
        let options = ReadOptions {
            from: wanted.start_seq.unwrap_or(0),
            to: wanted.end_seq,
            ..ReadOptions::default()
        };
        let mut patches = Vec::new();
        let (mut bytes, mut next) = (0, None);
        let name = format!("projects/{}/patches:{id}", wanted.project_id);
        let mut records = self.stream(name)?.read(options);
        while let Some(record) = records.next().await {
            let Some(record) = there(record)? else {
                break;
            };
            bytes += record.payload.len();
            if bytes > BYTES_MAX && !patches.is_empty() {
                next = Some(record.seq);
                break;
            }
            patches.push(json!({
                "seq": record.seq,
                "time": record.time,
                "mesg": value(&record)?,
            }));
        }
        let mut answer = json!({
            "patches": patches,
            "info": self.info(wanted.project_id, &id).await?,
        });
        if let Some(next) = next {
            answer["next_seq"] = next.into();
        }
        Ok(answer)
    }

    /// When a document was edited by whomever, the last time first.
    pub(super) async fn edit_times(
        &self,
        project: ProjectId,
        path: &str,
        limit: i64,
    ) -> Result<Vec<u64>, Error> {
        let name = format!("projects/{project}/patches:{}", string_id(project, path));
        let stream = self.stream(name)?;
        let Some(info) = there(stream.info().await)? else {
            return Ok(Vec::new());
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let mut times = Vec::new();
        let (mut to, mut span) = (info.last_seq, TIMES_SPAN_MIN);
        // From the end, in parts that grow: most of the records in front of it may have left the stream.
        while times.len() < limit && to >= info.first_seq.max(1) {
            if info.last_seq - to >= TIMES_RECORDS_MAX {
                break;
            }
            let from = info.first_seq.max(1).max(to.saturating_sub(span - 1));
            let mut part = times_of(&stream, from, to).await?;
            part.reverse();
            times.extend(part);
            (to, span) = (from - 1, span * 2);
        }
        times.truncate(limit);
        Ok(times)
    }

    fn stream(&self, name: String) -> Result<Stream, Error> {
        Persist::new(&line::connected(&self.line)?)
            .stream(name)
            .map_err(|error: OpenError| Error::argument("args[0].path", error))
    }

    /// What is known of a document: a row of which each field is a record under `[<key of the row>, <field>]`.
    async fn info(&self, project: ProjectId, id: &str) -> Result<Json, Error> {
        let name = format!("projects/{project}/__dko__syncstrings:{id}");
        let options = ReadOptions {
            max_msgs: Some(INFO_RECORDS_MAX),
            ..ReadOptions::default()
        };
        let mut fields: BTreeMap<String, Json> = BTreeMap::new();
        let mut records = self.stream(name)?.read(options);
        while let Some(record) = records.next().await {
            let Some(record) = there(record)? else {
                break;
            };
            let Some(field) = record.key.as_deref().and_then(field_of) else {
                continue;
            };
            if record.payload.is_empty() {
                fields.remove(&field);
            } else {
                fields.insert(field, value(&record)?);
            }
        }
        if fields.is_empty() {
            return Ok(Json::Null);
        }
        Ok(Json::Object(fields.into_iter().collect::<Map<_, _>>()))
    }
}

/// When the records with these numbers were accepted, in their order.
async fn times_of(stream: &Stream, from: u64, to: u64) -> Result<Vec<u64>, Error> {
    let options = ReadOptions {
        from,
        to: Some(to),
        ..ReadOptions::default()
    };
    let mut times = Vec::new();
    let mut records = stream.read(options);
    while let Some(record) = records.next().await {
        let Some(record) = there(record)? else {
            break;
        };
        times.push(record.time);
    }
    Ok(times)
}

/// What was found, unless there is no such stream: nobody has edited the document.
fn there<T>(found: Result<T, CallError>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Some(dialtone_client::persist::wire::FaultKind::NotFound) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of a document among the streams of its project.
fn string_id(project: ProjectId, path: &str) -> String {
    hex(&Sha1::digest(format!("{project}{path}").as_bytes()))
}

/// The field of a row that a key names.
fn field_of(key: &str) -> Option<String> {
    let (_, field): (Json, String) = serde_json::from_str(key).ok()?;
    Some(field)
}

/// What a record says, as JSON.
fn value(record: &StoredRecord) -> Result<Json, Error> {
    let bytes: &[u8] = &record.payload;
    let read = match record.encoding {
        0 => rmp_serde::from_slice(bytes).map_err(|error| error.to_string()),
        1 => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        other => Err(format!("there is no encoding {other}")),
    };
    read.map_err(|error| {
        let text = format!("record {} cannot be read: {error}", record.seq);
        Error::new(Code::FailedPrecondition, text)
    })
}
