//! Existing clients and a whole site: who signs in at the hub is known by the same cookie at the Socket.IO listener,
//! until that ends.

use dialtone_testkit::Postgres;
use serde_json::Value;

use super::{ANY, Script, address};
use crate::process::{Home, Running};

/// A hub with everything, whose broker listens for existing clients.
struct Hub {
    running: Running,
    ready: Value,
}

impl Hub {
    fn start(home: &Home, more: &[&str]) -> Self {
        let fixed = [
            "hub",
            "--all",
            "--mode",
            "single-user",
            "--listen",
            "127.0.0.1:0",
            "--broker-listen",
            "ws://127.0.0.1:0",
            "--broker-listen",
            ANY,
            "--ready-file",
            "ready.json",
        ];
        let running = home.start(&[&fixed, more].concat());
        running.until("the hub is ready at");
        let ready = std::fs::read(home.path().join("ready.json")).unwrap();
        Self {
            running,
            ready: serde_json::from_slice(&ready).unwrap(),
        }
    }

    fn http(&self) -> &str {
        self.ready["http"].as_str().unwrap()
    }

    /// Where its broker listens for existing clients.
    fn address(&self) -> &str {
        let urls = self.ready["urls"].as_array().unwrap();
        let found = urls
            .iter()
            .find_map(|url| url.as_str().unwrap().strip_prefix("socketio+"));
        found.unwrap()
    }
}

#[test]
fn who_signed_up_in_a_browser_is_known_on_socket_io() {
    let home = Home::new();
    let up = home.up_with_hub(&["--listen", ANY]);
    let http = up.ready["http"].as_str().unwrap();
    Script::with(&[("SITE", http)], &address(&up), "site.mjs", &PARTS).succeeds();
}

/// What holds wherever the listener is.
const PARTS: [&str; 8] = [
    "a session is an account",
    "an inbox of one's own",
    "the functions of the hub",
    "a project is its members'",
    "what one was removed from while away",
    "streams of one's own",
    "who signs out is put out",
    "a key is an account until it is deleted",
];

#[test]
fn the_address_of_a_hub_leads_existing_clients_to_its_broker() {
    let home = Home::new();
    let hub = Hub::start(&home, &[]);
    let only_here = ["without a cookie nobody is let in"];
    let parts = [&PARTS[..], &only_here].concat();
    Script::with(&[("SITE", hub.http())], hub.http(), "site.mjs", &parts).succeeds();
    hub.running.signal(rustix::process::Signal::TERM);
    hub.running.end().ok();
}

#[test]
fn a_session_that_is_over_lets_nobody_in() {
    let home = Home::new();
    let database = Postgres::shared().database();
    let hub = Hub::start(&home, &["--database-url", &database]);
    let part = ["a session that is over"];
    let mut script = Script::with(&[("SITE", hub.http())], hub.address(), "site.mjs", &part);
    script.wants("end the time of all sessions");
    let over = "UPDATE dialtone_hub.remember_me SET expire = now() - interval '1 second'";
    Postgres::shared().run_at(&database, over);
    script.done();
    script.succeeds();
}
