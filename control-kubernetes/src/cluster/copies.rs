//! Copying between homes, by a job whose pod has both.

use std::time::Duration;

use dialtone_control::quota::Quota;
use dialtone_hub::control::CopyPath;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, PostParams};
use uuid::Uuid;

use super::Shared;
use super::calls::{Refusal, as_json, from_json, within, within_status};
use crate::manifest;
use crate::view::View;

/// How often it is looked whether a copy has ended.
const LOOK: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) async fn copy(&self, copy: &CopyPath) -> Result<(), String> {
        let source = manifest::claim_name(copy.project_id);
        let what = "the home that is copied from";
        if within(what, self.claims.get_opt(&source)).await?.is_none() {
            return Err("the project that is copied from has no files".to_owned());
        }
        // A project that was never started has no home yet.
        self.ensure_claim(copy.target_project_id, Quota::default().disk_quota)
            .await?;
        let id = Uuid::new_v4();
        let job: Job = from_json(manifest::copier(&self.config, id, copy))?;
        let params = PostParams::default();
        let made = self.jobs.create(&params, &job);
        within("the job that copies", made).await?;
        let ended = self.copied(id).await;
        let name = manifest::job_name(id);
        // The cluster removes it by itself as well, if this hub is killed before.
        let params = DeleteParams::background();
        let deleted = self.jobs.delete(&name, &params);
        match within_status("the job that copies", deleted).await? {
            Ok(_) | Err(Refusal::Missing) => ended,
            Err(refusal) => {
                tracing::debug!(
                    reason = refusal.text("a job"),
                    "a job is left to the cluster"
                );
                ended
            }
        }
    }

    /// Waits for the end of a copy. Whoever asks bounds the time, and so does the cluster.
    async fn copied(&self, id: Uuid) -> Result<(), String> {
        let name = manifest::job_name(id);
        loop {
            let job = within("the job that copies", self.jobs.get_opt(&name)).await?;
            let Some(job) = job else {
                return Err("the job that copies was deleted".to_owned());
            };
            let status = &as_json(&job)?["status"];
            let is = |wanted: &str| {
                let conditions = status["conditions"].as_array();
                let mut conditions = conditions.into_iter().flatten();
                conditions.any(|one| one["type"] == wanted && one["status"] == "True")
            };
            if is("Complete") {
                return Ok(());
            }
            if is("Failed") {
                return Err(self.why(&name).await?);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why a copy has failed, as its pod says.
    async fn why(&self, job: &str) -> Result<String, String> {
        let list = ListParams::default().labels(&format!("job-name={job}"));
        let pods = within("the pod that copies", self.pods.list(&list)).await?;
        let mut reasons = Vec::new();
        for pod in &pods.items {
            reasons.extend(View::new(&as_json(pod)?).reason);
        }
        let reason = reasons.pop();
        Ok(match reason {
            Some(reason) => format!("files were not copied: {reason}"),
            None => "files were not copied in time".to_owned(),
        })
    }
}
