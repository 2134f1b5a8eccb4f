//! Brokers and credentials under names.

use std::os::unix::fs::PermissionsExt as _;

use crate::exit_codes::users;
use crate::process::Home;

#[test]
fn a_context_is_used_by_every_subcommand() {
    let home = Home::new();
    let users = users(&home, "");
    let broker = home.broker(&["--users", &users]);
    let url = broker.ws();
    home.run(&[
        "context",
        "add",
        "lab",
        "--url",
        &url,
        "--user",
        "alice",
        "--password",
        "secret",
    ])
    .ok()
    .says("saved lab");
    home.run(&["context", "add", "lab", "--url", "ws://elsewhere"])
        .exits(2)
        .says("--force");
    home.run(&["pub", "a.b", "x"]).ok();
    home.run(&["pub", "a.b", "x", "--context", "lab"]).ok();
    home.run(&["pub", "a.b", "x", "--context", "nowhere"])
        .exits(2)
        .says("there are: lab");
    home.run(&["pub", "a.b", "x", "--url", &url]).exits(6);

    let shown = home.run(&["context", "show"]).ok().text();
    assert!(
        shown.contains("password = \"***\"") && !shown.contains("secret"),
        "{shown}"
    );
    let listed = home.run(&["context", "list", "--json"]).ok().json();
    assert_eq!(listed[0]["name"], "lab");
    assert_eq!(listed[0]["current"], true);
    let file = home.path().join(".config/dialtone/contexts.toml");
    assert_eq!(
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    home.run(&["context", "remove", "lab"]).ok();
    home.run(&["context", "use", "lab"]).exits(2);
    let none = home.run(&["context", "list"]).ok();
    assert_eq!(none.text(), "");
    none.says("no contexts yet");
}
