//! Projects as processes of this machine.
//!
//! Each is a session of its own, in a control group of its own where that can be had. It is found again by the number of
//! its first process together with the time at which that began and the boot of the machine, so that no number that was
//! given to another process since is ever signalled; signals go through handles of processes (`pidfd`).
//!
//! With [`Config::uids`], every project has its own user of the system, its home belongs to that user alone, and the hub
//! must be root. Without, everything runs as the user of the hub, and nothing keeps projects from each other.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dialtone_hub::control::CopyPath;
use dialtone_hub::id::ProjectId;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::machine::Observed;
use crate::run::{Reached, Run};
use crate::runner::{Answer, CopyUsers, Gate, Runner, Spec};

mod procfs;

mod place;
use place::Place;

mod cgroup;
pub use cgroup::Cgroups;

mod environment;

mod home;

mod users;

mod disk;
use disk::Disk;

mod launch;

mod ready;

mod end;

/// What stands in the path of homes where the number of the project goes.
pub const PLACEHOLDER: &str = "[project_id]";

/// How projects are run on this machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of this machine, as it is written down with what runs on it.
    pub host: String,
    /// Where homes are: a path with [`PLACEHOLDER`].
    pub homes: String,
    /// The program of a project, with its arguments.
    pub command: Vec<String>,
    /// Where the broker is, as projects reach it.
    pub broker_url: String,
    /// The path of the site: empty, or with a slash in front and none at the end.
    pub base_path: String,
    /// What of the environment of this process projects may see, and what else they find there.
    pub env: BTreeMap<String, String>,
    /// The address at which servers of projects are reached.
    pub address: IpAddr,
    /// The range of users of the system, one for each project.
    pub uids: Option<RangeInclusive<u32>>,
    /// Whether users of projects are entered into the list of users of the system, so that they have a name.
    pub names: bool,
    /// The control group in which those of projects are made, if any can be.
    pub cgroups: Option<PathBuf>,
    /// Processes and threads of a project at once.
    pub pids_max: u64,
    /// How long a project has from being asked to end until it is killed.
    pub grace: Duration,
}

impl Config {
    /// Projects below `homes`, with the usual bounds, which run `command`.
    pub fn new(host: impl Into<String>, homes: impl Into<String>, command: Vec<String>) -> Self {
        Self {
            host: host.into(),
            homes: homes.into(),
            command,
            broker_url: String::new(),
            base_path: String::new(),
            env: environment::allowed(std::env::vars()),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            uids: None,
            names: false,
            cgroups: None,
            pids_max: 2000,
            grace: Duration::from_secs(5),
        }
    }

    /// The home of a project.
    pub fn home(&self, id: ProjectId) -> PathBuf {
        PathBuf::from(self.homes.replace(PLACEHOLDER, &id.to_string()))
    }
}

/// Why projects cannot be run in this way.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The path of homes is the same for all.
    #[error("the path of homes must contain {PLACEHOLDER} in its last part, which {0:?} does not")]
    Homes(String),
    /// There is no program to be run.
    #[error("there is no command for projects")]
    NoCommand,
    /// Only root can run something as another user.
    #[error("running each project as a user of its own needs root")]
    NotRoot,
    /// The range has users of the system in it, or none at all.
    #[error("users of projects must be from {UID_MIN} on, not {0}")]
    Uids(u32),
    /// It cannot be told what has run since the machine was started.
    #[error("the boot of the machine is not known: /proc/sys/kernel/random/boot_id")]
    Boot(#[source] io::Error),
    /// Something that it takes is not on this machine.
    #[error("{0} is not installed")]
    Missing(&'static str),
}

/// Lower numbers are those of people and services of the machine.
const UID_MIN: u32 = 2000;

/// Runs projects as processes.
#[derive(Debug)]
pub struct Processes {
    config: Config,
    cgroups: Option<Cgroups>,
    /// How projects are held to their room on the disk.
    disk: Disk,
    boot: String,
    /// The list of users is changed by one at a time.
    names: Mutex<()>,
    /// Where the broker is, as projects reach it.
    broker_url: RwLock<String>,
}

impl Processes {
    /// Looks whether projects can be run in this way.
    ///
    /// # Errors
    /// With what has to be changed.
    pub fn new(config: Config) -> Result<Self, Unusable> {
        let last = Path::new(&config.homes).file_name();
        if !last.is_some_and(|last| last.to_string_lossy().contains(PLACEHOLDER)) {
            return Err(Unusable::Homes(config.homes));
        }
        if config.command.is_empty() {
            return Err(Unusable::NoCommand);
        }
        if let Some(uids) = &config.uids {
            if *uids.start() < UID_MIN || uids.is_empty() {
                return Err(Unusable::Uids(*uids.start()));
            }
            if !rustix::process::geteuid().is_root() {
                return Err(Unusable::NotRoot);
            }
        }
        for tool in ["sh", "setsid", "prlimit"] {
            if find_tool(tool).is_none() {
                return Err(Unusable::Missing(tool));
            }
        }
        let cgroups = config.cgroups.clone().and_then(Cgroups::open);
        let disk = Disk::find(&config);
        let limits = cgroups.as_ref().map(Cgroups::controllers);
        tracing::info!(
            users = config.uids.is_some(),
            cgroups = cgroups.is_some(),
            controllers = limits.map(|limits| limits.join(" ")),
            disk_quotas = %disk,
            "projects are processes of this machine"
        );
        Ok(Self {
            cgroups,
            disk,
            broker_url: RwLock::new(config.broker_url.clone()),
            config,
            boot: procfs::boot_id().map_err(Unusable::Boot)?,
            names: Mutex::new(()),
        })
    }

    /// Where projects that are started from here on reach the broker, for a hub that knows this only later.
    pub fn set_broker_url(&self, url: String) {
        *self.broker_url.write() = url;
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn place(&self, run: &Run) -> Option<Place> {
        let place: Place = serde_json::from_value(run.place.clone()).ok()?;
        // Nothing outlives the machine that it ran on.
        (place.boot == self.boot).then_some(place)
    }
}

/// Where a tool of the system is.
fn find_tool(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}

/// Does what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?
}

fn said(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}

impl Runner for Processes {
    fn uids(&self) -> Option<RangeInclusive<u32>> {
        self.config.uids.clone()
    }

    fn observe<'a>(
        &'a self,
        id: ProjectId,
        uid: Option<u32>,
        run: Option<&'a Run>,
    ) -> Answer<'a, Observed> {
        Box::pin(async move {
            let place = run.and_then(|run| self.place(run));
            if let (Some(place), Some(run)) = (&place, run)
                && place.lives()?
            {
                let (home, address) = (self.config.home(id), self.config.address);
                let ready = ready::read(&home, address, run.id).is_some();
                return Ok(if ready {
                    Observed::Ready
                } else {
                    Observed::Alive
                });
            }
            let cgroups = self.cgroups.clone();
            let run_id = run.map(|run| run.id);
            blocking(move || {
                let left = end::members(cgroups.as_ref(), place.as_ref(), run_id, uid);
                let left = left.map_err(|error| said("its processes cannot be seen", &error))?;
                Ok(if left.is_empty() {
                    Observed::Absent
                } else {
                    Observed::Remains
                })
            })
            .await
        })
    }

    fn prepare<'a>(&'a self, spec: &'a Spec) -> Answer<'a, Box<dyn Gate>> {
        Box::pin(async move {
            let home = self.config.home(spec.project_id);
            let uid = spec.uid;
            if let (Some(uid), true) = (uid, self.config.names) {
                let _one = self.names.lock().await;
                users::ensure(uid, &home).await?;
            }
            let own = home.clone();
            blocking(move || home::ensure(&own, uid).map_err(|error| said("its home", &error)))
                .await?;
            self.disk.bound(uid, spec.quota.disk_quota).await?;
            launch::prepare(self, spec, &home)
        })
    }

    fn reached<'a>(&'a self, id: ProjectId, run: &'a Run) -> Answer<'a, Reached> {
        Box::pin(async move {
            Ok(ready::wait(&self.config.home(id), self.config.address, run.id).await)
        })
    }

    fn exited<'a>(&'a self, id: ProjectId, run: &'a Run) -> Answer<'a, String> {
        Box::pin(async move {
            let place = self.place(run);
            let process = place.as_ref().map_or(Ok(None), Place::open);
            if let Some(process) = process.map_err(|error| said("its process", &error))? {
                process
                    .ended()
                    .await
                    .map_err(|error| said("its process", &error))?;
            }
            let cgroup = place.and_then(|place| place.cgroup);
            let killed = cgroup.is_some_and(|path| Cgroups::out_of_memory(&path));
            let why = if killed {
                "it ran out of memory".to_owned()
            } else {
                "it ended by itself".to_owned()
            };
            Ok(match ready::log_tail(&self.config.home(id), run.id) {
                Some(tail) => format!("{why}; its last words: {tail}"),
                None => why,
            })
        })
    }

    fn end<'a>(&'a self, _id: ProjectId, uid: Option<u32>, run: Option<&'a Run>) -> Answer<'a, ()> {
        Box::pin(async move {
            let place = run.and_then(|run| self.place(run));
            let run_id = run.map(|run| run.id);
            end::end(self.cgroups.as_ref(), place, run_id, uid, self.config.grace).await
        })
    }

    fn copy<'a>(&'a self, copy: &'a CopyPath, users: CopyUsers) -> Answer<'a, ()> {
        let source = self.config.home(copy.project_id);
        let target = self.config.home(copy.target_project_id);
        let copy = copy.clone();
        Box::pin(async move {
            let own = target.clone();
            blocking(move || {
                home::ensure(&own, users.target)
                    .map_err(|error| said("the home of the target", &error))
            })
            .await?;
            crate::copy::run(source, target, copy, users).await
        })
    }
}
