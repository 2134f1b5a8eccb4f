//! Control groups (version 2): one for each run, which bounds it, and from which nothing escapes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::procfs::is_gone;
use crate::quota::Quota;

/// What the group of all projects must be able to bound, for quotas to hold.
const WANTED: &[&str] = &["memory", "cpu", "pids"];

/// How long a period is in which a project may take its share of the processors, in microseconds.
const PERIOD: f64 = 100_000.0;

/// Groups without processes that are older than this are of no use to anybody.
const TIDY_AGE: Duration = Duration::from_mins(10);

/// The group in which those of projects are made.
#[derive(Debug, Clone)]
pub struct Cgroups {
    root: PathBuf,
    controllers: Vec<String>,
}

impl Cgroups {
    /// Takes a group, which is made if need be; `None` if groups cannot be made there.
    pub fn open(root: PathBuf) -> Option<Self> {
        let usable = || -> io::Result<Vec<String>> {
            fs::create_dir_all(&root)?;
            // A file that only control groups of version 2 have.
            fs::metadata(root.join("cgroup.procs"))?;
            let available = fs::read_to_string(root.join("cgroup.controllers"))?;
            let wanted = WANTED
                .iter()
                .filter(|name| available.split_ascii_whitespace().any(|one| one == **name));
            let mut enabled = Vec::new();
            for name in wanted {
                match fs::write(root.join("cgroup.subtree_control"), format!("+{name}")) {
                    Ok(()) => enabled.push((*name).to_owned()),
                    Err(error) => tracing::warn!(
                        controller = name,
                        %error,
                        "a controller cannot be given to the groups of projects"
                    ),
                }
            }
            let probe = root.join(format!("probe-{}", Uuid::new_v4()));
            fs::create_dir(&probe)?;
            fs::remove_dir(&probe)?;
            if let Err(error) = tidy(&root) {
                tracing::debug!(%error, "groups of runs that never began are left");
            }
            Ok(enabled)
        };
        match usable() {
            Ok(controllers) => Some(Self { root, controllers }),
            Err(error) => {
                tracing::warn!(
                    group = %root.display(),
                    %error,
                    "there are no control groups for projects; they are bounded less well"
                );
                None
            }
        }
    }

    /// What the groups of projects bound.
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }

    /// Whether the groups bound this.
    pub fn bounds(&self, controller: &str) -> bool {
        self.controllers.iter().any(|one| one == controller)
    }

    /// Makes the group of a run, with its bounds.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn make(&self, run_id: Uuid, quota: &Quota, pids_max: u64) -> io::Result<PathBuf> {
        let path = self.root.join(run_id.to_string());
        fs::create_dir(&path)?;
        for (file, content) in limits(quota, pids_max) {
            let (controller, _) = file.split_once('.').unwrap_or((file, ""));
            if self.bounds(controller) {
                fs::write(path.join(file), content)?;
            }
        }
        Ok(path)
    }

    /// Puts a process into a group.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn join(path: &Path, pid: u32) -> io::Result<()> {
        fs::write(path.join("cgroup.procs"), pid.to_string())
    }

    /// The processes in a group, and in those that they have made in it; none in one that is gone.
    ///
    /// # Errors
    /// When not all of them can be seen.
    pub fn members(path: &Path) -> io::Result<Vec<u32>> {
        let own = match fs::read_to_string(path.join("cgroup.procs")) {
            // Those of a group that has threads of a process are in the group above it.
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::Unsupported => {
                return Ok(Vec::new());
            }
            read => read?,
        };
        let mut members: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
        for below in below(path)? {
            members.extend(Self::members(&below)?);
        }
        Ok(members)
    }

    /// Kills everything in a group.
    ///
    /// # Errors
    /// When the system does not let it, or is too old for it.
    pub fn kill(path: &Path) -> io::Result<()> {
        match fs::write(path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(()),
            done => done,
        }
    }

    /// Removes a group in which nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub fn remove(path: &Path) -> io::Result<()> {
        for below in below(path)? {
            Self::remove(&below)?;
        }
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Whether something in the group was killed because its memory was used up.
    pub fn out_of_memory(path: &Path) -> bool {
        let events = fs::read_to_string(path.join("memory.events")).unwrap_or_default();
        let kills = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|kills| kills.trim() != "0")
    }
}

/// Removes empty groups of runs that never began. Those of runs that are being made are younger.
fn tidy(root: &Path) -> io::Result<()> {
    for path in below(root)? {
        let made = fs::metadata(&path).and_then(|data| data.modified()).ok();
        let age = made.and_then(|made| made.elapsed().ok());
        if age.is_some_and(|age| age > TIDY_AGE) && Cgroups::members(&path)?.is_empty() {
            // One that is used again meanwhile cannot be removed, and stays.
            drop(Cgroups::remove(&path));
        }
    }
    Ok(())
}

/// The groups in a group; none in one that is gone.
fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        read => read?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// The files of a group with what belongs into them.
fn limits(quota: &Quota, pids_max: u64) -> [(&'static str, String); 6] {
    let bytes = |mb: u64| mb.saturating_mul(1_000_000).to_string();
    // From 1 to 10000, and 100 for one core.
    let weight = (quota.cpu_request * 100.0).clamp(1.0, 10_000.0);
    [
        ("memory.max", bytes(quota.memory_limit)),
        // A project that could swap would slow down all others.
        ("memory.swap.max", "0".to_owned()),
        ("memory.low", bytes(quota.memory_request)),
        (
            "cpu.max",
            format!("{:.0} {PERIOD:.0}", (quota.cpu_limit * PERIOD).max(1000.0)),
        ),
        ("cpu.weight", format!("{weight:.0}")),
        ("pids.max", pids_max.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_become_what_the_system_understands() {
        let quota = Quota {
            memory_limit: 2000,
            memory_request: 300,
            cpu_limit: 1.5,
            cpu_request: 0.05,
            ..Quota::default()
        };
        let files: Vec<(&str, String)> = limits(&quota, 42).into();
        let expected = [
            ("memory.max", "2000000000"),
            ("memory.swap.max", "0"),
            ("memory.low", "300000000"),
            ("cpu.max", "150000 100000"),
            ("cpu.weight", "5"),
            ("pids.max", "42"),
        ];
        assert_eq!(files, expected.map(|(file, text)| (file, text.to_owned())));
    }

    #[test]
    fn a_folder_is_no_control_group() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Cgroups::open(folder.path().join("projects")).is_none());
    }
}
