//! The processes of this machine, as `/proc` has them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The number of its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The name of its program, as the kernel keeps it.
    pub name: String,
    /// One letter, as in `ps`.
    pub state: char,
    /// Time on a processor, in clock ticks.
    pub ticks: u64,
    /// When it was started, in clock ticks since the machine was; with the number it names a process for good.
    pub started: u64,
    /// Memory that it holds, in pages.
    pub pages: u64,
}

impl Process {
    /// Whether it still runs: it may be there only because nobody has asked for its exit code.
    pub const fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// By what it is told from another one that gets its number later.
    pub const fn identity(&self) -> (i32, u64) {
        (self.pid, self.started)
    }

    /// Reads `/proc/{pid}/stat`. The name stands in parentheses and may contain any character, also these.
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at).copied();
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            state: field(0)?.chars().next()?,
            parent: field(1)?.parse().ok()?,
            group: field(2)?.parse().ok()?,
            session: field(3)?.parse().ok()?,
            ticks: field(11)?.parse::<u64>().ok()? + field(12)?.parse::<u64>().ok()?,
            started: field(19)?.parse().ok()?,
            pages: field(21)?.parse().ok()?,
        })
    }
}

/// All processes at a moment.
#[derive(Debug, Clone, Default)]
pub struct Table {
    processes: BTreeMap<i32, Process>,
}

impl Table {
    /// Reads it. Processes that end meanwhile may be missing.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn read() -> io::Result<Self> {
        let mut processes = BTreeMap::new();
        for entry in std::fs::read_dir(Path::new("/proc"))? {
            let entry = entry?;
            let is_process = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
            if !is_process {
                continue;
            }
            // One that has ended since is no process any longer.
            let Ok(stat) = std::fs::read(entry.path().join("stat")) else {
                continue;
            };
            if let Some(process) = Process::parse(&String::from_utf8_lossy(&stat)) {
                processes.insert(process.pid, process);
            }
        }
        Ok(Self { processes })
    }

    /// These processes and all that they have started, as far as their parents are still there.
    pub fn below(&self, roots: &BTreeSet<i32>) -> Vec<Process> {
        let mut found: BTreeSet<i32> = roots.clone();
        loop {
            let before = found.len();
            for process in self.processes.values() {
                if found.contains(&process.parent) {
                    found.insert(process.pid);
                }
            }
            if found.len() == before {
                break;
            }
        }
        found
            .iter()
            .filter_map(|pid| self.processes.get(pid).cloned())
            .collect()
    }

    /// Those in the session or the process group of this leader, whether or not it is still there.
    pub fn led_by(&self, leader: i32) -> Vec<Process> {
        let led = |process: &&Process| process.session == leader || process.group == leader;
        self.processes.values().filter(led).cloned().collect()
    }

    pub(super) fn children(&self, parent: i32) -> impl Iterator<Item = &Process> {
        self.processes
            .values()
            .filter(move |process| process.parent == parent)
    }

    pub(super) fn is_alive(&self, pid: i32, started: u64) -> bool {
        self.processes
            .get(&pid)
            .is_some_and(|process| process.started == started && process.is_alive())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32) -> Process {
        let stat = format!(
            "{pid} (a) b) S {parent} {group} {group} 0 -1 4194304 1 2 3 4 70 30 7 8 20 0 1 0 {pid} 1000 25 18446744073709551615"
        );
        Process::parse(&stat).unwrap()
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let found = process(12, 3, 4);
        assert_eq!(
            (found.pid, found.parent, found.group, found.name.as_str()),
            (12, 3, 4, "a) b")
        );
        assert_eq!((found.ticks, found.started, found.pages), (100, 12, 25));
        assert!(found.is_alive());
        assert_eq!(Process::parse("12 (a"), None);
        assert_eq!(Process::parse(""), None);
    }

    #[test]
    fn descendants_and_followers_are_found() {
        let all = [
            process(1, 0, 1),
            process(10, 1, 10),
            // Started before its parent got the higher number.
            process(5, 20, 10),
            process(20, 10, 20),
            // Its parent is gone, its group is not.
            process(30, 1, 10),
            process(40, 1, 40),
        ];
        let table = Table {
            processes: all.into_iter().map(|p| (p.pid, p)).collect(),
        };
        let pids = |found: Vec<Process>| found.iter().map(|p| p.pid).collect::<Vec<_>>();
        assert_eq!(pids(table.below(&BTreeSet::from([10]))), [5, 10, 20]);
        assert_eq!(pids(table.led_by(10)), [5, 10, 30]);
        assert!(table.is_alive(30, 30) && !table.is_alive(30, 31) && !table.is_alive(31, 31));
    }

    #[test]
    fn this_process_is_in_the_table() {
        let this = i32::try_from(std::process::id()).unwrap();
        let found = Table::read().unwrap().below(&BTreeSet::from([this]));
        assert_eq!(found.first().map(|process| process.pid), Some(this));
    }
}
