//! What each function answers, and how mistakes are answered.

use dialtone_client::Encoding;
use serde_json::{Value as Json, json};

use crate::site::{ID, Site};

#[tokio::test(flavor = "multi_thread")]
async fn the_project_says_what_it_is() {
    let site = Site::new().await;
    assert!(
        site.call("system.ping", json!([])).await["now"]
            .as_u64()
            .unwrap()
            > 0
    );
    let test = site.call("system.test", json!([])).await;
    assert_eq!(test, json!({"project_id": ID, "compute_server_id": 0}));
    assert!(site.call("system.version", json!([])).await.is_u64());
    let status = site.call("system.status", json!([])).await;
    assert_eq!(status["session_id"], site.announcement.session_id.as_str());
    assert!(status["memory"]["rss"].as_u64().unwrap() > 0);
    let found = site.call("system.configuration", json!(["main"])).await;
    assert!(found["capabilities"].is_object());
    site.end().await;
}

/// As `dialtone request` sends it, under the short name of the subject.
#[tokio::test(flavor = "multi_thread")]
async fn json_is_answered_with_json() {
    let site = Site::new().await;
    let call = json!({"name": "system.test", "args": []});
    let draft = site.client.message(site.place.api()).json(&call).unwrap();
    let answer = draft.request().await.unwrap();
    assert_eq!(answer.encoding(), Encoding::Json);
    assert_eq!(answer.json::<Json>().unwrap()["project_id"], ID);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let site = Site::with(&|config| config.limits.request_len_max = 10_000).await;
    for (name, args, code, words) in [
        (
            "system.nothing",
            json!([]),
            "unknown-function",
            "system.nothing",
        ),
        ("nothing", json!([]), "unknown-function", "nothing"),
        (
            "system.listing",
            json!([]),
            "invalid-argument",
            "args[0]: is missing",
        ),
        (
            "system.listing",
            json!([{"path": "none"}]),
            "not-found",
            "none",
        ),
        ("system.realpath", json!([1]), "invalid-argument", "args[0]"),
        (
            "system.configuration",
            json!(["x"]),
            "invalid-argument",
            "aspect",
        ),
        ("system.signal", json!([{"pid": 1}]), "not-found", "1"),
        (
            "system.signal",
            json!([{"pid": 1, "signal": 64}]),
            "invalid-argument",
            "signal",
        ),
        (
            "system.namedServerPort",
            json!(["sshd"]),
            "not-found",
            "jupyterlab",
        ),
        (
            "system.terminate",
            json!([{"service": "x"}]),
            "not-found",
            "project",
        ),
        ("terminal.read", json!([{"path": "x"}]), "not-found", "x"),
        (
            "system.ping",
            json!(["x".repeat(10_000)]),
            "bad-request",
            "10000",
        ),
    ] {
        let (found, text) = site.refusal(name, args).await;
        assert_eq!(found, code, "{name}: {text}");
        assert!(text.contains(words), "{name}: {text}");
    }
    let answer = site
        .client
        .request(site.place.api(), b"\xff".as_slice())
        .await
        .unwrap();
    let answer: Json = answer.msgpack().unwrap();
    assert_eq!(answer["code"], "bad-request");
    assert!(answer["error"].as_str().unwrap().starts_with("Error: "));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listed_function_is_there() {
    let site = Site::new().await;
    let functions = site.call("system.functions", json!([])).await;
    for name in functions.as_array().unwrap() {
        // With arguments that no function takes, so that none does anything.
        let wrong = json!([[[]], [[]]]);
        if let Err(error) = site.project.call(name.as_str().unwrap(), wrong).await {
            assert!(
                !error.to_string().contains("there is no function"),
                "{name}: {error}"
            );
        }
    }
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_project_ends_when_it_is_asked_to() {
    let site = Site::new().await;
    let pid = site.path(".smc/project.pid");
    assert!(pid.exists());
    site.call("system.terminate", json!([{"service": "project"}]))
        .await;
    site.ended().await;
    assert!(!pid.exists());
}
