//! Commands: at once, as jobs, with their output while it is written, and how all of them end.

use std::time::Duration;

use dialtone_client::{Answers, Many};
use serde_json::{Value as Json, json};

use crate::site::{Site, is_alive};

async fn exec(site: &Site, request: Json) -> Json {
    site.call("system.exec", json!([request])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_its_output_and_its_code() {
    let site = Site::with(&|config| {
        config
            .environment
            .insert("GIVEN".to_owned(), "yes".to_owned());
    })
    .await;
    std::fs::create_dir(site.path("sub")).unwrap();
    let command = "echo $GIVEN $MORE; pwd; echo wrong >&2; exit 3";
    let asked =
        json!({"command": command, "err_on_exit": false, "path": "sub", "env": {"MORE": 7}});
    let done = exec(&site, asked).await;
    assert_eq!(done["type"], "blocking");
    let folder = site.path("sub").canonicalize().unwrap();
    assert_eq!(done["stdout"], format!("yes 7\n{}\n", folder.display()));
    assert_eq!(done["stderr"], "wrong\n");
    assert_eq!(done["exit_code"], 3);
    let plain = exec(
        &site,
        json!({"command": "printf", "args": ["%s|", "a b", "$HOME"]}),
    )
    .await;
    assert_eq!(plain["stdout"], "a b|$HOME|");
    let (code, text) = site
        .refusal("system.exec", json!([{"command": command}]))
        .await;
    assert_eq!(code, "failed");
    assert!(
        text.contains("nonzero code 3") && text.contains("wrong"),
        "{text}"
    );
    for (asked, code) in [
        (
            json!({"command": "/nothing", "args": [], "bash": false}),
            "not-found",
        ),
        (json!({"command": "ls", "path": "none"}), "not-found"),
        (json!({"async_get": "none"}), "not-found"),
    ] {
        assert_eq!(site.refusal("system.exec", json!([asked])).await.0, code);
    }
    site.end().await;
}

/// Nothing of the daemon's own environment is in that of commands.
#[tokio::test(flavor = "multi_thread")]
async fn commands_see_the_environment_of_the_project_alone() {
    let site = Site::with(&|config| config.secret = Some("a secret word".to_owned())).await;
    let done = exec(&site, json!({"command": "env"})).await;
    let text = done["stdout"].as_str().unwrap();
    assert!(
        !text.contains("secret") && !text.contains("CARGO"),
        "{text}"
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_bounded() {
    let site = Site::new().await;
    let asked = json!({"command": "head -c 1000000 /dev/zero | tr '\\0' x", "max_output": 1000});
    let done = exec(&site, asked).await;
    assert_eq!(done["stdout"].as_str().unwrap().len(), 1000);
    assert_eq!(done["truncated"], true);
    assert_eq!(done["exit_code"], 0, "the command could write all of it");
    site.end().await;
}

/// A command that takes too long ends with everything that it has started.
#[tokio::test(flavor = "multi_thread")]
async fn time_is_bounded_for_the_whole_tree() {
    let site = Site::new().await;
    let command = "setsid sh -c 'echo $$; exec sleep 1000' & sh -c 'trap \"\" TERM HUP; echo $$; sleep 1000; sleep 1000' & wait";
    let asked = json!({"command": command, "timeout": 1, "err_on_exit": false});
    let done = exec(&site, asked.clone()).await;
    assert_eq!(
        (&done["timed_out"], &done["exit_code"]),
        (&json!(true), &json!(124))
    );
    let pids: Vec<i64> = done["stdout"]
        .as_str()
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 2, "{done}");
    for pid in pids {
        assert!(!is_alive(pid), "{pid} is left behind");
    }
    let asked = json!([{"command": "sleep 1000", "timeout": 0.2}]);
    assert_eq!(site.refusal("system.exec", asked).await.0, "timeout");
    site.end().await;
}

/// The shell is done when its command line is; what it leaves in the background goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_in_the_background_holds_nobody_up() {
    let site = Site::new().await;
    let done = exec(
        &site,
        json!({"command": "sleep 1000 & echo $!", "timeout": 60}),
    )
    .await;
    let pid: i64 = done["stdout"].as_str().unwrap().trim().parse().unwrap();
    assert!(is_alive(pid));
    let pid32 = i32::try_from(pid).unwrap();
    let process = rustix::process::Pid::from_raw(pid32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_asked_for_again() {
    let site = Site::new().await;
    let fifo = site.path("fifo");
    exec(&site, json!({"command": "mkfifo fifo"})).await;
    let command = "echo begun; read line < fifo; echo $line";
    let job = exec(&site, json!({"command": command, "async_call": true})).await;
    assert_eq!(
        (&job["type"], &job["status"]),
        (&json!("async"), &json!("running"))
    );
    let id = job["job_id"].as_str().unwrap();
    std::fs::write(&fifo, "go on\n").unwrap();
    let done = exec(&site, json!({"async_get": id, "async_await": true})).await;
    assert_eq!(
        (&done["status"], &done["stdout"]),
        (&json!("completed"), &json!("begun\ngo on\n"))
    );
    assert!(done["elapsed_s"].as_f64().unwrap() > 0.0);
    assert_eq!(exec(&site, json!({"async_get": id})).await["exit_code"], 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_interrupted() {
    let site = Site::new().await;
    let asked = json!({"command": "sleep", "args": ["1000"], "async_call": true});
    let job = exec(&site, asked).await;
    site.call("system.signal", json!([{"pid": job["pid"]}]))
        .await;
    let done = exec(
        &site,
        json!({"async_get": job["job_id"], "async_await": true}),
    )
    .await;
    assert_eq!(
        (&done["status"], &done["exit_code"]),
        (&json!("killed"), &json!(130))
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_commands_share_a_run() {
    let site = Site::new().await;
    exec(&site, json!({"command": "mkfifo fifo"})).await;
    let asked =
        json!({"command": "echo run >> runs; cat fifo", "aggregate": 1, "async_call": true});
    let first = exec(&site, asked.clone()).await;
    let second = exec(&site, asked.clone()).await;
    assert_eq!(first["job_id"], second["job_id"]);
    std::fs::write(site.path("fifo"), "x").unwrap();
    exec(
        &site,
        json!({"async_get": first["job_id"], "async_await": true}),
    )
    .await;
    assert_eq!(std::fs::read_to_string(site.path("runs")).unwrap(), "run\n");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_run_than_may() {
    let site = Site::with(&|config| config.limits.running_max = 1).await;
    let asked = json!({"command": "sleep 1000", "async_call": true});
    exec(&site, asked.clone()).await;
    assert_eq!(
        site.refusal("system.exec", json!([asked])).await.0,
        "too-many"
    );
    site.end().await;
}

async fn stream(site: &Site, request: Json) -> Answers {
    let subject = site.place.service("exec-stream");
    let draft = site.client.message(subject).msgpack(&request).unwrap();
    let many = Many {
        wait_max: Duration::from_mins(1),
        messages_max: None,
    };
    draft.request_many(many).await.unwrap()
}

async fn next(answers: &mut Answers) -> Json {
    answers.next().await.unwrap().msgpack().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_while_it_is_written() {
    let site = Site::new().await;
    exec(&site, json!({"command": "mkfifo fifo"})).await;
    let command = "echo one; cat fifo; echo two; exit 5";
    let mut answers = stream(&site, json!({"command": command, "timeout": 60})).await;
    let first = next(&mut answers).await;
    assert_eq!((&first["type"], &first["seq"]), (&json!("job"), &json!(0)));
    let second = next(&mut answers).await;
    assert_eq!(
        (&second["type"], &second["data"]),
        (&json!("stdout"), &json!("one\n"))
    );
    // It waits for this.
    std::fs::write(site.path("fifo"), "middle\n").unwrap();
    let (mut text, mut seq) = (String::new(), 2);
    let done = loop {
        let answer = next(&mut answers).await;
        assert_eq!(answer["seq"], seq);
        seq += 1;
        if answer["type"] == "done" {
            break answer;
        }
        text.push_str(answer["data"].as_str().unwrap());
    };
    assert_eq!(text, "middle\ntwo\n");
    assert_eq!(done["data"]["exit_code"], 5);
    assert_eq!(next(&mut answers).await, Json::Null);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_listened_to_later_and_mistakes_are_told() {
    let site = Site::new().await;
    let job = exec(
        &site,
        json!({"command": "echo a; echo b >&2", "async_call": true}),
    )
    .await;
    exec(
        &site,
        json!({"async_get": job["job_id"], "async_await": true}),
    )
    .await;
    let mut answers = stream(&site, json!({"async_get": job["job_id"]})).await;
    let mut kinds = Vec::new();
    while let Some(kind) = next(&mut answers).await["type"].as_str() {
        kinds.push(kind.to_owned());
    }
    assert_eq!(kinds, ["job", "stdout", "stderr", "done"]);
    let mut answers = stream(&site, json!({"async_get": "none"})).await;
    let error = next(&mut answers).await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("not-found"))
    );
    assert_eq!(next(&mut answers).await, Json::Null);
    site.end().await;
}

/// The end of the project is that of all its processes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_the_project() {
    let site = Site::new().await;
    let command =
        "trap '' TERM HUP; setsid sleep 1000 & echo $!; sleep 1000 & echo $!; echo $$; wait; wait";
    let mut answers = stream(&site, json!({"command": command, "timeout": 600})).await;
    let mut text = String::new();
    while text.lines().count() < 3 {
        let answer = next(&mut answers).await;
        text.push_str(answer["data"].as_str().unwrap_or_default());
    }
    let pids: Vec<i64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    site.end().await;
    for pid in pids {
        assert!(!is_alive(pid), "{pid} is left behind");
    }
}
