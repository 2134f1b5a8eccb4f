//! Who waits for news of which project, and the watch over all pods that tells them.

use std::collections::HashMap;
use std::time::Duration;

use dialtone_hub::id::ProjectId;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::Config;
use crate::manifest;

/// See the module. News tell only that there is something to be looked at.
#[derive(Debug, Default)]
pub(super) struct Board {
    waiting: Mutex<HashMap<ProjectId, watch::Sender<u64>>>,
}

/// News of one project from now on.
#[derive(Debug)]
pub(super) struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Waits for the next news, or as long as one may go without.
    pub(super) async fn wait(&mut self, limit: Duration) {
        // Nothing is lost if it is late: whoever waits looks again.
        drop(tokio::time::timeout(limit, self.0.changed()).await);
    }
}

impl Board {
    pub(super) fn watch(&self, id: ProjectId) -> Changes {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        let sender = waiting.entry(id).or_insert_with(|| watch::Sender::new(0));
        Changes(sender.subscribe())
    }

    /// Follows the pods of the site for ever. A watch that breaks off goes on where it was; one that is too old begins
    /// anew with a list.
    pub(super) async fn follow(&self, pods: Api<Pod>, config: &Config) {
        let mine = watcher::Config::default().labels(&manifest::selector_of_all(config));
        let mut events = std::pin::pin!(watcher(pods, mine).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod) | Event::Delete(pod)) => self.tell(&pod),
                Ok(Event::Init | Event::InitApply(_)) => {}
                // What has happened before the list is not known one by one.
                Ok(Event::InitDone) => self.tell_all(),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "pods are not watched; trying again"
                ),
            }
        }
    }

    fn tell(&self, pod: &Pod) {
        let labels = pod.metadata.labels.as_ref();
        let project = labels.and_then(|labels| labels.get(manifest::PROJECT));
        let id: Option<ProjectId> = project.and_then(|project| project.parse().ok());
        if let Some(id) = id
            && let Some(sender) = self.waiting.lock().get(&id)
        {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    #[expect(
        clippy::iter_over_hash_type,
        reason = "all of them are told, in whatever order"
    )]
    fn tell_all(&self) {
        for sender in self.waiting.lock().values() {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}
