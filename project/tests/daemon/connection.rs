//! The connection to the broker comes and goes; what the project does goes on.

use std::sync::Arc;

use dialtone_project::remote::Remote;
use dialtone_project::subjects::Place;
use dialtone_project::{Config, Project};
use dialtone_testkit::World;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_terminals_outlive_a_connection() {
    let site = Site::new().await;
    let asked = json!([{"command": "mkfifo fifo; cat fifo", "async_call": true}]);
    let job = site.call("system.exec", asked).await;
    let terminal = site
        .call("terminal.create", json!(["a", {"command": "cat"}]))
        .await;
    assert!(site.world.cut_all() >= 3);
    let client = site.world.client().await.unwrap();
    let subject = site.place.service("api");
    let interested = client
        .wait_for_interest(&subject, std::time::Duration::from_mins(1))
        .await;
    assert!(interested.unwrap());
    let project = Remote::new(client, site.place.clone());
    // What goes to the connection that was cut, before the broker knows of it, is answered by nobody.
    let listed = loop {
        let asked = project.call("terminal.list", json!([]));
        if let Ok(listed) = tokio::time::timeout(std::time::Duration::from_secs(2), asked).await {
            break listed.unwrap();
        }
    };
    assert_eq!(listed[0]["pid"], terminal["pid"]);
    std::fs::write(site.path("fifo"), "on").unwrap();
    let asked = json!([{"async_get": job["job_id"], "async_await": true}]);
    let done = project.call("system.exec", asked).await.unwrap();
    assert_eq!(done["stdout"], "on");
    site.end().await;
}

/// The status is told to whoever subscribes to it.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_told() {
    let site =
        Site::with(&|config| config.timing.status_interval = std::time::Duration::from_millis(50))
            .await;
    let mut told = site
        .client
        .subscribe(site.place.service("project-status"))
        .await
        .unwrap();
    let status: serde_json::Value = told.next().await.unwrap().msgpack().unwrap();
    assert_eq!(
        (&status["state"], &status["pid"]),
        (&json!("running"), &json!(std::process::id()))
    );
    site.end().await;
}

/// Two projects of one user, and none hears what is said to the other.
#[tokio::test(flavor = "multi_thread")]
async fn projects_are_apart() {
    let world = Arc::new(World::new(1).await);
    let ids = [
        "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f",
        "00000000-0000-4000-8000-000000000001",
    ];
    let (stop, mut homes, mut running) = (CancellationToken::new(), Vec::new(), Vec::new());
    for id in ids {
        let home = tempfile::tempdir().unwrap();
        let config = Config::new(Place::new(id, 0).unwrap(), home.path());
        let (project, mut handle) = Project::bind(config).await.unwrap();
        running.push(tokio::spawn(project.run(world.options(), stop.clone())));
        handle.ready().await.unwrap();
        homes.push(home);
    }
    let client = world.client().await.unwrap();
    for (id, home) in ids.iter().zip(&homes) {
        let project = Remote::new(client.clone(), Place::new(id, 0).unwrap());
        let text = json!([{"path": "mine", "content": id}]);
        project
            .call("system.writeTextFileToProject", text)
            .await
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(home.path().join("mine")).unwrap(),
            *id
        );
    }
    let other = std::process::id();
    let project = Remote::new(client, Place::new(ids[0], 0).unwrap());
    let asked = json!([{"pid": other, "signal": 15}]);
    assert!(
        project.call("system.signal", asked).await.is_err(),
        "it is no process of the project"
    );
    stop.cancel();
    for running in running {
        running.await.unwrap();
    }
}
