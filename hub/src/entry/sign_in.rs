//! Signing in with address and password.

use super::{Entry, Origin, Refused, SignedIn, attempts, not_exclusive, open_session};
use crate::auth::password::Verdict;
use crate::auth::session::{Kind, Secret};
use crate::auth::throttle::Action;
use crate::email::EmailAddress;
use crate::store::accounts::Account;
use crate::store::{accounts, remember_me, throttle};

/// What somebody shows.
#[derive(Clone)]
pub struct Request<'a> {
    /// The address, as typed.
    pub email_address: &'a str,
    /// The password.
    pub password: &'a str,
    /// From where.
    pub origin: Origin,
}

/// Without the password.
impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Entry {
    /// Signs in.
    ///
    /// # Errors
    /// See [`Refused`]; whether there is an account is not said.
    pub async fn sign_in(&self, request: &Request<'_>) -> Result<SignedIn, Refused> {
        let attempt = self.count_sign_in(request).await?;
        let address = request.email_address.parse::<EmailAddress>();
        let found = match &address {
            Ok(address) => {
                let mut on = self.store.read().await?;
                not_exclusive(&mut on, address).await?;
                accounts::by_email_address(&mut on, address.as_str()).await?
            }
            // Nobody has it, and that takes as long.
            Err(_) => None,
        };
        let stored = found.as_ref().and_then(|one| one.password_hash.clone());
        let verdict = self
            .hasher
            .check(request.password, stored.as_deref())
            .await?;
        let (Some(account), Some(stored)) = (found, stored) else {
            return Err(Refused::Wrong);
        };
        let newer = match verdict {
            Verdict::Wrong => return Err(Refused::Wrong),
            Verdict::Right => None,
            Verdict::RightOld(newer) => Some(newer),
        };
        if !account.is_usable() {
            return Err(Refused::Banned);
        }
        let signed_in = self.let_in(&account, &stored, newer, request).await?;
        attempt.take_back(&self.store).await?;
        Ok(signed_in)
    }

    async fn count_sign_in(&self, request: &Request<'_>) -> Result<attempts::Attempt, Refused> {
        let mut who = vec![(Action::SignInEmail, request.email_address.trim())];
        if let Some(ip) = &request.origin.ip {
            who.push((Action::SignInIp, ip));
        }
        attempts::count(&self.store, &who).await
    }

    /// The session, if the password is still the one that was checked.
    async fn let_in(
        &self,
        account: &Account,
        checked: &str,
        newer: Option<String>,
        request: &Request<'_>,
    ) -> Result<SignedIn, Refused> {
        let mut on = self.store.write().await?;
        let now = throttle::now(&mut on).await?;
        let account = accounts::locked(&mut on, account.id).await?;
        let account = account.filter(|now| now.password_hash.as_deref() == Some(checked));
        let account = account.ok_or(Refused::Wrong)?;
        if !account.is_usable() {
            return Err(Refused::Banned);
        }
        if let Some(newer) = newer {
            accounts::rehash(&mut on, account.id, checked, &newer).await?;
        }
        let signed_in =
            open_session(&mut on, &account, Kind::Password, &request.origin, now).await?;
        on.commit().await?;
        Ok(signed_in)
    }

    /// Ends the session that a cookie shows. One that is over, or never was one, is ended already.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), Refused> {
        let Ok(secret) = Secret::offered(cookie) else {
            return Ok(());
        };
        let mut on = self.store.write().await?;
        remember_me::delete(&mut on, &secret.hash()).await?;
        Ok(on.commit().await?)
    }
}
