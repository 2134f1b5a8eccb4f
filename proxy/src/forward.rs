//! A request and its answer: who may, where to, there and back.

mod send;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use self::send::switch;
use crate::access::Level;
use crate::body::Body;
use crate::error::Refusal;
use crate::files;
use crate::grant::Grant;
use crate::headers::request::{self, Upgrade};
use crate::headers::response;
use crate::metrics::add;
use crate::page::{self, Form};
use crate::pool::Shard;
use crate::record::Record;
use crate::separate::Visit;
use crate::serve::Client;
use crate::site::Site;
use crate::target::{self, Route, Service, Target, Want};
use crate::targets::TOKEN_HEADER;
use crate::upgrade;

/// Answers one request, whatever it is.
pub(crate) async fn answer(
    site: Arc<Site>,
    shard: Arc<Shard>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Response<Body> {
    let form = Form::of(request.headers());
    let uploads = !request.body().is_end_stream();
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
            if uploads {
                client.lingering.begin();
            }
            if matches!(refusal, Refusal::Ended) {
                add(&site.metrics.ended, 1);
            }
            let sign_in = site.config.sign_in.as_deref();
            page::refuse(&refusal, form, sign_in.filter(|_| record.is_at_site))
        }
    };
    record.entry.status = response.status();
    let mut response = response.map(|body| body.recorded(record));
    // Only what came encrypted can say so (RFC 6797 §7.2).
    if let (Some(hsts), true) = (&site.hsts, client.encrypted) {
        let headers = response.headers_mut();
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    response
}

/// What there is to say to a request.
enum Answer {
    Whole(Response<Body>),
    /// It goes on as a WebSocket.
    Switching(Response<Body>, upgrade::Tunnel),
}

/// A request for a project.
#[derive(Clone, Copy)]
struct Asked<'a> {
    host: &'a str,
    target: &'a Target,
    upgrade: Upgrade,
    /// Where projects are at hosts of their own.
    visit: Option<&'a Visit<'a>>,
}

/// What comes of asking whether a request may pass.
enum Admitted {
    Granted(Arc<Grant>),
    /// It is to come elsewhere.
    Led(Response<Body>),
}

struct Exchange<'a> {
    site: &'a Arc<Site>,
    shard: &'a Arc<Shard>,
    client: &'a Client,
}

impl Exchange<'_> {
    async fn run(
        &self,
        incoming: Request<Incoming>,
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
        if let Some(port) = self.client.https_port {
            return Ok(Answer::Whole(page::to_https(&host, port, incoming.uri())));
        }
        let visit = config.separate.as_ref();
        let visit = visit.map(|separate| separate.visit(&host));
        record.is_at_site = !visit.as_ref().is_some_and(Visit::is_to_projects);
        if let Some(visit) = &visit
            && let Some(answer) = Box::pin(visit.answer(self.site, &incoming)).await
        {
            return answer.map(Answer::Whole);
        }
        let route = target::route(&config.base, incoming.uri().path())?;
        let upgrade = request::upgrade(incoming.method(), version, incoming.headers());
        let target = match route {
            Route::Elsewhere | Route::Broker(_) if !record.is_at_site => {
                return Err(Refusal::NotFound);
            }
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
        let asked = Asked {
            host: &host,
            target: &target,
            upgrade,
            visit: visit.as_ref(),
        };
        self.to_project(incoming, asked, record).await
    }

    async fn to_project(
        &self,
        mut incoming: Request<Incoming>,
        asked: Asked<'_>,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let target = asked.target;
        record.entry.project = Some(target.project);
        let admitted = self.admit(&mut incoming, &asked).await?;
        let grant = match admitted {
            Admitted::Granted(grant) => grant,
            Admitted::Led(answer) => return Ok(Answer::Whole(answer)),
        };
        record.entry.identity = Arc::clone(grant.identity());
        let max = self.site.config.limits.project_requests_max;
        record.place = Some(grant.enter(max).ok_or(Refusal::Busy)?);
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
                let Asked { host, upgrade, .. } = asked;
                self.to_server(incoming, host, target, upgrade, grant.ended(), record)
                    .await
            }
        }
    }

    /// Whether a request may pass to its project. Its credentials are taken out.
    async fn admit(
        &self,
        incoming: &mut Request<Incoming>,
        asked: &Asked<'_>,
    ) -> Result<Admitted, Refusal> {
        let config = &self.site.config;
        let Asked {
            host,
            target,
            upgrade,
            visit,
        } = *asked;
        let mut credentials = request::take_credentials(incoming.headers_mut(), &config.names);
        let mut shown = None;
        if let Some(visit) = visit {
            let led = visit.leads(target, upgrade, incoming, &credentials)?;
            if let Some(led) = led {
                return Ok(Admitted::Led(led));
            }
            shown = visit.unseal(&mut credentials);
        }
        // A key is no cookie: no page of another site can send it.
        if upgrade == Upgrade::WebSocket
            && !credentials.cookies.is_empty()
            && let Some(origin) =
                request::foreign_origin(incoming.headers(), host, &config.allowed_origins)
        {
            return Err(Refusal::Origin(origin));
        }
        let level = match target.want {
            Want::File(_) => Level::Read,
            Want::Server { .. } => Level::Write,
        };
        let grants = &self.site.grants;
        let checked = grants.check(target.project, credentials, level).await;
        if let (Err(Refusal::SignIn), Some(visit), Some(shown)) = (&checked, visit, &shown)
            && let Some(led) = visit.ask(&config.base, target, upgrade, incoming, shown)
        {
            return Ok(Admitted::Led(led));
        }
        checked.map(Admitted::Granted)
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
        record.progress = Some(Arc::clone(&outgoing.progress));
        let sent = self.send(addr, outgoing).await;
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
            Some(client) if is_websocket => {
                switch(client, answer, Some(ended)).ok_or_else(|| Refusal::Broken(service.clone()))
            }
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
                Some(client) if switches => {
                    switch(client, answer, None).ok_or(Refusal::Broken(service))
                }
                _ if switches => Err(Refusal::Broken(service)),
                _ => Ok(Answer::Whole(self.relay(answer, addr, None))),
            };
        }
        Err(Refusal::NoBroker)
    }
}
