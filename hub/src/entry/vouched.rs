//! Coming in because another site vouches for somebody.
//!
//! Which account that is, by what is known when the transaction is made:
//!
//! | the site vouches for | somebody is signed in | |
//! |---|---|---|
//! | an account | no, or not to link | that account |
//! | an account | as it, to link | that account |
//! | an account | as another, to link | refused |
//! | nobody so far | yes | that session's account, for which it vouches from now on |
//! | nobody so far, address of an account | no | that account if people of the domain sign in in this way only and the other site answers for the address, else refused |
//! | nobody so far | no | a new account |
//!
//! Whichever it is: if people with its address sign in in another way only, it is refused.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Entry, Origin, SignedIn, open_session_for};
use crate::auth::session::{self, Kind, Secret};
use crate::creation;
use crate::email::EmailAddress;
use crate::id::AccountId;
use crate::letters;
use crate::sso::profile::Email;
use crate::sso::{Profile, Strategy, exclusive};
use crate::store::accounts::{self as stored, Account, New, Taken, Update};
use crate::store::passports::{self, Link};
use crate::store::{self, Reader, Store, Transaction, remember_me, throttle};

/// How often it is tried: somebody else may do the same at the same time, which then is seen.
const ATTEMPTS: usize = 3;

/// Who was signed in when an attempt was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    account_id: AccountId,
    /// Of the cookie.
    hash: String,
}

impl Session {
    /// Whose it is.
    pub fn account_id(&self) -> AccountId {
        self.account_id
    }
}

/// Another site that vouches for somebody.
#[derive(Debug, Clone, Copy)]
pub struct Voucher<'a> {
    /// Which one.
    pub strategy: &'a Strategy,
    /// For whom.
    pub profile: &'a Profile,
    /// Who was signed in in the browser.
    pub session: Option<&'a Session>,
    /// Whether it should vouch for the account of that session.
    pub link: bool,
}

/// Why somebody does not come in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is nobody to vouch for.
    #[error("sign in first")]
    NotSignedIn,
    /// The other site vouches for somebody else.
    #[error("this identity belongs to another account here; unlink it there first")]
    LinkedElsewhere,
    /// There is an account with the address, of whom nobody knows whose it is.
    #[error(
        "there is an account with the address {0} already; sign in to it, and then link this identity"
    )]
    EmailAddressTaken(String),
    /// The account is locked out.
    #[error("this account is banned")]
    Banned,
    /// Something that is the same for every way to come in.
    #[error(transparent)]
    Entry(Box<super::Refused>),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Refused {
    /// A name that stays the same, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSignedIn => "not-signed-in",
            Self::LinkedElsewhere => "linked-elsewhere",
            Self::EmailAddressTaken(_) => "email-address-taken",
            Self::Banned => "banned",
            Self::Entry(refused) if matches!(**refused, super::Refused::Throttled { .. }) => {
                "throttled"
            }
            Self::Entry(refused) if matches!(**refused, super::Refused::Exclusive(_)) => {
                "exclusive"
            }
            Self::Entry(_) => "refused",
            Self::Store(error) => error.code(),
        }
    }
}

impl From<super::Refused> for Refused {
    fn from(refused: super::Refused) -> Self {
        if let super::Refused::Store(error) = refused {
            return Self::Store(error);
        }
        Self::Entry(Box::new(refused))
    }
}

/// Why another site still vouches for an account.
#[derive(Debug, thiserror::Error)]
pub enum Unlink {
    /// It does not.
    #[error("this account has no such identity")]
    Unknown,
    /// People of the domain sign in in this way only.
    #[error("people of your domain sign in with {0}, which cannot be unlinked")]
    Exclusive(String),
    /// Without it nobody could sign in.
    #[error("this is the only way to sign in to the account; set a password first")]
    LastWay,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The session that a cookie shows, if it can be used.
///
/// # Errors
/// When the database does not answer.
pub async fn session_of(
    store: &Store,
    cookie: Option<&str>,
) -> Result<Option<Session>, store::Error> {
    let Some(secret) = cookie.and_then(|cookie| Secret::offered(cookie).ok()) else {
        return Ok(None);
    };
    let hash = secret.hash();
    let mut on = store.read().await?;
    let account_id = account_of(&mut on, &hash).await?;
    Ok(account_id.map(|account_id| Session { account_id, hash }))
}

async fn account_of(on: &mut Reader, hash: &str) -> Result<Option<AccountId>, store::Error> {
    let Some(found) = remember_me::find(on, hash).await? else {
        return Ok(None);
    };
    // Who is in the place of another does not give others a way into that account that stays.
    if found.kind == Kind::Impersonation.name() {
        return Ok(None);
    }
    let stored = session::Stored {
        account: found.account_id,
        expire: found.expire,
        banned: found.banned,
        deleted: found.deleted,
    };
    Ok(session::judge(Some(stored), found.now).ok())
}

impl Entry {
    /// Lets somebody in as the account that another site vouches for, which is made if there is none. `None` if the
    /// session that the browser has is one of that account.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn sign_in_vouched(
        &self,
        voucher: &Voucher<'_>,
        origin: &Origin,
    ) -> Result<Option<SignedIn>, Refused> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_vouched(voucher, origin).await {
                Err(Refused::Store(
                    error @ (store::Error::Conflict { .. } | store::Error::Deadlock(_)),
                )) => last = Some(error),
                other => return other,
            }
        }
        Err(last.map_or(Refused::LinkedElsewhere, Refused::Store))
    }

    async fn try_vouched(
        &self,
        voucher: &Voucher<'_>,
        origin: &Origin,
    ) -> Result<Option<SignedIn>, Refused> {
        let mut on = self.store.write().await?;
        let session = match voucher.session {
            // It may have ended since.
            Some(session) => account_of(&mut on, &session.hash)
                .await?
                .filter(|account| *account == session.account_id),
            None => None,
        };
        let found = self.account(&mut on, voucher, session, origin).await?;
        let account = stored::locked(&mut on, found).await?;
        let account = account.filter(Account::is_usable).ok_or(Refused::Banned)?;
        not_of_another(&mut on, &account, voucher.strategy).await?;
        let profile = voucher.profile;
        // After the account, as whoever unlinks it does: otherwise each might wait for the other.
        let (strategy, said) = (&voucher.strategy.name, profile.to_json());
        passports::set_profile(&mut on, account.id, strategy, &profile.id, &said).await?;
        if voucher.strategy.update_on_login {
            rename(&mut on, &account, profile).await?;
        }
        if session == Some(account.id) {
            on.commit().await?;
            return Ok(None);
        }
        let now = throttle::now(&mut on).await?;
        let longest = voucher.strategy.session_max;
        let signed_in =
            open_session_for(&mut on, &account, Kind::Sso, longest, origin, now).await?;
        on.commit().await?;
        self.letters.wake();
        Ok(Some(signed_in))
    }

    /// Which account it is; see the table above.
    async fn account(
        &self,
        on: &mut Transaction,
        voucher: &Voucher<'_>,
        session: Option<AccountId>,
        origin: &Origin,
    ) -> Result<AccountId, Refused> {
        let (strategy, profile) = (voucher.strategy, voucher.profile);
        if voucher.link && session.is_none() {
            return Err(Refused::NotSignedIn);
        }
        let known = passports::find(on, &strategy.name, &profile.id).await?;
        if let Some(known) = known {
            if voucher.link && session != Some(known.account_id) {
                return Err(Refused::LinkedElsewhere);
            }
            return Ok(known.account_id);
        }
        let id = match session {
            Some(id) => id,
            None => match of_address(on, voucher).await? {
                Some(id) => id,
                None => self.create(on, voucher, origin).await?,
            },
        };
        let link = Link {
            strategy: strategy.name.clone(),
            external_id: profile.id.clone(),
            account_id: id,
            profile: profile.to_json(),
        };
        passports::insert(on, &link).await?;
        Ok(id)
    }

    /// Makes an account for somebody who has none. No token is needed: the other site vouches.
    async fn create(
        &self,
        on: &mut Transaction,
        voucher: &Voucher<'_>,
        origin: &Origin,
    ) -> Result<AccountId, Refused> {
        let profile = voucher.profile;
        let email = profile.emails.first();
        let (first, last) = (&profile.first_name, &profile.last_name);
        let name = |name: &Option<String>, missing: &str| {
            name.clone().unwrap_or_else(|| missing.to_owned())
        };
        let new = New {
            email_address: email.map(|email| email.address.as_str().to_owned()),
            created_by: origin.ip.clone(),
            ..New::named(&name(first, "Unknown"), &name(last, "User"))
        };
        stored::insert(on, &new).await.map_err(taken)?;
        match email {
            Some(email) if is_theirs(voucher.strategy, email) => {
                let now = throttle::now(on).await?;
                let update = Update {
                    email_address_verified: Some(json!({ email.address.as_str(): now })),
                    ..Update::default()
                };
                stored::update(on, new.id, update).await.map_err(taken)?;
                creation::run(on, new.id, &email.address).await?;
            }
            Some(email) if self.letters.are_sent_of(letters::Kind::Verification) => {
                self.challenge_in(on, new.id, &email.address).await?;
            }
            // As whoever signs up with a password: no letter can show whose the address is.
            Some(email) => creation::run(on, new.id, &email.address).await?,
            None => {}
        }
        Ok(new.id)
    }

    /// Forgets that another site vouches for an account.
    ///
    /// # Errors
    /// See [`Unlink`].
    pub async fn unlink(
        &self,
        id: AccountId,
        strategy: &str,
        external_id: &str,
    ) -> Result<(), Unlink> {
        let mut on = self.store.write().await?;
        let account = stored::locked(&mut on, id).await?.ok_or(Unlink::Unknown)?;
        if !passports::delete(&mut on, id, strategy, external_id).await? {
            return Err(Unlink::Unknown);
        }
        if let Some(address) = address_of(&account)
            && let Some(stored) = passports::strategy(&mut on, strategy).await?
            // Also if it is not the only one that says so.
            && let Some(only) = exclusive::among(std::slice::from_ref(&stored), &address)
        {
            return Err(Unlink::Exclusive(only.display));
        }
        let password = account.password_hash.is_some() && account.email_address.is_some();
        if !password && passports::of_account(&mut on, id).await?.is_empty() {
            return Err(Unlink::LastWay);
        }
        Ok(on.commit().await?)
    }
}

fn address_of(account: &Account) -> Option<EmailAddress> {
    account.email_address.as_deref()?.parse().ok()
}

/// Refuses an account whose people sign in in another way only: one by which their place could not lock them out.
async fn not_of_another(
    on: &mut Reader,
    account: &Account,
    strategy: &Strategy,
) -> Result<(), Refused> {
    let Some(address) = address_of(account).filter(|one| !strategy.is_exclusive_for(one)) else {
        return Ok(());
    };
    match exclusive::of(on, &address).await? {
        Some(only) => Err(super::Refused::Exclusive(only.display).into()),
        None => Ok(()),
    }
}

/// The account with one of the addresses, if the other site may let somebody into it.
async fn of_address(
    on: &mut Transaction,
    voucher: &Voucher<'_>,
) -> Result<Option<AccountId>, Refused> {
    for email in &voucher.profile.emails {
        let found = stored::by_email_address(on, email.address.as_str()).await?;
        let Some(account) = found else {
            continue;
        };
        let strategy = voucher.strategy;
        let answers_for_it = strategy.is_exclusive_for(&email.address)
            // `*` says that there is no other way; it does not say that the site knows everybody's address.
            && is_theirs(strategy, email);
        if answers_for_it {
            return Ok(Some(account.id));
        }
        let address = email.address.as_str().to_owned();
        return Err(Refused::EmailAddressTaken(address));
    }
    Ok(None)
}

/// Whether it is known that an address is theirs: the other site has seen that, or says nothing about it and is the site
/// of the domain.
fn is_theirs(strategy: &Strategy, email: &Email) -> bool {
    let own_domain = strategy
        .exclusive_domains
        .iter()
        .any(|domain| domain != "*" && exclusive::covers(domain, &email.address));
    email.verified.unwrap_or(own_domain)
}

async fn rename(on: &mut Transaction, account: &Account, profile: &Profile) -> Result<(), Refused> {
    let new = |new: &Option<String>, old: &str| new.clone().filter(|new| new != old);
    let update = Update {
        first_name: new(&profile.first_name, &account.first_name),
        last_name: new(&profile.last_name, &account.last_name),
        ..Update::default()
    };
    if update.first_name.is_some() || update.last_name.is_some() {
        stored::update(on, account.id, update)
            .await
            .map_err(taken)?;
    }
    Ok(())
}

/// Somebody else was quicker, which the next attempt sees.
fn taken(taken: Taken) -> Refused {
    match taken {
        Taken::Taken(unique) => Refused::Store(store::Error::Conflict {
            what: format!("{unique:?}"),
        }),
        Taken::Store(error) => Refused::Store(error),
    }
}
