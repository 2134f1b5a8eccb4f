//! What `--help` says, as files beside this one that change only on purpose.

use crate::process::Home;

#[track_caller]
fn help(name: &str, args: &[&str]) {
    let shown = Home::new().run(&[args, &["--help"]].concat()).ok().text();
    insta::assert_snapshot!(name, shown);
}

#[test]
fn the_overview() {
    help("overview", &[]);
}

#[test]
fn the_subcommands() {
    for name in [
        "up", "broker", "cluster", "persist", "hub", "admin", "worker", "proxy", "project",
        "config", "passwd", "pub", "sub", "request", "reply", "interest", "call", "rtt", "top",
        "context", "stream", "kv", "object",
    ] {
        help(name, &[name]);
    }
    for name in [
        "init",
        "join-token",
        "join",
        "renew",
        "status",
        "nodes",
        "links",
        "leave",
        "forget",
    ] {
        help(&format!("cluster-{name}"), &["cluster", name]);
    }
    help("config-check", &["config", "check"]);
    help("context-add", &["context", "add"]);
}

#[test]
fn the_subcommands_of_admin() {
    for name in ["migrations", "settings", "tokens", "users"] {
        help(&format!("admin-{name}"), &["admin", name]);
    }
    help("admin-tokens-add", &["admin", "tokens", "add"]);
}

#[test]
fn the_subcommands_of_streams_keys_and_objects() {
    for name in [
        "ls", "info", "add", "edit", "append", "read", "tail", "rm", "verify", "export", "import",
        "copy", "points", "restore", "nodes", "consumer",
    ] {
        help(&format!("stream-{name}"), &["stream", name]);
    }
    for name in ["add", "ls", "info", "rm", "next"] {
        help(
            &format!("stream-consumer-{name}"),
            &["stream", "consumer", name],
        );
    }
    for name in ["get", "put", "watch", "ls", "rm", "history"] {
        help(&format!("kv-{name}"), &["kv", name]);
    }
    for name in ["put", "get", "ls", "rm", "info"] {
        help(&format!("object-{name}"), &["object", name]);
    }
}
