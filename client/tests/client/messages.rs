//! Publishing: order, acknowledgements, limits, back-pressure, large messages.

use std::time::Duration;

use dialtone_client::{Code, Encoding, Headers, Limits, PublishError, Refused};
use dialtone_protocol::frame::{Action, Denied};
use dialtone_protocol::frame::{Frame, Interested};

use crate::peer::{pair, pair_with};

#[tokio::test(start_paused = true)]
async fn messages_leave_in_order_with_everything_that_was_said() {
    let (client, mut peer, _node) = pair().await;
    client.publish("a.0", b"x").await.unwrap();
    let headers = Headers::new().with("z", 1).with("a", "b");
    let draft = client
        .message("a.1")
        .headers(&headers)
        .encoding(Encoding::Json)
        .reply("back")
        .payload("[1]");
    draft.publish().await.unwrap();
    client.publish("a.2", vec![7; 50_000]).await.unwrap();
    client.try_publish("a.3", "y").unwrap();
    let first = peer.expect_publish().await;
    assert_eq!(
        (
            first.subject.as_str(),
            first.payload.as_slice(),
            first.reply
        ),
        ("a.0", &b"x"[..], None)
    );
    let second = peer.expect_publish().await;
    assert_eq!(second.headers.as_deref(), Some(&br#"{"z":1,"a":"b"}"#[..]));
    assert_eq!(
        (second.encoding, second.reply.as_deref()),
        (1, Some("back"))
    );
    assert_eq!(peer.expect_publish().await.payload, vec![7; 50_000]);
    assert_eq!(peer.expect_publish().await.subject, "a.3");
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_says_how_many_or_why_not() {
    let (client, mut peer, _node) = pair().await;
    for outcome in [Ok(3), Ok(0), Err(Refused::new(Code::Denied, "no"))] {
        let acknowledge = async {
            let publish = peer.expect_publish().await;
            peer.acknowledge(publish.request, outcome.clone()).await;
        };
        let (result, ()) = tokio::join!(client.publish_acked("a", b"x"), acknowledge);
        match (outcome, result) {
            (Ok(count), Ok(got)) => assert_eq!(count, got),
            (Err(refused), Err(PublishError::Refused(got))) => assert_eq!(refused, got),
            other => panic!("{other:?}"),
        }
    }
    let (result, _) = tokio::join!(client.publish_acked("a", b"x"), peer.expect_publish());
    assert_eq!(result.unwrap_err().code(), Code::Timeout);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_interest_publishes_a_second_time() {
    let (client, mut peer, _node) = pair().await;
    let answer = async {
        let publish = peer.expect_publish().await;
        peer.acknowledge(publish.request, Ok(0)).await;
        let interest = peer.expect_interest().await;
        assert_eq!((interest.subject.as_str(), interest.wait_ms), ("a", 5_000));
        peer.send(&Frame::Interested(Interested {
            request: interest.request,
            answer: Ok(true),
        }))
        .await;
        let publish = peer.expect_publish().await;
        peer.acknowledge(publish.request, Ok(1)).await;
    };
    let draft = client
        .message("a")
        .wait_for_interest(Duration::from_secs(5));
    let (result, ()) = tokio::join!(draft.publish_acked(), answer);
    assert_eq!(result.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn invalid_messages_are_refused_here() {
    let limits = Limits {
        message_len_max: 1_000,
        ..Limits::default()
    };
    let (client, _peer, _node) = pair_with(|options| options, limits).await;
    for subject in ["", "a.*", "a.>", "a..b", "a b"] {
        assert_eq!(
            client.publish(subject, b"").await.unwrap_err().code(),
            Code::InvalidSubject,
            "{subject}"
        );
    }
    assert_eq!(
        client
            .publish("a", vec![0; 1_001])
            .await
            .unwrap_err()
            .code(),
        Code::TooLarge
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_message_is_cut_and_others_overtake_it() {
    let limits = Limits {
        fragment_len_max: 10_000,
        ..Limits::default()
    };
    let (client, mut peer, _node) = pair_with(|options| options, limits).await;
    let large: Vec<u8> = (0..5_000_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    client.publish("large", large.clone()).await.unwrap();
    client.publish("small", b"x").await.unwrap();
    let (mut whole, mut index, mut overtook) = (Vec::new(), 0, false);
    while whole.len() < large.len() {
        let publish = peer.expect_publish().await;
        match publish.fragment {
            None => overtook = true,
            Some(fragment) => {
                assert_eq!((fragment.index, fragment.total_len), (index, 5_000_000));
                index += 1;
                whole.extend(publish.payload);
            }
        }
    }
    assert!(overtook && whole == large);
}

#[tokio::test(start_paused = true)]
async fn publishers_wait_for_room() {
    let (client, mut peer, _node) = pair_with(
        |options| dialtone_client::Options {
            outgoing_bytes_max: 100_000,
            ..options
        },
        Limits::default(),
    )
    .await;
    let publisher = client.clone();
    let flood = tokio::spawn(async move {
        for n in 0..2_000_u32 {
            publisher
                .publish("a", [&n.to_le_bytes()[..], &[0; 5_000]].concat())
                .await
                .unwrap();
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!flood.is_finished(), "10 MB do not fit");
    assert!(matches!(
        client.try_publish("a", vec![0; 90_000]),
        Err(PublishError::Full)
    ));
    for n in 0..2_000_u32 {
        assert_eq!(peer.expect_publish().await.payload[..4], n.to_le_bytes());
    }
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_not_permitted_is_told() {
    let (client, mut peer, _node) = pair().await;
    let mut denials = client.denials();
    let denied = Denied {
        action: Action::Publish,
        subject: "a".to_owned(),
        code: Code::Denied,
        text: "no".to_owned(),
    };
    peer.send(&Frame::Denied(denied.clone())).await;
    assert_eq!(denials.recv().await.unwrap(), denied);
}
