//! Permissions that follow the store: what ends there ends for the broker at once.

use std::sync::Arc;

use dialtone_hub::caller::Caller;
use dialtone_hub::feed::Follower;
use dialtone_hub::permission::{Action, Affected, Fact, follow};
use dialtone_hub::store::accounts::{self, Update};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Site, on_both};

on_both! {
    facts_are_those_of_the_store,
    a_right_ends_when_its_reason_does,
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
