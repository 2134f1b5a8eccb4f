//! What is asked of the cluster. Each call is bounded, and its errors are reasons for users: without secrets.

use std::future::Future;
use std::time::Duration;

use dialtone_control::runner::Spec;
use dialtone_hub::id::ProjectId;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::Shared;
use crate::manifest::{self, TOKEN};
use crate::view::View;

/// How long the cluster may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

impl Shared {
    /// The pods of a project as they are, not as they were: the cluster's own answer.
    pub(super) async fn views(&self, id: ProjectId) -> Result<Vec<View>, String> {
        let pods = self.pods_of(id).await?;
        let views = pods.iter().map(|pod| Ok(View::new(&as_json(pod)?)));
        views.collect()
    }

    async fn pods_of(&self, id: ProjectId) -> Result<Vec<Pod>, String> {
        let selector = manifest::selector(&self.config, id);
        let list = ListParams::default().labels(&selector);
        let listed = within("its pod cannot be seen", self.pods.list(&list)).await?;
        Ok(listed.items)
    }

    /// The claim of a home, made if need be, and grown if the quota has.
    pub(super) async fn ensure_claim(&self, id: ProjectId, disk_quota: u64) -> Result<(), String> {
        let (name, wanted) = (
            manifest::claim_name(id),
            manifest::claim(&self.config, id, disk_quota),
        );
        let what = "the claim of its home";
        let there = within(what, self.claims.get_opt(&name)).await?;
        let Some(there) = there else {
            let claim = from_json(wanted)?;
            let params = PostParams::default();
            let made = self.claims.create(&params, &claim);
            return match within_status(what, made).await? {
                // Somebody else was quicker.
                Ok(_) | Err(Refusal::There) => Ok(()),
                Err(refusal) => Err(refusal.text(what)),
            };
        };
        let storage = &wanted["spec"]["resources"]["requests"]["storage"];
        let now = &as_json(&there)?["spec"]["resources"]["requests"]["storage"];
        if bytes(now) >= bytes(storage) {
            // Nothing makes a volume smaller.
            return Ok(());
        }
        let patch = json!({"spec": {"resources": {"requests": {"storage": storage}}}});
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        let grown = self.claims.patch(&name, &params, &patch);
        if let Err(refusal) = within_status(what, grown).await? {
            // Many storage classes cannot; the project runs with the space that it has.
            tracing::warn!(
                project = %id,
                reason = refusal.text(what),
                "a home cannot be made larger"
            );
        }
        Ok(())
    }

    /// Makes the secret of something that is to be started; its identity in the cluster.
    pub(super) async fn make_secret(&self, spec: &Spec) -> Result<String, String> {
        let secret = from_json(manifest::secret(&self.config, spec))?;
        let params = PostParams::default();
        let made = self.secrets.create(&params, &secret);
        let made = within("its secret", made).await?;
        made.metadata
            .uid
            .ok_or_else(|| "its secret: the cluster gave it no identity".to_owned())
    }

    /// Puts the token into a secret that is there.
    pub(super) async fn fill_secret(&self, run_id: Uuid, token: &str) -> Result<(), String> {
        let name = manifest::secret_name(run_id);
        let patch = Patch::Merge(json!({"stringData": {TOKEN: token}}));
        let params = PatchParams::default();
        let filled = self.secrets.patch(&name, &params, &patch);
        within("its secret", filled).await.map(drop)
    }

    pub(super) async fn make_pod(&self, spec: &Spec, secret_uid: &str) -> Result<(), String> {
        let pod = from_json(manifest::pod(&self.config, spec, secret_uid))?;
        let what = "its pod";
        let params = PostParams::default();
        let made = self.pods.create(&params, &pod);
        match within_status(what, made).await? {
            Ok(_) => Ok(()),
            Err(Refusal::There) => Err("another pod of the project is there".to_owned()),
            Err(refusal) => Err(refusal.text(what)),
        }
    }

    pub(super) async fn delete_secrets(&self, id: ProjectId) -> Result<(), String> {
        let list = ListParams::default().labels(&manifest::selector(&self.config, id));
        let params = DeleteParams::default();
        let deleted = self.secrets.delete_collection(&params, &list);
        within("its secret cannot be deleted", deleted)
            .await
            .map(drop)
    }

    /// Tells the pods of a project to end; how many there are still.
    pub(super) async fn delete_pods(&self, id: ProjectId) -> Result<usize, String> {
        let pods = self.pods_of(id).await?;
        for pod in &pods {
            if pod.metadata.deletion_timestamp.is_none() {
                self.delete_pod(pod).await?;
            }
        }
        Ok(pods.len())
    }

    /// This pod, and none that has got its name since.
    pub(super) async fn delete_pod(&self, pod: &Pod) -> Result<(), String> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: None,
                uid: pod.metadata.uid.clone(),
            }),
            ..DeleteParams::default()
        };
        let what = "its pod cannot be deleted";
        match within_status(what, self.pods.delete(&name, &params)).await? {
            Ok(_) | Err(Refusal::Missing | Refusal::There) => Ok(()),
            Err(refusal) => Err(refusal.text(what)),
        }
    }
}

/// What the cluster said no to.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is none.
    Missing,
    /// There is one already, or it is another one than was meant.
    There,
    /// Anything else, in words.
    Other(String),
}

impl Refusal {
    pub(super) fn text(self, what: &str) -> String {
        match self {
            Self::Missing => format!("{what}: it is not there"),
            Self::There => format!("{what}: it is there already"),
            Self::Other(text) => format!("{what}: {text}"),
        }
    }
}

/// An answer of the cluster in time.
pub(super) async fn within<T>(
    what: &str,
    asked: impl Future<Output = kube::Result<T>>,
) -> Result<T, String> {
    let answer = within_status(what, asked).await?;
    answer.map_err(|refusal| refusal.text(what))
}

/// As [`within`], with refusals told apart.
///
/// # Errors
/// When there is no answer.
pub(super) async fn within_status<T>(
    what: &str,
    asked: impl Future<Output = kube::Result<T>>,
) -> Result<Result<T, Refusal>, String> {
    let answer = tokio::time::timeout(ANSWER_MAX, asked).await;
    match answer {
        Err(_elapsed) => Err(format!(
            "{what}: the cluster did not answer within {} s",
            ANSWER_MAX.as_secs()
        )),
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(kube::Error::Api(status))) => Ok(Err(match status.code {
            404 => Refusal::Missing,
            409 => Refusal::There,
            _ => Refusal::Other(status.message.clone()),
        })),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
    }
}

/// An object as the client takes it.
pub(super) fn from_json<T: DeserializeOwned>(json: Json) -> Result<T, String> {
    serde_json::from_value(json).map_err(|error| format!("what the cluster is to get: {error}"))
}

pub(super) fn as_json<T: serde::Serialize>(object: &T) -> Result<Json, String> {
    serde_json::to_value(object).map_err(|error| format!("what the cluster said: {error}"))
}

/// A quantity of space in bytes, in the units in which it is asked for here or usually written by people; 0 for others,
/// for which it is then asked.
fn bytes(quantity: &Json) -> u64 {
    const UNITS: [(&str, u32, u64); 8] = [
        ("Ki", 1, 1024),
        ("Mi", 2, 1024),
        ("Gi", 3, 1024),
        ("Ti", 4, 1024),
        ("k", 1, 1000),
        ("M", 2, 1000),
        ("G", 3, 1000),
        ("T", 4, 1000),
    ];
    let text = quantity.as_str().unwrap_or_default();
    let found = UNITS
        .iter()
        .find_map(|(unit, power, base)| Some((text.strip_suffix(unit)?, base.pow(*power))));
    let (number, unit) = found.unwrap_or((text, 1));
    number.parse::<u64>().unwrap_or(0).saturating_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_by_what_they_mean() {
        let of = |text: &str| bytes(&json!(text));
        assert_eq!((of("3000M"), of("3G")), (3_000_000_000, 3_000_000_000));
        assert!(of("3Gi") > of("3000M") && of("2Gi") < of("3000M"));
        assert_eq!((of("17"), of("x")), (17, 0));
    }
}
