//! A whole site in a few processes: a hub that guards a broker, people who sign up, what they may do and until when.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dialtone_testkit::Postgres;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Done, Home, Running};

pub(crate) const PASSWORD: &str = "analytical-engine-7";

/// What a web server answers.
pub(crate) struct Answer {
    pub(crate) code: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The value of the session's cookie.
    pub(crate) fn session(&self) -> String {
        let line = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: remember_me="))
            .unwrap_or_else(|| panic!("no cookie: {}", self.head));
        line.split(';').next().unwrap().to_owned()
    }
}

/// Sends a request to `http://ADDR/PATH`, with a cookie if there is one.
fn send(method: &str, url: &str, session: &str, body: &str) -> Answer {
    let (addr, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    let len = body.len();
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {len}\r\ncookie: remember_me={session}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        code: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

pub(crate) fn post(url: &str, session: &str, body: &Value) -> Answer {
    send("POST", url, session, &body.to_string())
}

/// Where a site is.
pub(crate) struct Site {
    pub(crate) http: String,
    pub(crate) ws: String,
}

/// Somebody who is signed in.
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) session: String,
}

impl Site {
    pub(crate) fn of(ready: &Value) -> Self {
        let urls = ready["urls"].as_array().unwrap();
        let ws = urls
            .iter()
            .filter_map(Value::as_str)
            .find(|url| url.starts_with("ws://"));
        Self {
            http: ready["http"].as_str().unwrap().to_owned(),
            ws: ws.unwrap().to_owned(),
        }
    }

    fn auth(&self, name: &str, session: &str, body: &Value) -> Answer {
        let url = format!("{}/api/v2/auth/{name}", self.http);
        post(&url, session, body)
    }

    pub(crate) fn sign_up(&self, name: &str) -> Person {
        let person = json!({"email": format!("{name}@example.org"), "password": PASSWORD,
            "firstName": name, "lastName": "Test"});
        let answer = self.auth("sign-up", "", &person);
        assert_eq!(answer.code, 200, "{}", answer.body);
        Person {
            id: answer.json()["account_id"].as_str().unwrap().to_owned(),
            session: answer.session(),
        }
    }

    /// Calls a function as somebody with this token.
    pub(crate) fn call(&self, home: &Home, token: &str, args: &[&str]) -> Done {
        let fixed = ["call", "--json", "--url", &self.ws, "--token", token];
        home.run(&[&fixed, args].concat())
    }
}

fn subject(id: &str) -> String {
    format!("hub.account.{id}.api")
}

#[test]
fn up_is_a_site_with_an_administrator_and_people() {
    let home = Home::new();
    let up = home.up_with_hub(&[]);
    let site = Site::of(&up.ready);
    let link = up.ready["first_admin"].as_str().unwrap();
    assert_eq!(send("GET", link, "", "").code, 200);
    let admin = json!({"email": "root@example.org", "password": "short", "firstName": "Ro", "lastName": "Ot"});
    let weak = post(link, "", &admin);
    assert_eq!(weak.code, 400, "{}", weak.body);
    let admin = json!({"email": "root@example.org", "password": PASSWORD, "firstName": "Ro", "lastName": "Ot"});
    let made = post(link, "", &admin);
    assert_eq!(made.code, 200, "{}", made.body);
    let root = made.json()["account_id"].as_str().unwrap().to_owned();
    let again = post(link, "", &admin);
    assert_eq!(again.code, 404, "the link is good once");

    let ada = site.sign_up("ada");
    let own = |session: &str, args: &[&str]| site.call(&home, session, args);
    assert_eq!(
        own(&ada.session, &["system.test"]).ok().json()["account_id"],
        ada.id
    );
    // Nobody asks in the name of another, nor does what is for administrators.
    own(&ada.session, &["system.test", "--account", &root]).exits(6);
    let search = ["system.userSearch", "query=ada@example.org", "admin:=true"];
    own(&ada.session, &search)
        .exits(6)
        .says("permission-denied");
    let found = own(&made.session(), &search).ok();
    assert_eq!(found.json()[0]["account_id"], ada.id);
    let key = own(&ada.session, &["system.manageApiKeys", "action=create"])
        .ok()
        .json();
    let key = key[0]["secret"].as_str().unwrap();
    let project = own(key, &["projects.createProject", "title=Notes"])
        .ok()
        .json();
    let state = [("project_id=".to_owned() + project.as_str().unwrap())];
    own(key, &["db.touch", &state[0]]).ok();
    own(&made.session(), &["db.touch", &state[0]]).exits(6);
    own(key, &["projects.nothing"]).exits(2).says("--list");
    let listed = home.run(&["call", "--url", &site.ws, "--list"]).ok().text();
    assert!(listed.contains("projects.createProject"), "{listed}");
    let shown = home
        .run(&["call", "--url", &site.ws, "--describe", "system.ping"])
        .ok();
    assert_eq!(shown.json()["name"], "system.ping");
    home.run(&["call", "--url", &site.ws, "system.ping"])
        .exits(2)
        .says("--account");
    // On this machine everybody may still publish without a word about themselves.
    home.run(&["pub", "--url", &site.ws, "greet.world", "hello"])
        .ok();

    up.running.signal(Signal::TERM);
    up.running.end().ok();
    let up = home.up_with_hub(&[]);
    assert!(up.ready["first_admin"].is_null(), "there is one by now");
}

#[test]
fn who_signs_out_is_out_at_once() {
    let home = Home::new();
    let up = home.up_with_hub(&[]);
    let site = Site::of(&up.ready);
    let ada = site.sign_up("ada");
    let wrong = site.auth(
        "sign-in",
        "",
        &json!({"email": "ada@example.org", "password": "analytical-engine-8"}),
    );
    assert_eq!(wrong.code, 401);
    let listening = home.start(&[
        "sub",
        "--url",
        &site.ws,
        "--token",
        &ada.session,
        &format!("account.{}.>", ada.id),
    ]);
    listening.until("ubscribed");
    assert_eq!(site.auth("sign-out", &ada.session, &json!({})).code, 200);
    listening.end().exits(6);
    site.call(&home, &ada.session, &["system.test"]).exits(6);
    let back = site.auth(
        "sign-in",
        "",
        &json!({"email": "ADA@example.org", "password": PASSWORD}),
    );
    assert_eq!(back.json()["account_id"], ada.id);
    site.call(&home, &back.session(), &["system.test"]).ok();
}

/// A hub whose site is below `/sub/site`.
fn below_a_path(home: &Home) -> (Running, Site) {
    let all = [
        "--all",
        "--broker-listen",
        "ws://127.0.0.1:0",
        "--base-path",
        "sub/site/",
    ];
    let mut command = home.command(&["hub", "--mode", "single-user", "--listen", "127.0.0.1:0"]);
    command.args(["--ready-file", "below.json"]).args(all);
    command.env("PROJECTS", home.path().join("projects/[project_id]"));
    let hub = Running::new(command.spawn().unwrap());
    hub.until("the hub is ready at");
    let site = Site::of(&ready(home, "below.json"));
    (hub, site)
}

/// A site that shares its host with others: its pages are below its path.
#[test]
fn pages_of_a_site_may_lie_below_a_path() {
    let home = Home::new();
    let (hub, site) = below_a_path(&home);
    let (root, path) = site.http.split_at(site.http.find("/sub").unwrap());
    assert_eq!(path, "/sub/site");
    // Whoever looks after the process asks where they always do.
    assert_eq!(send("GET", &format!("{root}/healthz"), "", "").code, 200);
    for elsewhere in [
        "/auth/sign-in",
        "/api/v2/auth/sign-in",
        "/sub/sites/auth/sign-in",
        "/sub",
    ] {
        assert_eq!(
            send("GET", &format!("{root}{elsewhere}"), "", "").code,
            404,
            "{elsewhere}"
        );
    }
    let page = send("GET", &format!("{}/auth/sign-in", site.http), "", "");
    assert!(
        page.body.contains("action=\"/sub/site/auth/sign-in\""),
        "{}",
        page.body
    );
    for start in [site.http.clone(), format!("{}/", site.http)] {
        let page = send("GET", &start, "", "");
        assert!(
            page.head.contains("location: /sub/site/auth/sign-in\r\n"),
            "{}",
            page.head
        );
    }
    let strategies = send("GET", &format!("{}/auth/strategies", site.http), "", "");
    assert_eq!((strategies.code, &*strategies.body), (200, "[]"));
    hub.signal(Signal::TERM);
    hub.end().ok();
}

/// Cookies, functions and servers of projects are, too.
#[test]
fn who_signs_in_below_a_path_is_known_there_alone() {
    let home = Home::new();
    let (hub, site) = below_a_path(&home);
    let (root, _) = site.http.split_at(site.http.find("/sub").unwrap());
    let ada = json!({"email": "ada@example.org", "password": PASSWORD, "firstName": "Ada", "lastName": "Test"});
    let up = site.auth("sign-up", "", &ada);
    assert_eq!(up.code, 200, "{}", up.body);
    let cookie = up
        .head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    let (pair, rest) = cookie.split_once(';').unwrap();
    let (name, session) = pair.split_once('=').unwrap();
    assert_eq!(name, "%2Fsub%2Fsiteremember_me");
    assert!(
        rest.contains("Path=/sub/site;") || rest.ends_with("Path=/sub/site"),
        "{cookie}"
    );
    // `send` names the cookie as a site of its own host does.
    let with_cookie = |session: &str| format!("x; {name}={session}");
    let projects = format!("{}/projects", site.http);
    assert_eq!(
        send("GET", &projects, session, "").code,
        303,
        "this cookie is another site's"
    );
    let page = send("GET", &projects, &with_cookie(session), "");
    assert_eq!(page.code, 200, "{}", page.head);

    let project = site
        .call(&home, session, &["projects.createProject", "title=Notes"])
        .ok()
        .json();
    let id = project.as_str().unwrap();
    let started = site.call(
        &home,
        session,
        &["projects.start", &format!("project_id={id}")],
    );
    started.ok();
    let terminal = format!("{}/{id}/raw/", site.http);
    let page = send("GET", &terminal, "", "");
    assert_eq!(page.code, 401, "{}", page.head);
    let mut page = send("GET", &terminal, &with_cookie(session), "");
    // The proxy says when to ask again while the project starts.
    while page.code == 503 {
        page = send("GET", &terminal, &with_cookie(session), "");
    }
    assert_eq!(page.code, 200, "{} {}", page.head, page.body);
    let not_below = format!("{root}/{id}/raw/");
    assert_eq!(send("GET", &not_below, &with_cookie(session), "").code, 404);

    let out = site.auth("sign-out", &with_cookie(session), &json!({}));
    assert_eq!(out.code, 200);
    assert!(
        out.head.contains(&format!("set-cookie: {name}=;")),
        "{}",
        out.head
    );
    assert_eq!(send("GET", &projects, &with_cookie(session), "").code, 303);
    hub.signal(Signal::TERM);
    hub.end().ok();
}

/// The ready file of a hub.
fn ready(home: &Home, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(home.path().join(name)).unwrap()).unwrap()
}

fn hub(home: &Home, name: &str, args: &[&str]) -> Running {
    let fixed = [
        "hub",
        "--mode",
        "multi-user",
        "--listen",
        "127.0.0.1:0",
        "--ready-file",
        name,
    ];
    let running = home.start(&[&fixed, args].concat());
    running.until("the hub is ready at");
    running
}

/// A broker in one process, functions and streams in others: they find each other by the secret in the database, and
/// what ends in one ends in all.
#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one site from its beginning to its end"
)]
fn the_parts_of_a_site_meet_over_the_network() {
    let home = Home::new();
    let database = Postgres::shared().database();
    let at = ["--database-url", database.as_str()];
    let router = hub(
        &home,
        "router.json",
        &[
            &at[..],
            &[
                "--conat-router",
                "--broker-listen",
                "ws://127.0.0.1:0",
                "--next-server",
            ],
        ]
        .concat(),
    );
    let site = Site::of(&ready(&home, "router.json"));
    let join = ["--url", site.ws.as_str()];
    let one = hub(
        &home,
        "one.json",
        &[&at[..], &join[..], &["--conat-api"]].concat(),
    );
    let two = hub(
        &home,
        "two.json",
        &[
            &at[..],
            &join[..],
            &["--conat-api", "--conat-persist", "--data", "data"],
        ]
        .concat(),
    );
    let ada = site.sign_up("ada");
    let waiting = [
        "interest",
        "--url",
        &site.ws,
        "--token",
        &ada.session,
        "--wait",
        "30s",
    ];
    home.run(&[&waiting[..], &[&subject(&ada.id)]].concat())
        .ok();
    let answer = || site.call(&home, &ada.session, &["system.test"]).ok().json();
    assert_eq!(answer()["account_id"], ada.id);
    // One goes, and the other one answers.
    one.signal(Signal::TERM);
    one.end().ok();
    assert_eq!(answer()["account_id"], ada.id);
    let stream = [
        "stream",
        "add",
        &format!("accounts/{}/notes", ada.id),
        "--url",
        &site.ws,
        "--token",
        &ada.session,
        "--scope",
        &format!("account-{}", ada.id),
    ];
    home.run(&stream).ok();
    // Without credentials nobody is let in, nor with those of somebody else.
    home.run(&["pub", "--url", &site.ws, "a", "b"]).exits(6);
    home.run(&[
        "pub",
        "--url",
        &site.ws,
        "--user",
        "hub",
        "--password",
        "guess",
        "a",
        "b",
    ])
    .exits(6);
    // A ban by an administrator's command ends what is connected to a broker in another process.
    let listening = home.start(&[
        "sub",
        "--url",
        &site.ws,
        "--token",
        &ada.session,
        &format!("account.{}.>", ada.id),
    ]);
    listening.until("ubscribed");
    home.run(&[&["admin"], &at[..], &["users", "ban", &ada.id]].concat())
        .ok();
    listening.end().exits(6);
    two.signal(Signal::TERM);
    two.end().ok();
    router.signal(Signal::TERM);
    router.end().ok();
}

/// A broker that knows the site's secret and nothing else: hubs elsewhere decide, what ends there ends here, and while
/// there is no hub, those who are connected go on.
#[test]
fn a_broker_by_itself_asks_hubs() {
    let home = Home::new();
    let secret = home.write("secret", "a long and random secret\n");
    let set = ["admin", "settings", "set", "conat_password", "-"];
    home.run_with(&set, b"a long and random secret\n").ok();
    let broker = home.broker(&["--hub-password-file", &secret]);
    let ws = broker.ws();
    let hub = |name| hub(&home, name, &["--conat-api", "--next-server", "--url", &ws]);
    let as_hub = [
        "--url",
        &ws,
        "--user",
        "hub",
        "--password",
        "a long and random secret",
    ];
    let first = hub("first.json");
    home.run(&[&["interest", "--wait", "30s", "auth.fact"], &as_hub[..]].concat())
        .ok();
    let mut known = ready(&home, "first.json");
    known["urls"] = json!([ws]);
    let site = Site::of(&known);
    let (ada, bob) = (site.sign_up("ada"), site.sign_up("bob"));
    let own = |person: &Person| site.call(&home, &person.session, &["system.test"]);
    assert_eq!(own(&ada).ok().json()["account_id"], ada.id);
    home.run(&["pub", "--url", &ws, "a", "b"]).exits(6);
    let project = site
        .call(&home, &ada.session, &["projects.createProject"])
        .ok()
        .json();
    let project = project.as_str().unwrap();
    let shared = format!("project.{project}.>");
    let sub = |person: &Person, pattern: &str| {
        home.start(&[
            "sub",
            "--json",
            "--url",
            &ws,
            "--token",
            &person.session,
            pattern,
        ])
    };
    // Who is a member is asked, and so is who is none.
    let members = sub(&ada, &shared);
    members.until("subscribed");
    sub(&bob, &shared).end().exits(6);
    let own_of_bob = sub(&bob, &format!("account.{}.>", bob.id));
    own_of_bob.until("subscribed");
    assert_eq!(site.auth("sign-out", &bob.session, &json!({})).code, 200);
    own_of_bob.end().exits(6);

    first.signal(Signal::KILL);
    first.end();
    let publish = |text: &str| {
        let subject = format!("project.{project}.note");
        home.run(&[&["pub", "--ack", subject.as_str(), text], &as_hub[..]].concat())
            .ok();
    };
    publish("while no hub is there");
    assert!(members.line().contains("while no hub is there"));
    own(&ada).exits(1).says("no hub answers");
    let second = hub("second.json");
    home.run(&[&["interest", "--wait", "30s", "auth.fact"], &as_hub[..]].concat())
        .ok();
    assert_eq!(own(&ada).ok().json()["account_id"], ada.id);
    publish("and after that");
    assert!(members.line().contains("and after that"));
    second.signal(Signal::TERM);
    second.end().ok();
}
