//! One program at its pseudo-terminal.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pty_process::{OwnedReadPty, OwnedWritePty};
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::history::{History, Next};
use super::options::Size;
use crate::config::Limits;
use crate::error::{Code, Error};
use crate::processes::{Processes, Tracked};

/// How much is read at once, in bytes: what the kernel keeps for a terminal.
const READ_LEN: usize = 4096;

/// How long is waited for what a program has printed just before its end. The kernel says that there is no more only if
/// no process has the terminal any longer, and one may have got away with it.
const REST: Duration = Duration::from_millis(200);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Exit {
    code: Option<i32>,
    signal: Option<i32>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) path: String,
    command: String,
    pid: i32,
    limits: Limits,
    processes: Processes,
    input: tokio::sync::Mutex<OwnedWritePty>,
    state: Mutex<State>,
    /// Counts what viewers should look at.
    changed: watch::Sender<u64>,
    /// A viewer has taken something, or come, or gone.
    taken: Notify,
}

#[derive(Debug)]
struct State {
    history: History,
    sizes: BTreeMap<u64, Size>,
    size: Size,
    exit: Option<Exit>,
    ended: Option<Instant>,
}

impl Session {
    /// A session of a program that has been started, and what reads its output.
    pub(super) fn new(
        path: String,
        command: String,
        child: Tracked,
        pty: pty_process::Pty,
        size: Size,
        (processes, limits): (Processes, Limits),
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static + use<>) {
        let (output, input) = pty.into_split();
        let state = State {
            history: History::new(limits.history_len_max, limits.lag_max),
            sizes: BTreeMap::new(),
            size,
            exit: None,
            ended: None,
        };
        let session = Arc::new(Self {
            path,
            command,
            pid: child.pid(),
            limits,
            processes,
            input: tokio::sync::Mutex::new(input),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            taken: Notify::new(),
        });
        let work = attend(Arc::clone(&session), child, output);
        (session, work)
    }

    /// When its program ended, if it has.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.state.lock().ended
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        self.state.lock().exit.clone()
    }

    pub(super) fn viewers(&self) -> usize {
        self.state.lock().history.viewers()
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What a client is told about it.
    pub(crate) fn info(&self) -> Json {
        let state = self.state.lock();
        json!({
            "path": self.path,
            "command": self.command,
            "pid": self.pid,
            "rows": state.size.rows,
            "cols": state.size.cols,
            "viewers": state.history.viewers(),
            "from": state.history.start(),
            "to": state.history.end(),
            "exit": state.exit,
        })
    }

    /// Another viewer, with the size of its window.
    pub(super) fn join(&self, size: Option<Size>) -> Result<u64, Error> {
        let mut state = self.state.lock();
        if state.history.viewers() >= self.limits.viewers_max {
            let text = format!("{} look at it already", state.history.viewers());
            return Err(Error::new(Code::TooMany, text));
        }
        let viewer = state.history.join();
        drop(state);
        if let Some(size) = size {
            // The program need not be there any longer.
            drop(self.resize(viewer, size));
        }
        self.taken.notify_one();
        Ok(viewer)
    }

    pub(super) fn leave(&self, viewer: u64) {
        let mut state = self.state.lock();
        state.history.leave(viewer);
        let had_size = state.sizes.remove(&viewer).is_some();
        drop(state);
        if had_size {
            self.fit();
        }
        self.taken.notify_one();
    }

    /// What a viewer has not seen yet.
    pub(super) fn next(&self, viewer: u64, len_max: usize) -> Option<Next> {
        let next = self.state.lock().history.next(viewer, len_max);
        if next.is_some() {
            self.taken.notify_one();
        }
        next
    }

    pub(super) fn size(&self) -> Size {
        self.state.lock().size
    }

    /// The window of a viewer has another size.
    pub(super) fn resize(&self, viewer: u64, size: Size) -> Result<(), Error> {
        self.state.lock().sizes.insert(viewer, size.bounded());
        self.fit();
        self.still_runs()
    }

    /// The program gets this size until a viewer has another.
    pub(crate) fn set_size(&self, size: Size) -> Result<(), Error> {
        self.state.lock().size = size.bounded();
        self.apply();
        self.still_runs()
    }

    /// The program gets what all viewers see.
    fn fit(&self) {
        let mut state = self.state.lock();
        let Some(size) = Size::smallest(state.sizes.values().copied()) else {
            return;
        };
        let is_new = state.size != size;
        state.size = size;
        drop(state);
        if is_new {
            self.apply();
        }
    }

    fn apply(&self) {
        let size = self.size();
        let wanted = pty_process::Size::new(size.rows, size.cols);
        // While something is typed, whoever does that applies it afterwards.
        if let Ok(input) = self.input.try_lock()
            && let Err(error) = input.resize(wanted)
        {
            tracing::debug!(%error, path = self.path, "a terminal cannot be resized");
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Types something; waits as long as the program reads nothing.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        self.write_within(bytes, Duration::MAX).await
    }

    /// Types something. A program that reads nothing for this long gets no more of it.
    pub(crate) async fn write_within(
        &self,
        bytes: &[u8],
        stall_max: Duration,
    ) -> Result<(), Error> {
        self.still_runs()?;
        let stalled = |typed: usize| {
            let (path, seconds) = (&self.path, stall_max.as_secs());
            let text = format!(
                "{path}: its program has read nothing for {seconds} s; {typed} of {} bytes were typed",
                bytes.len()
            );
            Error::new(Code::Timeout, text)
        };
        let turn = tokio::time::timeout(stall_max, self.input.lock());
        let mut input = turn.await.map_err(|_elapsed| stalled(0))?;
        let mut typed = 0;
        let written = loop {
            let rest = bytes.get(typed..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match tokio::time::timeout(stall_max, input.write(rest)).await {
                Ok(Ok(len)) => typed += len,
                Ok(Err(error)) => {
                    let text = format!("the terminal has ended: {error}");
                    break Err(Error::new(Code::NotFound, text));
                }
                Err(_elapsed) => break Err(stalled(typed)),
            }
        };
        let size = self.size();
        let resized = input.resize(pty_process::Size::new(size.rows, size.cols));
        drop(input);
        if let Err(error) = resized {
            tracing::debug!(%error, path = self.path, "a terminal cannot be resized");
        }
        written
    }

    /// What is kept of the output from a place on.
    pub(crate) fn read(&self, from: u64, len_max: usize) -> Json {
        let state = self.state.lock();
        let (from, bytes) = state.history.since(from, len_max);
        json!({
            "from": from,
            "to": from + bytes.len() as u64,
            "data": String::from_utf8_lossy(&bytes),
            "exit": state.exit,
        })
    }

    /// Ends the program and everything that it has started.
    pub(crate) async fn close(&self) {
        // Once it has ended, its number may be another's; what it left behind was ended then.
        if self.still_runs().is_ok() {
            self.processes.end(self.pid).await;
        }
    }

    fn still_runs(&self) -> Result<(), Error> {
        match self.exit() {
            None => Ok(()),
            Some(_) => Err(Error::new(Code::NotFound, "the program has ended")),
        }
    }

    fn push(&self, bytes: &[u8]) {
        self.state.lock().history.push(bytes);
        self.changed.send_modify(|count| *count += 1);
    }

    fn has_room(&self) -> bool {
        self.state.lock().history.has_room()
    }

    fn end(&self, status: std::io::Result<ExitStatus>) {
        let (code, signal) = status.map_or((None, None), |status| (status.code(), status.signal()));
        let mut state = self.state.lock();
        state.exit = Some(Exit { code, signal });
        state.ended = Some(Instant::now());
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Reads what the program prints until it has ended, and ends what it leaves behind.
async fn attend(session: Arc<Session>, mut child: Tracked, mut output: OwnedReadPty) {
    let mut buffer = [0; READ_LEN];
    let mut is_open = true;
    let status = loop {
        let may_read = is_open && session.has_room();
        tokio::select! {
            read = output.read(&mut buffer), if may_read => match read {
                Ok(len) if len > 0 => session.push(buffer.get(..len).unwrap_or_default()),
                // Nobody has the terminal open, and whoever runs has closed it.
                _ => is_open = false,
            },
            () = session.taken.notified() => {}
            status = child.wait() => break status,
        }
    };
    session.processes.end(session.pid).await;
    while is_open {
        match tokio::time::timeout(REST, output.read(&mut buffer)).await {
            Ok(Ok(len)) if len > 0 => session.push(buffer.get(..len).unwrap_or_default()),
            _ => is_open = false,
        }
    }
    session.end(status);
}

/// Longest part of the output in one answer, in bytes.
pub(crate) const ANSWER_LEN_MAX: usize = 1 << 20;

/// Bytes as a viewer gets them at once.
pub(super) const PIECE_LEN: usize = 64 << 10;
