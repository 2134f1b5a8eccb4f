//! `up --nodes`: processes that start, end and are ended together.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::process::{Home, Running};

const FREE: [&str; 9] = [
    "up",
    "--json",
    "--listen",
    "ws://127.0.0.1:0",
    "--monitor",
    "127.0.0.1:0",
    "--cluster-listen",
    "quic://127.0.0.1:0",
    "--nodes",
];

/// A cluster on free ports, and what it said when it was ready.
fn up(home: &Home, count: &str) -> (Running, Value) {
    let running = home.start(&[&FREE[..], &[count]].concat());
    let ready = running.json();
    (running, ready)
}

fn pid(node: &Value) -> Pid {
    let pid = i32::try_from(node["pid"].as_i64().unwrap()).unwrap();
    Pid::from_raw(pid).unwrap()
}

fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid).is_err()
}

#[test]
fn all_nodes_drain_with_one_signal() {
    let home = Home::new();
    let (up, ready) = up(&home, "3");
    let nodes = ready["nodes"].as_array().unwrap().clone();
    let names: Vec<_> = nodes
        .iter()
        .map(|node| node["node"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    for node in &nodes {
        let url = node["urls"][0].as_str().unwrap();
        let said = home
            .run(&["rtt", "--url", url, "--count", "1", "--json"])
            .ok();
        assert_eq!(said.json()["node"], node["node"]);
        assert_eq!(node["cluster"]["name"], "local");
    }
    up.signal(Signal::INT);
    up.until("draining 3 nodes, at most 1 s; press Ctrl-C again to stop at once");
    up.end().ok();
    assert!(nodes.iter().all(|node| is_gone(pid(node))));
    let data = home.path().join(".local/share/dialtone/nodes");
    for node in ["n1", "n2", "n3"] {
        assert!(data.join(node).join("broker.toml").is_file());
    }
}

#[test]
fn a_node_that_is_killed_is_told_and_the_others_go_on() {
    let home = Home::new();
    let (up, ready) = up(&home, "2");
    let (first, second) = (&ready["nodes"][0], &ready["nodes"][1]);
    kill_process(pid(first), Signal::KILL).unwrap();
    up.until("n1 was ended by signal 9; one node goes on.");
    let start = up.until("dialtone broker --persist ");
    let url = second["urls"][0].as_str().unwrap();
    home.run(&["rtt", "--url", url, "--count", "1"]).ok();

    let args = start.split_once("dialtone ").unwrap().1;
    let args: Vec<&str> = args.split_whitespace().chain(["--json"]).collect();
    let again = crate::process::Broker::new(home.start(&args));
    assert_eq!(again.ready["node"], "n1");

    kill_process(pid(second), Signal::KILL).unwrap();
    up.end().exits(1).says("all nodes have ended");
}

#[test]
fn streams_are_spread_over_the_nodes_and_are_there_again_with_their_node() {
    const STREAMS: u32 = 12;
    let home = Home::new();
    let (up, ready) = up(&home, "3");
    let url = |node: usize| ready["nodes"][node]["urls"][0].as_str().unwrap();
    for number in 0..STREAMS {
        let (stream, at) = (format!("s{number}"), url(number as usize % 3));
        home.run(&["stream", "add", &stream, "--url", at]).ok();
        home.run(&["stream", "append", &stream, "one", "--url", at])
            .ok();
    }
    // Each node has some of them: all can be read at any node, and with one node some are away.
    kill_process(pid(&ready["nodes"][1]), Signal::KILL).unwrap();
    let start = up.until("dialtone broker --persist ");
    let is_there = |number: u32, at: usize, patience: &str| {
        let stream = format!("s{number}");
        let read = ["stream", "read", &stream, "-n", "1", "--timeout", patience];
        let done = home.run(&[&read[..], &["--url", url(at)]].concat());
        done.code == Some(0)
    };
    let there = |at: usize| {
        (0..STREAMS)
            .filter(|number| is_there(*number, at, "1s"))
            .count()
    };
    let (first, second) = (there(0), there(2));
    assert_eq!(first, second);
    assert!(0 < first && first < STREAMS as usize, "{first} are there");
    let args = start.split_once("dialtone ").unwrap().1;
    let args: Vec<&str> = args.split_whitespace().chain(["--json"]).collect();
    let _again = crate::process::Broker::new(home.start(&args));
    assert!((0..STREAMS).all(|number| is_there(number, 0, "1m")));
}

#[test]
fn all_nodes_reload_with_one_signal() {
    let home = Home::new();
    let up = home.start(&[&FREE[..], &["2", "--log-level", "info"]].concat());
    let ready = up.json();
    assert_eq!(ready["nodes"].as_array().unwrap().len(), 2);
    up.signal(Signal::HUP);
    let first = up.until(": reloaded");
    let second = up.until(": reloaded");
    let node = |line: &str| line.split(':').next().unwrap().to_owned();
    assert_ne!(node(&first), node(&second), "{first} {second}");
}

#[test]
fn nodes_end_when_whoever_started_them_is_killed() {
    let home = Home::new();
    let (up, ready) = up(&home, "2");
    let nodes = ready["nodes"].as_array().unwrap();
    let urls: Vec<_> = nodes
        .iter()
        .map(|node| node["urls"][0].as_str().unwrap())
        .collect();
    let subs: Vec<_> = urls
        .iter()
        .map(|url| home.start(&["sub", "a", "--url", url]))
        .collect();
    for sub in &subs {
        sub.until("subscribed");
    }
    up.signal(Signal::KILL);
    for sub in subs {
        sub.until("disconnected: ");
    }
}

#[test]
fn a_node_that_cannot_start_ends_all() {
    let home = Home::new();
    let bind = |port| std::net::TcpListener::bind(("127.0.0.1", port));
    // The port of the first node is free, that of the second one is taken.
    let (port, _taken) = std::iter::repeat_with(|| bind(0).unwrap())
        .find_map(|free| {
            let port = free.local_addr().unwrap().port();
            Some((port, bind(port.checked_add(100)?).ok()?))
        })
        .unwrap();
    let first = format!("ws://127.0.0.1:{port}");
    let more = ["--listen", &first, "--monitor", "off", "--cluster-listen"];
    let args = [
        &["up", "--json", "--nodes", "2"],
        &more[..],
        &["quic://127.0.0.1:0"],
    ];
    home.run(&args.concat())
        .exits(1)
        .says("n2: error: cannot listen on ws://127.0.0.1:")
        .says("n2 did not start: it failed with exit code 1");
}

#[test]
fn what_each_node_has_of_its_own_cannot_be_chosen() {
    let home = Home::new();
    for (flag, value) in [
        ("--node", "a"),
        ("--cluster-name", "a"),
        ("--cluster-secret-file", "a"),
    ] {
        home.run(&["up", "--nodes", "2", flag, value]).exits(2);
    }
    home.run(&["up", "--nodes", "2", "--node", "a"])
        .exits(2)
        .says("node (flag --node) cannot be chosen with --nodes");
    home.run(&["up", "--nodes", "1"]).exits(2);
}

#[test]
fn an_invitation_says_what_to_try_and_what_to_kill() {
    let home = Home::new();
    let args: Vec<_> = FREE
        .iter()
        .filter(|arg| **arg != "--json")
        .copied()
        .collect();
    let up = home.start(&[&args[..], &["2"]].concat());
    assert!(
        up.line()
            .contains("Dialtone cluster local is ready: 2 nodes")
    );
    let lines: Vec<_> =
        std::iter::from_fn(|| Some(up.line()).filter(|line| !line.contains("Ctrl-C"))).collect();
    let said = lines.join("\n");
    for part in [
        "  dialtone sub 'greet.>' --url ws://127.0.0.1:",
        "  dialtone pub greet.world hello --url ws://127.0.0.1:",
        "  dialtone cluster nodes --url ws://127.0.0.1:",
        "  dialtone top --cluster --url ws://127.0.0.1:",
        "  kill -9 ",
        "  dialtone broker --persist ",
    ] {
        assert!(said.contains(part), "{part:?} is missing:\n{said}");
    }
}
