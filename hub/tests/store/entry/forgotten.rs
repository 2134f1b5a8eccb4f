//! What is done by a letter: a new password, and showing whose an address is.

use dialtone_hub::accounts;
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::auth::session::Secret;
use dialtone_hub::entry::{Entry, Refused};
use dialtone_hub::letters::Letters;
use dialtone_hub::settings::{self, Live};
use dialtone_hub::store::remember_me;

use super::{ADDRESS, Door, PASSWORD, from, sign_in, sign_up};
use crate::{Site, on_both};

on_both! {
    who_has_forgotten_a_password_gets_a_letter_where_no_others_are_sent,
    a_forgotten_password_is_set_anew_by_a_letter,
    a_letter_shows_whose_an_address_is,
}

async fn who_has_forgotten_a_password_gets_a_letter_where_no_others_are_sent(site: Site) {
    let store = site.open().await;
    for (name, value) in [
        ("email_enabled", "yes"),
        ("password_reset_override", "smtp"),
        ("password_reset_smtp_server", "127.0.0.1"),
        ("password_reset_smtp_from", "reset@example.org"),
    ] {
        settings::set(&store, name, value).await.unwrap();
    }
    let (live, _follower) = Live::open(&store).await.unwrap();
    let entry = Entry {
        store: store.clone(),
        letters: Letters::new(live.clone(), None),
        settings: live,
        hasher: Hasher::new(password::Config::default()).unwrap(),
        site: "https://example.org".to_owned(),
    };
    // Nobody asks whose the address is, so that the account is whole without.
    entry.sign_up(&sign_up(ADDRESS)).await.unwrap();
    entry
        .ask_for_reset(ADDRESS, &from("192.0.2.1"))
        .await
        .unwrap();
    let waiting = site.beside("SELECT kind FROM letters").await;
    assert_eq!(waiting, ["password-reset"]);
}

/// What stands behind this in the only letter that has it.
fn behind<'a>(letters: &'a [String], part: &str) -> &'a str {
    let found: Vec<_> = letters
        .iter()
        .filter_map(|text| text.split_once(part))
        .collect();
    assert_eq!(found.len(), 1, "{letters:?}");
    found[0].1.split(['\r', '&']).next().unwrap()
}

async fn a_forgotten_password_is_set_anew_by_a_letter(site: Site) {
    let door = Door::open(&site).await;
    let up = door.entry.sign_up(&sign_up(ADDRESS)).await.unwrap();
    let origin = from("192.0.2.1");
    for _ in 0..2 {
        door.entry
            .ask_for_reset("eva@example.org", &origin)
            .await
            .unwrap();
    }
    door.entry.ask_for_reset(ADDRESS, &origin).await.unwrap();
    let by_admin = door.entry.reset_link(up.account_id).await.unwrap();
    assert!(by_admin.starts_with("https://example.org/auth/password-reset/"));
    let store = door.store.clone();
    let (entry, letters) = door.letters().await;
    let token = behind(&letters, "/auth/password-reset/");
    // The administrator's link is the last one, so that the letter's is not good any more.
    let refused = entry
        .reset(token, "another-engine-8", &origin)
        .await
        .unwrap_err();
    assert!(matches!(refused, Refused::Token), "{refused}");
    let token = by_admin.rsplit_once('/').unwrap().1;
    let refused = entry.reset(token, "short", &origin).await.unwrap_err();
    assert!(matches!(refused, Refused::Weak(_)), "{refused}");
    let attempts = (0..4).map(|_| async { entry.reset(token, "another-engine-8", &origin).await });
    let done = futures_util::future::join_all(attempts).await;
    assert_eq!(done.iter().flatten().collect::<Vec<_>>(), [&up.account_id]);
    let hash = Secret::offered(&up.cookie).unwrap().hash();
    let found = remember_me::find(&mut store.read().await.unwrap(), &hash)
        .await
        .unwrap();
    assert_eq!(found, None, "sessions end with the old password");
    let refused = entry
        .sign_in(&sign_in(ADDRESS, PASSWORD))
        .await
        .unwrap_err();
    assert!(matches!(refused, Refused::Wrong), "{refused}");
    entry
        .sign_in(&sign_in(ADDRESS, "another-engine-8"))
        .await
        .unwrap();
    let account = accounts::find(&store, ADDRESS).await.unwrap();
    assert!(account.email_address_verified["ada@example.org"].is_number());
    // So many letters and no more.
    entry.ask_for_reset(ADDRESS, &origin).await.unwrap();
    entry.ask_for_reset(ADDRESS, &origin).await.unwrap();
    let refused = entry.ask_for_reset(ADDRESS, &origin).await.unwrap_err();
    assert!(matches!(refused, Refused::Throttled { .. }), "{refused}");
}

async fn a_letter_shows_whose_an_address_is(site: Site) {
    let door = Door::open(&site).await;
    let up = door.entry.sign_up(&sign_up(ADDRESS)).await.unwrap();
    let origin = from("192.0.2.1");
    let store = door.store.clone();
    let (entry, letters) = door.letters().await;
    let token = behind(&letters, "/auth/verify?token=");
    let stored = site
        .beside("SELECT CAST(email_address_challenge AS text) FROM accounts")
        .await;
    assert!(!stored[0].contains(token), "{stored:?}");
    for (address, offered) in [
        ("eva@example.org", token),
        (ADDRESS, "wrong"),
        ("nobody", token),
    ] {
        let refused = entry.verify(address, offered, &origin).await.unwrap_err();
        assert!(matches!(refused, Refused::Token), "{refused}");
    }
    assert_eq!(
        entry.verify(ADDRESS, token, &origin).await.unwrap(),
        up.account_id
    );
    let account = accounts::find(&store, ADDRESS).await.unwrap();
    assert!(account.email_address_verified["ada@example.org"].is_number());
    let again = entry.verify(ADDRESS, token, &origin).await.unwrap_err();
    assert!(matches!(again, Refused::Token), "{again}");
}
