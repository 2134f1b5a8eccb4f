//! A request and its answer: who may, where to, there and back.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::access::Level;
use crate::body::{Body, Progress, Relayed, Upload, Watch};
use crate::error::Refusal;
use crate::files;
use crate::headers::forwarded::Sender as From;
use crate::headers::request::{self, Upgrade};
use crate::headers::response;
use crate::metrics::add;
use crate::page::{self, Form};
use crate::pool::Shard;
use crate::record::Record;
use crate::serve::Client;
use crate::site::Site;
use crate::target::{self, Route, Service, Target, Want};
use crate::targets::TOKEN_HEADER;
use crate::upgrade;
use crate::upstream::{self, Answer as Received, ConnectError, Connection};

/// Answers one request, whatever it is.
pub(crate) async fn answer(
    site: Arc<Site>,
    shard: Arc<Shard>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Response<Body> {
    let form = Form::of(request.headers());
    let mut record = Box::new(Record::begin(&site, &client, &request));
    let exchange = Exchange {
        site: &site,
        shard: &shard,
        client: &client,
    };
    let answered = exchange.run(request, &mut record).await;
    let response = match answered {
        Ok(Answer::Whole(response)) => response,
        Ok(Answer::Switching(response, tunnel)) => {
            record.entry.status = response.status();
            tunnel.start(record);
            return response;
        }
        Err(refusal) => {
            record.entry.code = refusal.code();
            if matches!(refusal, Refusal::Ended) {
                add(&site.metrics.ended, 1);
            }
            page::refuse(&refusal, form, site.config.sign_in.as_deref())
        }
    };
    record.entry.status = response.status();
    response.map(|body| body.recorded(record))
}

/// What there is to say to a request.
enum Answer {
    Whole(Response<Body>),
    /// It goes on as a WebSocket.
    Switching(Response<Body>, upgrade::Tunnel),
}

struct Exchange<'a> {
    site: &'a Arc<Site>,
    shard: &'a Arc<Shard>,
    client: &'a Client,
}

/// What is sent to a server, and what is known about it.
struct Outgoing {
    head: http::request::Parts,
    upload: Upload,
    progress: Arc<Progress>,
    ended: Option<CancellationToken>,
    service: Service,
}

impl Exchange<'_> {
    async fn run(
        &self,
        mut incoming: Request<Incoming>,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let config = &self.site.config;
        let version = incoming.version();
        let host = request::check(
            incoming.method(),
            incoming.uri(),
            version,
            incoming.headers(),
        )?;
        let route = target::route(&config.base, incoming.uri().path())?;
        let upgrade = request::upgrade(incoming.method(), version, incoming.headers());
        let target = match route {
            Route::Elsewhere => return Box::pin(self.to_pages(incoming, &host)).await,
            Route::AddSlash => {
                return Ok(Answer::Whole(page::with_slash(
                    incoming.uri().path(),
                    incoming.uri().query(),
                )));
            }
            Route::Broker(_) => return Box::pin(self.to_broker(incoming, &host, upgrade)).await,
            Route::Project(target) => target,
        };
        self.check_len(incoming.headers())?;
        let credentials = request::take_credentials(incoming.headers_mut(), &config.names);
        // A key is no cookie: no page of another site can send it.
        if upgrade == Upgrade::WebSocket
            && !credentials.cookies.is_empty()
            && let Some(origin) =
                request::foreign_origin(incoming.headers(), &host, &config.allowed_origins)
        {
            return Err(Refusal::Origin(origin));
        }
        let level = match target.want {
            Want::File(_) => Level::Read,
            Want::Server { .. } => Level::Write,
        };
        record.entry.project = Some(target.project);
        let grant = self
            .site
            .grants
            .check(target.project, credentials, level)
            .await?;
        record.entry.identity = Arc::clone(grant.identity());
        record.place = Some(
            grant
                .enter(config.limits.project_requests_max)
                .ok_or(Refusal::Busy)?,
        );
        match &target.want {
            Want::File(path) => Box::pin(files::answer(
                self.site,
                &incoming,
                target.project,
                path,
                grant.ended(),
            ))
            .await
            .map(Answer::Whole),
            Want::Server { .. } => {
                self.to_server(incoming, &host, &target, upgrade, grant.ended(), record)
                    .await
            }
        }
    }

    fn check_len(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let max = self.site.config.limits.body_len_max;
        let len = headers
            .get(CONTENT_LENGTH)
            .and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
        if max != 0 && len.is_some_and(|len| len > max) {
            Err(Refusal::BodyTooLong(max))
        } else {
            Ok(())
        }
    }

    async fn to_server(
        &self,
        mut incoming: Request<Incoming>,
        host: &str,
        target: &Target,
        upgrade: Upgrade,
        ended: CancellationToken,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let Want::Server {
            service,
            seen,
            stripped,
        } = &target.want
        else {
            return Err(Refusal::NotFound);
        };
        let config = &self.site.config;
        let found = self.site.places.find(target.project, service).await?;
        let addr = found.addr;
        let client = (upgrade == Upgrade::WebSocket).then(|| hyper::upgrade::on(&mut incoming));
        let prefix = stripped.then_some(target.scope.as_str());
        let mut outgoing = self.outgoing(
            incoming,
            host,
            seen.clone(),
            prefix,
            upgrade,
            Some(ended.clone()),
            service,
        )?;
        if let Some(token) = found.token {
            outgoing.head.headers.insert(TOKEN_HEADER, token);
        }
        let progress = Arc::clone(&outgoing.progress);
        let sent = self.send(addr, outgoing).await;
        record.entry.received = progress.bytes();
        let mut answer = sent.inspect_err(|refusal| self.failed(target, refusal))?;
        let source = response::Source {
            scope: &target.scope,
            stripped: *stripped,
            host,
            cookies: &config.names.cookies,
        };
        let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let is_websocket = switches && upgrade::is_websocket(answer.headers());
        let refused = response::prepare(answer.headers_mut(), source);
        add(&self.site.metrics.cookies_refused, refused);
        match client {
            Some(client) if is_websocket => Ok(switch(client, answer, Some(ended))),
            _ if switches => Err(Refusal::Broken(service.clone())),
            _ => Ok(Answer::Whole(self.relay(answer, addr, Some(ended)))),
        }
    }

    /// To the pages of the site, which know by themselves who may do what.
    async fn to_pages(&self, incoming: Request<Incoming>, host: &str) -> Result<Answer, Refusal> {
        let addr = self.site.config.pages.ok_or(Refusal::NotFound)?;
        self.check_len(incoming.headers())?;
        let seen = 0..incoming.uri().path().len();
        let service = Service::Named("the web server of the site".to_owned());
        let outgoing = self.outgoing(incoming, host, seen, None, Upgrade::None, None, &service)?;
        let mut answer = self.send(addr, outgoing).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refusal::Broken(service));
        }
        response::prepare_own(answer.headers_mut());
        Ok(Answer::Whole(self.relay(answer, addr, None)))
    }

    /// To one of the brokers, which knows by itself who may do what.
    async fn to_broker(
        &self,
        mut incoming: Request<Incoming>,
        host: &str,
        upgrade: Upgrade,
    ) -> Result<Answer, Refusal> {
        let brokers = Arc::clone(&self.site.brokers.read());
        if brokers.is_empty() {
            return Err(Refusal::NotFound);
        }
        let client = (upgrade == Upgrade::WebSocket).then(|| hyper::upgrade::on(&mut incoming));
        let seen = 0..incoming.uri().path().len();
        let service = Service::Named("broker".to_owned());
        let mut outgoing =
            Some(self.outgoing(incoming, host, seen, None, upgrade, None, &service)?);
        let first = self.site.broker.fetch_add(1, Ordering::Relaxed);
        for turn in 0..brokers.len() {
            let Some(addr) = brokers
                .get((first.wrapping_add(turn)) % brokers.len())
                .copied()
            else {
                break;
            };
            let (connection, reused) = match self.connection(addr, &service).await {
                Ok(connection) => connection,
                Err(refusal) => {
                    tracing::warn!(%addr, %refusal, "a broker cannot be reached; the next one is tried");
                    continue;
                }
            };
            let Some(outgoing) = outgoing.take() else {
                break;
            };
            let mut answer = self.exchange(addr, connection, reused, outgoing).await?;
            let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            response::prepare_own(answer.headers_mut());
            return match client {
                Some(client) if switches => Ok(switch(client, answer, None)),
                _ if switches => Err(Refusal::Broken(service)),
                _ => Ok(Answer::Whole(self.relay(answer, addr, None))),
            };
        }
        Err(Refusal::NoBroker)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a fact about the request that nobody else has"
    )]
    fn outgoing(
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
    async fn send(
        &self,
        addr: SocketAddr,
        outgoing: Outgoing,
    ) -> Result<Response<Received>, Refusal> {
        let (connection, reused) = self.connection(addr, &outgoing.service).await?;
        self.exchange(addr, connection, reused, outgoing).await
    }

    /// A connection to a server, and whether it was there already.
    async fn connection(
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
    async fn exchange(
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
                let (head, answer) = Received::new(exchange, reply);
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

    fn relay(
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
    fn failed(&self, target: &Target, refusal: &Refusal) {
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

/// From HTTP to a WebSocket, on both sides.
fn switch(
    client: hyper::upgrade::OnUpgrade,
    answer: Response<Received>,
    ended: Option<CancellationToken>,
) -> Answer {
    let (head, received) = answer.into_parts();
    let tunnel = upgrade::Tunnel {
        client,
        server: received.into_socket(),
        ended,
    };
    Answer::Switching(upgrade::switching(head.headers), tunnel)
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
