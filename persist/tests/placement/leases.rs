//! What every store of leases does.

use std::sync::Arc;
use std::time::Duration;

use dialtone_persist::backend::postgres::{Config, PostgresLeases};
use dialtone_persist::placement::{LeaseError, Leases, Renew, Renewed};
use dialtone_testkit::Postgres;

use super::model::Model;

/// A store, and how a lease ends in it.
struct Store {
    leases: Arc<dyn Leases>,
    expire: Box<dyn Fn(&str)>,
}

async fn stores() -> Vec<Store> {
    let model = Arc::new(Model::default());
    let own = Arc::clone(&model);
    let url = Postgres::shared().database();
    let config = Config {
        url: url.clone(),
        ..Config::default()
    };
    let postgres = PostgresLeases::open(&config).await.unwrap();
    let expire = move |node: &str| {
        let sql = format!(
            "UPDATE dialtone_persist.node SET expires = clock_timestamp() WHERE name = '{node}'"
        );
        Postgres::shared().run_at(&url, &sql);
    };
    vec![
        Store {
            leases: model,
            expire: Box::new(move |node| own.expire(node)),
        },
        Store {
            leases: Arc::new(postgres),
            expire: Box::new(expire),
        },
    ]
}

impl Store {
    async fn renew(
        &self,
        node: &str,
        session: Option<u64>,
        seen: u64,
    ) -> Result<Renewed, LeaseError> {
        let lease = Duration::from_secs(1_001);
        self.leases
            .renew(Renew {
                node: node.into(),
                session,
                seen,
                lease,
            })
            .await
    }
}

fn names(renewed: &Renewed) -> Vec<&str> {
    renewed.nodes.iter().map(|node| &*node.name).collect()
}

#[tokio::test]
async fn the_view_changes_when_nodes_come_and_go_and_only_then() {
    for store in stores().await {
        let a = store.renew("a", None, 0).await.unwrap();
        assert_eq!((names(&a), a.seen_by_all()), (vec!["a"], 0));
        let again = store.renew("a", Some(a.session), a.view).await.unwrap();
        assert_eq!((again.view, again.seen_by_all()), (a.view, a.view));
        assert!(again.nodes[0].left > Duration::from_mins(15));
        let b = store.renew("b", None, 0).await.unwrap();
        assert_eq!(
            (b.view, names(&b), b.seen_by_all()),
            (a.view + 1, vec!["a", "b"], 0)
        );
        assert_ne!(a.session, b.session);
        store.leases.leave("a", b.session).await.unwrap();
        let b = store.renew("b", Some(b.session), b.view).await.unwrap();
        assert_eq!(
            names(&b),
            ["a", "b"],
            "a lease is given back by whoever has it"
        );
        store.leases.leave("a", a.session).await.unwrap();
        let alone = store.renew("b", Some(b.session), b.view).await.unwrap();
        assert_eq!((alone.view, names(&alone)), (b.view + 1, vec!["b"]));
    }
}

#[tokio::test]
async fn a_lease_that_has_ended_is_lost_and_others_see_it() {
    for store in stores().await {
        let a = store.renew("a", None, 0).await.unwrap();
        let b = store.renew("b", None, 0).await.unwrap();
        (store.expire)("a");
        let after = store.renew("b", Some(b.session), b.view).await.unwrap();
        assert_eq!((after.view, names(&after)), (b.view + 1, vec!["b"]));
        assert_eq!(
            store.renew("a", Some(a.session), a.view).await,
            Err(LeaseError::Lost)
        );
        // Also when nobody else has looked meanwhile.
        (store.expire)("b");
        assert_eq!(
            store.renew("b", Some(b.session), b.view).await,
            Err(LeaseError::Lost)
        );
        let again = store.renew("a", None, 0).await.unwrap();
        assert!(again.view > after.view && again.session != a.session);
        assert_eq!(names(&again), ["a"]);
    }
}

#[tokio::test]
async fn a_name_has_one_lease() {
    for store in stores().await {
        let first = store.renew("a", None, 0).await.unwrap();
        let refused = store.renew("a", None, 0).await.unwrap_err();
        assert!(
            matches!(refused, LeaseError::Taken { left } if left > Duration::from_mins(15)),
            "{refused}"
        );
        (store.expire)("a");
        let second = store.renew("a", None, 0).await.unwrap();
        assert!(second.view > first.view);
        assert_eq!(
            store.renew("a", Some(first.session), 1).await,
            Err(LeaseError::Lost)
        );
    }
}

#[tokio::test]
async fn those_who_wait_hear_of_a_change() {
    for store in stores().await {
        let a = store.renew("a", None, 0).await.unwrap();
        let leases = Arc::clone(&store.leases);
        let heard = tokio::task::spawn(async move { leases.changed().await });
        // It may listen after the first change, but not after all of them.
        let mut view = a.view;
        while !heard.is_finished() {
            let b = store.renew("b", None, 0).await.unwrap();
            assert!(b.view > view);
            view = b.view;
            store.leases.leave("b", b.session).await.unwrap();
            tokio::task::yield_now().await;
        }
        heard.await.unwrap();
    }
}
