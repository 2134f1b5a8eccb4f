//! Asking language models over a real broker, of a provider that speaks HTTP as all of them do.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, Encoding, Many};
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::models::{ModelService, Models};
use dialtone_testkit::world::World as Broker;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stored::Site;

/// A provider: what it says to one request after the other, and what it was asked.
async fn provider(answers: Vec<String>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let serve = async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(read_request(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        asked
    };
    #[expect(clippy::disallowed_methods, reason = "the test waits for its end")]
    let serving = tokio::spawn(serve);
    (url, serving)
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let len = stream.read(&mut piece).await.unwrap();
        request.extend_from_slice(&piece[..len]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| length.trim().parse() == Ok(body.len())) {
            return text;
        }
    }
}

fn streamed(events: &[Json]) -> String {
    let events = events.iter().map(|event| format!("data: {event}\n\n"));
    let body: String = events.chain(["data: [DONE]\n\n".to_owned()]).collect();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{body}")
}

fn says(text: &str) -> Json {
    json!({"choices": [{"delta": {"content": text}}]})
}

/// All that is answered to a question.
async fn ask(client: &Client, account: AccountId, question: &Json) -> Vec<Json> {
    let many = Many {
        wait_max: Duration::from_secs(20),
        ..Many::default()
    };
    let mut answers = client
        .message(format!("llm.account-{account}.api"))
        .encoding(Encoding::Json)
        .payload(question.to_string())
        .request_many(many)
        .await
        .unwrap();
    let mut all = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer: Json = answer.decode().unwrap();
        let is_last = answer.is_null() || answer.get("error").is_some();
        all.push(answer);
        if is_last {
            break;
        }
    }
    all
}

#[expect(
    clippy::too_many_lines,
    reason = "one provider and its answers in their order"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_answers_in_pieces_and_is_noted() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 5, "total_tokens": 7}});
    let refused = "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n\r\n{\"error\": {\"message\": \"slow down\"}}";
    let broken = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: {\"error\": {\"message\": \"overloaded\"}}\n\n";
    let heavy = json!({"choices": [], "usage": {"prompt_tokens": 1, "total_tokens": 200_000}});
    let (url, serving) = provider(vec![
        streamed(&[says("fo"), says("ur"), usage]),
        refused.to_owned(),
        broken.to_owned(),
        streamed(&[says("x"), heavy]),
    ])
    .await;
    let site = Site::sqlite().await;
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let description = json!({"local": {"baseUrl": url, "apiKey": "swordfish", "model": "tiny"}});
    site.set("custom_openai_configuration", &description.to_string())
        .await;

    let broker = Broker::new(1).await;
    let own = broker.client().await.unwrap();
    let models = Models::new(
        site.store.clone(),
        site.entry.settings.clone(),
        Arc::clone(&site.authority),
    );
    let service = ModelService::start(&own, Arc::new(models.unwrap()))
        .await
        .unwrap();
    let client = broker.client().await.unwrap();
    let question = json!({"input": "2+2?", "model": "custom_openai-local", "system": "be brief",
        "history": [{"role": "user", "content": "hi"}], "account_id": bob});

    let off = ask(&client, ada, &question).await;
    assert_eq!(off[0]["code"], "not-configured");
    site.set("custom_openai_enabled", "yes").await;

    let answers = ask(&client, ada, &question).await;
    assert_eq!(answers.last(), Some(&Json::Null));
    let parts = &answers[..answers.len() - 1];
    let text: String = parts
        .iter()
        .map(|part| part["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "four");
    for (number, part) in parts.iter().enumerate() {
        assert_eq!(part["seq"], number);
    }
    let log = json!({"openai_chatgpt_log": [{"input": null, "output": null, "model": null, "total_tokens": null}]});
    let expected = json!([{"input": "2+2?", "output": "four", "model": "custom_openai-local", "total_tokens": 7}]);
    assert_eq!(
        site.query(ada, log.clone()).await.unwrap()["openai_chatgpt_log"],
        expected
    );
    assert_eq!(
        site.query(bob, log).await.unwrap()["openai_chatgpt_log"],
        json!([])
    );

    let foreign =
        json!({"input": "x", "model": "custom_openai-local", "project_id": ProjectId::random()});
    assert_eq!(
        ask(&client, ada, &foreign).await[0]["code"],
        "permission-denied"
    );
    let none = ask(&client, ada, &json!({"input": "x", "model": "gpt-5"})).await;
    assert_eq!(none[0]["code"], "not-configured");
    assert_eq!(
        ask(&client, ada, &json!({"input": 7})).await[0]["code"],
        "bad-request"
    );

    for reason in ["slow down", "overloaded"] {
        let failed = ask(&client, ada, &question).await;
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(
            failed[0]["error"].as_str().unwrap().contains(reason),
            "{failed:?}"
        );
        assert!(!failed[0].to_string().contains("swordfish"));
    }
    ask(&client, ada, &question).await;
    assert_eq!(ask(&client, ada, &question).await[0]["code"], "too-many");

    let asked = serving.await.unwrap();
    assert!(
        asked[0].starts_with("POST /v1/chat/completions "),
        "{}",
        asked[0]
    );
    assert!(
        asked[0]
            .to_lowercase()
            .contains("authorization: bearer swordfish")
    );
    assert!(asked[0].contains("\"model\":\"tiny\"") && asked[0].contains("be brief"));
    service.stop().await;
    drop((client, own));
    broker.stop().await;
}

/// A broker with the service of models of a site, and a client beside it.
async fn served(site: &Site) -> (Broker, Client, ModelService) {
    let broker = Broker::new(1).await;
    let own = broker.client().await.unwrap();
    let settings = site.entry.settings.clone();
    let models = Models::new(site.store.clone(), settings, Arc::clone(&site.authority));
    let service = ModelService::start(&own, Arc::new(models.unwrap()));
    let service = service.await.unwrap();
    (broker, own, service)
}

/// Four questions of a caller are answered at the same time, and a fifth is refused at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_asks_so_many_questions_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let site = Site::sqlite().await;
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let description = json!({"local": {"baseUrl": url}}).to_string();
    site.set("custom_openai_configuration", &description).await;
    site.set("custom_openai_enabled", "yes").await;
    let (broker, own, service) = served(&site).await;
    let client = broker.client().await.unwrap();
    let question = json!({"input": "2+2?", "model": "custom_openai-local"});
    let four = async {
        let asks = [(); 4].map(|()| ask(&client, ada, &question));
        futures_util::future::join_all(asks).await
    };
    let meanwhile = async {
        let mut held = Vec::new();
        for _ in 0..4 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            held.push(stream);
        }
        let fifth = ask(&client, ada, &question).await;
        assert_eq!(fifth[0]["code"], "too-many", "{fifth:?}");
        // Others are not hindered by that.
        let others = ask(&client, bob, &json!({"input": "x", "model": "none"})).await;
        assert_eq!(others[0]["code"], "not-configured");
        for mut stream in held {
            let answer = streamed(&[says("four")]);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    };
    let (answers, ()) = tokio::join!(four, meanwhile);
    for answer in answers {
        assert_eq!(answer.last(), Some(&Json::Null), "{answer:?}");
    }
    service.stop().await;
    drop((client, own));
    broker.stop().await;
}

/// PostgreSQL cannot keep the character U+0000, wherever in a question it is; it is nothing that anybody means.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_stored_is_not_asked() {
    let site = Site::postgres().await;
    let ada = site.account("ada", &[]).await;
    let answer = "a\u{0}b";
    let (url, serving) = provider(vec![streamed(&[says(answer)])]).await;
    let description = json!({"local": {"baseUrl": url}}).to_string();
    site.set("custom_openai_configuration", &description).await;
    site.set("custom_openai_enabled", "yes").await;
    let (broker, own, service) = served(&site).await;
    let client = broker.client().await.unwrap();
    let model = "custom_openai-local";
    for question in [
        json!({"input": "a\0b", "model": model}),
        json!({"input": "a", "model": model, "system": "\0"}),
        json!({"input": "a", "model": model, "tag": "\0"}),
        json!({"input": "a", "model": model, "path": "a\0"}),
        json!({"input": "a", "model": "\0"}),
        json!({"input": "a", "model": model, "history": [{"role": "user", "content": "\0"}]}),
    ] {
        let refused = ask(&client, ada, &question).await;
        assert_eq!(refused[0]["code"], "invalid-argument", "{question}");
        let text = refused[0]["error"].as_str().unwrap();
        assert!(text.contains("U+0000"), "{text}");
    }
    // What a model says is kept, but for that.
    let answers = ask(&client, ada, &json!({"input": "a", "model": model})).await;
    assert_eq!(answers[0]["text"], "a\u{fffd}b", "{answers:?}");
    let log = json!({"openai_chatgpt_log": [{"output": null}]});
    let log = site.query(ada, log).await.unwrap();
    assert_eq!(log["openai_chatgpt_log"], json!([{"output": "a\u{fffd}b"}]));
    serving.await.unwrap();
    service.stop().await;
    drop((client, own));
    broker.stop().await;
}

/// What was used counts for an hour, whatever its user wants to be forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_is_forgotten_after_an_hour_at_the_earliest() {
    let site = Site::sqlite().await;
    let ada = site.account("ada", &[]).await;
    let (url, serving) = provider(vec![streamed(&[says("four")])]).await;
    let description = json!({"local": {"baseUrl": url}}).to_string();
    site.set("custom_openai_configuration", &description).await;
    site.set("custom_openai_enabled", "yes").await;
    let (broker, own, service) = served(&site).await;
    let client = broker.client().await.unwrap();
    let question = json!({"input": "2+2?", "model": "custom_openai-local"});
    ask(&client, ada, &question).await;
    serving.await.unwrap();
    let log = json!({"openai_chatgpt_log": [{"id": null, "time": null, "expire": null}]});
    let asked = site.query(ada, log.clone()).await.unwrap()["openai_chatgpt_log"][0].clone();
    for expire in [json!(0), asked["time"].clone()] {
        let forget = json!({"openai_chatgpt_log": {"id": asked["id"], "expire": expire}});
        site.query(ada, forget).await.unwrap();
        let asked = site.query(ada, log.clone()).await.unwrap()["openai_chatgpt_log"][0].clone();
        let (time, expire) = (asked["time"].as_i64(), asked["expire"].as_i64());
        assert!(expire.unwrap() >= time.unwrap() + 3_600_000, "{asked}");
    }
    let later = asked["time"].as_i64().unwrap() + 7_200_000;
    let forget = json!({"openai_chatgpt_log": {"id": asked["id"], "expire": later}});
    site.query(ada, forget).await.unwrap();
    let asked = site.query(ada, log).await.unwrap()["openai_chatgpt_log"][0].clone();
    assert_eq!(asked["expire"], later);
    service.stop().await;
    drop((client, own));
    broker.stop().await;
}
