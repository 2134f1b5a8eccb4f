//! A browser between the hub and a real provider.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use dialtone_hub::auth::cookie::Names;
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::entry::sign_up::Request as SignUp;
use dialtone_hub::entry::{self, Entry, Origin};
use dialtone_hub::id::AccountId;
use dialtone_hub::letters::Letters;
use dialtone_hub::settings::Live;
use dialtone_hub::sso::{Sso, configure};
use dialtone_hub::store::{Store, accounts as stored, passports};
use dialtone_hub::web::{Asked, SsoPages};
use http_body_util::BodyExt as _;
use hyper::header::{COOKIE, HeaderMap, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::Site;

pub(super) const HUB: &str = "https://hub.example.org";

/// The cookie of a session, which browsers take from the host itself alone.
pub(super) const SESSION: &str = "__Host-remember_me";

/// The provider of this process, which ends with it.
struct Provider {
    port: u16,
    _child: Child,
}

static PROVIDER: LazyLock<Provider> = LazyLock::new(|| {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    assert!(
        scripts.join("node_modules/oidc-provider").is_dir(),
        "oidc-provider is not installed: run `npm ci` in {} (`./test tests` does)",
        scripts.display()
    );
    let redirects = ["uni", "other", "plain"].map(|name| format!("{HUB}/auth/{name}/return"));
    let child = Command::new("node")
        .arg("provider.mjs")
        .args(redirects)
        .current_dir(scripts)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("this test needs node");
    let output = child.stdout.take().expect("its output is a pipe");
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_prefix("port ")?.parse().ok());
    Provider {
        port: port.expect("the provider says its port"),
        _child: child,
    }
});

pub(super) fn provider() -> String {
    format!("http://127.0.0.1:{}", PROVIDER.port)
}

pub(super) fn oidc(info: &Json) -> Json {
    json!({
        "conf": {"type": "oidc", "issuer": provider(), "clientID": "hub", "clientSecret": "hub-secret"},
        "info": info,
    })
}

pub(super) fn plain() -> Json {
    let url = |path: &str| format!("{}{path}", provider());
    json!({
        "conf": {
            "type": "oauth2", "clientID": "plain", "clientSecret": "plain-secret", "scope": ["user:email"],
            "authorizationURL": url("/auth"), "tokenURL": url("/token"),
            "userinfoURL": url("/api/user"), "emailsURL": url("/api/emails"),
        },
        "info": {"display": "Plain"},
    })
}

/// A hub with its ways to sign in.
pub(super) struct Door {
    pub(super) pages: SsoPages,
    pub(super) entry: Entry,
    pub(super) store: Store,
}

impl Door {
    pub(super) async fn open(site: &Site, strategies: Json) -> Self {
        let store = site.open().await;
        configure::apply(&store, &strategies).await.unwrap();
        let (settings, _follower) = Live::open(&store).await.unwrap();
        let entry = Entry {
            store: store.clone(),
            letters: Letters::new(settings.clone(), None),
            settings,
            hasher: Hasher::new(password::Config::default()).unwrap(),
            site: HUB.to_owned(),
        };
        let pages = SsoPages::new(Sso::new(entry.clone()), Names::new("/"));
        Self {
            pages,
            entry,
            store,
        }
    }

    pub(super) async fn account(&self, id: AccountId) -> stored::Account {
        let mut on = self.store.read().await.unwrap();
        stored::by_id(&mut on, id).await.unwrap().unwrap()
    }

    pub(super) async fn links(&self, id: AccountId) -> Vec<(String, String)> {
        let mut on = self.store.read().await.unwrap();
        let links = passports::of_account(&mut on, id).await.unwrap();
        links
            .into_iter()
            .map(|link| (link.strategy, link.external_id))
            .collect()
    }

    pub(super) async fn sign_up(&self, address: &str) -> entry::SignedIn {
        let request = SignUp {
            email_address: address,
            password: "analytical-engine-7",
            first_name: "Ada",
            last_name: "Lovelace",
            token: None,
            tags: Vec::new(),
            intent: None,
            origin: Origin::default(),
        };
        self.entry.sign_up(&request).await.unwrap()
    }

    /// How many accounts there are.
    pub(super) async fn accounts(&self) -> usize {
        let search = stored::Search {
            words: &[],
            everybody: true,
            limit: 100,
        };
        let mut on = self.store.read().await.unwrap();
        stored::search(&mut on, search).await.unwrap().len()
    }
}

/// What the hub has answered.
pub(super) struct Page {
    pub(super) code: StatusCode,
    pub(super) location: Option<String>,
    pub(super) text: String,
}

/// A browser, with the cookies of the hub and of the provider.
#[derive(Default)]
pub(super) struct Browser {
    pub(super) hub: BTreeMap<String, String>,
    pub(super) provider: BTreeMap<String, String>,
}

fn keep(jar: &mut BTreeMap<String, String>, headers: &HeaderMap) {
    for cookie in headers.get_all(SET_COOKIE) {
        let text = cookie.to_str().unwrap();
        let (pair, rest) = text.split_once(';').unwrap_or((text, ""));
        let (name, value) = pair.split_once('=').unwrap();
        if value.is_empty() || rest.contains("Max-Age=0") {
            jar.remove(name);
        } else {
            jar.insert(name.to_owned(), value.to_owned());
        }
    }
}

fn header(jar: &BTreeMap<String, String>) -> HeaderValue {
    let pairs: Vec<String> = jar
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("; ").parse().unwrap()
}

impl Browser {
    /// Of somebody whom the provider knows by this name.
    pub(super) fn of(name: &str) -> Self {
        let mut browser = Self::default();
        browser.provider.insert("as".to_owned(), name.to_owned());
        browser
    }

    pub(super) fn signed_in(mut self, signed_in: &entry::SignedIn) -> Self {
        self.hub
            .insert(SESSION.to_owned(), signed_in.cookie.clone());
        self
    }

    /// Asks the hub; `led`: whether another site has led here, so that strict cookies are not sent.
    pub(super) async fn hub(&mut self, door: &Door, url: &str, led: bool) -> Page {
        let url = url.strip_prefix(HUB).unwrap_or(url);
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let mut jar = self.hub.clone();
        if led {
            jar.remove(SESSION);
        }
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, header(&jar));
        headers.insert("accept", HeaderValue::from_static("application/json"));
        let asked = Asked {
            method: &Method::GET,
            path,
            query,
            headers: &headers,
            ip: None,
            encrypted: true,
        };
        let page = door.pages.page(asked).await;
        keep(&mut self.hub, page.headers());
        let location = page.headers().get(LOCATION);
        let location = location.map(|value| value.to_str().unwrap().to_owned());
        let code = page.status();
        let body = page.into_body().collect().await.unwrap().to_bytes();
        Page {
            code,
            location,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Follows the provider until it leads back to the hub, and returns where to.
    pub(super) async fn at_provider(&mut self, url: &str) -> String {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let mut url = url.to_owned();
        for _ in 0..10 {
            let asked = client
                .get(&url)
                .header(COOKIE, header(&self.provider))
                .send();
            let answer = asked.await.unwrap();
            keep(&mut self.provider, answer.headers());
            let Some(next) = answer.headers().get(LOCATION) else {
                panic!(
                    "{url}: {} {}",
                    answer.status(),
                    answer.text().await.unwrap()
                );
            };
            let next = next.to_str().unwrap();
            if next.starts_with(HUB) {
                return next.to_owned();
            }
            url = if next.starts_with('/') {
                format!("{}{next}", provider())
            } else {
                next.to_owned()
            };
        }
        panic!("{url}: there is no end to it");
    }

    /// Begins, and returns where the provider leads back to.
    pub(super) async fn begin(&mut self, door: &Door, path: &str) -> String {
        let begun = self.hub(door, path, false).await;
        assert_eq!(begun.code, StatusCode::SEE_OTHER, "{}", begun.text);
        self.at_provider(&begun.location.unwrap()).await
    }

    pub(super) async fn sign_in(&mut self, door: &Door, path: &str) -> Page {
        let back = self.begin(door, path).await;
        self.hub(door, &back, true).await
    }

    /// Who the hub knows this browser as.
    pub(super) async fn who(&self, door: &Door) -> Option<AccountId> {
        let cookie = self.hub.get(SESSION)?;
        let session = entry::vouched::session_of(&door.store, Some(cookie))
            .await
            .unwrap();
        session.map(|session| session.account_id())
    }
}

#[track_caller]
pub(super) fn refused(page: &Page, code: u16, name: &str) {
    let said: Json = serde_json::from_str(&page.text).unwrap_or_default();
    assert_eq!(
        (page.code.as_u16(), &said["code"]),
        (code, &json!(name)),
        "{}",
        page.text
    );
}

/// A URL with another value for a parameter.
pub(super) fn with(url: &str, name: &str, value: &str) -> String {
    let mut changed = url::Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> = changed
        .query_pairs()
        .map(|(key, old)| {
            let new = if key == name { value.into() } else { old };
            (key.into_owned(), new.into_owned())
        })
        .collect();
    assert!(pairs.iter().any(|(key, _)| key == name), "{name} in {url}");
    changed.query_pairs_mut().clear().extend_pairs(pairs);
    changed.into()
}
