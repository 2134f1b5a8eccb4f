//! Who may use which streams: the broker guards the subjects of the service by its users file, the service the names of
//! streams by the scope in the subject. Everything is asked as programs ask it, past the checks of the client.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Broker, Done, Home, Running};

const ID: &str = "00000000-0000-4000-8000-000000000001";
const OTHER: &str = "00000000-0000-4000-8000-000000000002";

/// A broker with users, and the service with the rights of the hub.
struct Site {
    home: Home,
    broker: Broker,
    _persist: Running,
}

/// The token of a user.
fn token_of(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

/// One user of the file: its token, and to what it may publish.
fn user(home: &Home, name: &str, publish: &str, subscribe: &str) -> String {
    let token = home.run_with(&["passwd", "--token"], token_of(name).as_bytes());
    let token = token.ok().text();
    format!(
        "[[user]]\nname = {name:?}\ntoken = {:?}\npublish = {{ allow = {publish} }}\nsubscribe = {{ allow = {subscribe} }}\n",
        token.trim_end()
    )
}

fn users(home: &Home, may_use: bool) -> String {
    let own = if may_use {
        format!("[\"persist.project-{ID}.*\", \"persist.project-{ID}.on.*\"]")
    } else {
        "[\"chat.>\"]".to_owned()
    };
    [
        user(home, "the-hub", "[\">\"]", "[\">\"]"),
        user(home, "a-project", &own, "[\"chat.>\"]"),
        user(
            home,
            "an-account",
            &format!("[\"persist.account-{ID}.*\", \"persist.account-{ID}.on.*\"]"),
            "[\"chat.>\"]",
        ),
        user(home, "a-stray", "[\"persist.>\"]", "[\"chat.>\"]"),
    ]
    .concat()
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        let file = home.write("users.toml", &users(&home, true));
        let broker = home.broker(&["--users", &file]);
        let url = broker.ws();
        let persist = home.start(&[
            "persist",
            "--node",
            "p1",
            "--url",
            &url,
            "--token",
            &token_of("the-hub"),
            "--memory",
        ]);
        persist.until("is ready");
        Self {
            home,
            broker,
            _persist: persist,
        }
    }

    /// Asks the service as somebody.
    fn ask(&self, token: &str, scope: &str, request: &Value) -> Done {
        let (url, subject) = (self.broker.ws(), format!("persist.{scope}.call"));
        let token = token_of(token);
        let request = request.to_string();
        self.home.run(&[
            "request", &subject, &request, "--token", &token, "--url", &url,
        ])
    }

    fn create(&self, token: &str, scope: &str, stream: &str) -> Done {
        self.ask(token, scope, &json!({"create": {"stream": stream}}))
    }

    fn run(&self, token: &str, args: &[&str]) -> Done {
        let (url, token) = (self.broker.ws(), token_of(token));
        let more = ["--token", &token, "--url", &url];
        self.home.run(&[args, &more].concat())
    }
}

fn project() -> String {
    format!("project-{ID}")
}

fn account() -> String {
    format!("account-{ID}")
}

#[test]
fn the_hub_may_use_every_stream() {
    let site = Site::new();
    for stream in [
        "notes".to_owned(),
        format!("projects/{ID}/notes"),
        format!("accounts/{OTHER}/notes"),
    ] {
        site.create("the-hub", "hub", &stream).ok();
    }
}

#[test]
fn an_owner_uses_what_is_below_its_own_folder_alone() {
    let site = Site::new();
    let who = [
        ("a-project", project(), "projects", "accounts"),
        ("an-account", account(), "accounts", "projects"),
    ];
    for (token, scope, own, others) in &who {
        site.create(token, scope, &format!("{own}/{ID}/notes")).ok();
        for stream in [
            "notes".to_owned(),
            format!("{own}/{ID}"),
            format!("{own}/{ID}x/notes"),
            format!("{own}/{OTHER}/notes"),
            format!("{others}/{ID}/notes"),
            format!("x/{own}/{ID}/notes"),
        ] {
            let refused = site.create(token, scope, &stream);
            refused.exits(6).says("may not use the stream");
        }
    }
    // What is refused for making is refused for everything else.
    let theirs = format!("accounts/{ID}/notes");
    for request in [
        json!({"read": {"stream": theirs}}),
        json!({"append": {"stream": theirs, "records": [{"payload": "x"}]}}),
        json!({"watch": {"stream": theirs, "cursor": "now"}}),
        json!({"delete": {"stream": theirs}}),
        json!({"info": {"stream": theirs}}),
        json!({"list": {"prefix": format!("accounts/{ID}/")}}),
        json!("nodes"),
        json!("status"),
    ] {
        site.ask("a-project", &project(), &request).exits(6);
    }
    let listed = site
        .ask("a-project", &project(), &json!({"list": {}}))
        .ok()
        .json();
    assert_eq!(listed["total_streams"], 1, "{listed}");
}

#[test]
fn names_are_normalised_paths_of_bounded_length() {
    let site = Site::new();
    let folder = format!("projects/{ID}");
    for name in ["/a", "a/", "a//b", "./a", "a/.", "..", "a/../b", "a\nb"] {
        let stream = format!("{folder}/{name}");
        site.create("a-project", &project(), &stream)
            .exits(1)
            .says("name of a stream");
    }
    site.create("a-project", &project(), &format!("/{folder}/a"))
        .exits(1);
    let longest = format!("{folder}/{}", "x".repeat(4_000 - folder.len() - 1));
    site.create("a-project", &project(), &longest).ok();
    let longer = format!("{longest}x");
    site.create("a-project", &project(), &longer)
        .exits(1)
        .says("4000");
    // Only the structure counts.
    site.create("a-project", &project(), &format!("{folder}/..notes"))
        .ok();
}

#[test]
fn only_a_scope_of_the_three_kinds_with_a_whole_id_may_ask() {
    let site = Site::new();
    for scope in [
        format!("project-{ID}x"),
        format!("project-{}", ID.trim_end_matches('1')),
        "project-".to_owned(),
        format!("user-{ID}"),
        "Hub".to_owned(),
        "anybody".to_owned(),
    ] {
        let refused = site.create("a-stray", &scope, "notes");
        refused.exits(6).says("names nobody who may ask");
    }
}

#[test]
fn the_broker_lets_nobody_ask_in_the_name_of_another() {
    let site = Site::new();
    for scope in ["hub".to_owned(), account(), format!("project-{OTHER}")] {
        site.create("a-project", &scope, "notes").exits(6);
    }
    let args = ["stream", "ls", "--scope", "hub"];
    site.run("a-project", &args).exits(6);
}

#[test]
fn users_cannot_answer_for_the_service_or_read_what_it_answers() {
    let site = Site::new();
    for pattern in ["persist.*.call", "persist.>", "_INBOX.>"] {
        site.run("a-project", &["sub", pattern, "--count", "1"])
            .exits(6);
    }
}

#[test]
fn the_durability_of_a_stream_is_decided_by_whoever_makes_it() {
    let site = Site::new();
    let stream = format!("projects/{ID}/notes");
    let create = |config: Value| {
        let create = json!({"stream": stream, "exist_ok": true, "config": config});
        site.ask("a-project", &project(), &json!({"create": create}))
    };
    create(json!({"durability": "os"})).ok();
    create(json!({"durability": "os", "max_msgs": 7})).ok();
    create(json!({"durability": "fsync"}))
        .exits(1)
        .says("durability");
    create(json!({"durability": "os", "ephemeral": true}))
        .exits(1)
        .says("ephemeral");
    let info = site
        .ask("the-hub", "hub", &json!({"info": {"stream": stream}}))
        .ok()
        .json();
    assert_eq!(info["config"]["durability"], "os");
    assert_eq!(
        info["config"]["max_msgs"], 0,
        "the second one changes nothing: {info}"
    );
}

#[test]
fn a_permission_that_ends_is_gone_at_once() {
    let site = Site::new();
    let stream = format!("projects/{ID}/notes");
    let scope = project();
    site.create("a-project", &scope, &stream).ok();
    let (url, token) = (site.broker.ws(), token_of("a-project"));
    let tail = site.home.start(&[
        "stream", "tail", &stream, "--from", "1", "--lines", "--scope", &scope, "--token", &token,
        "--url", &url,
    ]);
    let append = json!({"append": {"stream": stream, "records": [{"payload": "\"x\""}]}});
    site.ask("the-hub", "hub", &append).ok();
    assert_eq!(tail.line(), "\"x\"");
    site.home.write("users.toml", &users(&site.home, false));
    site.broker.running.signal(Signal::HUP);
    site.broker.running.until("reloaded");
    site.create("a-project", &scope, &format!("{stream}2"))
        .exits(6);
    // Who waits for changes is told with the next of them that it may follow no longer.
    site.ask("the-hub", "hub", &append).ok();
    tail.end().exits(6);
}
