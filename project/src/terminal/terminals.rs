//! All terminals of a project, by their paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::options::{Options, Size};
use super::session::Session;
use crate::config::{Limits, Timing};
use crate::error::{Code, Error};
use crate::home::Home;
use crate::processes::Processes;

/// Shells, the first of which that is there is taken when the environment names none.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// What programs at a terminal take it for.
const TERM: &str = "xterm-256color";

/// See the module.
#[derive(Debug)]
pub(crate) struct Terminals {
    home: Home,
    environment: BTreeMap<String, String>,
    timing: Timing,
    limits: Limits,
    processes: Processes,
    tasks: TaskTracker,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
}

impl Terminals {
    pub(crate) fn new(
        home: Home,
        environment: BTreeMap<String, String>,
        (timing, limits): (Timing, Limits),
        processes: Processes,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            home,
            environment,
            timing,
            limits,
            processes,
            tasks,
            sessions: Mutex::default(),
        }
    }

    /// The terminal of a path; its program is started if none runs.
    pub(crate) fn open(&self, path: &str, options: &Options) -> Result<Arc<Session>, Error> {
        options.check()?;
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions
            .get(path)
            .filter(|session| session.exit().is_none())
        {
            return Ok(Arc::clone(session));
        }
        sessions.remove(path);
        self.forget(&mut sessions);
        if sessions.len() >= self.limits.terminals_max {
            let text = format!("there are {} terminals already", sessions.len());
            return Err(Error::new(Code::TooMany, text));
        }
        let session = self.start(path, options)?;
        sessions.insert(path.to_owned(), Arc::clone(&session));
        Ok(session)
    }

    /// The terminal of a path, if there is one.
    pub(crate) fn get(&self, path: &str) -> Result<Arc<Session>, Error> {
        let found = self.sessions.lock().get(path).cloned();
        found.ok_or_else(|| Error::new(Code::NotFound, format!("there is no terminal {path:?}")))
    }

    /// What there is.
    pub(crate) fn list(&self) -> Vec<Json> {
        self.sessions
            .lock()
            .values()
            .map(|session| session.info())
            .collect()
    }

    /// Ends a terminal, and forgets it.
    pub(crate) async fn close(&self, path: &str) -> Result<(), Error> {
        let session = self.get(path)?;
        session.close().await;
        let mut sessions = self.sessions.lock();
        // Another one may have been opened meanwhile.
        if sessions
            .get(path)
            .is_some_and(|now| Arc::ptr_eq(now, &session))
        {
            sessions.remove(path);
        }
        Ok(())
    }

    /// Forgets those whose program has ended long ago, or which are in the way of others.
    fn forget(&self, sessions: &mut BTreeMap<String, Arc<Session>>) {
        let now = Instant::now();
        let is_full = sessions.len() >= self.limits.terminals_max;
        sessions.retain(|_, session| match session.ended() {
            None => true,
            Some(_) if session.viewers() > 0 => true,
            Some(ended) => !is_full && now.duration_since(ended) < self.timing.terminal_kept,
        });
    }

    fn start(&self, path: &str, options: &Options) -> Result<Arc<Session>, Error> {
        let size = options.size().unwrap_or(Size::USUAL);
        let folder = self.folder(path, options.cwd.as_deref())?;
        let program = options
            .command
            .clone()
            .filter(|command| !command.is_empty());
        let program = program.unwrap_or_else(|| self.shell());
        let failed = |error: pty_process::Error| {
            Error::new(
                Code::Internal,
                format!("cannot run {program} at a terminal: {error}"),
            )
        };
        let (pty, pts) = pty_process::open().map_err(failed)?;
        pty.resize(pty_process::Size::new(size.rows, size.cols))
            .map_err(failed)?;
        let mut command = pty_process::Command::new(&program)
            .args(&options.args)
            .current_dir(folder)
            .env_clear()
            .envs(&self.environment)
            .env("TERM", TERM)
            .env("COCALC_TERMINAL_FILENAME", path)
            .kill_on_drop(true);
        for (name, value) in options.environment() {
            command = command.env(name, value);
        }
        let child = self
            .processes
            .track(|| command.spawn(pts))
            .map_err(failed)?;
        let shared = (self.processes.clone(), self.limits.clone());
        let (session, work) = Session::new(path.to_owned(), program, child, pty, size, shared);
        drop(self.tasks.spawn(work));
        Ok(session)
    }

    /// Where a program begins: where it was asked for, or beside the file that stands for the terminal, or at home.
    fn folder(&self, path: &str, asked: Option<&str>) -> Result<PathBuf, Error> {
        if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
            let folder = self.home.resolve(asked)?;
            if folder.is_dir() {
                return Ok(folder);
            }
            let text = format!("there is no folder {}", folder.display());
            return Err(Error::new(Code::NotFound, text));
        }
        let beside = self.home.resolve(path)?;
        let folder = beside.parent().filter(|folder| folder.is_dir());
        let is_named = !path.is_empty();
        Ok(folder
            .filter(|_| is_named)
            .unwrap_or_else(|| self.home.root())
            .to_owned())
    }

    fn shell(&self) -> String {
        let named = self
            .environment
            .get("SHELL")
            .filter(|shell| !shell.is_empty());
        let there = SHELLS.into_iter().find(|shell| Path::new(shell).exists());
        named
            .cloned()
            .unwrap_or_else(|| there.unwrap_or("sh").to_owned())
    }
}
