//! A hub and its administration, as those who run a site use them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dialtone_testkit::Postgres;
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Done, Home, Running};

/// A hub that is ready, and where it answers.
struct Hub {
    running: Running,
    addr: String,
}

impl Hub {
    fn start(home: &Home, more: &[&str]) -> Self {
        let fixed = ["hub", "--mode", "single-user", "--listen", "127.0.0.1:0"];
        Self::of(home.start(&[&fixed, more].concat()))
    }

    fn of(running: Running) -> Self {
        let line = running.until("the hub is ready at http://");
        let addr = line.split_once("http://").unwrap().1;
        let addr = addr.split_once(',').unwrap().0.to_owned();
        Self { running, addr }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (code, body)
    }
}

fn admin(home: &Home, args: &[&str]) -> Done {
    home.run(&[&["admin"], args].concat())
}

#[test]
fn a_hub_is_ready_says_so_and_ends_in_good_order() {
    let home = Home::new();
    let hub = Hub::start(&home, &["--ready-file", "ready.json"]);
    assert_eq!(hub.get("/alive"), (200, "alive: YES\n".to_owned()));
    assert_eq!(hub.get("/readyz").0, 200);
    assert!(hub.get("/metrics").1.contains("dialtone_hub_database_up 1"));
    assert_eq!(hub.get("/nothing").0, 404);
    let ready = std::fs::read(home.path().join("ready.json")).unwrap();
    let ready: Value = serde_json::from_slice(&ready).unwrap();
    assert_eq!(ready["http"], format!("http://{}", hub.addr));
    hub.running.signal(Signal::TERM);
    hub.running.end().ok().says("stopping");
    let leases = admin(&home, &["--json", "leases"]).ok().text();
    let leases: Vec<Value> = leases
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!leases.is_empty());
    // Given back, and not left to run out.
    assert!(
        leases.iter().all(|lease| lease["holder"].is_null()),
        "{leases:?}"
    );
    assert!(admin(&home, &["--json", "hubs"]).ok().text().is_empty());
}

#[test]
fn a_hub_that_cannot_start_says_why() {
    let home = Home::new();
    home.run(&["hub"]).exits(2).says("--mode");
    let wrong = [
        "hub",
        "--mode",
        "single-user",
        "--database-url",
        "mysql://x/y",
    ];
    home.run(&wrong).exits(2).says("mysql://x/y");
    let mut command = home.command(&["hub"]);
    let child = command.env("COCALC_MODE", "sometimes").spawn().unwrap();
    Done::of(child).exits(2).says("\"sometimes\"");
    let folder = [
        "hub",
        "--mode",
        "single-user",
        "--database-url",
        "sqlite:missing/hub.db",
    ];
    home.run(&folder)
        .exits(1)
        .says("cannot create missing/hub.db");
}

#[test]
fn the_environment_sets_settings_that_then_stay() {
    let home = Home::new();
    let mut command = home.command(&["hub", "--listen", "127.0.0.1:0"]);
    command
        .env("DIALTONE_MODE", "multi-user")
        .env("COCALC_SETTING_SITE_NAME", "Ours")
        .env("DIALTONE_SETTING_EMAIL_SIGNUP", "perhaps");
    let running = Running::new(command.spawn().unwrap());
    running.until("setting email_signup must be yes or no");
    let hub = Hub::of(running);
    let get = |name| admin(&home, &["settings", "get", name]).ok().text();
    assert_eq!(get("site_name"), "Ours\n");
    assert_eq!(get("email_signup"), "yes\n");
    admin(&home, &["settings", "set", "site_name", "Mine"])
        .exits(1)
        .says("set by the environment");
    admin(
        &home,
        &["settings", "set", "help_email", "help@example.org"],
    )
    .ok();
    assert_eq!(get("help_email"), "help@example.org\n");
    admin(&home, &["settings", "unset", "help_email"]).ok();
    admin(&home, &["settings", "set", "help_email", "nobody"])
        .exits(2)
        .says("must be an email address");
    admin(&home, &["settings", "set", "nothing", "1"])
        .exits(2)
        .says("settings ls --all");
    let listed = admin(&home, &["settings", "ls"]).ok().text();
    let words: Vec<&str> = listed.split_whitespace().collect();
    let line = ["site_name", "environment", "Ours"];
    assert!(words.windows(3).any(|words| words == line), "{listed}");
    assert!(!listed.contains("help_email"), "{listed}");
    hub.running.signal(Signal::INT);
    hub.running.end().ok();
}

#[test]
fn secrets_are_not_listed() {
    let home = Home::new();
    let set = ["admin", "settings", "set", "email_smtp_password", "-"];
    home.run_with(&set, b"swordfish\n").ok();
    let listed = admin(&home, &["settings", "ls"]).ok().text();
    assert!(
        listed.contains("(secret)") && !listed.contains("swordfish"),
        "{listed}"
    );
    let value = admin(&home, &["settings", "get", "email_smtp_password"]).ok();
    assert_eq!(value.text(), "swordfish\n");
}

#[test]
fn accounts_are_made_and_kept_in_order() {
    let home = Home::new();
    let add = [
        "admin",
        "users",
        "add",
        "Ada@Example.org",
        "--first-name",
        "Ada",
        "--admin",
    ];
    let id = home.run_with(&add, b"correct horse\n").ok().text();
    home.run_with(&add, b"correct horse\n")
        .exits(1)
        .says("email address already");
    home.run_with(&["admin", "users", "add", "eva@example.org"], b"short\n")
        .exits(2)
        .says("at least 8 characters");
    home.run_with(
        &["admin", "users", "add", "eva@example.org"],
        b"password1\n",
    )
    .exits(2)
    .says("best known");
    home.run_with(&["admin", "users", "add", "eva"], b"correct horse\n")
        .exits(2)
        .says("not an email address");
    let show = || {
        admin(&home, &["--json", "users", "show", "ada@example.org"])
            .ok()
            .json()
    };
    assert_eq!(show()["account_id"], id.trim());
    assert_eq!(show()["groups"][0], "admin");
    admin(&home, &["users", "demote", id.trim()])
        .ok()
        .says("no administrator");
    admin(&home, &["users", "ban", "ADA@example.org"])
        .ok()
        .says("locked out");
    assert_eq!(show()["state"], "banned");
    assert_eq!(show()["groups"].as_array().unwrap().len(), 0);
    admin(&home, &["users", "unban", id.trim()]).ok();
    home.run_with(
        &["admin", "users", "passwd", id.trim()],
        b"battery staple\n",
    )
    .ok();
    admin(&home, &["users", "sign-out", id.trim()]).ok();
    let listed = admin(&home, &["users", "ls", "ad"]).ok().text();
    assert!(listed.contains("ada@example.org"), "{listed}");
    assert!(!listed.contains("argon2"), "{listed}");
    admin(&home, &["users", "rm", id.trim()]).ok();
    admin(&home, &["users", "show", "ada@example.org"])
        .exits(1)
        .says("there is no such account");
    let deleted = admin(&home, &["--json", "users", "show", id.trim()])
        .ok()
        .json();
    assert_eq!(deleted["state"], "deleted");
}

#[test]
fn registration_tokens_are_handed_out() {
    let home = Home::new();
    let add = [
        "tokens",
        "add",
        "--descr",
        "a course",
        "--limit",
        "30",
        "--expires-in",
        "90d",
        "--ephemeral",
        "2h",
    ];
    let token = admin(&home, &add).ok().text();
    let token = token.trim();
    assert_eq!(token.len(), 32);
    admin(&home, &["tokens", "add", "--token", token])
        .exits(2)
        .says("already");
    admin(&home, &["tokens", "disable", token]).ok();
    let shown = admin(&home, &["--json", "tokens", "ls"]).ok().json();
    assert_eq!(shown["limit"], 30);
    assert_eq!(shown["disabled"], true);
    assert_eq!(shown["ephemeral_ms"], 7_200_000);
    admin(&home, &["tokens", "enable", token]).ok();
    let listed = admin(&home, &["tokens", "ls"]).ok().text();
    assert!(
        listed.contains("enabled  0/30") && listed.contains("2h"),
        "{listed}"
    );
    admin(&home, &["tokens", "rm", token]).ok();
    admin(&home, &["tokens", "rm", token])
        .exits(1)
        .says("there is no such token");
    let removed = admin(&home, &["--json", "delete-expired"]).ok().json();
    assert_eq!(removed["changes"], 0);
}

#[test]
fn tables_are_made_when_somebody_says_so() {
    let home = Home::new();
    let url = Postgres::shared().database();
    let at = ["--database-url", url.as_str(), "--json", "migrations"];
    let lines = |done: Done| -> Vec<Value> {
        let text = done.ok().text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let before = lines(admin(&home, &[&at[..], &["status"]].concat()));
    assert!(
        before.iter().all(|one| one["applied_at"].is_null()),
        "{before:?}"
    );
    let after = lines(admin(&home, &[&at[..], &["run"]].concat()));
    assert_eq!(after.len(), before.len());
    assert!(
        after.iter().all(|one| one["applied_at"].is_number()),
        "{after:?}"
    );
    assert!(lines(admin(&home, &[&at[..], &["data"]].concat())).is_empty());
}

/// Two hubs share a database: one has the lease, and when it is killed at once, the other is still ready.
#[test]
fn hubs_share_a_database_and_one_may_die() {
    let home = Home::new();
    let url = Postgres::shared().database();
    let at = ["--database-url", url.as_str()];
    let (one, two) = (Hub::start(&home, &at), Hub::start(&home, &at));
    assert_eq!(two.get("/readyz").0, 200);
    let hubs = admin(&home, &[&at[..], &["--json", "hubs"]].concat())
        .ok()
        .text();
    assert!(hubs.lines().count() <= 2, "{hubs}");
    one.running.signal(Signal::KILL);
    one.running.end();
    assert_eq!(two.get("/alive").0, 200);
    two.running.signal(Signal::TERM);
    two.running.end().ok();
}
