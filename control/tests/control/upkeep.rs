//! What is done about projects without being asked.

use std::time::Duration;

use dialtone_control::upkeep::{self, Config};
use dialtone_hub::control::{Control as _, Phase};
use dialtone_hub::settings;
use dialtone_hub::store::{accounts, pool, projects};
use serde_json::json;

use crate::on_both;
use crate::site::{Asks, Site};

on_both! {
    what_is_always_to_run_is_started,
    what_nobody_uses_is_stopped,
    projects_of_the_pool_are_given_once,
}

async fn set(asks: &Asks, id: dialtone_hub::id::ProjectId, settings: serde_json::Value) {
    let mut on = asks.store.write().await.unwrap();
    let update = projects::Update {
        settings: Some(settings),
        ..projects::Update::default()
    };
    projects::update(&mut on, id, update).await.unwrap();
    on.commit().await.unwrap();
}

async fn what_is_always_to_run_is_started(site: Site) {
    let asks = site.asks().await;
    let _hub = site.hub();
    let (always, other) = (asks.make_project().await, asks.make_project().await);
    set(&asks, always, json!({"always_running": 1})).await;
    let config = Config::default();
    let started = upkeep::always_running(&asks.projects, &config)
        .await
        .unwrap();
    assert_eq!(started, 1);
    asks.projects.start(always).await.unwrap();
    assert_eq!(site.starts(always), 1);
    assert_eq!(
        asks.projects.state(other).await.unwrap().phase,
        Phase::Opened
    );
    let again = upkeep::always_running(&asks.projects, &config)
        .await
        .unwrap();
    assert_eq!(again, 0);
    // One that cannot start is left alone for a while.
    asks.projects.stop(always).await.unwrap();
    site.tell(always, "fail");
    asks.projects.start(always).await.unwrap_err();
    let again = upkeep::always_running(&asks.projects, &config)
        .await
        .unwrap();
    assert_eq!(again, 0);
    let impatient = Config {
        always_pause: Duration::ZERO,
        ..config
    };
    let again = upkeep::always_running(&asks.projects, &impatient)
        .await
        .unwrap();
    assert_eq!(again, 1);
}

async fn what_nobody_uses_is_stopped(site: Site) {
    let asks = site.asks().await;
    let _hub = site.hub();
    let mut on = asks.store.write().await.unwrap();
    // Over as soon as it is not used for an instant; what is not said is said by the setting.
    dialtone_hub::store::settings::set(&mut on, "default_quotas", r#"{"idle_timeout": 0.0001}"#)
        .await
        .unwrap();
    on.commit().await.unwrap();
    let (idle, kept) = (asks.make_project().await, asks.make_project().await);
    asks.projects.start(idle).await.unwrap();
    asks.projects.start(kept).await.unwrap();
    let config = Config {
        idle_least: Duration::ZERO,
        ..Config::default()
    };
    let stopped = upkeep::idle_stop(&asks.projects, &config).await.unwrap();
    assert_eq!(stopped, 0, "no time is as good as never");
    let mut on = asks.store.write().await.unwrap();
    for (id, quota) in [
        (idle, json!({"idle_timeout": 0.000_001})),
        (
            kept,
            json!({"idle_timeout": 0.000_001, "always_running": true}),
        ),
    ] {
        dialtone_hub::store::control::put_quota(&mut on, id, &quota)
            .await
            .unwrap();
    }
    on.commit().await.unwrap();
    let young = upkeep::idle_stop(&asks.projects, &Config::default())
        .await
        .unwrap();
    assert_eq!(young, 0, "they run for ten minutes at least");
    let stopped = upkeep::idle_stop(&asks.projects, &config).await.unwrap();
    assert_eq!(stopped, 1);
    assert_eq!(asks.projects.stop(idle).await.unwrap().phase, Phase::Opened);
    assert_eq!(
        asks.projects.state(kept).await.unwrap().phase,
        Phase::Running
    );
}

async fn projects_of_the_pool_are_given_once(site: Site) {
    let asks = site.asks().await;
    settings::set(&asks.store, "new_project_pool", "3")
        .await
        .unwrap();
    let fresh = site.asks().await;
    let config = Config::default();
    assert_eq!(
        upkeep::fill_pool(&fresh.projects, &config).await.unwrap(),
        3
    );
    assert_eq!(
        upkeep::fill_pool(&fresh.projects, &config).await.unwrap(),
        0
    );
    let owner = {
        let mut on = asks.store.write().await.unwrap();
        let new = accounts::New::named("Ada", "Lovelace");
        accounts::insert(&mut on, &new).await.unwrap();
        on.commit().await.unwrap();
        new.id
    };
    let takes = (0..5).map(|_| async {
        let mut on = asks.store.write().await.unwrap();
        let taken = pool::take(&mut on, owner, "Mine", "", config.pool_age_max)
            .await
            .unwrap();
        on.commit().await.unwrap();
        taken
    });
    let taken: Vec<_> = futures_util::future::join_all(takes)
        .await
        .into_iter()
        .flatten()
        .collect();
    let different: std::collections::BTreeSet<_> = taken.iter().collect();
    assert_eq!((taken.len(), different.len()), (3, 3), "each is given once");
    let mut on = asks.store.read().await.unwrap();
    let own = projects::of_account(&mut on, owner, 10).await.unwrap();
    assert!(own.len() == 3 && own.iter().all(|one| one.title == "Mine"));
    drop(on);
    // What has waited too long is given up, and made anew.
    upkeep::fill_pool(&fresh.projects, &config).await.unwrap();
    let hasty = Config {
        pool_age_max: Duration::ZERO,
        ..config
    };
    assert_eq!(upkeep::fill_pool(&fresh.projects, &hasty).await.unwrap(), 3);
}
