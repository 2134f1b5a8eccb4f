//! The access log: one line for each request, in JSON or in the format of other web servers.
//!
//! Lines are put together where a request ends and written by a thread of its own, so that a slow disk delays nobody.
//! What it cannot take is counted and lost. Queries and credentials are not logged: both may hold secrets.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode, Version};
use parking_lot::{Condvar, Mutex};

use crate::metrics::{Metrics, add};
use crate::project::ProjectId;

/// Bytes of lines that wait to be written.
const WAITING_MAX: usize = 8 << 20;

/// With so many bytes the writer is woken; otherwise it comes by itself.
const WAKE_LEN: usize = 256 << 10;

/// How long a line waits at most.
const WRITE_INTERVAL: Duration = Duration::from_millis(200);

/// Longest path and agent in a line, in characters.
const TEXT_LEN_MAX: usize = 512;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One JSON object for each line.
    Json,
    /// The combined format of Apache and nginx, followed by project, code and seconds.
    Combined,
}

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, which is appended to.
    File(PathBuf),
}

/// What is told about a request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it began.
    pub at: SystemTime,
    /// Who sent it.
    pub client: IpAddr,
    /// Of the request.
    pub method: Method,
    /// Of the request, without its query.
    pub path: String,
    /// Of the request.
    pub version: Version,
    /// Of the answer.
    pub status: StatusCode,
    /// The bytes of the bodies.
    pub received: u64,
    /// The bytes of the bodies.
    pub sent: u64,
    /// From the head of the request to the last byte.
    pub took: Duration,
    /// Whose request it was.
    pub identity: Arc<str>,
    /// For which project.
    pub project: Option<ProjectId>,
    /// Why the proxy answered itself, or how it ended early; see [`Refusal::code`](crate::Refusal::code).
    pub code: &'static str,
    /// What the client says it is.
    pub agent: String,
}

/// The access log. Clones write to the same place.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("style", &self.0.style)
            .finish_non_exhaustive()
    }
}

struct Shared {
    style: Style,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    reopen: bool,
    stop: bool,
}

/// Writes the lines until it is told to stop.
#[derive(Debug)]
pub struct Writer {
    log: Log,
    thread: JoinHandle<()>,
}

impl Log {
    /// Opens the destination and starts to write.
    ///
    /// # Errors
    /// If the file or a thread cannot be had.
    pub fn start(destination: Destination, style: Style) -> io::Result<(Self, Writer)> {
        let mut out = open(&destination)?;
        let log = Self(Arc::new(Shared {
            style,
            state: Mutex::default(),
            wake: Condvar::new(),
        }));
        let shared = Arc::clone(&log.0);
        let work = move || while shared.write_once(&destination, &mut out) {};
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(work)?;
        Ok((log.clone(), Writer { log, thread }))
    }

    /// Adds a line.
    pub(crate) fn add(&self, entry: &Entry, metrics: &Metrics) {
        let mut line = String::with_capacity(320);
        match self.0.style {
            Style::Json => json(&mut line, entry),
            Style::Combined => combined(&mut line, entry),
        }
        let mut state = self.0.state.lock();
        if state.lines.len() + line.len() > WAITING_MAX {
            drop(state);
            add(&metrics.log_lines_lost, 1);
            return;
        }
        state.lines.extend_from_slice(line.as_bytes());
        let wake = state.lines.len() >= WAKE_LEN;
        drop(state);
        if wake {
            self.0.wake.notify_one();
        }
    }

    /// Opens the file again, which may have been moved away.
    pub fn reopen(&self) {
        self.0.state.lock().reopen = true;
        self.0.wake.notify_one();
    }
}

impl Writer {
    /// Writes what waits, and ends.
    pub fn stop(self) {
        self.log.0.state.lock().stop = true;
        self.log.0.wake.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the access log panicked");
        }
    }
}

impl Shared {
    /// Waits, and writes what has come; whether it goes on.
    fn write_once(&self, destination: &Destination, out: &mut Box<dyn Write + Send>) -> bool {
        let mut state = self.state.lock();
        if !state.stop && !state.reopen && state.lines.len() < WAKE_LEN {
            self.wake.wait_for(&mut state, WRITE_INTERVAL);
        }
        let lines = std::mem::take(&mut state.lines);
        let (reopen, stop) = (std::mem::take(&mut state.reopen), state.stop);
        drop(state);
        if !lines.is_empty()
            && let Err(error) = out.write_all(&lines).and_then(|()| out.flush())
        {
            tracing::error!(%error, bytes = lines.len(), "the access log cannot be written");
        }
        if reopen {
            match open(destination) {
                Ok(fresh) => *out = fresh,
                Err(error) => {
                    tracing::error!(%error, "the access log cannot be opened again; the old file is used");
                }
            }
        }
        !stop
    }
}

fn open(destination: &Destination) -> io::Result<Box<dyn Write + Send>> {
    let append = |path: &Path| -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(path)
    };
    match destination {
        Destination::Stdout => Ok(Box::new(io::stdout())),
        Destination::File(path) => Ok(Box::new(append(path)?)),
    }
}

fn json(out: &mut String, entry: &Entry) {
    let e = entry;
    let project = e
        .project
        .map(|project| project.to_string())
        .unwrap_or_default();
    write(
        out,
        format_args!(
            "{{\"time\":\"{}\",\"client\":\"{}\",\"method\":\"{}\",\"path\":\"{}\",\"version\":\"{:?}\",\"status\":{},\
         \"received\":{},\"sent\":{},\"seconds\":{:.6},\"identity\":\"{}\",\"project\":\"{}\",\"code\":\"{}\",\"agent\":\"{}\"}}\n",
            rfc3339(e.at),
            e.client,
            json_escaped(e.method.as_str()),
            json_escaped(&e.path),
            e.version,
            e.status.as_u16(),
            e.received,
            e.sent,
            e.took.as_secs_f64(),
            json_escaped(&e.identity),
            project,
            e.code,
            json_escaped(&e.agent),
        ),
    );
}

fn combined(out: &mut String, entry: &Entry) {
    let e = entry;
    let dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            escaped(text).replace(' ', "\\x20")
        }
    };
    let project = e
        .project
        .map(|project| project.to_string())
        .unwrap_or_default();
    write(
        out,
        format_args!(
            "{} - {} [{}] \"{} {} {:?}\" {} {} \"-\" \"{}\" {} {} {:.6}\n",
            e.client,
            dash(&e.identity),
            rfc3339(e.at),
            e.method,
            escaped(&e.path),
            e.version,
            e.status.as_u16(),
            e.sent,
            escaped(&e.agent),
            dash(&project),
            dash(e.code),
            e.took.as_secs_f64(),
        ),
    );
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("a string takes whatever is written to it");
}

/// A text as part of a JSON string.
pub(crate) fn json_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars().take(TEXT_LEN_MAX) {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            character if u32::from(character) < 0x20 || character == '\u{7f}' => {
                write(&mut out, format_args!("\\u{:04x}", u32::from(character)));
            }
            character => out.push(character),
        }
    }
    out
}

/// A text without quotes and control characters, as other web servers write it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars().take(TEXT_LEN_MAX) {
        if matches!(character, '"' | '\\') || character.is_control() {
            write(&mut out, format_args!("\\x{:02X}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

/// A time as RFC 3339 has it, in UTC, with milliseconds.
fn rfc3339(at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since.subsec_millis()
    )
}

/// The date of a number of days since 1970, counting years from March, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
            client: [10, 0, 0, 1].into(),
            method: Method::GET,
            path: "/a\"b\n".to_owned(),
            version: Version::HTTP_11,
            status: StatusCode::OK,
            received: 1,
            sent: 2,
            took: Duration::from_micros(1_500),
            identity: "ann smith".into(),
            project: None,
            code: "",
            agent: "curl/8".to_owned(),
        }
    }

    #[test]
    fn lines_hold_what_was_sent_without_breaking() {
        let (mut as_json, mut as_combined) = (String::new(), String::new());
        json(&mut as_json, &entry());
        combined(&mut as_combined, &entry());
        assert_eq!(
            as_json,
            "{\"time\":\"2024-02-29T12:34:56.789Z\",\"client\":\"10.0.0.1\",\"method\":\"GET\",\"path\":\"/a\\\"b\\u000a\",\
             \"version\":\"HTTP/1.1\",\"status\":200,\"received\":1,\"sent\":2,\"seconds\":0.001500,\"identity\":\"ann smith\",\
             \"project\":\"\",\"code\":\"\",\"agent\":\"curl/8\"}\n"
        );
        assert_eq!(
            as_combined,
            "10.0.0.1 - ann\\x20smith [2024-02-29T12:34:56.789Z] \"GET /a\\x22b\\x0A HTTP/1.1\" 200 2 \"-\" \"curl/8\" - - 0.001500\n"
        );
    }

    #[test]
    fn a_file_is_appended_to_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a.log"), folder.path().join("b.log"));
        let (log, writer) = Log::start(Destination::File(path.clone()), Style::Combined).unwrap();
        let metrics = Metrics::default();
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        while !path.exists() {
            std::thread::yield_now();
        }
        log.add(&entry(), &metrics);
        writer.stop();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "");
    }
}
