//! Copying between homes, by a job that somebody carries out.

use std::collections::BTreeSet;

use dialtone_control::runner::CopyUsers;
use dialtone_hub::control::CopyPath;
use dialtone_hub::id::ProjectId;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::node::until;
use crate::site::{Site, spec};

const NOBODY: CopyUsers = CopyUsers {
    source: None,
    target: None,
};

fn copy(from: ProjectId, to: ProjectId) -> CopyPath {
    CopyPath {
        project_id: from,
        path: "a".to_owned(),
        target_project_id: to,
        target_path: "b".to_owned(),
        overwrite_newer: false,
        delete_missing: false,
        backup: false,
        timeout: None,
        bwlimit: None,
        exclude: Vec::new(),
        wait: true,
        scheduled: None,
    }
}

/// Ends the next job that was not seen before, as the cluster's controller would.
async fn carry_out(jobs: &Api<Job>, seen: &Mutex<BTreeSet<String>>, how: &str) -> Json {
    let next = async || {
        let all = jobs.list(&ListParams::default()).await.unwrap().items;
        let names = all.into_iter().filter_map(|job| job.metadata.name);
        names.into_iter().find(|name| !seen.lock().contains(name))
    };
    until("there is a job", async || next().await.is_some()).await;
    let name = next().await.unwrap();
    seen.lock().insert(name.clone());
    let now = "2026-01-01T00:00:00Z";
    let mut status = json!({
        "startTime": now,
        "conditions": [{"type": how, "status": "True", "lastTransitionTime": now}],
    });
    if how == "Complete" {
        status["succeeded"] = json!(1);
        status["completionTime"] = json!(now);
    }
    let patch = Patch::Merge(json!({"status": status}));
    let params = PatchParams::default();
    let told = jobs.patch_status(&name, &params, &patch);
    serde_json::to_value(told.await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_by_a_job() {
    let Some(site) = Site::new().await else {
        return;
    };
    let hub = site.hub().await;
    let (from, to) = (ProjectId::random(), ProjectId::random());
    let copy = copy(from, to);
    let said = hub.copy(&copy, NOBODY).await.unwrap_err();
    assert!(said.contains("no files"), "{said}");
    drop(hub.prepare(&spec(from)).await.unwrap());
    let jobs: Api<Job> = Api::namespaced(site.node.client(), &site.namespace);
    let seen = Mutex::default();
    let (done, job) = tokio::join!(hub.copy(&copy, NOBODY), carry_out(&jobs, &seen, "Complete"));
    done.unwrap();
    let volumes = &job["spec"]["template"]["spec"]["volumes"];
    let claim = |index: usize| volumes[index]["persistentVolumeClaim"]["claimName"].clone();
    assert_eq!(claim(0), format!("home-{from}"));
    assert_eq!(claim(1), format!("home-{to}"));
    let (done, _) = tokio::join!(hub.copy(&copy, NOBODY), carry_out(&jobs, &seen, "Failed"));
    let said = done.unwrap_err();
    assert!(said.contains("not copied"), "{said}");
}
