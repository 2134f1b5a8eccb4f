//! Ending everything that belongs to a project, and returning only when nothing is left.
//!
//! What belongs to it is what is in its control group and what runs as its user, where it has these: nothing leaves them.
//! Where it has neither, it is what is in the session of its first process, below that process, or has the mark of the run
//! in its environment. A process gets out of that only if it leaves the session, outlives its parents and has cleared its
//! environment, all of it before the project is asked to end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
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

/// How often it is tried to see what is there, when this process or the machine has no room for a look, and with what
/// pauses.
const LOOKS_MAX: usize = 30;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How often new processes are looked for before all are killed: each look stops those that it finds.
const STOPS_MAX: usize = 50;

/// All processes that belong to a run, or to the user of a project.
///
/// # Errors
/// When not all of them can be seen.
pub(super) fn members(
    cgroups: Option<&Cgroups>,
    place: Option<&Place>,
    run_id: Option<Uuid>,
    uid: Option<u32>,
) -> io::Result<Vec<Stat>> {
    let group = place.and_then(|place| place.cgroup.as_deref());
    let group = group.filter(|_| cgroups.is_some());
    let grouped = group.map(Cgroups::members).transpose()?;
    if let (None, Some(grouped)) = (uid, &grouped) {
        let stats = grouped.iter().map(|pid| procfs::stat(*pid));
        let stats = stats.collect::<io::Result<Vec<Option<Stat>>>>()?;
        return Ok(stats
            .into_iter()
            .flatten()
            .filter(|stat| !stat.over)
            .collect());
    }
    if uid.is_none() && run_id.is_none() {
        return Ok(Vec::new());
    }
    let grouped: HashSet<u32> = grouped.into_iter().flatten().collect();
    let all = procfs::all()?;
    let leader = match place {
        Some(place) => place.open()?.map(|_lives| place.pid),
        None => None,
    };
    let mark = run_id.map(|id| format!("{RUN_ID}={id}"));
    let belongs = |stat: &Stat| -> io::Result<bool> {
        let known = grouped.contains(&stat.pid)
            || leader.is_some_and(|leader| stat.session == leader || stat.pid == leader);
        Ok(known
            || uid.is_some() && procfs::uid(stat.pid)? == uid
            || match &mark {
                Some(mark) => procfs::has_variable(stat.pid, mark)?,
                None => false,
            })
    };
    let mut roots = HashSet::new();
    for stat in &all {
        if belongs(stat)? {
            roots.insert(stat.pid);
        }
    }
    Ok(with_children(&all, &roots))
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
    let known = patiently(look.clone()).await?;
    let first = {
        let place = place.clone();
        patiently(move || place.as_ref().map_or(Ok(None), Place::open)).await?
    };
    if let Some(process) = first {
        process
            .signal(Signal::TERM)
            .map_err(|error| said("its process", &error))?;
        // It has ended or its time is over; both are seen below.
        drop(tokio::time::timeout(grace, process.ended()).await);
    }
    let group = place.and_then(|place| place.cgroup);
    loop {
        let (look, group, known) = (look.clone(), group.clone(), known.clone());
        let left = patiently(move || {
            if let Some(group) = &group
                && let Err(error) = Cgroups::kill(group)
            {
                tracing::debug!(%error, "a control group cannot kill; its processes are killed one by one");
            }
            kill(&look, &known)
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

/// Looks on a thread for that, and again for a while when nothing can be seen: that something is gone is believed only
/// when it was seen.
async fn patiently<T: Send + 'static>(
    look: impl Fn() -> io::Result<T> + Clone + Send + 'static,
) -> Result<T, String> {
    for _ in 1..LOOKS_MAX {
        let look = look.clone();
        match blocking(move || Ok(look())).await? {
            Ok(seen) => return Ok(seen),
            Err(error) => tracing::debug!(%error, "processes cannot be seen; trying again"),
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    blocking(move || look().map_err(|error| said("its processes cannot be seen", &error))).await
}

/// Kills what belongs to it and what was known to before; returns how many there were. All are stopped first, until no
/// new ones come, so that none can start others faster than they are killed.
///
/// # Errors
/// When it cannot be seen what there is, and nothing was killed. Where only a part could be seen, that is killed, and
/// makes room for the next look.
fn kill(look: &impl Fn() -> io::Result<Vec<Stat>>, known: &[Stat]) -> io::Result<usize> {
    let mut found: BTreeMap<u32, Process> = BTreeMap::new();
    let mut seen = Ok(1);
    for _ in 0..STOPS_MAX {
        seen = stop_all(look, known, &mut found);
        if !matches!(seen, Ok(1..)) {
            break;
        }
    }
    let count = found.len();
    for process in found.into_values() {
        warn(process.signal(Signal::KILL));
    }
    match seen {
        Err(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

/// Stops those that were not found before, and returns how many they were.
fn stop_all(
    look: &impl Fn() -> io::Result<Vec<Stat>>,
    known: &[Stat],
    found: &mut BTreeMap<u32, Process>,
) -> io::Result<usize> {
    let mut news = 0;
    // What is known first: it can be stopped also when nobody can look for more.
    let looked = look();
    let seen = looked.as_deref().unwrap_or_default();
    for stat in known.iter().chain(seen) {
        if found.contains_key(&stat.pid) {
            continue;
        }
        if let Some(process) = Process::open(stat.pid, stat.ticks)? {
            warn(process.signal(Signal::STOP));
            found.insert(stat.pid, process);
            news += 1;
        }
    }
    looked.map(|_all| news)
}

fn warn(done: io::Result<()>) {
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
