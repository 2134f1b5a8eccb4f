//! Paths to answers.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::Answer;
use crate::health::{Check, Health};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers a request. Its body is not read.
pub(super) fn answer(health: &Health, request: &Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD\n".to_owned(),
        );
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    of_path(health, request.uri().path())
}

fn of_path(health: &Health, path: &str) -> Answer {
    match path {
        "/alive" => {
            let ok = all(&health.alive());
            let word = if ok { "YES" } else { "NO" };
            text(found(ok), format!("alive: {word}\n"))
        }
        "/healthcheck" => {
            let checks = health.alive();
            let ok = all(&checks);
            let mut lines = lines(&checks);
            lines.push_str(if ok { "OK\n" } else { "FAIL\n" });
            text(found(ok), lines)
        }
        "/concurrent" => text(StatusCode::OK, health.store().requests.to_string()),
        "/concurrent-warn" => {
            let ok = !health.is_overloaded() && health.is_database_there();
            text(found(ok), health.store().requests.to_string())
        }
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let checks = health.ready();
            let code = if all(&checks) {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            text(code, lines(&checks))
        }
        "/metrics" => {
            let mut answer = text(StatusCode::OK, metrics(health));
            answer.headers_mut().insert(CONTENT_TYPE, METRICS);
            answer
        }
        _ => text(StatusCode::NOT_FOUND, "there is nothing here\n".to_owned()),
    }
}

/// What load balancers of CoCalc expect.
fn found(ok: bool) -> StatusCode {
    if ok {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    }
}

fn all(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.ok)
}

fn lines(checks: &[Check]) -> String {
    let line = |check: &Check| {
        let word = if check.ok { "ok" } else { "FAIL" };
        format!("{word}: {}\n", check.text)
    };
    checks.iter().map(line).collect()
}

pub(super) fn text(code: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What is told of one metric: name, type, what it is, value.
type Metric = (&'static str, &'static str, &'static str, f64);

fn metrics(health: &Health) -> String {
    let mut out = String::new();
    let all = about_hub(health).into_iter().chain(about_store(health));
    for (name, kind, help, value) in all {
        let lines = [
            format!("# HELP dialtone_hub_{name} {help}\n"),
            format!("# TYPE dialtone_hub_{name} {kind}\n"),
            format!("dialtone_hub_{name} {value}\n"),
        ];
        out.extend(lines);
    }
    out
}

fn about_hub(health: &Health) -> [Metric; 3] {
    let flag = |value: bool| f64::from(u8::from(value));
    let (there, draining) = (health.is_database_there(), health.is_draining());
    let up = health.uptime().as_secs_f64();
    [
        (
            "database_up",
            "gauge",
            "Whether the database answers.",
            flag(there),
        ),
        (
            "draining",
            "gauge",
            "Whether the hub is about to end.",
            flag(draining),
        ),
        ("uptime_seconds", "gauge", "How long the hub has run.", up),
    ]
}

fn about_store(health: &Health) -> [Metric; 8] {
    let store = health.store();
    let gauge = |name, help, value| (name, "gauge", help, value);
    let counter = |name, help, value| (name, "counter", help, number(value));
    let busy = store.busy.as_secs_f64();
    [
        gauge(
            "database_connections",
            "Open connections.",
            f64::from(store.connections),
        ),
        gauge(
            "database_connections_idle",
            "Those that nobody uses.",
            number(store.idle as u64),
        ),
        gauge(
            "database_requests",
            "Requests that have or want a connection.",
            number(store.requests as u64),
        ),
        counter(
            "database_requests_refused_total",
            "Requests when too many waited.",
            store.refused,
        ),
        counter("database_statements_total", "Statements.", store.statements),
        counter(
            "database_statements_slow_total",
            "Statements that were slow.",
            store.slow,
        ),
        counter(
            "database_statements_failed_total",
            "Statements that failed.",
            store.failed,
        ),
        (
            "database_seconds_total",
            "counter",
            "Time that all statements took.",
            busy,
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2⁵³")]
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::health;
    use crate::store::{Config, Location, Store};

    async fn health(folder: &std::path::Path) -> Health {
        let location = Location::Sqlite {
            path: folder.join("hub.db"),
        };
        let store = Store::open(Config::new(location)).await.unwrap();
        let config = health::Config {
            database_away_max: std::time::Duration::ZERO,
            ..health::Config::default()
        };
        Health::new(config, store)
    }

    async fn get(health: &Health, path: &str) -> (u16, String) {
        let answer = of_path(health, path);
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn alive_and_ready_are_different_things() {
        let folder = tempfile::tempdir().unwrap();
        let health = health(folder.path()).await;
        assert_eq!(
            get(&health, "/alive").await,
            (200, "alive: YES\n".to_owned())
        );
        assert_eq!(get(&health, "/readyz").await.0, 200);
        assert_eq!(get(&health, "/concurrent").await, (200, "0".to_owned()));
        health.drain();
        assert_eq!(get(&health, "/alive").await.0, 200);
        let (code, text) = get(&health, "/readyz").await;
        assert_eq!(
            (code, text.as_str()),
            (503, "ok: the database answers\nFAIL: about to end\n")
        );
        health.database(false);
        assert_eq!(
            get(&health, "/alive").await,
            (404, "alive: NO\n".to_owned())
        );
        assert_eq!(get(&health, "/healthcheck").await.0, 404);
        assert_eq!(get(&health, "/concurrent-warn").await.0, 404);
        health.database(true);
        assert_eq!(get(&health, "/healthcheck").await.0, 200);
        assert_eq!(get(&health, "/nothing").await.0, 404);
        let (code, text) = get(&health, "/metrics").await;
        assert_eq!(code, 200);
        assert!(text.contains("\ndialtone_hub_database_up 1\n"), "{text}");
    }
}
