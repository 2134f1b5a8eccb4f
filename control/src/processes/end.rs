//! Ending everything that belongs to a project, and returning only when nothing is left.
//!
//! What belongs to it is what is in its control group and what runs as its user, where it has these: nothing leaves them.
//! Where it has neither, it is what is in the session of its first process, below that process, or has the mark of the run
//! in its environment. A process gets out of that only if it leaves the session, outlives its parents and has cleared its
//! environment, all of it before the project is asked to end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use rustix::process::Signal;
use uuid::Uuid;

use super::cgroup::Cgroups;
use super::environment::RUN_ID;
use super::place::{Place, Process};
use super::procfs::{self, Stat};
use super::{blocking, said};

/// Between looks whether everything has ended.
const POLL: Duration = Duration::from_millis(10);

/// How often new processes are looked for before all are killed: each look stops those that it finds.
const STOPS_MAX: usize = 50;

/// All processes that belong to a run, or to the user of a project.
pub(super) fn members(
    cgroups: Option<&Cgroups>,
    place: Option<&Place>,
    run_id: Option<Uuid>,
    uid: Option<u32>,
) -> Vec<Stat> {
    let group = place.and_then(|place| place.cgroup.as_deref());
    let grouped = group.filter(|_| cgroups.is_some()).map(Cgroups::members);
    if let (None, Some(grouped)) = (uid, &grouped) {
        let stats = grouped.iter().filter_map(|pid| procfs::stat(*pid));
        return stats.filter(|stat| !stat.over).collect();
    }
    if uid.is_none() && run_id.is_none() {
        return Vec::new();
    }
    let grouped: HashSet<u32> = grouped.into_iter().flatten().collect();
    let all = procfs::all();
    let leader = place.filter(|place| place.open().is_some());
    let mark = run_id.map(|id| format!("{RUN_ID}={id}"));
    let belongs = |stat: &Stat| {
        grouped.contains(&stat.pid)
            || leader.is_some_and(|leader| stat.session == leader.pid || stat.pid == leader.pid)
            || uid.is_some_and(|uid| procfs::uid(stat.pid) == Some(uid))
            || mark
                .as_ref()
                .is_some_and(|mark| procfs::has_variable(stat.pid, mark))
    };
    let roots: HashSet<u32> = all
        .iter()
        .filter(|stat| belongs(stat))
        .map(|stat| stat.pid)
        .collect();
    with_children(&all, &roots)
}

/// Those, and all that are below them.
fn with_children(all: &[Stat], roots: &HashSet<u32>) -> Vec<Stat> {
    let parents: HashMap<u32, u32> = all.iter().map(|stat| (stat.pid, stat.parent)).collect();
    let below = |stat: &&Stat| {
        let mut at = stat.pid;
        // A chain is no longer than there are processes.
        for _ in 0..=all.len() {
            if roots.contains(&at) {
                return true;
            }
            match parents.get(&at) {
                Some(parent) if *parent != at => at = *parent,
                _ => return false,
            }
        }
        false
    };
    all.iter().filter(below).copied().collect()
}

/// Asks the first process to end, waits for as long as it has, and kills whatever is left.
pub(super) async fn end(
    cgroups: Option<&Cgroups>,
    place: Option<Place>,
    run_id: Option<Uuid>,
    uid: Option<u32>,
    grace: Duration,
) -> Result<(), String> {
    let cgroups = cgroups.cloned();
    let look = {
        let (cgroups, place) = (cgroups.clone(), place.clone());
        move || members(cgroups.as_ref(), place.as_ref(), run_id, uid)
    };
    // Before the first process ends, through which others are found.
    let known = {
        let look = look.clone();
        blocking(move || Ok(look())).await?
    };
    if let Some(process) = place.as_ref().and_then(Place::open) {
        process
            .signal(Signal::TERM)
            .map_err(|error| said("its process", &error))?;
        // It has ended or its time is over; both are seen below.
        drop(tokio::time::timeout(grace, process.ended()).await);
    }
    let group = place.and_then(|place| place.cgroup);
    loop {
        let (look, group, known) = (look.clone(), group.clone(), known.clone());
        let left = blocking(move || {
            if let Some(group) = &group
                && let Err(error) = Cgroups::kill(group)
            {
                tracing::debug!(%error, "a control group cannot kill; its processes are killed one by one");
            }
            Ok(kill(&look, &known))
        })
        .await?;
        if left == 0 {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    if let Some(group) = group {
        remove(group).await?;
    }
    Ok(())
}

/// Kills what belongs to it and what was known to before; returns how many there were. All are stopped first, until no
/// new ones come, so that none can start others faster than they are killed.
fn kill(look: &impl Fn() -> Vec<Stat>, known: &[Stat]) -> usize {
    let mut found: BTreeMap<u32, Process> = BTreeMap::new();
    for _ in 0..STOPS_MAX {
        let mut news = 0;
        for stat in look().iter().chain(known) {
            if found.contains_key(&stat.pid) {
                continue;
            }
            if let Some(process) = Process::open(stat.pid, stat.ticks) {
                warn(process.signal(Signal::STOP));
                found.insert(stat.pid, process);
                news += 1;
            }
        }
        if news == 0 {
            break;
        }
    }
    let count = found.len();
    for process in found.into_values() {
        warn(process.signal(Signal::KILL));
    }
    count
}

fn warn(done: std::io::Result<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, "a process of a project cannot be signalled");
    }
}

/// Removes a group: the system takes a moment after the last process has ended.
async fn remove(group: std::path::PathBuf) -> Result<(), String> {
    for _ in 0..200 {
        let path = group.clone();
        let removed = blocking(move || {
            Cgroups::remove(&path).map_err(|error| said("its control group", &error))
        });
        match removed.await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(error, "a control group is not empty yet"),
        }
        tokio::time::sleep(POLL).await;
    }
    Err("its control group does not become empty".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, parent: u32) -> Stat {
        Stat {
            pid,
            parent,
            session: pid,
            ticks: 1,
            over: false,
        }
    }

    #[test]
    fn what_is_below_belongs_to_it() {
        let all = [
            stat(1, 0),
            stat(2, 1),
            stat(3, 2),
            stat(4, 3),
            stat(5, 1),
            stat(6, 6),
        ];
        let pids = |roots: &[u32]| {
            let mut pids: Vec<u32> = with_children(&all, &roots.iter().copied().collect())
                .iter()
                .map(|stat| stat.pid)
                .collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(pids(&[2]), [2, 3, 4]);
        assert_eq!(pids(&[3, 5]), [3, 4, 5]);
        assert_eq!(pids(&[]), [] as [u32; 0]);
    }
}
