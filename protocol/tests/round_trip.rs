//! Every frame survives the wire, the hand-written encodings are postcard's, and no bytes whatever
//! make decoding panic.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use dialtone_protocol::codec::{LEN_FIELD, missing, split_frame};
use dialtone_protocol::frame::message::{
    DeliverView, PublishView, decode_section, put_deliver, put_deliver_prefix,
};
use dialtone_protocol::frame::{
    Action, Addresses, Cancel, Close, Credentials, Deliver, Denied, Drain, Dropped, Ended,
    Fragment, Frame, Hello, Interest, Interested, Link, List, Listed, Message, Pick, Ping, Pong,
    Publish, Published, Refused, Subscribe, Subscribed, Unsubscribe, Unsubscribed, Wanted, Welcome,
    handshake,
};
use dialtone_protocol::limits::{
    GROUP_LEN_MAX, HEAD_LEN_MAX, HEADERS_LEN_MAX, SUBJECT_LEN_MAX, TEXT_LEN_MAX,
};
use dialtone_protocol::{Code, ConnectionId, Limits, RequestId, SubscriptionId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[path = "round_trip/links.rs"]
mod links;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z.>*]{0,12}", ".{0,200}"]
}

fn code() -> impl Strategy<Value = Code> {
    prop_oneof![400_u16..515, any::<u16>()].prop_map(Code::from_number)
}

fn refused() -> impl Strategy<Value = Refused> {
    (code(), text()).prop_map(|(code, text)| Refused { code, text })
}

fn request() -> impl Strategy<Value = RequestId> {
    prop_oneof![0_u32..300, any::<u32>()].prop_map(RequestId)
}

fn subscription() -> impl Strategy<Value = SubscriptionId> {
    prop_oneof![0_u32..300, any::<u32>()].prop_map(SubscriptionId)
}

fn fragment() -> impl Strategy<Value = Fragment> {
    let edges = || prop_oneof![0_u64..300, any::<u64>(), Just(u64::MAX)];
    (edges(), any::<u32>(), edges()).prop_map(|(id, index, total_len)| Fragment {
        id,
        index,
        total_len,
    })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let pick = prop_oneof![
        Just(Pick::Any),
        Just(Pick::Subject),
        any::<u8>().prop_map(Pick::Segment)
    ];
    (
        subscription(),
        text(),
        option::of(text()),
        pick,
        any::<bool>(),
        any::<u16>(),
    )
        .prop_map(|(id, pattern, group, pick, tap, drop_oldest)| Wanted {
            id,
            pattern,
            group,
            pick,
            tap,
            drop_oldest,
        })
}

fn limits() -> impl Strategy<Value = Limits> {
    (any::<(u32, u64, u32, u16)>(), any::<(u32, u32, u32, u64)>()).prop_map(|(one, two)| Limits {
        frame_len_max: one.0,
        message_len_max: one.1,
        fragment_len_max: one.2,
        fragmented_max: one.3,
        subscriptions_max: two.0,
        requests_max: two.1,
        messages_per_second_max: two.2,
        bytes_per_second_max: two.3,
    })
}

fn hello() -> impl Strategy<Value = Frame<'static>> {
    let credentials = prop_oneof![
        Just(Credentials::None),
        text().prop_map(Credentials::Token),
        (text(), text()).prop_map(|(user, password)| Credentials::Password { user, password }),
    ];
    (any::<u16>(), any::<u16>(), text(), credentials).prop_map(
        |(version_min, version_max, client, credentials)| {
            Frame::Hello(Hello {
                magic: handshake::MAGIC,
                version_min,
                version_max,
                client,
                credentials,
            })
        },
    )
}

fn welcome() -> impl Strategy<Value = Frame<'static>> {
    let texts = (text(), text(), text(), text());
    (any::<(u16, u64, u32)>(), texts, limits(), vec(text(), 0..4)).prop_map(
        |(numbers, texts, limits, addresses)| {
            Frame::Welcome(Box::new(Welcome {
                version: numbers.0,
                connection: ConnectionId(numbers.1),
                node: texts.0,
                server: texts.1,
                identity: texts.2,
                inbox: texts.3,
                limits,
                ping_interval_ms: numbers.2,
                addresses,
            }))
        },
    )
}

fn questions() -> impl Strategy<Value = Frame<'static>> {
    let ids = || vec(subscription(), 0..5);
    prop_oneof![
        (request(), vec(wanted(), 0..4))
            .prop_map(|(request, wanted)| Frame::Subscribe(Subscribe { request, wanted })),
        (request(), ids())
            .prop_map(|(request, ids)| Frame::Unsubscribe(Unsubscribe { request, ids })),
        (request(), text(), any::<u32>()).prop_map(|(request, subject, wait_ms)| Frame::Interest(
            Interest {
                request,
                subject,
                wait_ms
            }
        )),
        request().prop_map(|request| Frame::List(List { request })),
        request().prop_map(|request| Frame::Cancel(Cancel { request })),
    ]
}

fn answers() -> impl Strategy<Value = Frame<'static>> {
    let outcome = prop_oneof![any::<u32>().prop_map(Ok), refused().prop_map(Err)];
    let answer = prop_oneof![any::<bool>().prop_map(Ok), refused().prop_map(Err)];
    prop_oneof![
        (request(), vec((subscription(), refused()), 0..4))
            .prop_map(|(request, refused)| Frame::Subscribed(Subscribed { request, refused })),
        request().prop_map(|request| Frame::Unsubscribed(Unsubscribed { request })),
        (request(), outcome)
            .prop_map(|(request, outcome)| Frame::Published(Published { request, outcome })),
        (request(), answer)
            .prop_map(|(request, answer)| Frame::Interested(Interested { request, answer })),
        (request(), vec(wanted(), 0..4), any::<bool>()).prop_map(
            |(request, subscriptions, more)| Frame::Listed(Listed {
                request,
                subscriptions,
                more
            })
        ),
    ]
}

fn notices() -> impl Strategy<Value = Frame<'static>> {
    let action = prop_oneof![Just(Action::Publish), Just(Action::Subscribe)];
    prop_oneof![
        any::<u64>().prop_map(|token| Frame::Ping(Ping { token })),
        any::<u64>().prop_map(|token| Frame::Pong(Pong { token })),
        (action, text(), refused()).prop_map(|(action, subject, Refused { code, text })| {
            Frame::Denied(Denied {
                action,
                subject,
                code,
                text,
            })
        }),
        (subscription(), refused()).prop_map(|(subscription, Refused { code, text })| {
            Frame::Ended(Ended {
                subscription,
                code,
                text,
            })
        }),
        (subscription(), any::<u64>()).prop_map(|(subscription, count)| Frame::Dropped(Dropped {
            subscription,
            count
        })),
        (vec(text(), 0..4), any::<u32>()).prop_map(|(addresses, grace_ms)| Frame::Drain(Drain {
            addresses,
            grace_ms
        })),
        refused().prop_map(|Refused { code, text }| Frame::Close(Close { code, text })),
        vec(text(), 0..4).prop_map(|addresses| Frame::Addresses(Addresses { addresses })),
    ]
}

/// Every kind without a payload.
fn control() -> impl Strategy<Value = Frame<'static>> {
    prop_oneof![
        1 => hello(), 1 => welcome(), 4 => questions(), 4 => answers(), 6 => notices(), 4 => links::frames()
    ]
}

/// What a message frame borrows from.
#[derive(Debug, Clone)]
struct Owned {
    subject: String,
    reply: Option<String>,
    encoding: u8,
    headers: Option<Vec<u8>>,
    payload: Vec<u8>,
}

impl Owned {
    fn message(&self) -> Message<'_> {
        Message {
            subject: &self.subject,
            reply: self.reply.as_deref(),
            encoding: self.encoding,
            headers: self.headers.as_deref(),
            payload: &self.payload,
        }
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    let bytes = || vec(any::<u8>(), 0..300);
    (
        text(),
        option::of(text()),
        any::<u8>(),
        option::of(bytes()),
        bytes(),
    )
        .prop_map(|(subject, reply, encoding, headers, payload)| Owned {
            subject,
            reply,
            encoding,
            headers,
            payload,
        })
}

/// What stands before the message in either frame.
#[derive(Debug, Clone, Copy)]
struct Around {
    request: Option<RequestId>,
    subscription: SubscriptionId,
    unreliable: bool,
    fragment: Option<Fragment>,
}

impl Around {
    fn publish<'a>(&self, message: Message<'a>) -> Publish<'a> {
        Publish {
            request: self.request,
            unreliable: self.unreliable,
            fragment: self.fragment,
            message,
        }
    }

    fn deliver<'a>(&self, message: Message<'a>) -> Deliver<'a> {
        Deliver {
            subscription: self.subscription,
            unreliable: self.unreliable,
            fragment: self.fragment,
            message,
        }
    }
}

fn around() -> impl Strategy<Value = Around> {
    (
        option::of(request()),
        subscription(),
        any::<bool>(),
        option::of(fragment()),
    )
        .prop_map(|(request, subscription, unreliable, fragment)| Around {
            request,
            subscription,
            unreliable,
            fragment,
        })
}

/// The body of a frame's bytes, which must hold exactly that frame.
fn body(bytes: &[u8]) -> &[u8] {
    let (body, len) = split_frame(bytes, u32::MAX).unwrap().unwrap();
    assert_eq!((len, missing(bytes)), (bytes.len(), 0));
    body
}

/// What postcard makes of a body whose kind is publish or deliver: the head, then the payload.
fn by_postcard(body: &[u8]) -> Option<Frame<'_>> {
    let (mut frame, rest) = postcard::take_from_bytes::<Frame<'_>>(body).ok()?;
    match &mut frame {
        Frame::Publish(publish) => publish.message.payload = rest,
        Frame::Deliver(deliver) => deliver.message.payload = rest,
        other => panic!("a {} frame has no payload", other.name()),
    }
    Some(frame)
}

fn check_message_frame(frame: &Frame<'_>, payload: &[u8]) {
    let bytes = frame.to_vec();
    let head = postcard::to_allocvec(frame).unwrap();
    assert_eq!(body(&bytes), [&head, payload].concat());
    assert_eq!(&Frame::decode(body(&bytes)).unwrap(), frame);
    for end in 0..head.len() {
        assert!(
            Frame::decode(&head[..end]).is_err(),
            "the head cut after {end} bytes"
        );
    }
}

/// Changes, inserts or removes a byte, or leaves all as it is.
fn disturb(bytes: &mut Vec<u8>, at: usize, with: u8, how: u8) {
    let at = at % (bytes.len() + 1);
    match how % 4 {
        0 if at < bytes.len() => bytes[at] = with,
        1 => bytes.insert(at, with),
        2 if at < bytes.len() => _ = bytes.remove(at),
        _ => {}
    }
}

proptest! {
    #[test]
    fn control_frames_are_what_postcard_makes_of_them(frame in control()) {
        let bytes = frame.to_vec();
        prop_assert_eq!(body(&bytes), postcard::to_allocvec(&frame).unwrap());
        prop_assert_eq!(Frame::decode(body(&bytes)).unwrap(), frame);
    }

    #[test]
    fn a_control_frame_is_exact(frame in control(), extra in any::<u8>()) {
        let mut bytes = frame.to_vec();
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            prop_assert_eq!(split_frame(cut, u32::MAX), Ok(None));
            prop_assert!(missing(cut) > 0);
            prop_assert!(end < LEN_FIELD || Frame::decode(&cut[LEN_FIELD..]).is_err(), "cut after {} bytes", end);
        }
        bytes.push(extra);
        let longer = Frame::decode(&bytes[LEN_FIELD..]);
        let extensible = matches!(
            frame,
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Link(Link::Hello(_))
        );
        prop_assert_eq!(longer.is_ok(), extensible);
        prop_assert!(longer.is_err() || longer == Ok(frame));
    }

    #[test]
    fn message_frames_are_what_postcard_makes_of_them(owned in owned(), around in around()) {
        let message = owned.message();
        check_message_frame(&Frame::Publish(around.publish(message)), message.payload);
        check_message_frame(&Frame::Deliver(around.deliver(message)), message.payload);
    }

    #[test]
    fn the_view_of_a_publish_agrees_with_the_publish(owned in owned(), around in around()) {
        let message = owned.message();
        let bytes = Frame::Publish(around.publish(message)).to_vec();
        prop_assert!(PublishView::is_publish(body(&bytes)));
        let view = PublishView::decode(body(&bytes)).unwrap();
        prop_assert_eq!((view.request, view.unreliable, view.fragment), (around.request, around.unreliable, around.fragment));
        prop_assert_eq!((view.subject, view.reply), (message.subject.as_bytes(), message.reply));
        prop_assert_eq!(view.encoding, message.encoding);
        prop_assert_eq!(view.headers_len, message.headers.map_or(0, <[u8]>::len));
        prop_assert_eq!(view.payload_len, message.payload.len());
        prop_assert_eq!(decode_section(view.section).unwrap(), message);

        let deliver = Frame::Deliver(around.deliver(message)).to_vec();
        let mut passed_on = Vec::new();
        put_deliver(&mut passed_on, around.subscription, around.unreliable, around.fragment, view.section);
        prop_assert_eq!(&passed_on, &deliver);
        let mut in_two = Vec::new();
        put_deliver_prefix(&mut in_two, around.subscription, around.unreliable, around.fragment, view.section.len());
        in_two.extend_from_slice(view.section);
        prop_assert_eq!(&in_two, &deliver);
    }

    #[test]
    fn the_view_of_a_deliver_agrees_with_the_deliver(
        owned in owned(), around in around(), changes in vec(any::<(usize, u8, u8)>(), 0..4),
    ) {
        let message = owned.message();
        let bytes = Frame::Deliver(around.deliver(message)).to_vec();
        let mut body = body(&bytes).to_vec();
        for &(at, with, how) in &changes {
            disturb(&mut body, at % 48, with, how);
        }
        let Ok(view) = DeliverView::decode(&body) else {
            prop_assert!(!matches!(Frame::decode(&body), Ok(Frame::Deliver(_))));
            return Ok(());
        };
        prop_assert!(DeliverView::is_deliver(&body));
        // A view leaves it open whether the subject is text; nodes check it before they use it.
        let Ok(Frame::Deliver(deliver)) = Frame::decode(&body) else {
            prop_assert!(std::str::from_utf8(view.subject).is_err());
            return Ok(());
        };
        prop_assert_eq!((view.subscription, view.unreliable), (deliver.subscription, deliver.unreliable));
        prop_assert_eq!(view.fragment, deliver.fragment);
        prop_assert_eq!(view.subject, deliver.message.subject.as_bytes());
        prop_assert_eq!(view.payload_len, deliver.message.payload.len());
        prop_assert_eq!(decode_section(view.section).unwrap(), deliver.message);
    }

    #[test]
    fn hand_written_decoding_is_postcards_on_disturbed_bytes(
        owned in owned(), around in around(), changes in vec(any::<(usize, u8, u8)>(), 1..4),
    ) {
        let message = owned.message();
        for (kind, frame) in [(6, Frame::Publish(around.publish(message))), (8, Frame::Deliver(around.deliver(message)))] {
            let bytes = frame.to_vec();
            let mut body = body(&bytes).to_vec();
            for &(at, with, how) in &changes {
                // Most of a long frame is payload; the head is the part worth disturbing.
                disturb(&mut body, at % 48, with, how);
            }
            if body.first() == Some(&kind) {
                prop_assert_eq!(Frame::decode(&body).ok(), by_postcard(&body));
            }
        }
    }

    #[test]
    fn the_view_reads_what_the_broker_may_pass_on(
        owned in owned(), around in around(), changes in vec(any::<(usize, u8, u8)>(), 1..4),
    ) {
        let bytes = Frame::Publish(around.publish(owned.message())).to_vec();
        let mut body = body(&bytes).to_vec();
        for (at, with, how) in changes {
            disturb(&mut body, at % 48, with, how);
        }
        // The view leaves it to the look-up of the subject whether that is UTF-8.
        let view = PublishView::decode(&body).ok().filter(|view| std::str::from_utf8(view.subject).is_ok());
        match (view, Frame::decode(&body)) {
            (Some(view), Ok(Frame::Publish(publish))) => {
                prop_assert_eq!(decode_section(view.section).unwrap(), publish.message);
                prop_assert_eq!((view.request, view.fragment), (publish.request, publish.fragment));
            }
            (None, Ok(Frame::Publish(publish))) => prop_assert!(false, "the view refuses {publish:?}"),
            (Some(view), other) => prop_assert!(false, "the view reads {view:?} and the frame {other:?}"),
            (None, _) => {}
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(kind in 0_u8..24, mut bytes in vec(any::<u8>(), 0..400)) {
        let _as_they_are = (Frame::decode(&bytes), split_frame(&bytes, 1 << 20), missing(&bytes));
        bytes.insert(0, kind);
        let _as_a_kind = (Frame::decode(&bytes), PublishView::decode(&bytes), decode_section(&bytes));
        let _versions = handshake::offered_versions(&bytes);
    }

    #[test]
    fn what_is_decoded_is_encoded_to_the_same_frame(kind in 0_u8..22, mut bytes in vec(0_u8..4, 0..60)) {
        bytes.insert(0, kind);
        if let Ok(frame) = Frame::decode(&bytes) {
            let again = frame.to_vec();
            prop_assert_eq!(Frame::decode(body(&again)).unwrap(), frame);
        }
    }

    #[test]
    fn a_subscription_takes_no_more_room_than_it_says(wanted in wanted()) {
        prop_assert!(postcard::to_allocvec(&wanted).unwrap().len() <= wanted.wire_len_max());
    }
}

#[test]
fn the_head_of_the_longest_message_has_room() {
    let (subject, headers) = ("s".repeat(SUBJECT_LEN_MAX), vec![0; HEADERS_LEN_MAX]);
    let message = Message {
        subject: &subject,
        reply: Some(&subject),
        encoding: 255,
        headers: Some(&headers),
        payload: &[],
    };
    let fragment = Some(Fragment {
        id: u64::MAX,
        index: u32::MAX,
        total_len: u64::MAX,
    });
    let publish = Publish {
        request: Some(RequestId(u32::MAX)),
        unreliable: true,
        fragment,
        message,
    };
    let deliver = Deliver {
        subscription: SubscriptionId(u32::MAX),
        unreliable: true,
        fragment,
        message,
    };
    let texts = 2 * SUBJECT_LEN_MAX + HEADERS_LEN_MAX;
    for frame in [Frame::Publish(publish), Frame::Deliver(deliver)] {
        assert!(frame.to_vec().len() <= texts + HEAD_LEN_MAX as usize);
    }
}

#[test]
fn a_subscription_is_judged_by_itself() {
    let wanted = |id, pattern: &str, group: Option<&str>| Wanted {
        id: SubscriptionId(id),
        group: group.map(str::to_owned),
        ..Wanted::new(pattern)
    };
    let code = |wanted: Wanted| wanted.check().map_err(|refused| refused.code);
    assert_eq!(code(wanted(1, "a.*", Some("g"))), Ok(()));
    assert_eq!(code(wanted(0, "a.*", None)), Err(Code::Conflict));
    assert_eq!(code(wanted(1, "a..b", None)), Err(Code::InvalidSubject));
    assert_eq!(code(wanted(1, "a", Some(""))), Err(Code::InvalidSubject));
    assert_eq!(
        code(wanted(1, "a", Some(&"g".repeat(GROUP_LEN_MAX + 1)))),
        Err(Code::InvalidSubject)
    );
}

#[test]
fn texts_of_refusals_are_shortened_between_characters() {
    let refused = Refused::new(Code::Denied, "ä".repeat(TEXT_LEN_MAX));
    assert_eq!(refused.text.len(), TEXT_LEN_MAX);
    let refused = Refused::new(Code::Denied, "a".to_owned() + &"ä".repeat(TEXT_LEN_MAX));
    assert_eq!(refused.text.len(), TEXT_LEN_MAX - 1);
}
