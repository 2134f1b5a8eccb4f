//! Coming in: signing up and in, a new password, an address that is shown to be one's own.

use std::task::Poll;
use std::time::Duration;

use dialtone_hub::accounts;
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::auth::registration;
use dialtone_hub::auth::session::Secret;
use dialtone_hub::entry::first_admin::{self, Invitation};
use dialtone_hub::entry::sign_in::Request as SignIn;
use dialtone_hub::entry::sign_up::Request as SignUp;
use dialtone_hub::entry::{Entry, Origin, Refused};
use dialtone_hub::letters::{self, Letters, Sender};
use dialtone_hub::settings::{self, Live};
use dialtone_hub::store::tokens::{self, Registration};
use dialtone_hub::store::{Store, remember_me};
use serde_json::json;
use tempfile::TempDir;

use crate::{Site, on_both};

mod forgotten;

on_both! {
    who_signs_up_is_in_and_can_come_back,
    wrong_passwords_and_unknown_addresses_get_the_same_answer,
    attempts_are_limited_for_all_hubs_together,
    a_banned_account_learns_so_with_the_right_password_alone,
    an_address_is_given_once_whoever_is_first,
    tokens_are_needed_counted_and_used_up,
    an_ephemeral_account_needs_its_kind_of_token,
    a_site_may_not_let_people_sign_up,
    the_first_administrator_is_made_once,
    who_goes_away_in_the_middle_can_become_the_first_administrator_still,
    a_password_is_what_was_typed,
}

const ADDRESS: &str = "Ada@Example.org";
const PASSWORD: &str = "analytical-engine-7";

/// A hub at the door, and the folder of its letters.
struct Door {
    entry: Entry,
    store: Store,
    letters: TempDir,
    sender: Sender,
}

impl Door {
    async fn open(site: &Site) -> Self {
        let store = site.open().await;
        let (settings, _follower) = Live::open(&store).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let letters = Letters::new(settings.clone(), Some(folder.path().to_owned()));
        let sender = Sender::new(store.clone(), letters.clone(), letters::Config::default());
        let entry = Entry {
            store: store.clone(),
            settings,
            hasher: Hasher::new(password::Config::default()).unwrap(),
            letters,
            site: "https://example.org".to_owned(),
        };
        Self {
            entry,
            store,
            letters: folder,
            sender,
        }
    }

    /// All letters, when no more are sent.
    async fn letters(self) -> (Entry, Vec<String>) {
        while self.sender.round().await.unwrap() > 0 {}
        let files = std::fs::read_dir(self.letters.path()).unwrap();
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(file.unwrap().path()).unwrap()
        };
        (self.entry, files.map(read).collect())
    }

    async fn is_session(&self, cookie: &str) -> bool {
        let hash = Secret::offered(cookie).unwrap().hash();
        let mut on = self.store.read().await.unwrap();
        remember_me::find(&mut on, &hash).await.unwrap().is_some()
    }
}

fn from(ip: &str) -> Origin {
    Origin {
        ip: Some(ip.to_owned()),
        user_agent: Some("test".to_owned()),
    }
}

fn sign_up(address: &str) -> SignUp<'_> {
    SignUp {
        email_address: address,
        password: PASSWORD,
        first_name: "Ada",
        last_name: "Lovelace",
        token: None,
        tags: vec!["maths".to_owned()],
        intent: None,
        origin: from("192.0.2.1"),
    }
}

fn sign_in<'a>(address: &'a str, password: &'a str) -> SignIn<'a> {
    SignIn {
        email_address: address,
        password,
        origin: from("192.0.2.2"),
    }
}

async fn who_signs_up_is_in_and_can_come_back(site: Site) {
    let door = Door::open(&site).await;
    let up = door.entry.sign_up(&sign_up(ADDRESS)).await.unwrap();
    assert!(door.is_session(&up.cookie).await);
    let back = door
        .entry
        .sign_in(&sign_in(" ada@example.ORG ", PASSWORD))
        .await
        .unwrap();
    assert_eq!(back.account_id, up.account_id);
    assert_ne!(back.cookie, up.cookie);
    door.entry.sign_out(&up.cookie).await.unwrap();
    door.entry.sign_out(&up.cookie).await.unwrap();
    door.entry.sign_out("nonsense $ of any kind").await.unwrap();
    assert!(!door.is_session(&up.cookie).await);
    assert!(door.is_session(&back.cookie).await);
    // What was stored gives neither password nor cookie away.
    let stored = site
        .beside("SELECT password_hash FROM accounts")
        .await
        .join("");
    assert!(stored.starts_with("$argon2id$"), "{stored}");
    let stored = site.beside("SELECT hash FROM remember_me").await.join("");
    assert!(!stored.contains(&back.cookie), "{stored}");
}

async fn wrong_passwords_and_unknown_addresses_get_the_same_answer(site: Site) {
    let door = Door::open(&site).await;
    door.entry.sign_up(&sign_up(ADDRESS)).await.unwrap();
    let mut answers = Vec::new();
    for (address, password) in [
        (ADDRESS, "wrong"),
        ("eva@example.org", PASSWORD),
        ("nobody", PASSWORD),
        (ADDRESS, ""),
    ] {
        let refused = door
            .entry
            .sign_in(&sign_in(address, password))
            .await
            .unwrap_err();
        answers.push(refused.to_string());
    }
    assert!(
        answers
            .iter()
            .all(|one| one == "wrong email address or password"),
        "{answers:?}"
    );
    door.entry
        .ask_for_reset("eva@example.org", &from("192.0.2.1"))
        .await
        .unwrap();
    door.entry
        .ask_for_reset(ADDRESS, &from("192.0.2.1"))
        .await
        .unwrap();
}

async fn attempts_are_limited_for_all_hubs_together(site: Site) {
    let (one, other) = (Door::open(&site).await, Door::open(&site).await);
    one.entry.sign_up(&sign_up(ADDRESS)).await.unwrap();
    // Right ones do not count.
    for _ in 0..7 {
        one.entry
            .sign_in(&sign_in(ADDRESS, PASSWORD))
            .await
            .unwrap();
    }
    // Many at the same time: five are looked at, by whichever hub, and the others are not.
    let attempts = (0..12).map(|number| {
        let entry = if number % 2 == 0 {
            &one.entry
        } else {
            &other.entry
        };
        async move { entry.sign_in(&sign_in(ADDRESS, "wrong")).await.unwrap_err() }
    });
    let refused = futures_util::future::join_all(attempts).await;
    let wrong = refused
        .iter()
        .filter(|one| matches!(one, Refused::Wrong))
        .count();
    let throttled = refused
        .iter()
        .filter(|one| matches!(one, Refused::Throttled { .. }))
        .count();
    assert_eq!((wrong, throttled), (5, 7), "{refused:?}");
    // Not even with the right one, and not with another spelling.
    let refused = other
        .entry
        .sign_in(&sign_in("ADA@example.org", PASSWORD))
        .await
        .unwrap_err();
    let Refused::Throttled { wait } = refused else {
        panic!("{refused}");
    };
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_mins(2),
        "{wait:?}"
    );
}

async fn a_banned_account_learns_so_with_the_right_password_alone(site: Site) {
    let door = Door::open(&site).await;
    let up = door.entry.sign_up(&sign_up(ADDRESS)).await.unwrap();
    accounts::ban(&door.store, up.account_id, true)
        .await
        .unwrap();
    assert!(!door.is_session(&up.cookie).await);
    let refused = door
        .entry
        .sign_in(&sign_in(ADDRESS, "wrong"))
        .await
        .unwrap_err();
    assert!(matches!(refused, Refused::Wrong), "{refused}");
    let refused = door
        .entry
        .sign_in(&sign_in(ADDRESS, PASSWORD))
        .await
        .unwrap_err();
    assert!(matches!(refused, Refused::Banned), "{refused}");
}

async fn an_address_is_given_once_whoever_is_first(site: Site) {
    let door = Door::open(&site).await;
    let attempts = (0..4).map(|_| async { door.entry.sign_up(&sign_up(ADDRESS)).await });
    let made = futures_util::future::join_all(attempts).await;
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, 3));
    assert!(
        bad.iter()
            .all(|one| matches!(one, Err(Refused::EmailAddressTaken))),
        "{bad:?}"
    );
    for (change, text) in [
        (
            SignUp {
                email_address: "nobody",
                ..sign_up(ADDRESS)
            },
            "this is not an email address",
        ),
        (
            SignUp {
                first_name: " ",
                ..sign_up(ADDRESS)
            },
            "the first name must have 1 to 254 characters",
        ),
        (
            SignUp {
                password: "short",
                ..sign_up(ADDRESS)
            },
            "the password must have at least 8 characters",
        ),
    ] {
        let refused = door.entry.sign_up(&change).await.unwrap_err();
        assert_eq!(refused.to_string(), text);
    }
}

fn registration_token(token: &str) -> Registration {
    Registration {
        token: token.to_owned(),
        descr: String::new(),
        counter: 0,
        limit: Some(2),
        expires: None,
        disabled: false,
        ephemeral: None,
        customize: json!({"disableAI": true}),
    }
}

async fn put(store: &Store, token: &Registration) {
    let mut on = store.write().await.unwrap();
    tokens::put_registration(&mut on, token).await.unwrap();
    on.commit().await.unwrap();
}

async fn tokens_are_needed_counted_and_used_up(site: Site) {
    let door = Door::open(&site).await;
    put(&door.store, &registration_token("course")).await;
    let refused = door.entry.sign_up(&sign_up(ADDRESS)).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Refused::Registration(registration::Refused::Missing)
        ),
        "{refused}"
    );
    let with = |address, token| SignUp {
        token: Some(token),
        ..sign_up(address)
    };
    let refused = door
        .entry
        .sign_up(&with(ADDRESS, "other"))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, Refused::Registration(registration::Refused::Wrong)),
        "{refused}"
    );
    let addresses = ["a@x.org", "b@x.org", "c@x.org", "d@x.org"];
    let attempts = addresses.map(|address| {
        let entry = &door.entry;
        async move { entry.sign_up(&with(address, "course")).await }
    });
    let made = futures_util::future::join_all(attempts).await;
    let good: Vec<_> = made.iter().flatten().collect();
    assert_eq!(good.len(), 2, "{made:?}");
    // Whoever was refused has left nothing behind.
    let left = site.beside("SELECT email_address FROM accounts").await;
    assert_eq!(left.len(), 2);
    let account = accounts::find(&door.store, &good[0].account_id.to_string())
        .await
        .unwrap();
    assert_eq!(account.customize, json!({"disableAI": true}));
}

async fn an_ephemeral_account_needs_its_kind_of_token(site: Site) {
    let door = Door::open(&site).await;
    put(&door.store, &registration_token("lasting")).await;
    let short = Registration {
        ephemeral: Some(Duration::from_mins(30)),
        ..registration_token("short")
    };
    put(&door.store, &short).await;
    let origin = from("192.0.2.1");
    let refused = door
        .entry
        .sign_up_ephemeral("lasting", &origin)
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            Refused::Registration(registration::Refused::NotEphemeral)
        ),
        "{refused}"
    );
    let signed_in = door
        .entry
        .sign_up_ephemeral("short", &origin)
        .await
        .unwrap();
    assert!(signed_in.lifetime <= Duration::from_mins(30));
    let account = accounts::find(&door.store, &signed_in.account_id.to_string())
        .await
        .unwrap();
    assert_eq!(account.ephemeral, Some(Duration::from_mins(30)));
    assert_eq!(account.email_address, None);
}

async fn a_site_may_not_let_people_sign_up(site: Site) {
    let store = site.open().await;
    settings::set(&store, "email_signup", "no").await.unwrap();
    let door = Door::open(&site).await;
    let refused = door.entry.sign_up(&sign_up(ADDRESS)).await.unwrap_err();
    assert!(matches!(refused, Refused::Disabled(_)), "{refused}");
}

async fn the_first_administrator_is_made_once(site: Site) {
    let door = Door::open(&site).await;
    let (invitation, secret) = Invitation::if_needed(&door.store).await.unwrap().unwrap();
    let attempt = async |token: &str, password: &str| {
        let wanted = first_admin::Request {
            token,
            email_address: ADDRESS,
            password,
            first_name: "Ada",
            last_name: "Lovelace",
            origin: Origin::default(),
        };
        door.entry.become_first_admin(&invitation, &wanted).await
    };
    let guessed = attempt("guessed", PASSWORD).await.unwrap_err();
    assert!(matches!(guessed, Refused::Token), "{guessed}");
    let weak = attempt(&secret, "short").await.unwrap_err();
    assert!(matches!(weak, Refused::Weak(_)), "{weak}");
    // Of two at the same time one is it.
    let (one, two) = tokio::join!(attempt(&secret, PASSWORD), attempt(&secret, PASSWORD));
    let (made, refused) = match (one, two) {
        (Ok(made), Err(refused)) | (Err(refused), Ok(made)) => (made, refused),
        both => panic!("{both:?}"),
    };
    assert!(matches!(refused, Refused::Token), "{refused}");
    let account = accounts::find(&door.store, ADDRESS).await.unwrap();
    assert_eq!(account.id, made.account_id);
    assert!(account.is_admin());
    assert!(Invitation::if_needed(&door.store).await.unwrap().is_none());
    assert!(!invitation.is_open_to(&secret));
}

/// What a future gives, or `None` if it has not when it was polled so often; then it is dropped.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn who_goes_away_in_the_middle_can_become_the_first_administrator_still(site: Site) {
    let door = Door::open(&site).await;
    let (invitation, secret) = Invitation::if_needed(&door.store).await.unwrap().unwrap();
    let wanted = first_admin::Request {
        token: &secret,
        email_address: ADDRESS,
        password: PASSWORD,
        first_name: "Ada",
        last_name: "Lovelace",
        origin: Origin::default(),
    };
    // Wherever it is dropped, it was used if there is an administrator, and not otherwise.
    for times in 0..1_000 {
        let made = polled(times, door.entry.become_first_admin(&invitation, &wanted)).await;
        let needed = Invitation::if_needed(&door.store).await.unwrap().is_some();
        match made {
            None if needed => assert!(invitation.is_open_to(&secret), "dropped after {times}"),
            None => return,
            Some(Ok(_signed_in)) => {
                assert!(!needed && !invitation.is_open_to(&secret));
                return;
            }
            Some(Err(refused)) => {
                assert!(
                    !needed && matches!(refused, Refused::Token),
                    "after {times}: {refused}"
                );
                return;
            }
        }
    }
    panic!("it is not made however often it is polled");
}

async fn a_password_is_what_was_typed(site: Site) {
    let door = Door::open(&site).await;
    let typed = " analytical engine 7 ";
    let wanted = SignUp {
        password: typed,
        ..sign_up(ADDRESS)
    };
    let up = door.entry.sign_up(&wanted).await.unwrap();
    let comes_in = async |password: &str| door.entry.sign_in(&sign_in(ADDRESS, password)).await;
    assert!(matches!(comes_in(typed.trim()).await, Err(Refused::Wrong)));
    comes_in(typed).await.unwrap();
    let link = door.entry.reset_link(up.account_id).await.unwrap();
    let token = link.rsplit_once('/').unwrap().1;
    let typed = "\tanother engine 8";
    door.entry
        .reset(token, typed, &from("192.0.2.1"))
        .await
        .unwrap();
    assert!(matches!(comes_in(typed.trim()).await, Err(Refused::Wrong)));
    comes_in(typed).await.unwrap();
    let (invitation, secret) = Invitation::if_needed(&door.store).await.unwrap().unwrap();
    let wanted = first_admin::Request {
        token: &secret,
        email_address: "root@example.org",
        password: " difference engine 2",
        first_name: "Charles",
        last_name: "Babbage",
        origin: Origin::default(),
    };
    door.entry
        .become_first_admin(&invitation, &wanted)
        .await
        .unwrap();
    let root = sign_in("root@example.org", " difference engine 2");
    door.entry.sign_in(&root).await.unwrap();
}
