//! The proxy beside nginx, as reverse proxies of the same server, in one run.
//!
//! `cargo bench -p dialtone-proxy --bench compare -- [SECONDS] [ROUNDS]`. Needs `nginx`, `wrk` and `curl`. Each has one
//! thread of its own, no access log, and connections to the server that are kept; ours checks access as always. They
//! take turns, and what is compared is work for each second of CPU time that their processes used, since the wall
//! clock also shows what else the machine does.
//!
//! The server is another nginx with files; that of web sockets is an echo in a process of this program, which starts
//! itself again for each part.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::needless_collect,
    reason = "it prints, ends where it cannot go on, and has everything begin before it waits"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dialtone_proxy::fixed::{Fixed, Ports, Project, Table, TokenHash};
use dialtone_proxy::{Config, Listen, Proxy, Services};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

/// How long the large download is, in bytes.
const LARGE_LEN: u64 = 2 << 30;

/// Idle web sockets for the memory that each takes.
const IDLE: usize = 4_000;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    match args.first().map(String::as_str) {
        Some("proxy") => proxy(args[1].parse().unwrap(), args[2].parse().unwrap()),
        Some("echo") => echo(args[1].parse().unwrap()),
        _ => compare(&args),
    }
}

/// Our proxy on this port; the project's ports are at this machine.
fn proxy(port: u16, large_head: u16) {
    assert!(large_head > 0, "the port of the files");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let project = Project {
        address: [127, 0, 0, 1].into(),
        ports: Ports::All,
        servers: [].into(),
        raw: None,
        files: None,
        public: None,
        readers: Vec::new(),
        writers: vec!["bob".to_owned()],
    };
    let table = Table {
        projects: HashMap::from([(ID.parse().unwrap(), project)]),
        tokens: [(TokenHash::of("bob"), Arc::from("bob"))].into(),
    };
    let fixed = Arc::new(Fixed::new(table));
    let services = Services {
        access: Arc::<Fixed>::clone(&fixed),
        targets: Arc::<Fixed>::clone(&fixed),
        files: fixed,
        log: None,
    };
    let mut config = Config {
        listen: vec![Listen {
            addr: ([127, 0, 0, 1], port).into(),
            tls: None,
            https_port: None,
        }],
        ..Config::default()
    };
    config.limits.project_requests_max = 100_000;
    runtime.block_on(async {
        let proxy = Proxy::bind(config, services).unwrap();
        proxy.run(CancellationToken::new()).await.unwrap();
    });
}

/// Answers `101`, and then everything with itself.
fn echo(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let mut buf = vec![0; 4096];
                let mut len = 0;
                while !buf[..len].ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buf[len..]).await {
                        Ok(read) if read > 0 => len += read,
                        _ => return,
                    }
                }
                let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
                if stream.write_all(head).await.is_err() {
                    return;
                }
                let mut buf = vec![0; 64 << 10];
                while let Ok(read) = stream.read(&mut buf).await {
                    if read == 0 || stream.write_all(&buf[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// One that passes on, and the processes whose time counts.
struct Side {
    name: &'static str,
    port: u16,
    child: Child,
}

impl Drop for Side {
    fn drop(&mut self) {
        for pid in self.pids() {
            drop(Command::new("kill").arg(pid.to_string()).status());
        }
        drop(self.child.wait());
    }
}

impl Side {
    fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        children.chain([own]).collect()
    }

    /// User and system time so far.
    fn cpu(&self) -> f64 {
        let ticks = |pid: u32| -> u64 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
            after
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|ticks| ticks.parse::<u64>().ok())
                .sum()
        };
        let sum: u64 = self.pids().into_iter().map(ticks).sum();
        f64::from(u32::try_from(sum).unwrap()) / 100.0
    }

    fn rss_kb(&self) -> u64 {
        let rss = |pid: u32| -> u64 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .unwrap_or("0");
            line.split_whitespace()
                .next()
                .and_then(|kb| kb.parse().ok())
                .unwrap_or(0)
        };
        self.pids().into_iter().map(rss).sum()
    }

    fn url(&self, port: u16, file: &str) -> String {
        format!("http://127.0.0.1:{}/{ID}/port/{port}/{file}", self.port)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn say(text: &str) {
    println!("{text}");
}

fn compare(args: &[String]) {
    let number = |at: usize, default: u64| {
        args.get(at)
            .and_then(|arg| arg.parse().ok())
            .unwrap_or(default)
    };
    let (seconds, rounds) = (number(0, 5), number(1, 3));
    let folder = tempfile::tempdir().unwrap();
    let (files, echo) = (free_port(), free_port());
    let _files = file_server(folder.path(), files);
    let exe = std::env::current_exe().unwrap();
    let echo_child = Command::new(&exe)
        .args(["echo", &echo.to_string()])
        .spawn()
        .unwrap();
    let _echo = Side {
        name: "echo",
        port: echo,
        child: echo_child,
    };
    let own = free_port();
    let child = Command::new(&exe)
        .args(["proxy", &own.to_string(), &files.to_string()])
        .spawn()
        .unwrap();
    let dialtone = Side {
        name: "dialtone",
        port: own,
        child,
    };
    let nginx = nginx_proxy(folder.path(), files, echo);
    let sides = [dialtone, nginx];
    for side in &sides {
        wait(side.port);
    }
    for file in ["1k", "1m"] {
        requests(&sides, files, file, seconds, rounds);
    }
    large(&sides, files, rounds);
    messages(&sides, echo, seconds, rounds);
    drop(sides);
    // Memory is that of fresh processes: nothing is left of what was there before.
    let child = Command::new(&exe)
        .args(["proxy", &own.to_string(), &files.to_string()])
        .spawn()
        .unwrap();
    let dialtone = Side {
        name: "dialtone",
        port: own,
        child,
    };
    wait(own);
    idle(&[dialtone, nginx_proxy(folder.path(), files, echo)], echo);
}

fn wait(port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn nginx(folder: &Path, name: &str, server: &str, port: u16) -> Side {
    let config = folder.join(format!("{name}.conf"));
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/{name}.pid; error_log {0}/{name}.err; user root;\n\
         worker_rlimit_nofile 60000; events {{ worker_connections 40000; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {0}/{name}-body;\n\
         proxy_temp_path {0}/{name}-proxy; fastcgi_temp_path {0}/{name}-f; uwsgi_temp_path {0}/{name}-u; scgi_temp_path {0}/{name}-s;\n\
         {server} }}\n",
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait(port);
    Side {
        name: "nginx",
        port,
        child,
    }
}

fn file_server(folder: &Path, port: u16) -> Side {
    let below = folder.join(format!("{ID}/port/{port}"));
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(below.join("1k"), vec![b'a'; 1 << 10]).unwrap();
    std::fs::write(below.join("1m"), vec![b'a'; 1 << 20]).unwrap();
    std::fs::File::create(below.join("large"))
        .unwrap()
        .set_len(LARGE_LEN)
        .unwrap();
    let server = format!(
        "sendfile on; server {{ listen 127.0.0.1:{port} backlog=4096; root {}; }}",
        folder.display()
    );
    nginx(folder, "files", &server, port)
}

fn nginx_proxy(folder: &Path, files: u16, echo: u16) -> Side {
    let port = free_port();
    let server = format!(
        "upstream files {{ server 127.0.0.1:{files}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; proxy_http_version 1.1; proxy_set_header Host $host; proxy_max_temp_file_size 0;\n\
         location /{ID}/port/{files}/ {{ proxy_pass http://files; proxy_set_header Connection \"\";\n\
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }}\n\
         location /{ID}/port/{echo}/ {{ proxy_pass http://127.0.0.1:{echo}; proxy_read_timeout 3600s;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }}"
    );
    nginx(folder, "proxy", &server, port)
}

/// The rates of each side, round by round, and the median of their ratios.
fn tell(what: &str, sides: &[Side; 2], rates: &[[f64; 2]], more: &str) {
    let mut ratios: Vec<f64> = rates.iter().map(|[own, other]| own / other).collect();
    ratios.sort_by(f64::total_cmp);
    let median = |at: usize| {
        let mut list: Vec<f64> = rates.iter().map(|pair| pair[at]).collect();
        list.sort_by(f64::total_cmp);
        list[list.len() / 2]
    };
    say(&format!(
        "{what:28} {} {:>12.1}  {} {:>12.1}  ratio {:.2} ({:.2} to {:.2})  {more}",
        sides[0].name,
        median(0),
        sides[1].name,
        median(1),
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1],
    ));
}

fn requests(sides: &[Side; 2], port: u16, file: &str, seconds: u64, rounds: u64) {
    let (mut rates, mut latencies) = (Vec::new(), String::new());
    for round in 0..=rounds {
        let pair = sides.each_ref().map(|side| {
            let before = side.cpu();
            let (count, latency) = wrk(&side.url(port, file), if round == 0 { 1 } else { seconds });
            write!(latencies, "{}: {latency}; ", side.name).unwrap();
            count / (side.cpu() - before)
        });
        if round == 0 {
            latencies.clear();
        } else {
            rates.push(pair);
        }
    }
    tell(
        &format!("{file} requests per CPU second"),
        sides,
        &rates,
        "",
    );
    say(&format!("    p50 and p99: {latencies}"));
}

/// The number of requests that were answered, and the times of the median and of one in a hundred.
fn wrk(url: &str, seconds: u64) -> (f64, String) {
    let duration = format!("{seconds}s");
    let output = Command::new("wrk")
        .args([
            "-t1",
            "-c32",
            "--latency",
            "-d",
            &duration,
            "-H",
            "Cookie: remember_me=bob",
            url,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "{text}"
    );
    let find = |name: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(name).map(str::trim))
    };
    let count = text
        .lines()
        .find_map(|line| line.split_once(" requests in "))
        .unwrap()
        .0
        .trim();
    (
        count.parse().unwrap(),
        format!("{} {}", find("50%").unwrap(), find("99%").unwrap()),
    )
}

fn large(sides: &[Side; 2], port: u16, rounds: u64) {
    let (mut rates, mut walls) = (Vec::new(), String::new());
    for _ in 0..rounds {
        rates.push(sides.each_ref().map(|side| {
            let (before, begun) = (side.cpu(), Instant::now());
            let status = Command::new("curl")
                .args([
                    "-sf",
                    "-o",
                    "/dev/null",
                    "-H",
                    "Cookie: remember_me=bob",
                    &side.url(port, "large"),
                ])
                .status()
                .unwrap();
            assert!(status.success());
            let gigabytes = f64::from(u32::try_from(LARGE_LEN >> 20).unwrap()) / 1024.0;
            write!(
                walls,
                "{} {:.2} GiB/s; ",
                side.name,
                gigabytes / begun.elapsed().as_secs_f64()
            )
            .unwrap();
            gigabytes / (side.cpu() - before)
        }));
    }
    tell("GiB per CPU second", sides, &rates, "");
    say(&format!("    wall: {walls}"));
}

fn websocket(side: &Side, echo: u16) -> TcpStream {
    let addr: SocketAddr = ([127, 0, 0, 1], side.port).into();
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    let head = format!(
        "GET /{ID}/port/{echo}/ HTTP/1.1\r\nHost: x\r\nCookie: remember_me=bob\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
    }
    assert!(
        got.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&got)
    );
    stream
}

/// Messages of 128 bytes there and back, one after the other on each of 16 connections.
fn messages(sides: &[Side; 2], echo: u16, seconds: u64, rounds: u64) {
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(sides.each_ref().map(|side| {
            let streams: Vec<_> = (0..16).map(|_| websocket(side, echo)).collect();
            let before = side.cpu();
            let end = Instant::now() + Duration::from_secs(seconds);
            let talk = |mut stream: TcpStream| {
                let (message, mut got, mut count) = ([7; 128], [0; 128], 0.0);
                while Instant::now() < end {
                    stream.write_all(&message).unwrap();
                    stream.read_exact(&mut got).unwrap();
                    count += 2.0;
                }
                count
            };
            let sum: f64 = thread::scope(|scope| {
                let threads: Vec<_> = streams
                    .into_iter()
                    .map(|stream| scope.spawn(move || talk(stream)))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .sum()
            });
            sum / (side.cpu() - before)
        }));
    }
    tell("messages per CPU second", sides, &rates, "");
}

fn idle(sides: &[Side; 2], echo: u16) {
    for side in sides {
        let before = side.rss_kb();
        let streams: Vec<_> = (0..IDLE).map(|_| websocket(side, echo)).collect();
        let more = side.rss_kb().saturating_sub(before);
        say(&format!(
            "idle WebSocket, KiB each      {} {:.2}",
            side.name,
            f64::from(u32::try_from(more).unwrap())
                / f64::from(u32::try_from(streams.len()).unwrap())
        ));
    }
}
