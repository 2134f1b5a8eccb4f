//! Every process that the project starts, so that each of them ends with it.
//!
//! A process group ends what stayed in it, a walk over the parents ends what left it, and where the project adopts
//! orphans the kernel makes those its children that have lost their parent. Together these find a daemon that has
//! forked twice in a session of its own.

mod table;
pub use table::{Process, Table};

use std::collections::BTreeSet;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper,
    waitpid,
};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Children of this process that are waited for by whoever started them. Held while one is started, so that nobody takes
/// it for an orphan that ended meanwhile. One for the process, because its children are.
static OWN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How often it is looked whether processes have ended of whose end nothing is told.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How often all processes are killed in turn before it is given up: each round is met by those that forked meanwhile.
const ROUNDS_MAX: u32 = 500;

/// Starts processes and ends them.
#[derive(Debug, Clone)]
pub struct Processes {
    /// Those that were started here and have not ended.
    roots: Arc<Mutex<BTreeSet<i32>>>,
    adopts: bool,
    grace: Duration,
}

impl Processes {
    /// `adopts`: whether this process becomes the parent of orphans; `grace`: how long a process that was asked to end
    /// may take for that.
    ///
    /// # Errors
    /// When the kernel knows no adoption of orphans.
    pub fn new(adopts: bool, grace: Duration) -> io::Result<Self> {
        if adopts {
            set_child_subreaper(Some(getpid()))?;
        }
        Ok(Self {
            roots: Arc::default(),
            adopts,
            grace,
        })
    }

    /// Starts a command in a process group of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Tracked> {
        command.process_group(0).kill_on_drop(true);
        self.track(|| command.spawn())
    }

    /// Starts something that leads a process group of its own.
    pub(crate) fn track<E>(&self, start: impl FnOnce() -> Result<Child, E>) -> Result<Tracked, E> {
        let mut own = OWN.lock();
        let child = start()?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .unwrap_or(0);
        own.insert(pid);
        drop(own);
        self.roots.lock().insert(pid);
        Ok(Tracked {
            child,
            pid,
            processes: self.clone(),
        })
    }

    /// All processes of the project, this one excepted.
    ///
    /// # Errors
    /// When the table of processes cannot be read.
    pub fn all(&self) -> io::Result<Vec<Process>> {
        let table = Table::read()?;
        let mut roots = self.roots.lock().clone();
        if self.adopts {
            roots.insert(getpid().as_raw_nonzero().get());
        }
        let mut found = table.below(&roots);
        found.retain(|process| process.pid != getpid().as_raw_nonzero().get());
        Ok(found)
    }

    /// Sends a signal to processes of the project, and to no others.
    ///
    /// # Errors
    /// With the first number that is none of the project's processes, or cannot be signalled.
    pub(crate) fn signal(&self, pids: &[i32], signal: Signal) -> Result<(), (i32, io::Error)> {
        let all = self.all().map_err(|error| (0, error))?;
        for pid in pids {
            let known = all.iter().any(|process| process.pid == *pid);
            let Some(process) = Pid::from_raw(*pid).filter(|_| known) else {
                return Err((*pid, io::ErrorKind::NotFound.into()));
            };
            kill_process(process, signal).map_err(|error| (*pid, error.into()))?;
        }
        Ok(())
    }

    /// Ends a process, its group and what it has started: asks first, and kills after the grace.
    pub(crate) async fn end(&self, root: i32) {
        self.end_those(|table| {
            let mut found = table.below(&BTreeSet::from([root]));
            found.extend(table.led_by(root));
            found
        })
        .await;
    }

    /// Ends all processes of the project.
    pub async fn end_all(&self) {
        self.end_those(|_table| self.all().unwrap_or_default())
            .await;
    }

    /// Kills all processes of the project without waiting for anything.
    pub fn kill_all(&self) {
        for _round in 0..ROUNDS_MAX {
            let all = self.all().unwrap_or_default();
            let mut living = all.iter().filter(|process| process.is_alive()).peekable();
            if living.peek().is_none() {
                return;
            }
            living.for_each(|process| send(process.pid, Signal::KILL));
        }
    }

    async fn end_those(&self, which: impl Fn(&Table) -> Vec<Process>) {
        let deadline = Instant::now() + self.grace;
        // Those that were asked are looked after by their numbers: once their parent has gone, nothing else leads to them.
        let mut asked: BTreeSet<(i32, u64)> = BTreeSet::new();
        for _round in 0..ROUNDS_MAX {
            let Ok(table) = Table::read() else {
                tracing::error!("the table of processes cannot be read; some may be left behind");
                return;
            };
            let mut living: BTreeSet<(i32, u64)> = asked
                .iter()
                .copied()
                .filter(|(pid, started)| table.is_alive(*pid, *started))
                .collect();
            living.extend(
                which(&table)
                    .iter()
                    .filter(|p| p.is_alive())
                    .map(Process::identity),
            );
            if living.is_empty() {
                return;
            }
            let is_late = Instant::now() >= deadline;
            for (pid, started) in living {
                let is_new = asked.insert((pid, started));
                match (is_late, is_new) {
                    (true, _) => send(pid, Signal::KILL),
                    (false, true) => {
                        // A shell that waits for input heeds a hang-up and no request to end.
                        send(pid, Signal::HUP);
                        send(pid, Signal::TERM);
                        // One that was stopped would hear of neither.
                        send(pid, Signal::CONT);
                    }
                    (false, false) => {}
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        tracing::error!("some processes cannot be ended");
    }

    /// Takes note of the end of orphans, until it is stopped. Returns at once where none are adopted.
    ///
    /// # Errors
    /// When the signal cannot be taken over.
    pub(crate) async fn reap(&self, stop: &CancellationToken) -> io::Result<()> {
        if !self.adopts {
            return Ok(());
        }
        let mut ended = signal(SignalKind::child())?;
        loop {
            reap_orphans();
            tokio::select! {
                _ = ended.recv() => {}
                () = stop.cancelled() => {
                    reap_orphans();
                    return Ok(());
                }
            }
        }
    }

    fn forget(&self, pid: i32) {
        self.roots.lock().remove(&pid);
        OWN.lock().remove(&pid);
    }
}

/// Takes the exit codes of children that nobody else waits for.
fn reap_orphans() {
    let own = OWN.lock();
    let Ok(table) = Table::read() else { return };
    let this = getpid().as_raw_nonzero().get();
    for process in table.children(this) {
        if process.is_alive() || own.contains(&process.pid) {
            continue;
        }
        let waited = waitpid(Pid::from_raw(process.pid), WaitOptions::NOHANG);
        if let Err(error) = waited {
            tracing::debug!(pid = process.pid, %error, "an orphan's end was seen by somebody else");
        }
    }
    drop(own);
}

/// That it has ended meanwhile is what is wanted.
fn send(pid: i32, signal: Signal) {
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    if let Err(error) = kill_process(pid, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(pid = pid.as_raw_nonzero(), %error, "a process cannot be signalled");
    }
}

/// A child of this process that leads a process group. Its group is killed when this is dropped before its end.
#[derive(Debug)]
pub(crate) struct Tracked {
    child: Child,
    pid: i32,
    processes: Processes,
}

impl Tracked {
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.processes.forget(self.pid);
        self.pid = 0;
        Ok(status)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let Some(group) = Pid::from_raw(self.pid) else {
            return;
        };
        if let Err(error) = kill_process_group(group, Signal::KILL) {
            tracing::debug!(pid = self.pid, %error, "nobody is in the group any longer");
        }
        self.processes.forget(self.pid);
    }
}
