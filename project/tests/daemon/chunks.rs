//! Files as existing clients read and write them, played by hand.

use std::time::Duration;

use bytes::Bytes;
use dialtone_client::{Encoding, Headers, Many, Message};
use serde_json::{Value as Json, json};

use crate::site::Site;

/// What a client of the original makes of bytes: a `bin` of `MessagePack`.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0xc6];
    packed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    packed.extend(bytes);
    packed
}

fn unpacked(payload: &Bytes) -> Bytes {
    assert_eq!(payload[0], 0xc6);
    payload.slice(5..)
}

async fn read(site: &Site, path: &str) -> (Vec<u8>, u64, Message) {
    let subject = site.place.offered("");
    let draft = site
        .client
        .message(subject)
        .msgpack(&json!({"path": path}))
        .unwrap();
    let many = Many {
        wait_max: Duration::from_mins(1),
        messages_max: None,
    };
    let mut answers = draft.request_many(many).await.unwrap();
    let (mut all, mut seq) = (Vec::new(), 0);
    loop {
        let answer = answers.next().await.unwrap();
        let headers = answer.headers().unwrap();
        if headers.get("done").is_some() || headers.get("error").is_some() {
            return (all, seq, answer);
        }
        seq += 1;
        assert_eq!(headers.get("seq"), Some(&json!(seq)));
        all.extend_from_slice(&unpacked(answer.payload()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_in_numbered_chunks() {
    let site = Site::new().await;
    let content: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(site.path("big"), &content).unwrap();
    let (all, chunks, last) = read(&site, "big").await;
    assert!(all == content, "every byte, in order");
    // None is long enough to be overtaken by the next one.
    assert_eq!(chunks, 9_000_000_u64.div_ceil(131_072 - 5));
    let headers = last.headers().unwrap();
    assert_eq!(headers.get("done"), Some(&json!(true)));
    assert_eq!(headers.get("bytes"), Some(&json!(9_000_000)));
    assert_eq!(last.payload().as_ref(), b"\xc0");
    let (all, _, last) = read(&site, "none").await;
    assert!(all.is_empty());
    assert!(
        last.headers()
            .unwrap()
            .text("error")
            .unwrap()
            .contains("none")
    );
    site.end().await;
}

/// How the sender ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Whole,
    Gap,
    Fails,
}

/// Offers a file under a name, as a browser or a hub does.
async fn offer(site: &Site, name: &str, chunks: Vec<Vec<u8>>, manner: Manner) {
    let mut offered = site
        .client
        .subscribe(site.place.offered(name))
        .await
        .unwrap();
    tokio::spawn(async move {
        let request = offered.next().await.unwrap();
        for (number, chunk) in (1..).zip(&chunks) {
            let seq = if manner == Manner::Gap && number > 1 {
                number + 1
            } else {
                number
            };
            let headers = Headers::new().with("seq", seq);
            let payload = packed(chunk);
            request
                .respond_with(&headers, Encoding::MessagePack, payload)
                .await
                .unwrap();
        }
        let headers = match manner {
            Manner::Fails => Headers::new().with("error", "Error: the disk is gone"),
            Manner::Whole | Manner::Gap => Headers::new().with("done", true),
        };
        let nothing = b"\xc0".as_slice();
        request
            .respond_with(&headers, Encoding::MessagePack, nothing)
            .await
            .unwrap();
    });
}

async fn write(site: &Site, name: &str, path: &str) -> Json {
    let request = json!({"name": name, "path": path, "maxWait": 60_000});
    let subject = site.place.service("files:write");
    let draft = site.client.message(subject).msgpack(&request).unwrap();
    draft.request().await.unwrap().msgpack().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_fetched_from_who_offers_it() {
    let site = Site::new().await;
    let chunks = vec![vec![1; 4_194_304], vec![2; 1000]];
    offer(&site, "a1", chunks.clone(), Manner::Whole).await;
    // The second one may overtake the first, which is sent in fragments.
    let done = write(&site, "a1", "up/a.bin").await;
    assert_eq!(
        done,
        json!({"status": "success", "bytes": 4_195_304, "chunks": 2})
    );
    assert_eq!(
        std::fs::read(site.path("up/a.bin")).unwrap(),
        chunks.concat()
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_come_whole_is_not_there() {
    let site = Site::new().await;
    std::fs::write(site.path("a"), "old").unwrap();
    let chunks = || vec![vec![1; 10], vec![2; 10]];
    for (name, manner, words) in [
        ("gap", Manner::Gap, "broke off after chunk 1"),
        ("fails", Manner::Fails, "the disk is gone"),
    ] {
        offer(&site, name, chunks(), manner).await;
        let answer = write(&site, name, "a").await;
        assert_eq!(answer["status"], "error");
        assert!(
            answer["error"].as_str().unwrap().contains(words),
            "{answer}"
        );
    }
    let wrong = write(&site, "a.b", "a").await;
    assert!(
        wrong["error"].as_str().unwrap().starts_with("name"),
        "{wrong}"
    );
    assert_eq!(std::fs::read(site.path("a")).unwrap(), b"old");
    let left = std::fs::read_dir(site.path("")).unwrap().count();
    assert_eq!(left, 2, "the file and the project's own folder");
    site.end().await;
}
