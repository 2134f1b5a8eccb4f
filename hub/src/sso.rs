//! Signing in by other sites that vouch for people: `OpenID` Connect and OAuth 2.0.
//!
//! ```text
//!   browser ── begin ──▶ hub: state, nonce and PKCE verifier are kept in the store, for one use
//!      │  ◀── to the other site, with a cookie that ties this attempt to this browser
//!      ▼
//!   other site: somebody signs in there and agrees
//!      │
//!   browser ── finish, code and state ──▶ hub: takes what was kept, exchanges the code, checks the proof
//!                                           │
//!                                           ▼
//!                              `entry::vouched`: which account that is, in one transaction
//! ```
//!
//! What is under way is in the store, so that any hub may finish what another one has begun. Of that the browser has
//! the state and a cookie, of which the store has hashes: who steals one of them, or plants one, gets nowhere.
//!
//! | file | |
//! |---|---|
//! | `strategy` | a way to sign in, from its configuration; those that are known by name |
//! | `profile` | what the other site says about somebody, from its JSON; pure |
//! | `exclusive` | domains whose people sign in in one way only; pure |
//! | `flow` | what is kept between beginning and end |
//! | `http` | questions to other sites, within bounds |
//! | `oidc`, `code` | the two protocols |
//! | `configure` | setting strategies, from a file or by an administrator |

use std::sync::Arc;

use crate::auth::throttle::Action;
use crate::auth::token::{self, Token};
use crate::entry::vouched::{self, Voucher};
use crate::entry::{self, Entry, Origin, SignedIn};
use crate::store::{self, Store, passports};

pub mod strategy;
pub use strategy::Strategy;

pub mod profile;
pub use profile::Profile;

pub mod exclusive;

pub mod configure;

mod flow;
use flow::Flow;
pub use flow::{LIFETIME, TARGET_LEN_MAX};

mod http;

mod code;

mod oidc;

/// Why somebody does not come in by another site.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such way to sign in, or it is switched off.
    #[error("there is no way to sign in that is called {0:?}")]
    Unknown(String),
    /// It cannot be used as it is configured.
    #[error("signing in with {strategy} is not set up correctly: {reason}")]
    Misconfigured {
        /// Which way to sign in.
        strategy: String,
        /// What is wrong, for those who look after the site.
        reason: String,
    },
    /// Where somebody wants to go afterwards is not on this site.
    #[error("after signing in one can go to a path of this site only")]
    Target,
    /// It was not begun in this browser, was finished before, or took too long.
    #[error("this attempt to sign in is over, or was begun in another browser; please begin again")]
    State,
    /// The other site says no, or somebody did not agree there.
    #[error("the other site does not let you in: {0}")]
    Denied(String),
    /// The other site does not answer as it should.
    #[error("the other site does not answer as it should: {0}")]
    Provider(String),
    /// What the other site gave as proof proves nothing.
    #[error("the answer of the other site is not valid: {0}")]
    Proof(String),
    /// Which account it is.
    #[error(transparent)]
    Entry(#[from] vouched::Refused),
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        Self::Entry(vouched::Refused::Store(error))
    }
}

impl Refused {
    /// A name that stays the same, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown-strategy",
            Self::Misconfigured { .. } => "misconfigured",
            Self::Target => "bad-target",
            Self::State => "bad-state",
            Self::Denied(_) => "denied",
            Self::Provider(_) => "provider-failed",
            Self::Proof(_) => "bad-proof",
            Self::Entry(refused) => refused.code(),
        }
    }
}

/// Signing in by other sites. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sso {
    entry: Entry,
    http: http::Http,
    providers: Arc<oidc::Providers>,
}

/// What somebody wants who begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// The path to go to afterwards.
    pub target: Option<&'a str>,
    /// Whether the other site should vouch for the account of this session from now on.
    pub link: bool,
    /// What the browser shows of its session.
    pub session: Option<&'a str>,
}

/// An attempt that was begun.
#[derive(Clone, PartialEq, Eq)]
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// The end of the name of the cookie that the browser is to bring back.
    pub cookie_name: String,
    /// Its value.
    pub cookie: String,
}

/// Without the secrets.
impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

/// What the browser brings back from the other site.
#[derive(Clone, Copy, Default)]
pub struct Answer<'a> {
    /// Which attempt it is.
    pub state: Option<&'a str>,
    /// What the proof is to be had for.
    pub code: Option<&'a str>,
    /// Why there is none.
    pub error: Option<&'a str>,
    /// The same for people.
    pub error_description: Option<&'a str>,
    /// Who says so (RFC 9207).
    pub issuer: Option<&'a str>,
    /// The value of the cookie of this attempt.
    pub cookie: Option<&'a str>,
}

/// Without the secrets.
impl std::fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Somebody has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// As whom; `None` if the browser goes on with the session that it has.
    pub signed_in: Option<SignedIn>,
    /// The path to go to.
    pub target: String,
}

/// The end of the name of the cookie of an attempt, from its state.
pub fn cookie_name(state: &str) -> String {
    let hash = token::hash(state);
    format!("sso_{}", hash.get(..12).unwrap_or(&hash))
}

/// All ways to sign in that can be used, by name. What is wrong with others is logged.
///
/// # Errors
/// When the database does not answer.
pub async fn strategies(store: &Store) -> Result<Vec<Strategy>, store::Error> {
    let stored = passports::strategies(&mut store.read().await?).await?;
    let read = stored.iter().filter_map(|stored| {
        let read = Strategy::read(stored);
        read.inspect_err(|error| {
            tracing::warn!(
                strategy = stored.strategy,
                error = error as &dyn std::error::Error,
                "a way to sign in is not set up correctly"
            );
        })
        .ok()
    });
    Ok(read.filter(|strategy| !strategy.disabled).collect())
}

impl Sso {
    /// With the accounts, letters and settings of this door.
    pub fn new(entry: Entry) -> Self {
        Self {
            entry,
            http: http::Http::new(),
            providers: Arc::default(),
        }
    }

    /// The door that it leads to.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// All ways to sign in that can be used, by name. What is wrong with others is logged.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn strategies(&self) -> Result<Vec<Strategy>, store::Error> {
        strategies(&self.entry.store).await
    }

    async fn strategy(&self, name: &str) -> Result<Strategy, Refused> {
        let unknown = || Refused::Unknown(name.chars().take(64).collect());
        let stored = passports::strategy(&mut self.entry.store.read().await?, name).await?;
        let stored = stored.ok_or_else(unknown)?;
        let strategy = Strategy::read(&stored).map_err(|error| Refused::Misconfigured {
            strategy: stored.strategy.clone(),
            reason: error.to_string(),
        })?;
        if strategy.disabled {
            return Err(unknown());
        }
        Ok(strategy)
    }

    /// Begins: notes what is wanted, and says where the browser is to go.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn begin(
        &self,
        name: &str,
        wish: &Wish<'_>,
        origin: &Origin,
    ) -> Result<Begun, Refused> {
        let target = flow::checked_target(wish.target)?;
        let strategy = self.strategy(name).await?;
        self.count(origin).await?;
        let session = vouched::session_of(&self.entry.store, wish.session).await?;
        if wish.link && session.is_none() {
            return Err(vouched::Refused::NotSignedIn.into());
        }
        let (state, cookie) = (Token::random(), Token::random());
        let flow = Flow {
            strategy: strategy.name.clone(),
            cookie_hash: cookie.hash(),
            nonce: Token::random().reveal().to_owned(),
            verifier: Token::random().reveal().to_owned(),
            session,
            link: wish.link,
            target,
        };
        let url = self.authorize_url(&strategy, &flow, &state).await?;
        let mut on = self.entry.store.write().await?;
        flow.keep(&mut on, state.reveal()).await?;
        on.commit().await?;
        Ok(Begun {
            url,
            cookie_name: cookie_name(state.reveal()),
            cookie: cookie.reveal().to_owned(),
        })
    }

    /// Finishes what was begun in this browser, with whatever the other site has answered.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn finish(
        &self,
        name: &str,
        answer: &Answer<'_>,
        origin: &Origin,
    ) -> Result<Done, Refused> {
        self.count(origin).await?;
        // Taken whatever comes of it: no state is good twice.
        let state = answer
            .state
            .and_then(Token::offered)
            .ok_or(Refused::State)?;
        let mut on = self.entry.store.write().await?;
        let flow = Flow::take(&mut on, state.reveal()).await?;
        on.commit().await?;
        let flow = flow.filter(|flow| flow.belongs_to(name, answer.cookie));
        let flow = flow.ok_or(Refused::State)?;
        if answer.error.is_some() || answer.code.is_none() {
            return Err(denied(answer));
        }
        let strategy = self.strategy(name).await?;
        let profile = self.profile(&strategy, &flow, answer).await?;
        let voucher = Voucher {
            strategy: &strategy,
            profile: &profile,
            session: flow.session.as_ref(),
            link: flow.link,
        };
        Ok(Done {
            signed_in: self.entry.sign_in_vouched(&voucher, origin).await?,
            target: flow.target,
        })
    }

    async fn authorize_url(
        &self,
        strategy: &Strategy,
        flow: &Flow,
        state: &Token,
    ) -> Result<String, Refused> {
        let back = self.return_url(strategy);
        match &strategy.protocol {
            strategy::Protocol::Oidc { issuer } => {
                let provider = self.providers.get(&self.http, issuer).await?;
                oidc::authorize_url(strategy, &provider, flow, state, back)
            }
            strategy::Protocol::Code(endpoints) => {
                code::authorize_url(strategy, endpoints, flow, state, back)
            }
        }
    }

    async fn profile(
        &self,
        strategy: &Strategy,
        flow: &Flow,
        answer: &Answer<'_>,
    ) -> Result<Profile, Refused> {
        let back = self.return_url(strategy);
        let code = answer.code.unwrap_or_default();
        match &strategy.protocol {
            strategy::Protocol::Oidc { issuer } => {
                // Another site that is known here as well may have sent the browser (RFC 9207).
                if answer.issuer.is_some_and(|said| said != issuer) {
                    return Err(Refused::Proof("it is of another issuer".to_owned()));
                }
                let asked = oidc::Asked {
                    strategy,
                    issuer,
                    flow,
                    code,
                    back,
                };
                oidc::profile(&self.http, &self.providers, asked).await
            }
            strategy::Protocol::Code(endpoints) => {
                code::profile(&self.http, strategy, endpoints, flow, code, back).await
            }
        }
    }

    /// Where the other site sends the browser back to; it must be told so when the strategy is set up.
    pub fn return_url(&self, strategy: &Strategy) -> String {
        format!("{}/auth/{}/return", self.entry.site, strategy.name)
    }

    async fn count(&self, origin: &Origin) -> Result<(), Refused> {
        let Some(ip) = &origin.ip else {
            return Ok(());
        };
        let counted = entry::count_attempt(&self.entry.store, Action::SsoIp, ip).await;
        counted.map_err(|refused| vouched::Refused::from(refused).into())
    }
}

fn denied(answer: &Answer<'_>) -> Refused {
    let said = answer.error_description.or(answer.error);
    let said = said.unwrap_or("it gave no reason");
    let shown = said.chars().filter(|c| !c.is_control()).take(200);
    Refused::Denied(shown.collect())
}
