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
use super::{Source, metrics};
use crate::status::{ConnectionStatus, Status, SubscriptionStatus};

/// Most answers that are made at the same time: each may walk over all connections or
/// subscriptions, which must not take every core.
const ANSWERS_MAX: usize = 2;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What there is to read, and what it is.
const PAGES: [(&str, &str); 7] = [
    ("/healthz", "200 while the process answers"),
    (
        "/readyz",
        "200 while connections are accepted, 503 with the reason otherwise",
    ),
    ("/metrics", "counters and gauges for Prometheus"),
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
    source: Arc<dyn Source>,
    answers: Arc<Semaphore>,
}

impl Site {
    pub(super) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// Answers one request. Its body is not looked at.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        if !is_page(path) {
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

    /// Makes an answer on a thread on which no messages wait.
    async fn make(&self, asked: Asked) -> Answer {
        let Ok(permit) = Arc::clone(&self.answers).acquire_owned().await else {
            return failure();
        };
        let source = Arc::clone(&self.source);
        let made = tokio::task::spawn_blocking(move || {
            let answer = asked.answer(&*source);
            drop(permit);
            answer
        });
        made.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the monitoring server cannot make an answer");
            failure()
        })
    }
}

fn is_page(path: &str) -> bool {
    path == "/"
        || PAGES
            .iter()
            .any(|(page, _)| page.trim_end_matches("?pretty") == path)
}

/// What a request asks for.
struct Asked {
    path: String,
    query: Option<String>,
}

impl Asked {
    fn answer(&self, source: &dyn Source) -> Answer {
        let made = match self.path.as_str() {
            "/readyz" => Ok(readiness(&source.status())),
            "/metrics" => {
                let metrics = metrics::render(
                    &source.status(),
                    &Process::read(),
                    source.cluster().as_ref(),
                );
                Ok(respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics))
            }
            "/varz" => self.varz(source),
            "/connz" => self.connz(source),
            "/routez" => self.routez(source),
            "/subsz" => self.subsz(source),
            _ => Ok(index(&source.status())),
        };
        made.unwrap_or_else(|bad| text(StatusCode::BAD_REQUEST, format!("{bad}\n")))
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

fn readiness(status: &Status) -> Answer {
    if status.draining {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining: connections should go to another node\n",
        )
    } else if !status.ready {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: connections are not accepted\n",
        )
    } else {
        text(StatusCode::OK, "ready\n")
    }
}

fn index(status: &Status) -> Answer {
    let links = PAGES.map(|(path, what)| {
        let name = path.trim_end_matches("?pretty");
        format!("<tr><td><a href=\"{path}\">{name}</a></td><td>{what}</td></tr>\n")
    });
    let (node, server) = (escape(&status.node), escape(&status.server));
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><title>{node}</title></head>\n<body><h1>{node}</h1>\n<p>{server}</p>\n\
         <table>\n{}</table>\n</body></html>\n",
        links.concat()
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
