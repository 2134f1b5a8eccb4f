//! What all pages have: their frame, their headers, their style.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use maud::{DOCTYPE, Markup, html};
use sha2::{Digest as _, Sha256};

pub(crate) type Answer = dialtone_hub::web::Answer;

/// Only the style is loaded, forms go to this site, and no page shows another one within itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

const STYLE: &str = include_str!("style.css");

/// The name of the style's file has the style's digest, so that browsers keep each version for ever.
static STYLE_NAME: LazyLock<String> = LazyLock::new(|| {
    let mut name = String::from("site-");
    for byte in Sha256::digest(STYLE).iter().take(8) {
        write!(name, "{byte:02x}").expect("a string takes whatever is written to it");
    }
    name + ".css"
});

/// The frame of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Where the site begins; empty, or a path without a slash at its end.
    pub(crate) base: &'a str,
    /// What the site is called.
    pub(crate) site: &'a str,
    pub(crate) title: &'a str,
    /// For who is signed in: the token of the forms.
    pub(crate) token: Option<&'a str>,
    /// After how long the page is loaded again.
    pub(crate) refresh: Option<Duration>,
}

impl Frame<'_> {
    /// The page with this in it.
    pub(crate) fn answer(&self, code: StatusCode, content: &Markup) -> Answer {
        let text = self.whole(content).into_string();
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = code;
        let headers = answer.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        headers.insert(HeaderName::from_static("content-security-policy"), POLICY);
        // A window of somebody else has no hand on this one.
        let own = HeaderValue::from_static("same-origin");
        headers.insert(
            HeaderName::from_static("cross-origin-opener-policy"),
            own.clone(),
        );
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            own.clone(),
        );
        headers.insert(REFERRER_POLICY, own);
        guarded(answer)
    }

    fn whole(&self, content: &Markup) -> Markup {
        let base = self.base;
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    @if let Some(refresh) = self.refresh {
                        meta http-equiv="refresh" content=(refresh.as_secs().max(1));
                    }
                    title { (self.title) " – " (self.site) }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href={ (base) "/static/" (STYLE_NAME.as_str()) };
                }
                body {
                    header {
                        a.name href={ (base) "/" } { (self.site) }
                        @if let Some(token) = self.token {
                            nav {
                                a href={ (base) "/projects" } { "Projects" }
                                a href={ (base) "/account" } { "Account" }
                                form method="post" action={ (base) "/auth/sign-out" } {
                                    (hidden(token))
                                    button.link { "Sign out" }
                                }
                            }
                        }
                    }
                    main {
                        h1 { (self.title) }
                        (content)
                    }
                }
            }
        }
    }
}

/// The token, within a form.
pub(crate) fn hidden(token: &str) -> Markup {
    html! { input type="hidden" name="token" value=(token); }
}

/// What went wrong, if anything did.
pub(crate) fn wrong(text: Option<&str>) -> Markup {
    html! {
        @if let Some(text) = text {
            p.wrong role="alert" { (text) }
        }
    }
}

/// A line to be filled in.
pub(crate) fn field(label: &str, name: &str, kind: &str, value: &str, complete: &str) -> Markup {
    html! {
        label {
            (label)
            input name=(name) type=(kind) value=(value) autocomplete=(complete) required;
        }
    }
}

/// To another page, which is asked for by `GET`.
pub(crate) fn go(place: &str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    // Places are made of paths and numbers of ours alone.
    let place = HeaderValue::from_str(place).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(LOCATION, place);
    guarded(answer)
}

/// A line of text.
pub(crate) fn plain(code: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *answer.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    guarded(answer)
}

/// The style, if that is its name.
pub(crate) fn style(name: &str) -> Option<Answer> {
    (name == STYLE_NAME.as_str()).then(|| {
        let mut answer = Response::new(Full::new(Bytes::from_static(STYLE.as_bytes())));
        let headers = answer.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/css; charset=utf-8"),
        );
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let ever = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(CACHE_CONTROL, ever);
        answer
    })
}

fn guarded(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
