//! What a shell gets to know.

use crate::messaging::subscriber;
use crate::process::Home;

/// A user `alice` with the password `secret`, who may use `a.>` only.
pub(crate) fn users(home: &Home, more: &str) -> String {
    let hash = home.run_with(&["passwd"], b"secret\n").ok().text();
    let text = format!(
        "[[user]]\nname = \"alice\"\npassword = {:?}\npublish = {{ allow = [\"a.>\"] }}\nsubscribe = {{ allow = [\"a.>\"] }}\n{more}",
        hash.trim()
    );
    home.write("users.toml", &text)
}

#[test]
fn nobody_subscribes_is_4() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    home.run(&["request", "--url", &url, "a.b", "x"])
        .exits(4)
        .says("nobody subscribes to a.b");
    home.run(&["pub", "--url", &url, "a.b", "x", "--ack"])
        .exits(4);
    home.run(&["pub", "--url", &url, "a.b", "x"]).exits(0);
}

#[test]
fn too_late_is_5() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let _silent = subscriber(&home, &broker, &["a.b"]);
    let url = broker.ws();
    home.run(&["request", "--url", &url, "a.b", "x", "--timeout", "50ms"])
        .exits(5)
        .says("no answer");
    home.run(&["interest", "--url", &url, "x", "--wait", "50ms"])
        .exits(5);
    home.run(&["sub", "--url", &url, "x", "--timeout", "50ms"])
        .exits(5)
        .says("nothing came");
    home.run(&["pub", "--url", &url, "x", "y", "--wait", "50ms"])
        .exits(5)
        .says("nobody subscribed to x within 50ms");
    for replies in ["1", "2"] {
        let args = ["request", "--url", &url, "x", "y", "--wait"];
        home.run(&[&args[..], &["--timeout", "50ms", "--replies", replies]].concat())
            .exits(5)
            .says("nobody subscribed to x within 50ms");
    }
}

#[test]
fn not_permitted_is_6() {
    let home = Home::new();
    let users = users(&home, "");
    let broker = home.broker(&["--users", &users]);
    let url = broker.ws();
    let alice = ["--url", &url, "--user", "alice", "--password", "secret"];
    home.run(&[&["pub", "a.b", "x"], &alice[..]].concat()).ok();
    for args in [
        &["pub", "b", "x"][..],
        &["sub", "b"],
        &["request", "b", "x"],
    ] {
        let refused = home.run(&[args, &alice[..]].concat()).exits(6);
        let said = refused.stderr.matches("permission denied").count();
        assert_eq!(said, 1, "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
    home.run(&[
        "pub",
        "--url",
        &url,
        "a.b",
        "x",
        "--user",
        "alice",
        "--password",
        "wrong",
    ])
    .exits(6)
    .says("wrong user name or password");
    home.run(&["pub", "--url", &url, "a.b", "x"])
        .exits(6)
        .says("--password");
    let file = home.write("alice.toml", "user = \"alice\"\npassword = \"secret\"\n");
    home.run(&["pub", "--url", &url, "a.b", "x", "--credentials", &file])
        .ok();
    let mut with_environment = home.command(&["pub", "--url", &url, "a.b", "x"]);
    with_environment
        .env("DIALTONE_USER", "alice")
        .env("DIALTONE_PASSWORD", "secret");
    assert!(with_environment.status().unwrap().success());
}

#[test]
fn what_makes_no_sense_is_2() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    home.run(&["pub"]).exits(2);
    home.run(&["no-such-command"]).exits(2);
    home.run(&["pub", "--url", &url, "a..b", "x"])
        .exits(2)
        .says("cannot publish to this subject");
    home.run(&["sub", "--url", &url, "a.>.b"])
        .exits(2)
        .says("pattern");
    home.run(&["sub", "--url", "http://x", "a"])
        .exits(2)
        .says("scheme");
    home.run(&["pub", "--url", &url, "a", "x", "--header", "nonsense"])
        .exits(2)
        .says("NAME=VALUE");
    home.run(&["sub", "--url", &url, "a", "--queue", ""])
        .exits(2)
        .says("a queue group needs a name");
    home.run(&["reply", "--url", &url, "a"])
        .exits(2)
        .says("--echo|--command");
    home.run(&["pub", "--url", &url, "a", "{", "-e", "json"])
        .exits(2)
        .says("not JSON");
    home.run(&["rtt", "--url", &url, "--credentials", "no.toml"])
        .exits(2)
        .says("no.toml");
    home.run(&["rtt", "--url", "quic://127.0.0.1:1", "--ca", "no.pem"])
        .exits(2)
        .says("no.pem");
    home.run(&["rtt", "--url", &url, "--log-level", "a=b=c"])
        .exits(2)
        .says("log level");
    home.run_with(&["passwd"], b"secret\nsecret\n")
        .exits(2)
        .says("more than one line");
    home.run_with(&["passwd", "--token"], b"short\n")
        .exits(2)
        .says("at least 16 characters");
    home.run(&["broker", "--users", "no.toml"])
        .exits(2)
        .says("no.toml");
    home.run(&["broker", "--threads", "many"])
        .exits(2)
        .says("flag --threads: threads: expected a whole number");
}

#[test]
fn nobody_listening_is_1_with_a_hint() {
    let home = Home::new();
    home.run(&["rtt", "--url", "ws://127.0.0.1:1"])
        .exits(1)
        .says("ws://127.0.0.1:1 ? `dialtone up` starts one");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    let port = url
        .trim_start_matches("ws://127.0.0.1:")
        .trim_end_matches('/');
    home.run(&["broker", "--listen", &url])
        .exits(1)
        .says(&format!("port {port} is in use"))
        .says("--listen ws://127.0.0.1:PORT");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    home.run(&["broker", "--listen", "ws://127.0.0.1:0", "--monitor", &addr])
        .exits(1)
        .says(&addr)
        .says("--monitor");
}
