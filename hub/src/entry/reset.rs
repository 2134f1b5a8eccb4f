//! A new password for those who have forgotten theirs, by a letter.

use std::time::Duration;

use serde_json::json;

use super::{Entry, Origin, Refused, attempts, not_exclusive};
use crate::accounts;
use crate::auth::strength;
use crate::auth::throttle::Action;
use crate::auth::token::Token;
use crate::email::EmailAddress;
use crate::id::AccountId;
use crate::letters::{self, Letter};
use crate::store::accounts::{self as stored, Update};
use crate::store::{throttle, tokens};

/// How long the link of a letter is good: 4 hours, as in CoCalc.
pub const LIFETIME: Duration = Duration::from_hours(4);

/// How long a link is good that an administrator has asked for: 24 hours, as in CoCalc.
pub const LIFETIME_ADMIN: Duration = Duration::from_hours(24);

impl Entry {
    /// Sends a letter with a link, if there is an account with this address. Whether there is one is not said.
    ///
    /// # Errors
    /// [`Refused::Disabled`] on a site that sends no letters, [`Refused::Throttled`], or when the database does not
    /// answer.
    pub async fn ask_for_reset(&self, email_address: &str, origin: &Origin) -> Result<(), Refused> {
        if !self.letters.are_sent_of(letters::Kind::PasswordReset) {
            return Err(Refused::Disabled("sending letters"));
        }
        let address: EmailAddress = email_address
            .parse()
            .map_err(|_invalid| Refused::EmailAddress)?;
        let ip = origin.ip.as_deref().unwrap_or_default();
        let who = format!("{address} {ip}");
        attempts::count(&self.store, &[(Action::PasswordReset, &who)]).await?;
        let found = {
            let mut on = self.store.read().await?;
            not_exclusive(&mut on, &address).await?;
            stored::by_email_address(&mut on, address.as_str()).await?
        };
        // A banned account may set a password; it does not come in with it.
        if let Some(account) = found.filter(|account| !account.deleted) {
            let token = Token::random();
            let letter = self.reset_letter(address.clone(), &token);
            let mut on = self.store.write().await?;
            let (hash, id) = (token.hash(), account.id);
            tokens::put_reset(&mut on, &hash, id, address.as_str(), LIFETIME).await?;
            let kind = letters::Kind::PasswordReset;
            self.letters.put(&mut on, kind, &letter).await?;
            on.commit().await?;
            self.letters.wake();
        }
        Ok(())
    }

    /// A link with which an account gets a new password, for an administrator to hand over. Earlier ones are not good
    /// any more.
    ///
    /// # Errors
    /// [`Refused::Wrong`] if there is no such account, or none with an address.
    pub async fn reset_link(&self, id: AccountId) -> Result<String, Refused> {
        let found = {
            let mut on = self.store.read().await?;
            stored::by_id(&mut on, id).await?
        };
        let address = found.and_then(|account| account.email_address?.parse().ok());
        let address: EmailAddress = address.ok_or(Refused::Wrong)?;
        let token = Token::random();
        let mut on = self.store.write().await?;
        let (hash, address) = (token.hash(), address.as_str());
        tokens::put_reset(&mut on, &hash, id, address, LIFETIME_ADMIN).await?;
        on.commit().await?;
        Ok(self.reset_url(&token))
    }

    fn reset_url(&self, token: &Token) -> String {
        format!("{}/auth/password-reset/{}", self.site, token.reveal())
    }

    fn reset_letter(&self, to: EmailAddress, token: &Token) -> Letter {
        let site = self.settings.get();
        let (name, link) = (site.get("site_name"), self.reset_url(token));
        let hours = LIFETIME.as_secs() / 3600;
        Letter {
            to,
            subject: format!("{name}: a new password"),
            text: format!(
                "Somebody, probably you, wants a new password for your account at {name}.\n\n\
                 This link lets you set one, once, within {hours} hours:\n\n    {link}\n\n\
                 If that was not you, nothing has to be done: your password stays as it is.\n"
            ),
        }
    }

    /// Sets a new password with the token of a letter, which is used up. All sessions end, and the address is known to
    /// be theirs.
    ///
    /// # Errors
    /// [`Refused::Token`], [`Refused::Weak`], [`Refused::Throttled`], or when the database does not answer.
    pub async fn reset(
        &self,
        token: &str,
        password: &str,
        origin: &Origin,
    ) -> Result<AccountId, Refused> {
        strength::check(password, &[])?;
        attempts::count_token(&self.store, origin).await?;
        let token = Token::offered(token).ok_or(Refused::Token)?;
        let hash = self.hasher.hash(password).await?;
        let mut on = self.store.write().await?;
        let used = tokens::use_reset(&mut on, &token.hash()).await?;
        let (id, address) = used.ok_or(Refused::Token)?;
        let account = stored::locked(&mut on, id).await?;
        let account = account
            .filter(|account| !account.deleted)
            .ok_or(Refused::Token)?;
        accounts::set_password_in(&mut on, id, &hash, None).await?;
        // The letter was to the address of then.
        if account.email_address.as_deref() == Some(&*address) {
            let mut verified = account.email_address_verified;
            verified[address] = json!(throttle::now(&mut on).await?);
            let update = Update {
                email_address_verified: Some(verified),
                ..Update::default()
            };
            let updated = stored::update(&mut on, id, update).await;
            updated.map_err(|error| Refused::from(accounts::Error::from(error)))?;
        }
        on.commit().await?;
        Ok(id)
    }
}
