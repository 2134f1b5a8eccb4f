//! Services and sockets of programs in Rust, for existing clients and the other way round.

use std::process::Stdio;
use std::time::Duration;

use dialtone_client::service::Answer;
use dialtone_client::{Client, Headers, Many, Message, ServiceError};
use dialtone_conat::service::{Call, CallError, Convention, call, serve};
use dialtone_conat::socket::{self, Data, Inbound, Options, Server, Socket};
use dialtone_conat::time;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::site::Site;

const PATIENCE: Duration = Duration::from_mins(1);

async fn perform(call: Call) -> Result<Value, String> {
    match call.name.as_str() {
        "echo" => {
            let mut said = vec![call.subject.into()];
            said.extend(call.arguments);
            Ok(said.into())
        }
        "fail" => Err(call.arguments[0].as_str().unwrap().to_owned()),
        other => Err(format!("{other} not defined")),
    }
}

/// Sends back what comes, until it is asked to close.
async fn echo(mut socket: Socket) {
    while let Some(inbound) = socket.next().await {
        match inbound {
            Inbound::Data(data) => {
                if socket.writer().write(data).await.is_err() {
                    return;
                }
            }
            Inbound::Request(request) => {
                let asked: Value = socket::decode(&request).unwrap();
                match asked.as_str() {
                    Some("close") => {
                        socket::respond(&request, Data::of("closing")).await;
                        return socket.writer().close();
                    }
                    Some("count") => {
                        for number in 0..3 {
                            socket::respond(&request, Data::of(&number)).await;
                        }
                    }
                    Some(_) | None => socket::respond(&request, Data::of(&asked)).await,
                }
            }
        }
    }
}

/// So many updates as the first message wants, and then an error as the last word, as feeds of a hub are told.
async fn feed(mut socket: Socket) {
    let Some(Inbound::Data(first)) = socket.next().await else {
        return;
    };
    let wanted: Value = first.decode().unwrap();
    let query = &wanted["query"];
    let writer = socket.writer().clone();
    for number in 0..query["updates"].as_u64().unwrap() {
        let update = json!({"update": {"number": number}});
        if writer.write(Data::of(&update)).await.is_err() {
            return;
        }
    }
    if query["ends"] == true {
        let last = json!({"error": "Error: the query has ended", "code": 429});
        writer.write(Data::of(&last)).await.unwrap();
        return writer.drained().await.unwrap();
    }
    while socket.next().await.is_some() {}
}

/// Accepts sockets until the client of the broker ends.
async fn feed_all(mut server: Server, tasks: TaskTracker) {
    while let Some(socket) = server.accept().await {
        tasks.spawn(feed(socket));
    }
}

/// Answers in pieces that are numbered, as models do.
async fn model(message: Message) -> Result<Answer, ServiceError> {
    let asked: Value = message.decode()?;
    if asked["input"] == "" {
        let error = json!({"error": "Error: nothing was asked", "code": "bad-request", "seq": 0});
        return Ok(Answer::msgpack(&error)?);
    }
    for seq in 0..3 {
        let piece = Data::of(&json!({"text": asked["input"], "seq": seq}));
        socket::respond(&message, piece).await;
    }
    Ok(Answer::msgpack(&Value::Null)?)
}

/// Calls the service of the script.
async fn call_listed(client: &Client) {
    let of = async |name: &str, arguments: &[Value]| {
        let call = call(
            client,
            "js.listed",
            Convention::Listed,
            (name, arguments),
            PATIENCE,
        );
        call.await
    };
    assert_eq!(of("add", &[json!(1), json!(2)]).await.unwrap(), json!(3));
    let Err(CallError::Refused(text)) = of("fail", &[]).await else {
        panic!("it fails");
    };
    assert_eq!(text, "no js.listed");
    let missing = of("dance", &[]).await.unwrap_err();
    assert_eq!(missing.to_string(), "dance not defined");
}

/// Connects to the server of the script.
async fn connect(client: &Client, tasks: &TaskTracker) {
    let connected = socket::connect(client, "js.room.b", Options::default(), PATIENCE, tasks);
    let mut socket = connected.await.unwrap();
    let writer = socket.writer().clone();
    for number in 0..200 {
        let data = Data::of(&number).with_headers(Headers::new().with("n", number));
        writer.write(data).await.unwrap();
    }
    for number in 0..200 {
        let Some(Inbound::Data(data)) = socket.next().await else {
            panic!("the socket has ended before {number}");
        };
        assert_eq!(data.decode::<u32>().unwrap(), number);
        assert_eq!(data.headers.get("n"), Some(&number.into()));
    }
    writer.drained().await.unwrap();
    let answer = writer.request(Data::of(&[1, 2]), PATIENCE).await.unwrap();
    assert_eq!(
        socket::decode::<Value>(&answer).unwrap(),
        json!({"asked": [1, 2]})
    );
    let many = Many {
        wait_max: PATIENCE,
        messages_max: Some(1),
    };
    let mut answers = writer.request_many(Data::of("x"), many).await.unwrap();
    let first = answers.next().await.unwrap();
    assert_eq!(
        socket::decode::<Value>(&first).unwrap(),
        json!({"asked": "x"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_in_rust_and_existing_clients() {
    let site = Site::open().await;
    let client = site.client("ws").await;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(time::serve(client.clone(), stop.clone()));
    let (serving, stopping) = (client.clone(), stop.clone());
    tasks.spawn(async move {
        let served = serve(
            &serving,
            "rust.listed",
            Convention::Listed,
            stopping,
            perform,
        );
        served.await.unwrap();
    });
    let mut server = Server::listen(&client, "rust.room.*", "s1", Options::default(), &tasks)
        .await
        .unwrap();
    let feeds = Server::listen(&client, "rust.feeds.*", "s2", Options::default(), &tasks);
    tasks.spawn(feed_all(feeds.await.unwrap(), tasks.clone()));
    let models = client.service("rust.model.*", "q", model).await.unwrap();
    let (end_server, accepting) = (CancellationToken::new(), tasks.clone());
    let ended = end_server.clone();
    let accepting = tasks.spawn(async move {
        loop {
            let socket = tokio::select! {
                socket = server.accept() => socket,
                () = ended.cancelled() => return,
            };
            let ended = ended.clone();
            accepting.spawn(async move {
                tokio::select! {
                    () = echo(socket.unwrap()) => {}
                    () = ended.cancelled() => {}
                }
            });
        }
    });

    let mut script = site
        .node("services.mjs")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = script.stdin.take().unwrap();
    let mut said = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut heard = String::new();
    while let Some(line) = said.next_line().await.unwrap() {
        match line.as_str() {
            "call js.listed" => call_listed(&client).await,
            "connect js.room.b" => connect(&client, &tasks).await,
            "end rust.room" => end_server.cancel(),
            other => {
                heard.push_str(other);
                heard.push('\n');
                continue;
            }
        }
        stdin.write_all(b"done\n").await.unwrap();
    }
    let mut failed = String::new();
    let mut stderr = script.stderr.take().unwrap();
    stderr.read_to_string(&mut failed).await.unwrap();
    assert!(script.wait().await.unwrap().success(), "{heard}\n{failed}");
    accepting.await.unwrap();
    models.stop().await;
    stop.cancel();
}
