//! How people come in: signing up, signing in, a new password, showing that an address is one's own.
//!
//! The rules are in [`auth`](crate::auth), and the rows in [`store`]. What is done here is done in an order
//! that gives nothing away: an attempt is counted before anything is looked at, a password is hashed whether or not
//! there is an account, and what depends on a row is decided again in the transaction that changes it.

use std::time::Duration;

use crate::accounts;
use crate::auth::password::{self, Hasher};
use crate::auth::registration;
use crate::auth::session::{Kind, Secret};
use crate::auth::strength::Weak;
use crate::auth::throttle::Action;
use crate::email::EmailAddress;
use crate::id::AccountId;
use crate::letters::Letters;
use crate::settings::Live;
use crate::sso::exclusive;
use crate::store::accounts::Account;
use crate::store::{self, Reader, Store, Transaction, remember_me};
use crate::time::Time;

mod attempts;

pub mod first_admin;

pub mod reset;

pub mod sign_in;

pub mod sign_up;

pub mod verify;

pub mod vouched;

/// What all ways in need. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where accounts are.
    pub store: Store,
    /// What the site permits.
    pub settings: Live,
    /// Hashes passwords, a bounded number at once.
    pub hasher: Hasher,
    /// Sends letters.
    pub letters: Letters,
    /// Where the site is, for what stands in letters: `https://example.org`, without a slash at the end.
    pub site: String,
}

/// From where somebody comes.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The address of the network.
    pub ip: Option<String>,
    /// The program.
    pub user_agent: Option<String>,
}

/// Somebody who has come in.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// As whom.
    pub account_id: AccountId,
    /// What the browser is to show from now on: the value of its cookie.
    pub cookie: String,
    /// How long that counts.
    pub lifetime: Duration,
}

/// Without the secret.
impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIn")
            .field("account_id", &self.account_id)
            .finish_non_exhaustive()
    }
}

/// Why somebody does not come in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no account with this address and password. Which of them is wrong is not said.
    #[error("wrong email address or password")]
    Wrong,
    /// The password is right, and the account is locked out.
    #[error("this account is banned")]
    Banned,
    /// It was tried too often.
    #[error("too many attempts; try again in {} s", wait.as_secs().max(1))]
    Throttled {
        /// How long to wait.
        wait: Duration,
    },
    /// The site does not let people do this.
    #[error("{0} is disabled on this site")]
    Disabled(&'static str),
    /// People of the domain come in in one way only.
    #[error("with an address like this one signs in with {0}")]
    Exclusive(String),
    /// The address is none.
    #[error("this is not an email address")]
    EmailAddress,
    /// Somebody has the address.
    #[error("there is an account with this email address already")]
    EmailAddressTaken,
    /// A name is missing or too long.
    #[error("{field} must have 1 to {max} characters")]
    Name {
        /// Which one.
        field: &'static str,
        /// The most characters.
        max: usize,
    },
    /// The password is too easily guessed.
    #[error(transparent)]
    Weak(#[from] Weak),
    /// The token with which to sign up.
    #[error(transparent)]
    Registration(#[from] registration::Refused),
    /// The token of a letter was used, is over, or never was one.
    #[error("this link is not valid any more")]
    Token,
    /// Too many passwords are hashed, or the hash that is stored cannot be read.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<accounts::Error> for Refused {
    fn from(error: accounts::Error) -> Self {
        match error {
            // Gone since it was looked up.
            accounts::Error::Unknown | accounts::Error::NameTaken => Self::Wrong,
            accounts::Error::EmailAddressTaken => Self::EmailAddressTaken,
            accounts::Error::Store(error) => Self::Store(error),
        }
    }
}

/// Counts an attempt of somebody, or refuses it.
pub(crate) async fn count_attempt(store: &Store, action: Action, who: &str) -> Result<(), Refused> {
    attempts::count(store, &[(action, who)]).await.map(drop)
}

/// Refuses an address whose people come in in one way only.
async fn not_exclusive(on: &mut Reader, address: &EmailAddress) -> Result<(), Refused> {
    match exclusive::of(on, address).await? {
        Some(only) => Err(Refused::Exclusive(only.display)),
        None => Ok(()),
    }
}

/// Makes a session for an account that may be used.
async fn open_session(
    on: &mut Transaction,
    account: &Account,
    kind: Kind,
    origin: &Origin,
    now: Time,
) -> Result<SignedIn, store::Error> {
    open_session_for(on, account, kind, None, origin, now).await
}

/// The same, for so long at most.
async fn open_session_for(
    on: &mut Transaction,
    account: &Account,
    kind: Kind,
    longest: Option<Duration>,
    origin: &Origin,
    now: Time,
) -> Result<SignedIn, store::Error> {
    let (secret, cookie) = Secret::random();
    let ends_in = account
        .ephemeral
        .map(|life| life.saturating_sub(now.since(account.created)));
    let lifetime = kind.lifetime(ends_in);
    let lifetime = longest.map_or(lifetime, |longest| longest.min(lifetime));
    let session = remember_me::New {
        hash: &secret.hash(),
        account_id: account.id,
        ttl: lifetime,
        kind: kind.name(),
        ip: origin.ip.clone(),
        user_agent: origin.user_agent.as_deref().map(shortened),
    };
    remember_me::insert(on, &session).await?;
    Ok(SignedIn {
        account_id: account.id,
        cookie,
        lifetime,
    })
}

/// Longest text about a browser that is kept, in characters.
const USER_AGENT_MAX: usize = 256;

fn shortened(text: &str) -> String {
    text.chars().take(USER_AGENT_MAX).collect()
}
