//! A request where projects are on an origin of their own: to the site, or to the host of projects.

use http::{Method, Request, Response};

use super::{At, ENTER, SESSION_COOKIE, STATE_COOKIE, Separate, TICKET, is_opened, place};
use crate::access::{Credentials, Level};
use crate::body::Body;
use crate::error::Refusal;
use crate::headers::request::{self, Upgrade};
use crate::page;
use crate::site::Site;
use crate::target::{Target, Want};

/// One request.
pub(crate) struct Visit<'a> {
    separate: &'a Separate,
    at: At,
}

impl Separate {
    /// A request to this host.
    pub(crate) fn visit(&self, host: &str) -> Visit<'_> {
        Visit {
            separate: self,
            at: self.at(host),
        }
    }

    /// The cookies that are ours on the hosts of projects.
    pub(crate) fn cookies() -> [String; 2] {
        [SESSION_COOKIE, STATE_COOKIE].map(str::to_owned)
    }
}

impl Visit<'_> {
    /// Whether nothing but projects is here.
    pub(crate) fn is_to_projects(&self) -> bool {
        matches!(self.at, At::Projects(_))
    }

    /// The answer to what belongs to neither the site nor a project: tickets. `None` for other requests.
    pub(crate) async fn answer<B>(
        &self,
        site: &Site,
        request: &Request<B>,
    ) -> Option<Result<Response<Body>, Refusal>> {
        let base = site.config.base.as_str();
        let path = request.uri().path().strip_prefix(base)?;
        let wanted = match self.at {
            At::Site => path == TICKET,
            At::Projects(_) => path == ENTER,
        };
        if !wanted {
            return None;
        }
        if *request.method() != Method::GET {
            return Some(Err(Refusal::Method(request.method().clone())));
        }
        if !is_opened(request.headers()) {
            return Some(Err(Refusal::Ticket));
        }
        let query = request.uri().query().unwrap_or_default();
        Some(match self.at {
            At::Site => self.give(site, request, query).await,
            At::Projects(at) => {
                let (headers, tickets) = (request.headers(), &site.tickets);
                self.separate.enter(at, query, headers, tickets)
            }
        })
    }

    /// A ticket for who has a session and may use the project.
    async fn give<B>(
        &self,
        site: &Site,
        request: &Request<B>,
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        let config = &site.config;
        let wanted = Separate::wanted(&config.base, query)?;
        let mut headers = request.headers().clone();
        let from = headers
            .get("sec-fetch-site")
            .map(|from| from == "cross-site");
        let mut credentials = request::take_credentials(&mut headers, &config.names);
        // A key is shown by a program, which needs no ticket.
        credentials.key = None;
        if credentials.is_empty() && from == Some(true) {
            // A browser keeps strict cookies from what a page of another site has led to, but not from this page.
            return Ok(page::again(request.uri()));
        }
        let shown = credentials.clone();
        let checked = site.grants.check(wanted.project, shown, Level::Write);
        checked.await?;
        Ok(self.separate.give(&config.base, wanted, &credentials))
    }

    /// Where a browser is led that asks the site for a project's server.
    ///
    /// # Errors
    /// [`Refusal::Elsewhere`] where it cannot be led.
    pub(crate) fn leads<B>(
        &self,
        target: &Target,
        upgrade: Upgrade,
        request: &Request<B>,
        credentials: &Credentials,
    ) -> Result<Option<Response<Body>>, Refusal> {
        match self.at {
            At::Projects(Some(project)) if project != target.project => Err(Refusal::NotFound),
            At::Projects(_) => Ok(None),
            At::Site => {
                // Files are shown in a sandbox, and no page of a browser sends a key by itself.
                let by_key = credentials.key.is_some() && credentials.cookies.is_empty();
                if by_key || matches!(target.want, Want::File(_)) {
                    return Ok(None);
                }
                if !is_get(request.method()) || upgrade == Upgrade::WebSocket {
                    return Err(Refusal::Elsewhere);
                }
                Ok(Some(
                    self.separate.elsewhere(target.project, whole(request)),
                ))
            }
        }
    }

    /// Puts the session of the site in the place of what was shown at the host of projects, which is given.
    pub(crate) fn unseal(&self, credentials: &mut Credentials) -> Option<Credentials> {
        let At::Projects(at) = self.at else {
            return None;
        };
        let session = self.separate.session(at, credentials);
        Some(std::mem::replace(credentials, session))
    }

    /// Leads somebody who has shown nothing that counts to a ticket; `None` where nobody looks at a page.
    pub(crate) fn ask<B>(
        &self,
        base: &str,
        target: &Target,
        upgrade: Upgrade,
        request: &Request<B>,
        shown: &Credentials,
    ) -> Option<Response<Body>> {
        let may = is_get(request.method())
            && upgrade == Upgrade::None
            && is_opened(request.headers())
            && shown.key.is_none();
        may.then(|| {
            let to = place(whole(request), &target.scope);
            self.separate.ask(base, target.project, to, shown)
        })
    }
}

fn is_get(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

fn whole<B>(request: &Request<B>) -> &str {
    let uri = request.uri();
    uri.path_and_query()
        .map_or_else(|| uri.path(), http::uri::PathAndQuery::as_str)
}
