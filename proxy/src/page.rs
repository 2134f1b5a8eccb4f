//! The answers that the proxy makes itself: a page for browsers, JSON for programs that ask for it, else text.

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Uri};

use crate::body::Body;
use crate::error::Refusal;

/// Says that an answer is the proxy's own, and why.
pub(crate) const ERROR: HeaderName = HeaderName::from_static("dialtone-proxy-error");

/// What a client wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Json,
    Text,
}

impl Form {
    /// By the order in which types are named; a browser names `text/html` first.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepts = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        for item in accepts.flat_map(|value| value.split(',')) {
            match item.split(';').next().unwrap_or_default().trim() {
                "text/html" | "application/xhtml+xml" => return Self::Html,
                "application/json" => return Self::Json,
                "text/plain" => return Self::Text,
                _ => {}
            }
        }
        Self::Text
    }
}

/// What the client is told.
pub(crate) fn refuse(refusal: &Refusal, form: Form, sign_in: Option<&str>) -> Response<Body> {
    if let (Refusal::SignIn, Form::Html, Some(url)) = (refusal, form, sign_in)
        && let Ok(url) = HeaderValue::from_str(url)
    {
        let mut response = answer(refusal, form);
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(LOCATION, url);
        return response;
    }
    answer(refusal, form)
}

/// The same address with a slash at its end.
pub(crate) fn with_slash(path: &str, query: Option<&str>) -> Response<Body> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Body::empty());
    // A path that begins with two slashes would be read as the name of another host.
    let location = format!("/{}/{query}", path.trim_start_matches('/'));
    match HeaderValue::from_str(&location) {
        Ok(location) => {
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

/// The same address, encrypted.
pub(crate) fn to_https(host: &str, port: u16, uri: &Uri) -> Response<Body> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let location = if port == 443 {
        format!("https://{name}{path}")
    } else {
        format!("https://{name}:{port}{path}")
    };
    let mut response = Response::new(Body::empty());
    match HeaderValue::from_str(&location) {
        Ok(location) if !name.is_empty() => {
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, location);
        }
        _ => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// A page that asks for the same address again, as the site's own.
pub(crate) fn again(uri: &Uri) -> Response<Body> {
    let to = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"0; url={to}\"><title>One moment</title></head>\
         <body><p><a href=\"{to}\">Continue</a></p></body></html>\n",
        to = escaped(to)
    );
    let mut response = Response::new(Body::full(Bytes::from(text)));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some refusals have headers of their own"
)]
fn answer(refusal: &Refusal, form: Form) -> Response<Body> {
    let (text, kind) = match form {
        Form::Html => (html(refusal), "text/html; charset=utf-8"),
        Form::Json => (json(refusal), "application/json"),
        Form::Text => (
            format!("{refusal}\n{}\n", refusal.advice()),
            "text/plain; charset=utf-8",
        ),
    };
    let mut response = Response::new(Body::full(Bytes::from(text)));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        VARY,
        HeaderValue::from_static("accept, cookie, authorization"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    headers.insert(ERROR, HeaderValue::from_static(refusal.code()));
    if let Some(retry) = refusal.retry() {
        headers.insert(RETRY_AFTER, HeaderValue::from(retry.as_secs().max(1)));
    }
    match refusal {
        Refusal::SignIn => {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"dialtone\""),
            );
        }
        Refusal::Method(_) => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        _ => {}
    }
    response
}

fn html(refusal: &Refusal) -> String {
    let status = refusal.status();
    let refresh = if let Refusal::Starting(retry) = refusal {
        let seconds = retry.as_secs().max(1);
        format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">")
    } else {
        String::new()
    };
    let what = escaped(&sentence(&refusal.to_string()));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">{refresh}\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}}\
         small{{color:#777}}</style></head><body><h1>{what}</h1><p>{advice}</p>\
         <p><small>{number} {title} · {code}</small></p></body></html>\n",
        title = status.canonical_reason().unwrap_or("Error"),
        advice = escaped(refusal.advice()),
        number = status.as_u16(),
        code = refusal.code(),
    )
}

fn json(refusal: &Refusal) -> String {
    format!(
        "{{\"error\":{{\"code\":\"{}\",\"message\":\"{}\",\"advice\":\"{}\"}}}}\n",
        refusal.code(),
        crate::log::json_escaped(&refusal.to_string()),
        crate::log::json_escaped(refusal.advice()),
    )
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetError;

    #[test]
    fn what_a_client_wrote_is_never_markup() {
        let refusal = Refusal::Target(TargetError::Kind("<script>\"".to_owned()));
        let page = html(&refusal);
        assert!(!page.contains("<script>"), "{page}");
        assert!(
            json(&refusal).contains("\\\"<script>"),
            "{}",
            json(&refusal)
        );
    }

    #[test]
    fn the_form_follows_what_is_accepted() {
        for (accept, form) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", Form::Html),
            ("application/json, text/plain", Form::Json),
            ("*/*", Form::Text),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Form::of(&headers), form);
        }
        assert_eq!(Form::of(&HeaderMap::new()), Form::Text);
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        let response = with_slash("//evil.example/port/80", Some("a=1"));
        assert_eq!(response.headers()[LOCATION], "/evil.example/port/80/?a=1");
    }
}
