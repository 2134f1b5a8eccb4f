//! Draining, stopping and reloading.

use rustix::process::Signal;

use crate::exit_codes::users;
use crate::messaging::subscriber;
use crate::process::{Broker, Home};

/// Bob's token.
const BOB: &str = "bob-bob-bob-bob-bob";

#[test]
fn terminating_drains_and_ends_well() {
    let home = Home::new();
    let broker = home.broker(&["--drain-grace", "100ms"]);
    let sub = subscriber(&home, &broker, &["a", "--json"]);
    home.run(&["pub", "--url", &broker.ws(), "a", "1"]).ok();
    broker.running.signal(Signal::TERM);
    broker
        .running
        .until("draining: 1 connection, at most 0.1 s; press Ctrl-C again to stop at once");
    broker.running.end().ok().says("stopped");
    assert_eq!(sub.json()["payload"], 1);
}

#[test]
fn a_node_that_is_asked_to_drain_ends_well() {
    let home = Home::new();
    let broker = home.broker(&["--drain-grace", "100ms"]);
    let sub = subscriber(&home, &broker, &["a"]);
    home.run(&["request", "--url", &broker.ws(), "sys.drain", ""])
        .ok();
    broker.running.end().ok().says("stopped");
    sub.until("disconnected: ");
}

#[test]
fn up_does_not_wait_long_for_who_has_nowhere_to_go() {
    let home = Home::new();
    let broker = home.up(&[]);
    let sub = subscriber(&home, &broker, &["a"]);
    let monitor = broker.monitor().trim_start_matches("http://").to_owned();
    broker.running.signal(Signal::INT);
    broker
        .running
        .until("draining: 1 connection, at most 1 s; press Ctrl-C again to stop at once");
    broker.running.end().ok();
    std::net::TcpListener::bind(monitor).unwrap();
    sub.until("disconnected: ");
}

#[test]
fn an_outage_is_told_at_its_beginning_and_its_end() {
    let home = Home::new();
    let broker = home.broker(&["--drain-grace", "0"]);
    let url = broker.ws();
    let sub = subscriber(&home, &broker, &["a", "--json"]);
    let reply = home.start(&["reply", "b", "--echo", "--url", &url]);
    reply.until("answering b");
    let publish = home.start(&["pub", "a", "{{i}}", "--interval", "1s", "--url", &url]);
    assert_eq!(sub.json()["payload"], 1);
    broker.running.signal(Signal::TERM);
    broker.running.end().ok();
    for running in [&sub, &reply, &publish] {
        running.until("disconnected: ");
    }
    let again = Broker::new(home.start(&["broker", "--json", "--listen", &url]));
    for running in [&sub, &reply, &publish] {
        running.until("connected again to ws://");
        running.signal(Signal::INT);
    }
    sub.end().ok();
    reply.end().ok();
    publish.end().ok();
    drop(again);
}

#[test]
fn whoever_is_interrupted_leaves_the_broker() {
    let home = Home::new();
    let broker = home.up(&[]);
    let (url, fingerprint) = (broker.url("quic"), broker.fingerprint());
    let silent = subscriber(&home, &broker, &["a"]);
    for args in [
        &["rtt", "--count", "1000", "--interval", "1m"][..],
        &["interest", "--wait", "1m", "nobody"],
        &["request", "a", "", "--timeout", "1m"],
        &["pub", "a", "x", "--interval", "1m"],
    ] {
        let to = ["--url", &url, "--fingerprint", fingerprint];
        let running = home.start(&[args, &to[..]].concat());
        wait_for_connections(&home, &broker, 2);
        running.signal(Signal::TERM);
        let code = running.end().code;
        let expected = if args[0] == "pub" { 0 } else { 143 };
        assert_eq!(code, Some(expected), "{args:?}");
        wait_for_connections(&home, &broker, 1);
    }
    drop(silent);
}

/// Asks the monitoring server until there are so many connections beside that of persist.
fn wait_for_connections(home: &Home, broker: &Broker, count: usize) {
    let args = ["top", "--json", "--interval", "100ms", "--monitor"];
    for _ in 0..100 {
        let look = home.run(&[&args[..], &[broker.monitor()]].concat()).ok();
        if look.json()["connections"].as_array().unwrap().len() == count + 1 {
            return;
        }
    }
    panic!("there are not {count} connections");
}

#[test]
fn a_second_signal_stops_at_once() {
    let home = Home::new();
    let broker = home.broker(&["--drain-grace", "1h"]);
    let _sub = subscriber(&home, &broker, &["a"]);
    broker.running.signal(Signal::TERM);
    broker.running.until("draining");
    broker.running.signal(Signal::INT);
    broker
        .running
        .end()
        .ok()
        .says("stopped before the drain was over");
}

#[test]
fn an_idle_broker_ends_at_once() {
    let home = Home::new();
    let broker = home.broker(&["--drain-grace", "1h"]);
    broker.running.signal(Signal::INT);
    broker.running.end().ok();
}

#[test]
fn reloading_reads_users_and_keeps_connections() {
    let home = Home::new();
    let path = users(&home, "");
    let broker = home.broker(&["--users", &path]);
    let url = broker.ws();
    let alice = ["--url", &url, "--user", "alice", "--password", "secret"];
    let sub = home.start(&[&["sub", "a.b", "--json"], &alice[..]].concat());
    sub.until("subscribed");
    home.run(&["pub", "--url", &url, "a.b", "1", "--token", BOB])
        .exits(6);

    let token = home
        .run_with(&["passwd", "--token"], BOB.as_bytes())
        .ok()
        .text();
    // Alice's line stays as it is: another hash of the same password would end her connections.
    let more = format!(
        "{}[[user]]\nname = \"bob\"\ntoken = {:?}\n",
        std::fs::read_to_string(&path).unwrap(),
        token.trim()
    );
    home.write("users.toml", &more);
    broker.running.signal(Signal::HUP);
    broker.running.until("users read again");
    broker.running.until("reloaded");
    home.run(&["pub", "--url", &url, "a.b", "1", "--token", BOB])
        .ok();
    assert_eq!(sub.json()["payload"], 1, "who was connected still is");

    home.write("users.toml", "[[user]]\nname = 3\n");
    broker.running.signal(Signal::HUP);
    broker.running.until("the users stay as they were");
    broker.running.until("not everything could be read again");
    home.run(&["pub", "--url", &url, "a.b", "2", "--token", BOB])
        .ok();
    assert_eq!(sub.json()["payload"], 2);
}

#[test]
fn reloading_takes_limits_and_log_level_over() {
    let home = Home::new();
    let file = home.write("d.toml", "listen = [\"ws://127.0.0.1:0\"]\n");
    let broker = home.broker(&["--config", &file]);
    let url = broker.ws();
    home.run(&["pub", "--url", &url, "a", "12345678"]).ok();
    home.write(
        "d.toml",
        "threads = 7\n[limits]\nmessage_len_max = 4\n[log]\nlevel = \"debug\"\n",
    );
    broker.running.signal(Signal::HUP);
    broker.running.until("threads");
    broker.running.until("new limits");
    broker.running.until("log level changed");
    broker.running.until("reloaded");
    home.run(&["pub", "--url", &url, "a", "12345678"])
        .exits(1)
        .says("larger than the limit of 4");

    home.write("d.toml", "nonsense = 7\n");
    broker.running.signal(Signal::HUP);
    broker.running.until("no setting has this name");
    broker.running.until("the configuration stays as it was");
    home.run(&["pub", "--url", &url, "a", "1"]).ok();
}

#[test]
fn reloading_replaces_the_certificate() {
    let home = Home::new();
    let broker = home.up(&["--log-level", "info"]);
    let url = broker.url("wss");
    let data = home.path().join(".local/share/dialtone");
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        // The folder is that of persist.
        if entry.file_type().unwrap().is_file() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    broker.running.signal(Signal::HUP);
    let line = broker.running.until("certificate replaced");
    let fingerprint = line.rsplit_once("fingerprint=").unwrap().1.trim();
    home.run(&["rtt", "--url", &url, "--fingerprint", broker.fingerprint()])
        .exits(1);
    home.run(&["rtt", "--url", &url, "--fingerprint", fingerprint])
        .ok();
}
