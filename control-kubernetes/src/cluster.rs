//! Running projects in a cluster: the runner.

mod board;
mod calls;
mod copies;

use std::sync::Arc;
use std::time::Duration;

use dialtone_control::machine::Observed;
use dialtone_control::run::{Reached, Run};
use dialtone_control::runner::{Answer, CopyUsers, Gate, Runner, Spec};
use dialtone_hub::control::CopyPath;
use dialtone_hub::id::ProjectId;
use dialtone_hub::time::Time;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::board::Board;
use crate::config::{Config, Wrong};
use crate::manifest::{self, RAW_PORT};
use crate::view::{self, View};

/// The name under which the proxy knows the port of raw files.
const RAW: &str = "browser-server";

/// How often it is looked at what changes soon, and at what stays, besides being told by the cluster.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_SELDOM: Duration = Duration::from_mins(1);

/// Why projects cannot be run in a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The configuration makes no sense.
    #[error("configuration of Kubernetes")]
    Config(#[from] Wrong),
    /// There are no credentials, neither of a pod nor in a file.
    #[error(
        "no credentials for a cluster: neither is this a pod with a service account, nor does KUBECONFIG name one"
    )]
    Credentials(#[source] Box<kube::config::InferConfigError>),
    /// No client can be made of the credentials.
    #[error("the credentials for the cluster cannot be used")]
    Client(#[source] Box<kube::Error>),
    /// The cluster does not answer, or does not let us look at pods.
    #[error("pods of namespace {namespace} cannot be listed")]
    Cluster {
        /// Where.
        namespace: String,
        /// What the cluster says.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Runs projects as pods.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    /// As which machine it is written down: the cluster, whichever hub asks.
    host: String,
    pods: Api<Pod>,
    secrets: Api<Secret>,
    claims: Api<PersistentVolumeClaim>,
    jobs: Api<Job>,
    board: Board,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// With the credentials of the pod in which this runs, or those that `KUBECONFIG` names. What follows the cluster runs
    /// on `tasks` until `stop`.
    ///
    /// # Errors
    /// With what has to be changed.
    pub async fn open(
        config: Config,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Unusable> {
        let credentials = kube::Config::infer().await;
        let credentials = credentials.map_err(|error| Unusable::Credentials(Box::new(error)))?;
        let client = Client::try_from(credentials);
        let client = client.map_err(|error| Unusable::Client(Box::new(error)))?;
        Self::with_client(config, client, tasks, stop).await
    }

    /// With a client of the cluster.
    ///
    /// # Errors
    /// With what has to be changed.
    pub async fn with_client(
        config: Config,
        client: Client,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, Unusable> {
        config.check()?;
        let namespace = config.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let shared = Arc::new(Shared {
            host: format!("kubernetes/{namespace}"),
            pods: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client.clone(), &namespace),
            claims: Api::namespaced(client.clone(), &namespace),
            jobs: Api::namespaced(client, &namespace),
            board: Board::default(),
            config,
        });
        let listed = shared
            .pods
            .list(&kube::api::ListParams::default().limit(1))
            .await;
        listed.map_err(|source| Unusable::Cluster {
            namespace,
            source: Box::new(source),
        })?;
        let following = Arc::clone(&shared);
        drop(tasks.spawn(async move {
            tokio::select! {
                () = following.board.follow(following.pods.clone(), &following.config) => {}
                () = stop.cancelled() => {}
            }
        }));
        tracing::info!(host = shared.host, "projects are pods");
        Ok(Self { shared })
    }

    /// As which machine its projects are written down. Every hub of a site says the same, so that each goes on with what
    /// another one has begun.
    pub fn host(&self) -> &str {
        &self.shared.host
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }
}

impl Runner for Kubernetes {
    fn observe<'a>(
        &'a self,
        id: ProjectId,
        _uid: Option<u32>,
        run: Option<&'a Run>,
    ) -> Answer<'a, Observed> {
        Box::pin(async move {
            let pods = self.shared.views(id).await?;
            Ok(view::observed(&pods, run.map(|run| run.id)))
        })
    }

    fn prepare<'a>(&'a self, spec: &'a Spec) -> Answer<'a, Box<dyn Gate>> {
        Box::pin(async move {
            let shared = &self.shared;
            shared
                .ensure_claim(spec.project_id, spec.quota.disk_quota)
                .await?;
            let secret_uid = shared.make_secret(spec).await?;
            let run = Run {
                id: spec.run_id,
                order: spec.order,
                host: shared.host.clone(),
                started: Time::now(),
                place: json!({"pod": manifest::pod_name(spec.project_id)}),
            };
            Ok(Box::new(Waiting {
                shared: Arc::clone(shared),
                spec: spec.clone(),
                secret_uid,
                run,
            }) as Box<dyn Gate>)
        })
    }

    fn reached<'a>(&'a self, id: ProjectId, run: &'a Run) -> Answer<'a, Reached> {
        Box::pin(async move {
            let mut changes = self.shared.board.watch(id);
            loop {
                let pods = self.shared.views(id).await?;
                let ours = pods
                    .iter()
                    .find(|pod| pod.run_id == Some(run.id) && pod.ready);
                if let Some(ip) = ours.and_then(|pod| pod.ip) {
                    return Ok(Reached {
                        ip,
                        ports: [(RAW.to_owned(), RAW_PORT)].into(),
                        pid: None,
                    });
                }
                changes.wait(LOOK).await;
            }
        })
    }

    fn exited<'a>(&'a self, id: ProjectId, run: &'a Run) -> Answer<'a, String> {
        Box::pin(async move {
            let mut changes = self.shared.board.watch(id);
            loop {
                let pods = self.shared.views(id).await?;
                match pods.into_iter().find(|pod| pod.run_id == Some(run.id)) {
                    None => return Ok("its pod is gone".to_owned()),
                    Some(View {
                        over: true, reason, ..
                    }) => return Ok(reason.unwrap_or_else(|| "it ended by itself".to_owned())),
                    Some(_lives) => {}
                }
                changes.wait(LOOK_SELDOM).await;
            }
        })
    }

    fn end<'a>(
        &'a self,
        id: ProjectId,
        _uid: Option<u32>,
        _run: Option<&'a Run>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut changes = self.shared.board.watch(id);
            // First what pods need to start: one that another hub makes meanwhile does not.
            self.shared.delete_secrets(id).await?;
            loop {
                // Never with force: a pod on a node that does not answer may still run.
                if self.shared.delete_pods(id).await? == 0 {
                    return Ok(());
                }
                changes.wait(LOOK).await;
            }
        })
    }

    fn copy<'a>(&'a self, copy: &'a CopyPath, _users: CopyUsers) -> Answer<'a, ()> {
        Box::pin(self.shared.copy(copy))
    }
}

/// A project whose pod was not made yet. Dropped, it never is.
#[derive(Debug)]
struct Waiting {
    shared: Arc<Shared>,
    spec: Spec,
    secret_uid: String,
    run: Run,
}

impl Gate for Waiting {
    fn run(&self) -> &Run {
        &self.run
    }

    fn open(self: Box<Self>, secret: String) -> Answer<'static, ()> {
        Box::pin(async move {
            // Fails if another hub has ended the project meanwhile, which deletes it.
            self.shared.fill_secret(self.spec.run_id, &secret).await?;
            self.shared.make_pod(&self.spec, &self.secret_uid).await
        })
    }
}
