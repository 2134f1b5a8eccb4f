//! What requests bring, within bounds, and JSON as an answer.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::Answer;

/// Longest body, in bytes.
pub(super) const LEN_MAX: usize = 64 << 10;

/// How long a body may take to arrive.
const TIME_MAX: Duration = Duration::from_secs(10);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The body of a request.
pub(super) async fn read(request: Request<Incoming>) -> Result<Bytes, Answer> {
    let body = Limited::new(request.into_body(), LEN_MAX).collect();
    match tokio::time::timeout(TIME_MAX, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(failure(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body is longer than {LEN_MAX} bytes"),
        )),
        Ok(Err(error)) => Err(failure(
            StatusCode::BAD_REQUEST,
            &format!("the body cannot be read: {error}"),
        )),
        Err(_elapsed) => Err(failure(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

/// The body of a request as JSON. It must say that it is JSON, which a form of another site's page cannot.
pub(super) async fn json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Answer> {
    if !is_of_type(request.headers(), "application/json") {
        return Err(failure(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, with the header content-type: application/json",
        ));
    }
    let body = read(request).await?;
    serde_json::from_slice(&body)
        .map_err(|error| failure(StatusCode::BAD_REQUEST, &error.to_string()))
}

/// Whether a request says that its body is that.
pub(super) fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let said = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let said = said.and_then(|text| text.split(';').next()).map(str::trim);
    said.is_some_and(|said| said.eq_ignore_ascii_case(wanted))
}

/// A value.
pub(super) fn answer(code: StatusCode, value: &Json) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(value.to_string())));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What went wrong.
pub(super) fn failure(code: StatusCode, text: &str) -> Answer {
    answer(code, &json!({ "error": text }))
}
