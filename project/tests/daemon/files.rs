//! Files by one request each.

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
