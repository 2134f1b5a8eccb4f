//! One node as a process: started, listened to, signalled.

use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStdin, Command};

use super::plan::Plan;
use crate::config::FIELDS;
use crate::print::note;

/// A node's process.
#[derive(Debug)]
pub(super) struct Child {
    /// The node's name.
    pub(super) name: String,
    /// Whether it has not been seen to end.
    pub(super) alive: bool,
    pid: Option<Pid>,
    start_command: String,
    /// It drains when this is closed, which the operating system does when this process dies in whatever way.
    _stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts it. Returns it with its first line of standard output, to be waited for, and with its end, which also
    /// passes on what it logs.
    pub(super) fn start(
        plan: &Plan,
    ) -> anyhow::Result<(
        Self,
        impl Future<Output = std::io::Result<String>> + use<>,
        impl Future<Output = std::io::Result<ExitStatus>> + use<>,
    )> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command
            .args(["broker", "--json", "--stop-with-stdin", "--config"])
            .arg(plan.config())
            .arg("--persist")
            .arg(plan.streams())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to whole groups; the nodes are told by this process, and once.
            .process_group(0)
            .kill_on_drop(true);
        for field in FIELDS {
            // What the environment says is in the configuration already.
            command.env_remove(field.env());
        }
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {}", plan.name))?;
        let stdout = process.stdout.take().context("a pipe was asked for")?;
        let stderr = process.stderr.take().context("a pipe was asked for")?;
        let child = Self {
            name: plan.name.clone(),
            alive: true,
            pid: process
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
            start_command: plan.start_command(),
            _stdin: process.stdin.take(),
        };
        let first_line = async move {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).await?;
            Ok(line)
        };
        let name = plan.name.clone();
        let end = async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                note(format_args!("{name}: {line}"));
            }
            process.wait().await
        };
        Ok((child, first_line, end))
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(node = self.name, %error, "the signal did not arrive");
        }
    }

    /// How to start it again.
    pub(super) fn start_command(&self) -> &str {
        &self.start_command
    }
}
