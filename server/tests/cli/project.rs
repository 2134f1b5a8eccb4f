//! The daemon of a project, as those who run one use it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Broker, Home, Running};

const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

/// A project that is ready.
struct Project {
    running: Running,
    ready: Value,
}

impl Project {
    fn start(home: &Home, broker: &Broker, more: &[&str]) -> Self {
        let fixed = ["project", "--json", "--id", ID, "--url", &broker.ws()];
        let running = home.start(&[&fixed, more].concat());
        let ready = running.json();
        Self { running, ready }
    }
}

fn call(home: &Home, broker: &Broker, name: &str, args: &Value) -> Value {
    let subject = format!("project.{ID}.0.api");
    let request = json!({"name": name, "args": args}).to_string();
    home.run(&["request", "--url", &broker.ws(), &subject, &request])
        .ok()
        .json()
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}

/// The walk-through of `docs/project.md`.
#[test]
fn a_project_is_asked_from_another_terminal() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let project = Project::start(&home, &broker, &["--ready-file", "ready.json"]);
    let ready: Value =
        serde_json::from_slice(&std::fs::read(home.path().join("ready.json")).unwrap()).unwrap();
    assert_eq!(ready, project.ready);
    let pid = std::fs::read_to_string(home.path().join(".smc/project.pid")).unwrap();
    assert_eq!(ready["pid"].to_string(), pid);
    home.write("a.txt", "hello");
    let listed = call(&home, &broker, "system.listing", &json!([{"path": ""}]));
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["name"] == "a.txt"),
        "{listed}"
    );
    let done = call(
        &home,
        &broker,
        "system.exec",
        &json!([{"command": "cat a.txt; env"}]),
    );
    let text = done["stdout"].as_str().unwrap();
    assert!(
        text.starts_with("hello") && text.contains(&format!("COCALC_PROJECT_ID={ID}")),
        "{text}"
    );
    let error = call(
        &home,
        &broker,
        "system.exec",
        &json!([{"command": "exit 3"}]),
    );
    assert_eq!(error["code"], "failed");
    project.running.signal(Signal::TERM);
    project.running.end().ok();
    assert!(!home.path().join(".smc/project.pid").exists());
}

/// A program that has left its session, its group and its parent ends with the project nonetheless.
#[test]
fn a_daemon_that_forked_twice_ends_with_the_project() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let project = Project::start(&home, &broker, &[]);
    let script = "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > pid.new; mv pid.new pid; exec sleep 1000' > /dev/null 2>&1 < /dev/null & ) ; while [ ! -e pid ]; do :; done; cat pid";
    let done = call(
        &home,
        &broker,
        "system.exec",
        &json!([{"command": script, "timeout": 60}]),
    );
    let pid = done["stdout"].as_str().unwrap().to_owned();
    let parent = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
        stat.rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        parent(&pid),
        project.ready["pid"].to_string(),
        "the project has adopted it"
    );
    project.running.signal(Signal::TERM);
    project.running.end().ok();
    assert!(!is_alive(&pid), "{pid} is left behind");
}

#[test]
fn an_impatient_end_leaves_nothing_behind() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let project = Project::start(&home, &broker, &[]);
    let script = "trap '' TERM HUP; echo $$; while :; do sleep 1000; done";
    let asked = json!([{"command": script, "async_call": true}]);
    let pid = call(&home, &broker, "system.exec", &asked)["pid"].to_string();
    project.running.signal(Signal::TERM);
    project.running.until("stopping");
    project.running.signal(Signal::TERM);
    project.running.end().exits(130);
    assert!(!is_alive(&pid), "{pid} is left behind");
}

/// With users, a project signs in with its secret, and its children do not hear of that.
#[test]
fn the_secret_opens_the_broker_and_is_in_no_environment() {
    let home = Home::new();
    let secret = "a-secret-of-32-letters-or-digits";
    let hash = home.run_with(&["passwd"], secret.as_bytes()).ok().text();
    let users = format!(
        "[[user]]\nname = \"project-{ID}\"\npassword = \"{}\"\npublish = {{ allow = [\">\"] }}\nsubscribe = {{ allow = [\">\"] }}\n",
        hash.trim()
    );
    let users = home.write("users.toml", &users);
    let broker = home.broker(&["--users", &users]);
    std::fs::create_dir(home.path().join(".smc")).unwrap();
    home.write(".smc/secret-token", &format!("{secret}\n"));
    let mut command = home.command(&["project", "--json", "--id", ID, "--url", &broker.ws()]);
    command.env("ODD", secret).env("DIALTONE_SOMETHING", "x");
    let running = Running::new(command.spawn().unwrap());
    running.json();
    let request = json!({"name": "system.exec", "args": [{"command": "env"}]}).to_string();
    let subject = format!("project.{ID}.0.api");
    let name = format!("project-{ID}");
    let args = [
        "request",
        "--url",
        &broker.ws(),
        "--user",
        &name,
        "--password",
        secret,
        &subject,
        &request,
    ];
    let done = home.run(&args).ok().json();
    let text = done["stdout"].as_str().unwrap();
    assert!(
        !text.contains(secret) && !text.contains("DIALTONE"),
        "{text}"
    );
    running.signal(Signal::TERM);
    let ended = running.end().ok();
    assert!(!ended.stderr.contains(secret));
}

#[test]
fn a_script_is_run_at_the_start() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let script = home.write("init.sh", "echo from the script; mkfifo done; echo > done");
    let project = Project::start(&home, &broker, &["--init", &script]);
    let wait = "while [ ! -p done ]; do :; done; cat done";
    call(
        &home,
        &broker,
        "system.exec",
        &json!([{"command": wait, "timeout": 60}]),
    );
    let log = std::fs::read_to_string(home.path().join(".smc/init.log")).unwrap();
    assert_eq!(log, "from the script\n");
    call(
        &home,
        &broker,
        "system.terminate",
        &json!([{"service": "project"}]),
    );
    // Nobody sent a signal.
    project.running.end().ok();
}

#[test]
fn mistakes_are_usage_errors() {
    let home = Home::new();
    home.run(&["project"]).exits(2);
    home.run(&["project", "--id", "x"]).exits(2);
    let empty = home.write("empty", "");
    home.run(&["project", "--id", ID, "--secret-file", &empty])
        .exits(2);
    home.run(&["project", "--id", ID, "--secret-file", "none"])
        .exits(1);
    home.run(&["project", "--id", ID, "--home", "/nothing"])
        .exits(1);
    home.run(&["project", "--id", ID, "--base-path", "a b"])
        .exits(2);
}
