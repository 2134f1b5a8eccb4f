//! Who is behind a credential, and whether that still holds later.
//!
//! The broker lets a connection in as an [`Identity`] and keeps its proof: a number that says which credential was used,
//! and as of which time of the account. When something about the identity changes, [`Identifier::still`] looks whether
//! a credential with that proof is left; where none is, the connection ends. Signing out, changing the password, a ban,
//! the end of a key: each takes its credential away, or bumps the epoch that goes into every proof of an account.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::auth::api_key::{self, ApiKey, Match};
use crate::auth::cookie::{self, Credential, Names};
use crate::auth::{session, token};
use crate::caller::Caller;
use crate::id::{AccountId, ProjectId};
use crate::settings::{self, Live};
use crate::store::{self, Reader, Store, accounts, api_keys, projects, remember_me};

/// The setting with the site's own secret.
pub const HUB_PASSWORD: &str = "conat_password";

/// How often at most it is noted that a key is used.
const TOUCH: Duration = Duration::from_mins(1);

/// Most credentials of one identity that are looked at; beyond that, connections made with the oldest end early.
const CREDENTIALS_MAX: i64 = 10_000;

/// Somebody who was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Who.
    pub caller: Caller,
    /// Which credential was used, and as of when. Says nothing about the credential to anybody else.
    pub proof: u64,
}

/// Why somebody is not let in. Clients of the original know the texts.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No credential, or one that cannot be read.
    #[error(transparent)]
    Cookie(#[from] cookie::Error),
    /// The site has another secret, or none.
    #[error("invalid hub password")]
    HubPassword,
    /// There is no such key, or it does not count any more.
    #[error("api key no longer valid")]
    ApiKey,
    /// The project has another secret, or none.
    #[error("invalid secret token for project")]
    ProjectSecret,
    /// A name that signs in otherwise, or not at all.
    #[error("only hub and project-<id> connect with a password")]
    Name,
    /// What should be a session is none.
    #[error(transparent)]
    Malformed(#[from] session::Malformed),
    /// There is no such session, or it does not count any more.
    #[error(transparent)]
    Ended(#[from] session::Ended),
    /// The credential that was used does not count any more.
    #[error("the credential of this connection is no longer valid")]
    Gone,
    /// It cannot be found out now.
    #[error("cannot check credentials now")]
    Unavailable(#[from] store::Error),
    /// The same, since no hub answers the broker.
    #[error("no hub answers to check credentials: {0}")]
    NoHub(String),
    /// The hub that was asked has refused it, in these words.
    #[error("{0}")]
    Elsewhere(String),
}

/// Finds out who is behind credentials.
#[derive(Debug, Clone)]
pub struct Identifier {
    store: Store,
    settings: Arc<Live>,
    names: Names,
}

impl Identifier {
    /// By this store, with the site's secret from its settings, and cookies of these names.
    pub fn new(store: Store, settings: Arc<Live>, names: Names) -> Self {
        Self {
            store,
            settings,
            names,
        }
    }

    /// Who sends a request with these `Cookie` headers.
    ///
    /// # Errors
    /// When the first of our cookies is not good. It is not passed over for another one.
    pub async fn by_cookies<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Identity, Refused> {
        let credential = self.names.read(headers)?;
        self.by_credential(&credential).await
    }

    /// Who offers this token: a key, or the secret of a session.
    ///
    /// # Errors
    /// When it is not good, or cannot be checked.
    pub async fn by_token(&self, token: &str) -> Result<Identity, Refused> {
        if token.starts_with(api_key::PREFIX) {
            return self.by_api_key(token).await;
        }
        self.by_session(token).await
    }

    /// Who offers this name with this password: `hub` with the site's secret, `project-<id>` with that of the project.
    /// People sign in over HTTP, where their attempts are throttled.
    ///
    /// # Errors
    /// When it is not good, or cannot be checked.
    pub async fn by_password(&self, name: &str, password: &str) -> Result<Identity, Refused> {
        match name.parse() {
            Ok(Caller::Hub) => self.by_hub_password(password).await,
            Ok(Caller::Project(project)) => self.by_project_secret(project, password).await,
            Ok(Caller::Account(_)) | Err(_) => Err(Refused::Name),
        }
    }

    /// Who has this credential.
    ///
    /// # Errors
    /// When it is not good, or cannot be checked.
    pub async fn by_credential(&self, credential: &Credential) -> Result<Identity, Refused> {
        match credential {
            Credential::HubPassword(password) => self.by_hub_password(password).await,
            Credential::ApiKey(text) => self.by_api_key(text).await,
            Credential::ProjectSecret { project, secret } => {
                self.by_project_secret(*project, secret).await
            }
            Credential::RememberMe(cookie) => self.by_session(cookie).await,
        }
    }

    /// Whether somebody who was let in is still to be there.
    ///
    /// # Errors
    /// [`Refused::Gone`] if not; when it cannot be found out, the error says so.
    pub async fn still(&self, identity: Identity) -> Result<(), Refused> {
        let proofs = match identity.caller {
            // As it is stored: what is in memory may be from before the change that is the reason to ask.
            Caller::Hub => {
                let settings = settings::read(&self.store).await?;
                vec![proof_of(&["hub", settings.get(HUB_PASSWORD)], 0)]
            }
            Caller::Account(account) => {
                proofs_of_account(&mut self.store.read().await?, account).await?
            }
            Caller::Project(project) => {
                proofs_of_project(&mut self.store.read().await?, project).await?
            }
        };
        if proofs.contains(&identity.proof) {
            return Ok(());
        }
        Err(Refused::Gone)
    }

    async fn by_hub_password(&self, password: &str) -> Result<Identity, Refused> {
        // Hubs find each other also while the database is away.
        let settings = match settings::read(&self.store).await {
            Ok(settings) => Arc::new(settings),
            Err(_unavailable) => self.settings.get(),
        };
        let own = settings.get(HUB_PASSWORD);
        if own.is_empty() || !token::is_same(own, password) {
            return Err(Refused::HubPassword);
        }
        Ok(Identity {
            caller: Caller::Hub,
            proof: proof_of(&["hub", own], 0),
        })
    }

    async fn by_session(&self, cookie: &str) -> Result<Identity, Refused> {
        let hash = session::Secret::offered(cookie)?.hash();
        let found = {
            let mut on = self.store.read().await?;
            remember_me::find(&mut on, &hash).await?
        };
        let found = found.ok_or(session::Ended::Unknown)?;
        let stored = session::Stored {
            account: found.account_id,
            expire: found.expire,
            banned: found.banned,
            deleted: found.deleted,
        };
        let account = session::judge(Some(stored), found.now)?;
        Ok(Identity {
            caller: Caller::Account(account),
            proof: proof_of(&["session", &hash], found.session_epoch),
        })
    }

    async fn by_api_key(&self, text: &str) -> Result<Identity, Refused> {
        let key = ApiKey::parse(text).ok_or(Refused::ApiKey)?;
        let found = {
            let mut on = self.store.read().await?;
            api_keys::find(&mut on, key.number()).await?
        };
        let found = found.ok_or(Refused::ApiKey)?;
        let (number, epoch) = (found.key.id, found.session_epoch);
        let (caller, matched) = match judged(&found, &key) {
            api_key::Verdict::Account(account, matched) => (Caller::Account(account), matched),
            api_key::Verdict::Project(project, matched) => (Caller::Project(project), matched),
            api_key::Verdict::Refused => return Err(Refused::ApiKey),
            api_key::Verdict::Ended => {
                self.end_key(number).await?;
                return Err(Refused::ApiKey);
            }
        };
        self.note_use(&key, matched).await?;
        Ok(Identity {
            caller,
            proof: proof_of_key(number, epoch),
        })
    }

    async fn by_project_secret(
        &self,
        project: ProjectId,
        secret: &str,
    ) -> Result<Identity, Refused> {
        let own = {
            let mut on = self.store.read().await?;
            projects::secret_token(&mut on, project).await?
        };
        let own = own.filter(|own| !own.is_empty() && token::is_same(own, secret));
        let own = own.ok_or(Refused::ProjectSecret)?;
        Ok(Identity {
            caller: Caller::Project(project),
            proof: proof_of(&["project", &own], 0),
        })
    }

    async fn end_key(&self, number: i64) -> Result<(), store::Error> {
        let mut on = self.store.write().await?;
        api_keys::delete(&mut on, number).await?;
        on.commit().await
    }

    async fn note_use(&self, key: &ApiKey, matched: Match) -> Result<(), store::Error> {
        let mut on = self.store.write().await?;
        if matched == Match::SameOld {
            api_keys::set_hash(&mut on, key.number(), &key.trunc(), &key.hash()).await?;
        }
        api_keys::touch(&mut on, key.number(), TOUCH).await?;
        on.commit().await
    }
}

fn judged(found: &api_keys::Found, key: &ApiKey) -> api_key::Verdict {
    let stored = api_key::Stored {
        account: found.key.account_id,
        project: found.key.project_id,
        hash: found.key.hash.clone(),
        expire: found.key.expire,
        account_is_active: !found.banned && !found.deleted,
        account_is_member: found.member,
    };
    stored.judge(key, found.now)
}

async fn proofs_of_account(on: &mut Reader, id: AccountId) -> Result<Vec<u64>, store::Error> {
    let account = accounts::by_id(on, id).await?;
    let Some(account) = account.filter(|account| !account.banned && !account.deleted) else {
        return Ok(Vec::new());
    };
    let epoch = account.session_epoch;
    let sessions = remember_me::of_account(on, id, CREDENTIALS_MAX).await?;
    let mut proofs: Vec<u64> = sessions
        .iter()
        .map(|session| proof_of(&["session", &session.hash], epoch))
        .collect();
    let keys = api_keys::of_account(on, id, CREDENTIALS_MAX).await?;
    for key in keys {
        proofs.extend(proof_of_live_key(on, key.id).await?);
    }
    Ok(proofs)
}

async fn proofs_of_project(on: &mut Reader, id: ProjectId) -> Result<Vec<u64>, store::Error> {
    let secret = projects::secret_token(on, id).await?;
    let mut proofs: Vec<u64> = secret
        .iter()
        .map(|secret| proof_of(&["project", secret], 0))
        .collect();
    for key in api_keys::of_project(on, id, CREDENTIALS_MAX).await? {
        proofs.extend(proof_of_live_key(on, key.id).await?);
    }
    Ok(proofs)
}

/// The proof of a key, if it still counts.
async fn proof_of_live_key(on: &mut Reader, number: i64) -> Result<Option<u64>, store::Error> {
    let found = api_keys::find(on, number).await?;
    let live = found.filter(|found| {
        let lasts = found.key.expire.is_none_or(|expire| expire > found.now);
        lasts && found.member && !found.banned && !found.deleted
    });
    Ok(live.map(|found| proof_of_key(number, found.session_epoch)))
}

fn proof_of_key(number: i64, epoch: i64) -> u64 {
    proof_of(&["key", &number.to_string()], epoch)
}

/// Some bits of a hash: enough that no two credentials of an identity have the same, and useless to who sees them.
fn proof_of(parts: &[&str], epoch: i64) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part.as_bytes());
    }
    digest.update(epoch.to_le_bytes());
    let digest = <[u8; 32]>::from(digest.finalize());
    u64::from_le_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}
