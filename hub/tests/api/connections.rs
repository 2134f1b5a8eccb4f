//! A real broker that asks the hub who connects and what they may do, and is told when that ends.

use std::sync::Arc;

use dialtone_broker::auth::{Answer, Authenticate, Offer, Permissions, Principal};
use dialtone_client::Code;
use dialtone_hub::api::ApiService;
use dialtone_hub::auth::cookie::Names;
use dialtone_hub::caller::Caller;
use dialtone_hub::feed::Follower;
use dialtone_hub::identity::{Identifier, Identity, Refused};
use dialtone_hub::permission::{Action, Affected, Authority, follow};
use dialtone_hub::settings::{self, Live};
use dialtone_hub::store::Store;
use dialtone_protocol::frame::{Credentials, Refused as NotLetIn};
use dialtone_testkit::world::{World, patient};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stored::Site;

/// The hub as the broker's provider.
struct Provider {
    identifier: Identifier,
    authority: Arc<Authority<Store>>,
}

impl Provider {
    async fn judge(&self, offer: Offer<'_>) -> Result<Principal, NotLetIn> {
        let cookies = offer.info.headers.get_all("cookie");
        let found = match offer.credentials {
            Credentials::Token(token) => self.identifier.by_token(token).await,
            Credentials::Password { user, password } => {
                self.identifier.by_password(user, password).await
            }
            Credentials::None => {
                let cookies = cookies.iter().map(AsRef::<[u8]>::as_ref);
                self.identifier.by_cookies(cookies).await
            }
        };
        let Identity { caller, proof } =
            found.map_err(|refused| NotLetIn::new(Code::Unauthenticated, refused.to_string()))?;
        let permissions = match caller {
            Caller::Hub => Permissions::All,
            Caller::Account(_) | Caller::Project(_) => Permissions::Ask,
        };
        let principal = Principal::new(caller.to_string(), permissions);
        Ok(Principal { proof, ..principal })
    }

    async fn judge_again(&self, principal: &Principal) -> Result<Principal, NotLetIn> {
        let caller = principal.identity.parse().unwrap();
        let proof = principal.proof;
        match self.identifier.still(Identity { caller, proof }).await {
            Err(refused @ Refused::Gone) => Err(NotLetIn::new(Code::Kicked, refused.to_string())),
            // Who was let in stays while it cannot be found out whether that still holds.
            Ok(()) | Err(_) => Ok(principal.clone()),
        }
    }
}

impl Authenticate for Provider {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, NotLetIn>> {
        Box::pin(self.judge(offer))
    }

    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let caller = principal.identity.parse().unwrap();
            self.authority
                .may(caller, action, subject)
                .await
                .unwrap_or(false)
        })
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, NotLetIn>> {
        Box::pin(self.judge_again(principal))
    }
}

/// Rule 8: what ends in the database ends on the broker, and nobody asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::too_many_lines,
    reason = "one life from its beginning to its end"
)]
async fn what_ends_in_the_database_ends_on_the_broker() {
    let site = Site::sqlite().await;
    settings::set(&site.store, "conat_password", "a long secret")
        .await
        .unwrap();
    let (live, _follower) = Live::open(&site.store).await.unwrap();
    let provider = Provider {
        identifier: Identifier::new(site.store.clone(), Arc::new(live), Names::new("/")),
        authority: Arc::clone(&site.authority),
    };
    let broker = World::with(1, patient(), Arc::new(provider)).await;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let follower = Follower::from_now(&site.store).await.unwrap();
    let handle = broker.broker().clone();
    let told = move |affected| match affected {
        Affected::One(caller) => handle.permissions_changed(Some(&caller.to_string())),
        Affected::All => handle.permissions_changed(None),
    };
    tasks.spawn(follow(
        Arc::clone(&site.authority),
        follower,
        told,
        stop.clone(),
    ));
    tasks.close();

    let hub = broker
        .options()
        .password("hub", "a long secret")
        .connect()
        .await
        .unwrap();
    let service = ApiService::start(&hub, site.api(), 64).await.unwrap();
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(ada).await;
    site.add(ada, project, bob).await.unwrap();
    let made = site
        .call(bob, "system.manageApiKeys", json!({"action": "create"}))
        .await
        .unwrap();
    let key = made[0]["secret"].as_str().unwrap();

    // Who somebody is follows from the subject to which only they may publish.
    let client = broker.options().token(key).connect().await.unwrap();
    let request = json!({"name": "system.test", "args": []});
    let answer = client
        .message(format!("hub.account.{bob}.api"))
        .encoding(dialtone_client::Encoding::Json)
        .payload(serde_json::to_vec(&request).unwrap())
        .request()
        .await
        .unwrap();
    assert_eq!(answer.json::<Json>().unwrap()["account_id"], json!(bob));
    let as_ada = client
        .message(format!("hub.account.{ada}.api"))
        .request()
        .await;
    assert!(as_ada.is_err(), "{as_ada:?}");
    assert!(client.subscribe("hub.*.*.api").await.is_err());

    let mut own = client.subscribe(format!("account.{bob}.>")).await.unwrap();
    let mut shared = client
        .subscribe(format!("project.{project}.>"))
        .await
        .unwrap();
    let options = json!({"opts": {"project_id": project, "account_id": bob}});
    site.call(ada, "projects.removeCollaborator", options)
        .await
        .unwrap();
    assert!(shared.next().await.is_none(), "the subscription ends");
    client
        .publish(format!("account.{bob}.x"), "still there")
        .await
        .unwrap();
    assert!(own.next().await.is_some());

    // The key ends, and with it the connection that was made with it; it is no use for another one.
    let mut peer = broker.user(key).await.unwrap();
    let id = made[0]["id"].clone();
    site.call(
        bob,
        "system.manageApiKeys",
        json!({"action": "delete", "id": id}),
    )
    .await
    .unwrap();
    let closed = peer.closed().await.unwrap();
    assert_eq!(closed.code, Code::Kicked);
    assert!(broker.user(key).await.is_err());

    service.stop().await;
    stop.cancel();
    tasks.wait().await;
    client.close().await;
    hub.close().await;
    broker.stop().await;
}
