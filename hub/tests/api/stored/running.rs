//! Running projects by calls: what project control is asked for, and what is refused before it is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dialtone_hub::api::Code;
use dialtone_hub::control::CopyPath;
use dialtone_hub::store::pool;
use serde_json::json;

use super::control::Asked;
use super::{Site, on_both};

on_both! {
    members_start_and_stop_a_project,
    a_project_is_made_with_what_was_said,
    a_new_project_comes_from_the_pool,
    a_deleted_project_is_stopped_and_not_started_again,
    quotas_are_set_one_by_one,
    paths_are_contained_before_anything_is_copied,
    without_control_nothing_runs,
}

async fn members_start_and_stop_a_project(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = site.project(ada).await;
    let one = json!({"project_id": id});
    let state = async || site.call(ada, "projects.state", one.clone()).await.unwrap();
    assert_eq!(state().await, json!({"state": "opened", "time": 7}));
    site.call(ada, "projects.start", one.clone()).await.unwrap();
    assert_eq!(state().await["state"], "running");
    let status = site.call(ada, "projects.status", one.clone()).await;
    assert_eq!(status.unwrap(), json!({"ports": {"http": 8080}}));
    site.call(ada, "projects.touch", one.clone()).await.unwrap();
    site.call(ada, "projects.stop", one.clone()).await.unwrap();
    assert_eq!(state().await["state"], "opened");
    let expected = [
        Asked::Start(id),
        Asked::Touch(id, Some(ada), true),
        Asked::Stop(id),
    ];
    assert_eq!(site.control.take(), expected);
    for name in ["start", "stop", "touch", "state", "status"] {
        let name = format!("projects.{name}");
        let refused = site.call(bob, &name, one.clone()).await.unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied, "{name}");
    }
    assert_eq!(site.control.take(), []);
    site.control.broken.store(true, Ordering::SeqCst);
    let failed = site.call(ada, "projects.start", one).await.unwrap_err();
    assert_eq!(failed.reason, Some("PROJECT_FAILED"));
    assert!(failed.text.contains("no machine has room"), "{failed}");
}

async fn a_project_is_made_with_what_was_said(site: Site) {
    let ada = site.account("ada", &[]).await;
    let options = json!({
        "title": "Course", "start": true, "ephemeral": 3_600_000,
        "customize": {"disableInternet": true}, "license": "not-a-licence,",
    });
    let id = site
        .call(ada, "projects.createProject", options)
        .await
        .unwrap();
    let id = serde_json::from_value(id).unwrap();
    assert_eq!(site.control.take(), [Asked::Touch(id, Some(ada), true)]);
    let read = json!({"projects": {"project_id": id, "ephemeral": null, "settings": null}});
    let found = site.query(ada, read).await.unwrap();
    assert_eq!(found["projects"]["ephemeral"], 3_600_000);
    assert_eq!(
        found["projects"]["settings"],
        json!({"disableInternet": true})
    );
    let unknown = json!({"license": dialtone_hub::id::ProjectId::random()});
    let refused = site
        .call(ada, "projects.createProject", unknown)
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    site.set("disable_project_creation", "yes").await;
    let refused = site
        .call(ada, "projects.createProject", json!({}))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
}

async fn a_new_project_comes_from_the_pool(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let waiting = async || {
        let mut on = site.store.write().await.unwrap();
        let id = pool::add(&mut on).await.unwrap();
        on.commit().await.unwrap();
        json!(id)
    };
    let create = async |by, options| {
        let made = site.call(by, "projects.createProject", options).await;
        made.unwrap()
    };
    let pooled = waiting().await;
    // A site without a pool has no use for what is left of one.
    assert_ne!(create(ada, json!({"title": "Own"})).await, pooled);
    site.set("new_project_pool", "1").await;
    for options in [
        json!({"noPool": true}),
        json!({"image": "other"}),
        json!({"ephemeral": 3_600_000}),
        json!({"customize": {"disableInternet": true}}),
    ] {
        assert_ne!(create(ada, options.clone()).await, pooled, "{options}");
    }
    let options = json!({"title": "Notes", "description": "Mine", "start": true});
    assert_eq!(create(ada, options).await, pooled);
    let id = serde_json::from_value(pooled.clone()).unwrap();
    assert_eq!(site.control.take(), [Asked::Touch(id, Some(ada), true)]);
    let read = json!({"projects": {"project_id": pooled, "title": null, "description": null}});
    let found = site.query(ada, read.clone()).await.unwrap();
    assert_eq!(found["projects"]["title"], "Notes");
    assert_eq!(found["projects"]["description"], "Mine");
    assert!(site.query(bob, read).await.is_err());
    // It is given to nobody else.
    assert_ne!(create(bob, json!({})).await, pooled);
}

async fn a_deleted_project_is_stopped_and_not_started_again(site: Site) {
    let (ada, admin) = (
        site.account("ada", &[]).await,
        site.account("root", &["admin"]).await,
    );
    let (own, other) = (site.project(ada).await, site.project(ada).await);
    site.control.broken.store(true, Ordering::SeqCst);
    site.call(ada, "projects.deleteProject", json!({"project_id": own}))
        .await
        .unwrap();
    site.call(
        admin,
        "projects.deleteProject",
        json!({"project_id": other}),
    )
    .await
    .unwrap();
    assert_eq!(site.control.take(), [Asked::Stop(own), Asked::Stop(other)]);
    for name in ["projects.start", "projects.touch", "projects.deleteProject"] {
        let refused = site.call(ada, name, json!({"project_id": own})).await;
        assert_eq!(refused.unwrap_err().code, Code::NotFound, "{name}");
    }
    assert_eq!(site.control.take(), []);
    let read = json!({"projects": [{"project_id": null, "deleted": true}]});
    let read = site.query(ada, read).await.unwrap();
    assert_eq!(read["projects"].as_array().unwrap().len(), 2);
}

async fn quotas_are_set_one_by_one(site: Site) {
    let (ada, admin) = (
        site.account("ada", &[]).await,
        site.account("root", &["admin"]).await,
    );
    let id = site.project(ada).await;
    let set =
        async |by, quotas: serde_json::Value| site.call(by, "projects.setQuotas", quotas).await;
    set(
        admin,
        json!({"project_id": id, "memory": 2_000, "cores": 2}),
    )
    .await
    .unwrap();
    set(admin, json!({"project_id": id, "cores": 1.5}))
        .await
        .unwrap();
    assert_eq!(site.control.take(), [Asked::Quotas(id), Asked::Quotas(id)]);
    let read = json!({"projects": {"project_id": id, "settings": null}});
    let settings = &site.query(ada, read).await.unwrap()["projects"]["settings"];
    assert_eq!(*settings, json!({"memory": 2_000, "cores": 1.5}));
    let refused = set(ada, json!({"project_id": id, "memory": 64_000})).await;
    assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
    let wrong = set(admin, json!({"project_id": id, "memory": -1}))
        .await
        .unwrap_err();
    assert_eq!(wrong.text, "args[0].memory: must not be negative");
    let nothing = json!({"project_id": dialtone_hub::id::ProjectId::random()});
    assert_eq!(set(admin, nothing).await.unwrap_err().code, Code::NotFound);
}

/// Rule 4: paths are contained component by component, and one that leads out reaches no project.
async fn paths_are_contained_before_anything_is_copied(site: Site) {
    let ada = site.account("ada", &[]).await;
    let (from, to) = (site.project(ada).await, site.project(ada).await);
    let copy = async |path: &str, target: Option<&str>| {
        let options = json!({
            "src_project_id": from, "src_path": path,
            "target_project_id": to, "target_path": target, "timeout": 30,
        });
        site.call(ada, "projects.copyPathBetweenProjects", options)
            .await
    };
    copy("./notes//a.txt", None).await.unwrap();
    let asked = CopyPath {
        project_id: from,
        path: "notes/a.txt".to_owned(),
        target_project_id: to,
        target_path: "notes/a.txt".to_owned(),
        overwrite_newer: false,
        delete_missing: false,
        backup: false,
        timeout: Some(Duration::from_secs(30)),
        bwlimit: None,
        exclude: Vec::new(),
        wait: true,
        scheduled: None,
    };
    assert_eq!(site.control.take(), [Asked::Copy(asked)]);
    let sibling = format!("../{from}-evil/x");
    for wrong in [
        "..",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a\nb",
        sibling.as_str(),
    ] {
        for refused in [copy(wrong, None).await, copy("a", Some(wrong)).await] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code, Code::InvalidArgument, "{wrong:?}");
        }
    }
    assert_eq!(site.control.take(), []);
}

async fn without_control_nothing_runs(site: Site) {
    let bare = site.without_extras().await;
    let ada = bare.account("ada", &[]).await;
    let id = bare.project(ada).await;
    for name in ["start", "stop", "state", "deleteProject"] {
        let name = format!("projects.{name}");
        let refused = bare.call(ada, &name, json!({"project_id": id})).await;
        assert_eq!(refused.unwrap_err().code, Code::NotConfigured, "{name}");
    }
    let start = json!({"start": true});
    let refused = bare.call(ada, "projects.createProject", start).await;
    assert_eq!(refused.unwrap_err().code, Code::NotConfigured);
}
