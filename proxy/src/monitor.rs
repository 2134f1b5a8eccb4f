//! What a running proxy tells whoever watches it: `/healthz`, `/readyz` and `/metrics`, read-only and without
//! credentials, at an address that only operators should reach.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::proxy::Handle;

/// Most connections; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may be used; clients open another one.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(1);

/// Longest request line and headers, in bytes.
const HEAD_LEN_MAX: usize = 16 << 10;

/// How long to wait after a failure to accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The monitoring server, listening but not yet answering.
#[derive(Debug)]
pub struct Monitor {
    listener: TcpListener,
    addr: SocketAddr,
    proxy: Handle,
}

impl Monitor {
    /// Listens on `addr`; port 0 takes any.
    ///
    /// # Errors
    /// When the address is taken, not of this machine, or forbidden.
    pub async fn bind(addr: SocketAddr, proxy: Handle) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self {
            listener,
            addr,
            proxy,
        })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until `stop`. While `draining` is cancelled, the proxy is not ready.
    pub async fn run(self, draining: CancellationToken, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tracker = TaskTracker::new();
        while let Some(accepted) = stop
            .run_until_cancelled(accept(&self.listener, &slots))
            .await
        {
            match accepted {
                Ok((stream, slot)) => {
                    let (proxy, draining, stop) =
                        (self.proxy.clone(), draining.clone(), stop.child_token());
                    tracker.spawn(async move {
                        let served = timeout(CONNECTION_AGE_MAX, serve(stream, proxy, draining));
                        if stop.run_until_cancelled(served).await.is_none() {
                            tracing::debug!("a connection to the monitoring server was cut off");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the monitoring server cannot accept a connection");
                    stop.run_until_cancelled(sleep(ACCEPT_RETRY)).await;
                }
            }
        }
        tracker.close();
        tracker.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn serve(stream: TcpStream, proxy: Handle, draining: CancellationToken) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = answer(&request, &proxy, draining.is_cancelled());
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the monitoring server failed");
    }
}

fn answer<B>(request: &Request<B>, proxy: &Handle, draining: bool) -> Response<Full<Bytes>> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let (status, text) = match request.uri().path() {
        _ if !is_read => (
            StatusCode::METHOD_NOT_ALLOWED,
            "everything here is read-only: GET or HEAD\n".to_owned(),
        ),
        "/" => (StatusCode::OK, "/healthz\n/readyz\n/metrics\n".to_owned()),
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
        "/readyz" => (StatusCode::OK, "ready\n".to_owned()),
        "/metrics" => (StatusCode::OK, proxy.metrics().text()),
        _ => (
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
