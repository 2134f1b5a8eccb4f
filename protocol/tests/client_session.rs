//! The client's view of its broker: frames in, events out, at chosen times.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use dialtone_protocol::codec::LEN_FIELD;
use dialtone_protocol::frame::{
    Close, Credentials, Deliver, Dropped, Ended, Fragment, Frame, List, Message, Ping, Pong,
    Published, Refused, Subscribed, Wanted, Welcome,
};
use dialtone_protocol::limits::{
    HEAD_LEN_MAX, HELLO_LEN_MAX, SUBJECT_LEN_MAX, SUBSCRIBE_BATCH_MAX,
};
use dialtone_protocol::session::client::{Answer, Config, Event, Session};
use dialtone_protocol::session::{Due, Timing};
use dialtone_protocol::{Code, ConnectionId, Limits, RequestId, SubscriptionId};

#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
fn start() -> Instant {
    Instant::now()
}

fn welcome(version: u16, limits: Limits) -> Frame<'static> {
    Frame::Welcome(Box::new(Welcome {
        version,
        connection: ConnectionId(1),
        node: "n".to_owned(),
        server: String::new(),
        identity: String::new(),
        inbox: "_INBOX.n.1-s".to_owned(),
        limits,
        ping_interval_ms: 60_000,
        addresses: vec![],
    }))
}

fn config() -> Config {
    Config {
        message_len_max: 100,
        partial_len_max: 50,
        partial_max: 2,
        ..Config::default()
    }
}

fn opened(config: Config) -> (Session, Instant) {
    let now = start();
    let mut session = Session::new(config, now);
    session.hello(now);
    let bytes = welcome(1, Limits::default()).to_vec();
    assert!(matches!(
        session.on_body(&bytes[LEN_FIELD..], now),
        Ok(Event::Welcome(_))
    ));
    (session, now)
}

fn refusal(session: &mut Session, frame: &Frame<'_>, now: Instant) -> Code {
    let bytes = frame.to_vec();
    session
        .on_body(&bytes[LEN_FIELD..], now)
        .expect_err("the frame should be refused")
        .code
}

fn deliver(id: u64, index: u32, total_len: u64, payload: &[u8]) -> Vec<u8> {
    let message = Message {
        subject: "a",
        reply: Some("r"),
        encoding: 1,
        headers: Some(b"{}"),
        payload,
    };
    let fragment = Some(Fragment {
        id,
        index,
        total_len,
    });
    Frame::Deliver(Deliver {
        subscription: SubscriptionId(7),
        unreliable: false,
        fragment,
        message,
    })
    .to_vec()
}

/// What becomes of a fragment: nothing yet, a whole payload, or a message lost.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Kept,
    Whole(Vec<u8>),
    Lost,
}

fn receive(session: &mut Session, fragment: &[u8], now: Instant) -> Became {
    match session.on_body(&fragment[LEN_FIELD..], now).unwrap() {
        Event::Heard => Became::Kept,
        Event::Assembled(SubscriptionId(7), message) => {
            assert_eq!(
                (message.subject.as_str(), message.reply.as_deref()),
                ("a", Some("r"))
            );
            assert_eq!(
                (message.encoding, message.headers.as_deref()),
                (1, Some(&b"{}"[..]))
            );
            Became::Whole(message.payload)
        }
        Event::Dropped(Dropped {
            subscription: SubscriptionId(7),
            count: 1,
        }) => Became::Lost,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_offers_what_the_client_speaks() {
    let now = start();
    let credentials = Credentials::Token("t".to_owned());
    let mut session = Session::new(
        Config {
            name: "me/1".to_owned(),
            ..config()
        },
        now,
    );
    session.set_credentials(credentials.clone());
    let Frame::Hello(hello) = session.hello(now) else {
        panic!("a hello comes first")
    };
    assert_eq!(
        (hello.version_min, hello.version_max, hello.client.as_str()),
        (1, 1, "me/1")
    );
    assert_eq!(hello.credentials, credentials);
    assert_eq!(format!("{:?}", hello.credentials), "Token(…)");
}

#[test]
fn a_welcome_must_come_first_and_once() {
    let now = start();
    let mut session = Session::new(config(), now);
    assert_eq!(
        refusal(&mut session, &welcome(1, Limits::default()), now),
        Code::BadFrame,
        "nothing was asked"
    );
    session.hello(now);
    assert_eq!(
        refusal(&mut session, &Frame::Pong(Pong { token: 1 }), now),
        Code::BadFrame
    );
    assert_eq!(
        refusal(&mut session, &welcome(2, Limits::default()), now),
        Code::UnsupportedVersion
    );
    assert_eq!(session.frame_len_max(), HELLO_LEN_MAX);
    let limits = Limits {
        frame_len_max: 1_000,
        ..Limits::default()
    };
    let bytes = welcome(1, limits.clone()).to_vec();
    assert!(matches!(
        session.on_body(&bytes[LEN_FIELD..], now),
        Ok(Event::Welcome(_))
    ));
    assert!(session.is_open());
    assert_eq!(
        (session.limits(), session.frame_len_max()),
        (&limits, 1_000 + HEAD_LEN_MAX)
    );
    assert_eq!(
        refusal(&mut session, &welcome(1, limits), now),
        Code::BadFrame
    );
}

#[test]
fn frames_of_a_client_are_out_of_place() {
    let (mut session, now) = opened(config());
    let hello = Session::new(config(), now).hello(now);
    for frame in [
        hello,
        Frame::List(List {
            request: RequestId(1),
        }),
    ] {
        assert_eq!(refusal(&mut session, &frame, now), Code::BadFrame);
    }
}

#[test]
fn nothing_follows_a_close() {
    let (mut session, now) = opened(config());
    let close = Frame::Close(Close {
        code: Code::Kicked,
        text: String::new(),
    });
    let bytes = close.to_vec();
    assert!(matches!(
        session.on_body(&bytes[LEN_FIELD..], now),
        Ok(Event::Close(_))
    ));
    assert!(!session.is_open());
    assert_eq!(refusal(&mut session, &close, now), Code::BadFrame);
    assert_eq!(
        refusal(&mut session, &Frame::Pong(Pong { token: 1 }), now),
        Code::BadFrame
    );
}

#[test]
fn questions_get_their_answers() {
    let (mut session, now) = opened(config());
    let request = session.next_request();
    assert_ne!(request, session.next_request());
    let bytes = Frame::Published(Published {
        request,
        outcome: Ok(3),
    })
    .to_vec();
    let Ok(Event::Answer(answered, answer)) = session.on_body(&bytes[LEN_FIELD..], now) else {
        panic!("no answer")
    };
    assert_eq!((answered, answer), (request, Answer::Published(Ok(3))));
    let bytes = Frame::Ping(Ping { token: 9 }).to_vec();
    assert!(matches!(
        session.on_body(&bytes[LEN_FIELD..], now),
        Ok(Event::Ping(9))
    ));
}

#[test]
fn subscriptions_are_restored_until_refused_ended_or_removed() {
    let (mut session, now) = opened(config());
    let ids: Vec<_> = ["a", "b", "c", "d"]
        .map(|pattern| session.add(Wanted::new(pattern)).id)
        .to_vec();
    assert_eq!(ids, [1, 2, 3, 4].map(SubscriptionId));
    let refused = vec![(ids[0], Refused::new(Code::Denied, "no"))];
    let bytes = Frame::Subscribed(Subscribed {
        request: RequestId(1),
        refused,
    })
    .to_vec();
    assert!(matches!(
        session.on_body(&bytes[LEN_FIELD..], now),
        Ok(Event::Answer(_, Answer::Subscribed(_)))
    ));
    let bytes = Frame::Ended(Ended {
        subscription: ids[1],
        code: Code::Denied,
        text: String::new(),
    })
    .to_vec();
    assert!(matches!(
        session.on_body(&bytes[LEN_FIELD..], now),
        Ok(Event::Ended(_))
    ));
    assert_eq!(session.remove(ids[2]).unwrap().pattern, "c");

    session.disconnected();
    session.hello(now);
    let restored = session.restore();
    assert_eq!(restored.len(), 1);
    let patterns: Vec<_> = restored[0]
        .wanted
        .iter()
        .map(|wanted| wanted.pattern.as_str())
        .collect();
    assert_eq!(patterns, ["d"]);
    assert_eq!(
        session.add(Wanted::new("e")).id,
        SubscriptionId(5),
        "numbers are not used again"
    );
}

#[test]
fn a_restore_keeps_to_the_limits() {
    let (mut session, _) = opened(config());
    let long = "x".repeat(SUBJECT_LEN_MAX);
    for _ in 0..200 {
        session.add(Wanted::new(long.clone()));
    }
    for _ in 0..SUBSCRIBE_BATCH_MAX * 2 {
        session.add(Wanted::new("a"));
    }
    let restored = session.restore();
    let count: usize = restored
        .iter()
        .map(|subscribe| subscribe.wanted.len())
        .sum();
    assert_eq!(count, 200 + SUBSCRIBE_BATCH_MAX * 2);
    for subscribe in restored {
        assert!((1..=SUBSCRIBE_BATCH_MAX).contains(&subscribe.wanted.len()));
        let len = Frame::Subscribe(subscribe).to_vec().len() - LEN_FIELD;
        assert!(len <= Limits::default().frame_len_max as usize, "{len}");
    }
}

#[test]
fn fragments_of_several_messages_are_put_together() {
    let (mut session, now) = opened(config());
    assert_eq!(
        receive(&mut session, &deliver(1, 0, 10, b"01234"), now),
        Became::Kept
    );
    assert_eq!(
        receive(&mut session, &deliver(2, 0, 4, b"ab"), now),
        Became::Kept
    );
    assert_eq!(
        receive(&mut session, &deliver(1, 1, 10, b"56789"), now),
        Became::Whole(b"0123456789".to_vec())
    );
    assert_eq!(
        receive(&mut session, &deliver(2, 1, 4, b"cd"), now),
        Became::Whole(b"abcd".to_vec())
    );
    assert_eq!(session.lost(), 0);
}

#[test]
fn messages_without_room_are_lost_and_harm_nothing_else() {
    let (mut session, now) = opened(config());
    let (part, half) = ([0; 20], [0; 40]);
    assert_eq!(
        receive(&mut session, &deliver(1, 0, 101, &part), now),
        Became::Lost,
        "longer than a message"
    );
    assert_eq!(
        receive(&mut session, &deliver(1, 1, 101, &part), now),
        Became::Kept,
        "its rest is not missed"
    );
    assert_eq!(
        receive(&mut session, &deliver(2, 0, 40, &part), now),
        Became::Kept
    );
    assert_eq!(
        receive(&mut session, &deliver(3, 0, 80, &half), now),
        Became::Lost,
        "more bytes than there is room"
    );
    assert_eq!(
        receive(&mut session, &deliver(4, 0, 30, &part[..1]), now),
        Became::Kept
    );
    assert_eq!(
        receive(&mut session, &deliver(5, 0, 30, &part[..1]), now),
        Became::Lost,
        "one message too many"
    );
    assert_eq!(
        receive(&mut session, &deliver(4, 2, 30, &part[..1]), now),
        Became::Lost,
        "a part is missing"
    );
    assert_eq!(
        receive(&mut session, &deliver(2, 1, 40, &part), now),
        Became::Whole(half.to_vec())
    );
    // The room of all of them has come back.
    assert_eq!(
        receive(&mut session, &deliver(6, 0, 60, &half), now),
        Became::Kept
    );
    assert_eq!(session.lost(), 4);
}

#[test]
fn unfinished_messages_expire_and_their_room_comes_back() {
    let (mut session, now) = opened(Config {
        partial_idle_max: Duration::from_secs(5),
        ..config()
    });
    assert_eq!(
        receive(&mut session, &deliver(1, 0, 80, &[0; 40]), now),
        Became::Kept
    );
    assert_eq!(session.next_deadline(), now + Duration::from_secs(5));
    assert_eq!(
        receive(
            &mut session,
            &deliver(2, 0, 20, &[0; 10]),
            now + Duration::from_secs(4)
        ),
        Became::Kept
    );
    let later = now + Duration::from_secs(5);
    assert_eq!(session.on_timeout(later), Due::Nothing);
    assert_eq!(session.lost(), 1, "one of the two");
    assert_eq!(
        receive(&mut session, &deliver(3, 0, 80, &[0; 30]), later),
        Became::Kept
    );
    assert_eq!(
        receive(&mut session, &deliver(2, 1, 20, &[0; 10]), later),
        Became::Whole(vec![0; 20])
    );
    assert_eq!(
        receive(&mut session, &deliver(1, 1, 80, &[0; 40]), later),
        Became::Kept,
        "the rest is not missed"
    );
    assert_eq!(session.lost(), 1);
}

#[test]
fn a_new_connection_begins_without_unfinished_messages() {
    let (mut session, now) = opened(config());
    assert_eq!(
        receive(&mut session, &deliver(1, 0, 80, &[0; 40]), now),
        Became::Kept
    );
    session.disconnected();
    session.hello(now);
    let bytes = welcome(1, Limits::default()).to_vec();
    session.on_body(&bytes[LEN_FIELD..], now).unwrap();
    assert_eq!(
        receive(&mut session, &deliver(1, 0, 80, &[0; 40]), now),
        Became::Kept
    );
    assert_eq!(session.lost(), 0);
}

#[test]
fn a_fragment_without_payload_is_the_brokers_fault() {
    let (mut session, now) = opened(config());
    assert_eq!(
        session
            .on_body(&deliver(1, 0, 80, &[])[LEN_FIELD..], now)
            .unwrap_err()
            .code,
        Code::BadFrame
    );
}

#[test]
fn a_promise_of_much_sets_little_aside() {
    let (mut session, now) = opened(Config {
        message_len_max: u64::MAX,
        partial_len_max: u64::MAX,
        ..config()
    });
    assert_eq!(
        receive(&mut session, &deliver(1, 0, u64::MAX, b"x"), now),
        Became::Kept
    );
}

#[test]
fn a_silent_broker_is_asked_and_then_gone() {
    let (mut session, now) = opened(config());
    let timing = Timing::default();
    assert_eq!(session.on_timeout(now + timing.ping_interval), Due::Ping(1));
    session.on_bytes(now + timing.ping_interval);
    assert_eq!(session.next_deadline(), now + timing.ping_interval * 2);
    assert_eq!(
        session.on_timeout(now + timing.ping_interval * 2),
        Due::Ping(2)
    );
    assert!(matches!(
        session.on_timeout(now + timing.ping_interval * 2 + timing.pong_max),
        Due::Gone(_)
    ));
}
