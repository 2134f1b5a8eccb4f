//! `projects`: running them, through whatever this site runs them with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use crate::control::{self, Control, Copied, CopyPath};
use crate::id::ProjectId;
use crate::path::{self, RelativePath};
use crate::store::projects::{self, Update};
use crate::store::{Store, project_log};

/// Longest delay that a call may ask for before a copy begins, for tests of clients.
const DELAY_MAX: Duration = Duration::from_mins(1);

/// What the functions need.
#[derive(Clone)]
pub struct Running {
    store: Store,
    control: Arc<dyn Control>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Project {
    project_id: ProjectId,
}

#[derive(Deserialize)]
struct Quotas {
    project_id: ProjectId,
    #[serde(flatten)]
    quotas: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
struct Copy {
    src_project_id: ProjectId,
    src_path: String,
    target_project_id: Option<ProjectId>,
    target_path: Option<String>,
    #[serde(default)]
    overwrite_newer: bool,
    #[serde(default)]
    delete_missing: bool,
    #[serde(default)]
    backup: bool,
    timeout: Option<u64>,
    bwlimit: Option<u64>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    debug_delay_ms: u64,
}

impl Running {
    /// With this control.
    pub fn new(store: Store, control: Arc<dyn Control>) -> Self {
        Self { store, control }
    }

    /// The handlers with those of this file. That the caller is a member of the project is in the table.
    pub fn install(self, handlers: Handlers) -> Handlers {
        handlers
            .with_on("projects.start", &self, |on, call| async move {
                on.start(call).await
            })
            .with_on("projects.stop", &self, |on, call| async move {
                on.stop(call).await
            })
            .with_on("projects.touch", &self, |on, call| async move {
                on.touch(call).await
            })
            .with_on("projects.state", &self, |on, call| async move {
                on.state(call).await
            })
            .with_on("projects.status", &self, |on, call| async move {
                on.status(call).await
            })
            .with_on("projects.setQuotas", &self, |on, call| async move {
                on.set_quotas(call).await
            })
            .with_on("projects.deleteProject", &self, |on, call| async move {
                on.delete(call).await
            })
            .with_on(
                "projects.copyPathBetweenProjects",
                &self,
                |on, call| async move { on.copy(call).await },
            )
    }

    async fn start(&self, mut call: Call) -> Result<Json, Error> {
        let Project { project_id } = call.argument(0)?;
        self.existing(project_id).await?;
        self.control.start(project_id).await?;
        Ok(Json::Null)
    }

    async fn stop(&self, mut call: Call) -> Result<Json, Error> {
        let Project { project_id } = call.argument(0)?;
        self.control.stop(project_id).await?;
        Ok(Json::Null)
    }

    async fn touch(&self, mut call: Call) -> Result<Json, Error> {
        let Project { project_id } = call.argument(0)?;
        let account = caller(&call)?;
        self.existing(project_id).await?;
        self.control.touch(project_id, Some(account), true).await?;
        Ok(Json::Null)
    }

    async fn state(&self, mut call: Call) -> Result<Json, Error> {
        let Project { project_id } = call.argument(0)?;
        Ok(self.control.state(project_id).await?.to_json())
    }

    async fn status(&self, mut call: Call) -> Result<Json, Error> {
        let Project { project_id } = call.argument(0)?;
        Ok(json!(self.control.status(project_id).await?))
    }

    /// What was given up does not run any more, also for those who were in it.
    async fn existing(&self, id: ProjectId) -> Result<(), Error> {
        let mut on = self.store.read().await?;
        let found = projects::by_id(&mut on, id).await?;
        if found.is_some_and(|project| !project.deleted) {
            return Ok(());
        }
        Err(control::Error::Missing(id).into())
    }

    /// What is set stays even where nothing runs projects, for when something does.
    async fn set_quotas(&self, mut call: Call) -> Result<Json, Error> {
        let wanted: Quotas = call.argument(0)?;
        let id = wanted.project_id;
        for (name, value) in &wanted.quotas {
            if value.as_f64().is_some_and(|number| number < 0.0) {
                let place = format!("args[0].{name}");
                return Err(Error::argument(place, "must not be negative"));
            }
        }
        let mut on = self.store.write().await?;
        // Two who set something at the same time both do.
        projects::members_locked(&mut on, id).await?;
        let project = projects::by_id(&mut on, id).await?;
        let project = project.ok_or(control::Error::Missing(id))?;
        let mut settings: Map<String, Json> =
            project.settings.as_object().cloned().unwrap_or_default();
        settings.extend(wanted.quotas);
        let update = Update {
            settings: Some(Json::Object(settings)),
            ..Update::default()
        };
        projects::update(&mut on, id, update).await?;
        on.commit().await?;
        match self.control.set_all_quotas(id).await {
            Ok(()) | Err(control::Error::NotConfigured) => Ok(Json::Null),
            Err(error) => Err(error.into()),
        }
    }

    /// It is marked first, so that nobody starts it any more, and stopped then. Its licences are free for others.
    async fn delete(&self, mut call: Call) -> Result<Json, Error> {
        let Project { project_id } = call.argument(0)?;
        let account = caller(&call)?;
        let mut on = self.store.write().await?;
        if !projects::give_up(&mut on, project_id).await? {
            return Err(control::Error::Missing(project_id).into());
        }
        let event = json!({"event": "delete_project"});
        project_log::insert(&mut on, project_id, account, event).await?;
        on.commit().await?;
        match self.control.stop(project_id).await {
            Ok(_) | Err(control::Error::NotConfigured) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %project_id, "a deleted project was not stopped");
            }
        }
        Ok(Json::Null)
    }

    async fn copy(&self, mut call: Call) -> Result<Json, Error> {
        let wanted: Copy = call.argument(0)?;
        let path = checked("args[0].src_path", &wanted.src_path)?;
        let target_path = match &wanted.target_path {
            Some(target) => checked("args[0].target_path", target)?,
            None => path.clone(),
        };
        for pattern in &wanted.exclude {
            if pattern.is_empty() || pattern.chars().any(char::is_control) {
                return Err(Error::argument(
                    "args[0].exclude",
                    "must be patterns without control characters",
                ));
            }
        }
        let target_project_id = wanted.target_project_id.unwrap_or(wanted.src_project_id);
        self.existing(wanted.src_project_id).await?;
        self.existing(target_project_id).await?;
        let delay = Duration::from_millis(wanted.debug_delay_ms).min(DELAY_MAX);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let copy = CopyPath {
            project_id: wanted.src_project_id,
            path: path.into_string(),
            target_project_id,
            target_path: target_path.into_string(),
            overwrite_newer: wanted.overwrite_newer,
            delete_missing: wanted.delete_missing,
            backup: wanted.backup,
            timeout: wanted.timeout.map(Duration::from_secs),
            bwlimit: wanted.bwlimit,
            exclude: wanted.exclude,
            wait: true,
            scheduled: None,
        };
        Ok(match self.control.copy_path(copy).await? {
            Copied::Done => Json::Null,
            Copied::Queued(id) => json!(id),
        })
    }
}

fn checked(place: &str, path: &str) -> Result<RelativePath, Error> {
    RelativePath::new(path)
        .map_err(|invalid: path::Invalid| Error::argument(place, invalid).reason("PATH"))
}

impl From<path::Invalid> for Error {
    fn from(invalid: path::Invalid) -> Self {
        Self::new(Code::InvalidArgument, invalid.to_string())
    }
}
