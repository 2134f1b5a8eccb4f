//! Permissions that follow the store: what ends there ends for the broker at once.

use std::sync::Arc;

use dialtone_hub::accounts as whole;
use dialtone_hub::auth::cookie::Names;
use dialtone_hub::caller::Caller;
use dialtone_hub::feed::Follower;
use dialtone_hub::gate::{Gate, GateService, Keeper as _, RemoteGate};
use dialtone_hub::permission::{Action, Affected, Fact, follow};
use dialtone_hub::store::accounts::{self, Update};
use dialtone_testkit::world::World as Broker;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Site, on_both};

on_both! {
    facts_are_those_of_the_store,
    a_right_ends_when_its_reason_does,
    a_broker_elsewhere_is_told_what_is_so_now,
}

async fn facts_are_those_of_the_store(site: Site) {
    let (admin, owner, member) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(owner).await;
    site.add(owner, project, member).await.unwrap();
    for (fact, holds) in [
        (Fact::Admin(admin), true),
        (Fact::Admin(owner), false),
        (Fact::Owner(owner, project), true),
        (Fact::Owner(member, project), false),
        (Fact::Member(owner, project), true),
        (Fact::Member(member, project), true),
        (Fact::Member(admin, project), false),
    ] {
        assert_eq!(site.authority.holds(fact).await, Ok(holds), "{fact:?}");
    }
}

/// Rules 8 and 15: no time limit passes, nobody asks again by himself.
async fn a_right_ends_when_its_reason_does(site: Site) {
    let (owner, member) = (
        site.account("ada", &["admin"]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(owner).await;
    site.add(owner, project, member).await.unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (tell, mut told) = mpsc::channel(100);
    let follower = Follower::from_now(&site.store).await.unwrap();
    tasks.spawn(follow(
        Arc::clone(&site.authority),
        follower,
        move |affected| tell.try_send(affected).unwrap(),
        stop.clone(),
    ));
    tasks.close();
    let (subject, caller) = (
        format!("project.{project}.0.api.-"),
        Caller::Account(member),
    );
    let may = async |caller, subject: &str| {
        site.authority
            .may(caller, Action::Subscribe, subject)
            .await
            .unwrap()
    };
    assert!(may(caller, &subject).await);
    assert!(may(Caller::Account(owner), "sys.>").await);

    let options = serde_json::json!({"opts": {"project_id": project, "account_id": member}});
    site.call(owner, "projects.removeCollaborator", options)
        .await
        .unwrap();
    assert_eq!(told.recv().await, Some(Affected::One(caller)));
    assert!(!may(caller, &subject).await);

    let mut on = site.store.write().await.unwrap();
    let ban = Update {
        banned: Some(true),
        ..Update::default()
    };
    accounts::update(&mut on, owner, ban).await.unwrap();
    on.commit().await.unwrap();
    assert_eq!(
        told.recv().await,
        Some(Affected::One(Caller::Account(owner)))
    );
    assert!(!may(Caller::Account(owner), "sys.>").await);
    assert!(!may(Caller::Account(owner), &subject).await);
    stop.cancel();
    tasks.wait().await;
}

/// A broker keeps for hours what it is told, so that a hub tells it nothing that it has only kept itself.
async fn a_broker_elsewhere_is_told_what_is_so_now(site: Site) {
    let owner = site.account("ada", &[]).await;
    let project = site.project(owner).await;
    let settings = site.entry.settings.clone();
    let gate = Gate::open(site.store.clone(), settings, Names::new("/"))
        .await
        .unwrap();
    // Kept by this hub, which has yet to hear of the ban: nobody follows here.
    let fact = Fact::Owner(owner, project);
    assert_eq!(gate.authority().holds(fact).await, Ok(true));
    let member = Fact::Member(owner, project);
    assert_eq!(gate.authority().holds(member).await, Ok(true));
    whole::ban(&site.store, owner, true).await.unwrap();
    let broker = Broker::new(1).await;
    let client = broker.client().await.unwrap();
    let service = GateService::start(&client, &gate).await.unwrap();
    let (told, line) = watch::channel(Some(broker.client().await.unwrap()));
    let remote = RemoteGate::new(line);
    let subject = format!("project.{project}.0.api.-");
    let may = remote
        .may(Caller::Account(owner), Action::Publish, &subject)
        .await;
    assert_eq!(may, Ok(false));
    assert_eq!(gate.authority().holds(member).await, Ok(true), "as it was");
    service.stop().await;
    drop((remote, client, told));
    broker.stop().await;
}
