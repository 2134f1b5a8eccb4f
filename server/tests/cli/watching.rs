//! Round trips, `top`, and the small subcommands.

use crate::messaging::subscriber;
use crate::process::Home;

#[test]
fn round_trips_are_measured() {
    let home = Home::new();
    let broker = home.broker(&["--node", "here"]);
    let measured = home
        .run(&["rtt", "--url", &broker.ws(), "--count", "3", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&measured["count"], &measured["node"]),
        (&3.into(), &"here".into())
    );
    assert!(measured["min_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn top_shows_connections_to_scripts() {
    let home = Home::new();
    let broker = home.up(&[]);
    let _sub = subscriber(&home, &broker, &["a.>"]);
    let args = [
        "top",
        "--monitor",
        broker.monitor(),
        "--json",
        "--interval",
        "10ms",
    ];
    let shown = home.run(&args).ok().json();
    // The other one is persist, which `up` runs beside the broker.
    assert_eq!(shown["status"]["connections"], 2);
    let connections = shown["connections"].as_array().unwrap();
    let over_network = |shown: &&serde_json::Value| shown["connection"]["transport"] != "memory";
    let connection = &connections.iter().find(over_network).unwrap()["connection"];
    assert_eq!(
        (&connection["subscriptions"], &connection["transport"]),
        (&1.into(), &"websocket".into())
    );
    assert!(shown["per_second"]["messages_in"].is_number());
    home.run(&["top", "--monitor", broker.monitor()])
        .exits(2)
        .says("--json");
    home.run(&["top", "--monitor", "127.0.0.1:1"])
        .exits(1)
        .says("monitoring server");
}

#[test]
fn hashes_are_made_from_standard_input() {
    let home = Home::new();
    let hash = home.run_with(&["passwd"], b"secret\n").ok().text();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    // The second of the examples of FIPS 180-2.
    let text = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let token = home.run_with(&["passwd", "--token"], text).ok().text();
    assert_eq!(
        token,
        "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1\n"
    );
    home.run_with(&["passwd"], b"\n").exits(2);
}

#[test]
fn completions_name_the_subcommands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]).ok().text();
        assert!(script.contains("interest"), "{shell}");
    }
    assert_eq!(
        home.run(&["version"]).ok().text(),
        format!("dialtone {}\n", env!("CARGO_PKG_VERSION"))
    );
}
