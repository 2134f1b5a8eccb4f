//! Several hubs on one broker share what is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dialtone_client::Client;
use dialtone_hub::api::{ApiService, Call, Handlers};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::AccountId;
use dialtone_testkit::world::World as Broker;
use serde_json::json;

use crate::world::World;

/// A hub that counts what it was asked.
struct Hub {
    client: Client,
    service: ApiService,
    asked: Arc<AtomicUsize>,
}

impl Hub {
    async fn start(broker: &Broker) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let handlers = Handlers::new().with("system.getNames", move |_call: Call| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(json!({}))
            }
        });
        let client = broker.client().await.unwrap();
        let api = World::api_with(handlers);
        Self {
            service: ApiService::start(&client, api, 4_096).await.unwrap(),
            client,
            asked,
        }
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

/// Asks so often, and returns how many were answered.
async fn ask(client: &Client, times: usize) -> usize {
    let subject = Caller::Account(AccountId::random())
        .request_subject()
        .unwrap();
    let request = json!({"name": "system.getNames", "args": [[AccountId::random()]]});
    let payload = serde_json::to_vec(&request).unwrap();
    let mut answered = 0;
    for _ in 0..times {
        let asked = client
            .message(&*subject)
            .encoding(dialtone_client::Encoding::Json)
            .payload(payload.clone())
            .request();
        let answer: serde_json::Value = asked.await.unwrap().decode().unwrap();
        assert_eq!(answer, json!({}));
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn hubs_share_the_work_and_others_take_over() {
    const TIMES: usize = 120;
    let broker = Broker::new(1).await;
    let (one, two, three) = (
        Hub::start(&broker).await,
        Hub::start(&broker).await,
        Hub::start(&broker).await,
    );
    let client = broker.client().await.unwrap();
    assert_eq!(ask(&client, TIMES).await, TIMES);
    let shares = [one.asked(), two.asked(), three.asked()];
    assert_eq!(shares.iter().sum::<usize>(), TIMES);
    // By chance none gets less than a tenth once in ten million years of tests.
    assert!(shares.iter().all(|share| *share > TIMES / 10), "{shares:?}");
    // One ends in good order, another one is cut off.
    one.service.stop().await;
    two.client.close().await;
    assert_eq!(ask(&client, TIMES).await, TIMES);
    assert_eq!(
        (one.asked.load(Ordering::Relaxed), three.asked()),
        (0, TIMES)
    );
}
