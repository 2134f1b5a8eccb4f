//! A site and a browser.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use dialtone_hub::api::Bounds;
use dialtone_hub::auth::cookie::Names;
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::entry::Entry;
use dialtone_hub::entry::first_admin::Invitation;
use dialtone_hub::functions::{self, Parts};
use dialtone_hub::gate::Gate;
use dialtone_hub::health::{self, Health};
use dialtone_hub::letters::{self, Letters, Sender};
use dialtone_hub::settings::Live;
use dialtone_hub::store::{Config, Location, Store};
use dialtone_hub::web::{EntryPages, Pages, Web};
use dialtone_web::Site;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) const PASSWORD: &str = "analytical-engine-7";

/// A site without projects that run, whose letters become files.
pub(crate) struct World {
    addr: SocketAddr,
    folder: TempDir,
    sender: Sender,
    /// For what others than its people do to the site.
    pub(crate) store: Store,
    /// The secret of the link that makes the first administrator.
    pub(crate) secret: String,
    _task: AbortOnDropHandle<()>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let store = Store::open(Config::new(Location::Sqlite { path }))
            .await
            .unwrap();
        let (settings, _follower) = Live::open(&store).await.unwrap();
        let hasher = Hasher::new(password::Config::default()).unwrap();
        let gate = Gate::open(store.clone(), settings.clone(), Names::new("/"))
            .await
            .unwrap();
        let parts = Parts {
            store: store.clone(),
            authority: Arc::clone(gate.authority()),
            settings: settings.clone(),
            hasher: hasher.clone(),
        };
        let folder_of_letters = Some(folder.path().join("letters"));
        let letters = Letters::new(settings.clone(), folder_of_letters);
        let sender = Sender::new(store.clone(), letters.clone(), letters::Config::default());
        let entry = Entry {
            store: store.clone(),
            settings,
            hasher,
            letters,
            site: "https://hub.example".to_owned(),
        };
        let door = EntryPages::new(entry, gate, Names::new("/"));
        let (invitation, secret) = Invitation::if_needed(&store).await.unwrap().unwrap();
        let site = Site::new(
            "/",
            door,
            Arc::new(functions::api(parts, Bounds::default())),
            Some(Arc::new(invitation)),
        );
        let web = Web::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = web.local_addr();
        let health = Arc::new(Health::new(health::Config::default(), store.clone()));
        let pages: Vec<Arc<dyn Pages>> = vec![Arc::new(site)];
        let task = tokio::spawn(web.run(health, pages, CancellationToken::new()));
        Self {
            addr,
            folder,
            sender,
            store,
            secret,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser {
            addr: self.addr,
            cookie: None,
            token: String::new(),
        }
    }

    /// A browser of somebody who has just made an account.
    pub(crate) async fn member(&self, email: &str) -> Browser {
        let mut browser = self.browser();
        let done = browser.post("/auth/sign-up", &person(email)).await;
        assert_eq!(
            (done.code, done.place()),
            (303, "/projects"),
            "{}",
            done.text
        );
        browser
    }

    /// The letter about this that was sent until now.
    pub(crate) async fn letter(&self, about: &str) -> String {
        while self.sender.round().await.unwrap() > 0 {}
        let letters = std::fs::read_dir(self.folder.path().join("letters")).unwrap();
        letters
            .map(|letter| std::fs::read_to_string(letter.unwrap().path()).unwrap())
            .find(|letter| letter.contains(about))
            .unwrap()
    }
}

/// What somebody fills in to sign up.
pub(crate) fn person(email: &str) -> [(&str, &str); 4] {
    [
        ("email", email),
        ("password", PASSWORD),
        ("firstName", "Ada"),
        ("lastName", "<Lovelace>"),
    ]
}

/// Keeps its cookie, and the token of the last page.
pub(crate) struct Browser {
    addr: SocketAddr,
    pub(crate) cookie: Option<String>,
    pub(crate) token: String,
}

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Where it leads on to.
    pub(crate) fn place(&self) -> &str {
        self.header("location").unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn has(&self, part: &str) {
        assert!(self.text.contains(part), "{part} is missing: {}", self.text);
    }

    #[track_caller]
    pub(crate) fn has_not(&self, part: &str) {
        assert!(!self.text.contains(part), "{part} is there: {}", self.text);
    }
}

impl Browser {
    pub(crate) async fn get(&mut self, path: &str) -> Page {
        let headers =
            "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
        self.ask("GET", path, headers, "").await
    }

    /// Sends a form as the browser does, with the token of the last page.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let headers = format!(
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nOrigin: http://{}\r\n",
            self.addr
        );
        self.post_with(path, fields, &headers).await
    }

    pub(crate) async fn post_with(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &str,
    ) -> Page {
        let mut body = format!("token={}", self.token);
        for (name, value) in fields {
            let value: String = value
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                    _ => format!("%{byte:02x}"),
                })
                .collect();
            write!(body, "&{name}={value}").unwrap();
        }
        let headers = format!("{headers}Content-Type: application/x-www-form-urlencoded\r\n");
        self.ask("POST", path, &headers, &body).await
    }

    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Page {
        let cookie = self
            .cookie
            .as_ref()
            .map(|cookie| format!("Cookie: __Host-remember_me={cookie}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{}{headers}\r\n{body}",
            self.addr,
            body.len(),
            cookie.unwrap_or_default()
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let page = Page {
            code: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            text: text.to_owned(),
        };
        self.keep(&page);
        page
    }

    fn keep(&mut self, page: &Page) {
        let set = page
            .header("set-cookie")
            .and_then(|set| set.strip_prefix("__Host-remember_me="));
        if let Some(set) = set {
            let value = set.split(';').next().unwrap_or_default();
            self.cookie = (!value.is_empty()).then(|| value.to_owned());
        }
        let token = page.text.split("name=\"token\" value=\"").nth(1);
        if let Some(token) = token.and_then(|rest| rest.split('"').next()) {
            token.clone_into(&mut self.token);
        }
    }
}
