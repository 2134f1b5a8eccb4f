//! `dialtone proxy`: from a configuration file to answers, and what signals do.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::process::{Broker, Home};

const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

/// A server that answers every request with what it was asked, and the number of its port.
fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.extend(byte);
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                head.len()
            );
            // A client that has gone needs no answer.
            drop(stream.write_all(&[answer.into_bytes(), head].concat()));
        }
    });
    port
}

fn config(home: &Home, port: u16, writers: &str) -> String {
    let hash = home
        .run_with(&["passwd", "--token"], b"a token that is long enough")
        .ok()
        .text();
    let text = format!(
        "listen = [\"http://127.0.0.1:0\"]\nmonitor = \"127.0.0.1:0\"\ndrain_grace = \"1s\"\n\
         [access_log]\nfile = \"access.log\"\n\
         [[user]]\nname = \"ann\"\ntokens = [\"{}\"]\n\
         [[project]]\nid = \"{ID}\"\nports = [{port}]\nservers = {{ web = {port} }}\nfiles = \".\"\nwriters = [{writers}]\n",
        hash.trim()
    );
    home.write("proxy.toml", &text)
}

/// Sends a request with the token, and reads to the end.
fn ask(proxy: &Broker, path: &str) -> String {
    let url = proxy.url("http");
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: remember_me=a token that is long enough\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_file_makes_a_proxy() {
    let home = Home::new();
    let port = upstream();
    let path = config(&home, port, "\"ann\"");
    home.run(&["config", "check", "--proxy", "--config", &path])
        .ok();
    let proxy = Broker::new(home.start(&["proxy", "--json", "--config", &path]));
    let answer = ask(&proxy, &format!("/{ID}/server/web/x?y=1"));
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("GET /x?y=1 HTTP/1.1\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("remember_me"), "{answer}");
    let file = ask(&proxy, &format!("/{ID}/files/proxy.toml"));
    assert!(
        file.contains("\r\netag: ") && file.contains("[[project]]"),
        "{file}"
    );

    config(&home, port, "");
    proxy.running.signal(Signal::HUP);
    proxy.running.until("reloaded");
    let answer = ask(&proxy, &format!("/{ID}/port/{port}/"));
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");

    home.write("proxy.toml", "nonsense = 1\n");
    proxy.running.signal(Signal::HUP);
    proxy.running.until("the configuration stays as it was");

    let monitor = proxy.monitor().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&monitor).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(
        metrics.contains("dialtone_proxy_responses_total{class=\"2xx\"} 2\n"),
        "{metrics}"
    );

    proxy.running.signal(Signal::TERM);
    proxy.running.until("draining");
    proxy.running.end().ok().says("stopped");
    let log = std::fs::read_to_string(home.path().join("access.log")).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
    assert!(
        log.contains("\"identity\":\"ann\"") && log.contains("\"code\":\"denied\""),
        "{log}"
    );
    assert!(
        !log.contains("y=1") && !log.contains("long enough"),
        "{log}"
    );
}

#[test]
fn a_broker_is_reached_through_a_proxy() {
    let home = Home::new();
    let broker = home.broker(&["--open-to-everyone"]);
    let addr = broker
        .ws()
        .trim_start_matches("ws://")
        .trim_end_matches('/')
        .to_owned();
    let proxy = Broker::new(home.start(&[
        "proxy",
        "--json",
        "--listen",
        "http://127.0.0.1:0",
        "--brokers",
        &addr,
    ]));
    let url = format!(
        "{}/conat/",
        proxy
            .url("http")
            .replacen("http", "ws", 1)
            .trim_end_matches('/')
    );
    let reply = home.start(&["reply", "a", "--echo", "--url", &url]);
    reply.until("answering a");
    let answer = home.run(&["request", "a", "hello", "--url", &url]).ok();
    assert_eq!(answer.json(), "hello");
    broker.running.signal(Signal::TERM);
    broker.running.end().ok();
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let home = Home::new();
    let text = format!(
        "listen = [\"ftp://x\"]\nbase = \"app\"\ntimeout = 1\n[timing]\nhead = \"5\"\n[[user]]\nname = \"ann\"\ntokens = [\"abc\"]\n\
         [[project]]\nid = \"x\"\n[[project]]\nid = \"{ID}\"\nwriters = [\"eve\"]\n[[project]]\nid = \"{ID}\"\nprots = [1]\n"
    );
    let path = home.write("proxy.toml", &text);
    let done = home
        .run(&["config", "check", "--proxy", "--config", &path])
        .exits(1);
    for part in [
        "proxy.toml:1:10: listen: expected http://IP:PORT or https://IP:PORT, found \"ftp://x\"",
        "base: must be a path such as /app",
        "proxy.toml:3:1: timeout: no setting has this name",
        "proxy.toml:5:8: timing.head: expected a time",
        "proxy.toml:8:10: user.tokens: expected sha256:",
        "proxy.toml:10:6: project.id: a project's id is a UUID",
        "proxy.toml:13:11: project.writers: there is no user \"eve\"",
        "proxy.toml:16:1: project.prots: there is no such key",
    ] {
        assert!(
            done.stderr.contains(part),
            "{part} is missing: {}",
            done.stderr
        );
    }
    home.run(&["proxy", "--config", &path])
        .exits(2)
        .says("the configuration cannot be used");
}

#[test]
fn the_sample_says_what_the_defaults_are() {
    let home = Home::new();
    let sample = home.run(&["config", "sample", "--proxy"]).ok().text();
    let uncommented: String = sample
        .lines()
        .take_while(|line| !line.starts_with("# Who may come"))
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
                .to_owned()
                + "\n"
        })
        .collect();
    let path = home.write("proxy.toml", &uncommented);
    home.run(&["config", "check", "--proxy", "--config", &path])
        .ok();
}
