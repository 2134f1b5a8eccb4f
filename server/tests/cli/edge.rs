//! How browsers reach a site: encrypted, and projects at hosts of their own.

use std::net::TcpListener;
use std::path::Path;

use dialtone_transport::tls::ServerTls;
use rustix::process::Signal;
use serde_json::json;

use crate::process::{Broker, Home};

const PASSWORD: &str = "analytical-engine-7";

const CERTIFICATE: &str = "development-cert.pem";

const KEY: &str = "development-key.pem";

/// What curl got, head and all.
#[derive(Debug)]
struct Got(String);

impl Got {
    /// The line of the last answer, since others may come before it.
    fn status(&self) -> &str {
        let lines = self.0.lines().filter(|line| line.starts_with("HTTP/"));
        let last = lines.fold("", |_, line| line);
        last.split(' ').nth(1).unwrap_or_else(|| panic!("{self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        let found = self.0.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        found.unwrap_or_else(|| panic!("{name} in {self:?}"))
    }

    /// The cookie that is set, as it is sent back.
    fn cookie(&self) -> String {
        let cookie = self.header("set-cookie");
        cookie.split(';').next().unwrap().to_owned()
    }
}

fn curl(args: &[&str]) -> Got {
    let output = std::process::Command::new("curl")
        .args(["-sS", "-i", "--max-time", "60"])
        .args(args)
        .output()
        .unwrap();
    Got(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes somebody, and gives the cookie of the session.
fn sign_up(args: &[&str], site: &str) -> Got {
    let person = json!({"email": "ada@example.org", "password": PASSWORD,
        "firstName": "Ada", "lastName": "Test"});
    let (url, body) = (format!("{site}/api/v2/auth/sign-up"), person.to_string());
    let kind = "content-type: application/json";
    let signed_up = curl(&[args, &["-H", kind, "-d", &body, &url]].concat());
    assert_eq!(signed_up.status(), "200", "{signed_up:?}");
    signed_up
}

fn site(up: &Broker) -> String {
    up.ready["http"].as_str().unwrap().to_owned()
}

/// A certificate with its key in a folder of its own, and their paths.
fn certificate(folder: &Path) -> [String; 2] {
    ServerTls::development(Some(folder)).unwrap();
    [CERTIFICATE, KEY].map(|name| folder.join(name).display().to_string())
}

#[test]
fn a_site_speaks_https_and_leads_there() {
    let home = Home::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = free.local_addr().unwrap().to_string();
    drop(free);
    let [cert, key] = certificate(&home.path().join("tls"));
    let edge = [
        "--https-cert",
        cert.as_str(),
        "--https-key",
        key.as_str(),
        "--http-listen",
        http.as_str(),
        "--hsts",
        "1h",
    ];
    let up = home.up_with_hub(&edge);
    let site = site(&up);
    assert!(site.starts_with("https://127.0.0.1:"), "{site}");
    let trust = ["--cacert", cert.as_str()];
    for (version, line) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200")] {
        let page = curl(&[&trust[..], &[version, &format!("{site}/auth/sign-in")]].concat());
        assert!(page.0.starts_with(line), "{page:?}");
        assert_eq!(page.header("strict-transport-security"), "max-age=3600");
    }
    let signed_up = sign_up(&trust, &site);
    let set = signed_up.header("set-cookie");
    assert!(set.starts_with("__Host-remember_me="), "{set}");
    assert!(
        set.contains("; HttpOnly") && set.ends_with("; Secure"),
        "{set}"
    );
    let cookie = format!("Cookie: {}", signed_up.cookie());
    let projects = curl(&[&trust[..], &["-H", &cookie, &format!("{site}/projects")]].concat());
    assert_eq!(projects.status(), "200", "{projects:?}");
    let led = curl(&[&format!("http://{http}/projects?a=1")]);
    assert_eq!(led.status(), "308", "{led:?}");
    assert_eq!(led.header("location"), format!("{site}/projects?a=1"));
    up.running.signal(Signal::TERM);
    up.running.end().ok();
}

#[test]
fn a_websocket_to_the_broker_is_for_pages_of_the_site() {
    let home = Home::new();
    let [cert, key] = certificate(&home.path().join("tls"));
    let up = home.up_with_hub(&["--https-cert", &cert, "--https-key", &key]);
    let site = site(&up);
    let signed_up = sign_up(&["--cacert", &cert], &site);
    let cookie = format!("Cookie: {}", signed_up.cookie());
    for (origin, status) in [(site.as_str(), "101"), ("https://evil.example", "403")] {
        let origin = format!("Origin: {origin}");
        let lines = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            cookie.as_str(),
            origin.as_str(),
        ];
        let lines: Vec<&str> = lines.iter().flat_map(|line| ["-H", line]).collect();
        // Nothing ends a WebSocket by itself; what its beginning was has come by then.
        let ends = ["--http1.1", "--max-time", "5", "--cacert", cert.as_str()];
        let url = format!("{site}/conat/");
        let got = curl(&[&lines[..], &ends, &[url.as_str()]].concat());
        assert_eq!(got.status(), status, "{got:?}, {origin}");
    }
}

#[test]
fn a_certificate_is_read_again_when_it_changes_and_when_somebody_asks() {
    let home = Home::new();
    let (own, next) = (home.path().join("tls"), home.path().join("next"));
    let [cert, key] = certificate(&own);
    let edge = ["--https-cert", &cert, "--https-key", &key];
    let up = home.up_with_hub(&[&edge[..], &["--log-level", "info"]].concat());
    let page = format!("{}/auth/sign-in", site(&up));
    assert_eq!(curl(&["--cacert", &cert, &page]).status(), "200");
    for asks in [false, true] {
        std::fs::remove_dir_all(&next).unwrap_or_default();
        let [other, _] = certificate(&next);
        for name in [CERTIFICATE, KEY] {
            std::fs::copy(next.join(name), own.join(name)).unwrap();
        }
        if asks {
            up.running.signal(Signal::HUP);
        }
        up.running.until("certificate replaced");
        assert_eq!(curl(&["--cacert", &other, &page]).status(), "200");
    }
}

#[test]
fn projects_are_at_hosts_of_their_own() {
    let home = Home::new();
    let up = home.up_with_hub(&["--projects-host", "{project}.localhost"]);
    let site = site(&up);
    let port = site.rsplit(':').next().unwrap();
    let signed_up = sign_up(&[], &site);
    let cookie = signed_up.cookie();
    let (_, session) = cookie.split_once('=').unwrap();
    let call = ["call", "--json", "--url", &up.ws(), "--token", session];
    let made = home.run(&[&call[..], &["projects.createProject"]].concat());
    let made = made.ok().json();
    let project = made.as_str().unwrap();
    let host = format!("{project}.localhost:{port}");
    let there = ["--resolve", &format!("{host}:127.0.0.1")];
    let path = format!("/{project}/port/8888/");
    let known = format!("Cookie: {cookie}");

    let led = curl(&["-H", &known, &format!("{site}{path}")]);
    assert_eq!(
        (led.status(), led.header("location")),
        ("307", &*format!("http://{host}{path}"))
    );
    let asked = curl(&[&there[..], &["-H", &known, &format!("http://{host}{path}")]].concat());
    assert_eq!(
        asked.status(),
        "303",
        "the site's session is none there: {asked:?}"
    );
    let (ticket, state) = (asked.header("location"), asked.cookie());
    assert!(
        ticket.starts_with(&format!("{site}/.dialtone/ticket?")),
        "{ticket}"
    );
    assert_eq!(
        curl(&["-H", "Accept: text/html", ticket]).header("location"),
        "/auth/sign-in",
        "who is nobody signs in"
    );
    let given = curl(&["-H", &known, ticket]);
    let enter = given.header("location");
    let entered = curl(&[&there[..], &["-H", &format!("Cookie: {state}"), enter]].concat());
    assert_eq!(
        (entered.status(), entered.header("location")),
        ("303", &*path)
    );
    let own = format!("Cookie: {}", entered.cookie());
    let at = |path: &str, lines: &[&str]| {
        let url = format!("http://{host}{path}");
        curl(&[&there[..], &["-H", &own], lines, &[url.as_str()]].concat())
    };
    assert_eq!(at(&path, &[]).header("dialtone-proxy-error"), "not_running");
    for page in [
        "/",
        "/projects",
        "/auth/sign-in",
        "/conat/",
        "/metrics",
        "/api/v2/auth/sign-out",
    ] {
        assert_eq!(at(page, &[]).status(), "404", "{page}");
    }
    let out = format!("{site}/api/v2/auth/sign-out");
    let json = "content-type: application/json";
    let out = curl(&["-H", &known, "-H", json, "-d", "{}", &out]);
    assert_eq!(out.status(), "200", "{out:?}");
    while at(&path, &[]).status() != "303" {
        // That the session has ended is told to the proxy a moment later.
        std::thread::yield_now();
    }
    let script = at(&path, &["-H", "Sec-Fetch-Mode: cors"]);
    assert_eq!(script.header("dialtone-proxy-error"), "sign_in");
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_is_bound() {
    let home = Home::new();
    let up = |more: &[&str]| home.run(&[&["up", "--hub-listen", "127.0.0.1:0"], more].concat());
    up(&["--hsts", "1h"]).exits(2).says("--https-cert");
    up(&["--projects-host", "a/b"])
        .exits(2)
        .says("projects.example.org");
    up(&["--https-cert", "/nothing", "--https-key", "/nothing"])
        .exits(2)
        .says("/nothing");
    let hub = [
        "hub",
        "--mode",
        "single-user",
        "--next-server",
        "--https-dev",
        "/tmp",
    ];
    home.run(&hub).exits(2).says("--proxy-server");
}
