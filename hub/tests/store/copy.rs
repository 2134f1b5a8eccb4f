//! Moving a site from SQLite to PostgreSQL.

use std::time::Duration;

use dialtone_hub::copy::{self, Error};
use dialtone_hub::settings;
use dialtone_hub::store::accounts::New;
use dialtone_hub::store::tokens::{self, Registration};
use dialtone_hub::store::{Store, accounts, api_keys, hubs, outbox};
use dialtone_hub::time::Time;
use dialtone_testkit::Postgres;
use serde_json::json;

use crate::Site;

/// A site with something of everything that is odd on its way.
async fn filled(site: &Site) -> Store {
    let store = site.open().await;
    for number in 0..1200 {
        let mut on = store.write().await.unwrap();
        let new = New {
            email_address: Some(format!("ada-{number}@example.org")),
            customize: json!({"b": [1.5, 1e2, null, {"ä": "\"\u{1}\\"}], "a": {"n": number}}),
            ephemeral: (number % 7 == 0).then_some(Duration::from_millis(1_234_567_891)),
            groups: vec!["admin".to_owned()],
            ..New::named("Ada\t'\"$1{}", "Løvelace 🦀")
        };
        accounts::insert(&mut on, &new).await.unwrap();
        if number < 3 {
            let key = api_keys::New {
                account_id: new.id,
                project_id: None,
                name: "key",
                expire: None,
            };
            let id = api_keys::insert(&mut on, &key).await.unwrap();
            // The last number that was given belongs to nothing any more.
            if number == 2 {
                api_keys::delete(&mut on, id).await.unwrap();
            }
        }
        on.commit().await.unwrap();
    }
    let mut on = store.write().await.unwrap();
    let token = Registration {
        token: "welcome".to_owned(),
        descr: String::new(),
        counter: 0,
        limit: None,
        expires: Some(Time::from_millis(1_764_000_000_123)),
        disabled: true,
        ephemeral: None,
        customize: json!({}),
    };
    tokens::put_registration(&mut on, &token).await.unwrap();
    on.commit().await.unwrap();
    settings::set(&store, "site_name", "Ours").await.unwrap();
    // What nothing here writes yet: bytes, and JSON as somebody else may have written it.
    site.beside(
        "INSERT INTO blobs (id, created, size, blob) VALUES ('6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11', -5, 3, x'00ff10')",
    )
    .await;
    site.beside(
        "INSERT INTO central_log (id, time, event, value)
         VALUES ('6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c12', 1764000000123, 'odd', '{ \"b\" : 1E2, \"a\" : 0.10 }')
         RETURNING id",
    )
    .await;
    store
}

async fn target() -> (Site, Store) {
    let site = Site::postgres();
    let store = site.open().await;
    (site, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_moved_with_everything() {
    let from = Site::sqlite();
    let source = filled(&from).await;
    let (to, target) = target().await;
    let mut seen = Vec::new();
    let copied = copy::run(&source, &target, |progress| {
        seen.push((progress.table.to_owned(), progress.rows, progress.of));
    });
    let copied = copied.await.unwrap();
    let rows = |table: &str| {
        copied
            .iter()
            .find(|copied| copied.table == table)
            .unwrap()
            .rows
    };
    assert_eq!(
        (rows("accounts"), rows("api_keys"), rows("blobs")),
        (1200, 2, 1)
    );
    let accounts: Vec<_> = seen
        .iter()
        .filter(|(table, ..)| table == "accounts")
        .collect();
    assert_eq!(
        accounts
            .iter()
            .map(|(_, rows, _)| *rows)
            .collect::<Vec<_>>(),
        [500, 1000, 1200]
    );
    assert!(accounts.iter().all(|(.., of)| *of == 1200));
    // What each says about the same is the same.
    let pick = |store: Store| async move {
        let mut on = store.read().await.unwrap();
        let ada = accounts::by_email_address(&mut on, "ada-777@example.org")
            .await
            .unwrap();
        let token = tokens::registrations(&mut on, 10).await.unwrap();
        (ada.unwrap(), token, outbox::head(&mut on).await.unwrap())
    };
    assert_eq!(pick(source.clone()).await, pick(target.clone()).await);
    let bytes = to
        .beside("SELECT encode(blob, 'hex') || ' ' || (created < 'epoch') FROM blobs")
        .await;
    assert_eq!(bytes, ["00ff10 true"]);
    // Numbers go on, also behind those of rows that are gone.
    let mut on = target.write().await.unwrap();
    let ada = accounts::by_email_address(&mut on, "ada-1@example.org")
        .await
        .unwrap()
        .unwrap();
    let key = api_keys::New {
        account_id: ada.id,
        project_id: None,
        name: "key",
        expire: None,
    };
    assert_eq!(api_keys::insert(&mut on, &key).await.unwrap(), 4);
    on.commit().await.unwrap();
    let mut on = target.read().await.unwrap();
    let mut head = source.read().await.unwrap();
    assert_eq!(
        outbox::head(&mut on).await.unwrap(),
        outbox::head(&mut head).await.unwrap() + 1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_in_use_stays_as_it_is() {
    let from = Site::sqlite();
    let source = from.open().await;
    let (_to, target) = target().await;
    settings::set(&target, "site_name", "Theirs").await.unwrap();
    let error = copy::run(&source, &target, |_| {}).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotEmpty(table) if table == "change_log"),
        "{error}"
    );
    let settings = settings::read(&target).await.unwrap();
    assert_eq!(settings.get("site_name"), "Theirs");
    // Nor is anything copied from there, or to itself.
    let error = copy::run(&target, &source, |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Kind { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_on_which_a_hub_runs_is_left_alone() {
    let from = Site::sqlite();
    let source = from.open().await;
    let mut on = source.write().await.unwrap();
    hubs::put(&mut on, "machine-5000", 5000, "1", crate::NEVER)
        .await
        .unwrap();
    on.commit().await.unwrap();
    let (_to, target) = target().await;
    let error = copy::run(&source, &target, |_| {}).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the hub machine-5000 runs on the source; stop it first"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_stored_keeps_all_of_it_away() {
    let from = Site::sqlite();
    let source = filled(&from).await;
    // PostgreSQL knows no text with a zero in it.
    from.beside("UPDATE server_settings SET value = 'a' || char(0) || 'b' RETURNING name")
        .await;
    let (to, target) = target().await;
    let error = copy::run(&source, &target, |_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "the target, table server_settings");
    for table in [
        "SELECT count(*) FROM accounts",
        "SELECT seq FROM outbox_head",
    ] {
        assert_eq!(to.beside(table).await, ["0"]);
    }
    // Mended, it works with the same target.
    settings::set(&source, "site_name", "Ours").await.unwrap();
    copy::run(&source, &target, |_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_in_the_middle_has_nothing_of_it() {
    let server = Postgres::start();
    let from = Site::sqlite();
    let source = filled(&from).await;
    let to = Site::postgres_at(&server);
    let target = to.open().await;
    let mut killed = false;
    let result = copy::run(&source, &target, |progress| {
        if progress.table == "accounts" && !killed {
            killed = true;
            server.kill();
        }
    });
    let error = result.await.unwrap_err();
    assert!(matches!(error, Error::Target { .. }), "{error}");
    server.start_again();
    let target = to.open().await;
    let copied = copy::run(&source, &target, |_| {}).await.unwrap();
    assert!(
        copied
            .iter()
            .any(|copied| copied.table == "accounts" && copied.rows == 1200)
    );
}
