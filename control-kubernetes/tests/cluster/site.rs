//! A namespace of its own for each test, and hubs that run projects in it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use dialtone_control::quota::Quota;
use dialtone_control::run::Run;
use dialtone_control::runner::{Runner, Spec};
use dialtone_control_kubernetes::{Config, Kubernetes};
use dialtone_hub::id::ProjectId;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::node::Node;

/// The file with the address and the credentials of a cluster in which everything may be done.
const CONFIG: &str = "DIALTONE_TEST_KUBERNETES";

/// See the module.
pub(crate) struct Site {
    client: Client,
    pub(crate) namespace: String,
    pub(crate) node: Node,
    stop: CancellationToken,
}

impl Site {
    /// `None` where there is no cluster.
    pub(crate) async fn new() -> Option<Self> {
        let Ok(file) = std::env::var(CONFIG) else {
            let mut out = std::io::stderr();
            writeln!(
                out,
                "NOT TESTED: there is no cluster; `./test kubernetes` starts one and sets {CONFIG}"
            )
            .unwrap();
            return None;
        };
        let file = Kubeconfig::read_from(file).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        let namespace = format!("test-{}", Uuid::new_v4());
        let made = json!({"metadata": {"name": namespace}});
        let made: Namespace = serde_json::from_value(made).unwrap();
        let all: Api<Namespace> = Api::all(client.clone());
        all.create(&PostParams::default(), &made).await.unwrap();
        Some(Self {
            node: Node::start(client.clone(), &namespace),
            client,
            namespace,
            stop: CancellationToken::new(),
        })
    }

    /// One more hub of the site.
    pub(crate) async fn hub(&self) -> Arc<dyn Runner> {
        let mut config = Config::new("registry.example/project:1", "ws://broker:4480");
        config.namespace = Some(self.namespace.clone());
        let client = self.client.clone();
        let opened =
            Kubernetes::with_client(config, client, &TaskTracker::new(), self.stop.clone()).await;
        Arc::new(opened.unwrap())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn spec(id: ProjectId) -> Spec {
    Spec {
        project_id: id,
        order: 1,
        run_id: Uuid::new_v4(),
        quota: Quota::default(),
        env: BTreeMap::new(),
        image: None,
        uid: None,
    }
}

/// Starts a project.
pub(crate) async fn start(hub: &dyn Runner, id: ProjectId) -> Run {
    let gate = hub.prepare(&spec(id)).await.unwrap();
    let run = gate.run().clone();
    gate.open("the token".to_owned()).await.unwrap();
    run
}
