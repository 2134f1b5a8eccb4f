//! Signing in by other sites, over HTTP, under the paths that CoCalc has for it.
//!
//! | `GET` | answers |
//! |---|---|
//! | `/auth/strategies` | the names of the ways to sign in; with `?v=2` objects that say how they are shown |
//! | `/auth/{name}` | leads to the other site; `?target=/path` is where to go afterwards, `?link=yes` links |
//! | `/auth/{name}/return` | takes what the other site has answered, gives a session, and leads on |
//!
//! What is refused is a page, or `{error, code}` for those who accept JSON.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderMap,
    HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value as Json, json};
use url::form_urlencoded;

use super::cookies::{self, Cookies, set_cookie};
use super::{From, Pages, body};
use crate::auth::cookie::Names;
use crate::entry::{self, Origin, vouched};
use crate::sso::strategy::RESERVED;
use crate::sso::{self, Answer, Refused, Sso, Strategy, Wish};

/// What all these paths begin with, below the base path.
const PREFIX: &str = "/auth/";

/// Longest query that is read, in bytes.
const QUERY_LEN_MAX: usize = 8 << 10;

/// The pages of signing in by other sites. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SsoPages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sso: Sso,
    names: Names,
}

/// A request, as far as these pages look at it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// With which method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a str,
    /// What stands behind `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// From which address of the network, if that is known.
    pub ip: Option<std::net::IpAddr>,
    /// Whether nobody on the way to the browser can read along, as a proxy says.
    pub encrypted: bool,
}

type Page = super::Answer;

impl Pages for SsoPages {
    fn answer(
        &self,
        request: Request<Incoming>,
        from: From,
    ) -> Result<BoxFuture<'static, Page>, Request<Incoming>> {
        if !self.is_own(request.uri().path()) {
            return Err(request);
        }
        let pages = self.clone();
        // Its body is not read.
        let (head, _) = request.into_parts();
        Ok(async move {
            let asked = Asked {
                method: &head.method,
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &head.headers,
                ip: Some(from.ip),
                encrypted: from.encrypted,
            };
            pages.page(asked).await
        }
        .boxed())
    }
}

/// What a path means.
enum Place<'a> {
    Strategies,
    Begin(&'a str),
    Return(&'a str),
}

impl SsoPages {
    /// With these ways to sign in, and cookies with these names.
    pub fn new(sso: Sso, names: Names) -> Self {
        Self(Arc::new(Inner { sso, names }))
    }

    /// Whether a path is one of these pages.
    pub fn is_own(&self, path: &str) -> bool {
        self.place(path).is_some()
    }

    /// Answers a request to one of its own paths.
    pub async fn page(&self, asked: Asked<'_>) -> Page {
        let Some(place) = self.place(asked.path) else {
            return refusal(
                &asked,
                StatusCode::NOT_FOUND,
                "not-found",
                "there is nothing here",
            );
        };
        if !matches!(*asked.method, Method::GET | Method::HEAD) {
            let code = StatusCode::METHOD_NOT_ALLOWED;
            let mut page = refusal(&asked, code, "method", "only GET");
            page.headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return page;
        }
        if asked.query.is_some_and(|query| query.len() > QUERY_LEN_MAX) {
            let text = format!("the query is longer than {QUERY_LEN_MAX} bytes");
            return refusal(&asked, StatusCode::URI_TOO_LONG, "too-long", &text);
        }
        let done = match place {
            Place::Strategies => self.strategies(&asked).await,
            Place::Begin(name) => self.begin(name, &asked).await,
            Place::Return(name) => self.finish(name, &asked).await,
        };
        done.unwrap_or_else(|refused| failure(&asked, &refused))
    }

    fn place<'a>(&self, path: &'a str) -> Option<Place<'a>> {
        let rest = self.0.names.below(path)?.strip_prefix(PREFIX)?;
        match rest.split_once('/') {
            None if rest == "strategies" => Some(Place::Strategies),
            None if rest.is_empty() || RESERVED.contains(&rest) => None,
            None => Some(Place::Begin(rest)),
            Some((name, "return")) if !RESERVED.contains(&name) => Some(Place::Return(name)),
            Some(_) => None,
        }
    }

    async fn strategies(&self, asked: &Asked<'_>) -> Result<Page, Refused> {
        let strategies = self.0.sso.strategies().await?;
        let shown: Json = if query(asked, "v").as_deref() == Some("2") {
            strategies.iter().map(shown).collect()
        } else {
            strategies
                .iter()
                .map(|strategy| strategy.name.as_str())
                .collect()
        };
        Ok(json_page(StatusCode::OK, &shown))
    }

    async fn begin(&self, name: &str, asked: &Asked<'_>) -> Result<Page, Refused> {
        let target = query(asked, "target");
        let session = self.0.names.session(cookies(asked));
        let wish = Wish {
            target: target.as_deref(),
            link: query(asked, "link").is_some_and(|link| !matches!(&*link, "" | "no" | "false")),
            session: session.as_deref(),
        };
        let begun = self.0.sso.begin(name, &wish, &origin(asked)).await?;
        let mut page = Response::new(Full::default());
        *page.status_mut() = StatusCode::SEE_OTHER;
        let location = HeaderValue::from_str(&begun.url);
        let location = location.map_err(|error| Refused::Provider(error.to_string()))?;
        page.headers_mut().insert(LOCATION, location);
        let (name, value) = (&begun.cookie_name, &begun.cookie);
        let cookie = self.cookies(asked).attempt(name, value, sso::LIFETIME);
        set_cookie(&mut page, &cookie);
        protect(&mut page);
        Ok(page)
    }

    async fn finish(&self, name: &str, asked: &Asked<'_>) -> Result<Page, Refused> {
        let get = |name| query(asked, name);
        let (state, code, issuer) = (get("state"), get("code"), get("iss"));
        let (error, description) = (get("error"), get("error_description"));
        let cookie_name = state.as_deref().map(sso::cookie_name);
        let cookie = cookie_name
            .as_deref()
            .and_then(|name| self.0.names.other(cookies(asked), name));
        let answer = Answer {
            state: state.as_deref(),
            code: code.as_deref(),
            error: error.as_deref(),
            error_description: description.as_deref(),
            issuer: issuer.as_deref(),
            cookie: cookie.as_deref(),
        };
        let done = self.0.sso.finish(name, &answer, &origin(asked)).await?;
        // A page and no redirect: with one, browsers would not send the session's cookie yet, since another site has led
        // here.
        let mut page = onward(&format!(
            "{}{}",
            self.0.names.base_path().trim_end_matches('/'),
            done.target
        ));
        let made = self.cookies(asked);
        if let Some(signed_in) = &done.signed_in {
            set_cookie(&mut page, &made.session(signed_in));
        }
        if let Some(name) = cookie_name {
            set_cookie(&mut page, &made.attempt(&name, "", Duration::ZERO));
        }
        Ok(page)
    }

    fn cookies(&self, asked: &Asked<'_>) -> Cookies<'_> {
        Cookies {
            entry: self.0.sso.entry(),
            names: &self.0.names,
            encrypted: asked.encrypted,
        }
    }
}

fn shown(strategy: &Strategy) -> Json {
    json!({
        "name": strategy.name,
        "display": strategy.display,
        "icon": strategy.icon,
        "description": strategy.description,
        "public": strategy.public,
        "exclusiveDomains": strategy.exclusive_domains,
        "doNotHide": strategy.do_not_hide,
    })
}

fn query(asked: &Asked<'_>, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(asked.query?.as_bytes());
    let mut found = pairs.filter(|(found, _)| found == name);
    found.next().map(|(_, value)| value.into_owned())
}

fn cookies<'a>(asked: &Asked<'a>) -> impl Iterator<Item = &'a [u8]> {
    asked
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
}

fn origin(asked: &Asked<'_>) -> Origin {
    cookies::origin(asked.headers, asked.ip)
}

/// A page that leads on by itself.
fn onward(target: &str) -> Page {
    let target = escaped(target);
    html(
        StatusCode::OK,
        &format!("<meta http-equiv=\"refresh\" content=\"0; url={target}\">"),
        &format!("<p>You are signed in. <a href=\"{target}\">Continue</a></p>"),
    )
}

/// What somebody is told who does not come in.
fn failure(asked: &Asked<'_>, refused: &Refused) -> Page {
    let code = status(refused);
    if code.is_server_error() {
        tracing::warn!(
            error = refused as &dyn std::error::Error,
            "somebody could not be let in by another site"
        );
    }
    let text = if let Refused::Misconfigured { strategy, .. } = refused {
        format!("signing in with {strategy} is not set up correctly; the administrators know why")
    } else if matches!(refused, Refused::Entry(vouched::Refused::Store(_))) {
        "this is not possible now; try again later".to_owned()
    } else {
        refused.to_string()
    };
    let mut page = refusal(asked, code, refused.code(), &text);
    if let Refused::Entry(vouched::Refused::Entry(inner)) = refused
        && let entry::Refused::Throttled { wait } = **inner
    {
        let seconds = HeaderValue::from(wait.as_secs().max(1));
        page.headers_mut().insert(RETRY_AFTER, seconds);
    }
    page
}

fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Misconfigured { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::Target | Refused::State => StatusCode::BAD_REQUEST,
        Refused::Denied(_) | Refused::Proof(_) => StatusCode::FORBIDDEN,
        Refused::Provider(_) => StatusCode::BAD_GATEWAY,
        Refused::Entry(refused) => match refused {
            vouched::Refused::NotSignedIn => StatusCode::UNAUTHORIZED,
            vouched::Refused::LinkedElsewhere | vouched::Refused::EmailAddressTaken(_) => {
                StatusCode::CONFLICT
            }
            vouched::Refused::Banned => StatusCode::FORBIDDEN,
            vouched::Refused::Entry(inner) => super::status(inner),
            vouched::Refused::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

fn refusal(asked: &Asked<'_>, status: StatusCode, code: &str, text: &str) -> Page {
    let accepts = asked
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok());
    let json = accepts
        .is_some_and(|types| types.contains("application/json") && !types.contains("text/html"));
    if json {
        return json_page(status, &json!({ "error": text, "code": code }));
    }
    let text = escaped(text);
    let body = format!("<h1>This did not work</h1><p>{text}.</p><p><small>{code}</small></p>");
    html(status, "", &body)
}

fn json_page(status: StatusCode, value: &Json) -> Page {
    let mut page = body::answer(status, value);
    protect(&mut page);
    page
}

fn html(status: StatusCode, head: &str, body: &str) -> Page {
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Signing in</title>{head}</head>\
         <body>{body}</body></html>\n"
    );
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    page.headers_mut().insert(CONTENT_TYPE, html);
    protect(&mut page);
    page
}

/// Nothing of it is kept, shown inside another page, or tells other sites where it is.
fn protect(page: &mut Page) {
    let nothing = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let pairs = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, nothing),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    let headers = page.headers_mut();
    for (name, value) in pairs {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_leave_the_page_that_leads_to_it() {
        assert_eq!(
            escaped("/a?b='\"><script>&"),
            "/a?b=&#39;&quot;&gt;&lt;script&gt;&amp;"
        );
    }
}
