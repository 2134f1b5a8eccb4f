//! What the operating system says about this process.

use serde::Serialize;

/// Figures of the process; a figure that cannot be had is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Process {
    /// Memory that is in RAM, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resident_memory_bytes: Option<u64>,
    /// Processor time used by all threads, in user mode and in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_seconds: Option<f64>,
    /// Open file descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_fds: Option<u64>,
    /// Most file descriptors that may be open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_fds: Option<u64>,
}

impl Process {
    /// Reads the figures, some of them from files.
    #[cfg(target_os = "linux")]
    pub(super) fn read() -> Self {
        Self {
            resident_memory_bytes: linux::resident_memory_bytes(),
            cpu_seconds: Some(linux::cpu_seconds()),
            open_fds: linux::open_fds(),
            max_fds: linux::max_fds(),
        }
    }

    /// Other systems have no files to read them from.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn read() -> Self {
        Self::default()
    }
}

#[cfg(target_os = "linux")]
mod linux {
    //! `/proc`, and two system calls.

    use std::fs;
    use std::time::Duration;

    use rustix::process::{Resource, getrlimit};
    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn resident_memory_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        Some(kib * 1_024)
    }

    pub(super) fn cpu_seconds() -> f64 {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::try_from(time).unwrap_or_default().as_secs_f64()
    }

    pub(super) fn open_fds() -> Option<u64> {
        // One of them is the directory that is being read.
        let open = fs::read_dir("/proc/self/fd").ok()?.count();
        u64::try_from(open).ok().map(|open| open.saturating_sub(1))
    }

    pub(super) fn max_fds() -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }
}
