//! From a request to its response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::process::Process;
use super::query::{BadQuery, ConnectionQuery, Page, Params, SubscriptionQuery};
use super::{Part, Source, metrics};
use crate::status::{ConnectionStatus, Status, SubscriptionStatus};

/// Most answers that are made at the same time: each may walk over all connections or
/// subscriptions, which must not take every core.
const ANSWERS_MAX: usize = 2;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What there is to read, and what it is.
const PAGES: [(&str, &str); 3] = [
    ("/healthz", "200 while the process answers"),
    (
        "/readyz",
        "200 while requests are accepted, 503 with the reason otherwise",
    ),
    ("/metrics", "counters and gauges for Prometheus"),
];

/// What there is of a broker.
const BROKER_PAGES: [(&str, &str); 4] = [
    ("/varz?pretty", "the same as JSON"),
    (
        "/connz?pretty",
        "connections (offset, limit, sort, identity)",
    ),
    (
        "/routez?pretty",
        "the cluster: members, links, interest (404 on a node that stands alone)",
    ),
    (
        "/subsz?pretty",
        "subscriptions (offset, limit, match, identity, connection)",
    ),
];

/// A whole response.
type Answer = Response<Full<Bytes>>;

/// The pages of the monitoring server.
pub(super) struct Site {
    source: Option<Arc<dyn Source>>,
    pub(super) parts: Vec<Arc<dyn Part>>,
    answers: Arc<Semaphore>,
}

impl Site {
    pub(super) fn new(source: Option<Arc<dyn Source>>) -> Self {
        Self {
            source,
            parts: Vec::new(),
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// Answers one request. Its body is not looked at.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        if !self.is_page(path) {
            return text(
                StatusCode::NOT_FOUND,
                format!("there is no {path} here; / lists what there is\n"),
            );
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut answer = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "everything here is read-only: GET or HEAD\n",
            );
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let asked = Asked {
            path: path.to_owned(),
            query: request.uri().query().map(ToOwned::to_owned),
        };
        // Says that the process lives, also when the figures are busy.
        if asked.path == "/healthz" {
            text(StatusCode::OK, "ok\n")
        } else {
            self.make(asked).await
        }
    }

    fn is_page(&self, path: &str) -> bool {
        let of_broker: &[_] = if self.source.is_some() {
            &BROKER_PAGES
        } else {
            &[]
        };
        let mut pages = PAGES.iter().chain(of_broker);
        path == "/"
            || pages.any(|(page, _)| page.trim_end_matches("?pretty") == path)
            || self.parts.iter().any(|part| part.page().0 == path)
    }

    /// Makes an answer on a thread on which no messages wait.
    async fn make(&self, asked: Asked) -> Answer {
        let Ok(permit) = Arc::clone(&self.answers).acquire_owned().await else {
            return failure();
        };
        let watched = Watched {
            source: self.source.clone(),
            parts: self.parts.clone(),
        };
        let made = tokio::task::spawn_blocking(move || {
            let answer = asked.answer(&watched);
            drop(permit);
            answer
        });
        made.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the monitoring server cannot make an answer");
            failure()
        })
    }
}

/// What is watched.
struct Watched {
    source: Option<Arc<dyn Source>>,
    parts: Vec<Arc<dyn Part>>,
}

/// What a request asks for.
struct Asked {
    path: String,
    query: Option<String>,
}

impl Asked {
    fn answer(&self, watched: &Watched) -> Answer {
        let parts = &watched.parts;
        let source = watched.source.as_deref();
        let status = source.map(Source::status);
        let made = match (self.path.as_str(), source) {
            ("/readyz", _) => Ok(readiness(status.as_ref(), parts)),
            ("/metrics", _) => {
                let cluster = source.and_then(Source::cluster);
                let broker = status.as_ref().map(|status| (status, cluster.as_ref()));
                let metrics = metrics::render(broker, &Process::read(), parts);
                Ok(respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics))
            }
            ("/varz", Some(source)) => self.varz(source),
            ("/connz", Some(source)) => self.connz(source),
            ("/routez", Some(source)) => self.routez(source),
            ("/subsz", Some(source)) => self.subsz(source),
            (path, _) => match parts.iter().find(|part| part.page().0 == path) {
                Some(part) => self.part(&**part),
                None => Ok(index(status.as_ref(), parts)),
            },
        };
        made.unwrap_or_else(|bad| text(StatusCode::BAD_REQUEST, format!("{bad}\n")))
    }

    fn part(&self, part: &dyn Part) -> Result<Answer, BadQuery> {
        let pretty = self.params(&[])?.pretty()?;
        Ok(part.show().map_or_else(
            |error| {
                tracing::error!(%error, "the monitoring server cannot write JSON");
                failure()
            },
            |page| json(&page, pretty),
        ))
    }

    fn params(&self, known: &[&str]) -> Result<Params<'_>, BadQuery> {
        Params::parse(self.query.as_deref(), known)
    }

    fn varz(&self, source: &dyn Source) -> Result<Answer, BadQuery> {
        let pretty = self.params(&[])?.pretty()?;
        Ok(json(
            &Variables {
                status: source.status(),
                process: Process::read(),
            },
            pretty,
        ))
    }

    fn connz(&self, source: &dyn Source) -> Result<Answer, BadQuery> {
        let params = self.params(&["offset", "limit", "sort", "identity"])?;
        let pretty = params.pretty()?;
        let Page {
            offset,
            limit,
            total,
            items,
        } = source.connections(&ConnectionQuery::parse(&params)?);
        Ok(json(
            &ConnectionList {
                offset,
                limit,
                total,
                connections: items,
            },
            pretty,
        ))
    }

    fn routez(&self, source: &dyn Source) -> Result<Answer, BadQuery> {
        let pretty = self.params(&[])?.pretty()?;
        Ok(source.cluster().map_or_else(
            || text(StatusCode::NOT_FOUND, "the node belongs to no cluster\n"),
            |cluster| json(&cluster, pretty),
        ))
    }

    fn subsz(&self, source: &dyn Source) -> Result<Answer, BadQuery> {
        let params = self.params(&["offset", "limit", "match", "identity", "connection"])?;
        let pretty = params.pretty()?;
        let Page {
            offset,
            limit,
            total,
            items,
        } = source.subscriptions(&SubscriptionQuery::parse(&params)?);
        Ok(json(
            &SubscriptionList {
                offset,
                limit,
                total,
                subscriptions: items,
            },
            pretty,
        ))
    }
}

/// `/varz`.
#[derive(Serialize)]
struct Variables {
    #[serde(flatten)]
    status: Status,
    process: Process,
}

/// `/connz`.
#[derive(Serialize)]
struct ConnectionList {
    offset: usize,
    limit: usize,
    total: usize,
    connections: Vec<ConnectionStatus>,
}

/// `/subsz`.
#[derive(Serialize)]
struct SubscriptionList {
    offset: usize,
    limit: usize,
    total: usize,
    subscriptions: Vec<SubscriptionStatus>,
}

fn readiness(status: Option<&Status>, parts: &[Arc<dyn Part>]) -> Answer {
    let unavailable = |why: String| text(StatusCode::SERVICE_UNAVAILABLE, why);
    if status.is_some_and(|status| status.draining) {
        return unavailable("draining: connections should go to another node\n".to_owned());
    }
    if status.is_some_and(|status| !status.ready) {
        return unavailable("not ready: connections are not accepted\n".to_owned());
    }
    let failed = parts
        .iter()
        .find_map(|part| Some((part.name(), part.failure()?)));
    match failed {
        Some((name, failure)) => unavailable(format!("{name} is not ready: {failure}\n")),
        None => text(StatusCode::OK, "ready\n"),
    }
}

fn index(status: Option<&Status>, parts: &[Arc<dyn Part>]) -> Answer {
    let row = |path: &str, name: &str, what: &str| {
        format!("<tr><td><a href=\"{path}\">{name}</a></td><td>{what}</td></tr>\n")
    };
    let of_broker: &[_] = if status.is_some() { &BROKER_PAGES } else { &[] };
    let pages = PAGES.iter().chain(of_broker);
    let mut links: String = pages
        .map(|(path, what)| row(path, path.trim_end_matches("?pretty"), what))
        .collect();
    for (name, what) in parts.iter().map(|part| part.page()) {
        links += &row(&format!("{name}?pretty"), name, what);
    }
    let (node, server) = status.map_or_else(
        || ("Dialtone".to_owned(), String::new()),
        |status| (escape(&status.node), escape(&status.server)),
    );
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><title>{node}</title></head>\n<body><h1>{node}</h1>\n<p>{server}</p>\n\
         <table>\n{links}</table>\n</body></html>\n"
    );
    respond(StatusCode::OK, HTML, page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn json<T: Serialize>(value: &T, pretty: bool) -> Answer {
    let rendered = if pretty {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    match rendered {
        Ok(rendered) => respond(StatusCode::OK, JSON, rendered + "\n"),
        Err(error) => {
            tracing::error!(%error, "the monitoring server cannot write JSON");
            failure()
        }
    }
}

fn failure() -> Answer {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the answer could not be made; the log says why\n",
    )
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    respond(status, TEXT, text)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
