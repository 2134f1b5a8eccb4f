//! The hub as the broker's provider: the one of this process, or whichever answers over the broker.

use std::sync::Arc;
use std::time::Duration;

use dialtone_broker::auth::{Answer, Authenticate, Offer, Permissions, Principal};
use dialtone_hub::auth::api_key;
use dialtone_hub::auth::cookie::{self, Names};
use dialtone_hub::auth::token::Token;
use dialtone_hub::caller::Caller;
use dialtone_hub::gate::{self, Keeper};
use dialtone_hub::identity::{Identity, Refused};
use dialtone_hub::permission::Affected;
use dialtone_protocol::Code;
use dialtone_protocol::frame::{Action, Credentials, Refused as NotLetIn};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// What a hub is called, so that clients of the original know it for one.
const HUB: &str = "hub-hub";

/// How long the hub may take for an answer about somebody who is let in already; the broker would send them away.
const STILL_MAX: Duration = Duration::from_secs(5);

/// How often it is tried again to decide what could not be decided.
const RETRY: Duration = Duration::from_secs(1);

/// Most of those about whom something could not be decided; of more, everybody is asked again.
const UNSURE_MAX: usize = 10_000;

/// Asks the hub, on the hub's own thread if it has one.
#[derive(Clone)]
pub(crate) struct Door {
    gate: Arc<dyn Keeper>,
    runtime: Handle,
    names: Names,
    /// Who decides about those that offer nothing of the hub's.
    others: Option<Arc<dyn Authenticate>>,
    unsure: Arc<Mutex<Unsure>>,
}

/// Who was denied something because nobody could find out whether they may.
#[derive(Debug, Default)]
struct Unsure {
    who: std::collections::BTreeSet<Arc<str>>,
    everybody: bool,
}

impl Door {
    /// `others` decide about those who offer nothing that is the hub's; without them such are refused.
    pub(crate) fn new(
        gate: Arc<dyn Keeper>,
        runtime: Handle,
        names: Names,
        others: Option<Arc<dyn Authenticate>>,
    ) -> Self {
        Self {
            gate,
            runtime,
            names,
            others,
            unsure: Arc::default(),
        }
    }

    /// Tells the broker whenever somebody's rights have changed, until `stop`.
    pub(crate) async fn follow(self, broker: dialtone_broker::Handle, stop: CancellationToken) {
        let telling = broker.clone();
        let told = move |affected| match affected {
            Affected::One(caller) => telling.permissions_changed(Some(&*name(caller))),
            Affected::All => telling.permissions_changed(None),
        };
        let following = self.gate.follow(Box::new(told), stop.clone());
        let deciding = self.decide_later(&broker, &stop);
        tokio::join!(following, deciding);
    }

    /// Has those asked again for whom nothing could be decided, as soon as something can be.
    async fn decide_later(&self, broker: &dialtone_broker::Handle, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            if self.unsure.lock().is_empty() || !self.gate.is_able().await {
                continue;
            }
            let unsure = std::mem::take(&mut *self.unsure.lock());
            if unsure.everybody {
                broker.permissions_changed(None);
            }
            for identity in unsure.who {
                broker.permissions_changed(Some(&*identity));
            }
        }
    }

    async fn judge(&self, offer: Offer<'_>) -> Result<Principal, NotLetIn> {
        let offered = offered(&offer);
        match &self.others {
            Some(others) if !self.is_ours(&offered) => others.authenticate(offer).await,
            Some(_) | None => self.admitted(offered).await,
        }
    }

    /// Whether what is offered can be a credential of the hub, by its form.
    fn is_ours(&self, offered: &gate::Offer) -> bool {
        match offered {
            // Sessions of the original have signs between their parts.
            gate::Offer::Token(token) => {
                token.starts_with(api_key::PREFIX) || token.contains('$') || Token::has_form(token)
            }
            gate::Offer::Password { user, .. } => user.parse::<Caller>().is_ok(),
            gate::Offer::Cookies(headers) => {
                let read = self.names.read(headers.iter().map(String::as_bytes));
                !matches!(read, Err(cookie::Error::Missing { .. }))
            }
        }
    }

    async fn ask(&self, offered: gate::Offer) -> Option<Result<Identity, Refused>> {
        let gate = Arc::clone(&self.gate);
        let asked = self
            .runtime
            .spawn(async move { gate.admit(&offered).await });
        asked.await.ok()
    }

    async fn admitted(&self, offered: gate::Offer) -> Result<Principal, NotLetIn> {
        match self.ask(offered).await {
            Some(Ok(identity)) => Ok(principal(identity)),
            Some(Err(refused)) => Err(not_let_in(&refused)),
            None => Err(NotLetIn::new(Code::Draining, "the hub is going away")),
        }
    }

    async fn may(&self, principal: &Principal, action: Action, subject: &str) -> bool {
        let Some(caller) = caller(&principal.identity) else {
            return match &self.others {
                Some(others) => others.authorize(principal, action, subject).await,
                None => false,
            };
        };
        if let Ok(allowed) = self.gate.may_now(caller, action, subject) {
            return allowed;
        }
        let (gate, text) = (Arc::clone(&self.gate), subject.to_owned());
        let asked = self
            .runtime
            .spawn(async move { gate.may(caller, action, &text).await });
        if let Ok(Ok(allowed)) = asked.await {
            return allowed;
        }
        self.unsure.lock().add(&principal.identity);
        false
    }

    async fn again(&self, principal: &Principal) -> Result<Principal, NotLetIn> {
        let Some(caller) = caller(&principal.identity) else {
            return match &self.others {
                Some(others) => others.refresh(principal).await,
                None => Err(NotLetIn::new(Code::Kicked, "nobody knows this identity")),
            };
        };
        let (gate, proof) = (Arc::clone(&self.gate), principal.proof);
        let asked = self
            .runtime
            .spawn(async move { gate.still(Identity { caller, proof }).await });
        match tokio::time::timeout(STILL_MAX, asked).await {
            Ok(Ok(Err(refused @ Refused::Gone))) => {
                Err(NotLetIn::new(Code::Kicked, refused.to_string()))
            }
            Ok(Ok(Ok(()))) => Ok(principal.clone()),
            // Who was let in stays while it cannot be found out whether that still holds, and then it is looked again.
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => {
                self.unsure.lock().add(&principal.identity);
                Ok(principal.clone())
            }
        }
    }
}

impl Unsure {
    fn is_empty(&self) -> bool {
        self.who.is_empty() && !self.everybody
    }

    fn add(&mut self, identity: &Arc<str>) {
        if self.who.len() < UNSURE_MAX {
            self.who.insert(Arc::clone(identity));
        } else {
            self.everybody = true;
        }
    }
}

impl Authenticate for Door {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, NotLetIn>> {
        Box::pin(self.judge(offer))
    }

    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(self.may(principal, action, subject))
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, NotLetIn>> {
        Box::pin(self.again(principal))
    }
}

/// What a client offers, without the transport.
pub(super) fn offered(offer: &Offer<'_>) -> gate::Offer {
    match offer.credentials {
        Credentials::Token(token) => gate::Offer::Token(token.clone()),
        Credentials::Password { user, password } => gate::Offer::Password {
            user: user.clone(),
            password: password.clone(),
        },
        Credentials::None => {
            let cookies = offer.info.headers.get_all("cookie").iter();
            let text =
                |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            gate::Offer::Cookies(cookies.map(text).collect())
        }
    }
}

/// Who was let in, as the broker keeps it.
pub(super) fn principal(identity: Identity) -> Principal {
    let Identity { caller, proof } = identity;
    let permissions = match caller {
        Caller::Hub => Permissions::All,
        Caller::Account(_) | Caller::Project(_) => Permissions::Ask,
    };
    let principal = Principal::new(name(caller), permissions);
    Principal { proof, ..principal }
}

/// What a caller is called on the broker.
pub(super) fn name(caller: Caller) -> Arc<str> {
    match caller {
        Caller::Hub => HUB.into(),
        Caller::Account(_) | Caller::Project(_) => caller.to_string().into(),
    }
}

/// The caller of that name; `None` for others.
pub(super) fn caller(name: &str) -> Option<Caller> {
    if name == HUB {
        return Some(Caller::Hub);
    }
    name.parse().ok().filter(|caller| *caller != Caller::Hub)
}

/// Trying again helps where the credentials could not be checked.
fn not_let_in(refused: &Refused) -> NotLetIn {
    let code = match refused {
        Refused::Unavailable(_) | Refused::NoHub(_) => Code::Internal,
        Refused::Cookie(_)
        | Refused::HubPassword
        | Refused::ApiKey
        | Refused::ProjectSecret
        | Refused::Name
        | Refused::Malformed(_)
        | Refused::Ended(_)
        | Refused::Elsewhere(_)
        | Refused::Gone => Code::Unauthenticated,
    };
    NotLetIn::new(code, refused.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_has_a_name_that_clients_know() {
        let account = "account-6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";
        let parsed = caller(account).unwrap();
        assert_eq!(&*name(parsed), account);
        assert_eq!(caller(&name(Caller::Hub)), Some(Caller::Hub));
        assert_eq!(caller("hub"), None, "a user of a file may be called so");
        assert_eq!(caller("anonymous"), None);
    }
}
