//! Nodes that talk to each other: messages between them, what is shown of them, and how they find each other.

use dialtone_testkit::dns::{Mood, NameServer};
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, link_of};
use crate::messaging::subscriber;
use crate::process::{Broker, Home};

/// Most questions until something is seen.
const ASKED_MAX: usize = 1_000;

fn status(home: &Home, broker: &Broker) -> Value {
    home.run(&["cluster", "status", "--json", "--url", &broker.ws()])
        .json()
}

/// Asks a node until its answer is as wanted.
#[track_caller]
fn until(home: &Home, broker: &Broker, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..ASKED_MAX {
        last = status(home, broker);
        if wanted(&last) {
            return last;
        }
    }
    panic!("not as wanted: {last:#}");
}

fn state<'v>(status: &'v Value, node: &str) -> &'v str {
    let members = status["members"].as_array().unwrap();
    let found = members.iter().find(|member| member["node"] == node);
    found.map_or("unknown", |member| member["state"].as_str().unwrap())
}

#[test]
fn messages_requests_and_questions_cross_nodes() {
    let cluster = Cluster::new(2);
    let (home, first, second) = (&cluster.home, cluster.node(0), cluster.node(1));
    let sub = subscriber(home, second, &["greet.>", "--json"]);
    let reply = home.start(&["reply", "echo", "--echo", "--url", &second.ws()]);
    reply.until("answering echo");
    let published = home
        .run(&[
            "pub",
            "greet.world",
            "hello",
            "--ack",
            "--wait",
            "1m",
            "--json",
            "--url",
            &first.ws(),
        ])
        .ok();
    assert_eq!(published.json()["subscribers"], 1);
    assert_eq!(sub.json()["payload"], "hello");
    let answer = home
        .run(&[
            "request",
            "echo",
            "42",
            "--wait",
            "--timeout",
            "1m",
            "--url",
            &first.ws(),
        ])
        .ok();
    assert_eq!(answer.text().trim(), "42");
    home.run(&["interest", "greet.any", "--url", &first.ws()])
        .ok();
    home.run(&["pub", "nobody", "x", "--ack", "--url", &first.ws()])
        .exits(4);
}

#[test]
fn a_cluster_is_shown_to_people_and_scripts() {
    let cluster = Cluster::new(3);
    let (home, first) = (&cluster.home, cluster.node(0));
    let url = first.ws();
    let show = |what: &str| home.run(&["cluster", what, "--url", &url]).ok().text();
    let summary = show("status");
    assert!(
        summary.contains("Cluster dialtone as node n0 sees it: all nodes are linked"),
        "{summary}"
    );
    assert!(summary.contains("certificate  valid until "), "{summary}");
    let nodes = show("nodes");
    assert!(nodes.starts_with("NODE"), "{nodes}");
    for part in ["n0    this node", "n1    linked", "n2    linked"] {
        assert!(nodes.contains(part), "{part:?} is missing:\n{nodes}");
    }
    let links = show("links");
    assert_eq!(links.lines().count(), 3, "{links}");
    assert!(links.contains("quic, "), "{links}");

    let seen = home
        .run(&[
            "top",
            "--cluster",
            "--json",
            "--interval",
            "10ms",
            "--url",
            &url,
        ])
        .ok()
        .json();
    assert_eq!(seen["cluster"], "dialtone");
    let nodes = seen["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert!(
        nodes
            .iter()
            .all(|node| node["status"]["node"] == node["node"]),
        "{seen:#}"
    );
    assert_eq!(seen["links"].as_array().unwrap().len(), 6, "{seen:#}");
    home.run(&["top", "--cluster", "--url", &url])
        .exits(2)
        .says("--json");
}

#[test]
fn a_node_that_is_killed_is_missing_until_it_is_forgotten() {
    let quick = [
        "--cluster-ping-interval",
        "200ms",
        "--cluster-pong-max",
        "1s",
    ];
    let mut cluster = Cluster::with(3, &quick);
    let lost = cluster.take(2);
    lost.running.signal(Signal::KILL);
    drop(lost);
    let (home, first) = (&cluster.home, cluster.node(0));
    until(home, first, |status| state(status, "n2") == "unlinked");
    home.run(&["cluster", "status", "--url", &first.ws()])
        .exits(7)
        .says("1 node not linked");
    home.run(&["cluster", "forget", "n1", "--url", &first.ws()])
        .exits(1)
        .says("node \"n1\" is linked; let it leave, or stop it first");
    home.run(&["cluster", "forget", "n9", "--url", &first.ws()])
        .exits(1)
        .says("no node \"n9\" is known here");
    home.run(&["cluster", "forget", "n2", "--url", &first.ws()])
        .ok();
    for node in [first, cluster.node(1)] {
        until(home, node, |status| {
            matches!(state(status, "n2"), "left" | "unknown")
        });
        home.run(&["cluster", "status", "--url", &node.ws()]).ok();
    }
}

#[test]
fn a_node_leaves_and_comes_back() {
    let cluster = Cluster::new(2);
    let (home, first, second) = (&cluster.home, cluster.node(0), cluster.node(1));
    home.run(&["cluster", "leave", "--url", &second.ws()]).ok();
    until(home, first, |status| state(status, "n1") == "left");
    home.run(&["rtt", "--count", "1", "--url", &second.ws()])
        .ok();
    home.run(&["cluster", "join", &link_of(first), "--url", &second.ws()])
        .ok();
    until(home, first, |status| state(status, "n1") == "linked");
    home.run(&["cluster", "join", "ws://127.0.0.1:1", "--url", &second.ws()])
        .exits(2)
        .says("is not encrypted");
}

/// A node that knows others by a secret.
fn with_secret(home: &Home, node: &str, secret: &str, more: &[&str]) -> Broker {
    let file = home.write(&format!("secret-{node}"), secret);
    let fixed = [
        "--node",
        node,
        "--cluster-name",
        "s",
        "--cluster-listen",
        "quic://127.0.0.1:0",
        "--cluster-secret-file",
        &file,
    ];
    home.broker(&[&fixed[..], more].concat())
}

#[test]
fn a_shared_secret_is_enough_and_another_one_is_refused_on_both_sides() {
    let home = Home::new();
    let first = with_secret(&home, "n1", "a secret of the cluster\n", &[]);
    let seeds = ["--cluster-seeds", &link_of(&first)];
    let second = with_secret(&home, "n2", "a secret of the cluster", &seeds);
    until(&home, &second, |status| state(status, "n1") == "linked");
    let other = with_secret(&home, "n3", "quite another secret", &seeds);
    other.running.until("a link was refused");
    first.running.until("a link was refused");
    let refused = until(&home, &first, |status| status["refusals_total"] != 0);
    let latest = refused["refusals"].as_array().unwrap();
    assert!(latest.iter().any(|one| one["node"] == "n3"), "{refused:#}");
    assert_eq!(state(&status(&home, &other), "n1"), "unknown");
}

#[test]
fn nodes_find_each_other_by_name_and_follow_what_changes() {
    let home = Home::new();
    let server = NameServer::start();
    let name = "_dialtone._udp.nodes.test.";
    server.addresses("local.test.", 1, &["127.0.0.1".parse().unwrap()]);
    let servers = server.addr().to_string();
    let found = [
        "--cluster-dns-servers",
        &servers,
        "--cluster-seeds",
        "srv://_dialtone._udp.nodes.test",
    ];
    let secret = "a secret of the cluster";
    let first = with_secret(&home, "n1", secret, &found);
    let second = with_secret(&home, "n2", secret, &found);
    let port = |broker: &Broker| {
        let link = link_of(broker);
        link.rsplit_once(':').unwrap().1.parse::<u16>().unwrap()
    };
    let services = |brokers: &[&Broker]| {
        let services: Vec<_> = brokers
            .iter()
            .map(|broker| (0, 0, port(broker), "local.test."))
            .collect();
        server.services(name, 1, &services);
    };
    services(&[&first, &second]);
    until(&home, &first, |status| state(status, "n2") == "linked");

    server.set_mood(Mood::Failing);
    second.running.until("the seed cannot be looked up");
    home.run(&["cluster", "status", "--url", &second.ws()]).ok();
    let third = with_secret(&home, "n3", secret, &found);
    third.running.until("the seed cannot be looked up");
    services(&[&first, &second, &third]);
    server.set_mood(Mood::Answering);
    let complete = |status: &Value| {
        let members = status["members"].as_array().unwrap();
        let linked = members.iter().filter(|member| member["state"] == "linked");
        linked.count() == 2
    };
    for node in [&first, &second, &third] {
        let seen = until(&home, node, complete);
        let refusals = seen["refusals"].as_array().unwrap();
        let itself = |one: &&Value| one["node"] == seen["node"];
        assert!(!refusals.iter().any(|one| itself(&one)), "{seen:#}");
    }
}

#[test]
fn other_seeds_are_used_after_a_reload() {
    let home = Home::new();
    let secret = "a secret of the cluster";
    let first = with_secret(&home, "n1", secret, &[]);
    let config = home.write("n2.toml", "[cluster]\nseeds = []\n");
    let second = with_secret(&home, "n2", secret, &["--config", &config]);
    let seeds = format!("[cluster]\nseeds = [\"{}\"]\n", link_of(&first));
    home.write("n2.toml", &seeds);
    second.running.signal(Signal::HUP);
    let seen = until(&home, &second, |status| state(status, "n1") == "linked");
    assert_eq!(seen["seeds"][0]["url"], link_of(&first));
    // What cannot be read changes nothing.
    home.write("n2.toml", "[cluster]\nseeds = [\"carrier-pigeon://n1\"]\n");
    second.running.signal(Signal::HUP);
    second.running.until("the configuration stays as it was");
    assert_eq!(status(&home, &second)["seeds"], seen["seeds"]);
}

#[test]
fn two_clusters_exchange_messages_over_gateways() {
    let home = Home::new();
    let node = |node: &str, cluster: &str, port: u16, gateway: &str| {
        let file = home.write("secret", "a secret of both clusters");
        home.broker(&[
            "--node",
            node,
            "--cluster-name",
            cluster,
            "--cluster-listen",
            &format!("quic://127.0.0.1:{port}"),
            "--cluster-secret-file",
            &file,
            "--cluster-gateways",
            gateway,
        ])
    };
    // Each must know the other's port before that one runs.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let east = node("e1", "east", 0, &format!("west=quic://127.0.0.1:{port}"));
    let to_east = format!("east={}", link_of(&east));
    let west = node("w1", "west", port, &to_east);
    for (from, to) in [(&east, &west), (&west, &east)] {
        let sub = subscriber(&home, to, &["greet.>", "--json"]);
        let args = ["pub", "greet.world", "1", "--wait", "1m", "--json", "--url"];
        let said = home.run(&[&args[..], &[&from.ws()]].concat()).ok().json();
        assert_eq!(said["subscribers"], 1);
        assert_eq!(sub.json()["payload"], 1);
    }
    let links = home
        .run(&["cluster", "links", "--url", &west.ws()])
        .ok()
        .text();
    assert!(links.contains("e1    east"), "{links}");
    let stranger = node("x1", "elsewhere", 0, &to_east);
    stranger.running.until("a link was refused");
}
