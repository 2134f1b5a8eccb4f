//! `system`: how the caller's own account is signed in to, and ending services of a hub.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::throttled::count;
use crate::auth::throttle::Action;
use crate::email::EmailAddress;
use crate::entry::vouched::Unlink;
use crate::entry::{Entry, Refused};
use crate::letters;
use crate::store::accounts;

/// What a hub has that can be ended by a call.
pub trait Services: Send + Sync {
    /// Ends a service of this hub alone; `false` if it has none. That of the functions ends after the answer.
    fn end(&self, service: Service) -> BoxFuture<'_, bool>;
}

/// A service that can be ended by a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Telling clients of changes.
    Changefeeds,
    /// Streams.
    Persist,
    /// The functions.
    Api,
}

impl Service {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Changefeeds => "changefeeds",
            Self::Persist => "persist",
            Self::Api => "api",
        }
    }
}

#[derive(Deserialize)]
struct Terminate {
    service: Service,
}

#[derive(Clone)]
struct Shared(Arc<dyn Services>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Services")
    }
}

/// The handlers with that of `system.terminate`.
pub fn install_terminate(services: Arc<dyn Services>, handlers: Handlers) -> Handlers {
    handlers.with_on("system.terminate", &Shared(services), terminate)
}

async fn terminate(services: Shared, mut call: Call) -> Result<Json, Error> {
    let Terminate { service } = call.argument(0)?;
    let name = service.name();
    if !services.0.end(service).await {
        let text = format!("this hub runs no service {name}");
        return Err(Error::new(Code::NotFound, text));
    }
    tracing::warn!(caller = %call.caller, service = name, "a service was ended by a call");
    Ok(json!({"status": "terminated", "service": name}))
}

/// The handlers with those about the caller's own account.
pub fn install(entry: &Entry, handlers: Handlers) -> Handlers {
    handlers
        .with_on("system.sendEmailVerification", entry, verify)
        .with_on("system.deletePassport", entry, unlink)
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        let is_exclusive = matches!(refused, Refused::Exclusive(_));
        let code = match refused {
            Refused::Store(error) => return error.into(),
            Refused::Password(error) => return error.into(),
            Refused::Throttled { .. } => Code::TooMany,
            Refused::Disabled(_) => Code::NotConfigured,
            Refused::EmailAddress | Refused::Name { .. } | Refused::Weak(_) => {
                Code::InvalidArgument
            }
            Refused::EmailAddressTaken => Code::Conflict,
            Refused::Exclusive(_) => Code::FailedPrecondition,
            Refused::Wrong | Refused::Banned | Refused::Registration(_) | Refused::Token => {
                Code::PermissionDenied
            }
        };
        let error = Self::new(code, text);
        if is_exclusive {
            error.reason("EXCLUSIVE")
        } else {
            error
        }
    }
}

async fn verify(entry: Entry, call: Call) -> Result<Json, Error> {
    let account = caller(&call)?;
    if !entry.letters.are_sent_of(letters::Kind::Verification) {
        let text = "sending e-mail is not configured on this site";
        return Err(Error::new(Code::NotConfigured, text));
    }
    let found = {
        let mut on = entry.store.read().await?;
        accounts::by_id(&mut on, account).await?
    };
    let found = found.ok_or_else(|| Error::new(Code::NotFound, "there is no such account"))?;
    let address: EmailAddress = found
        .email_address
        .as_deref()
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| {
            let text = "the account has no e-mail address";
            Error::new(Code::FailedPrecondition, text)
        })?;
    if found.email_address_verified.get(address.as_str()).is_some() {
        return Ok(Json::Null);
    }
    count(&entry.store, Action::Verification, &account.to_string()).await?;
    entry.challenge(account, &address).await?;
    Ok(Json::Null)
}

async fn unlink(entry: Entry, mut call: Call) -> Result<Json, Error> {
    #[derive(Deserialize)]
    struct Wanted {
        strategy: String,
        id: String,
    }
    let account = caller(&call)?;
    let Wanted { strategy, id } = call.argument(0)?;
    entry.unlink(account, &strategy, &id).await?;
    Ok(Json::Null)
}

impl From<Unlink> for Error {
    fn from(refused: Unlink) -> Self {
        let text = refused.to_string();
        let failed = |reason| Self::new(Code::FailedPrecondition, &*text).reason(reason);
        match refused {
            Unlink::Unknown => Self::new(Code::NotFound, text),
            Unlink::Exclusive(_) => failed("EXCLUSIVE"),
            Unlink::LastWay => failed("LAST_SIGN_IN"),
            Unlink::Store(error) => error.into(),
        }
    }
}
