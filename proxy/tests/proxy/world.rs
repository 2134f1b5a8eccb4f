//! A proxy with one project, the project's server, and clients.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dialtone_proxy::access::Level;
use dialtone_proxy::fixed::{Fixed, Ports, Project, Table, TokenHash};
use dialtone_proxy::{Config, Handle, Listen, Proxy, Services};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The project of the tests.
pub(crate) const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

/// How long anything may take; far more than is ever needed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) addr: SocketAddr,
    pub(crate) upstream: Upstream,
    pub(crate) handle: Handle,
    pub(crate) fixed: Arc<Fixed>,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let upstream = Upstream::start().await;
        Self::before(upstream, change)
    }

    pub(crate) fn before(upstream: Upstream, change: impl FnOnce(&mut Config)) -> Self {
        let fixed = Arc::new(Fixed::new(table(&upstream, None)));
        let mut config = Config {
            listen: vec![Listen {
                addr: "127.0.0.1:0".parse().unwrap(),
                tls: None,
                https_port: None,
            }],
            ..Config::default()
        };
        config.drain_grace = Duration::from_millis(200);
        change(&mut config);
        let services = Services {
            access: Arc::<Fixed>::clone(&fixed),
            targets: Arc::<Fixed>::clone(&fixed),
            files: Arc::<Fixed>::clone(&fixed),
            log: None,
        };
        let proxy = Proxy::bind(config, services).unwrap();
        let (addr, handle) = (proxy.local_addrs()[0], proxy.handle());
        let stop = CancellationToken::new();
        let running = spawn({
            let stop = stop.clone();
            async move { proxy.run(stop).await.unwrap() }
        });
        Self {
            addr,
            upstream,
            handle,
            fixed,
            stop,
            running,
        }
    }

    /// The path of something on the project's server.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/{ID}/port/{}/{rest}", self.upstream.addr.port())
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("http://{}{}", self.addr, self.path(rest))
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(self.addr).await
    }

    /// The head of a request of whoever may, with further lines.
    pub(crate) fn head(&self, method: &str, rest: &str, lines: &str) -> String {
        format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nCookie: remember_me=bob\r\n{lines}\r\n",
            self.path(rest),
            self.addr
        )
    }

    /// Sends a request, and reads until the connection ends.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut raw = self.connect().await;
        raw.send(request.as_bytes()).await;
        raw.rest().await
    }

    /// Runs curl against the proxy, as whoever may.
    pub(crate) async fn curl(&self, args: &[&str], rest: &str) -> Curl {
        self.curl_url(args, &self.url(rest)).await
    }

    pub(crate) async fn curl_url(&self, args: &[&str], url: &str) -> Curl {
        let own = args.iter().any(|arg| arg.starts_with("Cookie:"));
        let cookie = if own {
            &[][..]
        } else {
            &["-H", "Cookie: remember_me=bob"]
        };
        let output = tokio::process::Command::new("curl")
            .args(["-sS", "-i", "--max-time", "60"])
            .args(cookie)
            .args(args)
            .arg(url)
            .output();
        let output = timeout(PATIENCE, output).await.unwrap().unwrap();
        Curl {
            code: output.status.code().unwrap(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
        }
    }

    /// Stops, and waits for the end.
    pub(crate) async fn stopped(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

/// What curl gave.
#[derive(Debug)]
pub(crate) struct Curl {
    pub(crate) code: i32,
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
}

impl Curl {
    /// The line of the status of the last answer, since `100 Continue` comes before it.
    pub(crate) fn status(&self) -> u16 {
        let lines = self.text.lines().filter(|line| line.starts_with("HTTP/"));
        let last = lines.fold(None, |_, line| Some(line));
        let last = last.unwrap_or_else(|| panic!("{self:?}"));
        last.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.text.to_lowercase().contains(&part.to_lowercase())
    }
}

/// The table with the project: bob writes, ann reads.
pub(crate) fn table(upstream: &Upstream, public: Option<Level>) -> Table {
    let port = upstream.addr.port();
    let project = Project {
        address: upstream.addr.ip(),
        ports: Ports::All,
        servers: [("web".to_owned(), port)].into(),
        raw: Some(port),
        files: None,
        public,
        readers: vec!["ann".to_owned()],
        writers: vec!["bob".to_owned()],
    };
    Table {
        projects: HashMap::from([(ID.parse().unwrap(), project)]),
        tokens: ["ann", "bob", "eve"]
            .map(|name| (TokenHash::of(name), Arc::from(name)))
            .into(),
    }
}

/// A connection on which a test writes what it wants.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads until this has come.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut got = Vec::new();
        while !String::from_utf8_lossy(&got).ends_with(end) {
            let byte = timeout(PATIENCE, self.0.read_u8()).await.unwrap();
            let so_far = || String::from_utf8_lossy(&got).into_owned();
            let byte = byte.unwrap_or_else(|error| panic!("{error} after {:?}", so_far()));
            got.push(byte);
        }
        String::from_utf8(got).unwrap()
    }

    /// Reads to the end, however the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        let mut got = Vec::new();
        // A reset is an end as well.
        drop(
            timeout(PATIENCE, self.0.read_to_end(&mut got))
                .await
                .unwrap(),
        );
        String::from_utf8_lossy(&got).into_owned()
    }
}

/// A server within a project.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    /// Connections so far.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Requests so far.
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, requests) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let upstream = Self {
            addr,
            connections: Arc::clone(&connections),
            requests: Arc::clone(&requests),
        };
        spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let requests = Arc::clone(&requests);
                spawn(async move {
                    let service = service_fn(move |request| {
                        requests.fetch_add(1, Ordering::Relaxed);
                        async move { Ok::<_, Infallible>(answer(request).await) }
                    });
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    // What becomes of a connection is the client's to see.
                    drop(served.await);
                });
            }
        });
        upstream
    }

    /// A server that answers each connection with these bytes and closes it.
    pub(crate) async fn saying(answer: &'static [u8]) -> Self {
        Self::speaking(answer, true).await
    }

    /// A server that answers each request with these bytes, and closes no connection.
    pub(crate) async fn repeating(answer: &'static [u8]) -> Self {
        Self::speaking(answer, false).await
    }

    async fn speaking(answer: &'static [u8], closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            addr: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, requests) = (
            Arc::clone(&upstream.connections),
            Arc::clone(&upstream.requests),
        );
        spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let requests = Arc::clone(&requests);
                spawn(async move {
                    while read_head(&mut stream).await.is_some() {
                        requests.fetch_add(1, Ordering::Relaxed);
                        if stream.write_all(answer).await.is_err() || closes {
                            return;
                        }
                    }
                });
            }
        });
        upstream
    }
}

/// The head of a request; `None` when there is none any more.
async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(head)
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

async fn answer(mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.rsplit('/').next().unwrap_or_default() {
        "echo" => echo(request).await,
        "body" => Response::new(full(
            request.into_body().collect().await.unwrap().to_bytes(),
        )),
        "count" => {
            let mut body = request.into_body();
            let mut len = 0;
            // What became of a broken body is the client's to see.
            while let Some(Ok(frame)) = body.frame().await {
                len += frame.into_data().map_or(0, |data| data.len());
            }
            Response::new(full(len.to_string()))
        }
        "big" => big(),
        "events" => events(),
        "hang" => std::future::pending().await,
        "gone" => {
            let mut response = Response::new(full("gone"));
            *response.status_mut() = StatusCode::GONE;
            response
        }
        "cookies" => {
            let mut response = Response::new(full("set"));
            let headers = response.headers_mut();
            headers.append(
                "set-cookie",
                "a=1; Path=/; Domain=example.org".parse().unwrap(),
            );
            headers.append("set-cookie", "remember_me=stolen; Path=/".parse().unwrap());
            headers.append("location", "/next".parse().unwrap());
            headers.append("clear-site-data", "\"*\"".parse().unwrap());
            response
        }
        "ws" => {
            let upgrade = hyper::upgrade::on(&mut request);
            spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                // Echoes until the client has gone.
                drop(tokio::io::copy(&mut read, &mut write).await);
                drop(write.shutdown().await);
            });
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert("connection", "upgrade".parse().unwrap());
            headers.insert("upgrade", "websocket".parse().unwrap());
            headers.insert("sec-websocket-accept", "x".parse().unwrap());
            response
        }
        _ => Response::new(full("hello")),
    }
}

/// What arrived, as text.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.extend([name.as_str(), ": ", value.to_str().unwrap(), "\n"]);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    text.extend(["\n", &String::from_utf8_lossy(&body)]);
    Response::new(full(text))
}

/// How long the long answer is, in bytes.
pub(crate) const BIG_LEN: usize = 64 << 20;

fn streaming(mut send: impl FnMut(usize) -> Option<Bytes> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    spawn(async move {
        for turn in 0.. {
            let Some(bytes) = send(turn) else { return };
            if sender
                .send(Ok::<_, Infallible>(Frame::data(bytes)))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    StreamBody::new(stream).boxed_unsync()
}

fn big() -> Response<Body> {
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    Response::new(streaming(move |turn| {
        (turn < BIG_LEN / chunk.len()).then(|| chunk.clone())
    }))
}

/// Two events, and no end.
fn events() -> Response<Body> {
    let (sender, receiver) = mpsc::channel(4);
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        sender
            .try_send(Ok::<_, Infallible>(Frame::data(Bytes::from(event))))
            .unwrap();
    }
    let stream =
        futures_util::stream::unfold((receiver, sender), |(mut receiver, sender)| async move {
            receiver
                .recv()
                .await
                .map(|frame| (frame, (receiver, sender)))
        });
    let body = StreamBody::new(stream).boxed_unsync();
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    response
}

#[expect(
    clippy::disallowed_methods,
    reason = "tasks of a test end with its runtime"
)]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(future)
}
