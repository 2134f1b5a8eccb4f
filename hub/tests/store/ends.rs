//! What ends with a ban, a new password or an account: everything that was let in as it, and nobody else's.

use std::time::Duration;

use dialtone_hub::accounts::{self, Error};
use dialtone_hub::id::AccountId;
use dialtone_hub::maintenance::{self, Blobs, Config};
use dialtone_hub::store::files::{self, BlobTotals};
use dialtone_hub::store::outbox::{self, Batch, Table};
use dialtone_hub::store::tokens::{self, SignIn};
use dialtone_hub::store::{Store, accounts as stored, api_keys, remember_me};

use crate::accounts::{make, new};
use crate::{NEVER, Site, on_both};

on_both! {
    a_ban_ends_everything_that_was_let_in,
    a_new_password_spares_the_session_that_asked,
    signing_out_everywhere_leaves_the_password,
    a_deleted_account_has_nothing_left,
    blobs_that_are_over_are_removed_and_others_counted,
    administrators_are_made_and_unmade,
    an_unknown_account_is_said_to_be_unknown,
    somebody_is_found_by_number_address_or_name,
}

async fn blobs_that_are_over_are_removed_and_others_counted(site: Site) {
    let store = site.open().await;
    let mut on = store.write().await.unwrap();
    for (bytes, keep) in [
        (&b"over"[..], Some(Duration::ZERO)),
        (b"over as well", Some(Duration::ZERO)),
        (b"for a while", Some(NEVER)),
        (b"for ever", None),
    ] {
        let id = uuid::Uuid::new_v4();
        files::put_blob(&mut on, id, bytes, keep).await.unwrap();
    }
    on.commit().await.unwrap();
    // One at a time, so that there is more than one transaction.
    let config = Config {
        batch: 1,
        delay: Duration::ZERO,
        ..Config::default()
    };
    let done = maintenance::blobs(&store, &config).await.unwrap();
    let kept = BlobTotals {
        count: 2,
        ending: 1,
        bytes: 19,
    };
    assert_eq!(done, Blobs { removed: 2, kept });
    let again = maintenance::blobs(&store, &config).await.unwrap();
    assert_eq!(again, Blobs { removed: 0, kept });
}

/// An account that is signed in twice, has a key, and asked for a new password and a token to sign in.
async fn busy(store: &Store, address: &str) -> AccountId {
    let id = make(store, &new(address)).await;
    let mut on = store.write().await.unwrap();
    for session in ["first", "second"] {
        let session = remember_me::New {
            hash: &format!("{session} {address}"),
            account_id: id,
            ttl: NEVER,
            kind: "password",
            ip: None,
            user_agent: None,
        };
        remember_me::insert(&mut on, &session).await.unwrap();
    }
    let token = SignIn {
        account_id: id,
        created_by: id,
        is_admin: false,
    };
    let hash = format!("token {address}");
    tokens::put_sign_in(&mut on, &hash, &token, NEVER)
        .await
        .unwrap();
    let hash = format!("reset {address}");
    tokens::put_reset(&mut on, &hash, id, address, NEVER)
        .await
        .unwrap();
    let key = api_keys::New {
        account_id: id,
        project_id: None,
        name: "key",
        expire: None,
    };
    api_keys::insert(&mut on, &key).await.unwrap();
    on.commit().await.unwrap();
    id
}

/// Sessions, whether the token and the letter still work, keys, epoch.
async fn left(store: &Store, id: AccountId, address: &str) -> (usize, bool, bool, i64, i64) {
    let mut on = store.write().await.unwrap();
    let sessions = remember_me::of_account(&mut on, id, 10)
        .await
        .unwrap()
        .len();
    let token = tokens::use_sign_in(&mut on, &format!("token {address}"))
        .await
        .unwrap();
    let reset = tokens::use_reset(&mut on, &format!("reset {address}"))
        .await
        .unwrap();
    let keys = api_keys::count(&mut on, id).await.unwrap();
    let account = stored::by_id(&mut on, id).await.unwrap().unwrap();
    (
        sessions,
        token.is_some(),
        reset.is_some(),
        keys,
        account.session_epoch,
    )
}

/// Every session that ends, and the epoch, are told to those who let somebody in.
async fn told(store: &Store, id: AccountId) -> (usize, usize) {
    let mut on = store.read().await.unwrap();
    let Batch::Changes { entries, .. } = outbox::read(&mut on, 0, 1000).await.unwrap() else {
        panic!("a gap");
    };
    let own = entries
        .iter()
        .filter(|one| one.change.account_id == Some(id));
    let sessions = own
        .clone()
        .filter(|one| one.change.table == Table::RememberMe);
    let epochs = own.filter(|one| one.change.fields == ["session_epoch"]);
    (sessions.count(), epochs.count())
}

const ONE: &str = "one@example.org";
const OTHER: &str = "other@example.org";
const UNTOUCHED: (usize, bool, bool, i64, i64) = (2, true, true, 1, 0);

async fn a_ban_ends_everything_that_was_let_in(site: Site) {
    let store = site.open().await;
    let (one, other) = (busy(&store, ONE).await, busy(&store, OTHER).await);
    accounts::ban(&store, one, true).await.unwrap();
    assert_eq!(left(&store, one, ONE).await, (0, false, false, 1, 1));
    assert_eq!(told(&store, one).await, (2, 1));
    assert!(!accounts::find(&store, ONE).await.unwrap().is_usable());
    accounts::ban(&store, one, false).await.unwrap();
    assert!(accounts::find(&store, ONE).await.unwrap().is_usable());
    assert_eq!(left(&store, one, ONE).await.0, 0);
    assert_eq!(left(&store, other, OTHER).await, UNTOUCHED);
}

async fn a_new_password_spares_the_session_that_asked(site: Site) {
    let store = site.open().await;
    let (one, other) = (busy(&store, ONE).await, busy(&store, OTHER).await);
    let spared = format!("first {ONE}");
    accounts::set_password(&store, one, "hash", Some(&spared))
        .await
        .unwrap();
    assert_eq!(left(&store, one, ONE).await, (1, false, false, 1, 1));
    let mut on = store.read().await.unwrap();
    assert!(remember_me::find(&mut on, &spared).await.unwrap().is_some());
    drop(on);
    let account = accounts::find(&store, ONE).await.unwrap();
    assert_eq!(account.password_hash.as_deref(), Some("hash"));
    assert_eq!(left(&store, other, OTHER).await, UNTOUCHED);
}

async fn signing_out_everywhere_leaves_the_password(site: Site) {
    let store = site.open().await;
    let one = busy(&store, ONE).await;
    accounts::set_password(&store, one, "hash", None)
        .await
        .unwrap();
    accounts::sign_out(&store, one, None).await.unwrap();
    assert_eq!(left(&store, one, ONE).await, (0, false, false, 1, 2));
    let account = accounts::find(&store, ONE).await.unwrap();
    assert_eq!(account.password_hash.as_deref(), Some("hash"));
}

async fn a_deleted_account_has_nothing_left(site: Site) {
    let store = site.open().await;
    let (one, other) = (busy(&store, ONE).await, busy(&store, OTHER).await);
    accounts::delete(&store, one).await.unwrap();
    assert_eq!(left(&store, one, ONE).await, (0, false, false, 0, 1));
    let again = accounts::delete(&store, one).await.unwrap_err();
    assert!(matches!(again, Error::Unknown), "{again}");
    make(&store, &new(ONE)).await;
    assert_eq!(left(&store, other, OTHER).await, UNTOUCHED);
}

async fn administrators_are_made_and_unmade(site: Site) {
    let store = site.open().await;
    let one = make(&store, &new(ONE)).await;
    accounts::set_admin(&store, one, true).await.unwrap();
    accounts::set_admin(&store, one, true).await.unwrap();
    let account = accounts::find(&store, ONE).await.unwrap();
    assert_eq!(
        (
            account.groups.len(),
            account.is_admin(),
            account.session_epoch
        ),
        (1, true, 0)
    );
    accounts::set_admin(&store, one, false).await.unwrap();
    let account = accounts::find(&store, ONE).await.unwrap();
    assert_eq!((account.is_admin(), account.session_epoch), (false, 1));
}

async fn an_unknown_account_is_said_to_be_unknown(site: Site) {
    let store = site.open().await;
    let nobody = AccountId::random();
    let results = [
        accounts::ban(&store, nobody, true).await,
        accounts::set_password(&store, nobody, "hash", None).await,
        accounts::sign_out(&store, nobody, None).await,
        accounts::delete(&store, nobody).await,
        accounts::set_admin(&store, nobody, true).await,
        accounts::find(&store, &nobody.to_string()).await.map(drop),
        accounts::find(&store, "nobody").await.map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(Error::Unknown)), "{result:?}");
    }
    let one = new(ONE);
    accounts::create(&store, &one).await.unwrap();
    let taken = accounts::create(&store, &new(ONE)).await.unwrap_err();
    assert!(matches!(taken, Error::EmailAddressTaken), "{taken}");
}

async fn somebody_is_found_by_number_address_or_name(site: Site) {
    let store = site.open().await;
    let one = make(&store, &new(ONE)).await;
    let mut on = store.write().await.unwrap();
    let update = stored::Update {
        name: Some(Some("ada".to_owned())),
        ..stored::Update::default()
    };
    stored::update(&mut on, one, update).await.unwrap();
    on.commit().await.unwrap();
    for who in [&one.to_string(), "One@Example.org", "Ada"] {
        assert_eq!(accounts::find(&store, who).await.unwrap().id, one, "{who}");
    }
}
