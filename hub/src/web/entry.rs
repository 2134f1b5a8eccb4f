//! Signing up, in and out over HTTP, under the paths and with the fields that front ends of CoCalc know.
//!
//! | `POST` | takes | answers |
//! |---|---|---|
//! | `/api/v2/auth/sign-up` | `{email, password, firstName, lastName, registrationToken?, tags?, signupReason?}` | `{account_id}` and the session's cookie, or `{issues: {field: text}}` |
//! | `/api/v2/auth/sign-in` | `{email, password}` | `{account_id}` and the cookie |
//! | `/api/v2/auth/ephemeral` | `{registrationToken}` | the same, in an account that ends by itself |
//! | `/api/v2/auth/sign-out` | `{all?}` | `{}`; this session ends, or all of the account |
//! | `/api/v2/auth/password-reset` | `{email}` | `{success}`, whether or not there is such an account |
//! | `/api/v2/auth/redeem-password-reset` | `{passwordResetId, password}` | `{account_id}` |
//! | `/api/v2/auth/verify-email` | `{email, token}` | `{account_id}` |
//!
//! What is refused is `{error}` with a code of HTTP that fits.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{COOKIE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::cookies::{self, Cookies, set_cookie};
use super::{Answer, From, Pages, body};
use crate::accounts;
use crate::auth::cookie::{Credential, Names};
use crate::auth::password;
use crate::entry::sign_in::Request as SignIn;
use crate::entry::sign_up::Request as SignUp;
use crate::entry::{Entry, Origin, Refused, SignedIn};
use crate::gate::{Gate, Keeper as _, Offer};
use crate::id::AccountId;
use crate::identity;

/// What all these paths begin with, below the base path.
const PREFIX: &str = "/api/v2/auth/";

/// The door for browsers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EntryPages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entry: Entry,
    gate: Gate,
    names: Names,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignUpFields {
    email: String,
    password: String,
    first_name: String,
    last_name: String,
    registration_token: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    signup_reason: Option<String>,
}

#[derive(Deserialize)]
struct SignInFields {
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EphemeralFields {
    registration_token: String,
}

#[derive(Deserialize)]
struct SignOutFields {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
struct ResetFields {
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedeemFields {
    password_reset_id: String,
    password: String,
}

#[derive(Deserialize)]
struct VerifyFields {
    email: String,
    token: String,
}

impl Pages for EntryPages {
    fn answer(
        &self,
        request: Request<Incoming>,
        from: From,
    ) -> Result<BoxFuture<'static, Answer>, Request<Incoming>> {
        let path = self.0.names.below(request.uri().path());
        let Some(name) = path.and_then(|path| path.strip_prefix(PREFIX)) else {
            return Err(request);
        };
        let name = name.to_owned();
        let pages = self.clone();
        Ok(async move {
            let done = pages.named(&name, request, from).await;
            done.unwrap_or_else(|refused| refused)
        }
        .boxed())
    }
}

impl EntryPages {
    /// At this door; who asks to be signed out is found out by the gate, and cookies have these names.
    pub fn new(entry: Entry, gate: Gate, names: Names) -> Self {
        Self(Arc::new(Inner { entry, gate, names }))
    }

    async fn named(
        &self,
        name: &str,
        request: Request<Incoming>,
        from: From,
    ) -> Result<Answer, Answer> {
        if *request.method() != Method::POST {
            let mut answer = body::failure(StatusCode::METHOD_NOT_ALLOWED, "only POST");
            answer
                .headers_mut()
                .insert("allow", HeaderValue::from_static("POST"));
            return Err(answer);
        }
        let origin = origin(request.headers(), from);
        match name {
            "sign-up" => self.sign_up(body::json(request).await?, origin, from).await,
            "sign-in" => self.sign_in(body::json(request).await?, origin, from).await,
            "ephemeral" => {
                self.ephemeral(body::json(request).await?, &origin, from)
                    .await
            }
            "sign-out" => {
                let headers = request.headers().clone();
                self.sign_out(body::json(request).await?, &headers, from)
                    .await
            }
            "password-reset" => {
                self.ask_for_reset(body::json(request).await?, &origin)
                    .await
            }
            "redeem-password-reset" => self.reset(body::json(request).await?, &origin).await,
            "verify-email" => self.verify(body::json(request).await?, &origin).await,
            _ => Err(body::failure(
                StatusCode::NOT_FOUND,
                "there is nothing here",
            )),
        }
    }

    async fn sign_up(
        &self,
        fields: SignUpFields,
        origin: Origin,
        from: From,
    ) -> Result<Answer, Answer> {
        let wanted = SignUp {
            email_address: &fields.email,
            password: &fields.password,
            first_name: &fields.first_name,
            last_name: &fields.last_name,
            token: fields.registration_token.as_deref(),
            tags: fields.tags,
            intent: fields.signup_reason,
            origin,
        };
        let signed_in = self.0.entry.sign_up(&wanted).await;
        signed_in
            .map(|signed_in| self.welcome(&signed_in, from))
            .map_err(|refused| issue(&refused).unwrap_or_else(|| failure(&refused)))
    }

    async fn sign_in(
        &self,
        fields: SignInFields,
        origin: Origin,
        from: From,
    ) -> Result<Answer, Answer> {
        let wanted = SignIn {
            email_address: &fields.email,
            password: &fields.password,
            origin,
        };
        let signed_in = self.0.entry.sign_in(&wanted).await;
        let signed_in = signed_in.map_err(|refused| failure(&refused))?;
        Ok(self.welcome(&signed_in, from))
    }

    async fn ephemeral(
        &self,
        fields: EphemeralFields,
        origin: &Origin,
        from: From,
    ) -> Result<Answer, Answer> {
        let token = &fields.registration_token;
        let signed_in = self.0.entry.sign_up_ephemeral(token, origin).await;
        let signed_in = signed_in.map_err(|refused| failure(&refused))?;
        Ok(self.welcome(&signed_in, from))
    }

    /// Whoever is signed out already is done.
    async fn sign_out(
        &self,
        fields: SignOutFields,
        headers: &HeaderMap,
        from: From,
    ) -> Result<Answer, Answer> {
        let entry = &self.0.entry;
        let cookies = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        if let Ok(Credential::RememberMe(cookie)) = self.0.names.read(cookies) {
            let who = self.0.gate.admit(&Offer::Token(cookie.clone())).await;
            let account = who.ok().and_then(|identity| identity.caller.account());
            if let Some(account) = account.filter(|_| fields.all) {
                let ended = accounts::sign_out(&entry.store, account, None).await;
                ended.map_err(|error| failure(&error.into()))?;
            } else {
                let ended = entry.sign_out(&cookie).await;
                ended.map_err(|refused| failure(&refused))?;
            }
        }
        let mut answer = body::answer(StatusCode::OK, &json!({}));
        set_cookie(&mut answer, &self.forgotten(from));
        Ok(answer)
    }

    async fn ask_for_reset(&self, fields: ResetFields, origin: &Origin) -> Result<Answer, Answer> {
        let asked = self.0.entry.ask_for_reset(&fields.email, origin).await;
        asked.map_err(|refused| failure(&refused))?;
        let text = format!(
            "If there is an account with the address {}, a letter with a link is on its way.",
            fields.email
        );
        Ok(body::answer(StatusCode::OK, &json!({ "success": text })))
    }

    async fn reset(&self, fields: RedeemFields, origin: &Origin) -> Result<Answer, Answer> {
        let (token, password) = (&fields.password_reset_id, &fields.password);
        let account = self.0.entry.reset(token, password, origin).await;
        let account = account.map_err(|refused| failure(&refused))?;
        Ok(body::answer(
            StatusCode::OK,
            &json!({ "account_id": account }),
        ))
    }

    async fn verify(&self, fields: VerifyFields, origin: &Origin) -> Result<Answer, Answer> {
        let account = self
            .0
            .entry
            .verify(&fields.email, &fields.token, origin)
            .await;
        let account = account.map_err(|refused| failure(&refused))?;
        Ok(body::answer(
            StatusCode::OK,
            &json!({ "account_id": account }),
        ))
    }

    /// Who has come in, and the cookie that shows it from now on.
    pub(super) fn welcome(&self, signed_in: &SignedIn, from: From) -> Answer {
        let account = json!({ "account_id": signed_in.account_id });
        let mut answer = body::answer(StatusCode::OK, &account);
        set_cookie(&mut answer, &self.cookie(signed_in, from));
        answer
    }

    /// The `Set-Cookie` header for somebody who has come in.
    pub fn cookie(&self, signed_in: &SignedIn, from: From) -> String {
        self.cookies(from).session(signed_in)
    }

    /// The `Set-Cookie` header for somebody who has gone.
    pub fn forgotten(&self, from: From) -> String {
        self.cookies(from).forgotten()
    }

    /// What cookies are called, and where the site lies.
    pub(super) fn names(&self) -> &Names {
        &self.0.names
    }

    /// The ways in.
    pub fn entry(&self) -> &Entry {
        &self.0.entry
    }

    /// The value of the session's cookie, and whose it is; `None` for who is not signed in.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub async fn visitor(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<(AccountId, String)>, Refused> {
        let cookies = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        let Ok(Credential::RememberMe(session)) = self.0.names.read(cookies) else {
            return Ok(None);
        };
        match self.0.gate.admit(&Offer::Token(session.clone())).await {
            Ok(identity) => Ok(identity.caller.account().map(|account| (account, session))),
            Err(identity::Refused::Unavailable(error)) => Err(Refused::Store(error)),
            Err(_not) => Ok(None),
        }
    }

    fn cookies(&self, from: From) -> Cookies<'_> {
        Cookies {
            entry: &self.0.entry,
            names: &self.0.names,
            encrypted: from.encrypted,
        }
    }
}

/// From where a request comes, for what is written down about it.
pub fn origin(headers: &HeaderMap, from: From) -> Origin {
    cookies::origin(headers, Some(from.ip))
}

/// What is wrong with what was filled in, by the field of the form.
fn issue(refused: &Refused) -> Option<Answer> {
    let field = match refused {
        Refused::EmailAddress
        | Refused::EmailAddressTaken
        | Refused::Exclusive(_)
        | Refused::Disabled(_) => "email",
        Refused::Weak(_) | Refused::Password(password::Error::TooLong) => "password",
        Refused::Name { field, .. } if field.contains("first") => "firstName",
        Refused::Name { .. } => "lastName",
        Refused::Registration(_) => "registrationToken",
        Refused::Wrong
        | Refused::Banned
        | Refused::Throttled { .. }
        | Refused::Token
        | Refused::Password(_)
        | Refused::Store(_) => return None,
    };
    let issues: Map<String, Json> = [(field.to_owned(), refused.to_string().into())]
        .into_iter()
        .collect();
    let answer = json!({ "issues": issues });
    Some(body::answer(StatusCode::BAD_REQUEST, &answer))
}

/// What somebody is told who does not come in.
pub(super) fn failure(refused: &Refused) -> Answer {
    let code = status(refused);
    if code.is_server_error() {
        tracing::warn!(
            error = refused as &dyn std::error::Error,
            "somebody could not be let in"
        );
        return body::failure(code, "this is not possible now; try again later");
    }
    let mut answer = body::failure(code, &refused.to_string());
    if let Refused::Throttled { wait } = refused {
        let seconds = HeaderValue::from(wait.as_secs().max(1));
        answer.headers_mut().insert(RETRY_AFTER, seconds);
    }
    answer
}

/// The code of HTTP for that.
pub fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Wrong | Refused::Token => StatusCode::UNAUTHORIZED,
        Refused::Banned | Refused::Disabled(_) | Refused::Exclusive(_) => StatusCode::FORBIDDEN,
        Refused::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refused::EmailAddress
        | Refused::EmailAddressTaken
        | Refused::Name { .. }
        | Refused::Weak(_)
        | Refused::Registration(_)
        | Refused::Password(password::Error::TooLong) => StatusCode::BAD_REQUEST,
        Refused::Password(password::Error::Busy) | Refused::Store(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Refused::Password(password::Error::Malformed | password::Error::Broken(_)) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
