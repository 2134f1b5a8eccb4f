//! Whatever a publisher and a subscriber speak, they exchange the same: messages, headers, answers, large messages, and
//! what members of a queue group share.

use std::collections::HashMap;
use std::process::Stdio;

use dialtone_client::{Client, Encoding, Headers, Message, Subscription};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::site::Site;

/// Three chunks of a Socket.IO client.
const LARGE_LEN: usize = 20_000_000;

/// What the members of a queue group share.
const SHARED: usize = 60;

/// A message whose payload is one byte again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    len: usize,
    byte: u8,
    headers: Map<String, Value>,
    encoding: u8,
}

impl Content {
    fn plain() -> Self {
        Self {
            len: 5,
            byte: b'7',
            headers: Map::new(),
            encoding: 1,
        }
    }

    fn with_headers() -> Self {
        let Value::Object(headers) = json!({"h": {"ä": [1, null]}, "text": "\"\\"}) else {
            unreachable!("it is an object");
        };
        Self {
            headers,
            encoding: 0,
            ..Self::plain()
        }
    }

    fn large() -> Self {
        Self {
            len: LARGE_LEN,
            ..Self::with_headers()
        }
    }

    fn of(message: &Message) -> Self {
        let payload = message.payload();
        let byte = payload.first().copied().unwrap_or_default();
        assert!(payload.iter().all(|&other| other == byte));
        let headers = message.headers().unwrap();
        Self {
            len: payload.len(),
            byte,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
            encoding: message.encoding().number(),
        }
    }

    fn of_json(value: &Value) -> Self {
        let number = |name: &str| value[name].as_u64().unwrap();
        Self {
            len: usize::try_from(number("len")).unwrap(),
            byte: u8::try_from(number("byte")).unwrap(),
            headers: value["headers"].as_object().unwrap().clone(),
            encoding: u8::try_from(number("encoding")).unwrap(),
        }
    }

    fn to_json(&self) -> Value {
        json!({"len": self.len, "byte": self.byte, "headers": self.headers, "encoding": self.encoding})
    }

    fn headers(&self) -> Headers {
        self.headers
            .iter()
            .fold(Headers::new(), |headers, (name, value)| {
                headers.with(name, value.clone())
            })
    }
}

/// One end of an exchange.
enum Party {
    Native {
        client: Client,
        subscriptions: HashMap<String, Subscription>,
    },
    Script {
        // It is ended with the party.
        _node: Box<Child>,
        stdin: ChildStdin,
        stdout: Box<Lines<BufReader<ChildStdout>>>,
    },
}

impl Party {
    async fn join(site: &Site, speaks: &str) -> Self {
        if speaks != "socket.io" {
            return Self::Native {
                client: site.client(speaks).await,
                subscriptions: HashMap::new(),
            };
        }
        let mut node = site
            .node("party.mjs")
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdin = node.stdin.take().unwrap();
        let mut stdout = BufReader::new(node.stdout.take().unwrap()).lines();
        assert_eq!(stdout.next_line().await.unwrap().unwrap(), "ready");
        Self::Script {
            _node: Box::new(node),
            stdin,
            stdout: Box::new(stdout),
        }
    }

    /// Has a script do something.
    async fn tell(&mut self, name: &str, parameters: Value) -> Value {
        let Self::Script { stdin, stdout, .. } = self else {
            unreachable!("native clients are called");
        };
        let mut command = parameters;
        command["do"] = name.into();
        let line = format!("{command}\n");
        stdin.write_all(line.as_bytes()).await.unwrap();
        let answer = stdout.next_line().await.unwrap();
        serde_json::from_str(&answer.expect("the script has ended")).unwrap()
    }

    async fn subscribe(&mut self, pattern: &str, group: Option<&str>) {
        let Self::Native {
            client,
            subscriptions,
        } = self
        else {
            let wanted = json!({"pattern": pattern, "group": group});
            self.tell("subscribe", wanted).await;
            return;
        };
        let mut wanted = client.subscription(pattern);
        if let Some(group) = group {
            wanted = wanted.group(group);
        }
        let subscription = wanted.subscribe().await.unwrap();
        subscriptions.insert(pattern.to_owned(), subscription);
    }

    async fn publish(&mut self, subject: &str, content: &Content) -> u64 {
        let Self::Native { client, .. } = self else {
            let mut wanted = content.to_json();
            wanted["subject"] = subject.into();
            return self.tell("publish", wanted).await.as_u64().unwrap();
        };
        let headers = content.headers();
        let mut draft = client
            .message(subject)
            .encoding(Encoding::from_number(content.encoding))
            .payload(vec![content.byte; content.len]);
        if !headers.is_empty() {
            draft = draft.headers(&headers);
        }
        draft.publish_acked().await.unwrap().into()
    }

    async fn hear(&mut self, pattern: &str) -> Content {
        let Self::Native { subscriptions, .. } = self else {
            return Content::of_json(&self.tell("hear", json!({"pattern": pattern})).await);
        };
        let subscription = subscriptions.get_mut(pattern).unwrap();
        Content::of(&subscription.next().await.unwrap())
    }

    /// How many messages have come and were not heard; they are forgotten.
    async fn waiting(&mut self, pattern: &str) -> usize {
        let Self::Native { subscriptions, .. } = self else {
            let count = self.tell("waiting", json!({"pattern": pattern})).await;
            return usize::try_from(count.as_u64().unwrap()).unwrap();
        };
        let subscription = subscriptions.get_mut(pattern).unwrap();
        std::iter::from_fn(|| subscription.try_next()).count()
    }

    async fn answer(&mut self, pattern: &str) {
        let Self::Native { subscriptions, .. } = self else {
            self.tell("answer", json!({"pattern": pattern})).await;
            return;
        };
        let asked = subscriptions
            .get_mut(pattern)
            .unwrap()
            .next()
            .await
            .unwrap();
        let headers = asked.headers().unwrap().with("answered", true);
        let draft = asked.answer().unwrap().encoding(asked.encoding());
        let draft = draft.headers(&headers).payload(asked.payload().clone());
        draft.publish().await.unwrap();
    }

    async fn request(&mut self, subject: &str, content: &Content) -> Content {
        let Self::Native { client, .. } = self else {
            let mut wanted = content.to_json();
            wanted["subject"] = subject.into();
            return Content::of_json(&self.tell("request", wanted).await);
        };
        let headers = content.headers();
        let draft = client
            .message(subject)
            .headers(&headers)
            .encoding(Encoding::from_number(content.encoding))
            .payload(vec![content.byte; content.len]);
        Content::of(&draft.request().await.unwrap())
    }

    /// Returns when everything that was on the way to this party is there.
    async fn fence(&mut self, subject: &str) {
        assert_eq!(self.publish(subject, &Content::plain()).await, 1);
        self.hear(subject).await;
    }
}

/// Everything that goes from one end to the other.
async fn exchange(from: &mut Party, to: &mut Party, pair: &str) {
    let subject = |name: &str| format!("{pair}.{name}");
    let pattern = subject("to.*");
    to.subscribe(&pattern, None).await;
    for (name, content) in [
        ("plain", Content::plain()),
        ("headers", Content::with_headers()),
        ("large", Content::large()),
    ] {
        let count = from
            .publish(&subject(&format!("to.{name}")), &content)
            .await;
        assert_eq!(count, 1, "{pair} {name}");
        let heard = to.hear(&pattern).await;
        assert!(heard == content, "{pair} {name}: {heard:?}");
    }

    let service = subject("service");
    to.subscribe(&service, None).await;
    for content in [Content::with_headers(), Content::large()] {
        let (answer, ()) = tokio::join!(from.request(&service, &content), to.answer(&service));
        let mut expected = content;
        expected.headers.insert("answered".to_owned(), true.into());
        assert!(answer == expected, "{pair} answer: {answer:?}");
    }

    // Both ends are members of a group, and each message is taken once.
    let (work, group) = (subject("work"), Some("0"));
    for (name, party) in [("from", &mut *from), ("to", &mut *to)] {
        party.subscribe(&work, group).await;
        party
            .subscribe(&subject(&format!("fence.{name}")), None)
            .await;
    }
    for _ in 0..SHARED {
        let count = from.publish(&work, &Content::plain()).await;
        assert_eq!(count, 1, "{pair} group");
    }
    let mut taken = Vec::new();
    for (name, party) in [("from", &mut *from), ("to", &mut *to)] {
        party.fence(&subject(&format!("fence.{name}"))).await;
        taken.push(party.waiting(&work).await);
    }
    assert!(taken.iter().all(|&count| count > 0), "{pair}: {taken:?}");
    assert_eq!(taken.iter().sum::<usize>(), SHARED, "{pair}: {taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_transports_exchange_everything() {
    const SPEAKS: [&str; 3] = ["socket.io", "ws", "quic"];
    let site = Site::open().await;
    for from in SPEAKS {
        for to in SPEAKS {
            let (mut publisher, mut subscriber) =
                (Party::join(&site, from).await, Party::join(&site, to).await);
            let pair = format!("{from}-{to}").replace('.', "");
            exchange(&mut publisher, &mut subscriber, &pair).await;
        }
    }
}
