//! Projects on an origin of their own, so that a page of a project is no page of the site.
//!
//! ```text
//!   site                                          host of the project
//!   GET /ID/port/80/  ──307──▶                    GET /ID/port/80/       no cookie: a secret for this browser, and
//!   GET /.dialtone/ticket?project&state&to  ◀─303─
//!     who has a session and may                  state is the digest of that secret
//!                     ──303──▶                    GET /.dialtone/enter?ticket
//!                                                   once, by the same browser: a cookie, and on to where it wanted
//! ```
//!
//! The cookie of a project's host carries the session, sealed with a key that projects do not have: access is asked for
//! as ever, and ends with the session. It never reaches a project, and the site takes it for nothing.

mod hosts;
pub use hosts::{Hosts, HostsError};

mod seal;
pub use seal::Key;

mod tickets;
pub(crate) use tickets::Tickets;

mod visit;
pub(crate) use visit::Visit;

use std::time::Duration;

use http::header::{
    CACHE_CONTROL, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    SET_COOKIE,
};
use http::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::access::Credentials;
use crate::body::Body;
use crate::error::Refusal;
use crate::project::ProjectId;

/// Where the site gives tickets, below its base.
pub(crate) const TICKET: &str = "/.dialtone/ticket";

/// Where the host of a project takes them, below the base.
pub(crate) const ENTER: &str = "/.dialtone/enter";

/// The cookie by which a browser is known to a project's host. Never a project's to read or to set.
pub(crate) const SESSION_COOKIE: &str = "dialtone_projects";

/// The cookie with the secret that a ticket must belong to.
pub(crate) const STATE_COOKIE: &str = "dialtone_enter";

/// How long a browser may take from asking for a ticket to showing it, signing in included.
const STATE_AGE_MAX: Duration = Duration::from_mins(30);

/// Longest path and query to which a ticket leads, in bytes; a longer one leads to the project's server itself.
const TO_LEN_MAX: usize = 4 << 10;

/// Where projects are, and how they know who comes.
#[derive(Clone, Debug)]
pub struct Separate {
    /// The hosts of projects.
    pub hosts: Hosts,
    /// Where the site itself is, as `https://example.org`. Port 0 stands for the one at which the proxy listens first.
    pub site: String,
    /// By which session cookies and tickets are sealed: the same for all proxies of a site.
    pub key: Key,
}

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The site, or any other name of it.
    Site,
    /// That of this project, or of all.
    Projects(Option<ProjectId>),
}

/// What the site is asked when a ticket is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) project: ProjectId,
    state: String,
    to: String,
}

/// What a ticket says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    project: ProjectId,
    state: String,
    to: String,
    cookies: Vec<String>,
}

impl Separate {
    pub(crate) fn at(&self, host: &str) -> At {
        self.hosts.at(host)
    }

    /// Whether what is sent over HTTP is encrypted on its way.
    fn is_secure(&self) -> bool {
        self.site.starts_with("https://")
    }

    /// The same place at the host of its project. What a request other than GET brings is not sent there by itself.
    pub(crate) fn elsewhere(&self, project: ProjectId, path_and_query: &str) -> Response<Body> {
        let origin = self.hosts.origin(&self.site, project);
        redirect(
            StatusCode::TEMPORARY_REDIRECT,
            &format!("{origin}{path_and_query}"),
        )
    }

    /// Has a browser that is not known at a project's host get a ticket.
    pub(crate) fn ask(
        &self,
        base: &str,
        project: ProjectId,
        to: &str,
        shown: &Credentials,
    ) -> Response<Body> {
        // Several tabs share a secret, so that each of them gets in.
        let known = shown
            .cookies
            .iter()
            .find_map(|pair| self.value(pair, STATE_COOKIE));
        let known = known.filter(|secret| seal::is_secret(secret));
        let secret = known.map_or_else(seal::secret, str::to_owned);
        let state = seal::digest(&secret);
        let encoded = utf8_percent_encode(to, NON_ALPHANUMERIC);
        let url = format!(
            "{}{base}{TICKET}?project={project}&state={state}&to={encoded}",
            self.site
        );
        let mut response = redirect(StatusCode::SEE_OTHER, &url);
        self.set_cookie(&mut response, STATE_COOKIE, &secret, Some(STATE_AGE_MAX));
        response
    }

    /// Reads a request for a ticket.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`].
    pub(crate) fn wanted(base: &str, query: &str) -> Result<Wanted, Refusal> {
        let wrong = Refusal::BadRequest("a ticket is for a project, a browser and a place in it");
        let (Some(project), Some(state), Some(to)) = (
            parameter(query, "project"),
            parameter(query, "state"),
            parameter(query, "to"),
        ) else {
            return Err(wrong);
        };
        let Ok(project) = project.parse::<ProjectId>() else {
            return Err(wrong);
        };
        let within = format!("{base}/{project}/");
        if !seal::is_secret(&state) || !is_place(&to) || !starts_with(&to, &within) {
            return Err(wrong);
        }
        Ok(Wanted { project, state, to })
    }

    /// The ticket for somebody who may, on the way to where it is shown.
    pub(crate) fn give(
        &self,
        base: &str,
        wanted: Wanted,
        credentials: &Credentials,
    ) -> Response<Body> {
        let Wanted { project, state, to } = wanted;
        let ticket = tickets::seal(
            &self.key,
            &Ticket {
                project,
                state,
                to,
                cookies: credentials.cookies.clone(),
            },
        );
        let origin = self.hosts.origin(&self.site, project);
        redirect(
            StatusCode::SEE_OTHER,
            &format!("{origin}{base}{ENTER}?ticket={ticket}"),
        )
    }

    /// Takes a ticket, once, from the browser that it was given to.
    ///
    /// # Errors
    /// [`Refusal::Ticket`].
    pub(crate) fn enter(
        &self,
        at: Option<ProjectId>,
        query: &str,
        headers: &HeaderMap,
        tickets: &Tickets,
    ) -> Result<Response<Body>, Refusal> {
        let shown = parameter(query, "ticket").ok_or(Refusal::Ticket)?;
        let ticket = tickets::open(&self.key, &shown).ok_or(Refusal::Ticket)?;
        let cookies = headers.get_all(COOKIE).iter();
        let mut pairs = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let state = pairs.find_map(|pair| self.value(pair.trim(), STATE_COOKIE));
        let state = state.map(seal::digest);
        let here = at.is_none_or(|project| project == ticket.project);
        if !here || state.as_ref() != Some(&ticket.state) || !tickets.take(&shown) {
            return Err(Refusal::Ticket);
        }
        let session = tickets::seal_session(&self.key, at, &ticket.cookies);
        let mut response = redirect(StatusCode::SEE_OTHER, &ticket.to);
        self.set_cookie(&mut response, SESSION_COOKIE, &session, None);
        Ok(response)
    }

    /// The credentials of the site's session, by the cookie of this host. Cookies of the site that come here by
    /// accident count for nothing.
    pub(crate) fn session(&self, at: Option<ProjectId>, shown: &Credentials) -> Credentials {
        let mut pairs = shown.cookies.iter();
        let sealed = pairs.find_map(|pair| self.value(pair, SESSION_COOKIE));
        let cookies = sealed.and_then(|sealed| tickets::open_session(&self.key, at, sealed));
        Credentials {
            cookies: cookies.unwrap_or_default(),
            key: shown.key.clone(),
        }
    }

    /// The value of a cookie, if it has this name.
    fn value<'a>(&self, pair: &'a str, name: &str) -> Option<&'a str> {
        let (found, value) = pair.split_once('=')?;
        (found == self.name(name)).then_some(value)
    }

    /// With encryption, a name that no page of another host can give to a cookie.
    fn name(&self, name: &str) -> String {
        let prefix = if self.is_secure() { "__Host-" } else { "" };
        format!("{prefix}{name}")
    }

    fn set_cookie(
        &self,
        response: &mut Response<Body>,
        name: &str,
        value: &str,
        age: Option<Duration>,
    ) {
        let name = self.name(name);
        let age = age.map_or_else(String::new, |age| format!("; Max-Age={}", age.as_secs()));
        let secure = if self.is_secure() { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{age}{secure}");
        if let Ok(text) = HeaderValue::from_str(&text) {
            response.headers_mut().append(SET_COOKIE, text);
        }
    }
}

/// The place to which a ticket leads: what was asked for, unless that is very long.
pub(crate) fn place<'a>(path_and_query: &'a str, scope: &'a str) -> &'a str {
    if path_and_query.len() <= TO_LEN_MAX {
        path_and_query
    } else {
        scope
    }
}

/// Whether a script has to do with it: only somebody who opens a page is led about.
pub(crate) fn is_opened(headers: &HeaderMap) -> bool {
    let mode = headers.get(HeaderName::from_static("sec-fetch-mode"));
    mode.is_none_or(|mode| mode == "navigate")
}

fn redirect(status: StatusCode, to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    match HeaderValue::from_str(to) {
        Ok(to) => {
            *response.status_mut() = status;
            response.headers_mut().insert(LOCATION, to);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A path with or without a query, of this host.
fn is_place(to: &str) -> bool {
    to.len() <= TO_LEN_MAX
        && to.starts_with('/')
        && !to.starts_with("//")
        && to
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

fn starts_with(text: &str, start: &str) -> bool {
    let begin = text.get(..start.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

/// A parameter of a query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))?;
    let decoded = percent_decode_str(value).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests;
