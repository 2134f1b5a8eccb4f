//! The frames that the golden vectors are of, and bytes of later versions.

#![expect(
    clippy::too_many_lines,
    reason = "a list of samples is read entry by entry"
)]

use dialtone_protocol::frame::{
    Action, Addresses, Cancel, Close, Credentials, Deliver, Denied, Drain, Dropped, Ended,
    Fragment, Frame, Hello, Interest, Interested, List, Listed, Message, Pick, Ping, Pong, Publish,
    Published, Refused, Subscribe, Subscribed, Unsubscribe, Unsubscribed, Wanted, Welcome,
    handshake,
};
use dialtone_protocol::{Code, ConnectionId, Limits, RequestId, SubscriptionId};

#[path = "links.rs"]
mod links;

/// What a vector must be.
pub(crate) enum Expected {
    /// Encoded to these bytes and decoded from them.
    Both(Frame<'static>),
    /// Bytes of a later version: decoded to this frame.
    Read(Vec<u8>, Frame<'static>),
    /// Bytes that a broker refuses as a client's first frame with this code.
    Refused(Vec<u8>, Code),
}

use Expected::{Both, Read, Refused as Rejected};

/// What a vector is, and what it must be.
pub(crate) type Sample = (&'static str, Expected);

const REQUEST: RequestId = RequestId(300);

fn hello(credentials: Credentials) -> Hello {
    Hello {
        magic: handshake::MAGIC,
        version_min: 1,
        version_max: 1,
        client: "example/1.0".to_owned(),
        credentials,
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        connection: ConnectionId(42),
        node: "n1".to_owned(),
        server: "dialtone/0.1.0".to_owned(),
        identity: "alice".to_owned(),
        inbox: "_INBOX.n1.2a-0123456789abcdefghijkl".to_owned(),
        limits: Limits::default(),
        ping_interval_ms: 60_000,
        addresses: vec!["wss://b.example:4480/".to_owned()],
    }
}

/// The frame with more bytes at its end, as a later version would append fields.
pub(super) fn extended(frame: &Frame<'_>, more: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    bytes.extend_from_slice(more);
    let len = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes
}

fn handshake_samples() -> Vec<(&'static str, Vec<Sample>)> {
    let token = Credentials::Token("s3cret".to_owned());
    let password = Credentials::Password {
        user: "alice".to_owned(),
        password: "pässword".to_owned(),
    };
    let later = Hello {
        version_max: 7,
        ..hello(token.clone())
    };
    let too_new = Hello {
        version_min: 2,
        version_max: 300,
        ..hello(Credentials::None)
    };
    // Version 2 with a kind of credentials, number 9, that version 1 cannot skip.
    let mut unreadable = extended(&Frame::Hello(too_new.clone()), &[]);
    *unreadable.last_mut().unwrap() = 9;
    let foreign = Hello {
        magic: *b"HTTP",
        ..hello(Credentials::None)
    };
    let hellos = vec![
        (
            "no credentials",
            Both(Frame::Hello(hello(Credentials::None))),
        ),
        ("a token", Both(Frame::Hello(hello(token)))),
        ("a name and a password", Both(Frame::Hello(hello(password)))),
        (
            "a later version that still speaks version 1, with appended fields: they are skipped",
            Read(
                extended(&Frame::Hello(later.clone()), &[0x01, 0xff, 0x00]),
                Frame::Hello(later),
            ),
        ),
        (
            "versions 2 to 300: refused with 426",
            Rejected(Frame::Hello(too_new).to_vec(), Code::UnsupportedVersion),
        ),
        (
            "versions 2 to 300 with credentials of an unknown kind: refused with 426 all the same",
            Rejected(unreadable, Code::UnsupportedVersion),
        ),
        (
            "other magic bytes: refused with 400",
            Rejected(Frame::Hello(foreign).to_vec(), Code::BadFrame),
        ),
    ];
    let open = Welcome {
        version: 1,
        limits: Limits {
            messages_per_second_max: 5_000,
            bytes_per_second_max: 1 << 40,
            ..Limits::default()
        },
        identity: String::new(),
        addresses: Vec::new(),
        ..welcome()
    };
    let welcomes = vec![
        (
            "with another address",
            Both(Frame::Welcome(Box::new(welcome()))),
        ),
        (
            "no identity, no address, and rates",
            Both(Frame::Welcome(Box::new(open))),
        ),
        (
            "a later version with appended fields: they are skipped",
            Read(
                extended(&Frame::Welcome(Box::new(welcome())), &[0x2a]),
                Frame::Welcome(Box::new(welcome())),
            ),
        ),
    ];
    vec![("hello", hellos), ("welcome", welcomes)]
}

fn wanted() -> Vec<Wanted> {
    let wanted = |id, pattern: &str| Wanted {
        id: SubscriptionId(id),
        ..Wanted::new(pattern)
    };
    vec![
        wanted(1, "a.*.c"),
        Wanted {
            group: Some("workers".to_owned()),
            pick: Pick::Segment(2),
            ..wanted(2, "jobs.>")
        },
        Wanted {
            group: Some("g".to_owned()),
            pick: Pick::Subject,
            ..wanted(128, "ä.ö")
        },
        Wanted {
            tap: true,
            drop_oldest: 1_000,
            ..wanted(u32::MAX, ">")
        },
    ]
}

fn refused() -> Refused {
    Refused::new(Code::Denied, "not permitted")
}

fn subscription_samples() -> Vec<(&'static str, Vec<Sample>)> {
    let one = wanted().into_iter().take(1).collect();
    let some_refused = vec![
        (SubscriptionId(2), refused()),
        (
            SubscriptionId(128),
            Refused::new(Code::Other(600), "a code of a later version"),
        ),
    ];
    let ended = Ended {
        subscription: SubscriptionId(2),
        code: Code::Denied,
        text: "permission withdrawn".to_owned(),
    };
    vec![
        (
            "subscribe",
            vec![
                (
                    "one plain subscription",
                    Both(Frame::Subscribe(Subscribe {
                        request: RequestId(1),
                        wanted: one,
                    })),
                ),
                (
                    "plain, grouped by segment 2, grouped by subject, and a tap that drops the oldest of 1000",
                    Both(Frame::Subscribe(Subscribe {
                        request: REQUEST,
                        wanted: wanted(),
                    })),
                ),
            ],
        ),
        (
            "subscribed",
            vec![
                (
                    "all began",
                    Both(Frame::Subscribed(Subscribed {
                        request: RequestId(1),
                        refused: vec![],
                    })),
                ),
                (
                    "two refused",
                    Both(Frame::Subscribed(Subscribed {
                        request: REQUEST,
                        refused: some_refused,
                    })),
                ),
            ],
        ),
        (
            "unsubscribe",
            vec![(
                "subscriptions 1, 128 and 4294967295",
                Both(Frame::Unsubscribe(Unsubscribe {
                    request: REQUEST,
                    ids: [1, 128, u32::MAX].map(SubscriptionId).to_vec(),
                })),
            )],
        ),
        (
            "unsubscribed",
            vec![(
                "request 300",
                Both(Frame::Unsubscribed(Unsubscribed { request: REQUEST })),
            )],
        ),
        (
            "ended",
            vec![("by a withdrawn permission", Both(Frame::Ended(ended)))],
        ),
        (
            "dropped",
            vec![(
                "300 messages of subscription 7",
                Both(Frame::Dropped(Dropped {
                    subscription: SubscriptionId(7),
                    count: 300,
                })),
            )],
        ),
    ]
}

const PLAIN: Message<'static> = Message {
    subject: "a.b.c",
    reply: None,
    encoding: 0,
    headers: None,
    payload: b"\xa5hello",
};

const FULL: Message<'static> = Message {
    subject: "jobs.ä",
    reply: Some("_INBOX.n1.2a-0123456789abcdefghijkl.17"),
    encoding: 1,
    headers: Some(b"{\"k\":1}"),
    payload: b"[1,2]",
};

const FIRST: Fragment = Fragment {
    id: 9,
    index: 0,
    total_len: 300,
};
const LAST: Fragment = Fragment {
    id: u64::MAX,
    index: u32::MAX,
    total_len: 1 << 32,
};

fn message_samples() -> Vec<(&'static str, Vec<Sample>)> {
    let publish = |request, unreliable, fragment, message| {
        Both(Frame::Publish(Publish {
            request,
            unreliable,
            fragment,
            message,
        }))
    };
    let deliver = |subscription, unreliable, fragment, message| {
        Both(Frame::Deliver(Deliver {
            subscription: SubscriptionId(subscription),
            unreliable,
            fragment,
            message,
        }))
    };
    let published = |outcome| {
        Both(Frame::Published(Published {
            request: REQUEST,
            outcome,
        }))
    };
    let empty = Message {
        subject: "a",
        payload: b"",
        ..PLAIN
    };
    vec![
        (
            "publish",
            vec![
                (
                    "a MessagePack string, nothing else",
                    publish(None, false, None, PLAIN),
                ),
                (
                    "acknowledged JSON with reply and headers",
                    publish(Some(REQUEST), false, None, FULL),
                ),
                (
                    "unreliable, without a payload",
                    publish(None, true, None, empty),
                ),
                ("a first fragment", publish(None, false, Some(FIRST), FULL)),
                (
                    "a last fragment with the largest numbers",
                    publish(Some(RequestId(u32::MAX)), false, Some(LAST), PLAIN),
                ),
            ],
        ),
        (
            "published",
            vec![
                ("3 deliveries", published(Ok(3))),
                ("refused", published(Err(refused()))),
            ],
        ),
        (
            "deliver",
            vec![
                (
                    "a MessagePack string for subscription 1",
                    deliver(1, false, None, PLAIN),
                ),
                (
                    "JSON with reply and headers for subscription 300",
                    deliver(300, false, None, FULL),
                ),
                (
                    "unreliable, for the inbox, without a payload",
                    deliver(0, true, None, empty),
                ),
                ("a first fragment", deliver(1, false, Some(FIRST), FULL)),
            ],
        ),
    ]
}

fn question_samples() -> Vec<(&'static str, Vec<Sample>)> {
    let interest = |wait_ms| {
        Both(Frame::Interest(Interest {
            request: REQUEST,
            subject: "a.b".to_owned(),
            wait_ms,
        }))
    };
    let interested = |answer| {
        Both(Frame::Interested(Interested {
            request: REQUEST,
            answer,
        }))
    };
    let listed = |subscriptions, more| {
        Both(Frame::Listed(Listed {
            request: REQUEST,
            subscriptions,
            more,
        }))
    };
    vec![
        (
            "interest",
            vec![
                ("answer at once", interest(0)),
                ("wait for 30 s", interest(30_000)),
            ],
        ),
        (
            "interested",
            vec![
                ("somebody subscribes", interested(Ok(true))),
                ("nobody subscribes", interested(Ok(false))),
                ("refused", interested(Err(refused()))),
            ],
        ),
        (
            "list",
            vec![("request 300", Both(Frame::List(List { request: REQUEST })))],
        ),
        (
            "listed",
            vec![
                ("the first part", listed(wanted(), true)),
                ("the last part, empty", listed(vec![], false)),
            ],
        ),
        (
            "cancel",
            vec![(
                "request 300",
                Both(Frame::Cancel(Cancel { request: REQUEST })),
            )],
        ),
    ]
}

fn control_samples() -> Vec<(&'static str, Vec<Sample>)> {
    let denied = |action, code, text: &str| {
        let (subject, text) = ("a.b".to_owned(), text.to_owned());
        Both(Frame::Denied(Denied {
            action,
            subject,
            code,
            text,
        }))
    };
    let close = |code: Code, text: &str| {
        Both(Frame::Close(Close {
            code,
            text: text.to_owned(),
        }))
    };
    let addresses = vec![
        "quic://b.example:4480".to_owned(),
        "wss://b.example/".to_owned(),
    ];
    vec![
        (
            "ping",
            vec![("token 1", Both(Frame::Ping(Ping { token: 1 })))],
        ),
        (
            "pong",
            vec![(
                "the largest token",
                Both(Frame::Pong(Pong { token: u64::MAX })),
            )],
        ),
        (
            "denied",
            vec![
                (
                    "a publish",
                    denied(Action::Publish, Code::Denied, "not permitted"),
                ),
                (
                    "a subscription",
                    denied(Action::Subscribe, Code::TooMany, "too many"),
                ),
            ],
        ),
        (
            "drain",
            vec![
                (
                    "two addresses, 30 s",
                    Both(Frame::Drain(Drain {
                        addresses: addresses.clone(),
                        grace_ms: 30_000,
                    })),
                ),
                (
                    "nowhere to go",
                    Both(Frame::Drain(Drain {
                        addresses: vec![],
                        grace_ms: 0,
                    })),
                ),
            ],
        ),
        (
            "close",
            vec![
                ("normal", close(Code::Normal, "")),
                ("slow consumer", close(Code::SlowConsumer, "read faster")),
            ],
        ),
        (
            "addresses",
            vec![("two", Both(Frame::Addresses(Addresses { addresses })))],
        ),
    ]
}

/// The samples of each kind, in the order of their files.
pub(crate) fn samples() -> Vec<(&'static str, Vec<Sample>)> {
    let parts = [
        handshake_samples(),
        subscription_samples(),
        message_samples(),
        question_samples(),
        control_samples(),
        links::samples(),
    ];
    parts.into_iter().flatten().collect()
}
