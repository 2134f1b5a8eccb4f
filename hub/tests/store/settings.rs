//! Settings as they are stored.

use dialtone_hub::store::settings::{self, Stored};
use dialtone_hub::store::{Store, outbox};

use crate::{Site, on_both};

on_both! {
    what_the_environment_has_set_is_not_changed,
    what_is_set_to_what_it_was_is_no_news,
}

async fn readonly(store: &Store, list: &[(&str, &str)]) {
    let list: Vec<_> = list
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut on = store.write().await.unwrap();
    settings::set_readonly(&mut on, &list).await.unwrap();
    on.commit().await.unwrap();
}

async fn set(store: &Store, name: &str, value: &str) -> bool {
    let mut on = store.write().await.unwrap();
    let set = settings::set(&mut on, name, value).await.unwrap();
    on.commit().await.unwrap();
    set
}

async fn all(store: &Store) -> Vec<(String, String, bool)> {
    let all = settings::all(&mut store.read().await.unwrap())
        .await
        .unwrap();
    let parts = |one: Stored| (one.name, one.value, one.readonly);
    all.into_iter().map(parts).collect()
}

async fn what_the_environment_has_set_is_not_changed(site: Site) {
    let store = site.open().await;
    assert!(set(&store, "site_name", "Ours").await);
    readonly(&store, &[("site_name", "Theirs"), ("dns", "example.org")]).await;
    assert!(!set(&store, "site_name", "Mine").await);
    let mut on = store.write().await.unwrap();
    assert!(!settings::unset(&mut on, "dns").await.unwrap());
    drop(on);
    let row = |name: &str, value: &str, fixed| (name.to_owned(), value.to_owned(), fixed);
    assert_eq!(
        all(&store).await,
        [
            row("dns", "example.org", true),
            row("site_name", "Theirs", true)
        ]
    );
    // The next start has one less: it keeps its value and may be changed again.
    readonly(&store, &[("dns", "example.org")]).await;
    assert!(set(&store, "site_name", "Mine").await);
    assert_eq!(
        all(&store).await,
        [
            row("dns", "example.org", true),
            row("site_name", "Mine", false)
        ]
    );
}

async fn what_is_set_to_what_it_was_is_no_news(site: Site) {
    let store = site.open().await;
    readonly(&store, &[("dns", "example.org")]).await;
    let head = outbox::head(&mut store.read().await.unwrap())
        .await
        .unwrap();
    readonly(&store, &[("dns", "example.org")]).await;
    let after = outbox::head(&mut store.read().await.unwrap())
        .await
        .unwrap();
    assert_eq!(head, after);
}
