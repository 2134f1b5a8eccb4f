//! Existing clients and the real binary: scripts with the official `socket.io-client` (`conat/tests/js`) talk to
//! brokers and nodes of persist that are stopped, killed and started again.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::Signal;

use crate::process::{Broker, Home, Running};

/// Any free port.
const ANY: &str = "socketio+http://127.0.0.1:0";

/// A script that runs.
struct Script {
    running: Running,
    stdin: ChildStdin,
}

impl Script {
    /// Starts parts of a script, or all where none is named.
    fn start(broker: &Broker, name: &str, parts: &[&str]) -> Self {
        Self::at(&address(broker), name, parts)
    }

    fn at(address: &str, name: &str, parts: &[&str]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conat/tests/js");
        assert!(
            scripts.join("node_modules/socket.io-client").is_dir(),
            "socket.io-client is not installed: run `npm ci` in {} (`./test tests` does)",
            scripts.display()
        );
        let mut child = Command::new("node")
            .arg(scripts.join(name))
            .arg(address)
            .args(parts)
            .current_dir(&scripts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        Self {
            running: Running::new(child),
            stdin,
        }
    }

    /// Waits until the script wants something of the world.
    #[track_caller]
    fn wants(&self, what: &str) {
        loop {
            let line = self.running.line();
            if line == what {
                return;
            }
            assert!(line.starts_with("ok "), "{line} instead of {what}");
        }
    }

    /// Tells the script that it was done.
    fn done(&mut self) {
        writeln!(self.stdin, "done").unwrap();
    }

    #[track_caller]
    fn succeeds(self) {
        let done = self.running.end();
        assert_eq!(done.code, Some(0), "{}\n{}", done.text(), done.stderr);
    }
}

/// Where existing clients connect.
fn address(broker: &Broker) -> String {
    let urls = broker.ready["urls"].as_array().unwrap();
    let found = urls
        .iter()
        .find_map(|url| url.as_str().unwrap().strip_prefix("socketio+"));
    found.unwrap().to_owned()
}

/// A broker with a listener for existing clients.
fn broker(home: &Home, more: &[&str]) -> Broker {
    home.broker(&[&["--listen", ANY], more].concat())
}

/// A node of persist by itself that speaks the storage protocol.
fn persist(home: &Home, broker: &Broker) -> Running {
    let data = home.path().join("streams");
    let running = home.start(&[
        "persist",
        "--conat",
        "--node",
        "p1",
        "--url",
        &broker.ws(),
        "--data",
        data.to_str().unwrap(),
    ]);
    running.until("persist node p1 is ready");
    running
}

fn run(broker: &Broker, script: &str, parts: &[&str]) {
    Script::start(broker, script, parts).succeeds();
}

#[test]
fn every_event_is_served_without_authentication() {
    let home = Home::new();
    run(&broker(&home, &[]), "events.mjs", &[]);
}

#[test]
fn a_certificate_and_a_base_path_are_used() {
    let home = Home::new();
    let listen = "socketio+https://127.0.0.1:0/app";
    let broker = home.broker(&["--listen", listen, "--tls-dev", "tls"]);
    assert!(address(&broker).starts_with("https://127.0.0.1:"));
    assert!(address(&broker).ends_with("/app"));
    run(&broker, "process.mjs", &["exchange"]);
}

#[test]
fn a_system_password_lets_in_and_keeps_out() {
    let home = Home::new();
    let broker = broker(&home, &["--system-password", "a secret"]);
    let parts = ["the system password", "administrators put a client out"];
    run(&broker, "process.mjs", &parts);
    run(&broker, "sys.mjs", &[]);
    let without = home.broker(&["--listen", ANY]);
    run(&without, "process.mjs", &["nobody answers administrators"]);
}

#[test]
fn limits_are_lowered_by_flags() {
    let home = Home::new();
    let broker = broker(
        &home,
        &[
            "--system-password",
            "a secret",
            "--socketio-subscriptions-max",
            "5",
            "--socketio-hub-subscriptions-max",
            "10",
            "--socketio-max-payload",
            "200000",
        ],
    );
    let parts = [
        "five subscriptions",
        "ten subscriptions of a hub",
        "small frames alone",
    ];
    run(&broker, "process.mjs", &parts);
}

#[test]
fn clients_come_back_with_what_they_subscribed_to() {
    let home = Home::new();
    // A port that others are not given meanwhile.
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("socketio+http://{}", port.local_addr().unwrap());
    drop(port);
    let start = || home.broker(&["--listen", &listen, "--drain-grace", "200ms"]);
    let first = start();
    let part = "a broker that stops and comes back";
    let mut script = Script::start(&first, "process.mjs", &[part]);
    script.wants("restart");
    first.running.signal(Signal::TERM);
    first.running.end().ok().says("stopped");
    let _second = start();
    script.done();
    script.succeeds();
}

#[test]
fn a_broker_that_drains_sends_clients_away() {
    let home = Home::new();
    let broker = broker(&home, &["--drain-grace", "30s"]);
    let mut script = Script::start(&broker, "process.mjs", &["the last words of a broker"]);
    script.wants("stop");
    broker.running.signal(Signal::TERM);
    broker.running.until("draining: 1 connection");
    script.done();
    script.succeeds();
    broker.running.end().ok().says("stopped");
}

#[test]
fn the_storage_protocol_is_served_by_a_node_apart() {
    let home = Home::new();
    let broker = broker(&home, &[]);
    let node = persist(&home, &broker);
    let mut script = Script::start(&broker, "storage.mjs", &[]);
    script.wants("restart");
    node.signal(Signal::TERM);
    node.end().ok();
    let _node = persist(&home, &broker);
    script.done();
    script.succeeds();
}

#[test]
fn a_storage_session_survives_restarts_and_kills() {
    let home = Home::new();
    let broker = broker(&home, &[]);
    let mut node = persist(&home, &broker);
    let part = "a storage session through restarts";
    let mut script = Script::start(&broker, "process.mjs", &[part]);
    for (what, signal) in [
        ("restart", Signal::TERM),
        ("kill", Signal::KILL),
        ("kill", Signal::KILL),
    ] {
        script.wants(what);
        node.signal(signal);
        let ended = node.end();
        if signal == Signal::TERM {
            ended.ok();
        }
        node = persist(&home, &broker);
        script.done();
    }
    script.succeeds();
}

#[test]
fn up_has_the_storage_protocol_where_it_has_a_listener() {
    let home = Home::new();
    let up = home.up(&["--listen", ANY]);
    run(
        &up,
        "process.mjs",
        &["exchange", "a storage session in front of several nodes"],
    );
    run(&up, "sync.mjs", &[]);
    run(&up, "services.mjs", &["what time it is"]);
}
