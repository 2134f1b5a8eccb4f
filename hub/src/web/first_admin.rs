//! What is behind the link by which the first administrator is made, for programs. People have a page there.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;

use super::entry::{failure, origin};
use super::{Answer, EntryPages, From, Pages, body};
use crate::entry::first_admin::{Invitation, Request as Wanted};

/// What the path begins with, below the base path; the secret of the link is behind it.
pub const PREFIX: &str = "/auth/first-admin/";

/// Takes `{email, password, firstName, lastName}` by `POST`, and answers as signing up does. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FirstAdminPages {
    pages: EntryPages,
    invitation: Arc<Invitation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    email: String,
    password: String,
    first_name: String,
    last_name: String,
}

impl Pages for FirstAdminPages {
    fn answer(
        &self,
        request: Request<Incoming>,
        from: From,
    ) -> Result<BoxFuture<'static, Answer>, Request<Incoming>> {
        let path = self.pages.names().below(request.uri().path());
        let token = path.and_then(|path| path.strip_prefix(PREFIX));
        let is_for_programs = *request.method() == Method::POST
            && body::is_of_type(request.headers(), "application/json");
        let Some(token) = token.filter(|_| is_for_programs) else {
            return Err(request);
        };
        let (page, token) = (self.clone(), token.to_owned());
        Ok(async move { page.sent(&token, request, from).await }.boxed())
    }
}

impl FirstAdminPages {
    /// For who has this invitation, who then comes in by these pages.
    pub fn new(pages: EntryPages, invitation: Arc<Invitation>) -> Self {
        Self { pages, invitation }
    }

    async fn sent(&self, token: &str, request: Request<Incoming>, from: From) -> Answer {
        if !self.invitation.is_open_to(token) {
            let text = "this link was used, or is none; `dialtone admin users promote` makes an administrator";
            return body::failure(StatusCode::NOT_FOUND, text);
        }
        let origin = origin(request.headers(), from);
        let fields: Fields = match body::json(request).await {
            Ok(fields) => fields,
            Err(refused) => return refused,
        };
        let wanted = Wanted {
            token,
            email_address: &fields.email,
            password: &fields.password,
            first_name: &fields.first_name,
            last_name: &fields.last_name,
            origin,
        };
        let made = self.pages.entry();
        let made = made.become_first_admin(&self.invitation, &wanted).await;
        match made {
            Ok(signed_in) => self.pages.welcome(&signed_in, from),
            Err(refused) => failure(&refused),
        }
    }
}
