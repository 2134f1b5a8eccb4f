//! The door of a broker: who is let in, as whom, and what they may do there.
//!
//! ```text
//!   broker ──admit(offer)──▶ Identifier ──▶ Identity
//!          ──may(caller, action, subject)──▶ Authority
//!          ──still(identity)──▶ Identifier
//!   outbox ──follow──▶ whose rights changed ──▶ broker asks again
//! ```
//!
//! A broker in the same process asks this directly; others ask over their own connections.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::auth::cookie::Names;
use crate::caller::Caller;
use crate::feed::Follower;
use crate::identity::{Identifier, Identity, Refused};
use crate::permission::{self, Action, Affected, Authority, Fact, LookupError};
use crate::settings::Live;
use crate::store::Store;

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
impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Password { .. } => "Password(…)",
            Self::Cookies(_) => "Cookies(…)",
        })
    }
}

/// The door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    identifier: Identifier,
    authority: Arc<Authority<Store>>,
    store: Store,
}

impl Gate {
    /// By this store and these settings; cookies have these names.
    pub fn new(store: Store, settings: Live, names: Names) -> Self {
        let authority = Authority::new(store.clone(), permission::Config::default());
        Self {
            identifier: Identifier::new(store.clone(), Arc::new(settings), names),
            authority: Arc::new(authority),
            store,
        }
    }

    /// Who that is.
    ///
    /// # Errors
    /// When what is offered is not good, or cannot be checked.
    pub async fn admit(&self, offer: &Offer) -> Result<Identity, Refused> {
        match offer {
            Offer::Token(token) => self.identifier.by_token(token).await,
            Offer::Password { user, password } => self.identifier.by_password(user, password).await,
            Offer::Cookies(headers) => {
                let headers = headers.iter().map(String::as_bytes);
                self.identifier.by_cookies(headers).await
            }
        }
    }

    /// Whether somebody who was let in is still to be there.
    ///
    /// # Errors
    /// [`Refused::Gone`] if not; when it cannot be found out, the error says so.
    pub async fn still(&self, identity: Identity) -> Result<(), Refused> {
        self.identifier.still(identity).await
    }

    /// Whether the caller may do that with the subject, or the pattern.
    ///
    /// # Errors
    /// When that depends on a fact that cannot be looked up.
    pub async fn may(
        &self,
        caller: Caller,
        action: Action,
        subject: &str,
    ) -> Result<bool, LookupError> {
        self.authority.may(caller, action, subject).await
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// The fact that it depends on, if that is not known.
    pub fn may_now(&self, caller: Caller, action: Action, subject: &str) -> Result<bool, Fact> {
        self.authority.may_now(caller, action, subject)
    }

    /// What decides, for others who ask it too.
    pub fn authority(&self) -> &Arc<Authority<Store>> {
        &self.authority
    }

    /// Somebody who hears of changes from now on, for [`follow`](Self::follow). Made before anybody is let in, no change
    /// is missed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn follower(&self) -> Result<Follower, crate::store::Error> {
        Follower::from_now(&self.store).await
    }

    /// Follows the changes until it is told to stop, and tells whose rights changed after they are known anew.
    pub async fn follow(
        &self,
        follower: Follower,
        told: impl Fn(Affected) + Send,
        stop: CancellationToken,
    ) {
        permission::follow(Arc::clone(&self.authority), follower, told, stop).await;
    }
}
