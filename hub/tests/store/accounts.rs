//! Accounts, their sessions and keys.

use std::time::Duration;

use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::store::accounts::{self, Account, New, Search, Taken, Unique, Update};
use dialtone_hub::store::outbox::{self, Batch, Table};
use dialtone_hub::store::{Error, Store, api_keys, projects, remember_me};
use serde_json::json;

use crate::{NEVER, Site, on_both};

on_both! {
    an_account_is_found_as_it_was_made,
    an_address_is_somebodys_whoever_comes_at_the_same_time,
    a_name_is_somebodys_in_whatever_case,
    what_is_not_to_change_stays,
    who_gives_an_account_up_frees_its_address,
    a_hash_is_replaced_if_it_is_still_the_one_that_was_checked,
    people_are_found_by_beginnings_of_their_names,
    administrators_are_found,
    accounts_are_over_when_their_time_is,
    sessions_end_one_by_one_or_together,
    keys_know_who_and_what_they_are_for,
    a_number_of_a_key_is_never_given_again,
    every_change_is_told,
}

pub(crate) fn new(address: &str) -> New {
    New {
        email_address: Some(address.to_owned()),
        ..New::named("Ada", "Lovelace")
    }
}

pub(crate) async fn make(store: &Store, new: &New) -> AccountId {
    let mut on = store.write().await.unwrap();
    accounts::insert(&mut on, new).await.unwrap();
    on.commit().await.unwrap();
    new.id
}

async fn get(store: &Store, id: AccountId) -> Account {
    let mut on = store.read().await.unwrap();
    accounts::by_id(&mut on, id).await.unwrap().unwrap()
}

async fn update(store: &Store, id: AccountId, update: Update) -> Result<bool, Taken> {
    let mut on = store.write().await.unwrap();
    let done = accounts::update(&mut on, id, update).await?;
    on.commit().await.unwrap();
    Ok(done)
}

async fn an_account_is_found_as_it_was_made(site: Site) {
    let store = site.open().await;
    let wanted = New {
        password_hash: Some("$argon2id$…".to_owned()),
        groups: vec!["admin".to_owned()],
        ephemeral: Some(Duration::from_mins(90)),
        customize: json!({"disableAI": true, "nested": ["ä", null, 1.5]}),
        tags: vec!["a,b".to_owned()],
        created_by: Some("192.0.2.7".to_owned()),
        ..new("ada@example.org")
    };
    let id = make(&store, &wanted).await;
    let account = get(&store, id).await;
    assert_eq!(account.email_address, wanted.email_address);
    assert_eq!(account.password_hash, wanted.password_hash);
    assert_eq!(account.groups, wanted.groups);
    assert_eq!(account.ephemeral, wanted.ephemeral);
    assert_eq!(account.customize, wanted.customize);
    assert_eq!(
        (account.first_name.as_str(), account.last_name.as_str()),
        ("Ada", "Lovelace")
    );
    assert!(account.is_admin() && account.is_usable());
    assert_eq!(
        (account.name, account.last_active, account.session_epoch),
        (None, None, 0)
    );
    let mut on = store.read().await.unwrap();
    let found = accounts::by_email_address(&mut on, "ada@example.org")
        .await
        .unwrap();
    assert_eq!(found.map(|one| one.id), Some(id));
    assert_eq!(
        accounts::by_email_address(&mut on, "eva@example.org")
            .await
            .unwrap(),
        None
    );
    let both = accounts::by_ids(&mut on, &[AccountId::random(), id])
        .await
        .unwrap();
    assert_eq!(both.len(), 1);
    let now = dialtone_hub::store::throttle::now(&mut on).await.unwrap();
    assert!(
        now.since(account.created) < Duration::from_mins(5),
        "both by one clock"
    );
}

async fn an_address_is_somebodys_whoever_comes_at_the_same_time(site: Site) {
    let mut attempts = Vec::new();
    for _ in 0..5 {
        let store = site.open().await;
        attempts.push(async move {
            let mut on = store.write().await.unwrap();
            accounts::insert(&mut on, &new("one@example.org")).await?;
            on.commit().await?;
            Ok::<_, Taken>(())
        });
    }
    let made = futures_util::future::join_all(attempts).await;
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, 4));
    for refused in bad {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, Taken::Taken(Unique::EmailAddress)),
            "{error}"
        );
    }
}

async fn a_name_is_somebodys_in_whatever_case(site: Site) {
    let store = site.open().await;
    let first = make(&store, &new("one@example.org")).await;
    let second = make(&store, &new("two@example.org")).await;
    let named = |name: &str| Update {
        name: Some(Some(name.to_owned())),
        ..Update::default()
    };
    assert!(update(&store, first, named("Ada")).await.unwrap());
    let error = update(&store, second, named("aDA")).await.unwrap_err();
    assert!(matches!(error, Taken::Taken(Unique::Name)), "{error}");
    assert!(update(&store, first, named("ada")).await.unwrap());
    let mut on = store.read().await.unwrap();
    let found = accounts::by_name(&mut on, "ADA").await.unwrap().unwrap();
    assert_eq!((found.id, found.name.as_deref()), (first, Some("ada")));
}

async fn what_is_not_to_change_stays(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let before = get(&store, id).await;
    let change = Update {
        first_name: Some("Augusta".to_owned()),
        email_address: Some(None),
        banned: Some(true),
        ..Update::default()
    };
    assert!(update(&store, id, change).await.unwrap());
    let expected = Account {
        first_name: "Augusta".to_owned(),
        email_address: None,
        banned: true,
        ..before
    };
    assert_eq!(get(&store, id).await, expected);
    assert!(update(&store, id, Update::default()).await.unwrap());
    assert_eq!(get(&store, id).await, expected);
    let nobody = AccountId::random();
    assert!(!update(&store, nobody, Update::default()).await.unwrap());
}

async fn who_gives_an_account_up_frees_its_address(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    for expected in [true, false] {
        let mut on = store.write().await.unwrap();
        assert_eq!(accounts::give_up(&mut on, id).await.unwrap(), expected);
        on.commit().await.unwrap();
    }
    let account = get(&store, id).await;
    assert!(account.deleted && !account.is_usable());
    assert_eq!((account.email_address, account.password_hash), (None, None));
    let kept = site
        .beside("SELECT email_address_before_delete FROM accounts")
        .await;
    assert_eq!(kept, ["one@example.org"]);
    make(&store, &new("one@example.org")).await;
}

async fn a_hash_is_replaced_if_it_is_still_the_one_that_was_checked(site: Site) {
    let store = site.open().await;
    let wanted = New {
        password_hash: Some("old".to_owned()),
        ..new("one@example.org")
    };
    let id = make(&store, &wanted).await;
    for (old, new, done) in [("old", "new", true), ("old", "newer", false)] {
        let mut on = store.write().await.unwrap();
        assert_eq!(accounts::rehash(&mut on, id, old, new).await.unwrap(), done);
        on.commit().await.unwrap();
    }
    assert_eq!(get(&store, id).await.password_hash.as_deref(), Some("new"));
}

async fn people_are_found_by_beginnings_of_their_names(site: Site) {
    let store = site.open().await;
    let mut ids = Vec::new();
    for (first, last) in [
        ("Ada", "Lovelace"),
        ("Alan", "Turing"),
        ("100%", "Sure"),
        ("A_a", "Ludd"),
    ] {
        ids.push(make(&store, &New::named(first, last)).await);
    }
    let banned = Update {
        banned: Some(true),
        ..Update::default()
    };
    update(&store, ids[1], banned).await.unwrap();
    let mut on = store.read().await.unwrap();
    for (words, everybody, expected) in [
        (&["a"][..], true, vec![0, 1, 3]),
        (&["A", "l"], true, vec![0, 3]),
        (&["a", "lov"], true, vec![0]),
        (&["a"], false, vec![0, 3]),
        (&["100%"], true, vec![2]),
        (&["1%"], true, vec![]),
        (&["a_"], true, vec![3]),
        (&["ova"], true, vec![]),
    ] {
        let search = Search {
            words,
            everybody,
            limit: 10,
        };
        let found = accounts::search(&mut on, search).await.unwrap();
        let mut found: Vec<_> = found.iter().map(|one| one.id).collect();
        let mut expected: Vec<_> = expected
            .into_iter()
            .map(|index: usize| ids[index])
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{words:?}");
    }
    let search = Search {
        words: &[],
        everybody: true,
        limit: 2,
    };
    assert_eq!(accounts::search(&mut on, search).await.unwrap().len(), 2);
}

async fn administrators_are_found(site: Site) {
    let store = site.open().await;
    let with = |groups: &[&str]| New {
        groups: groups.iter().map(ToString::to_string).collect(),
        ..New::named("A", "B")
    };
    make(&store, &with(&["partner", "not admin"])).await;
    let admin = make(&store, &with(&["partner", "admin"])).await;
    let mut on = store.read().await.unwrap();
    let found = accounts::in_group(&mut on, accounts::ADMIN).await.unwrap();
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [admin]);
}

async fn accounts_are_over_when_their_time_is(site: Site) {
    let store = site.open().await;
    let lives = |time| New {
        ephemeral: time,
        ..New::named("A", "B")
    };
    make(&store, &lives(None)).await;
    make(&store, &lives(Some(NEVER))).await;
    let over = make(&store, &lives(Some(Duration::ZERO))).await;
    // The clock of the database counts milliseconds, and this one must have ended.
    let mut found = Vec::new();
    while found.is_empty() {
        found = accounts::over(&mut store.read().await.unwrap(), 10)
            .await
            .unwrap();
    }
    assert_eq!(found, [over]);
}

async fn open_session(store: &Store, id: AccountId, hash: &str, ttl: Duration) {
    let mut on = store.write().await.unwrap();
    let session = remember_me::New {
        hash,
        account_id: id,
        ttl,
        kind: "password",
        ip: Some("192.0.2.7".to_owned()),
        user_agent: None,
    };
    remember_me::insert(&mut on, &session).await.unwrap();
    on.commit().await.unwrap();
}

async fn hashes(store: &Store, id: AccountId) -> Vec<String> {
    let mut on = store.read().await.unwrap();
    let listed = remember_me::of_account(&mut on, id, 10).await.unwrap();
    let mut hashes: Vec<_> = listed.into_iter().map(|one| one.hash).collect();
    hashes.sort_unstable();
    hashes
}

async fn sessions_end_one_by_one_or_together(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let other = make(&store, &new("two@example.org")).await;
    for hash in ["a", "b", "c"] {
        open_session(&store, id, hash, NEVER).await;
    }
    open_session(&store, id, "over", Duration::ZERO).await;
    open_session(&store, other, "theirs", NEVER).await;
    assert_eq!(hashes(&store, id).await, ["a", "b", "c"]);
    let mut on = store.read().await.unwrap();
    let found = remember_me::find(&mut on, "over").await.unwrap().unwrap();
    assert!(found.expire <= found.now);
    let found = remember_me::find(&mut on, "a").await.unwrap().unwrap();
    assert_eq!(
        (found.account_id, found.admin, found.banned),
        (id, false, false)
    );
    assert!(found.expire.since(found.now) > NEVER / 2);
    assert_eq!(remember_me::find(&mut on, "A").await.unwrap(), None);
    drop(on);
    let mut on = store.write().await.unwrap();
    assert_eq!(remember_me::delete(&mut on, "a").await.unwrap(), Some(id));
    assert_eq!(remember_me::delete(&mut on, "a").await.unwrap(), None);
    on.commit().await.unwrap();
    assert_eq!(hashes(&store, id).await, ["b", "c"]);
    let mut on = store.write().await.unwrap();
    assert_eq!(
        remember_me::delete_all(&mut on, id, Some("b"))
            .await
            .unwrap(),
        2
    );
    on.commit().await.unwrap();
    assert_eq!(hashes(&store, id).await, ["b"]);
    assert_eq!(hashes(&store, other).await, ["theirs"]);
}

async fn make_key(store: &Store, account_id: AccountId, project_id: Option<ProjectId>) -> i64 {
    let mut on = store.write().await.unwrap();
    let key = api_keys::New {
        account_id,
        project_id,
        name: "laptop",
        expire: None,
    };
    let id = api_keys::insert(&mut on, &key).await.unwrap();
    api_keys::set_hash(&mut on, id, "sk-...000001", "hash")
        .await
        .unwrap();
    on.commit().await.unwrap();
    id
}

async fn find_key(store: &Store, id: i64) -> api_keys::Found {
    let mut on = store.read().await.unwrap();
    api_keys::find(&mut on, id).await.unwrap().unwrap()
}

async fn keys_know_who_and_what_they_are_for(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let project = projects::New {
        id: ProjectId::random(),
        title: "P".to_owned(),
        description: String::new(),
        compute_image: None,
        owner: Some(id),
    };
    let mut on = store.write().await.unwrap();
    projects::insert(&mut on, &project).await.unwrap();
    on.commit().await.unwrap();
    let own = make_key(&store, id, None).await;
    let of_project = make_key(&store, id, Some(project.id)).await;
    let mut on = store.read().await.unwrap();
    let found = api_keys::find(&mut on, own).await.unwrap().unwrap();
    assert_eq!(
        (found.key.account_id, found.member, found.key.hash.as_str()),
        (id, true, "hash")
    );
    assert!(
        api_keys::find(&mut on, of_project)
            .await
            .unwrap()
            .unwrap()
            .member
    );
    let ids = |keys: Vec<api_keys::ApiKey>| keys.iter().map(|key| key.id).collect::<Vec<_>>();
    assert_eq!(
        ids(api_keys::of_account(&mut on, id, 10).await.unwrap()),
        [own]
    );
    assert_eq!(
        ids(api_keys::of_project(&mut on, project.id, 10).await.unwrap()),
        [of_project]
    );
    assert_eq!(api_keys::count(&mut on, id).await.unwrap(), 2);
    drop(on);
    let mut on = store.write().await.unwrap();
    projects::delete_member(&mut on, project.id, id)
        .await
        .unwrap();
    let change = api_keys::Update {
        name: Some("desktop".to_owned()),
        expire: Some(None),
    };
    assert!(api_keys::update(&mut on, own, change).await.unwrap());
    assert!(
        !api_keys::update(&mut on, own + 1000, api_keys::Update::default())
            .await
            .unwrap()
    );
    on.commit().await.unwrap();
    assert!(!find_key(&store, of_project).await.member);
    assert_eq!(find_key(&store, own).await.key.name, "desktop");
}

/// An old key must not fit a new row.
async fn a_number_of_a_key_is_never_given_again(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let first = make_key(&store, id, None).await;
    let second = make_key(&store, id, None).await;
    let mut on = store.write().await.unwrap();
    assert!(api_keys::delete(&mut on, first).await.unwrap());
    assert!(!api_keys::delete(&mut on, first).await.unwrap());
    assert_eq!(api_keys::delete_all(&mut on, id).await.unwrap(), 1);
    on.commit().await.unwrap();
    assert!(make_key(&store, id, None).await > second);
}

async fn every_change_is_told(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let mut on = store.write().await.unwrap();
    accounts::throw_out(&mut on, id).await.unwrap();
    accounts::touch(&mut on, id, NEVER).await.unwrap();
    on.commit().await.unwrap();
    open_session(&store, id, "a", NEVER).await;
    let mut on = store.write().await.unwrap();
    remember_me::delete_all(&mut on, id, None).await.unwrap();
    on.commit().await.unwrap();
    let mut on = store.read().await.unwrap();
    let Batch::Changes { entries, .. } = outbox::read(&mut on, 0, 100).await.unwrap() else {
        panic!("a gap");
    };
    let told: Vec<_> = entries
        .iter()
        .map(|one| {
            assert_eq!(one.change.account_id, Some(id));
            (
                one.change.table,
                one.change.fields.join(","),
                one.change.key.clone(),
            )
        })
        .collect();
    let key = json!({ "account_id": id });
    assert_eq!(
        told,
        [
            (Table::Accounts, String::new(), key.clone()),
            (Table::Accounts, "session_epoch".to_owned(), key),
            (Table::RememberMe, String::new(), json!({"hash": "a"})),
        ]
    );
    let account = accounts::by_id(&mut on, id).await.unwrap().unwrap();
    assert_eq!(account.session_epoch, 1);
    assert!(account.last_active.is_some());
    let nobody = AccountId::random();
    drop(on);
    let mut on = store.write().await.unwrap();
    let session = remember_me::New {
        hash: "x",
        account_id: nobody,
        ttl: NEVER,
        kind: "password",
        ip: None,
        user_agent: None,
    };
    let missing = remember_me::insert(&mut on, &session).await.unwrap_err();
    assert!(matches!(missing, Error::Missing(_)), "{missing}");
}
