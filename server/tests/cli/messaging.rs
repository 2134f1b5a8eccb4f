//! Publish, subscribe, request, reply and interest, over every transport.

use crate::process::{Broker, Home, Running};

/// A subscriber whose subscription has begun.
pub(crate) fn subscriber(home: &Home, broker: &Broker, args: &[&str]) -> Running {
    let url = broker.ws();
    let running = home.start(&[&["sub", "--url", &url], args].concat());
    running.until("subscribed to");
    running
}

#[test]
fn messages_and_requests_travel_over_every_transport() {
    let home = Home::new();
    let broker = home.up(&[]);
    for scheme in ["ws", "wss", "quic"] {
        let url = broker.url(scheme);
        let to = ["--url", &url, "--fingerprint", broker.fingerprint()];

        let sub = home.start(&[&["sub", "greet.*", "--count", "2", "--json"], &to[..]].concat());
        sub.until("subscribed to greet.*");
        home.run(
            &[
                &[
                    "pub",
                    "greet.world",
                    "hello",
                    "--header",
                    "n=1",
                    "--header",
                    "w=x y",
                ],
                &to[..],
            ]
            .concat(),
        )
        .ok();
        home.run(
            &[
                &["pub", "greet.moon", "{\"a\":[1]}", "--reply", "back"],
                &to[..],
            ]
            .concat(),
        )
        .ok();
        let first = sub.json();
        assert_eq!(
            (&first["subject"], &first["payload"]),
            (&"greet.world".into(), &"hello".into())
        );
        assert_eq!(first["headers"], serde_json::json!({"n": 1, "w": "x y"}));
        assert_eq!(first["encoding"], 0, "a text travels as MessagePack");
        let second = sub.json();
        assert_eq!(second["payload"], serde_json::json!({"a": [1]}));
        assert_eq!(
            (&second["encoding"], &second["reply"]),
            (&1.into(), &"back".into())
        );
        sub.end().ok();

        let reply = ["reply", "echo", "--echo", "--count", "1", "--json"];
        let echo = home.start(&[&reply, &to[..]].concat());
        echo.until("answering echo");
        let answer = home
            .run(&[&["request", "echo", "[1,2]", "--json"], &to[..]].concat())
            .ok();
        assert_eq!(answer.json()["payload"], serde_json::json!([1, 2]));
        let asked = echo.json();
        assert_eq!(
            (&asked["subject"], &asked["payload"]),
            (&"echo".into(), &serde_json::json!([1, 2]))
        );
        echo.end().ok().says("answered 1 request");
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_an_error_with_a_hint() {
    let home = Home::new();
    let broker = home.up(&[]);
    for scheme in ["wss", "quic"] {
        let url = broker.url(scheme);
        home.run(&["rtt", "--url", &url, "--fingerprint", &"0".repeat(64)])
            .exits(1)
            .says("does not have the fingerprint that was given");
        home.run(&["rtt", "--url", &url, "--insecure"]).ok();
        home.run(&["rtt", "--url", &url])
            .exits(1)
            .says("--fingerprint");
    }
    let encrypted = broker.ws().replace("ws://", "wss://");
    home.run(&["rtt", "--url", &encrypted])
        .exits(1)
        .says(&format!("is it {} ?", broker.ws()));
}

#[test]
fn commands_answer_with_what_they_print() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    let reply = home.start(&[
        "reply",
        "--url",
        &url,
        "up.*",
        "--command",
        "printf '%s:' $DIALTONE_SUBJECT; tr a-z A-Z",
    ]);
    reply.until("answering");
    let answer = home
        .run(&["request", "--url", &url, "up.x", "hello", "--json"])
        .ok();
    assert_eq!(answer.json()["payload"], "up.x:HELLO");

    let failing = home.start(&[
        "reply",
        "--url",
        &url,
        "fail",
        "--command",
        "echo broken >&2; exit 3",
    ]);
    failing.until("answering");
    home.run(&["request", "--url", &url, "fail", ""])
        .exits(1)
        .says("broken");

    let slow = home.start(&[
        "reply",
        "--url",
        &url,
        "slow",
        "--command",
        "cat; exec tail -f /dev/null",
        "--timeout",
        "50ms",
    ]);
    slow.until("answering");
    let late = home
        .run(&["request", "--url", &url, "slow", "", "--timeout", "30s"])
        .exits(5)
        .says("took longer than 50ms\n");
    assert_eq!(late.text(), "", "an error is no answer");
    let args = [
        "request",
        "--url",
        &url,
        "slow",
        "",
        "--timeout",
        "30s",
        "--json",
    ];
    assert_eq!(home.run(&args).exits(5).json()["headers"]["code"], 408);
}

#[test]
fn an_answer_is_printed_alone() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    let echo = home.start(&["reply", "--url", &url, "echo", "--echo"]);
    echo.until("answering");
    for (flags, printed) in [
        (&[][..], &b"\"hello\"\n"[..]),
        (&["--text"], b"hello\n"),
        (&["--raw"], b"\xa5hello"),
    ] {
        let asked = home
            .run(&[&["request", "--url", &url, "echo", "hello"], flags].concat())
            .ok();
        assert_eq!(asked.stdout, printed, "{flags:?}");
    }
    let shown = home
        .run(&["request", "--url", &url, "echo", "hello", "--headers"])
        .ok();
    assert!(shown.text().contains("  6 B  "), "{shown:?}");
}

#[test]
fn large_messages_arrive_as_they_were_sent() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let sub = home
        .command(&["sub", "--url", &broker.ws(), "big", "--count", "1", "--raw"])
        .spawn()
        .unwrap();
    let url = broker.ws();
    let payload: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let args = [
        "pub",
        "--url",
        &url,
        "big",
        "-",
        "--encoding",
        "raw",
        "--wait",
        "30s",
    ];
    let published = home.run_with(&args, &payload).ok();
    assert_eq!(published.text(), "big got to 1 subscriber\n");
    let got = sub.wait_with_output().unwrap();
    assert!(got.stdout == payload, "{} bytes came", got.stdout.len());
}

#[test]
fn bytes_that_are_no_text_are_shown_as_such() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let sub = subscriber(&home, &broker, &["bin", "--json", "--count", "2"]);
    let url = broker.ws();
    home.run_with(&["pub", "--url", &url, "bin", "-"], b"\xff\x00")
        .ok();
    home.run_with(
        &["pub", "--url", &url, "bin", "-", "--encoding", "raw"],
        b"\xff\xfe",
    )
    .ok();
    assert_eq!(sub.json()["payload"], serde_json::json!({"$bytes": "ff00"}));
    assert_eq!(sub.json()["payload_hex"], "fffe");
}

#[test]
fn control_characters_are_shown_as_bytes() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let sub = subscriber(&home, &broker, &["bin"]);
    let url = broker.ws();
    home.run_with(
        &["pub", "--url", &url, "bin", "-", "-e", "raw"],
        b"\x01\x02",
    )
    .ok();
    assert!(sub.line().starts_with("bin  2 B  "));
    assert!(sub.line().starts_with("01 02 "));
}

#[test]
fn lost_messages_are_told_of() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let sub = subscriber(&home, &broker, &["a", "--drop-oldest", "1", "--json"]);
    sub.signal(rustix::process::Signal::STOP);
    let payload = "x".repeat(100_000);
    let url = broker.ws();
    home.run(&["pub", "--url", &url, "a", &payload, "--count", "400"])
        .ok();
    sub.signal(rustix::process::Signal::CONT);
    sub.until(" dropped");
    let dropped = std::iter::from_fn(|| Some(sub.json())).find_map(|line| line["dropped"].as_u64());
    assert!(dropped.unwrap() > 0);
}

#[test]
fn what_is_published_is_counted_for_programs() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let published = home
        .run(&[
            "pub",
            "--url",
            &broker.ws(),
            "a",
            "{\"n\":{{i}}}",
            "-e",
            "json",
            "--count",
            "3",
            "--json",
        ])
        .ok();
    assert_eq!(published.json(), serde_json::json!({ "published": 3 }));
}

#[test]
fn a_queue_group_shares_and_a_tap_does_not_count() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let members =
        [(); 2].map(|()| subscriber(&home, &broker, &["work.>", "--queue", "g", "--json"]));
    let tap = subscriber(&home, &broker, &[">", "--tap", "--json", "--count", "20"]);
    let url = broker.ws();
    let published = home
        .run(&[
            "pub", "--url", &url, "work.a", "{{i}}", "--count", "20", "--ack", "--json",
        ])
        .ok();
    assert_eq!(
        published.text().matches("\"subscribers\":1").count(),
        20,
        "{published:?}"
    );
    for number in 1..=20 {
        assert_eq!(
            tap.json()["payload"],
            number,
            "a tap sees everything, in order"
        );
    }
    // Whoever got how many, together it is all of them.
    let end = ["pub", "--url", &url, "work.end", ""];
    home.run(&end).ok();
    for member in &members {
        member.signal(rustix::process::Signal::INT);
    }
    let counts = members.map(|member| member.end().ok().text().lines().count());
    assert_eq!(counts.iter().sum::<usize>(), 21, "{counts:?}");
}

#[test]
fn interest_is_told_and_awaited() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    home.run(&["interest", "--url", &url, "a.b"])
        .exits(4)
        .says("nobody subscribes to a.b");
    let waiting = home.start(&["interest", "--url", &url, "a.b", "--wait", "60s", "--json"]);
    let _sub = subscriber(&home, &broker, &["a.*"]);
    assert_eq!(waiting.json()["interest"], true);
    waiting.end().ok();
    home.run(&["interest", "--url", &url, "a.b"]).ok();
}

#[test]
fn many_answers_are_collected() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    let services = ["one", "two"].map(|name| {
        let service = home.start(&[
            "reply",
            "--url",
            &url,
            "who",
            "--command",
            &format!("echo {name}"),
        ]);
        service.until("answering");
        service
    });
    let args = [
        "request",
        "--url",
        &url,
        "who",
        "",
        "--replies",
        "2",
        "--timeout",
        "60s",
        "--json",
    ];
    let answers = home.run(&args).ok();
    let mut names: Vec<_> = answers
        .text()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["payload"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);
    drop(services);
}

#[test]
fn an_interrupted_subscriber_sums_up() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let sub = subscriber(&home, &broker, &["a"]);
    home.run(&["pub", "--url", &broker.ws(), "a", "hello"]).ok();
    assert!(
        sub.line().starts_with("a  6 B  "),
        "the text and its MessagePack prefix"
    );
    assert_eq!(sub.line(), "\"hello\"");
    sub.signal(rustix::process::Signal::INT);
    sub.end().ok().says("received 1 message, 6 B");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let home = Home::new();
    let broker = home.broker(&[]);
    let url = broker.ws();
    let mut sub = home.command(&["sub", "--url", &url, "a"]).spawn().unwrap();
    drop(sub.stdout.take());
    home.run(&["pub", "--url", &url, "a", "x", "--wait", "30s"])
        .ok();
    let output = sub.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "subscribed to a\n"
    );
}
