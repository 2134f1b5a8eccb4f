//! Leases: one holder at a time, and none that acts after it was replaced.

use std::time::Duration;

use dialtone_hub::store::leases::{self, Acquired, Lease};
use dialtone_hub::store::{Store, settings};

use crate::{NEVER, Site, on_both};

on_both! {
    one_of_many_gets_a_lease,
    a_lease_that_is_over_is_taken_and_its_holder_is_fenced_off,
    a_lease_that_was_given_back_is_free_at_once,
    a_fence_holds_until_its_transaction_ends,
}

async fn acquire(store: &Store, holder: &str, ttl: Duration) -> Acquired {
    let mut on = store.write().await.unwrap();
    let acquired = leases::acquire(&mut on, "stats", holder, ttl)
        .await
        .unwrap();
    on.commit().await.unwrap();
    acquired
}

#[track_caller]
fn ours(acquired: Acquired) -> Lease {
    match acquired {
        Acquired::Lease(lease) => lease,
        Acquired::Taken { holder, .. } => panic!("{holder} has it"),
    }
}

async fn renew(store: &Store, lease: &Lease, ttl: Duration) -> bool {
    let mut on = store.write().await.unwrap();
    let renewed = leases::renew(&mut on, lease, ttl).await.unwrap();
    on.commit().await.unwrap();
    renewed
}

async fn fence(store: &Store, lease: &Lease) -> bool {
    let mut on = store.write().await.unwrap();
    leases::fence(&mut on, lease).await.unwrap()
}

async fn one_of_many_gets_a_lease(site: Site) {
    let mut wishes = Vec::new();
    for hub in 0..6 {
        let store = site.open().await;
        wishes.push(async move { acquire(&store, &format!("hub {hub}"), NEVER).await });
    }
    let acquired = futures_util::future::join_all(wishes).await;
    let (got, others): (Vec<_>, Vec<_>) = acquired
        .into_iter()
        .partition(|one| matches!(one, Acquired::Lease(_)));
    assert_eq!(got.len(), 1);
    let lease = ours(got[0].clone());
    assert_eq!(lease.generation, 1);
    for other in others {
        let Acquired::Taken { holder, left } = other else {
            unreachable!("they were parted");
        };
        assert_eq!(holder, lease.holder);
        assert!(left <= NEVER && left > NEVER / 2, "{left:?}");
    }
}

async fn a_lease_that_is_over_is_taken_and_its_holder_is_fenced_off(site: Site) {
    let store = site.open().await;
    // Over as soon as it is had.
    let first = ours(acquire(&store, "first", Duration::ZERO).await);
    assert!(!renew(&store, &first, NEVER).await);
    assert!(!fence(&store, &first).await);
    let second = ours(acquire(&store, "second", NEVER).await);
    assert_eq!(second.generation, 2);
    assert!(!renew(&store, &first, NEVER).await);
    assert!(!fence(&store, &first).await);
    assert!(renew(&store, &second, NEVER).await);
    assert!(fence(&store, &second).await);
    // Whoever comes late gives back nothing that is not theirs.
    let mut on = store.write().await.unwrap();
    leases::release(&mut on, &first).await.unwrap();
    on.commit().await.unwrap();
    assert!(fence(&store, &second).await);
    let listed = leases::list(&mut store.read().await.unwrap())
        .await
        .unwrap();
    assert_eq!(listed[0].holder.as_deref(), Some("second"));
    assert_eq!(listed[0].generation, 2);
}

async fn a_lease_that_was_given_back_is_free_at_once(site: Site) {
    let store = site.open().await;
    let first = ours(acquire(&store, "first", NEVER).await);
    let mut on = store.write().await.unwrap();
    leases::release(&mut on, &first).await.unwrap();
    on.commit().await.unwrap();
    assert!(!fence(&store, &first).await);
    let listed = leases::list(&mut store.read().await.unwrap())
        .await
        .unwrap();
    assert_eq!(listed[0].holder, None);
    let second = ours(acquire(&store, "second", NEVER).await);
    assert_eq!(second.generation, first.generation + 1);
}

/// Somebody who takes the lease while its holder is in a transaction comes after that, whatever the clock says.
async fn a_fence_holds_until_its_transaction_ends(site: Site) {
    let (ours_store, theirs) = (site.open().await, site.open().await);
    let lease = ours(acquire(&ours_store, "holder", NEVER).await);
    let mut on = ours_store.write().await.unwrap();
    assert!(leases::fence(&mut on, &lease).await.unwrap());
    let taking = tokio::task::spawn(async move { acquire(&theirs, "other", NEVER).await });
    settings::set(&mut on, "done", "by the holder")
        .await
        .unwrap();
    leases::release(&mut on, &lease).await.unwrap();
    on.commit().await.unwrap();
    let taken = ours(taking.await.unwrap());
    assert_eq!(taken.generation, lease.generation + 1);
}
