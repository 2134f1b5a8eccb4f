//! What the project uses: memory, time on processors, room on the disk.

use std::path::Path;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::processes::{Process, Table};

/// Remembers the time on processors, to tell how much of it was used since.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    last: Mutex<Option<(Instant, u64)>>,
}

impl Usage {
    /// What these processes, this one included, use at present.
    pub(crate) fn of(&self, processes: &[Process], home: &Path) -> Json {
        let page = rustix::param::page_size() as u64;
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let this = i32::try_from(std::process::id()).unwrap_or(0);
        let own = Table::read().map(|table| table.below(&[this].into()));
        let own = own
            .unwrap_or_default()
            .into_iter()
            .find(|process| process.pid == this);
        let all = || processes.iter().chain(&own);
        let ticks: u64 = all().map(|process| process.ticks).sum();
        let memory: u64 = all().map(|process| process.pages * page).sum();
        json!({
            "processes": all().filter(|process| process.is_alive()).count(),
            "memory": {"rss": memory, "limit": memory_limit()},
            "cpu": {
                "time": seconds(ticks, ticks_per_second),
                "usage": self.rate(ticks, ticks_per_second),
            },
            "disk": disk(home),
        })
    }

    /// Processors in use since it was asked last.
    fn rate(&self, ticks: u64, ticks_per_second: u64) -> f64 {
        let now = Instant::now();
        let last = self.last.lock().replace((now, ticks));
        let Some((at, before)) = last else {
            return 0.0;
        };
        let elapsed = now.duration_since(at).as_secs_f64();
        if elapsed == 0.0 {
            return 0.0;
        }
        // Those of processes that have ended are not counted any longer.
        seconds(ticks.saturating_sub(before), ticks_per_second) / elapsed
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people, of far less than 2^53 ticks"
)]
fn seconds(ticks: u64, ticks_per_second: u64) -> f64 {
    ticks as f64 / ticks_per_second as f64
}

/// Bytes of the file system on which the home is.
fn disk(home: &Path) -> Json {
    match rustix::fs::statvfs(home) {
        Ok(about) => json!({
            "total": about.f_blocks.saturating_mul(about.f_frsize),
            "free": about.f_bavail.saturating_mul(about.f_frsize),
            "used": about.f_blocks.saturating_sub(about.f_bfree).saturating_mul(about.f_frsize),
        }),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// Of the control group in which this process is, where there is one with a limit.
fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let file = format!("/sys/fs/cgroup{own}/memory.max");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::default();
        let first = usage.of(&[], Path::new("/"));
        assert!(first["memory"]["rss"].as_u64().unwrap() > 0);
        assert_eq!(first["processes"], 1);
        assert_eq!(
            first["cpu"]["usage"], 0.0,
            "there is nothing to compare with"
        );
        assert!(first["disk"]["total"].as_u64().unwrap() > 0);
        assert!(usage.of(&[], Path::new("/nothing"))["disk"]["error"].is_string());
    }
}
