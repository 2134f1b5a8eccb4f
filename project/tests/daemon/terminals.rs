//! Programs at terminals, and those who look at them.

use dialtone_project::remote::{RemoteError, Shown, Terminal};
use serde_json::{Value as Json, json};

use crate::site::{Site, is_alive};

/// What is shown until some words are among it.
async fn until(terminal: &Terminal, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        match terminal.next().await.unwrap() {
            Some(Shown::Data(bytes)) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Some(Shown::Info(_)) => {}
            other => panic!("{other:?} after {text:?}"),
        }
    }
    text
}

async fn exit(terminal: &Terminal) -> Json {
    loop {
        match terminal.next().await.unwrap() {
            Some(Shown::Exit(exit)) => return exit,
            Some(_) => {}
            None => panic!("it ended without saying how"),
        }
    }
}

async fn open(site: &Site, path: &str, options: Json) -> Terminal {
    site.project.terminal(path, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_typed_into_and_ends() {
    let site = Site::new().await;
    std::fs::create_dir(site.path("sub")).unwrap();
    let terminal = open(
        &site,
        "sub/a.term",
        json!({"rows": 31, "cols": 97, "env": {"X": "y"}}),
    )
    .await;
    assert_eq!(terminal.info()["rows"], 31);
    terminal
        .write("stty size; tty; echo $X-$TERM; pwd; echo en''d\n")
        .await
        .unwrap();
    let text = until(&terminal, "end").await;
    for words in ["31 97", "/dev/pts/", "y-xterm-256color", "/sub"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    terminal.write("exit 7\n").await.unwrap();
    assert_eq!(exit(&terminal).await, json!({"code": 7, "signal": null}));
    assert_eq!(terminal.next().await.unwrap(), None);
    // The next one who looks gets a new shell.
    let again = open(&site, "sub/a.term", json!({})).await;
    assert_ne!(again.info()["pid"], terminal.info()["pid"]);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_at_a_program_that_does_not_read_is_refused_in_time() {
    let site = Site::with(&|config| {
        config.timing.terminal_write = std::time::Duration::from_millis(100);
    })
    .await;
    // A terminal that is not raw drops what is too much.
    let options =
        json!({"command": "sh", "args": ["-c", "stty raw -echo; echo ready; exec sleep 1000"]});
    let terminal = open(&site, "deaf", options).await;
    until(&terminal, "ready").await;
    let typed = json!([{"path": "deaf", "data": "x".repeat(1 << 20)}]);
    let (code, text) = site.refusal("terminal.write", typed).await;
    assert_eq!(code, "timeout", "{text}");
    assert!(text.contains("of 1048576 bytes were typed"), "{text}");
    // Whoever wants to know or to end it does not have to wait behind that.
    site.call("terminal.close", json!([{"path": "deaf"}])).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_viewers_see_the_same() {
    let site = Site::new().await;
    let first = open(
        &site,
        "a",
        json!({"command": "cat", "rows": 50, "cols": 80}),
    )
    .await;
    first.write("early\n").await.unwrap();
    until(&first, "early\r\nearly").await;
    let second = open(&site, "a", json!({"rows": 30, "cols": 120})).await;
    assert_eq!(second.info()["pid"], first.info()["pid"]);
    assert_eq!(
        (&second.info()["rows"], &second.info()["cols"]),
        (&json!(30), &json!(80))
    );
    until(&second, "early\r\nearly").await;
    second.write("late\n").await.unwrap();
    until(&first, "late").await;
    until(&second, "late").await;
    let listed = site.call("terminal.list", json!([])).await;
    assert_eq!(
        (&listed[0]["path"], &listed[0]["viewers"]),
        (&json!("a"), &json!(2))
    );
    second.leave().await.unwrap();
    // The first one's window counts alone again.
    loop {
        if let Some(Shown::Info(info)) = first.next().await.unwrap()
            && info["rows"] == 50
        {
            assert_eq!(info["viewers"], 1);
            break;
        }
    }
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_hears_of_a_new_size() {
    let site = Site::new().await;
    let script = "trap 'stty size; exit' WINCH; echo ready; while :; do read line; done";
    let options = json!({"command": "sh", "args": ["-c", script]});
    let terminal = open(&site, "a", options).await;
    until(&terminal, "ready").await;
    terminal.resize(12, 34).await.unwrap();
    terminal.write("\n").await.unwrap();
    until(&terminal, "12 34").await;
    site.end().await;
}

/// What is not taken holds the program back; what nobody looks at does not, and the end of it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn output_is_held_back_for_viewers_and_kept_without() {
    let site = Site::with(&|config| {
        config.limits.history_len_max = 100_000;
        config.limits.lag_max = 50_000;
    })
    .await;
    let script =
        "stty -opost; i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done; echo over";
    let options = json!({"command": "sh", "args": ["-c", script]});
    let terminal = open(&site, "a", options.clone()).await;
    let (mut text, mut end) = (String::new(), None);
    while let Some(shown) = terminal.next().await.unwrap() {
        match shown {
            Shown::Data(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Shown::Skipped(count) => panic!("{count} bytes were skipped"),
            Shown::Exit(exit) => end = Some(exit),
            Shown::Info(_) => {}
        }
    }
    let wanted: String = (0..60_000).fold(String::new(), |text, i| text + &format!("line {i}\n"));
    assert!(
        text == format!("{wanted}over\n"),
        "everything comes, in order"
    );
    assert_eq!(end.unwrap()["code"], 0);
    site.call("terminal.create", json!(["b", options])).await;
    let pid = site.call("terminal.list", json!([])).await[1]["pid"]
        .as_i64()
        .unwrap();
    // It ends although nobody looks.
    let wait = format!("tail --pid={pid} -f /dev/null");
    site.call("system.exec", json!([{"command": wait, "timeout": 25}]))
        .await;
    let last = open_ended(&site).await;
    assert!(
        last.ends_with("over\n") && last.len() == 100_000,
        "{}",
        last.len()
    );
    site.end().await;
}

/// What is kept of the terminal `b`, once its program has ended.
async fn open_ended(site: &Site) -> String {
    loop {
        let read = site.call("terminal.read", json!([{"path": "b"}])).await;
        if !read["exit"].is_null() {
            return read["data"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_ends_with_all_that_runs_in_it() {
    let site = Site::new().await;
    let terminal = open(&site, "a", json!({})).await;
    terminal
        .write("sleep 1000 & echo p$!p; setsid sleep 1000 & echo p$!p\n")
        .await
        .unwrap();
    let mut text = String::new();
    let pids: Vec<i64> = loop {
        text.push_str(&until(&terminal, "p").await);
        let pids: Vec<i64> = text
            .split('p')
            .filter_map(|part| part.parse().ok())
            .collect();
        if pids.len() == 2 {
            break pids;
        }
    };
    site.call("terminal.close", json!([{"path": "a"}])).await;
    exit(&terminal).await;
    for pid in pids {
        assert!(!is_alive(pid), "{pid} is left behind");
    }
    assert_eq!(site.call("terminal.list", json!([])).await, json!([]));
    site.end().await;
}

/// For clients without sockets: the same by one request each.
#[tokio::test(flavor = "multi_thread")]
async fn terminals_are_also_functions() {
    let site = Site::new().await;
    let options = json!({"command": "cat", "rows": 10, "cols": 20});
    let info = site
        .call("editor.createTerminalService", json!(["x.term", options]))
        .await;
    assert_eq!((&info["rows"], &info["exit"]), (&json!(10), &Json::Null));
    let sized = json!([{"path": "x.term", "rows": 11, "cols": 22}]);
    site.call("terminal.resize", sized).await;
    site.call(
        "terminal.write",
        json!([{"path": "x.term", "data": "hello\n"}]),
    )
    .await;
    let mut text = String::new();
    let mut from = 0;
    while !text.contains("hello\r\nhello\r\n") {
        let read = site
            .call("terminal.read", json!([{"path": "x.term", "from": from}]))
            .await;
        text.push_str(read["data"].as_str().unwrap());
        from = read["to"].as_u64().unwrap();
    }
    assert_eq!(site.call("terminal.list", json!([])).await[0]["rows"], 11);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_to_viewers() {
    let site = Site::with(&|config| config.limits.terminals_max = 1).await;
    let refused = |result: Result<Terminal, RemoteError>| match result {
        Err(RemoteError::Refused { code, text }) => (code, text),
        other => panic!("{other:?}"),
    };
    let missing = json!({"command": "/nothing"});
    let (code, text) = refused(site.project.terminal("a", missing).await);
    assert!(
        code == "internal" && text.contains("/nothing"),
        "{code} {text}"
    );
    let folder = json!({"cwd": "none"});
    assert_eq!(
        refused(site.project.terminal("a", folder).await).0,
        "not-found"
    );
    open(&site, "a", json!({"command": "cat"})).await;
    assert_eq!(
        refused(site.project.terminal("b", json!({})).await).0,
        "too-many"
    );
    site.end().await;
}
