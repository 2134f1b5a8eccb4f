//! What those who run a site do with a hub now and then: jobs that are done once, moving a site, letters, other sites to
//! sign in by; and several hubs of which one is killed.

use std::collections::BTreeSet;

use dialtone_testkit::{MailServer, Postgres};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Done, Home, Running};

fn admin(home: &Home, args: &[&str]) -> Done {
    home.run(&[&["admin"], args].concat())
}

fn lines(done: Done) -> Vec<Value> {
    let text = done.ok().text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn add(home: &Home, address: &str) -> String {
    let args = ["admin", "users", "add", address];
    home.run_with(&args, b"correct horse battery\n")
        .ok()
        .text()
        .trim()
        .to_owned()
}

#[test]
fn what_is_done_once_needs_no_mode_and_ends() {
    let home = Home::new();
    let id = add(&home, "ada@example.org");
    let first = home.run(&["hub", "--passwd", "Ada@Example.org"]).ok();
    let (first, second) = (
        first.says("signed out everywhere").text(),
        home.run(&["hub", "--passwd", &id]).ok().text(),
    );
    assert_eq!((first.trim().len(), second.trim().len()), (20, 20));
    assert_ne!(first, second);
    home.run(&["hub", "--passwd", "nobody@example.org"])
        .exits(1)
        .says("there is no such account");
    home.run(&["hub", "--update-database-schema"])
        .ok()
        .says("up to date");
    home.run(&["hub", "--delete-expired"])
        .ok()
        .says("removed 0 rows");
    let blobs = home.run(&["hub", "--blob-maintenance"]).ok();
    assert_eq!(
        blobs.json(),
        serde_json::json!({"removed": 0, "blobs": 0, "ending": 0, "bytes": 0})
    );
    admin(&home, &["blob-maintenance"])
        .ok()
        .says("removed 0 blobs");
    let counts = home
        .run(&["hub", "--update-stats", "--delete-expired"])
        .ok()
        .json();
    assert_eq!(
        (&counts["accounts"], &counts["projects"]),
        (&1.into(), &0.into())
    );
    assert_eq!(counts["accounts_created"]["5min"], 1);
    assert_eq!(counts["running_projects"]["free"], 0);
    assert_eq!(admin(&home, &["update-stats"]).ok().json()["accounts"], 1);
}

#[test]
fn a_new_site_begins_with_what_the_environment_says() {
    let home = Home::new();
    let schema = |variables: &[(&str, &str)]| {
        let mut command = home.command(&["hub", "--update-database-schema"]);
        command.envs(variables.iter().copied());
        Done::of(command.spawn().unwrap())
    };
    let given = [
        ("COCALC_SETUP_ADMIN_EMAIL", "Root@Example.org"),
        ("COCALC_SETUP_ADMIN_PASSWORD", "purple-monkey-dishwasher"),
        ("COCALC_SETUP_ADMIN_NAME", "Ada King Lovelace"),
        ("DIALTONE_SETUP_REGISTRATION_TOKEN", "come-in"),
    ];
    schema(&given)
        .ok()
        .says("made the administrator Root@Example.org");
    let shown = admin(&home, &["--json", "users", "show", "root@example.org"])
        .ok()
        .json();
    assert_eq!(
        (&shown["groups"][0], &shown["last_name"]),
        (&"admin".into(), &"Lovelace".into())
    );
    assert_eq!(
        admin(&home, &["--json", "tokens", "ls"]).ok().json()["token"],
        "come-in"
    );
    // What is there stays as it is.
    admin(&home, &["users", "demote", "root@example.org"]).ok();
    admin(&home, &["tokens", "disable", "come-in"]).ok();
    schema(&given).ok();
    let shown = admin(&home, &["--json", "users", "show", "root@example.org"])
        .ok()
        .json();
    assert_eq!(shown["groups"].as_array().unwrap().len(), 0);
    assert_eq!(
        admin(&home, &["--json", "tokens", "ls"]).ok().json()["disabled"],
        true
    );
    // What makes no sense is said, and nothing is made.
    let email = ("DIALTONE_SETUP_ADMIN_EMAIL", "new@example.org");
    schema(&[email])
        .exits(2)
        .says("DIALTONE_SETUP_ADMIN_PASSWORD");
    schema(&[email, ("DIALTONE_SETUP_ADMIN_PASSWORD", "password")])
        .exits(2)
        .says("password");
    schema(&[("DIALTONE_SETUP_REGISTRATION_TOKEN", "a b")])
        .exits(2)
        .says("without blanks");
    admin(&home, &["users", "show", "new@example.org"]).exits(1);
}

#[test]
fn a_site_moves_to_postgres() {
    let home = Home::new();
    let id = add(&home, "ada@example.org");
    admin(&home, &["settings", "set", "site_name", "Ours"]).ok();
    let url = Postgres::shared().database();
    let copied = lines(admin(&home, &["--json", "db", "copy", &url]));
    let rows =
        |table: &str| copied.iter().find(|line| line["table"] == table).unwrap()["rows"].clone();
    assert_eq!(
        (rows("accounts"), rows("server_settings")),
        (1.into(), 1.into())
    );
    let at = ["--database-url", url.as_str()];
    let there = |args: &[&str]| admin(&home, &[&at[..], args].concat());
    assert_eq!(
        there(&["settings", "get", "site_name"]).ok().text(),
        "Ours\n"
    );
    assert_eq!(
        there(&["--json", "users", "show", "ada@example.org"])
            .ok()
            .json()["account_id"],
        id.as_str()
    );
    admin(&home, &["db", "copy", &url])
        .exits(1)
        .says("not empty")
        .says("new database");
    admin(&home, &["db", "copy", "sqlite:other.db"])
        .exits(2)
        .says("from SQLite to PostgreSQL");
}

#[test]
fn letters_are_tried_out_and_looked_after() {
    let home = Home::new();
    admin(&home, &["letters", "test", "ada@example.org"])
        .exits(1)
        .says("no way to send letters");
    admin(
        &home,
        &["letters", "test", "ada@example.org", "--letters", "letters"],
    )
    .ok();
    assert_eq!(
        std::fs::read_dir(home.path().join("letters"))
            .unwrap()
            .count(),
        1
    );
    let mut server = MailServer::start();
    for (name, value) in [
        ("email_enabled", "yes"),
        ("email_smtp_server", "127.0.0.1"),
        ("email_smtp_from", "hub@example.org"),
        ("email_smtp_port", &server.port().to_string()),
        ("email_smtp_tls", "none"),
    ] {
        admin(&home, &["settings", "set", name, value]).ok();
    }
    admin(&home, &["letters", "test", "ada@example.org"])
        .ok()
        .says("was taken");
    assert_eq!(server.next_letter()["to"][0], "ada@example.org");
    admin(&home, &["letters", "test", "nobody@example.org"])
        .exits(1)
        .says("there is nobody");
    assert!(lines(admin(&home, &["--json", "letters", "ls"])).is_empty());
    admin(&home, &["letters", "retry"]).ok().says("0 letters");
}

#[test]
fn other_sites_are_set_from_files() {
    let home = Home::new();
    let google = home.write(
        "google.json",
        r#"{"conf": {"clientID": "c", "clientSecret": "swordfish"}, "info": {"exclusive_domains": ["example.org"]}}"#,
    );
    admin(&home, &["sso", "set", "google", &google]).ok();
    let listed = admin(&home, &["sso", "ls"]).ok().text();
    assert!(
        listed.contains("https://accounts.google.com") && listed.contains("example.org"),
        "{listed}"
    );
    assert!(!listed.contains("swordfish"), "{listed}");
    let wrong = home.write(
        "wrong.json",
        r#"{"conf": {"type": "saml", "clientID": "c"}}"#,
    );
    admin(&home, &["sso", "set", "uni", &wrong])
        .exits(2)
        .says("\"uni\"")
        .says("conf.type \"saml\" is not known");
    admin(&home, &["sso", "set", "uni", "missing.json"])
        .exits(1)
        .says("missing.json");
    let all = r#"{"google": null, "gitlab": {"conf": {"clientID": "c"}}}"#;
    home.run_with(&["admin", "sso", "apply", "-"], all.as_bytes())
        .ok()
        .says("removed");
    let names = lines(admin(&home, &["--json", "sso", "ls"]));
    assert_eq!(names.len(), 1);
    assert_eq!(names[0]["strategy"], "gitlab");
    admin(&home, &["sso", "rm", "gitlab"]).ok();
    admin(&home, &["sso", "rm", "gitlab"])
        .exits(1)
        .says("sso ls");
}

/// Who has the lease of counting, by process.
fn holder(home: &Home, at: &[&str], hubs: &[(Running, String)]) -> Option<usize> {
    let leases = lines(admin(home, &[at, &["--json", "leases"]].concat()));
    let lease = leases.iter().find(|lease| lease["name"] == "stats")?;
    let holder = lease["holder"].as_str()?;
    hubs.iter()
        .position(|(_, port)| holder.contains(&format!("-{port}-")))
}

#[test]
fn a_hub_that_is_killed_is_replaced() {
    let home = Home::new();
    let url = Postgres::shared().database();
    let at = ["--database-url", url.as_str()];
    let mut hubs: Vec<(Running, String)> = (0..3)
        .map(|_| {
            let fixed = ["hub", "--mode", "single-user", "--listen", "127.0.0.1:0"];
            let running = home.start(&[&fixed, &at[..]].concat());
            let line = running.until("the hub is ready at http://");
            let (_, addr) = line.split_once("127.0.0.1:").unwrap();
            let port = addr.split_once(',').unwrap().0.to_owned();
            (running, port)
        })
        .collect();
    let ports: BTreeSet<&String> = hubs.iter().map(|(_, port)| port).collect();
    assert_eq!(ports.len(), 3);
    let first = loop {
        if let Some(first) = holder(&home, &at, &hubs) {
            break first;
        }
    };
    let (killed, _) = hubs.remove(first);
    killed.signal(Signal::KILL);
    killed.end();
    // The time of its leases goes by.
    Postgres::shared().run_at(
        &url,
        "UPDATE dialtone_hub.leases SET expires = now() WHERE holder IS NOT NULL",
    );
    while holder(&home, &at, &hubs).is_none() {}
    let leases = lines(admin(&home, &[&at[..], &["--json", "leases"]].concat()));
    let stats = leases
        .iter()
        .find(|lease| lease["name"] == "stats")
        .unwrap();
    assert!(stats["generation"].as_i64().unwrap() >= 2, "{leases:?}");
    for (hub, _) in hubs {
        hub.signal(Signal::TERM);
        hub.end().ok();
    }
}
