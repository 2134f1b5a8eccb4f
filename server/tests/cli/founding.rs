//! Founding a cluster, tokens, joining, renewal: everything that happens before nodes talk to each other.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::process::Home;

/// A cluster `prod` in the folder `n1`.
fn founded(home: &Home) {
    home.run(&[
        "cluster", "init", "--dir", "n1", "--name", "prod", "--node", "n1",
    ])
    .ok();
}

fn token(home: &Home, more: &[&str]) -> String {
    let args = [&["cluster", "join-token", "--dir", "n1"], more].concat();
    home.run(&args).ok().text().trim().to_owned()
}

const SEED: [&str; 2] = ["--seed", "quic://127.0.0.1:4434"];

#[test]
fn founding_makes_private_files_and_says_what_to_do_next() {
    let home = Home::new();
    let said = home
        .run(&[
            "cluster", "init", "--dir", "n1", "--name", "prod", "--node", "n1",
        ])
        .ok()
        .text();
    for part in [
        "Cluster prod with its first node n1",
        "dialtone broker --config ",
        "n1/broker.toml",
        "dialtone cluster join-token --dir ",
        "dialtone cluster join TOKEN",
        "ca-key.pem",
    ] {
        assert!(said.contains(part), "{part:?} is missing:\n{said}");
    }
    let folder = home.path().join("n1");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in [
        "ca.pem",
        "ca-key.pem",
        "node.pem",
        "node-key.pem",
        "broker.toml",
    ] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    home.run(&["config", "check", "--config", "n1/broker.toml"])
        .ok();
    home.run(&["cluster", "init", "--dir", "n1"])
        .exits(1)
        .says("belongs to node n1 of cluster prod already");
    for bad in [
        ["--name", "a b"],
        ["--name=-a", "--node=n1"],
        ["--node", "a.b"],
    ] {
        let args = [&["cluster", "init", "--dir", "other"], &bad[..]].concat();
        home.run(&args).exits(2).says("is no name of a");
    }
    assert!(!home.path().join("other").exists());
}

#[test]
fn the_default_folder_and_names_are_enough() {
    let home = Home::new();
    home.run(&["cluster", "init"]).ok();
    let folder = home.path().join(".local/share/dialtone/cluster");
    assert!(folder.join("ca-key.pem").is_file());
    let broker = crate::process::Broker::new(home.start(&[
        "broker",
        "--json",
        "--config",
        folder.join("broker.toml").to_str().unwrap(),
        "--listen",
        "ws://127.0.0.1:0",
        "--cluster-listen",
        "quic://127.0.0.1:0",
    ]));
    assert_eq!(broker.ready["cluster"]["name"], "dialtone");
}

#[test]
fn a_token_makes_a_node() {
    let home = Home::new();
    founded(&home);
    let made = home
        .run(
            &[
                &["cluster", "join-token", "--dir", "n1", "--node", "n2"],
                &SEED[..],
            ]
            .concat(),
        )
        .ok()
        .says("node n2 of cluster prod, which finds others at quic://127.0.0.1:4434");
    let token = made.text();
    assert_eq!(token.lines().count(), 1);
    let said = home
        .run(&["cluster", "join", token.trim(), "--dir", "n2"])
        .ok()
        .text();
    assert!(said.contains("Node n2 of cluster prod is in"), "{said}");
    assert!(said.contains("dialtone broker --config "), "{said}");
    home.run(&["config", "check", "--config", "n2/broker.toml"])
        .ok();
    let config = std::fs::read_to_string(home.path().join("n2/broker.toml")).unwrap();
    assert!(
        config.contains("seeds = [\"quic://127.0.0.1:4434\"]"),
        "{config}"
    );
    assert!(!home.path().join("n2/ca-key.pem").exists());

    let again = home
        .run(&["cluster", "join", token.trim(), "--dir", "n2"])
        .ok()
        .text();
    assert!(again.contains("has joined already"), "{again}");
    home.run(&["cluster", "join", token.trim(), "--dir", "n1"])
        .exits(1)
        .says("belongs to node n1 of cluster prod, but the token is for node n2");
}

#[test]
fn a_token_comes_over_standard_input_and_renews() {
    let home = Home::new();
    founded(&home);
    let short = [&["--node", "n2", "--valid-for", "1h"], &SEED[..]].concat();
    let first = token(&home, &short);
    home.run_with(&["cluster", "join", "-", "--dir", "n2"], first.as_bytes())
        .ok();
    home.write("n2/broker.toml", "# mine\n");
    let second = token(&home, &[&["--node", "n2"], &SEED[..]].concat());
    let (begin, end) = second.split_at(second.len() / 2);
    let wrapped = format!("{begin}\n  {end}\n");
    let said = home
        .run_with(&["cluster", "join", "-", "--dir", "n2"], wrapped.as_bytes())
        .ok()
        .text();
    assert!(said.contains("has a new certificate"), "{said}");
    let config = std::fs::read_to_string(home.path().join("n2/broker.toml")).unwrap();
    assert_eq!(config, "# mine\n", "what was edited stays");
    let renewed = home.run(&["cluster", "renew", "--dir", "n1"]).ok().text();
    assert!(
        renewed.contains("node n1 of cluster prod is valid until"),
        "{renewed}"
    );
    home.run(&["cluster", "renew", "--dir", "n2"])
        .exits(1)
        .says("no authority of a cluster");
}

#[test]
fn tokens_that_cannot_be_used_say_why() {
    let home = Home::new();
    founded(&home);
    let good = token(&home, &SEED);
    let (cut, _) = good.split_at(good.len() - 7);
    let past = token(&home, &[&["--ttl", "1ms"], &SEED[..]].concat());
    for (token, code, part) in [
        (cut, 2, "damaged or incomplete"),
        (past.as_str(), 2, "expired at"),
        ("dialtone-join-9.AAAA", 2, "another version"),
        ("nonsense", 2, "neither a join token nor the URL of a node"),
    ] {
        home.run(&["cluster", "join", token, "--dir", "x"])
            .exits(code)
            .says(part);
        assert!(!home.path().join("x").exists());
    }
    home.run_with(&["cluster", "join", "-", "--dir", "x"], b"nonsense")
        .exits(2)
        .says("this is no join token");
    home.run(&["cluster", "join-token", "--dir", "none"])
        .exits(1)
        .says("no authority of a cluster")
        .says("dialtone cluster init");
    home.run(&["cluster", "join-token", "--dir", "n1", "--seed", "10.0.0.1"])
        .exits(2)
        .says("has no scheme");
}

#[test]
fn a_token_names_the_founding_node_as_seed() {
    let home = Home::new();
    home.run(&[
        "cluster",
        "init",
        "--dir",
        "n1",
        "--node",
        "n1",
        "--listen",
        "quic://127.0.0.1:4999",
    ])
    .ok();
    let made = home
        .run(&["cluster", "join-token", "--dir", "n1", "--json"])
        .ok()
        .json();
    assert_eq!(made["seeds"], serde_json::json!(["quic://127.0.0.1:4999"]));
    assert!(made["node"].as_str().unwrap().starts_with('n'));
    assert!(
        made["token"]
            .as_str()
            .unwrap()
            .starts_with("dialtone-join-1.")
    );
}

#[test]
fn a_broker_starts_from_a_token_again_and_again() {
    let home = Home::new();
    founded(&home);
    let token = token(&home, &[&["--node", "n2"], &SEED[..]].concat());
    for _ in 0..2 {
        let broker = home.broker(&[
            "--cluster-token",
            &token,
            "--cluster-dir",
            "n2",
            "--cluster-listen",
            "quic://127.0.0.1:0",
        ]);
        assert_eq!(broker.ready["node"], "n2");
        assert_eq!(broker.ready["cluster"]["name"], "prod");
        let url = broker.ready["cluster"]["urls"][0].as_str().unwrap();
        assert!(
            url.starts_with("quic://127.0.0.1:") && !url.ends_with(":0"),
            "{url}"
        );
    }
    assert!(home.path().join("n2/node-key.pem").is_file());
    let args = ["broker", "--listen", "ws://127.0.0.1:0", "--cluster-token"];
    home.run(&[&args[..], &["nonsense"]].concat())
        .exits(2)
        .says("this is no join token");
}

#[test]
fn settings_that_make_no_cluster_are_named() {
    let home = Home::new();
    founded(&home);
    let file = home.write(
        "d.toml",
        "[cluster]\nname = \"other\"\ncert = \"n1/node.pem\"\nkey = \"n1/node-key.pem\"\nca = \"n1/ca.pem\"\n",
    );
    let said = "is for node n1 of cluster prod, but cluster.name is \"other\"";
    home.run(&["config", "check", "--config", &file])
        .exits(1)
        .says(said);
    home.run(&["broker", "--config", &file]).exits(2).says(said);
    home.run(&["broker", "--config", "n1/broker.toml", "--node", "n7"])
        .exits(2)
        .says("is for node n1 of cluster prod, but node is \"n7\"");
    home.run(&["broker", "--cluster-name", "prod"])
        .exits(2)
        .says("nothing says how the nodes of cluster \"prod\" know each other");
    home.run(&["broker", "--cluster-seeds", "quic://10.0.0.1"])
        .exits(2)
        .says("--cluster-seeds: cluster.seeds: needs cluster.name as well");
    home.run(&[
        "broker",
        "--cluster-name",
        "prod",
        "--cluster-seeds",
        "ws://10.0.0.1",
    ])
    .exits(2)
    .says("ws://10.0.0.1:4434/ is not encrypted");
    let short = home.write("secret", "short\n");
    home.run(&[
        "broker",
        "--cluster-name",
        "prod",
        "--cluster-secret-file",
        &short,
    ])
    .exits(2)
    .says("at least 16 bytes, not 5");
}

#[test]
fn a_node_that_stands_alone_says_so() {
    let home = Home::new();
    let broker = home.broker(&[]);
    assert!(broker.ready["cluster"].is_null());
    for command in ["status", "nodes", "links", "leave"] {
        home.run(&["cluster", command, "--url", &broker.ws()])
            .exits(1)
            .says("the node belongs to no cluster")
            .says("dialtone cluster init");
    }
}

#[test]
fn a_certificate_that_ends_soon_is_told_and_replaced_without_a_restart() {
    let home = Home::new();
    home.run(&[
        "cluster",
        "init",
        "--dir",
        "n1",
        "--node",
        "n1",
        "--valid-for",
        "240h",
    ])
    .ok();
    let broker = home.broker(&[
        "--config",
        "n1/broker.toml",
        "--cluster-listen",
        "quic://127.0.0.1:0",
    ]);
    broker
        .running
        .until("the certificate of this node ends in 9 days");
    home.run(&["cluster", "renew", "--dir", "n1"]).ok();
    broker.running.signal(rustix::process::Signal::HUP);
    broker.running.until("cluster certificate replaced");
    broker.running.until("reloaded");
    home.write("n1/node.pem", "nonsense");
    broker.running.signal(rustix::process::Signal::HUP);
    broker
        .running
        .until("the cluster certificate stays as it was");
}
