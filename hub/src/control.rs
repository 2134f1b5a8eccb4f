//! Running projects, as the rest of the hub sees it: what can be asked, and what comes back.
//!
//! The functions of the API, the proxy and the pages ask a [`Control`]; the crate `dialtone-control` is the one that
//! does it. A hub without one answers with [`Error::NotConfigured`].
//!
//! Any number of hubs may be asked at once. An **order** (start, stop, restart) is written down with a number; one
//! executor carries it out, and whoever waits for it gets its result, in whichever hub that is.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::sync::broadcast;

use crate::api::{self, Code};
use crate::id::{AccountId, ProjectId};
use crate::store;
use crate::time::Time;

/// What a call will give.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// How many events may wait for a listener before it is told that it missed some.
pub const EVENTS_WAITING_MAX: usize = 1024;

/// Runs projects.
///
/// A call may be dropped while it waits: what was ordered is carried out all the same.
pub trait Control: Send + Sync + fmt::Debug {
    /// Starts a project, and waits until it runs. At once, if it does.
    fn start(&self, id: ProjectId) -> Answer<'_, State>;

    /// Stops a project, and waits until nothing of it is left. At once, if it does not run.
    fn stop(&self, id: ProjectId) -> Answer<'_, State>;

    /// Stops a project if it runs, and starts it.
    fn restart(&self, id: ProjectId) -> Answer<'_, State>;

    /// What the project does, as it was last observed. Nothing is written by asking.
    fn state(&self, id: ProjectId) -> Answer<'_, State>;

    /// What is known of a project that runs.
    fn status(&self, id: ProjectId) -> Answer<'_, Status>;

    /// Notes that a project is used, by an account or by itself, and starts it if `start` says so, without waiting.
    fn touch(&self, id: ProjectId, account: Option<AccountId>, start: bool) -> Answer<'_, ()>;

    /// Copies a file or a folder. Whether the caller may read and write there has been decided before.
    fn copy_path(&self, copy: CopyPath) -> Answer<'_, Copied>;

    /// Computes the quotas of a project anew, and orders a restart, without waiting, if it runs with others.
    fn set_all_quotas(&self, id: ProjectId) -> Answer<'_, ()>;

    /// Where the project answers. It is started if it does not run.
    fn address(&self, id: ProjectId) -> Answer<'_, Address>;

    /// Where the project answers, if it runs; it is not started.
    fn running_address(&self, id: ProjectId) -> Answer<'_, Option<Address>>;

    /// What happens to all projects from now on, whichever hub it happens in.
    fn events(&self) -> broadcast::Receiver<Event>;
}

macro_rules! phases {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What a project does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Phase {
            $($(#[$doc])* $variant,)*
        }

        impl Phase {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in the database and for clients.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl FromStr for Phase {
            type Err = UnknownPhase;

            fn from_str(name: &str) -> Result<Self, UnknownPhase> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownPhase { name: name.chars().take(32).collect() }),
                }
            }
        }
    };
}

phases! {
    /// Its files are in an archive only.
    Archived = "archived",
    /// Its files are on their way into the archive.
    Archiving = "archiving",
    /// Its files are on their way from the archive.
    Unarchiving = "unarchiving",
    /// Its files are not where it could run.
    Closed = "closed",
    /// Its files are taken from where it could run.
    Closing = "closing",
    /// Its files are brought to where it can run.
    Opening = "opening",
    /// It does not run, and may be started.
    Opened = "opened",
    /// It is to be started as soon as there is room for it.
    Pending = "pending",
    /// It is being started.
    Starting = "starting",
    /// It runs.
    Running = "running",
    /// It is being stopped.
    Stopping = "stopping",
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of a [`Phase`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no state {name:?} of a project")]
pub struct UnknownPhase {
    /// The beginning of the name.
    pub name: String,
}

/// What can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It is to run.
    Start,
    /// Nothing of it is to be left.
    Stop,
    /// Nothing of what runs is to be left, and then it is to run.
    Restart,
}

impl Verb {
    /// Its name in the database and for clients.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Start, Self::Stop, Self::Restart]
            .into_iter()
            .find(|verb| verb.name() == name)
    }

    /// Whether the project runs when it is done.
    pub const fn runs(self) -> bool {
        match self {
            Self::Start | Self::Restart => true,
            Self::Stop => false,
        }
    }
}

/// What a project does, since when, and why not otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// Since when, by the clock of the database.
    pub time: Time,
    /// Why the last order could not be carried out, or why it ended by itself.
    pub error: Option<String>,
    /// Where it answers, if it runs.
    pub ip: Option<IpAddr>,
}

impl State {
    /// As clients get it: `{state, time, error?, ip?}`.
    pub fn to_json(&self) -> Json {
        let mut state = json!({"state": self.phase.name(), "time": self.time});
        if let Some(fields) = state.as_object_mut() {
            if let Some(error) = &self.error {
                fields.insert("error".to_owned(), error.as_str().into());
            }
            if let Some(ip) = self.ip {
                fields.insert("ip".to_owned(), ip.to_string().into());
            }
        }
        state
    }
}

/// What is known of a project that runs. Its secret is not among it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The ports on which its servers answer, by name, as `http`.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// The number of its first process on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ts: Option<Time>,
    /// Another text for each time that it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The machine that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Where a project answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The machine.
    pub ip: IpAddr,
    /// The ports on which its servers answer, by name.
    pub ports: BTreeMap<String, u16>,
    /// The secret that it shares with the hub.
    pub secret_token: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("ip", &self.ip)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

/// Something to be copied, within a project or from one to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPath {
    /// The project that it is in.
    pub project_id: ProjectId,
    /// What is copied, below the home of that project.
    pub path: String,
    /// The project that it is copied to.
    pub target_project_id: ProjectId,
    /// Where it is copied to, below the home of that project.
    pub target_path: String,
    /// Whether files that are newer at the target are overwritten.
    #[serde(default)]
    pub overwrite_newer: bool,
    /// Whether what is not at the source is deleted at the target.
    #[serde(default)]
    pub delete_missing: bool,
    /// Whether files that are overwritten or deleted are kept under another name.
    #[serde(default)]
    pub backup: bool,
    /// How long it may take; `None` for what the site allows.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// How many KiB a second it may take.
    #[serde(default)]
    pub bwlimit: Option<u64>,
    /// Patterns, as of rsync, of what is not copied.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether the caller waits for its end.
    pub wait: bool,
    /// When it is to be done; it is not waited for then.
    #[serde(default)]
    pub scheduled: Option<Time>,
}

/// What became of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// It is done.
    Done,
    /// It will be done; this is its number.
    Queued(uuid::Uuid),
}

/// Something that has happened to a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// To which one.
    pub project_id: ProjectId,
    /// What it does now.
    pub state: State,
}

/// Why project control did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This site runs no projects.
    #[error("running projects is not configured on this site")]
    NotConfigured,
    /// There is no such project, or it was given up.
    #[error("there is no project {0}")]
    Missing(ProjectId),
    /// Somebody has ordered something else before it was done.
    #[error("the order to {order} project {project_id} was replaced by one to {by}")]
    Superseded {
        /// The project.
        project_id: ProjectId,
        /// What was ordered.
        order: &'static str,
        /// What was ordered afterwards.
        by: &'static str,
    },
    /// It was tried and did not work.
    #[error("project {project_id} could not {order}: {reason}")]
    Failed {
        /// The project.
        project_id: ProjectId,
        /// What was ordered.
        order: &'static str,
        /// What went wrong, in words for its users.
        reason: String,
    },
    /// It was not done in time.
    #[error("project {project_id} did not {order} within {} s", within.as_secs())]
    TimedOut {
        /// The project.
        project_id: ProjectId,
        /// What was ordered.
        order: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// It must run for this, and does not.
    #[error("project {0} does not run")]
    NotRunning(ProjectId),
    /// A path that is not one below the home of its project.
    #[error("{path:?}: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More is waited for than this hub allows.
    #[error("too many orders are waited for ({waiting_max})")]
    Overloaded {
        /// How many may wait.
        waiting_max: usize,
    },
    /// The database did not do what was asked.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<Error> for api::Error {
    fn from(error: Error) -> Self {
        let (code, reason) = match error {
            Error::Store(error) => return error.into(),
            Error::NotConfigured => (Code::NotConfigured, None),
            Error::Missing(_) => (Code::NotFound, None),
            Error::Superseded { .. } => (Code::Conflict, Some("SUPERSEDED")),
            Error::Failed { .. } => (Code::FailedPrecondition, Some("PROJECT_FAILED")),
            Error::TimedOut { .. } => (Code::Timeout, None),
            Error::NotRunning(_) => (Code::FailedPrecondition, Some("NOT_RUNNING")),
            Error::Path { .. } => (Code::InvalidArgument, None),
            Error::Overloaded { .. } => (Code::TooMany, None),
        };
        let told = Self::new(code, error.to_string());
        match reason {
            Some(reason) => told.reason(reason),
            None => told,
        }
    }
}

/// The control of a hub that runs no projects.
#[derive(Debug)]
pub struct NotConfigured {
    events: broadcast::Sender<Event>,
}

impl Default for NotConfigured {
    fn default() -> Self {
        Self {
            events: broadcast::Sender::new(1),
        }
    }
}

fn not_configured<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(std::future::ready(Err(Error::NotConfigured)))
}

impl Control for NotConfigured {
    fn start(&self, _: ProjectId) -> Answer<'_, State> {
        not_configured()
    }

    fn stop(&self, _: ProjectId) -> Answer<'_, State> {
        not_configured()
    }

    fn restart(&self, _: ProjectId) -> Answer<'_, State> {
        not_configured()
    }

    fn state(&self, _: ProjectId) -> Answer<'_, State> {
        not_configured()
    }

    fn status(&self, _: ProjectId) -> Answer<'_, Status> {
        not_configured()
    }

    fn touch(&self, _: ProjectId, _: Option<AccountId>, _: bool) -> Answer<'_, ()> {
        not_configured()
    }

    fn copy_path(&self, _: CopyPath) -> Answer<'_, Copied> {
        not_configured()
    }

    fn set_all_quotas(&self, _: ProjectId) -> Answer<'_, ()> {
        not_configured()
    }

    fn address(&self, _: ProjectId) -> Answer<'_, Address> {
        not_configured()
    }

    fn running_address(&self, _: ProjectId) -> Answer<'_, Option<Address>> {
        not_configured()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_what_clients_of_the_original_look_for() {
        let state = State {
            phase: Phase::Running,
            time: Time::from_millis(7),
            error: None,
            ip: Some(IpAddr::from([127, 0, 0, 1])),
        };
        assert_eq!(
            state.to_json(),
            json!({"state": "running", "time": 7, "ip": "127.0.0.1"})
        );
        for phase in Phase::ALL {
            assert_eq!(phase.name().parse(), Ok(*phase));
            assert_eq!(serde_json::to_value(phase).unwrap(), json!(phase.name()));
        }
        assert!("sleeping".parse::<Phase>().is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let address = Address {
            ip: IpAddr::from([127, 0, 0, 1]),
            ports: BTreeMap::new(),
            secret_token: "hunter2".to_owned(),
        };
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
