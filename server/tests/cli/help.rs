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
        "up", "broker", "persist", "config", "passwd", "pub", "sub", "request", "reply",
        "interest", "rtt", "top", "context",
    ] {
        help(name, &[name]);
    }
    help("config-check", &["config", "check"]);
    help("context-add", &["context", "add"]);
}
