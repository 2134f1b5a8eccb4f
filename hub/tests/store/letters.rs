//! Letters: what is stored is sent, once it can be, and by one hub.

use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::letters::{Config, Kind, Letter, Letters, Sender, send_now};
use dialtone_hub::settings::{self, Live};
use dialtone_hub::store::letters as stored;
use dialtone_hub::store::letters::{Claimed, Max, New, Waiting};
use dialtone_hub::store::{Location, Store};
use dialtone_testkit::{MailServer, MailTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Site, on_both};

on_both! {
    a_letter_goes_to_the_mail_server,
    a_mail_server_may_want_tls_and_a_password,
    a_mail_server_that_nobody_vouches_for_gets_nothing,
    a_letter_is_tried_until_the_server_takes_it,
    a_letter_that_the_server_never_takes_is_given_up,
    a_letter_waits_while_the_server_is_away,
    a_letter_is_sent_by_one_of_many_hubs,
    what_a_hub_leaves_behind_is_sent_by_another,
    a_letter_is_put_if_the_transaction_is_committed,
    so_many_letters_wait_and_no_more,
    notices_leave_room_and_wait_for_others,
    letters_for_passwords_are_sent_where_no_others_are,
    a_sender_that_ends_gives_back_what_it_has_not_begun,
    a_sender_sends_what_it_is_woken_for_and_ends,
}

/// A site that sends letters.
struct Post {
    store: Store,
    letters: Letters,
    sender: Sender,
}

/// What has failed is due again at once.
fn eager() -> Config {
    Config {
        retry_first: Duration::ZERO,
        ..Config::default()
    }
}

impl Post {
    async fn open(site: &Site, server: &MailServer, more: &[(&str, &str)]) -> Self {
        let store = site.open().await;
        let port = server.port().to_string();
        let base = [
            ("email_enabled", "yes"),
            ("email_smtp_server", "127.0.0.1"),
            ("email_smtp_port", &port),
            ("email_smtp_from", "hub@example.org"),
            ("site_name", "Analytical Site"),
        ];
        for (name, value) in base.iter().chain(more) {
            settings::set(&store, name, value).await.unwrap();
        }
        Self::with(store).await
    }

    async fn with(store: Store) -> Self {
        let (live, _follower) = Live::open(&store).await.unwrap();
        let letters = Letters::new(live, None);
        let sender = Sender::new(store.clone(), letters.clone(), eager());
        Self {
            store,
            letters,
            sender,
        }
    }

    /// With the settings as they are now.
    async fn again(self) -> Self {
        Self::with(self.store).await
    }

    async fn put(&self, to: &str) {
        let mut on = self.store.write().await.unwrap();
        self.letters
            .put(&mut on, Kind::Notice, &letter(to))
            .await
            .unwrap();
        on.commit().await.unwrap();
    }

    async fn waiting(&self) -> Vec<Waiting> {
        let mut on = self.store.read().await.unwrap();
        stored::list(&mut on, 100).await.unwrap()
    }
}

const PLAIN: &[(&str, &str)] = &[("email_smtp_tls", "none")];

fn letter(to: &str) -> Letter {
    Letter {
        to: to.parse().unwrap(),
        subject: "News\r\nBcc: eve@example.org".to_owned(),
        text: "The engine weaves.\nÄ line.\n".to_owned(),
    }
}

async fn a_letter_goes_to_the_mail_server(site: Site) {
    let mut server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    assert!(post.letters.are_sent());
    post.put("ada@example.org").await;
    assert_eq!(post.sender.round().await.unwrap(), 1);
    let got = server.next_letter();
    assert_eq!(got["from"], "hub@example.org");
    assert_eq!(got["to"], serde_json::json!(["ada@example.org"]));
    let text = got["text"].as_str().unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    for line in [
        "To: ada@example.org",
        "From: \"Analytical Site\" <hub@example.org>",
        "Auto-Submitted: auto-generated",
        "Subject: News  Bcc: eve@example.org",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("\nBcc:"), "{head}");
    assert!(post.waiting().await.is_empty());
    assert_eq!(post.sender.round().await.unwrap(), 0);
    assert_eq!(server.end(), 0);
}

async fn a_mail_server_may_want_tls_and_a_password(site: Site) {
    for (tls, name) in [
        (MailTls::Implicit, "implicit"),
        (MailTls::StartTls, "starttls"),
    ] {
        let mut server = MailServer::start_with(tls, Some("secret"), 0);
        let certificate = server.certificate().unwrap().to_owned();
        let login = [
            ("email_smtp_tls", name),
            ("email_smtp_certificates", &certificate),
            ("email_smtp_login", "hub"),
            ("email_smtp_password", "wrong"),
        ];
        let post = Post::open(&site, &server, &login).await;
        post.put("ada@example.org").await;
        post.sender.round().await.unwrap();
        // Nobody has to send it again when the password is right.
        let waiting = post.waiting().await;
        let error = waiting[0].last_error.as_deref().unwrap();
        assert!(error.contains("535"), "{error}");
        assert!(waiting[0].due.is_some());
        settings::set(&post.store, "email_smtp_password", "secret")
            .await
            .unwrap();
        let post = post.again().await;
        let mut on = post.store.write().await.unwrap();
        stored::hurry(&mut on).await.unwrap();
        on.commit().await.unwrap();
        post.sender.round().await.unwrap();
        let got = server.next_letter();
        assert_eq!((&got["tls"], &got["login"]), (&true.into(), &"hub".into()));
        assert!(post.waiting().await.is_empty());
    }
}

async fn a_mail_server_that_nobody_vouches_for_gets_nothing(site: Site) {
    let server = MailServer::start_with(MailTls::Implicit, None, 0);
    let post = Post::open(&site, &server, &[("email_smtp_tls", "implicit")]).await;
    let told = send_now(&post.letters, letter("ada@example.org"))
        .await
        .unwrap_err();
    assert!(told.contains("certificate"), "{told}");
    post.put("ada@example.org").await;
    post.sender.round().await.unwrap();
    assert_eq!(post.waiting().await[0].attempts, 1);
    assert_eq!(server.end(), 0);
}

async fn a_letter_is_tried_until_the_server_takes_it(site: Site) {
    let mut server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    post.put("later@example.org").await;
    post.sender.round().await.unwrap();
    let waiting = post.waiting().await;
    let error = waiting[0].last_error.as_deref().unwrap();
    assert!(error.contains("come again"), "{error}");
    post.sender.round().await.unwrap();
    let text = server.next_letter()["text"].as_str().unwrap().to_owned();
    assert!(
        text.contains(&format!("Message-ID: <{}@example.org>", waiting[0].id)),
        "{text}"
    );
    assert!(post.waiting().await.is_empty());
}

async fn a_letter_that_the_server_never_takes_is_given_up(site: Site) {
    let server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    post.put("nobody@example.org").await;
    post.sender.round().await.unwrap();
    let waiting = post.waiting().await;
    assert_eq!((waiting[0].attempts, waiting[0].due), (1, None));
    assert!(
        waiting[0]
            .last_error
            .as_deref()
            .unwrap()
            .contains("there is nobody")
    );
    assert_eq!(site.beside("SELECT body FROM letters").await.concat(), "");
    assert_eq!(post.sender.round().await.unwrap(), 0);
}

async fn a_letter_waits_while_the_server_is_away(site: Site) {
    let server = MailServer::start();
    let port = server.port();
    let post = Post::open(&site, &server, PLAIN).await;
    drop(server);
    post.put("ada@example.org").await;
    post.sender.round().await.unwrap();
    post.sender.round().await.unwrap();
    let waiting = post.waiting().await;
    assert_eq!(waiting[0].attempts, 2);
    assert!(waiting[0].last_error.is_some());
    let mut server = MailServer::start_with(MailTls::None, None, port);
    post.sender.round().await.unwrap();
    assert_eq!(server.next_letter()["to"][0], "ada@example.org");
}

async fn a_letter_is_sent_by_one_of_many_hubs(site: Site) {
    const COUNT: usize = 30;
    let mut server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    for number in 0..COUNT {
        post.put(&format!("ada-{number}@example.org")).await;
    }
    let config = Config {
        batch: 4,
        ..eager()
    };
    let hubs = (0..3).map(|_| {
        let sender = Sender::new(post.store.clone(), post.letters.clone(), config.clone());
        tokio::task::spawn(async move { while sender.round().await.unwrap() > 0 {} })
    });
    for ended in futures_util::future::join_all(hubs).await {
        ended.unwrap();
    }
    let mut to: Vec<String> = (0..COUNT)
        .map(|_| server.next_letter()["to"][0].as_str().unwrap().to_owned())
        .collect();
    to.sort_unstable();
    to.dedup();
    assert_eq!(to.len(), COUNT);
    assert_eq!(server.end(), 0);
    assert!(post.waiting().await.is_empty());
}

async fn claim(store: &Store, lasts: Duration) -> Vec<Claimed> {
    let mut on = store.write().await.unwrap();
    let claimed = stored::claim(&mut on, 10, lasts).await.unwrap();
    on.commit().await.unwrap();
    claimed
}

async fn what_a_hub_leaves_behind_is_sent_by_another(site: Site) {
    let mut server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    post.put("ada@example.org").await;
    let held = claim(&post.store, Duration::from_hours(1)).await;
    assert_eq!(held.len(), 1);
    assert_eq!(post.sender.round().await.unwrap(), 0);
    // That one ends, and its claim is over.
    let ended = site
        .beside("UPDATE letters SET due = created RETURNING kind")
        .await;
    assert_eq!(ended, ["notice"]);
    assert_eq!(post.sender.round().await.unwrap(), 1);
    server.next_letter();
    // What it would still say changes nothing.
    post.put("bob@example.org").await;
    let again = claim(&post.store, Duration::ZERO).await;
    claim(&post.store, Duration::from_hours(1)).await;
    let mut on = post.store.write().await.unwrap();
    let (id, attempt) = (again[0].id, again[0].attempt);
    assert!(!stored::sent(&mut on, id, attempt).await.unwrap());
    assert!(
        !stored::failed(&mut on, id, attempt, "late", Duration::ZERO)
            .await
            .unwrap()
    );
    assert!(
        !stored::give_up(&mut on, id, attempt, "late", Duration::ZERO)
            .await
            .unwrap()
    );
    on.commit().await.unwrap();
    assert_eq!(post.waiting().await[0].last_error, None);
}

async fn a_letter_is_put_if_the_transaction_is_committed(site: Site) {
    let server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    let mut on = post.store.write().await.unwrap();
    post.letters
        .put(&mut on, Kind::Notice, &letter("ada@example.org"))
        .await
        .unwrap();
    drop(on);
    assert_eq!(post.sender.round().await.unwrap(), 0);
    assert_eq!(server.end(), 0);
}

async fn so_many_letters_wait_and_no_more(site: Site) {
    let store = site.open().await;
    let mut on = store.write().await.unwrap();
    let max = Max { all: 2, of_kind: 3 };
    for (number, taken) in [(0, true), (1, true), (2, false)] {
        let new = New {
            id: Uuid::new_v4(),
            kind: "notice",
            to: "ada@example.org",
            subject: "",
            body: "",
            keep: Duration::from_mins(1),
        };
        assert_eq!(
            stored::put(&mut on, &new, max).await.unwrap(),
            taken,
            "{number}"
        );
    }
}

async fn notices_leave_room_and_wait_for_others(site: Site) {
    let server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    site.beside(match &site.location {
        Location::Postgres { .. } => {
            "INSERT INTO letters (id, kind, to_address, subject, body, created, due, expire)
             SELECT gen_random_uuid(), 'notice', 'ada@example.org', '', '', now(), now(), now() + interval '1 hour'
               FROM generate_series(2, 5000)"
        }
        Location::Sqlite { .. } => {
            "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO letters (id, kind, to_address, subject, body, created, due, expire)
             SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-'
                          || hex(randomblob(2)) || '-' || hex(randomblob(6))),
                    'notice', 'ada@example.org', '', '', 0, 0, (unixepoch() + 3600) * 1000 FROM n"
        }
    })
    .await;
    let put = async |kind| {
        let mut on = post.store.write().await.unwrap();
        post.letters
            .put(&mut on, kind, &letter("eve@example.org"))
            .await
            .unwrap();
        on.commit().await.unwrap();
    };
    for kind in [
        Kind::Notice,
        Kind::Notice,
        Kind::PasswordReset,
        Kind::Verification,
    ] {
        put(kind).await;
    }
    let kept = site
        .beside("SELECT CAST(count(*) AS text) FROM letters GROUP BY kind ORDER BY count(*)")
        .await;
    assert_eq!(kept, ["1", "1", "5000"]);
    let mut on = post.store.write().await.unwrap();
    let claimed = stored::claim(&mut on, 3, Duration::from_mins(1))
        .await
        .unwrap();
    let mut kinds: Vec<&str> = claimed.iter().map(|one| one.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["notice", "password-reset", "verification"]);
}

async fn letters_for_passwords_are_sent_where_no_others_are(site: Site) {
    let mut server = MailServer::start();
    let port = server.port().to_string();
    let store = site.open().await;
    for (name, value) in [
        ("email_enabled", "yes"),
        ("password_reset_override", "smtp"),
        ("password_reset_smtp_server", "127.0.0.1"),
        ("password_reset_smtp_port", &*port),
        ("password_reset_smtp_from", "reset@example.org"),
        ("password_reset_smtp_tls", "none"),
    ] {
        settings::set(&store, name, value).await.unwrap();
    }
    let post = Post::with(store).await;
    let sent = [Kind::Notice, Kind::Verification, Kind::PasswordReset];
    assert_eq!(
        sent.map(|kind| post.letters.are_sent_of(kind)),
        [false, false, true]
    );
    for kind in sent {
        let mut on = post.store.write().await.unwrap();
        post.letters
            .put(&mut on, kind, &letter("ada@example.org"))
            .await
            .unwrap();
        on.commit().await.unwrap();
    }
    let waiting: Vec<String> = post
        .waiting()
        .await
        .into_iter()
        .map(|one| one.kind)
        .collect();
    assert_eq!(waiting, ["password-reset"]);
    assert_eq!(post.sender.round().await.unwrap(), 1);
    assert_eq!(server.next_letter()["from"], "reset@example.org");
    assert_eq!(server.end(), 0);
}

async fn a_sender_that_ends_gives_back_what_it_has_not_begun(site: Site) {
    let mut server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    for to in ["ada@example.org", "bob@example.org", "eve@example.org"] {
        post.put(to).await;
    }
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(post.sender.round_until(&stop).await.unwrap(), 3);
    let attempts: Vec<i64> = post
        .waiting()
        .await
        .iter()
        .map(|one| one.attempts)
        .collect();
    assert_eq!(attempts, [0, 0, 0]);
    // Another hub finds them due.
    assert_eq!(post.sender.round().await.unwrap(), 3);
    for _ in 0..3 {
        server.next_letter();
    }
    assert_eq!(server.end(), 0);
}

async fn a_sender_sends_what_it_is_woken_for_and_ends(site: Site) {
    let mut server = MailServer::start();
    let post = Post::open(&site, &server, PLAIN).await;
    let config = Config {
        poll: crate::NEVER,
        ..Config::default()
    };
    let sender = Sender::new(post.store.clone(), post.letters.clone(), config);
    let stop = CancellationToken::new();
    let running = tokio::task::spawn(sender.run(stop.clone()));
    post.put("ada@example.org").await;
    post.letters.wake();
    let server = tokio::task::spawn_blocking(move || {
        server.next_letter();
        server
    });
    let server = Arc::new(server.await.unwrap());
    stop.cancel();
    running.await.unwrap();
    drop(server);
    assert!(post.waiting().await.is_empty());
}
