//! Clients of every transport exchange every kind of message without knowing of each other.

use dialtone_client::{Client, Encoding, Headers};

use crate::site::Site;

/// Length of a large message: three chunks of a Socket.IO client.
const LARGE_LEN: usize = 20_000_000;

/// Answers the script over one of the other transports, and sends it what it expects.
async fn exchange(scheme: &str) {
    let site = Site::open().await;
    let client = site.client(scheme).await;
    let (mut plain, mut large) = (
        client.subscribe("to.native.*").await.unwrap(),
        client.subscribe("to.native.large.*").await.unwrap(),
    );
    let member = client.subscription("work.*").group("0");
    let mut member = member.subscribe().await.unwrap();
    let echo = async |message: dialtone_client::Message| {
        let headers = message.headers().unwrap_or_default();
        Ok(
            dialtone_client::service::Answer::new(Encoding::Json, message.payload().clone())
                .headers(headers.with("echo", true)),
        )
    };
    let service = client.service("native.echo", "0", echo).await.unwrap();
    let running = site.node("interop.mjs").output();
    let script = site.tasks.spawn(running);

    let hello = plain.next().await.unwrap();
    assert_eq!(hello.subject().as_str(), "to.native.plain");
    assert_eq!(hello.payload(), "hello");
    assert_eq!(hello.reply(), None);
    let with_headers = plain.next().await.unwrap();
    let headers = with_headers.headers().unwrap();
    assert_eq!(headers.get("h"), Some(&serde_json::json!({"ä": [1]})));
    assert_eq!(with_headers.encoding(), Encoding::Json);
    let big = large.next().await.unwrap();
    assert_eq!(big.payload().len(), LARGE_LEN);
    assert!(big.payload().iter().all(|&byte| byte == 7));
    assert_eq!(big.headers().unwrap().get("last"), Some(&true.into()));

    say(&client, "to.conat.plain", "hello".into(), None).await;
    let headers = Headers::new().with("h", serde_json::json!({"ä": [1]}));
    say(
        &client,
        "to.conat.headers",
        "{}".into(),
        Some(headers.clone()),
    )
    .await;
    say(&client, "to.conat.large", vec![9; LARGE_LEN], Some(headers)).await;
    let answer = client.request("conat.echo", "ping").await.unwrap();
    assert_eq!(answer.payload(), "ping");
    assert_eq!(answer.headers().unwrap().get("echo"), Some(&true.into()));

    // The group has a member here and one there; each message is taken once.
    for _ in 0..200 {
        assert_eq!(client.publish_acked("work.x", "1").await.unwrap(), 1);
    }
    client.publish_acked("to.conat.done", "").await.unwrap();
    let counted = plain.next().await.unwrap();
    let there: usize = counted.json().unwrap();
    let mut here = 0;
    while member.try_next().is_some() {
        here += 1;
    }
    assert_eq!(here + there, 200);
    assert!(here > 0 && there > 0, "{here} here, {there} there");

    let output = script.await.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    service.stop().await;
}

async fn say(client: &Client, subject: &str, payload: Vec<u8>, headers: Option<Headers>) {
    let mut draft = client
        .message(subject)
        .payload(payload)
        .encoding(Encoding::Json);
    if let Some(headers) = &headers {
        draft = draft.headers(headers);
    }
    assert_eq!(draft.publish_acked().await.unwrap(), 1, "{subject}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_clients_over_websocket() {
    exchange("ws").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_clients_over_quic() {
    exchange("quic").await;
}
