//! What a project says about itself in files of its home, once it answers. Numbers of processes in them are not believed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use super::home;
use crate::run::Reached;

/// Servers of a project, by the files in which their ports stand: `NAME.port`.
const SERVERS: &[&str] = &["browser-server", "hub-server", "api-server", "sage_server"];

/// The file that is written last.
const LAST: &str = ".smc/project.pid";

/// The number of the run whose files these are: those of the run before are there until the next one has begun.
const RUN: &str = ".smc/run-id";
const RUN_LEN: u64 = 36;

/// A number of a port, with room for a line's end.
const PORT_LEN_MAX: u64 = 16;

/// How much of what it wrote before it ended is told.
const TAIL_LEN: u64 = 300;

/// How often it is looked, at first and at last.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Where this run of the project answers, if it does.
pub(super) fn read(home: &Path, ip: IpAddr, run_id: Uuid) -> Option<Reached> {
    if home::read(home, RUN, RUN_LEN)? != run_id.to_string().as_bytes() {
        return None;
    }
    home::read(home, LAST, PORT_LEN_MAX)?;
    let ports: BTreeMap<String, u16> = SERVERS
        .iter()
        .filter_map(|name| {
            let text = home::read(home, &format!(".smc/{name}.port"), PORT_LEN_MAX)?;
            let port = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
            Some(((*name).to_owned(), port))
        })
        .filter(|(_, port)| *port != 0)
        .collect();
    (!ports.is_empty()).then_some(Reached {
        ip,
        ports,
        pid: None,
    })
}

/// Waits until it answers.
pub(super) async fn wait(home: &Path, ip: IpAddr, run_id: Uuid) -> Reached {
    let mut pause = POLL.0;
    loop {
        if let Some(reached) = read(home, ip, run_id) {
            return reached;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL.1);
    }
}

/// The end of what this run of the project has written before it ended, in one line.
pub(super) fn log_tail(home: &Path, run_id: Uuid) -> Option<String> {
    if home::read(home, RUN, RUN_LEN)? != run_id.to_string().as_bytes() {
        return None;
    }
    let tail = home::read_end(home, ".smc/project.log", TAIL_LEN)?;
    let text = String::from_utf8_lossy(&tail);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let shown: String = line.chars().filter(|one| !one.is_control()).collect();
    (!shown.is_empty()).then_some(shown)
}
