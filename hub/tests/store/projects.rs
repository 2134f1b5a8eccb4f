//! Projects and who is in them.

use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::store::projects::{self, Group, New, Update};
use dialtone_hub::store::{Error, Store};

use crate::accounts::{make, new};
use crate::{Site, on_both};

on_both! {
    a_project_has_its_owner_in_it,
    people_come_and_go,
    an_owner_remains_whoever_leaves_at_the_same_time,
    a_project_has_one_secret_whoever_asks_first,
}

async fn make_project(store: &Store, owner: AccountId) -> ProjectId {
    let project = New {
        id: ProjectId::random(),
        title: "Notes".to_owned(),
        description: "of the analytical engine".to_owned(),
        compute_image: None,
        owner: Some(owner),
    };
    let mut on = store.write().await.unwrap();
    projects::insert(&mut on, &project).await.unwrap();
    on.commit().await.unwrap();
    project.id
}

async fn groups(store: &Store, id: ProjectId) -> Vec<(AccountId, Group)> {
    let mut on = store.read().await.unwrap();
    let members = projects::members(&mut on, id).await.unwrap();
    members
        .into_iter()
        .map(|one| (one.account_id, one.group))
        .collect()
}

async fn a_project_has_its_owner_in_it(site: Site) {
    let store = site.open().await;
    let owner = make(&store, &new("one@example.org")).await;
    let id = make_project(&store, owner).await;
    assert_eq!(groups(&store, id).await, [(owner, Group::Owner)]);
    let mut on = store.write().await.unwrap();
    let change = Update {
        title: Some("More notes".to_owned()),
        deleted: Some(true),
        ..Update::default()
    };
    assert!(projects::update(&mut on, id, change).await.unwrap());
    let project = projects::by_id(&mut on, id).await.unwrap().unwrap();
    assert_eq!(
        (project.title.as_str(), project.deleted),
        ("More notes", true)
    );
    assert!(
        projects::of_account(&mut on, owner, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(projects::after(&mut on, None, 10).await.unwrap().len(), 1);
    assert!(
        projects::after(&mut on, Some(id), 10)
            .await
            .unwrap()
            .is_empty()
    );
    let nobody = New {
        id: ProjectId::random(),
        title: String::new(),
        description: String::new(),
        compute_image: None,
        owner: Some(AccountId::random()),
    };
    let missing = projects::insert(&mut on, &nobody).await.unwrap_err();
    assert!(matches!(missing, Error::Missing(_)), "{missing}");
}

async fn people_come_and_go(site: Site) {
    let store = site.open().await;
    let owner = make(&store, &new("one@example.org")).await;
    let guest = make(&store, &new("two@example.org")).await;
    let id = make_project(&store, owner).await;
    let mut on = store.write().await.unwrap();
    assert_eq!(
        projects::membership(&mut on, id, guest).await.unwrap(),
        None
    );
    projects::put_member(&mut on, id, guest, Group::Collaborator)
        .await
        .unwrap();
    on.commit().await.unwrap();
    assert_eq!(
        groups(&store, id).await,
        [(owner, Group::Owner), (guest, Group::Collaborator)]
    );
    let mut on = store.write().await.unwrap();
    let found = projects::membership(&mut on, id, guest).await.unwrap();
    assert_eq!(found, Some(Group::Collaborator));
    projects::put_member(&mut on, id, guest, Group::Owner)
        .await
        .unwrap();
    projects::touch(&mut on, id, guest).await.unwrap();
    assert!(projects::delete_member(&mut on, id, owner).await.unwrap());
    assert!(!projects::delete_member(&mut on, id, owner).await.unwrap());
    on.commit().await.unwrap();
    assert_eq!(groups(&store, id).await, [(guest, Group::Owner)]);
}

/// Two owners who leave at the same time, each of whom sees another one before.
async fn an_owner_remains_whoever_leaves_at_the_same_time(site: Site) {
    let store = site.open().await;
    let one = make(&store, &new("one@example.org")).await;
    let two = make(&store, &new("two@example.org")).await;
    let id = make_project(&store, one).await;
    let mut on = store.write().await.unwrap();
    projects::put_member(&mut on, id, two, Group::Owner)
        .await
        .unwrap();
    on.commit().await.unwrap();
    let mut leaving = Vec::new();
    for who in [one, two] {
        let store = site.open().await;
        leaving.push(async move {
            let mut on = store.write().await.unwrap();
            let members = projects::members_locked(&mut on, id).await.unwrap();
            let other = members
                .iter()
                .any(|one| one.account_id != who && one.group == Group::Owner);
            if other {
                projects::delete_member(&mut on, id, who).await.unwrap();
                on.commit().await.unwrap();
            }
        });
    }
    futures_util::future::join_all(leaving).await;
    assert_eq!(groups(&store, id).await.len(), 1);
}

async fn a_project_has_one_secret_whoever_asks_first(site: Site) {
    let store = site.open().await;
    let owner = make(&store, &new("one@example.org")).await;
    let id = make_project(&store, owner).await;
    let mut asking = Vec::new();
    for hub in 0..4 {
        let store = site.open().await;
        asking.push(async move {
            let mut on = store.write().await.unwrap();
            let token = format!("secret {hub}");
            let token = projects::ensure_secret_token(&mut on, id, &token)
                .await
                .unwrap();
            on.commit().await.unwrap();
            token.unwrap()
        });
    }
    let got = futures_util::future::join_all(asking).await;
    assert!(got.iter().all(|one| *one == got[0]), "{got:?}");
    let mut on = store.write().await.unwrap();
    assert_eq!(
        projects::secret_token(&mut on, id).await.unwrap().as_ref(),
        Some(&got[0])
    );
    projects::clear_secret_token(&mut on, id).await.unwrap();
    assert_eq!(projects::secret_token(&mut on, id).await.unwrap(), None);
    let nobody = ProjectId::random();
    assert_eq!(
        projects::ensure_secret_token(&mut on, nobody, "x")
            .await
            .unwrap(),
        None
    );
}
