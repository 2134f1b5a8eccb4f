//! Making a project stand ready behind a gate, and opening it.
//!
//! A shell is started, as the user that the project gets, which waits for one line: the secret. Without it, because the
//! hub was killed or has lost the project, the line never comes, and the shell ends. With it, the shell makes the
//! project's folder for what it says about itself, and becomes the project. Whatever is written in the home is written
//! by the user who owns it, so that nothing there can lead the hub to write elsewhere.

use std::path::Path;
use std::process::Stdio;

use dialtone_hub::time::Time;
use rustix::process::Resource;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use super::cgroup::Cgroups;
use super::place::Place;
use super::{Processes, environment, procfs, said};
use crate::run::Run;
use crate::runner::{Answer, Gate, Spec};

const SCRIPT: &str = r#"
read -r token || exit 125
umask 077
cd "$HOME" || exit 126
command -p rm -rf .smc && command -p mkdir .smc && printf %s "$DIALTONE_RUN_ID" > .smc/run-id || exit 126
printf %s "$token" > .smc/secret-token || exit 126
unset token
exec "$@" </dev/null >.smc/project.log 2>&1
"#;

/// Open files of a process.
const FILES_MAX: u64 = 65_536;

/// A project that waits for its line. Dropped, it ends.
struct Waiting {
    run: Run,
    child: Child,
    stdin: ChildStdin,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

pub(super) fn prepare(
    processes: &Processes,
    spec: &Spec,
    home: &Path,
) -> Result<Box<dyn Gate>, String> {
    let mut command = command(processes, spec, home)?;
    let mut child = command
        .spawn()
        .map_err(|error| said("its process", &error))?;
    let stdin = child.stdin.take().ok_or("its process has no input")?;
    let pid = child.id().ok_or("its process is gone")?;
    let stat = procfs::stat(pid).map_err(|error| said("its process", &error))?;
    let stat = stat.ok_or("its process is gone")?;
    let cgroup = match &processes.cgroups {
        None => None,
        Some(cgroups) => {
            let made = cgroups.make(spec.run_id, &spec.quota, processes.config.pids_max);
            let path = made.map_err(|error| said("its control group", &error))?;
            Cgroups::join(&path, pid).map_err(|error| said("its control group", &error))?;
            Some(path)
        }
    };
    let place = Place {
        pid,
        ticks: stat.ticks,
        boot: processes.boot.clone(),
        cgroup,
    };
    let run = Run {
        id: spec.run_id,
        order: spec.order,
        host: processes.config.host.clone(),
        started: Time::now(),
        place: serde_json::to_value(place).map_err(|error| error.to_string())?,
    };
    Ok(Box::new(Waiting { run, child, stdin }))
}

fn command(processes: &Processes, spec: &Spec, home: &Path) -> Result<Command, String> {
    let shown = home.to_str().ok_or("the path of its home is no text")?;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SCRIPT, "dialtone-project"])
        .args(bounds(processes, spec))
        .args(&processes.config.command)
        .env_clear()
        .envs(environment::of(
            &processes.config,
            &processes.broker_url.read(),
            spec,
            shown,
        ))
        .envs(processes.disk.variable(spec.quota.disk_quota))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(uid) = spec.uid {
        // With a user of its own goes a group of its own; those of the hub are given up.
        command.uid(uid).gid(uid);
    }
    Ok(command)
}

/// What sets bounds of the system, which hold also where there are no control groups, before the project begins. They
/// pass on to all that it starts. It is done by the process itself: to bound one of another user takes more than being
/// root in many containers.
fn bounds(processes: &Processes, spec: &Spec) -> Vec<String> {
    let held_by_group = |controller: &str| {
        processes
            .cgroups
            .as_ref()
            .is_some_and(|cgroups| cgroups.bounds(controller))
    };
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    // Nobody but root can have more than this process has.
    let files = most.map_or(FILES_MAX, |most| most.min(FILES_MAX));
    // Not by the search path of the project: what stands in its home must not come first.
    let tool = |name: &str| {
        let found = super::find_tool(name);
        found.map_or_else(|| name.to_owned(), |path| path.display().to_string())
    };
    let mut bounds = vec![tool("setsid"), tool("prlimit"), "--core=0:0".to_owned()];
    bounds.push(format!("--nofile={files}:{files}"));
    if spec.uid.is_some() && !held_by_group("pids") {
        // Counted by user, and so a bound of the project only where it has its own.
        let processes = processes.config.pids_max;
        bounds.push(format!("--nproc={processes}:{processes}"));
    }
    if spec.uid.is_some() && !held_by_group("memory") {
        // Of each process alone: less than a bound of all of them together, and more than none.
        let bytes = spec.quota.memory_limit.saturating_mul(1_000_000);
        bounds.push(format!("--data={bytes}:{bytes}"));
    }
    bounds.push("--".to_owned());
    bounds
}

impl Gate for Waiting {
    fn run(&self) -> &Run {
        &self.run
    }

    fn open(self: Box<Self>, secret: String) -> Answer<'static, ()> {
        let Self {
            child, mut stdin, ..
        } = *self;
        Box::pin(async move {
            let line = format!("{secret}\n");
            let written = async {
                stdin.write_all(line.as_bytes()).await?;
                stdin.flush().await
            };
            written
                .await
                .map_err(|error| said("its process does not listen", &error))?;
            // The runtime notices its end; that it is a child matters to nobody else.
            drop(child);
            Ok(())
        })
    }
}
