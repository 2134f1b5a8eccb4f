//! Projects at hosts of their own: the way of a browser from the site into a project, and what it cannot do there.

use dialtone_proxy::Whose;
use dialtone_proxy::fixed::Table;
use dialtone_proxy::separate::{Key, Separate};

use crate::world::{ID, World, table};

const OTHER: &str = "11111111-0b5a-4c39-9d5e-1a2b3c4d5e6f";

const ALL: &str = "projects.test";

async fn world(hosts: &str) -> World {
    let separate = Separate {
        hosts: hosts.parse().unwrap(),
        site: "http://site.test:0".to_owned(),
        key: Key::random(),
    };
    World::with(|config| {
        config.separate = Some(separate);
        config.names.keys = vec!["bob".to_owned()];
    })
    .await
}

/// An answer.
#[derive(Debug)]
struct Got {
    status: u16,
    text: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let lines = self.text.split("\r\n");
        let mut values = lines.filter_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        });
        values
            .next()
            .unwrap_or_else(|| panic!("{name} in {self:?}"))
    }

    /// The cookie that is set, as it is sent back.
    fn cookie(&self) -> &str {
        self.header("set-cookie").split(';').next().unwrap()
    }

    /// Where it leads: the host and what is asked of it.
    fn place(&self) -> (String, String) {
        let url = self.header("location");
        let (_, rest) = url.split_once("://").unwrap_or_else(|| panic!("{url}"));
        let (host, path) = rest.split_once('/').unwrap();
        (host.to_owned(), format!("/{path}"))
    }
}

impl World {
    async fn get(&self, host: &str, path: &str, lines: &str) -> Got {
        self.say("GET", host, path, lines).await
    }

    async fn say(&self, method: &str, host: &str, path: &str, lines: &str) -> Got {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
        let text = self.ask(&request).await;
        let status = text.split(' ').nth(1).unwrap_or_else(|| panic!("{text:?}"));
        Got {
            status: status.parse().unwrap(),
            text,
        }
    }

    fn site(&self) -> String {
        format!("site.test:{}", self.addr.port())
    }

    fn host(&self) -> String {
        format!("{ID}.projects.test:{}", self.addr.port())
    }

    /// The cookie of a browser that has come in by the site, at the host of the project.
    async fn come_in(&self) -> String {
        let (host, path) = (self.host(), self.path("echo?a=1&b=%20"));
        let asked = self.get(&host, &path, "Cookie: remember_me=bob\r\n").await;
        assert_eq!(
            asked.status, 303,
            "the site's cookie is none here: {asked:?}"
        );
        let state = asked.cookie().to_owned();
        let (site, ticket) = asked.place();
        assert_eq!(site, self.site());
        let given = self
            .get(&site, &ticket, "Cookie: remember_me=bob\r\n")
            .await;
        assert_eq!(given.status, 303, "{given:?}");
        assert_eq!(given.header("referrer-policy"), "no-referrer");
        let (at, enter) = given.place();
        assert_eq!(at, host);
        let entered = self.get(&at, &enter, &format!("Cookie: {state}\r\n")).await;
        assert_eq!(entered.status, 303, "{entered:?}");
        assert_eq!(entered.header("location"), path);
        let again = self.get(&at, &enter, &format!("Cookie: {state}\r\n")).await;
        assert_eq!(
            again.header("dialtone-proxy-error"),
            "ticket",
            "it is good once"
        );
        entered.cookie().to_owned()
    }
}

#[tokio::test]
async fn a_browser_is_led_from_the_site_into_a_project() {
    let world = world("{project}.projects.test").await;
    let path = world.path("echo");
    let led = world
        .get(&world.site(), &path, "Cookie: remember_me=bob\r\n")
        .await;
    assert_eq!(led.status, 307);
    assert_eq!(led.place(), (world.host(), path.clone()));
    let cookie = world.come_in().await;
    let lines = format!("Cookie: own=1; {cookie}\r\n");
    let seen = world.get(&world.host(), &path, &lines).await;
    assert_eq!(seen.status, 200, "{seen:?}");
    assert!(
        seen.text.contains("cookie: own=1\n"),
        "the project sees its own: {seen:?}"
    );
    assert!(
        !seen.text.contains("dialtone_"),
        "and nothing of ours: {seen:?}"
    );
    let elsewhere = world.get(&world.site(), "/", &lines).await;
    assert_eq!(elsewhere.status, 404, "there are no pages in this test");
}

#[tokio::test]
async fn a_page_of_a_project_is_no_page_of_the_site() {
    let world = world("{project}.projects.test").await;
    let cookie = world.come_in().await;
    let lines = format!("Cookie: {cookie}\r\n");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for path in [
        "/",
        "/conat/",
        "/projects",
        "/.dialtone/ticket",
        &format!("/{OTHER}/port/80/"),
    ] {
        let got = world.get(&world.host(), path, &lines).await;
        assert_eq!(got.status, 404, "{path}: {got:?}");
    }
    let path = world.path("ws");
    let known = format!("Cookie: remember_me=bob\r\n{upgrade}");
    let site = world.get(&world.site(), &path, &known).await;
    assert_eq!(site.header("dialtone-proxy-error"), "elsewhere");
    let sent = world
        .say("POST", &world.site(), &path, "Cookie: remember_me=bob\r\n")
        .await;
    assert_eq!(sent.status, 421, "{sent:?}");
    let echo = world.path("echo");
    let by_key = world
        .get(&world.site(), &echo, "Authorization: Bearer bob\r\n")
        .await;
    assert_eq!(
        by_key.status, 200,
        "programs go where they went: {by_key:?}"
    );
    let other = format!(
        "Origin: http://{OTHER}.projects.test:{}\r\n",
        world.addr.port()
    );
    let foreign = format!("{lines}{upgrade}{other}");
    let foreign = world.get(&world.host(), &path, &foreign).await;
    assert_eq!(foreign.header("dialtone-proxy-error"), "origin");
}

#[tokio::test]
async fn a_session_at_a_projects_host_ends_with_that_of_the_site() {
    let world = world("{project}.projects.test").await;
    let cookie = world.come_in().await;
    let (path, lines) = (world.path("echo"), format!("Cookie: {cookie}\r\n"));
    assert_eq!(world.get(&world.host(), &path, &lines).await.status, 200);
    let nobody = Table {
        tokens: std::collections::HashMap::new(),
        ..table(&world.upstream, None)
    };
    world.fixed.replace(nobody);
    world.handle.access_changed(Whose::All).await;
    let again = world.get(&world.host(), &path, &lines).await;
    assert_eq!(again.status, 303, "it asks for a ticket: {again:?}");
    let script = format!("{lines}Sec-Fetch-Mode: cors\r\n");
    let script = world.get(&world.host(), &path, &script).await;
    assert_eq!(script.status, 401, "a script is told: {script:?}");
    let (site, ticket) = again.place();
    let refused = world
        .get(&site, &ticket, "Cookie: remember_me=bob\r\n")
        .await;
    assert_eq!(refused.status, 401, "{refused:?}");
}

#[tokio::test]
async fn tickets_are_for_who_may_and_for_who_looks() {
    let world = world("{project}.projects.test").await;
    let asked = world.get(&world.host(), &world.path("echo"), "").await;
    let (site, ticket) = asked.place();
    for (lines, status) in [
        ("", 401),
        ("Cookie: remember_me=nobody\r\n", 401),
        ("Cookie: remember_me=eve\r\n", 403),
        ("Cookie: remember_me=ann\r\n", 403),
        ("Authorization: Bearer bob\r\n", 401),
        ("Cookie: remember_me=bob\r\nSec-Fetch-Mode: cors\r\n", 403),
        (
            "Cookie: remember_me=bob\r\nSec-Fetch-Mode: navigate\r\n",
            303,
        ),
        ("Sec-Fetch-Site: cross-site\r\n", 200),
    ] {
        let got = world.get(&site, &ticket, lines).await;
        assert_eq!(got.status, status, "{lines}: {got:?}");
    }
    let sent = world
        .say("POST", &site, &ticket, "Cookie: remember_me=bob\r\n")
        .await;
    assert_eq!(sent.status, 405, "{sent:?}");
}

#[tokio::test]
async fn all_projects_may_share_a_host() {
    let world = world(ALL).await;
    let path = world.path("echo");
    let led = world.get(&world.site(), &path, "").await;
    let host = format!("{ALL}:{}", world.addr.port());
    assert_eq!(led.place(), (host.clone(), path.clone()));
    let asked = world.get(&host, &path, "").await;
    let (site, ticket) = asked.place();
    let given = world
        .get(&site, &ticket, "Cookie: remember_me=bob\r\n")
        .await;
    let state = format!("Cookie: {}\r\n", asked.cookie());
    let entered = world.get(&host, &given.place().1, &state).await;
    let cookie = format!("Cookie: {}\r\n", entered.cookie());
    assert_eq!(world.get(&host, &path, &cookie).await.status, 200);
    assert_eq!(world.get(&host, "/conat/", &cookie).await.status, 404);
}

#[tokio::test]
async fn files_of_a_project_stay_where_they_are() {
    let world = world("{project}.projects.test").await;
    let file = format!("/{ID}/files/a.txt");
    let got = world
        .get(&world.site(), &file, "Cookie: remember_me=bob\r\n")
        .await;
    assert_eq!(
        got.header("dialtone-proxy-error"),
        "no_file",
        "not led away: {got:?}"
    );
}
