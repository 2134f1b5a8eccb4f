//! The door of a broker: who is let in, as whom, and what they may do there.
//!
//! ```text
//!   broker ──admit(offer)──▶ Identifier ──▶ Identity
//!          ──may(caller, action, subject)──▶ Authority
//!          ──still(identity)──▶ Identifier
//!   outbox ──follow──▶ whose rights changed ──▶ broker asks again
//! ```
//!
//! A broker in the same process asks the [`Gate`] directly. Others ask a [`RemoteGate`], which asks a hub's
//! [`GateService`] over the broker's own connections, as `wire.rs` says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::auth::cookie::Names;
use crate::caller::Caller;
use crate::feed::Follower;
use crate::identity::{Identifier, Identity, Refused};
use crate::permission::{self, Action, Affected, Authority, Fact, LookupError};
use crate::settings::Live;
use crate::store::{self, Store};

mod wire;

mod service;
pub use service::{GateService, tell};

mod remote;
pub use remote::RemoteGate;

/// How long to wait to ask again when the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Who is told whose rights have changed.
pub type Told = Box<dyn Fn(Affected) + Send + Sync>;

/// What decides who is let in, as a broker sees it.
pub trait Keeper: fmt::Debug + Send + Sync + 'static {
    /// Who that is.
    fn admit<'a>(&'a self, offer: &'a Offer) -> BoxFuture<'a, Result<Identity, Refused>>;

    /// Whether somebody who was let in is still to be there; [`Refused::Gone`] if not.
    fn still(&self, identity: Identity) -> BoxFuture<'_, Result<(), Refused>>;

    /// Whether the caller may do that with the subject, or the pattern.
    fn may<'a>(
        &'a self,
        caller: Caller,
        action: Action,
        subject: &'a str,
    ) -> BoxFuture<'a, Result<bool, LookupError>>;

    /// The same without waiting, or the fact that it depends on, if that is not known.
    ///
    /// # Errors
    /// The fact.
    fn may_now(&self, caller: Caller, action: Action, subject: &str) -> Result<bool, Fact>;

    /// Whether it could decide anything now.
    fn is_able(&self) -> BoxFuture<'_, bool>;

    /// Tells whose rights changed, after they are known anew, until it is told to stop.
    fn follow(&self, told: Told, stop: CancellationToken) -> BoxFuture<'static, ()>;
}

/// What somebody offers to be let in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offer {
    /// A key, or the secret of a session.
    Token(String),
    /// A name with a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// The `Cookie` headers of the request.
    Cookies(Vec<String>),
}

/// Shows nothing of what is offered.
impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Password { .. } => "Password(…)",
            Self::Cookies(_) => "Cookies(…)",
        })
    }
}

/// The door of the hub's own process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    identifier: Identifier,
    authority: Arc<Authority<Store>>,
    store: Store,
    /// Of whoever follows first: it hears of everything since the gate was opened.
    follower: Arc<Mutex<Option<Follower>>>,
}

impl Gate {
    /// By this store and these settings; cookies have these names.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(store: Store, settings: Live, names: Names) -> Result<Self, store::Error> {
        let follower = Follower::from_now(&store).await?;
        let authority = Authority::new(store.clone(), permission::Config::default());
        Ok(Self {
            identifier: Identifier::new(store.clone(), Arc::new(settings), names),
            authority: Arc::new(authority),
            store,
            follower: Arc::new(Mutex::new(Some(follower))),
        })
    }

    /// What decides, for others who ask it too.
    pub fn authority(&self) -> &Arc<Authority<Store>> {
        &self.authority
    }

    /// Somebody who hears of changes from now on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn follower(&self) -> Result<Follower, store::Error> {
        Follower::from_now(&self.store).await
    }

    async fn listen(self, told: Told, stop: CancellationToken) {
        let first = self.follower.lock().take();
        let mut follower = first;
        while follower.is_none() && !stop.is_cancelled() {
            follower = self.follower().await.ok();
            if follower.is_none() {
                stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            }
        }
        let Some(follower) = follower else { return };
        let told = |affected| told(affected);
        permission::follow(Arc::clone(&self.authority), follower, told, stop).await;
    }
}

impl Keeper for Gate {
    fn admit<'a>(&'a self, offer: &'a Offer) -> BoxFuture<'a, Result<Identity, Refused>> {
        async move {
            match offer {
                Offer::Token(token) => self.identifier.by_token(token).await,
                Offer::Password { user, password } => {
                    self.identifier.by_password(user, password).await
                }
                Offer::Cookies(headers) => {
                    let headers = headers.iter().map(String::as_bytes);
                    self.identifier.by_cookies(headers).await
                }
            }
        }
        .boxed()
    }

    fn still(&self, identity: Identity) -> BoxFuture<'_, Result<(), Refused>> {
        self.identifier.still(identity).boxed()
    }

    fn may<'a>(
        &'a self,
        caller: Caller,
        action: Action,
        subject: &'a str,
    ) -> BoxFuture<'a, Result<bool, LookupError>> {
        self.authority.may(caller, action, subject).boxed()
    }

    fn may_now(&self, caller: Caller, action: Action, subject: &str) -> Result<bool, Fact> {
        self.authority.may_now(caller, action, subject)
    }

    fn is_able(&self) -> BoxFuture<'_, bool> {
        async move { self.follower().await.is_ok() }.boxed()
    }

    fn follow(&self, told: Told, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.clone().listen(told, stop).boxed()
    }
}
