//! One command that runs or has run, with its output so far.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, OptionFuture};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::options::Options;
use super::output::Output;
use crate::error::{Code, Error};
use crate::processes::{Processes, Tracked};

/// How much is read at once, in bytes.
const READ_LEN: usize = 64 << 10;

/// How much of what a command complained about goes into an error, in bytes.
const COMPLAINT_LEN: usize = 2048;

/// The exit code that is told of a command that took too long, as `timeout` of coreutils has it.
const TIMED_OUT: i32 = 124;

/// How a command stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs.
    Running,
    /// It ended with this code.
    Ended(i32),
    /// A signal ended it.
    Killed(i32),
    /// It took too long, and was killed.
    TimedOut,
    /// Waiting for it failed.
    Lost(String),
}

impl State {
    /// The word that clients look for.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended(0) => "completed",
            Self::Ended(_) | Self::Lost(_) => "error",
            Self::Killed(_) | Self::TimedOut => "killed",
        }
    }

    /// As a shell gives it.
    pub(crate) const fn exit_code(&self) -> i32 {
        match self {
            Self::Running => 0,
            Self::Ended(code) => *code,
            Self::Killed(signal) => 128 + *signal,
            Self::TimedOut => TIMED_OUT,
            Self::Lost(_) => -1,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) options: Options,
    pid: i32,
    started: SystemTime,
    progress: Mutex<Progress>,
    /// Counts what happens.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Progress {
    stdout: Output,
    stderr: Output,
    state: State,
    elapsed: Duration,
    ended: Option<Instant>,
}

/// One of the two streams of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Out,
    Err,
}

/// How far somebody has read the output.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    out: usize,
    err: usize,
}

impl Job {
    /// Starts the command; what it prints is taken by the future that comes with it.
    pub(super) fn start(
        id: String,
        options: Options,
        command: &mut Command,
        processes: &Processes,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + 'static + use<>), Error> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = processes.spawn(command).map_err(|error| {
            let program = std::path::Path::new(&options.program);
            Error::io("run", program, &error)
        })?;
        let output = || Output::new(options.output_max);
        let progress = Progress {
            stdout: output(),
            stderr: output(),
            state: State::Running,
            elapsed: Duration::ZERO,
            ended: None,
        };
        let job = Arc::new(Self {
            id,
            pid: child.pid(),
            started: SystemTime::now(),
            progress: Mutex::new(progress),
            changed: watch::Sender::new(0),
            options,
        });
        let work = attend(Arc::clone(&job), child, processes.clone(), stop);
        Ok((job, work))
    }

    pub(crate) fn state(&self) -> State {
        self.progress.lock().state.clone()
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// When it ended, if it has.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.progress.lock().ended
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits for its end.
    pub(crate) async fn done(&self) {
        let mut changed = self.watch();
        while self.state() == State::Running {
            // The job itself holds the sender, so that this cannot fail.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The next part of the output that was not seen, if there is some, and what has been seen then.
    pub(super) fn next(&self, seen: Seen, len_max: usize) -> Option<(Which, String, Seen)> {
        let progress = self.progress.lock();
        let is_over = progress.state != State::Running;
        let (text, out) = progress.stdout.since(seen.out, len_max, is_over);
        if !text.is_empty() {
            return Some((Which::Out, text, Seen { out, ..seen }));
        }
        let (text, err) = progress.stderr.since(seen.err, len_max, is_over);
        (!text.is_empty()).then_some((Which::Err, text, Seen { err, ..seen }))
    }

    /// What a client is told that waited for the end.
    pub(crate) fn result(&self) -> Result<Json, Error> {
        let progress = self.progress.lock();
        if self.options.fails_on_exit {
            self.check(&progress)?;
        }
        let mut result = json!({
            "type": "blocking",
            "stdout": progress.stdout.text(),
            "stderr": progress.stderr.text(),
            "exit_code": progress.state.exit_code(),
        });
        self.remark(&progress, &mut result);
        Ok(result)
    }

    /// What a client is told about it at any time. `with_output` leaves the output out where it is told otherwise.
    pub(crate) fn report(&self, with_output: bool) -> Json {
        let progress = self.progress.lock();
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let elapsed = match progress.ended {
            Some(_) => progress.elapsed,
            None => self.started.elapsed().unwrap_or_default(),
        };
        let mut report = json!({
            "type": "async",
            "job_id": self.id,
            "pid": self.pid,
            "status": progress.state.word(),
            "start": u64::try_from(started.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            "elapsed_s": elapsed.as_secs_f64(),
            "exit_code": progress.state.exit_code(),
        });
        if with_output && let Some(fields) = report.as_object_mut() {
            fields.insert("stdout".to_owned(), progress.stdout.text().into());
            fields.insert("stderr".to_owned(), progress.stderr.text().into());
        }
        self.remark(&progress, &mut report);
        report
    }

    /// What is out of the ordinary.
    fn remark(&self, progress: &Progress, report: &mut Json) {
        let Some(fields) = report.as_object_mut() else {
            return;
        };
        if progress.stdout.is_truncated() || progress.stderr.is_truncated() {
            fields.insert("truncated".to_owned(), true.into());
        }
        if progress.state == State::TimedOut {
            fields.insert("timed_out".to_owned(), true.into());
            fields.insert(
                "timeout".to_owned(),
                self.options.timeout.as_secs_f64().into(),
            );
        }
    }

    fn check(&self, progress: &Progress) -> Result<(), Error> {
        let how = match &progress.state {
            State::Running | State::Ended(0) => return Ok(()),
            State::TimedOut => {
                let limit = self.options.timeout.as_secs_f64();
                let text = format!("command {:?} was killed after {limit} s", self.asked());
                return Err(Error::new(Code::Timeout, text));
            }
            State::Ended(code) => format!("exited with nonzero code {code}"),
            State::Killed(signal) => format!("was ended by signal {signal}"),
            State::Lost(why) => format!("was lost: {why}"),
        };
        let complaint = progress.stderr.tail(COMPLAINT_LEN);
        let text = format!("command {:?} {how} -- stderr={complaint:?}", self.asked());
        Err(Error::new(Code::Failed, text))
    }

    /// The command as an error shows it.
    fn asked(&self) -> String {
        self.options.asked.chars().take(COMPLAINT_LEN).collect()
    }

    fn push(&self, which: Which, bytes: &[u8]) {
        let mut progress = self.progress.lock();
        match which {
            Which::Out => progress.stdout.push(bytes),
            Which::Err => progress.stderr.push(bytes),
        }
        drop(progress);
        self.changed.send_modify(|count| *count += 1);
    }

    fn end(&self, state: State, elapsed: Duration) {
        let mut progress = self.progress.lock();
        progress.state = state;
        progress.elapsed = elapsed;
        progress.ended = Some(Instant::now());
        drop(progress);
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Takes what the command prints, and waits for its end.
async fn attend(job: Arc<Job>, mut child: Tracked, processes: Processes, stop: CancellationToken) {
    let began = Instant::now();
    let mut out = Pipe::new(child.child().stdout.take());
    let mut err = Pipe::new(child.child().stderr.take());
    let pid = child.pid();
    let mut deadline = std::pin::pin!(tokio::time::sleep(job.options.timeout));
    let mut ending: OptionFuture<BoxFuture<'static, ()>> = None.into();
    let mut timed_out = false;
    let status = loop {
        tokio::select! {
            bytes = out.next() => job.push(Which::Out, bytes),
            bytes = err.next() => job.push(Which::Err, bytes),
            status = child.wait() => break status,
            () = &mut deadline, if !timed_out => {
                timed_out = true;
                let processes = processes.clone();
                ending = Some(async move { processes.end(pid).await }.boxed()).into();
            }
            Some(()) = &mut ending => {}
        }
    };
    // What it has started is to end as well, and may still print.
    ending.await;
    while let Some(bytes) = out.rest().await {
        job.push(Which::Out, bytes);
    }
    while let Some(bytes) = err.rest().await {
        job.push(Which::Err, bytes);
    }
    job.end(state(status, timed_out), began.elapsed());
    drop(job);
    // Processes that it has left behind write on; nobody reads that, but they need not fail because of it.
    while !(out.is_over() && err.is_over()) {
        tokio::select! {
            _ = out.next() => {}
            _ = err.next() => {}
            () = stop.cancelled() => return,
        }
    }
}

fn state(status: std::io::Result<ExitStatus>, timed_out: bool) -> State {
    match status {
        Ok(_) if timed_out => State::TimedOut,
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => State::Ended(code),
            (None, Some(signal)) => State::Killed(signal),
            (None, None) => State::Lost(status.to_string()),
        },
        Err(error) => State::Lost(error.to_string()),
    }
}

/// The end of a pipe from a command.
struct Pipe<R> {
    reader: Option<R>,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + AsFd + Unpin> Pipe<R> {
    fn new(reader: Option<R>) -> Self {
        Self {
            reader,
            buffer: vec![0; READ_LEN],
        }
    }

    const fn is_over(&self) -> bool {
        self.reader.is_none()
    }

    /// The next bytes; never, once it is over.
    async fn next(&mut self) -> &[u8] {
        let Some(reader) = &mut self.reader else {
            return std::future::pending().await;
        };
        // A pipe fails no reader; if it did, there would be nothing more to come from it.
        let len = reader.read(&mut self.buffer).await.unwrap_or(0);
        if len == 0 {
            self.reader = None;
        }
        self.buffer.get(..len).unwrap_or_default()
    }

    /// What is in it already.
    async fn rest(&mut self) -> Option<&[u8]> {
        let waiting = rustix::io::ioctl_fionread(self.reader.as_ref()?);
        if waiting.is_ok_and(|len| len > 0) {
            return Some(self.next().await);
        }
        None
    }
}
