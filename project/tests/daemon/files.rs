//! Files by one request each.

use dialtone_project::remote::RemoteError;
use serde_json::json;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_listed_moved_and_deleted() {
    let site = Site::new().await;
    let text = json!([{"path": "a/grüße.txt", "content": "hello"}]);
    site.call("system.writeTextFileToProject", text).await;
    let read = site
        .call(
            "system.readTextFileFromProject",
            json!([{"path": "a/grüße.txt"}]),
        )
        .await;
    assert_eq!(read, "hello");
    let listed = site.call("system.listing", json!([{"path": "a"}])).await;
    assert_eq!(listed[0]["name"], "grüße.txt");
    assert_eq!(listed[0]["size"], 5);
    let renamed = json!([{"src": "a/grüße.txt", "dest": "b.txt"}]);
    site.call("system.renameFile", renamed.clone()).await;
    assert_eq!(
        site.refusal("system.renameFile", renamed).await.0,
        "not-found"
    );
    site.call(
        "system.moveFiles",
        json!([{"paths": ["b.txt"], "dest": "a"}]),
    )
    .await;
    assert_eq!(std::fs::read(site.path("a/b.txt")).unwrap(), b"hello");
    site.call("system.deleteFiles", json!([{"paths": ["a"]}]))
        .await;
    assert!(!site.path("a").exists());
    assert_eq!(
        site.refusal("system.deleteFiles", json!([{"paths": [""]}]))
            .await
            .0,
        "permission-denied"
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_have_one_name() {
    let site = Site::new().await;
    std::fs::create_dir(site.path("real")).unwrap();
    std::os::unix::fs::symlink("real", site.path("link")).unwrap();
    let paths = json!([["link/x", "~/real", "/etc/hostname", "./real/../new"]]);
    let canonical = site.call("system.canonicalPaths", paths).await;
    assert_eq!(canonical, json!(["real/x", "real", "/etc/hostname", "new"]));
    assert_eq!(site.call("system.realpath", json!(["link"])).await, "real");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn editors_get_what_they_need() {
    let site = Site::new().await;
    site.call("editor.newFile", json!(["n/new.md"])).await;
    assert_eq!(std::fs::read(site.path("n/new.md")).unwrap(), b"");
    let notebook = r#"{"cells":[{"cell_type":"code","source":"1","outputs":[1]}]}"#;
    std::fs::write(site.path("a.ipynb"), notebook).unwrap();
    let stripped = site
        .call("editor.jupyterStripNotebook", json!(["a.ipynb"]))
        .await;
    assert!(stripped.as_str().unwrap().contains("\"outputs\": []"));
    let wrong = json!([{"str": "x", "options": {"syntax": "klingon"}}]);
    assert_eq!(
        site.refusal("editor.formatterString", wrong).await.0,
        "invalid-argument"
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_above_the_quota_of_the_disk_is_refused_until_there_is_room() {
    let site = Site::with(&|config| {
        std::fs::write(config.home.join("large"), vec![7; 3 << 20]).unwrap();
        config.disk_quota = Some(2_000_000);
        config.timing.measure_pause = std::time::Duration::from_millis(10);
    })
    .await;
    let text = json!([{"path": "a.txt", "content": "x".repeat(1000)}]);
    // It is measured when it has begun.
    let error = loop {
        match site
            .project
            .call("system.writeTextFileToProject", text.clone())
            .await
        {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    let said = error.to_string();
    assert!(said.contains("of the 2 MB"), "{said}");
    let status = site.call("system.status", json!([])).await;
    assert_eq!(status["disk_quota"]["limit"], 2_000_000);
    assert!(status["disk_quota"]["used"].as_u64().unwrap() > 3 << 20);
    site.call("system.deleteFiles", json!([{"paths": ["large"]}]))
        .await;
    while site
        .project
        .call("system.writeTextFileToProject", text.clone())
        .await
        .is_err()
    {
        tokio::task::yield_now().await;
    }
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_read_as_a_file_is_called_so() {
    let site = Site::new().await;
    std::fs::create_dir(site.path("sub")).unwrap();
    match site.project.read_file("sub", 0, None).await {
        Err(RemoteError::Refused { code, .. }) => assert_eq!(code, "is-folder"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a folder was read"),
    }
    site.end().await;
}
