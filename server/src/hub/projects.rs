//! Project control in the process of a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use dialtone_control::processes::{self, PLACEHOLDER, Processes};
use dialtone_control::runner::Runner;
use dialtone_control::service::{Config, Projects, Service};
use dialtone_hub::auth::token;
use dialtone_hub::settings::Live;
use dialtone_hub::store::Store;

use crate::args::Mode;
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
    /// The path of the site, as projects are told.
    base_path: String,
}

/// Project control, ready to run.
#[derive(Debug)]
pub(super) struct Controlled {
    pub(super) service: Service,
    pub(super) projects: Arc<Projects>,
    processes: Option<Arc<Processes>>,
}

impl Running {
    /// In this mode, with homes below this folder unless the variable `PROJECTS` says otherwise.
    pub(super) fn new(mode: Mode, homes: Option<String>, data: &Path, host: String) -> Self {
        let below = |data: PathBuf| {
            data.join("projects")
                .join(PLACEHOLDER)
                .display()
                .to_string()
        };
        Self {
            mode,
            homes: homes.unwrap_or_else(|| below(data.to_owned())),
            host,
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

    fn runner(&self) -> Result<Option<Arc<Processes>>, Failure> {
        let uids = match self.mode {
            Mode::SingleUser => None,
            Mode::MultiUser => Some(USERS),
            Mode::Kucalc => return Ok(None),
            Mode::Kubernetes => {
                return Err(Failure::usage(
                    "--mode kubernetes runs projects as pods, which this program was built without",
                )
                .hint("--mode kucalc with `dialtone worker` runs projects on other machines"));
            }
        };
        let mut config = processes::Config::new(self.host.clone(), self.homes.clone(), command()?);
        config.names = uids.is_some();
        config.uids = uids;
        config.base_path.clone_from(&self.base_path);
        let processes = Processes::new(config).map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok(Some(Arc::new(processes)))
    }

    /// Takes what it needs; `executes`: orders are carried out in this process.
    pub(super) async fn open(
        self,
        store: Store,
        settings: Live,
        executes: bool,
    ) -> Result<Controlled, Failure> {
        let processes = if executes { self.runner()? } else { None };
        let host = self.host;
        let holder = format!("{host}-{}-{}", std::process::id(), token::random_text(16));
        let runner = processes
            .clone()
            .map(|processes| processes as Arc<dyn Runner>);
        let service = Service::open(store, settings, Config::new(host, holder), runner).await;
        let service = service.map_err(crate::commands::store_failure)?;
        Ok(Controlled {
            projects: service.control(),
            service,
            processes,
        })
    }
}

impl Controlled {
    /// Where projects that are started from here on find the broker.
    pub(super) fn broker(&self) -> Option<Arc<Processes>> {
        self.processes.clone()
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
