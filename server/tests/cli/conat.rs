//! Existing clients and the real binary: scripts with the official `socket.io-client` (`conat/tests/js`) talk to
//! brokers and nodes of persist that are stopped, killed and started again, and to whole sites.

use rustix::process::Signal;

use crate::process::{Broker, Home, Running};

mod relay;
mod script;
mod site;

use relay::Relay;
use script::Script;

/// Any free port.
const ANY: &str = "socketio+http://127.0.0.1:0";

const PROJECT: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

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
    Script::at(&address(broker), script, parts).succeeds();
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
    let relay = Relay::new();
    let start = || {
        let broker = broker(&home, &["--drain-grace", "200ms"]);
        relay.lead_to(&address(&broker));
        broker
    };
    let first = start();
    let part = "a broker that stops and comes back";
    let mut script = Script::at(relay.address(), "process.mjs", &[part]);
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
    let mut script = Script::at(
        &address(&broker),
        "process.mjs",
        &["the last words of a broker"],
    );
    script.wants("stop");
    broker.running.signal(Signal::TERM);
    broker.running.until("draining: 1 connection");
    script.done();
    script.succeeds();
    broker.running.end().ok().says("stopped");
}

#[test]
fn files_and_functions_of_a_project_are_as_existing_clients_know_them() {
    let home = Home::new();
    let broker = broker(&home, &[]);
    let project = home.start(&["project", "--json", "--id", PROJECT, "--url", &broker.ws()]);
    assert_eq!(project.json()["project_id"], PROJECT);
    let variables = [("PROJECT", PROJECT)];
    Script::with(&variables, &address(&broker), "files.mjs", &[]).succeeds();
}

#[test]
fn the_storage_protocol_is_served_by_a_node_apart() {
    let home = Home::new();
    let broker = broker(&home, &[]);
    let node = persist(&home, &broker);
    let mut script = Script::at(&address(&broker), "storage.mjs", &[]);
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
    let mut script = Script::at(&address(&broker), "process.mjs", &[part]);
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
    run(&up, "structures.mjs", &[]);
    run(&up, "services.mjs", &["what time it is"]);
}
