//! Requests and their answers, interest, round trips, the list of subscriptions.

use std::time::Duration;

use dialtone_client::{Code, Many, RequestError};
use dialtone_protocol::SubscriptionId;
use dialtone_protocol::frame::{Frame, Interested, Listed, Pick, Pong, Wanted};

use crate::peer::pair;

const INBOX: SubscriptionId = SubscriptionId::INBOX;

#[tokio::test(start_paused = true)]
async fn the_first_answer_wins() {
    let (client, mut peer, _node) = pair().await;
    let answer = async {
        let request = peer.expect_publish().await;
        let reply = request.reply.unwrap();
        assert!(reply.starts_with("_INBOX.n1.1-secret."), "{reply}");
        peer.acknowledge(request.request, Ok(2)).await;
        peer.deliver(INBOX, "_INBOX.n1.1-secret.nonsense!", b"?")
            .await;
        peer.deliver(INBOX, &reply, b"first").await;
        peer.deliver(INBOX, &reply, b"second").await;
    };
    let (result, ()) = tokio::join!(client.request("r", b"?"), answer);
    assert_eq!(result.unwrap().payload().as_ref(), b"first");
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_said_at_once() {
    let (client, mut peer, _node) = pair().await;
    let acknowledge = async {
        let request = peer.expect_publish().await;
        peer.acknowledge(request.request, Ok(0)).await;
    };
    let (result, ()) = tokio::join!(client.request("r", b"?"), acknowledge);
    let error = result.unwrap_err();
    assert!(matches!(&error, RequestError::NoSubscribers { subject } if subject == "r"));
    assert_eq!(error.code(), Code::NoSubscribers);
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_for_ever() {
    let (client, mut peer, _node) = pair().await;
    let acknowledge = async {
        let request = peer.expect_publish().await;
        peer.acknowledge(request.request, Ok(1)).await;
        request.reply.unwrap()
    };
    let (result, reply) = tokio::join!(client.request("r", b"?"), acknowledge);
    assert!(
        matches!(result, Err(RequestError::TimedOut(limit)) if limit == Duration::from_secs(30))
    );
    peer.deliver(INBOX, &reply, b"too late").await;
    let (interest, ()) = tokio::join!(client.interest("r"), async {
        let interest = peer.expect_interest().await;
        peer.send(&Frame::Interested(Interested {
            request: interest.request,
            answer: Ok(true),
        }))
        .await;
    });
    assert!(interest.unwrap());
}

#[tokio::test(start_paused = true)]
async fn many_answers_are_a_stream() {
    let (client, mut peer, _node) = pair().await;
    let many = Many {
        wait_max: Duration::from_secs(2),
        ..Many::default()
    };
    let mut answers = client.request_many("r", b"?", many).await.unwrap();
    let request = peer.expect_publish().await;
    peer.acknowledge(request.request, Ok(3)).await;
    for n in 0..3_u8 {
        peer.deliver(INBOX, request.reply.as_deref().unwrap(), &[n])
            .await;
    }
    for n in 0..3_u8 {
        assert_eq!(answers.next().await.unwrap().payload().as_ref(), [n]);
    }
    assert!(
        answers.next().await.is_none(),
        "none came within two seconds"
    );
    assert!(answers.error().is_none());

    let mut answers = client
        .request_many(
            "r",
            b"?",
            Many {
                messages_max: Some(1),
                ..many
            },
        )
        .await
        .unwrap();
    let request = peer.expect_publish().await;
    peer.deliver(INBOX, request.reply.as_deref().unwrap(), b"1")
        .await;
    peer.deliver(INBOX, request.reply.as_deref().unwrap(), b"2")
        .await;
    assert!(answers.next().await.is_some());
    assert!(answers.next().await.is_none());

    let mut answers = client.request_many("r", b"?", many).await.unwrap();
    let request = peer.expect_publish().await;
    peer.acknowledge(request.request, Ok(0)).await;
    assert!(answers.next().await.is_none());
    assert!(matches!(
        answers.error(),
        Some(RequestError::NoSubscribers { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_several_questions_and_ends_in_time() {
    let (client, mut peer, _node) = pair().await;
    let answer = async {
        let mut waits = Vec::new();
        for _ in 0..2 {
            let interest = peer.expect_interest().await;
            peer.linger(Duration::from_millis(interest.wait_ms.into()))
                .await;
            waits.push(interest.wait_ms);
            peer.send(&Frame::Interested(Interested {
                request: interest.request,
                answer: Ok(false),
            }))
            .await;
        }
        waits
    };
    let (result, waits) = tokio::join!(
        client.wait_for_interest("a", Duration::from_secs(100)),
        answer
    );
    assert!(!result.unwrap());
    assert_eq!(waits, [90_000, 10_000]);
}

#[tokio::test(start_paused = true)]
async fn a_question_nobody_waits_for_is_cancelled() {
    let (client, mut peer, _node) = pair().await;
    let asked = client.wait_for_interest("a", Duration::from_mins(1));
    assert!(
        tokio::time::timeout(Duration::from_secs(1), asked)
            .await
            .is_err()
    );
    let interest = peer.expect_interest().await;
    let body = peer.body().await.unwrap();
    assert!(
        matches!(Frame::decode(&body).unwrap(), Frame::Cancel(cancel) if cancel.request == interest.request)
    );
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_when_everything_before_it_was_processed() {
    let (client, mut peer, _node) = pair().await;
    client.publish("a", vec![0; 300_000]).await.unwrap();
    client.publish("b", b"").await.unwrap();
    let answer = async {
        for _ in 0..4 {
            peer.expect_publish().await;
        }
        let token = peer.expect_ping().await;
        peer.send(&Frame::Pong(Pong { token })).await;
    };
    let (result, ()) = tokio::join!(client.flush(), answer);
    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_list_of_subscriptions_comes_in_parts() {
    let (client, mut peer, _node) = pair().await;
    let wanted = |n: u32| Wanted {
        id: SubscriptionId(n),
        pattern: format!("p.{n}"),
        group: None,
        pick: Pick::Any,
        tap: false,
        drop_oldest: 0,
    };
    let answer = async {
        let body = peer.body().await.unwrap();
        let Frame::List(list) = Frame::decode(&body).unwrap() else {
            panic!()
        };
        for (n, more) in [(1, true), (2, false)] {
            peer.send(&Frame::Listed(Listed {
                request: list.request,
                subscriptions: vec![wanted(n)],
                more,
            }))
            .await;
        }
    };
    let (result, ()) = tokio::join!(client.subscriptions(), answer);
    assert_eq!(result.unwrap(), [wanted(1), wanted(2)]);
}
