//! Appends to one `SQLite` file for each stream, in this process: what the store of the predecessor does, without the
//! server around it.
//!
//! It answers one request after the other, each with a transaction of its own, so that an append waits for those of all
//! other writers. Nothing is counted for sockets, decoding and answers, which the other side has to do as well.

use std::path::Path;
use std::thread;
use std::time::Instant;

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::append::Append;
use super::shared::{Finish, Phase, Shared, incompressible, join, warm_and_watch};
use super::{Beside, Pace};
use crate::error::LoadError;
use crate::latency::{Latencies, Percentiles};
use crate::report::Report;

/// The columns and indexes that the predecessor keeps of a message.
const SCHEMA: &str = "
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, time REAL NOT NULL, headers TEXT,
        compress INTEGER NOT NULL, encoding INTEGER NOT NULL, raw BLOB NOT NULL, size INTEGER NOT NULL, ttl INTEGER
    );
    CREATE INDEX messages_time ON messages (time);
";

const INSERT: &str =
    "INSERT INTO messages (time, compress, encoding, raw, size) VALUES (?1, 0, 0, ?2, ?3)";

pub(super) fn run(scenario: Append, pace: Pace) -> Result<Report, LoadError> {
    let dir = tempfile::tempdir().map_err(LoadError::io("make a temporary directory"))?;
    let store = Store::open(dir, scenario)?;
    let shared = Shared::new(1);
    thread::scope(|scope| {
        let over = Finish(&shared);
        let worker = scope.spawn(|| store.run(&shared));
        let seen = warm_and_watch(&shared, pace, &[std::process::id()]);
        drop(over);
        let latency = join(worker)?;
        let seen = seen?;
        let mut report = Report::new("appends", seen.count, seen.usage).with_written(scenario.size);
        report.latency = latency;
        Ok(report)
    })
}

struct Store {
    files: Vec<Connection>,
    payload: Vec<u8>,
    /// When each writer was last answered, which is when it asks again.
    asked: Vec<Instant>,
    _dir: TempDir,
}

impl Store {
    fn open(dir: TempDir, scenario: Append) -> Result<Self, LoadError> {
        let is_synced = scenario.beside == Beside::SqliteSynced;
        let open = |stream: usize| open(&dir.path().join(format!("bench{stream}.db")), is_synced);
        let files = (0..scenario.streams.max(1)).map(open);
        Ok(Self {
            files: files.collect::<Result<_, _>>()?,
            payload: incompressible(scenario.size),
            asked: vec![Instant::now(); scenario.writers.max(1)],
            _dir: dir,
        })
    }

    fn run(mut self, shared: &Shared) -> Result<Option<Percentiles>, LoadError> {
        let (mut phase, mut latencies) = (Phase::Warm, Latencies::new());
        let began = Instant::now();
        let (mut done, mut files) = (0, (0..self.files.len()).cycle());
        while phase != Phase::Over {
            for asked in &mut self.asked {
                let file = files.next().and_then(|file| self.files.get(file));
                let Some(file) = file else { continue };
                let size = i64::try_from(self.payload.len()).unwrap_or(i64::MAX);
                let row = params![began.elapsed().as_secs_f64(), self.payload, size];
                let insert = file.prepare_cached(INSERT);
                insert
                    .and_then(|mut insert| insert.execute(row))
                    .map_err(failed)?;
                latencies.record(asked.elapsed());
                *asked = Instant::now();
                done += 1;
                shared.set(0, done);
            }
            let current = shared.phase();
            if current == Phase::Measured && phase == Phase::Warm {
                latencies.clear();
            }
            phase = current;
        }
        Ok(latencies.percentiles())
    }
}

/// The predecessor keeps the rollback journal and turns syncing off, unless it is told to sync.
fn open(path: &Path, is_synced: bool) -> Result<Connection, LoadError> {
    let file = Connection::open(path).map_err(failed)?;
    let level = if is_synced { "FULL" } else { "OFF" };
    file.pragma_update(None, "synchronous", level)
        .map_err(failed)?;
    file.execute_batch(SCHEMA).map_err(failed)?;
    Ok(file)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn failed(error: rusqlite::Error) -> LoadError {
    LoadError::Peer(format!("SQLite: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn appends_are_rows_of_their_streams() {
        let scenario = Append {
            writers: 3,
            streams: 2,
            size: 5,
            beside: Beside::Sqlite,
            ..Append::default()
        };
        let store = Store::open(tempfile::tempdir().unwrap(), scenario).unwrap();
        let open = |file: &Connection| Connection::open(file.path().unwrap()).unwrap();
        let readers: Vec<_> = store.files.iter().map(open).collect();
        let shared = Shared::new(1);
        thread::scope(|scope| {
            let worker = scope.spawn(|| store.run(&shared));
            while shared.total() < 10 && !worker.is_finished() {
                thread::yield_now();
            }
            let counts: Vec<i64> = readers
                .iter()
                .map(|file| {
                    file.busy_timeout(Duration::from_secs(10)).unwrap();
                    file.query_row("SELECT count(*) FROM messages WHERE size = 5", [], |row| {
                        row.get(0)
                    })
                    .unwrap()
                })
                .collect();
            assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
            drop(Finish(&shared));
            assert!(join(worker).is_ok());
        });
    }
}
