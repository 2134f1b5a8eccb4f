//! What the system says about processes, in `/proc`.
//!
//! That a process is not there is one answer, and that it cannot be looked at is another: whoever has no descriptor or no
//! memory left for a look must not take everything for gone.

use std::fs;
use std::io;

use rustix::io::Errno;

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

/// The process with this number, if there is one.
///
/// # Errors
/// When it cannot be told.
pub(super) fn stat(pid: u32) -> io::Result<Option<Stat>> {
    let Some(text) = there(fs::read_to_string(format!("/proc/{pid}/stat")))? else {
        return Ok(None);
    };
    let odd = || {
        let text = format!("/proc/{pid}/stat has another form than is known");
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    parse(pid, &text).map(Some).ok_or_else(odd)
}

/// What was read, if there was something to be read: a process may end before or while it is looked at.
fn there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error says that there is no such process or group, rather than that it cannot be seen.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::NOENT, Errno::SRCH, Errno::NODEV].contains(&errno))
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
///
/// # Errors
/// When not all of them can be seen.
pub(super) fn all() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        all.extend(stat(pid)?.filter(|stat| !stat.over));
    }
    Ok(all)
}

/// The user under which a process runs, if there is one of this number.
///
/// # Errors
/// When it cannot be told.
pub(super) fn uid(pid: u32) -> io::Result<Option<u32>> {
    let status = there(fs::read_to_string(format!("/proc/{pid}/status")))?;
    let first = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Ok(status.as_deref().and_then(first))
}

/// Whether a process was started with this variable in its environment. One that does not let us see that belongs to
/// somebody else.
///
/// # Errors
/// When it cannot be told.
pub(super) fn has_variable(pid: u32, variable: &str) -> io::Result<bool> {
    let environment = match fs::read(format!("/proc/{pid}/environ")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        read => there(read)?.unwrap_or_default(),
    };
    let mut variables = environment.split(|byte| *byte == 0);
    Ok(variables.any(|one| one == variable.as_bytes()))
}

/// Another text each time that the machine is started.
///
/// # Errors
/// When it cannot be told.
pub(super) fn boot_id() -> io::Result<String> {
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(read.trim().to_owned())
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
        let own = stat(pid).unwrap().unwrap();
        assert!(all().unwrap().contains(&own));
        assert_eq!(uid(pid).unwrap(), Some(rustix::process::getuid().as_raw()));
        assert!(!boot_id().unwrap().is_empty());
        // A number that no process can have.
        assert_eq!(stat(u32::MAX).unwrap(), None);
        assert_eq!(uid(u32::MAX).unwrap(), None);
        assert!(!has_variable(u32::MAX, "A=b").unwrap());
    }
}
