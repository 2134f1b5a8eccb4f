//! The broker's view of one peer: frames in, steps out, at chosen times.

use std::time::{Duration, Instant};

use dialtone_protocol::codec::LEN_FIELD;
use dialtone_protocol::frame::{
    Cancel, Close, Credentials, Drain, Fragment, Frame, Hello, Interest, List, Message, Ping, Pong,
    Publish, Subscribe, Unsubscribe, Unsubscribed, Wanted, handshake,
};
use dialtone_protocol::limits::{
    CREDENTIAL_LEN_MAX, HEADERS_LEN_MAX, HELLO_LEN_MAX, SUBSCRIBE_BATCH_MAX, TEXT_LEN_MAX,
};
use dialtone_protocol::session::server::{Session, Step, frame_len_needed};
use dialtone_protocol::session::{Due, Timing};
use dialtone_protocol::{Code, Limits, RequestId, SubscriptionId, Violation};

#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
fn start() -> Instant {
    Instant::now()
}

fn hello() -> Hello {
    Hello {
        magic: handshake::MAGIC,
        version_min: 1,
        version_max: 1,
        client: "test".to_owned(),
        credentials: Credentials::None,
    }
}

fn opened(limits: Limits) -> (Session, Instant) {
    let now = start();
    let mut session = Session::new(Timing::default(), now);
    assert_eq!(send(&mut session, &Frame::Hello(hello()), now), Ok("hello"));
    session.open(limits, now);
    (session, now)
}

/// The name of the step that a frame leads to.
fn send(session: &mut Session, frame: &Frame<'_>, now: Instant) -> Result<&'static str, Violation> {
    let bytes = frame.to_vec();
    session
        .on_body(&bytes[LEN_FIELD..], now)
        .map(|step| match step {
            Step::Hello(..) => "hello",
            Step::Publish(_) => "publish",
            Step::Subscribe(_) => "subscribe",
            Step::Unsubscribe(_) => "unsubscribe",
            Step::Interest(_) => "interest",
            Step::List(_) => "list",
            Step::Cancel(_) => "cancel",
            Step::Ping(_) => "ping",
            Step::Heard => "heard",
            Step::Close(_) => "close",
        })
}

fn refusal(session: &mut Session, frame: &Frame<'_>, now: Instant) -> Code {
    send(session, frame, now)
        .expect_err("the frame should be refused")
        .code
}

fn publish<'a>(
    payload: &'a [u8],
    headers: Option<&'a [u8]>,
    fragment: Option<Fragment>,
) -> Frame<'a> {
    let message = Message {
        subject: "a",
        reply: None,
        encoding: 0,
        headers,
        payload,
    };
    Frame::Publish(Publish {
        request: None,
        unreliable: false,
        fragment,
        message,
    })
}

const REQUEST: RequestId = RequestId(1);

fn from_clients() -> Vec<(Frame<'static>, &'static str)> {
    let interest = Interest {
        request: REQUEST,
        subject: "a".to_owned(),
        wait_ms: 0,
    };
    vec![
        (publish(b"x", None, None), "publish"),
        (
            Frame::Subscribe(Subscribe {
                request: REQUEST,
                wanted: vec![],
            }),
            "subscribe",
        ),
        (
            Frame::Unsubscribe(Unsubscribe {
                request: REQUEST,
                ids: vec![],
            }),
            "unsubscribe",
        ),
        (Frame::Interest(interest), "interest"),
        (Frame::List(List { request: REQUEST }), "list"),
        (Frame::Cancel(Cancel { request: REQUEST }), "cancel"),
        (Frame::Ping(Ping { token: 1 }), "ping"),
        (Frame::Pong(Pong { token: 1 }), "heard"),
        (
            Frame::Close(Close {
                code: Code::Normal,
                text: String::new(),
            }),
            "close",
        ),
    ]
}

#[test]
fn every_frame_of_a_client_leads_to_its_step() {
    for (frame, step) in from_clients() {
        let (mut session, now) = opened(Limits::default());
        assert_eq!(send(&mut session, &frame, now), Ok(step));
    }
}

#[test]
fn before_the_welcome_only_hello_and_close_have_a_place() {
    for (frame, step) in from_clients()
        .into_iter()
        .filter(|(_, step)| *step != "close")
    {
        let now = start();
        let mut session = Session::new(Timing::default(), now);
        assert_eq!(
            refusal(&mut session, &frame, now),
            Code::BadFrame,
            "{step} as the first frame"
        );
        assert_eq!(send(&mut session, &Frame::Hello(hello()), now), Ok("hello"));
        assert_eq!(
            refusal(&mut session, &frame, now),
            Code::BadFrame,
            "{step} before the welcome"
        );
        assert!(!session.is_open());
    }
}

#[test]
fn hellos_and_frames_of_a_broker_are_out_of_place() {
    let (mut session, now) = opened(Limits::default());
    let drain = Frame::Drain(Drain {
        addresses: vec![],
        grace_ms: 0,
    });
    for frame in [
        Frame::Hello(hello()),
        drain,
        Frame::Unsubscribed(Unsubscribed { request: REQUEST }),
    ] {
        assert_eq!(
            refusal(&mut session, &frame, now),
            Code::BadFrame,
            "{}",
            frame.name()
        );
    }
}

#[test]
fn nothing_follows_a_close() {
    let (mut session, now) = opened(Limits::default());
    let close = Frame::Close(Close {
        code: Code::Normal,
        text: String::new(),
    });
    assert_eq!(send(&mut session, &close, now), Ok("close"));
    for (frame, _) in from_clients() {
        assert_eq!(
            refusal(&mut session, &frame, now),
            Code::BadFrame,
            "{}",
            frame.name()
        );
    }
}

#[test]
fn a_hello_has_bounds() {
    let long = "x".repeat(CREDENTIAL_LEN_MAX + 1);
    let with = |credentials| Hello {
        credentials,
        ..hello()
    };
    let too_large = [
        with(Credentials::Token(long.clone())),
        with(Credentials::Password {
            user: long.clone(),
            password: String::new(),
        }),
        with(Credentials::Password {
            user: String::new(),
            password: long,
        }),
        Hello {
            client: "x".repeat(TEXT_LEN_MAX + 1),
            ..hello()
        },
    ];
    let now = start();
    for hello in too_large {
        let mut session = Session::new(Timing::default(), now);
        assert_eq!(
            refusal(&mut session, &Frame::Hello(hello), now),
            Code::TooLarge
        );
    }
    let longest = "x".repeat(CREDENTIAL_LEN_MAX);
    let largest = Hello {
        client: "x".repeat(TEXT_LEN_MAX),
        ..with(Credentials::Password {
            user: longest.clone(),
            password: longest,
        })
    };
    let mut session = Session::new(Timing::default(), now);
    let frame = Frame::Hello(largest);
    assert!(frame.to_vec().len() <= session.frame_len_max() as usize);
    assert_eq!(send(&mut session, &frame, now), Ok("hello"));
}

#[test]
fn what_is_read_grows_with_the_welcome() {
    let now = start();
    let mut session = Session::new(Timing::default(), now);
    assert_eq!(session.frame_len_max(), HELLO_LEN_MAX);
    send(&mut session, &Frame::Hello(hello()), now).unwrap();
    assert_eq!(session.frame_len_max(), HELLO_LEN_MAX);
    session.open(
        Limits {
            frame_len_max: 500_000,
            ..Limits::default()
        },
        now,
    );
    assert_eq!(session.frame_len_max(), 500_000);
    assert!(frame_len_needed(&Limits::default()) <= Limits::default().frame_len_max.into());
}

#[test]
fn the_version_is_the_newest_that_both_speak() {
    let now = start();
    let mut session = Session::new(Timing::default(), now);
    let bytes = Frame::Hello(Hello {
        version_max: 9,
        ..hello()
    })
    .to_vec();
    assert!(matches!(
        session.on_body(&bytes[LEN_FIELD..], now),
        Ok(Step::Hello(1, _))
    ));
    let mut session = Session::new(Timing::default(), now);
    let too_new = Frame::Hello(Hello {
        version_min: 2,
        version_max: 9,
        ..hello()
    });
    assert_eq!(
        refusal(&mut session, &too_new, now),
        Code::UnsupportedVersion
    );
}

#[test]
fn batches_have_a_bound() {
    let (mut session, now) = opened(Limits {
        frame_len_max: 1 << 20,
        ..Limits::default()
    });
    let subscribe = |len| {
        Frame::Subscribe(Subscribe {
            request: REQUEST,
            wanted: vec![Wanted::new("a"); len],
        })
    };
    let unsubscribe = |len| {
        Frame::Unsubscribe(Unsubscribe {
            request: REQUEST,
            ids: vec![SubscriptionId(1); len],
        })
    };
    assert!(send(&mut session, &subscribe(SUBSCRIBE_BATCH_MAX), now).is_ok());
    assert!(send(&mut session, &unsubscribe(SUBSCRIBE_BATCH_MAX), now).is_ok());
    assert_eq!(
        refusal(&mut session, &subscribe(SUBSCRIBE_BATCH_MAX + 1), now),
        Code::TooLarge
    );
    assert_eq!(
        refusal(&mut session, &unsubscribe(SUBSCRIBE_BATCH_MAX + 1), now),
        Code::TooLarge
    );
}

#[test]
fn messages_have_bounds() {
    let limits = Limits {
        message_len_max: 100,
        fragment_len_max: 10,
        ..Limits::default()
    };
    let (mut session, now) = opened(limits);
    let part = |index, total_len| {
        Some(Fragment {
            id: 1,
            index,
            total_len,
        })
    };
    let headers = vec![b' '; HEADERS_LEN_MAX + 1];
    assert!(
        send(
            &mut session,
            &publish(&[0; 10], Some(&headers[1..]), None),
            now
        )
        .is_ok()
    );
    assert!(send(&mut session, &publish(&[0; 10], None, part(0, 100)), now).is_ok());
    for frame in [
        publish(&[0; 11], None, None),
        publish(&[0; 11], None, part(0, 100)),
        publish(&[0; 10], None, part(0, 101)),
        publish(&[], Some(&headers), None),
    ] {
        assert_eq!(refusal(&mut session, &frame, now), Code::TooLarge);
    }
    let (mut session, now) = opened(Limits {
        message_len_max: 5,
        ..Limits::default()
    });
    assert_eq!(
        refusal(&mut session, &publish(&[0; 6], None, None), now),
        Code::TooLarge
    );
}

#[test]
fn later_fragments_cannot_carry_what_receivers_would_choke_on() {
    let (mut session, now) = opened(Limits::default());
    for (index, code) in [(0, None), (1, Some(Code::InvalidSubject))] {
        let mut bytes = publish(
            b"x",
            None,
            Some(Fragment {
                id: 1,
                index,
                total_len: 9,
            }),
        )
        .to_vec();
        let at = bytes.iter().rposition(|&byte| byte == b'a').unwrap();
        bytes[at] = 0xff;
        let judged = session.on_body(&bytes[LEN_FIELD..], now);
        assert_eq!(
            judged.err().map(|violation| violation.code),
            code,
            "fragment {index}"
        );
    }
}

#[test]
fn messages_and_bytes_have_rates() {
    let (mut session, now) = opened(Limits {
        messages_per_second_max: 2,
        bytes_per_second_max: 100,
        ..Limits::default()
    });
    let frame = publish(b"x", None, None);
    let after = |millis| now + Duration::from_millis(millis);
    assert!(send(&mut session, &frame, now).is_ok());
    assert!(send(&mut session, &frame, now).is_ok());
    assert_eq!(session.throttled_until(), None);
    assert!(
        send(&mut session, &Frame::Ping(Ping { token: 1 }), now).is_ok(),
        "only messages count"
    );
    assert!(send(&mut session, &frame, now).is_ok());
    assert_eq!(session.throttled_until(), Some(after(500)));
    for _ in 0..19 {
        assert!(send(&mut session, &frame, now).is_ok());
    }
    assert_eq!(session.throttled_until(), Some(after(10_000)));
    assert_eq!(refusal(&mut session, &frame, now), Code::TooMany);

    assert_eq!(session.on_bytes(1_100, now), Ok(()));
    assert_eq!(session.on_bytes(1, now).unwrap_err().code, Code::TooMany);
    assert_eq!(session.throttled_until(), Some(after(10_500)));
    assert_eq!(session.on_bytes(50, after(600)), Ok(()));
    assert_eq!(session.read_len_max(), Some(4_096));
}

#[test]
fn garbage_is_refused_in_every_state() {
    let (mut session, now) = opened(Limits::default());
    let mut fresh = Session::new(Timing::default(), now);
    for body in [
        &[][..],
        &[22],
        &[255, 255],
        &[6],
        &[6, 2],
        &[0, b'D'],
        &[13],
        &[13, 1, 1],
    ] {
        assert_eq!(
            session.on_body(body, now).unwrap_err().code,
            Code::BadFrame,
            "{body:?}"
        );
        assert_eq!(
            fresh.on_body(body, now).unwrap_err().code,
            Code::BadFrame,
            "{body:?}"
        );
    }
}

#[test]
fn a_handshake_must_end_in_time() {
    let now = start();
    let mut session = Session::new(Timing::default(), now);
    session.on_bytes(10, now + Duration::from_secs(9)).unwrap();
    let deadline = session.next_deadline();
    assert_eq!(deadline, now + Timing::default().handshake_max);
    assert!(
        matches!(session.on_timeout(deadline), Due::Gone(violation) if violation.code == Code::Timeout)
    );
}

#[test]
fn a_silent_peer_is_asked_and_then_gone() {
    let (mut session, _) = opened(Limits::default());
    assert_eq!(session.on_timeout(session.next_deadline()), Due::Ping(1));
    let answered = session.next_deadline();
    session.on_bytes(5, answered).unwrap();
    assert_eq!(session.on_timeout(answered), Due::Nothing);
    assert_eq!(session.on_timeout(session.next_deadline()), Due::Ping(2));
    assert!(matches!(
        session.on_timeout(session.next_deadline()),
        Due::Gone(_)
    ));
}
