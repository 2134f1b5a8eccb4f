//! What a hub asks others for, in the real process: histories in streams, kernels of a gateway, language models of a
//! provider; and what an administrator's call ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use dialtone_conat::socket::{self, Data, Inbound, Socket};
use dialtone_testkit::KernelServer;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::process::{Done, Home};
use crate::site::{PASSWORD, Person, Site, post};

const PROJECT: &str = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";

/// The SHA-1 of the project and the path `notes/a.txt`, by which a document is known.
const DOCUMENT: &str = "7f449ea1a82aee031f093025be0c3e0d31615177";

const TOKEN: &str = "swordfish-of-the-gateway";

fn set(home: &Home, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        home.run(&["admin", "settings", "set", name, value]).ok();
    }
}

/// The first administrator, who may say which number a project has.
fn administrator(ready: &Value) -> Person {
    let root = json!({"email": "root@example.org", "password": PASSWORD, "firstName": "Ro", "lastName": "Ot"});
    let made = post(ready["first_admin"].as_str().unwrap(), "", &root);
    assert_eq!(made.code, 200, "{}", made.body);
    Person {
        id: made.json()["account_id"].as_str().unwrap().to_owned(),
        session: made.session(),
    }
}

fn calls(site: &Site, home: &Home, who: &Person, name: &str, options: &Value) -> Done {
    site.call(home, &who.session, &[name, &options.to_string()])
}

#[test]
fn histories_are_read_from_streams() {
    let home = Home::new();
    let up = home.up_with_hub(&[]);
    let site = Site::of(&up.ready);
    let (ada, bob) = (administrator(&up.ready), site.sign_up("bob"));
    let made = json!({"title": "Notes", "project_id": PROJECT});
    let made = calls(&site, &home, &ada, "projects.createProject", &made);
    assert_eq!(made.ok().json(), PROJECT);
    let wanted = json!({"project_id": PROJECT, "path": "notes/a.txt"});
    let nothing = calls(&site, &home, &ada, "sync.history", &wanted).ok();
    assert_eq!(nothing.json(), json!({"patches": [], "info": null}));

    let stream = format!("projects/{PROJECT}/patches:{DOCUMENT}");
    home.run(&["stream", "add", &stream, "--url", &site.ws])
        .ok();
    for number in 1..=3 {
        let patch = json!({"patch": number}).to_string();
        home.run(&["stream", "append", &stream, &patch, "--url", &site.ws])
            .ok();
    }
    let found = calls(&site, &home, &ada, "sync.history", &wanted)
        .ok()
        .json();
    let patches = found["patches"].as_array().unwrap();
    let numbers: Vec<&Value> = patches
        .iter()
        .map(|patch| &patch["mesg"]["patch"])
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    let times = json!({"project_id": PROJECT, "path": "notes/a.txt", "edit_times": true,
        "access_times": false, "limit": 2});
    let times = calls(&site, &home, &ada, "db.fileUseTimes", &times)
        .ok()
        .json();
    let expected = [&patches[2]["time"], &patches[1]["time"]];
    assert_eq!(times["edit_times"], json!(expected));
    calls(&site, &home, &bob, "sync.history", &wanted)
        .exits(6)
        .says("permission-denied");
    up.running.signal(Signal::TERM);
    up.running.end().ok();
}

#[test]
fn kernels_of_the_site_run_code() {
    let home = Home::new();
    let Some(server) = KernelServer::gateway(TOKEN) else {
        return;
    };
    set(
        &home,
        &[
            ("jupyter_gateway_url", server.url()),
            ("jupyter_gateway_token", TOKEN),
            ("jupyter_api_enabled", "yes"),
        ],
    );
    let up = home.up_with_hub(&[]);
    let site = Site::of(&up.ready);
    let ada = site.sign_up("ada");
    let kernels = calls(&site, &home, &ada, "jupyter.kernels", &json!({})).ok();
    let names = kernels.text();
    assert!(names.contains("python3"), "{names}");
    let run = json!({"kernel": "python3", "history": ["x = 6"], "input": "x * 7"});
    let done = calls(&site, &home, &ada, "jupyter.execute", &run)
        .ok()
        .json();
    assert_eq!(done["output"][0]["data"]["text/plain"], "42");
    up.running.signal(Signal::TERM);
    up.running.end().ok();
}

/// Reads one request to its end.
fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(given) = line.to_lowercase().strip_prefix("content-length:") {
            len = given.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

/// A provider that answers one question, and tells what it was asked.
fn provider() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let asked = read_request(&stream);
        let piece = |text: &str| json!({"choices": [{"delta": {"content": text}}]});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 5, "total_tokens": 7}});
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
             data: {}\n\ndata: {usage}\n\ndata: [DONE]\n\n",
            piece("four")
        )
        .unwrap();
        asked
    });
    (url, serving)
}

#[test]
fn language_models_answer() {
    let home = Home::new();
    let (url, provider) = provider();
    let described = json!({"local": {"baseUrl": url, "apiKey": "swordfish", "model": "tiny"}});
    set(
        &home,
        &[
            ("custom_openai_configuration", &described.to_string()),
            ("custom_openai_enabled", "yes"),
        ],
    );
    let up = home.up_with_hub(&[]);
    let site = Site::of(&up.ready);
    let ada = site.sign_up("ada");
    let ask = |question: &Value, replies: &str| {
        let subject = format!("llm.account-{}.api", ada.id);
        let question = question.to_string();
        home.run(&[
            "request",
            &subject,
            &question,
            "--encoding",
            "json",
            "--replies",
            replies,
            "--timeout",
            "30s",
            "--wait",
            "--url",
            &site.ws,
            "--token",
            &ada.session,
        ])
        .ok()
        .text()
    };
    let said = ask(
        &json!({"input": "2+2?", "model": "custom_openai-local"}),
        "2",
    );
    assert!(said.contains("four") && said.contains("null"), "{said}");
    let asked = provider.join().unwrap();
    assert!(asked.starts_with("POST /v1/chat/completions"), "{asked}");
    assert!(
        asked.contains("Bearer swordfish") && asked.contains("2+2?"),
        "{asked}"
    );
    let refused = ask(
        &json!({"input": "a\0b", "model": "custom_openai-local"}),
        "1",
    );
    assert!(refused.contains("U+0000"), "{refused}");
    let log = json!({"query": {"openai_chatgpt_log": [{"input": null, "output": null, "total_tokens": null}]}});
    let log = calls(&site, &home, &ada, "db.userQuery", &log).ok().json();
    let expected = json!([{"input": "2+2?", "output": "four", "total_tokens": 7}]);
    assert_eq!(log["openai_chatgpt_log"], expected);
    up.running.signal(Signal::TERM);
    up.running.end().ok();
}

#[test]
fn an_administrator_ends_services_of_a_process() {
    let home = Home::new();
    let up = home.up_with_hub(&[]);
    let site = Site::of(&up.ready);
    let root = administrator(&up.ready);
    let ada = site.sign_up("ada");
    let end = |who: &Person, service: &str| {
        let options = json!({ "service": service });
        calls(&site, &home, who, "system.terminate", &options)
    };
    end(&ada, "api").exits(6).says("permission-denied");
    end(&root, "nothing").exits(2);
    let made = json!({"project_id": PROJECT});
    calls(&site, &home, &root, "projects.createProject", &made).ok();
    for service in ["changefeeds", "persist"] {
        let ended = end(&root, service).ok().json();
        assert_eq!(ended, json!({"status": "terminated", "service": service}));
        end(&root, service).exits(1).says("runs no service");
    }
    // Nobody keeps streams any more, and everything else goes on.
    let stream = ["stream", "add", "x", "--url", &site.ws, "--timeout", "1s"];
    assert_ne!(home.run(&stream).code, Some(0));
    calls(&site, &home, &ada, "system.ping", &json!({})).ok();
    end(&root, "api").ok();
    calls(&site, &home, &ada, "system.ping", &json!({})).exits(4);
    up.running.signal(Signal::TERM);
    up.running.end().ok();
}

/// As clients of the original follow a query: over a socket of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_followed_over_sockets() {
    let home = Home::new();
    let up = home.up_with_hub(&[]);
    let site = Site::of(&up.ready);
    let ada = administrator(&up.ready);
    let client = dialtone_client::Options::new(&site.ws).token(&*ada.session);
    let client = client.connect().await.unwrap();
    let (tasks, limit) = (TaskTracker::new(), Duration::from_secs(30));
    let subject = format!("changefeeds.account-{}", ada.id);
    let connect = || socket::connect(&client, &subject, socket::Options::default(), limit, &tasks);
    let mut feed = connect().await.unwrap();
    let query =
        json!({"query": {"projects": [{"project_id": null, "title": null}]}, "options": []});
    feed.writer().write(Data::of(&query)).await.unwrap();
    assert_eq!(heard(&mut feed).await, json!({"update": {"projects": []}}));

    let made = json!({"title": "Notes", "project_id": PROJECT});
    calls(&site, &home, &ada, "projects.createProject", &made).ok();
    let row = json!({"project_id": PROJECT, "title": "Notes"});
    let insert = json!({"update": {"action": "insert", "new_val": row}});
    assert_eq!(heard(&mut feed).await, insert);

    let mut wrong = connect().await.unwrap();
    let query = json!({"query": {"secrets": [{"id": null}]}});
    wrong.writer().write(Data::of(&query)).await.unwrap();
    let refused = heard(&mut wrong).await;
    assert_eq!(refused["code"], 400, "{refused}");
    assert!(wrong.next().await.is_none());

    client.close().await;
    up.running.signal(Signal::TERM);
    up.running.end().ok();
}

async fn heard(socket: &mut Socket) -> Value {
    match socket.next().await.unwrap() {
        Inbound::Data(data) => data.decode().unwrap(),
        Inbound::Request(request) => panic!("asked at {}", request.subject()),
    }
}
