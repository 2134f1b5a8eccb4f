//! The API over a real broker: what arrives as a message, and what is answered.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, Encoding};
use dialtone_hub::api::{ApiService, Call, Code, Handlers, PATTERN};
use dialtone_hub::caller::Caller;
use dialtone_testkit::world::World as Broker;
use serde_json::{Value as Json, json};
use tokio::sync::Notify;

use crate::world::World;

struct Hub {
    broker: Broker,
    client: Client,
    service: ApiService,
    world: World,
}

impl Hub {
    async fn start() -> Self {
        let broker = Broker::new(1).await;
        let world = World::new();
        let own = broker.client().await.unwrap();
        let service = ApiService::start(&own, Arc::clone(&world.api), 4_096)
            .await
            .unwrap();
        Self {
            client: broker.client().await.unwrap(),
            broker,
            service,
            world,
        }
    }

    async fn ask(&self, subject: &str, payload: Vec<u8>, encoding: Encoding) -> Json {
        let answer = self
            .client
            .message(subject)
            .encoding(encoding)
            .payload(payload)
            .request()
            .await
            .unwrap();
        assert_eq!(answer.encoding(), encoding);
        answer.decode().unwrap()
    }

    async fn call(&self, caller: Caller, request: Json) -> Json {
        let subject = caller.request_subject().unwrap();
        self.ask(
            &subject,
            serde_json::to_vec(&request).unwrap(),
            Encoding::Json,
        )
        .await
    }

    async fn stop(self) {
        self.service.stop().await;
        drop(self.client);
        self.broker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_in_its_encoding() {
    let hub = Hub::start().await;
    let caller = hub.world.member;
    let request = json!({"name": "system.test", "args": []});
    let expected = caller.account().unwrap().to_string();
    assert_eq!(
        hub.call(caller, request.clone()).await["account_id"],
        expected
    );
    let subject = caller.request_subject().unwrap();
    let payload = rmp_serde::to_vec_named(&request).unwrap();
    let answer = hub.ask(&subject, payload, Encoding::MessagePack).await;
    assert_eq!(answer["account_id"], expected);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_is_answered_with_error_and_code() {
    let hub = Hub::start().await;
    let caller = hub.world.stranger;
    let start = json!({"name": "projects.start", "args": [{"project_id": hub.world.project_id}]});
    for (request, code) in [
        (json!({"name": "x.y"}), "unknown-function"),
        (json!({"args": []}), "bad-request"),
        (json!([1, 2]), "bad-request"),
        (
            json!({"name": "projects.start", "args": [{}]}),
            "invalid-argument",
        ),
        (start, "permission-denied"),
    ] {
        let answer = hub.call(caller, request.clone()).await;
        assert_eq!(answer["code"], code, "{request}: {answer}");
        assert!(
            answer["error"].as_str().unwrap().starts_with("Error: "),
            "{answer}"
        );
    }
    let garbage = hub
        .ask(
            &caller.request_subject().unwrap(),
            vec![0xc1, 0xff],
            Encoding::MessagePack,
        )
        .await;
    assert_eq!(garbage["code"], "bad-request");
    let nobody = hub
        .ask("hub.account.nobody.api", b"{}".to_vec(), Encoding::Json)
        .await;
    assert!(
        nobody["error"].as_str().unwrap().contains("invalid uuid"),
        "{nobody}"
    );
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn hubs_share_the_requests() {
    let hub = Hub::start().await;
    let second = hub.broker.client().await.unwrap();
    let other = World::new();
    let service = ApiService::start(&second, Arc::clone(&other.api), 64)
        .await
        .unwrap();
    for _ in 0..50 {
        let answer = hub
            .call(hub.world.member, json!({"name": "system.ping"}))
            .await;
        assert!(answer["now"].is_i64());
    }
    let (one, two) = (hub.world.api.status().calls, other.api.status().calls);
    assert_eq!(one + two, 50);
    assert!(one > 0 && two > 0, "{one} and {two}");
    service.stop().await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_is_cancelled_whichever_hub_has_it() {
    let broker = Broker::new(2).await;
    let started = Arc::new(Notify::new());
    let handlers = {
        let started = Arc::clone(&started);
        Handlers::new().with("system.userSalesloftSync", move |_: Call| {
            let started = Arc::clone(&started);
            async move {
                started.notify_one();
                std::future::pending().await
            }
        })
    };
    let mut services = Vec::new();
    for _ in 0..2 {
        let client = broker.client().await.unwrap();
        let api = World::api_with(handlers.clone());
        services.push((ApiService::start(&client, api, 64).await.unwrap(), client));
    }
    let client = broker.client().await.unwrap();
    let caller = World::new().member;
    let subject = caller.request_subject().unwrap();
    for id in ["one", "two", "three", "four"] {
        let request = json!({"name": "system.userSalesloftSync", "id": id, "timeout": 100_000});
        let request = client
            .message(subject.as_str())
            .encoding(Encoding::Json)
            .payload(serde_json::to_vec(&request).unwrap())
            .timeout(Duration::from_secs(200))
            .request();
        let cancel = async {
            started.notified().await;
            let subject = subject.replace(".api", ".cancel");
            let payload = serde_json::to_vec(&json!({"id": id})).unwrap();
            client
                .message(subject.as_str())
                .encoding(Encoding::Json)
                .payload(payload)
                .publish()
                .await
                .unwrap();
        };
        let (answer, ()) = tokio::join!(request, cancel);
        let answer: Json = answer.unwrap().decode().unwrap();
        assert_eq!(answer["code"], Code::Cancelled.name());
    }
    for (service, _client) in services {
        service.stop().await;
    }
    broker.stop().await;
}

#[test]
fn requests_come_where_clients_of_the_original_send_them() {
    assert_eq!(PATTERN, "hub.*.*.api");
}
