//! To a server and back: what is sent to it, over which connection, and what comes of it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Answer, Exchange};
use crate::body::{Body, Progress, Relayed, Upload, Watch};
use crate::error::Refusal;
use crate::headers::forwarded::Sender as From;
use crate::headers::request::{self, Upgrade};
use crate::metrics::add;
use crate::target::{Service, Target};
use crate::upgrade;
use crate::upstream::{self, Answer as Received, ConnectError, Connection};

/// What is sent to a server, and what is known about it.
pub(super) struct Outgoing {
    pub(super) head: http::request::Parts,
    upload: Upload,
    pub(super) progress: Arc<Progress>,
    ended: Option<CancellationToken>,
    service: Service,
}

impl Exchange<'_> {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a fact about the request that nobody else has"
    )]
    pub(super) fn outgoing(
        &self,
        incoming: Request<Incoming>,
        host: &str,
        seen: std::ops::Range<usize>,
        prefix: Option<&str>,
        upgrade: Upgrade,
        ended: Option<CancellationToken>,
        service: &Service,
    ) -> Result<Outgoing, Refusal> {
        let config = &self.site.config;
        let (mut head, body) = incoming.into_parts();
        head.uri = seen_uri(&head.uri, seen)?;
        let from = From {
            address: self.client.address.ip(),
            encrypted: self.client.encrypted,
            host,
            trusted: config.trust_forwarded
                || (config.trust_local && self.client.address.ip().to_canonical().is_loopback()),
        };
        request::prepare(&mut head.headers, from, prefix, upgrade);
        head.version = Version::HTTP_11;
        let progress = Arc::default();
        let watch = Watch::new(config.timing.upload_idle, ended.clone());
        let upload = Upload::new(body, watch, &progress, config.limits.body_len_max);
        Ok(Outgoing {
            head,
            upload,
            progress,
            ended,
            service: service.clone(),
        })
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        addr: SocketAddr,
        outgoing: Outgoing,
    ) -> Result<Response<Received>, Refusal> {
        let (connection, reused) = self.connection(addr, &outgoing.service).await?;
        self.exchange(addr, connection, reused, outgoing).await
    }

    /// A connection to a server, and whether it was there already.
    pub(super) async fn connection(
        &self,
        addr: SocketAddr,
        service: &Service,
    ) -> Result<(Connection, bool), Refusal> {
        if let Some(connection) = self.shard.pool.take(addr) {
            add(&self.site.metrics.upstream_reuses, 1);
            return Ok((connection, true));
        }
        let fresh = Box::pin(self.connect(addr, service)).await?;
        Ok((fresh, false))
    }

    async fn connect(&self, addr: SocketAddr, service: &Service) -> Result<Connection, Refusal> {
        add(&self.site.metrics.upstream_connects, 1);
        let config = &self.site.config;
        Connection::open(addr, &config.timing, &config.limits)
            .await
            .map_err(|error| match error {
                ConnectError::Timeout => Refusal::ConnectTimeout(service.clone()),
                ConnectError::Refused(error) => {
                    tracing::debug!(%addr, %error, "a server cannot be reached");
                    Refusal::Unreachable(service.clone())
                }
            })
    }

    /// Sends over this connection. One that was kept may have been closed by its server at this very moment: then a
    /// request that has not been sent, or that may be sent twice, goes over a new one.
    pub(super) async fn exchange(
        &self,
        addr: SocketAddr,
        connection: Connection,
        reused: bool,
        outgoing: Outgoing,
    ) -> Result<Response<Received>, Refusal> {
        let Outgoing {
            head,
            upload,
            progress,
            ended,
            service,
        } = outgoing;
        let wait = Wait {
            exchange: self,
            progress: &progress,
            ended: ended.as_ref(),
            service: &service,
        };
        let mut exchange = upstream::Exchange::new(connection, &head, upload);
        let mut reply = wait.reply(&mut exchange).await?;
        if reused && matches!(reply, Err(upstream::Error::Unanswered(_))) {
            let Some(again) = exchange.again(is_idempotent(&head.method)) else {
                return Err(Refusal::Broken(service));
            };
            let fresh = Box::pin(self.connect(addr, &service)).await?;
            exchange = again(fresh);
            reply = Box::pin(wait.reply(&mut exchange)).await?;
        }
        match reply {
            Ok(reply) => {
                let (head, answer, uploading) = Received::new(exchange, reply);
                if let Some(uploading) = uploading {
                    self.upload(uploading);
                }
                Ok(Response::from_parts(head, answer))
            }
            Err(error) => {
                tracing::debug!(%addr, %error, "a server has not answered");
                Err(progress
                    .failure(self.site.config.limits.body_len_max)
                    .unwrap_or(Refusal::Broken(service)))
            }
        }
    }

    /// Has an upload go on by itself.
    fn upload(&self, uploading: upstream::Uploading) {
        let cut = self.site.cut.child_token();
        let uploading = uploading.run(Arc::clone(&self.client.lingering));
        self.site.tracker.spawn(async move {
            cut.run_until_cancelled_owned(uploading).await;
        });
    }

    pub(super) fn relay(
        &self,
        answer: Response<Received>,
        addr: SocketAddr,
        ended: Option<CancellationToken>,
    ) -> Response<Body> {
        let watch = Watch::new(self.site.config.timing.answer_idle, ended);
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        let body = Relayed::new(body, watch, Arc::clone(self.shard), addr);
        Response::from_parts(head, Body::relayed(body))
    }

    /// A server that cannot be reached may be elsewhere by now.
    pub(super) fn failed(&self, target: &Target, refusal: &Refusal) {
        if matches!(
            refusal,
            Refusal::Unreachable(_) | Refusal::ConnectTimeout(_)
        ) {
            self.site.places.forget(Some(target.project));
        }
        if !matches!(
            refusal,
            Refusal::Ended | Refusal::BodyTimeout | Refusal::BodyTooLong(_)
        ) {
            add(&self.site.metrics.upstream_failures, 1);
        }
    }
}

/// Waiting for the head of an answer.
struct Wait<'a> {
    exchange: &'a Exchange<'a>,
    progress: &'a Progress,
    ended: Option<&'a CancellationToken>,
    service: &'a Service,
}

impl Wait<'_> {
    /// The outer error ends the request; with the inner one, its server has not answered.
    async fn reply(
        &self,
        exchange: &mut upstream::Exchange,
    ) -> Result<Result<upstream::Reply, upstream::Error>, Refusal> {
        let config = &self.exchange.site.config;
        let begun = Instant::now();
        let mut replied = pin!(exchange.answered());
        let mut late = pin!(sleep(config.timing.first_byte));
        let mut ended = pin!(async {
            match self.ended {
                Some(ended) => ended.cancelled().await,
                None => std::future::pending().await,
            }
        });
        let mut sent = self.progress.bytes();
        loop {
            tokio::select! {
                biased;
                reply = &mut replied => {
                    if reply.is_ok() {
                        self.exchange.site.metrics.first_byte(begun.elapsed());
                    }
                    return Ok(reply);
                }
                () = &mut ended => return Err(Refusal::Ended),
                () = &mut late => {
                    let now = self.progress.bytes();
                    if now == sent {
                        return Err(Refusal::FirstByteTimeout(self.service.clone()));
                    }
                    // The request itself is still on its way.
                    sent = now;
                    late.as_mut().reset(Instant::now() + config.timing.first_byte);
                }
            }
        }
    }
}

/// From HTTP to a WebSocket, on both sides; `None` for an answer to a request that was not whole.
pub(super) fn switch(
    client: hyper::upgrade::OnUpgrade,
    answer: Response<Received>,
    ended: Option<CancellationToken>,
) -> Option<Answer> {
    let (head, received) = answer.into_parts();
    let tunnel = upgrade::Tunnel {
        client,
        server: received.into_socket()?,
        ended,
    };
    Some(Answer::Switching(upgrade::switching(head.headers), tunnel))
}

/// The address as the server sees it.
fn seen_uri(uri: &Uri, seen: std::ops::Range<usize>) -> Result<Uri, Refusal> {
    let is_whole = seen == (0..uri.path().len());
    if is_whole && uri.scheme().is_none() && uri.authority().is_none() {
        return Ok(uri.clone());
    }
    let path = uri.path().get(seen).unwrap_or("/");
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path: PathAndQuery = text
        .parse()
        .map_err(|_not| Refusal::BadRequest("the address cannot be read"))?;
    Ok(Uri::from(path))
}

/// Methods that may be sent twice (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
        Method::TRACE,
    ]
    .contains(method)
}
