//! What the system says about processes, in `/proc`.

use std::fs;

/// A process as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its number.
    pub(super) pid: u32,
    /// The number of its parent.
    pub(super) parent: u32,
    /// The number of the first process of its session.
    pub(super) session: u32,
    /// When it began, in ticks after the machine did.
    pub(super) ticks: u64,
    /// Whether it is over, and only waits to be noticed.
    pub(super) over: bool,
}

/// The process with this number.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may contain anything, also parentheses.
fn parse(pid: u32, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let small = |index: usize| u32::try_from(number(index)?).ok();
    Some(Stat {
        pid,
        over: matches!(*fields.first()?, "Z" | "X"),
        parent: small(1)?,
        session: small(3)?,
        ticks: number(19)?,
    })
}

/// All processes that there are and that are not over.
pub(super) fn all() -> Vec<Stat> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .filter(|stat| !stat.over)
        .collect()
}

/// The user under which a process runs.
pub(super) fn uid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether a process was started with this variable in its environment.
pub(super) fn has_variable(pid: u32, variable: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environment
        .split(|byte| *byte == 0)
        .any(|one| one == variable.as_bytes())
}

/// Another text each time that the machine is started.
pub(super) fn boot_id() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let text = "7 (a) R 1 2) S 3 4 5 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 777 1 2";
        let stat = parse(7, text).unwrap();
        let expected = Stat {
            pid: 7,
            parent: 3,
            session: 5,
            ticks: 777,
            over: false,
        };
        assert_eq!(stat, expected);
        assert!(
            parse(7, "7 (x) Z 3 4 5 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 777")
                .unwrap()
                .over
        );
        for cut in ["", "7 (x", "7 (x)", "7 (x) S 1"] {
            assert_eq!(parse(7, cut), None);
        }
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        let own = stat(pid).unwrap();
        assert!(all().contains(&own));
        assert_eq!(uid(pid), Some(rustix::process::getuid().as_raw()));
        assert!(!boot_id().is_empty());
    }
}
