//! What the server, the load generator and the rest of the machine used, from `/proc`.

use std::fs;
use std::io;
use std::time::Instant;

use serde::Serialize;

use crate::error::LoadError;

/// The totals of a process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Process {
    cpu_ns: u64,
    context_switches: u64,
    rss_kib: u64,
    rss_peak_kib: u64,
    disk_bytes: u64,
}

/// What a server, all its nodes together, used between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ServerUse {
    /// CPU time of all threads, in seconds.
    pub cpu_secs: f64,
    /// Voluntary and other context switches of all threads.
    pub context_switches: u64,
    /// Resident memory at the end, in KiB.
    pub rss_kib: u64,
    /// Growth of resident memory, in KiB.
    pub rss_growth_kib: i64,
    /// Largest resident memory since the processes began, in KiB.
    pub rss_peak_kib: u64,
    /// Bytes that were handed to disks.
    pub disk_bytes: u64,
}

/// What everything used between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Wall time in seconds.
    pub secs: f64,
    /// The server's share, if its processes are known.
    pub server: Option<ServerUse>,
    /// The load generator's CPU, in cores.
    pub client_cores: f64,
    /// Everything else on the machine, in cores; above 0.3 the run is noisy.
    pub other_cores: f64,
}

/// A moment from which use is measured.
#[derive(Debug)]
pub struct Meter {
    pids: Vec<u32>,
    began: Instant,
    server: Process,
    client_ns: u64,
    machine_ns: u64,
}

impl Meter {
    /// Now, for the server that is these processes; none when they are not known.
    ///
    /// # Errors
    /// When a process cannot be observed.
    pub fn start(pids: &[u32]) -> Result<Self, LoadError> {
        Ok(Self {
            pids: pids.to_vec(),
            began: Instant::now(),
            server: processes(pids)?,
            client_ns: own_cpu_ns()?,
            machine_ns: machine_cpu_ns()?,
        })
    }

    /// What was used since then.
    ///
    /// # Errors
    /// When a process cannot be observed.
    pub fn read(&self) -> Result<Usage, LoadError> {
        let secs = self.began.elapsed().as_secs_f64();
        let server = if self.pids.is_empty() {
            None
        } else {
            Some(difference(self.server, processes(&self.pids)?))
        };
        let client = nanos_to_secs(own_cpu_ns()?.saturating_sub(self.client_ns));
        let machine = nanos_to_secs(machine_cpu_ns()?.saturating_sub(self.machine_ns));
        // What is measured may be this very process.
        let is_own = self.pids.contains(&std::process::id());
        let apart = server.filter(|_| !is_own);
        let known = client + apart.map_or(0.0, |server| server.cpu_secs);
        Ok(Usage {
            secs,
            server,
            client_cores: client / secs,
            other_cores: ((machine - known) / secs).max(0.0),
        })
    }
}

fn difference(before: Process, after: Process) -> ServerUse {
    ServerUse {
        cpu_secs: nanos_to_secs(after.cpu_ns.saturating_sub(before.cpu_ns)),
        context_switches: after
            .context_switches
            .saturating_sub(before.context_switches),
        rss_kib: after.rss_kib,
        rss_growth_kib: after.rss_kib.cast_signed() - before.rss_kib.cast_signed(),
        rss_peak_kib: after.rss_peak_kib,
        disk_bytes: after.disk_bytes.saturating_sub(before.disk_bytes),
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn nanos_to_secs(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn processes(pids: &[u32]) -> Result<Process, LoadError> {
    let mut total = Process::default();
    for &pid in pids {
        let one = process(pid)?;
        total.cpu_ns += one.cpu_ns;
        total.context_switches += one.context_switches;
        total.rss_kib += one.rss_kib;
        total.rss_peak_kib += one.rss_peak_kib;
        total.disk_bytes += one.disk_bytes;
    }
    Ok(total)
}

/// CPU time is that of the threads which are there, to the nanosecond. Servers keep their threads;
/// a thread that ends in between would be missed.
fn process(pid: u32) -> Result<Process, LoadError> {
    let failed = |source| LoadError::Process { pid, source };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed)?;
    let mut total = Process {
        rss_kib: status_field(&status, "VmRSS:").unwrap_or(0),
        rss_peak_kib: status_field(&status, "VmHWM:").unwrap_or(0),
        disk_bytes: disk_bytes(pid),
        ..Process::default()
    };
    for entry in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(schedstat) =
            if_alive(fs::read_to_string(path.join("schedstat"))).map_err(failed)?
        else {
            continue;
        };
        let Some(status) = if_alive(fs::read_to_string(path.join("status"))).map_err(failed)?
        else {
            continue;
        };
        total.cpu_ns += first_number(&schedstat);
        total.context_switches += status_field(&status, "voluntary_ctxt_switches:").unwrap_or(0)
            + status_field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(total)
}

/// Bytes that a process has had written to disks: pages that became dirty by it, whoever writes them. 0 where the system
/// does not count them or does not say.
fn disk_bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    status_field(&io, "write_bytes:").unwrap_or(0)
}

/// `None` for a thread that ended after its directory was listed.
fn if_alive(read: io::Result<String>) -> io::Result<Option<String>> {
    const ESRCH: i32 = 3;
    match read {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn own_cpu_ns() -> Result<u64, LoadError> {
    let stat =
        fs::read_to_string("/proc/self/stat").map_err(LoadError::io("read /proc/self/stat"))?;
    Ok(ticks_to_ns(stat_ticks(&stat).unwrap_or(0)))
}

fn machine_cpu_ns() -> Result<u64, LoadError> {
    let stat = fs::read_to_string("/proc/stat").map_err(LoadError::io("read /proc/stat"))?;
    Ok(ticks_to_ns(busy_ticks(&stat)))
}

fn ticks_to_ns(ticks: u64) -> u64 {
    ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

fn first_number(text: &str) -> u64 {
    text.split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// The number behind a name at the beginning of a line.
fn status_field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// User and system time, ended threads included. The program's name may hold anything, so counting
/// begins behind its closing parenthesis.
fn stat_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Everything but idle, waiting for disks, and guests, which are counted as users already.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields = line.split_ascii_whitespace().skip(1).take(8).enumerate();
    fields
        .filter(|(index, _)| !matches!(index, 3 | 4))
        .filter_map(|(_, word)| word.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let stat = "1 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 23 0 0 20";
        assert_eq!(stat_ticks(stat), Some(123));
        assert_eq!(
            busy_ticks("cpu  1 2 4 1000 1000 8 16 32 64 64\ncpu0 1\n"),
            63
        );
        assert_eq!(
            status_field("Name:\tx\nVmHWM:\t  77 kB\n", "VmHWM:"),
            Some(77)
        );
        assert_eq!(
            status_field("voluntary_ctxt_switches:\t5\n", "voluntary_ctxt_switches:"),
            Some(5)
        );
        assert_eq!(first_number("12345 6 7\n"), 12_345);
    }

    #[test]
    fn differences_may_shrink_in_memory_alone() {
        let before = Process {
            cpu_ns: 5,
            context_switches: 1,
            rss_kib: 100,
            rss_peak_kib: 200,
            disk_bytes: 0,
        };
        let after = Process {
            cpu_ns: 1_000_000_005,
            context_switches: 3,
            rss_kib: 60,
            rss_peak_kib: 200,
            disk_bytes: 4_096,
        };
        let used = difference(before, after);
        assert_eq!(
            (
                used.context_switches,
                used.rss_growth_kib,
                used.rss_peak_kib,
                used.disk_bytes
            ),
            (2, -40, 200, 4_096)
        );
        assert!((used.cpu_secs - 1.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_can_be_observed() {
        let own = std::process::id();
        let usage = Meter::start(&[own]).unwrap().read().unwrap();
        let one = usage.server.unwrap().rss_kib;
        let twice = Meter::start(&[own, own]).unwrap().read().unwrap();
        assert!(one > 0 && twice.server.unwrap().rss_kib > one);
        assert!(Meter::start(&[]).unwrap().read().unwrap().server.is_none());
    }
}
