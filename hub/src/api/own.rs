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
use crate::entry::{Entry, Refused};
use crate::store::accounts;
use crate::store::passport_links::{self, Passport};

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
        Self::new(code, text)
    }
}

async fn verify(entry: Entry, call: Call) -> Result<Json, Error> {
    let account = caller(&call)?;
    if !entry.letters.are_sent() {
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

/// Whoever unlinks the last way to sign in is locked out, and an address of a domain that signs in by one way alone
/// keeps that.
async fn unlink(entry: Entry, mut call: Call) -> Result<Json, Error> {
    #[derive(Deserialize)]
    struct Unlink {
        strategy: String,
        id: String,
    }
    let account = caller(&call)?;
    let wanted: Unlink = call.argument(0)?;
    let passport = Passport {
        strategy: wanted.strategy,
        external_id: wanted.id,
    };
    let mut on = entry.store.write().await?;
    let found = accounts::locked(&mut on, account).await?;
    let found = found.ok_or_else(|| Error::new(Code::NotFound, "there is no such account"))?;
    let linked = passport_links::of_account(&mut on, account).await?;
    if !linked.contains(&passport) {
        let text = "the account is not linked with that";
        return Err(Error::new(Code::NotFound, text));
    }
    let info = passport_links::info(&mut on, &passport.strategy).await?;
    let address = found.email_address.as_deref().unwrap_or_default();
    if info.is_some_and(|info| is_exclusive(&info, address)) {
        let text = "accounts with an address of this domain sign in this way alone";
        return Err(Error::new(Code::FailedPrecondition, text).reason("EXCLUSIVE"));
    }
    let by_password = found.password_hash.is_some() && found.email_address.is_some();
    if linked.len() == 1 && !by_password {
        let text = "this is the only way to sign in to the account; set a password first";
        return Err(Error::new(Code::FailedPrecondition, text).reason("LAST_SIGN_IN"));
    }
    passport_links::delete(&mut on, account, &passport).await?;
    on.commit().await?;
    Ok(Json::Null)
}

/// Whether addresses of this domain sign in with this strategy alone: it is named, a domain above it is, or all are.
fn is_exclusive(info: &Json, address: &str) -> bool {
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let domains = info.get("exclusive_domains").and_then(Json::as_array);
    let mut domains = domains.into_iter().flatten().filter_map(Json::as_str);
    !domain.is_empty()
        && domains.any(|exclusive| {
            let exclusive = exclusive.to_lowercase();
            exclusive == "*"
                || domain == exclusive
                || domain
                    .strip_suffix(exclusive.as_str())
                    .is_some_and(|above| above.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_and_those_below_it_are_exclusive() {
        let info = json!({"exclusive_domains": ["Example.org", 7]});
        for (address, exclusive) in [
            ("a@example.org", true),
            ("a@cs.example.org", true),
            ("a@badexample.org", false),
            ("a@example.org.evil", false),
            ("", false),
        ] {
            assert_eq!(is_exclusive(&info, address), exclusive, "{address}");
        }
        assert!(is_exclusive(&json!({"exclusive_domains": ["*"]}), "a@b.c"));
        assert!(!is_exclusive(&json!({}), "a@b.c"));
    }
}
