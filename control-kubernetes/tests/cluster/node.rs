//! A node: binds pods to itself, says that they run and answer, and lets go of those that are deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

/// Where all its pods are reached.
pub(crate) const IP: &str = "10.9.8.7";

/// What it does not do.
#[derive(Debug, Default)]
pub(crate) struct Moods {
    /// It does not say that pods answer.
    pub(crate) mute: bool,
    /// Pods that are deleted stay.
    pub(crate) holds: bool,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Node {
    pods: Api<Pod>,
    client: Client,
    namespace: String,
    pub(crate) moods: Arc<Mutex<Moods>>,
    bound: Arc<Mutex<BTreeSet<String>>>,
}

impl Node {
    pub(crate) fn start(client: Client, namespace: &str) -> Self {
        let node = Self {
            pods: Api::namespaced(client.clone(), namespace),
            client,
            namespace: namespace.to_owned(),
            moods: Arc::default(),
            bound: Arc::default(),
        };
        tokio::spawn(node.clone().work());
        node
    }

    async fn work(self) {
        let mut events = std::pin::pin!(watcher(self.pods.clone(), watcher::Config::default()));
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event {
                self.look(&pod).await;
            }
        }
    }

    /// Looks at every pod again, after its mood has changed.
    pub(crate) async fn look_again(&self) {
        for pod in self.pods.list(&ListParams::default()).await.unwrap().items {
            self.look(&pod).await;
        }
    }

    async fn look(&self, pod: &Pod) {
        let name = pod.metadata.name.clone().unwrap();
        let uid = pod.metadata.uid.clone().unwrap();
        let (mute, holds) = {
            let moods = self.moods.lock();
            (moods.mute, moods.holds)
        };
        if pod.metadata.deletion_timestamp.is_some() {
            if !holds {
                let now = DeleteParams::default().grace_period(0);
                // It may be gone already.
                drop(self.pods.delete(&name, &now).await);
            }
            return;
        }
        if self.bound.lock().insert(uid) {
            self.bind(&name).await;
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        if phase.as_deref() == Some("Failed") {
            return;
        }
        let ready = if mute { "False" } else { "True" };
        let now = pod.status.as_ref().and_then(|status| {
            let conditions = status.conditions.as_ref()?;
            let ready = conditions.iter().find(|one| one.type_ == "Ready")?;
            Some(ready.status.clone())
        });
        if now.as_deref() != Some(ready) {
            self.tell(
                &name,
                &json!({
                    "phase": "Running", "podIP": IP, "podIPs": [{"ip": IP}],
                    "conditions": [{"type": "Ready", "status": ready}],
                }),
            )
            .await;
        }
    }

    async fn bind(&self, name: &str) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "played"},
        });
        let path = format!("/api/v1/namespaces/{}/pods/{name}/binding", self.namespace);
        let request = http_request(&path, &binding);
        // One that is deleted meanwhile cannot be bound.
        drop(self.client.request::<Json>(request).await);
    }

    /// What a kubelet says of a pod.
    pub(crate) async fn tell(&self, name: &str, status: &Json) {
        let patch = Patch::Merge(json!({"status": status}));
        drop(
            self.pods
                .patch_status(name, &PatchParams::default(), &patch)
                .await,
        );
    }

    /// The processes of a pod have ended.
    pub(crate) async fn fail(&self, name: &str, reason: &str, words: &str) {
        let status = json!({
            "phase": "Failed",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{
                "name": "project", "ready": false, "restartCount": 0, "image": "x", "imageID": "",
                "state": {"terminated": {"exitCode": 137, "reason": reason, "message": words}},
            }],
        });
        self.tell(name, &status).await;
    }

    pub(crate) async fn pods(&self) -> Vec<String> {
        let pods = self.pods.list(&ListParams::default()).await.unwrap();
        pods.items
            .into_iter()
            .map(|pod| pod.metadata.name.unwrap())
            .collect()
    }

    pub(crate) async fn pod(&self, name: &str) -> Json {
        serde_json::to_value(self.pods.get(name).await.unwrap()).unwrap()
    }

    /// Somebody removes a pod from the cluster.
    pub(crate) async fn remove(&self, name: &str) {
        self.pods
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

/// For what the client has no function.
fn http_request(path: &str, body: &Json) -> http::Request<Vec<u8>> {
    http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(body).unwrap())
        .unwrap()
}

/// Until something holds, as the cluster tells it.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = Duration::from_mins(1);
    tokio::time::timeout(limit, all).await.expect(what);
}
