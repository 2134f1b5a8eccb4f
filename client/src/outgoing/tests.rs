//! What enters the queue, in which order it leaves, and what survives a lost connection.

use dialtone_protocol::Code;
use proptest::prelude::*;

use super::*;

fn outbound<'a>(to: &'a str, payload: impl Into<Payload<'a>>) -> Outbound<'a> {
    Outbound {
        to: to.into(),
        reply: Reply::None,
        encoding: 0,
        headers: None,
        unreliable: false,
        request: None,
        payload: payload.into(),
    }
}

fn online(len_max: usize) -> Outgoing {
    let mut outgoing = Outgoing::new(len_max);
    let limits = Limits {
        fragment_len_max: 64 << 10,
        message_len_max: 1 << 20,
        ..Limits::default()
    };
    outgoing.online("_INBOX.n.1-s", &limits, Some(1_200));
    outgoing
}

fn drain(outgoing: &mut Outgoing) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut batch = Batch::new();
        outgoing.fill(&mut batch, 1 << 20, true);
        if batch.is_empty() {
            return bytes;
        }
        while let Some(chunk) = batch.pop() {
            bytes.extend_from_slice(&chunk);
        }
    }
}

/// Kind or subject, reply, fragment index and payload length of each frame.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other kinds are named alike"
)]
fn summary(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((body, len)) = split_frame(bytes, u32::MAX).unwrap() {
        all.push(match Frame::decode(body).unwrap() {
            Frame::Publish(publish) => {
                let index = publish
                    .fragment
                    .map_or(String::new(), |fragment| format!("#{}", fragment.index));
                let request = publish
                    .request
                    .map_or(String::new(), |request| format!("?{request}"));
                let reply = publish
                    .message
                    .reply
                    .map_or(String::new(), |reply| format!(">{reply}"));
                format!(
                    "{}{index}{request}{reply}={}",
                    publish.message.subject,
                    publish.message.payload.len()
                )
            }
            other => other.name().to_owned(),
        });
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty(), "only whole frames are taken");
    all
}

#[test]
fn order_is_kept_whether_payloads_are_copied_or_shared() {
    let mut outgoing = online(16 << 20);
    for n in 0..6 {
        let payload = if n % 2 == 0 {
            vec![0; 8]
        } else {
            vec![1; 20_000]
        };
        outgoing
            .push(&outbound(&format!("a.{n}"), payload))
            .unwrap();
    }
    let expected = [
        "a.0=8",
        "a.1=20000",
        "a.2=8",
        "a.3=20000",
        "a.4=8",
        "a.5=20000",
    ];
    assert_eq!(summary(&drain(&mut outgoing)), expected);
    assert_eq!(outgoing.len(), 0);
}

#[test]
fn fragments_take_turns_with_small_messages_and_pings_stay_behind() {
    let mut outgoing = online(16 << 20);
    let mut large = outbound("large", vec![7; 150_000]);
    large.request = Some(RequestId(5));
    outgoing.push(&large).unwrap();
    outgoing.push_last_ping(1);
    outgoing.push(&outbound("small", b"x")).unwrap();
    let expected = [
        "small=1",
        "large#0=65536",
        "large#1=65536",
        "large#2?5=18928",
        "ping",
    ];
    assert_eq!(summary(&drain(&mut outgoing)), expected);
    assert_eq!(outgoing.len(), 0);
}

#[test]
fn a_full_queue_refuses_until_half_of_it_has_left() {
    let mut outgoing = online(1_000);
    outgoing
        .push(&outbound("a", vec![0; 2_000]))
        .expect("a single message may be larger than the queue");
    assert!(matches!(
        outgoing.push(&outbound("a", b"x")),
        Err(Hindrance::Full)
    ));
    let mut batch = Batch::new();
    assert!(
        outgoing.fill(&mut batch, 1 << 20, true),
        "whoever waits is told"
    );
    outgoing.push(&outbound("a", b"x")).unwrap();
}

#[test]
fn what_belongs_to_a_connection_leaves_with_it() {
    let mut outgoing = online(16 << 20);
    let mut acked = outbound("acked", b"1");
    acked.request = Some(RequestId(1));
    let mut request = outbound("request", vec![0; 30_000]);
    request.reply = Reply::Inbox(40);
    let mut forwarded = outbound("forwarded", b"2");
    forwarded.reply = Reply::To("elsewhere".into());
    for message in [
        &acked,
        &request,
        &forwarded,
        &outbound("plain", vec![0; 30_000]),
        &outbound("l", vec![0; 70_000]),
    ] {
        outgoing.push(message).unwrap();
    }
    outgoing.push_last_ping(9);
    outgoing.offline();
    assert!(matches!(outgoing.push(&acked), Err(Hindrance::Offline)));
    outgoing.push(&outbound("later", b"3")).unwrap();
    let expected = [
        "forwarded>elsewhere=1",
        "plain=30000",
        "later=1",
        "l#0=65536",
        "l#1=4464",
    ];
    assert_eq!(summary(&drain(&mut outgoing)), expected);
}

#[test]
fn a_request_carries_the_inbox_of_its_connection() {
    let mut outgoing = online(16 << 20);
    let mut request = outbound("r", b"");
    request.reply = Reply::Inbox(36 * 36 + 35);
    outgoing.push(&request).unwrap();
    assert_eq!(summary(&drain(&mut outgoing)), ["r>_INBOX.n.1-s.10z=0"]);
}

#[test]
fn unreliable_messages_that_fit_are_datagrams() {
    let mut outgoing = online(16 << 20);
    let mut small = outbound("u", b"x");
    small.unreliable = true;
    let mut large = outbound("u", vec![0; 1_300]);
    large.unreliable = true;
    outgoing.push(&small).unwrap();
    outgoing.push(&large).unwrap();
    assert_eq!(summary(&outgoing.next_datagram().unwrap()), ["u=1"]);
    assert_eq!(outgoing.next_datagram(), None);
    assert_eq!(summary(&drain(&mut outgoing)), ["u=1300"]);
}

#[test]
fn limits_are_checked_before_anything_is_sent() {
    let mut outgoing = online(16 << 20);
    let error = |result: Result<(), Hindrance>| match result {
        Err(Hindrance::Error(error)) => error.code(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        error(outgoing.push(&outbound("a.*", b""))),
        Code::InvalidSubject
    );
    assert_eq!(
        error(outgoing.push(&outbound("a", vec![0; (1 << 20) + 1]))),
        Code::TooLarge
    );
    let mut headers = outbound("a", b"");
    headers.headers = Some(vec![b' '; HEADERS_LEN_MAX + 1].into());
    assert_eq!(error(outgoing.push(&headers)), Code::TooLarge);
    assert_eq!(outgoing.len(), 0);
}

proptest! {
    #[test]
    fn numbers_come_back_out_of_an_inbox(number: u32) {
        let mut text = String::new();
        push_base36(&mut text, number);
        prop_assert_eq!(parse_base36(&text), Some(number));
        prop_assert_eq!(parse_base36(&format!("{text}.x")), Some(number));
    }

    #[test]
    fn any_text_in_an_inbox_is_survived(text in ".{0,12}") {
        let _number = parse_base36(&text);
    }
}
