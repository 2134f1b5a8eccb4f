//! Everything that can be set, with every bound of a project, as plain data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::subjects::Place;

/// What can be set.
#[derive(Clone)]
pub struct Config {
    /// Which project this is.
    pub place: Place,
    /// The folder of its files. Relative paths begin here.
    pub home: PathBuf,
    /// The path below which the site lies: empty, or with a slash in front and none at the end.
    pub base_path: String,
    /// Where the raw file server and named servers listen.
    pub host: IpAddr,
    /// The port of the raw file server; 0 takes any free one.
    pub raw_port: u16,
    /// The project's secret. Without one, one is drawn that nobody else knows.
    pub secret: Option<String>,
    /// Whether the raw file server answers those who do not know the token that follows from the secret.
    pub raw_is_open: bool,
    /// The whole environment of what is started here.
    pub environment: BTreeMap<String, String>,
    /// Bytes that the project's files may take, where the file system does not hold it to that: more is not written
    /// through this program. `None` for any.
    pub disk_quota: Option<u64>,
    /// A script that is run once when the project is ready.
    pub init: Option<PathBuf>,
    /// A folder for what the project says about itself in files: `.smc` in its home.
    pub state: PathBuf,
    /// Whether processes that lose their parent become children of this process, so that none outlives it. One process
    /// has one such setting; whoever starts children besides the project leaves it off.
    pub adopts_orphans: bool,
    /// Deadlines and intervals.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
}

impl Config {
    /// A project with the defaults.
    pub fn new(place: Place, home: impl Into<PathBuf>) -> Self {
        let home = home.into();
        Self {
            place,
            state: home.join(".smc"),
            home,
            base_path: String::new(),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            raw_port: 0,
            secret: None,
            raw_is_open: false,
            environment: BTreeMap::new(),
            disk_quota: None,
            init: None,
            adopts_orphans: false,
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for Config {
    /// Without the secret, and without values of the environment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("place", &self.place)
            .field("home", &self.home)
            .field("base_path", &self.base_path)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Deadlines and intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For a command that says nothing about its time; as existing clients expect.
    pub exec_default: Duration,
    /// Longest time that a command may ask for.
    pub exec_max: Duration,
    /// How long the result of a job is kept after its end.
    pub job_kept: Duration,
    /// How long a named server may take until its port accepts connections.
    pub server_start: Duration,
    /// How long a process may take to end after it was asked to, before it is killed.
    pub end_grace: Duration,
    /// How often the status is told.
    pub status_interval: Duration,
    /// How long a peer of a file transfer may be silent.
    pub transfer_idle: Duration,
    /// How long what was found out about installed programs is used.
    pub capabilities_kept: Duration,
    /// How long the program at a terminal may read nothing of what is typed by a request.
    pub terminal_write: Duration,
    /// Least time between two measurements of the room that the project's files take.
    pub measure_pause: Duration,
    /// How long a terminal without viewers is kept after its program has ended.
    pub terminal_kept: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            exec_default: Duration::from_secs(10),
            exec_max: Duration::from_hours(24),
            job_kept: Duration::from_hours(1),
            server_start: Duration::from_mins(2),
            end_grace: Duration::from_secs(5),
            status_interval: Duration::from_secs(15),
            transfer_idle: Duration::from_mins(2),
            capabilities_kept: Duration::from_mins(1),
            terminal_write: Duration::from_secs(30),
            measure_pause: Duration::from_secs(5),
            terminal_kept: Duration::from_hours(1),
        }
    }
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request to the functions, in bytes.
    pub request_len_max: usize,
    /// Requests that are worked on at once.
    pub requests_max: usize,
    /// Bytes of each stream of a command's output that are kept where it does not say how many.
    pub output_default: usize,
    /// Most that it may ask for.
    pub output_max: usize,
    /// Commands that run at once.
    pub running_max: usize,
    /// Jobs that are remembered, those that run included.
    pub jobs_max: usize,
    /// Longest text file that is read or written by one request, in bytes.
    pub text_len_max: u64,
    /// Entries of a folder that are listed.
    pub entries_max: usize,
    /// Paths in one request.
    pub paths_max: usize,
    /// Transfers of files at once.
    pub transfers_max: usize,
    /// Terminals at once.
    pub terminals_max: usize,
    /// Viewers of one terminal.
    pub viewers_max: usize,
    /// Bytes of a terminal's output that are kept for viewers that come later.
    pub history_len_max: usize,
    /// How far the fastest viewer of a terminal may lag, in bytes, before its program has to wait.
    pub lag_max: usize,
    /// Bytes of a named server's log; as many again are kept of what was written before.
    pub server_log_len_max: u64,
    /// Connections to the raw file server at once.
    pub raw_connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_len_max: 16 << 20,
            requests_max: 256,
            output_default: 10_000_000,
            output_max: 64 << 20,
            running_max: 128,
            jobs_max: 512,
            text_len_max: 16 << 20,
            entries_max: 50_000,
            paths_max: 10_000,
            transfers_max: 32,
            terminals_max: 64,
            viewers_max: 32,
            history_len_max: 1 << 20,
            lag_max: 256 << 10,
            server_log_len_max: 1 << 20,
            raw_connections_max: 512,
        }
    }
}
