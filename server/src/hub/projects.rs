//! Project control in the process of a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_control::processes::{self, PLACEHOLDER, Processes};
use dialtone_control::runner::Runner;
use dialtone_control::service::{Config, Projects, Service};
use dialtone_hub::auth::token;
use dialtone_hub::settings::Live;
use dialtone_hub::store::Store;
use tokio_util::sync::DropGuard;

use crate::args::Mode;
use crate::config::Strings;
use crate::exit::{Exit, Failure};

/// The users of projects in mode `multi-user`, unless told otherwise: above those of people and below those that
/// containers take.
const USERS: std::ops::RangeInclusive<u32> = 200_000..=299_999;

/// How projects are to be run.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    mode: Mode,
    /// Where homes are: a path with `[project_id]`.
    homes: String,
    host: String,
    /// The file that says how pods are made.
    pods: Option<PathBuf>,
    /// The path of the site, as projects are told.
    base_path: String,
}

/// Project control, ready to run.
#[derive(Debug)]
pub(super) struct Controlled {
    pub(super) service: Service,
    pub(super) projects: Arc<Projects>,
    runs: Runs,
}

/// What runs projects in this process.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) runner: Option<Arc<dyn Runner>>,
    /// Where they are processes, which have to be told where the broker is.
    pub(super) processes: Option<Arc<Processes>>,
    /// As which machine, if not as this one.
    pub(super) host: Option<String>,
    /// How long a project may take until it answers, if not as long as usual.
    pub(super) start_max: Option<Duration>,
    /// Ends what follows the cluster.
    pub(super) _following: Option<DropGuard>,
}

impl Running {
    /// In this mode, with homes below this folder unless the variable `PROJECTS` says otherwise, or as pods as the file
    /// says that the variable `DIALTONE_KUBERNETES` names.
    pub(super) fn new(mode: Mode, strings: &dyn Strings, data: &Path, host: String) -> Self {
        let below = |data: PathBuf| {
            data.join("projects")
                .join(PLACEHOLDER)
                .display()
                .to_string()
        };
        Self {
            mode,
            homes: strings
                .get("PROJECTS")
                .unwrap_or_else(|| below(data.to_owned())),
            host,
            pods: strings.get("DIALTONE_KUBERNETES").map(PathBuf::from),
            base_path: String::new(),
        }
    }

    /// The same on a site below this path.
    pub(super) fn below(self, base_path: &str) -> Self {
        Self {
            base_path: base_path.to_owned(),
            ..self
        }
    }

    async fn runs(&self) -> Result<Runs, Failure> {
        let uids = match self.mode {
            Mode::SingleUser => None,
            Mode::MultiUser => Some(USERS),
            Mode::Kucalc => return Ok(Runs::default()),
            Mode::Kubernetes => return super::pods::runs(self.pods.as_deref()).await,
        };
        let mut config = processes::Config::new(self.host.clone(), self.homes.clone(), command()?);
        config.names = uids.is_some();
        config.uids = uids;
        config.base_path.clone_from(&self.base_path);
        let processes = Processes::new(config).map_err(|error| Failure::new(Exit::Usage, error))?;
        let processes = Arc::new(processes);
        Ok(Runs {
            runner: Some(Arc::clone(&processes) as Arc<dyn Runner>),
            processes: Some(processes),
            ..Runs::default()
        })
    }

    /// Takes what it needs; `executes`: orders are carried out in this process.
    pub(super) async fn open(
        self,
        store: Store,
        settings: Live,
        executes: bool,
    ) -> Result<Controlled, Failure> {
        let runs = if executes {
            self.runs().await?
        } else {
            Runs::default()
        };
        let own = self.host;
        let holder = format!("{own}-{}-{}", std::process::id(), token::random_text(16));
        let mut config = Config::new(runs.host.clone().unwrap_or(own), holder);
        if let Some(start_max) = runs.start_max {
            config.executor.limits.start = start_max;
        }
        let service = Service::open(store, settings, config, runs.runner.clone()).await;
        let service = service.map_err(crate::commands::store_failure)?;
        Ok(Controlled {
            projects: service.control(),
            service,
            runs,
        })
    }
}

impl Controlled {
    /// Where projects that are started from here on find the broker.
    pub(super) fn broker(&self) -> Option<Arc<Processes>> {
        self.runs.processes.clone()
    }
}

/// What a project runs: this program.
fn command() -> Result<Vec<String>, Failure> {
    let own = std::env::current_exe().context("it is not known where this program is")?;
    let own = own.into_os_string().into_string().map_err(|path| {
        Failure::usage(format_args!(
            "the path of this program is no text: {}",
            path.display()
        ))
    })?;
    Ok(vec![own, "project".to_owned()])
}
