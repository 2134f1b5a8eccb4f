//! One client's connection, from its first byte to its last, and all clients' connections to one address.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Listen};
use crate::forward;
use crate::metrics::{Held, Metrics, add};
use crate::pool::Shard;
use crate::quiet::Quiet;
use crate::site::Site;
use crate::socket::{Lingering, Socket, Stream};

/// How long to wait after a failure to accept, which mostly is a lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often HTTP/2 clients are asked whether they are there, and how long their answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How much an HTTP/2 client may send ahead, for one request and for all of a connection.
const H2_WINDOWS: (u32, u32) = (256 << 10, 1 << 20);

type Gauge = fn(&Metrics) -> &AtomicU64;

/// A client's connection, as long as anything of it goes on.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) encrypted: bool,
    /// Where it is to come instead, encrypted.
    pub(crate) https_port: Option<u16>,
    pub(crate) lingering: Arc<Lingering>,
    /// Requests in progress.
    now: AtomicU32,
    /// Requests so far.
    sum: AtomicU64,
    _slot: OwnedSemaphorePermit,
    _counted: Held<Gauge>,
}

impl Client {
    pub(crate) fn begin(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A thread's share of the work.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) runtime: Handle,
    pub(crate) shard: Arc<Shard>,
}

/// An address at which clients arrive.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) listen: Listen,
}

impl Door {
    /// Lets clients in until `stop`, each to the next thread.
    pub(crate) async fn run(
        self,
        site: Arc<Site>,
        workers: Vec<Worker>,
        slots: Arc<Semaphore>,
        stop: CancellationToken,
    ) {
        for worker in workers.iter().cycle() {
            let Some(accepted) = stop.run_until_cancelled(self.accept(&slots)).await else {
                return;
            };
            match accepted {
                Ok((stream, address, slot)) => {
                    self.hand_over(&site, worker, (stream, address, slot), &stop);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    stop.run_until_cancelled(sleep(ACCEPT_RETRY)).await;
                }
            }
        }
    }

    /// The next connection, once there is room for it.
    async fn accept(
        &self,
        slots: &Arc<Semaphore>,
    ) -> io::Result<(StdStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(slots)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, address) = self.listener.accept().await?;
        // It belongs to another runtime from here on.
        Ok((stream.into_std()?, address, slot))
    }

    fn hand_over(
        &self,
        site: &Arc<Site>,
        worker: &Worker,
        (stream, address, slot): (StdStream, SocketAddr, OwnedSemaphorePermit),
        stop: &CancellationToken,
    ) {
        add(&site.metrics.connections_total, 1);
        let gauge: Gauge = |metrics| &metrics.connections;
        let client = Client {
            address,
            encrypted: self.listen.tls.is_some(),
            https_port: self.listen.https_port.filter(|_| self.listen.tls.is_none()),
            lingering: Arc::default(),
            now: AtomicU32::new(0),
            sum: AtomicU64::new(0),
            _slot: slot,
            _counted: Held::new(&site.metrics, gauge),
        };
        let acceptor = self
            .listen
            .tls
            .as_ref()
            .map(|tls| TlsAcceptor::from(tls.http_config()));
        let (task_site, shard) = (Arc::clone(site), Arc::clone(&worker.shard));
        let (stop, cut) = (stop.child_token(), site.cut.child_token());
        site.tracker.spawn_on(
            async move {
                let served = serve(task_site, shard, Arc::new(client), stream, acceptor, stop);
                tokio::select! {
                    biased;
                    () = served => {}
                    () = Quiet::new(cut.cancelled_owned()) => {
                        tracing::debug!(client = %address, "a connection was cut off");
                    }
                }
            },
            &worker.runtime,
        );
    }
}

async fn serve(
    site: Arc<Site>,
    shard: Arc<Shard>,
    client: Arc<Client>,
    stream: StdStream,
    acceptor: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    let handshake = timeout(site.config.timing.handshake, open(stream, acceptor)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(client = %client.address, %error, "a handshake failed");
            return;
        }
        Err(_) => return,
    };
    let socket = Socket::new(
        stream,
        site.config.timing.client_stall,
        Arc::clone(&client.lingering),
    );
    let builder = builder(&site.config);
    let head = site.config.timing.head;
    let at = Arc::clone(&client);
    let service = service_fn(move |request: Request<Incoming>| {
        // hyper moves the future about; a pointer is quickly moved.
        let answer = Box::pin(forward::answer(
            Arc::clone(&site),
            Arc::clone(&shard),
            Arc::clone(&client),
            request,
        ));
        answer.map(Ok::<_, Infallible>)
    });
    let mut connection =
        pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    let mut watch = pin!(sleep(head));
    let mut stopped = Quiet::new(stop.cancelled_owned());
    let mut seen = 0;
    let mut is_ending = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = &mut stopped, if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut watch => {
                let sum = at.sum.load(Ordering::Relaxed);
                if at.now.load(Ordering::Relaxed) == 0 && sum == seen {
                    if is_ending {
                        return;
                    }
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                seen = sum;
                watch.as_mut().reset(Instant::now() + head);
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(client = %at.address, %error, "a connection ended early");
    }
}

async fn open(stream: StdStream, acceptor: Option<TlsAcceptor>) -> io::Result<Stream> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    match acceptor {
        None => Ok(Stream::Plain(stream)),
        Some(acceptor) => Ok(Stream::Tls(Box::new(acceptor.accept(stream).await?))),
    }
}

fn builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let limits = &config.limits;
    let size = |len: u32| usize::try_from(len).unwrap_or(usize::MAX);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.timing.head)
        .max_headers(limits.headers_max.into())
        .max_buf_size(size(limits.head_len_max.max(limits.buffer_len_max)))
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.head_len_max)
        .initial_stream_window_size(H2_WINDOWS.0)
        .initial_connection_window_size(H2_WINDOWS.1)
        .max_send_buf_size(size(limits.buffer_len_max));
    builder
}
