//! Signing in by other sites: a browser between the hub and a real provider, and what an attacker makes of it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use dialtone_hub::accounts;
use dialtone_hub::auth::cookie::Names;
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::entry::sign_in::Request as SignIn;
use dialtone_hub::entry::sign_up::Request as SignUp;
use dialtone_hub::entry::vouched::Unlink;
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

use crate::{Site, on_both};

on_both! {
    somebody_comes_in_and_comes_back,
    a_site_with_plain_oauth_may_vouch_as_well,
    an_address_of_an_account_lets_nobody_in,
    who_is_signed_in_links_and_unlinks,
    an_identity_of_another_account_is_not_linked,
    a_domain_may_have_one_way_in,
    who_does_not_agree_does_not_come_in,
    a_banned_account_stays_out,
    names_may_follow_the_other_site,
    an_answer_is_taken_once,
    an_answer_is_taken_in_the_browser_that_has_begun,
    an_answer_for_another_way_is_not_taken,
    a_proof_for_another_attempt_is_not_taken,
    a_proof_of_another_issuer_is_not_taken,
    a_code_without_its_verifier_is_worth_nothing,
    a_code_of_another_client_is_worth_nothing,
    nobody_is_led_to_another_site,
    a_session_that_has_ended_links_nothing,
    an_attempt_ends_with_its_time,
    strategies_are_listed_without_secrets,
}

const HUB: &str = "https://hub.example.org";

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

fn provider() -> String {
    format!("http://127.0.0.1:{}", PROVIDER.port)
}

fn oidc(info: Json) -> Json {
    json!({
        "conf": {"type": "oidc", "issuer": provider(), "clientID": "hub", "clientSecret": "hub-secret"},
        "info": info,
    })
}

fn plain() -> Json {
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
struct Door {
    pages: SsoPages,
    entry: Entry,
    store: Store,
}

impl Door {
    async fn open(site: &Site, strategies: Json) -> Self {
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

    async fn account(&self, id: AccountId) -> stored::Account {
        let mut on = self.store.read().await.unwrap();
        stored::by_id(&mut on, id).await.unwrap().unwrap()
    }

    async fn links(&self, id: AccountId) -> Vec<(String, String)> {
        let mut on = self.store.read().await.unwrap();
        let links = passports::of_account(&mut on, id).await.unwrap();
        links
            .into_iter()
            .map(|link| (link.strategy, link.external_id))
            .collect()
    }

    async fn sign_up(&self, address: &str) -> entry::SignedIn {
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
    async fn accounts(&self) -> usize {
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
struct Page {
    code: StatusCode,
    location: Option<String>,
    text: String,
}

/// A browser, with the cookies of the hub and of the provider.
#[derive(Default)]
struct Browser {
    hub: BTreeMap<String, String>,
    provider: BTreeMap<String, String>,
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
    fn of(name: &str) -> Self {
        let mut browser = Self::default();
        browser.provider.insert("as".to_owned(), name.to_owned());
        browser
    }

    fn signed_in(mut self, signed_in: &entry::SignedIn) -> Self {
        self.hub
            .insert("remember_me".to_owned(), signed_in.cookie.clone());
        self
    }

    /// Asks the hub; `led`: whether another site has led here, so that strict cookies are not sent.
    async fn hub(&mut self, door: &Door, url: &str, led: bool) -> Page {
        let url = url.strip_prefix(HUB).unwrap_or(url);
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let mut jar = self.hub.clone();
        if led {
            jar.remove("remember_me");
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
    async fn at_provider(&mut self, url: &str) -> String {
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
    async fn begin(&mut self, door: &Door, path: &str) -> String {
        let begun = self.hub(door, path, false).await;
        assert_eq!(begun.code, StatusCode::SEE_OTHER, "{}", begun.text);
        self.at_provider(&begun.location.unwrap()).await
    }

    async fn sign_in(&mut self, door: &Door, path: &str) -> Page {
        let back = self.begin(door, path).await;
        self.hub(door, &back, true).await
    }

    /// Who the hub knows this browser as.
    async fn who(&self, door: &Door) -> Option<AccountId> {
        let cookie = self.hub.get("remember_me")?;
        let session = entry::vouched::session_of(&door.store, Some(cookie))
            .await
            .unwrap();
        session.map(|session| session.account_id())
    }
}

#[track_caller]
fn refused(page: &Page, code: u16, name: &str) {
    let said: Json = serde_json::from_str(&page.text).unwrap_or_default();
    assert_eq!(
        (page.code.as_u16(), &said["code"]),
        (code, &json!(name)),
        "{}",
        page.text
    );
}

/// A URL with another value for a parameter.
fn with(url: &str, name: &str, value: &str) -> String {
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

async fn somebody_comes_in_and_comes_back(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut browser = Browser::of("ada");
    let page = browser
        .sign_in(&door, "/auth/uni?target=/projects%3Fa%3D1%26b")
        .await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    assert!(
        page.text.contains("url=/projects?a=1&amp;b\""),
        "{}",
        page.text
    );
    let id = browser.who(&door).await.unwrap();
    let account = door.account(id).await;
    assert_eq!(
        (
            &*account.first_name,
            &*account.last_name,
            account.email_address.as_deref()
        ),
        ("Ada", "Lovelace", Some("ada@example.org"))
    );
    assert!(account.email_address_verified["ada@example.org"].is_number());
    assert_eq!(account.password_hash, None);
    assert_eq!(door.links(id).await, [("uni".to_owned(), "ada".to_owned())]);
    // Nothing of the attempt is left in the browser or in the store.
    assert_eq!(browser.hub.keys().collect::<Vec<_>>(), ["remember_me"]);
    assert!(
        site.beside("SELECT key FROM passport_store")
            .await
            .concat()
            .is_empty()
    );
    let mut elsewhere = Browser::of("ada");
    elsewhere.sign_in(&door, "/auth/uni").await;
    assert_eq!(elsewhere.who(&door).await, Some(id));
    // An address that nobody has seen is not known to be theirs.
    let mut bob = Browser::of("bob");
    bob.sign_in(&door, "/auth/uni").await;
    let account = door.account(bob.who(&door).await.unwrap()).await;
    assert_eq!(
        (&*account.first_name, &*account.last_name),
        ("Bob B", "Builder")
    );
    assert_eq!(account.email_address_verified, json!({}));
    // Nor has everybody an address.
    let mut mute = Browser::of("mute");
    mute.sign_in(&door, "/auth/uni").await;
    let account = door.account(mute.who(&door).await.unwrap()).await;
    assert_eq!(account.email_address, None);
    assert_eq!(door.accounts().await, 3);
}

async fn a_site_with_plain_oauth_may_vouch_as_well(site: Site) {
    let door = Door::open(&site, json!({"plain": plain()})).await;
    let mut browser = Browser::of("ada");
    let page = browser.sign_in(&door, "/auth/plain").await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    let id = browser.who(&door).await.unwrap();
    let account = door.account(id).await;
    assert_eq!(account.email_address.as_deref(), Some("ada@example.org"));
    assert_eq!(&*account.first_name, "ada of");
    assert_eq!(door.links(id).await, [("plain".to_owned(), "1".to_owned())]);
    assert_eq!(door.accounts().await, 1);
}

async fn an_address_of_an_account_lets_nobody_in(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let ada = door.sign_up("ada@example.org").await;
    for name in ["ada", "eve"] {
        let mut browser = Browser::of(name);
        let page = browser.sign_in(&door, "/auth/uni").await;
        refused(&page, 409, "email-address-taken");
        assert_eq!(browser.who(&door).await, None);
    }
    assert!(door.links(ada.account_id).await.is_empty());
    assert_eq!(door.accounts().await, 1);
}

async fn who_is_signed_in_links_and_unlinks(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let ada = door.sign_up("ada@example.org").await;
    let id = ada.account_id;
    let mut browser = Browser::of("bob").signed_in(&ada);
    let page = browser.sign_in(&door, "/auth/uni?link=yes").await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    assert_eq!(browser.who(&door).await, Some(id));
    assert_eq!(door.links(id).await, [("uni".to_owned(), "bob".to_owned())]);
    assert_eq!(
        door.account(id).await.email_address.as_deref(),
        Some("ada@example.org")
    );
    let mut elsewhere = Browser::of("bob");
    elsewhere.sign_in(&door, "/auth/uni").await;
    assert_eq!(elsewhere.who(&door).await, Some(id));
    let unlinked = door.entry.unlink(id, "uni", "nobody").await;
    assert!(matches!(unlinked, Err(Unlink::Unknown)));
    door.entry.unlink(id, "uni", "bob").await.unwrap();
    assert!(door.links(id).await.is_empty());
    // Whoever comes by that alone must not lose it.
    let mut mute = Browser::of("mute");
    mute.sign_in(&door, "/auth/uni").await;
    let only = mute.who(&door).await.unwrap();
    assert!(matches!(
        door.entry.unlink(only, "uni", "mute").await,
        Err(Unlink::LastWay)
    ));
    assert_eq!(door.links(only).await.len(), 1);
    // Nobody links without being signed in.
    let page = Browser::of("ada")
        .hub(&door, "/auth/uni?link=yes", false)
        .await;
    refused(&page, 401, "not-signed-in");
}

async fn an_identity_of_another_account_is_not_linked(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut bob = Browser::of("bob");
    bob.sign_in(&door, "/auth/uni").await;
    let his = bob.who(&door).await.unwrap();
    let ada = door.sign_up("ada@example.org").await;
    let mut browser = Browser::of("bob").signed_in(&ada);
    let page = browser.sign_in(&door, "/auth/uni?link=yes").await;
    refused(&page, 409, "linked-elsewhere");
    assert_eq!(browser.who(&door).await, Some(ada.account_id));
    // Without the wish to link, it is signing in as somebody else.
    browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(browser.who(&door).await, Some(his));
}

async fn a_domain_may_have_one_way_in(site: Site) {
    let door = Door::open(&site, json!({"plain": plain()})).await;
    let una = door.sign_up("una@uni.example").await;
    let strategies = json!({"uni": oidc(json!({"exclusive_domains": ["uni.example"], "display": "The University"}))});
    configure::apply(&door.store, &strategies).await.unwrap();
    let sign_in = SignIn {
        email_address: "Una@Uni.Example",
        password: "analytical-engine-7",
        origin: Origin::default(),
    };
    let refusal = door.entry.sign_in(&sign_in).await.unwrap_err().to_string();
    assert_eq!(
        refusal,
        "with an address like this one signs in with The University"
    );
    let sign_up = SignUp {
        email_address: "new@maths.uni.example",
        password: "analytical-engine-7",
        first_name: "A",
        last_name: "B",
        token: None,
        tags: Vec::new(),
        intent: None,
        origin: Origin::default(),
    };
    assert!(matches!(
        door.entry.sign_up(&sign_up).await,
        Err(entry::Refused::Exclusive(_))
    ));
    // The site of the domain answers for its addresses, and so may let somebody into an account that there is.
    let mut browser = Browser::of("uni");
    browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(browser.who(&door).await, Some(una.account_id));
    let unlinked = door.entry.unlink(una.account_id, "uni", "uni").await;
    assert!(matches!(unlinked, Err(Unlink::Exclusive(_))));
    assert_eq!(door.links(una.account_id).await.len(), 1);
    // It does not for others.
    let ada = door.sign_up("ada@example.org").await;
    refused(
        &Browser::of("ada").sign_in(&door, "/auth/uni").await,
        409,
        "email-address-taken",
    );
    // Nor does a site that says nothing of having seen an address, if it is the way for everybody.
    let all = json!({"uni": oidc(json!({"exclusive_domains": ["*"]}))});
    configure::apply(&door.store, &all).await.unwrap();
    refused(
        &Browser::of("eve").sign_in(&door, "/auth/uni").await,
        409,
        "email-address-taken",
    );
    assert!(door.links(ada.account_id).await.is_empty());
    let mut browser = Browser::of("ada");
    browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(browser.who(&door).await, Some(ada.account_id));
}

async fn who_does_not_agree_does_not_come_in(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut browser = Browser::of("nobody");
    let page = browser.sign_in(&door, "/auth/uni").await;
    refused(&page, 403, "denied");
    assert!(page.text.contains("nobody wants"), "{}", page.text);
    assert_eq!(door.accounts().await, 0);
    for (path, code, name) in [
        ("/auth/nothing", 404, "unknown-strategy"),
        ("/auth/uni/return", 400, "bad-state"),
        ("/auth/uni/return?state=x&code=y", 400, "bad-state"),
        ("/auth/uni/other", 404, "not-found"),
    ] {
        refused(&browser.hub(&door, path, true).await, code, name);
    }
}

async fn a_banned_account_stays_out(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut browser = Browser::of("ada");
    browser.sign_in(&door, "/auth/uni").await;
    let id = browser.who(&door).await.unwrap();
    accounts::ban(&door.store, id, true).await.unwrap();
    let mut elsewhere = Browser::of("ada");
    refused(&elsewhere.sign_in(&door, "/auth/uni").await, 403, "banned");
    assert_eq!(elsewhere.who(&door).await, None);
    // After its end, the same person may come in anew, as somebody else.
    accounts::delete(&door.store, id).await.unwrap();
    elsewhere.sign_in(&door, "/auth/uni").await;
    assert!(elsewhere.who(&door).await.is_some_and(|new| new != id));
}

async fn names_may_follow_the_other_site(site: Site) {
    let door = Door::open(
        &site,
        json!({"uni": oidc(json!({"update_on_login": true, "cookie_ttl_s": 60}))}),
    )
    .await;
    let ada = door.sign_up("x@example.org").await;
    let mut browser = Browser::of("uni").signed_in(&ada);
    browser.sign_in(&door, "/auth/uni?link=yes").await;
    assert_eq!(door.account(ada.account_id).await.last_name, "Iversity");
    Browser::of("uni").sign_in(&door, "/auth/uni").await;
    let soon = site
        .beside("SELECT kind FROM remember_me ORDER BY expire LIMIT 1")
        .await;
    assert_eq!(soon, ["sso"]);
}

async fn an_answer_is_taken_once(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    // Somebody has copied the cookies as well.
    let mut copy = Browser {
        hub: browser.hub.clone(),
        ..Browser::default()
    };
    assert_eq!(browser.hub(&door, &back, true).await.code, StatusCode::OK);
    refused(&copy.hub(&door, &back, true).await, 400, "bad-state");
    refused(&browser.hub(&door, &back, true).await, 400, "bad-state");
    assert_eq!(copy.who(&door).await, None);
}

async fn an_answer_is_taken_in_the_browser_that_has_begun(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    // Eve signs in as herself, and makes Ada follow the address that leads back.
    let back = Browser::of("eve").begin(&door, "/auth/uni").await;
    let ada = door.sign_up("x@example.org").await;
    let mut browser = Browser::of("ada").signed_in(&ada);
    browser.begin(&door, "/auth/uni?link=yes").await;
    refused(&browser.hub(&door, &back, true).await, 400, "bad-state");
    assert_eq!(browser.who(&door).await, Some(ada.account_id));
    assert!(door.links(ada.account_id).await.is_empty());
}

async fn an_answer_for_another_way_is_not_taken(site: Site) {
    let both = json!({"uni": oidc(json!({})), "other": oidc(json!({}))});
    let door = Door::open(&site, both).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    let other = back.replace("/auth/uni/", "/auth/other/");
    refused(&browser.hub(&door, &other, true).await, 400, "bad-state");
    assert_eq!(door.accounts().await, 0);
}

async fn a_proof_for_another_attempt_is_not_taken(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut browser = Browser::of("ada");
    let begun = browser.hub(&door, "/auth/uni", false).await;
    let url = with(&begun.location.unwrap(), "nonce", "that-of-another-attempt");
    let back = browser.at_provider(&url).await;
    let page = browser.hub(&door, &back, true).await;
    refused(&page, 403, "bad-proof");
    assert!(page.text.contains("nonce"), "{}", page.text);
    assert_eq!(door.accounts().await, 0);
}

async fn a_proof_of_another_issuer_is_not_taken(site: Site) {
    let mut localhost = oidc(json!({}));
    localhost["conf"]["issuer"] = json!(provider().replace("127.0.0.1", "localhost"));
    let both = json!({"uni": oidc(json!({})), "other": localhost});
    let door = Door::open(&site, both).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    let page = browser
        .hub(&door, &with(&back, "iss", "https://evil.example"), true)
        .await;
    refused(&page, 403, "bad-proof");
    // One that calls itself something else than it is configured as is not even asked.
    let page = browser.hub(&door, "/auth/other", false).await;
    refused(&page, 502, "provider-failed");
    assert!(page.text.contains("unexpected issuer"), "{}", page.text);
    assert_eq!(door.accounts().await, 0);
}

async fn a_code_without_its_verifier_is_worth_nothing(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({})), "plain": plain()})).await;
    // Eve has got hold of Ada's code, and puts it into an attempt of her own.
    for path in ["/auth/uni", "/auth/plain"] {
        let stolen = Browser::of("ada").begin(&door, path).await;
        let stolen = url::Url::parse(&stolen).unwrap();
        let code = stolen
            .query_pairs()
            .find(|(name, _)| name == "code")
            .unwrap()
            .1
            .into_owned();
        let mut eve = Browser::of("eve");
        let back = eve.begin(&door, path).await;
        refused(
            &eve.hub(&door, &with(&back, "code", &code), true).await,
            403,
            "denied",
        );
        assert_eq!(eve.who(&door).await, None);
    }
    assert_eq!(door.accounts().await, 0);
}

async fn a_code_of_another_client_is_worth_nothing(site: Site) {
    let mut other = oidc(json!({}));
    other["conf"]["clientID"] = json!("other");
    other["conf"]["clientSecret"] = json!("other-secret");
    let door = Door::open(&site, json!({"uni": oidc(json!({})), "other": other})).await;
    let mut browser = Browser::of("ada");
    let begun = browser
        .hub(&door, "/auth/uni", false)
        .await
        .location
        .unwrap();
    let url = with(&begun, "client_id", "other");
    let back = browser.at_provider(&url).await;
    refused(&browser.hub(&door, &back, true).await, 403, "denied");
    assert_eq!(door.accounts().await, 0);
}

async fn nobody_is_led_to_another_site(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut browser = Browser::of("ada");
    for target in [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "javascript:alert(1)",
        "/%09/evil.example",
    ] {
        let page = browser
            .hub(&door, &format!("/auth/uni?target={target}"), false)
            .await;
        refused(&page, 400, "bad-target");
    }
    // What is in the answer of the provider is not where one goes.
    let back = browser.begin(&door, "/auth/uni").await;
    let page = browser
        .hub(&door, &format!("{back}&target=https://evil.example"), true)
        .await;
    assert!(page.text.contains("url=/\""), "{}", page.text);
}

async fn a_session_that_has_ended_links_nothing(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let ada = door.sign_up("x@example.org").await;
    let mut browser = Browser::of("ada").signed_in(&ada);
    let back = browser.begin(&door, "/auth/uni?link=yes").await;
    accounts::sign_out(&door.store, ada.account_id, None)
        .await
        .unwrap();
    refused(&browser.hub(&door, &back, true).await, 401, "not-signed-in");
    assert!(door.links(ada.account_id).await.is_empty());
}

async fn an_attempt_ends_with_its_time(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(json!({}))})).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    site.beside(match &site.location {
        dialtone_hub::store::Location::Postgres { .. } => {
            "UPDATE passport_store SET expire = now() - interval '1 second' RETURNING key"
        }
        dialtone_hub::store::Location::Sqlite { .. } => {
            "UPDATE passport_store SET expire = unixepoch() * 1000 - 1000 RETURNING key"
        }
    })
    .await;
    refused(&browser.hub(&door, &back, true).await, 400, "bad-state");
}

async fn strategies_are_listed_without_secrets(site: Site) {
    let mut off = oidc(json!({"disabled": true}));
    off["conf"]["type"] = json!("google");
    let door = Door::open(
        &site,
        json!({"uni": oidc(json!({"display": "Uni"})), "plain": plain(), "off": off}),
    )
    .await;
    let mut browser = Browser::default();
    let names = browser.hub(&door, "/auth/strategies", false).await.text;
    assert_eq!(names, "[\"plain\",\"uni\"]");
    let shown = browser.hub(&door, "/auth/strategies?v=2", false).await.text;
    assert!(
        shown.contains("\"display\":\"Uni\"") && !shown.contains("secret"),
        "{shown}"
    );
    refused(
        &browser.hub(&door, "/auth/off", false).await,
        404,
        "unknown-strategy",
    );
    // A file is taken wholly or not at all, and says what is wrong with it.
    let wrong = json!({"uni": null, "bad": {"conf": {"type": "saml", "clientID": "x"}}});
    let error = configure::apply(&door.store, &wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "the way to sign in \"bad\"");
    assert_eq!(
        browser.hub(&door, "/auth/strategies", false).await.text,
        names
    );
    configure::apply(&door.store, &json!({"uni": null}))
        .await
        .unwrap();
    assert_eq!(
        browser.hub(&door, "/auth/strategies", false).await.text,
        "[\"plain\"]"
    );
}
