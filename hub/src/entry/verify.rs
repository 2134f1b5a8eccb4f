//! Showing that an address is one's own, by a letter to it.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{Entry, Origin, Refused, attempts};
use crate::accounts;
use crate::auth::token::{self, Token};
use crate::creation;
use crate::email::EmailAddress;
use crate::id::AccountId;
use crate::letters::{self, Letter};
use crate::store::accounts::{self as stored, Update};
use crate::store::{Transaction, throttle};
use crate::time::Time;

/// How long the link of a letter is good.
pub const LIFETIME: Duration = Duration::from_hours(24);

impl Entry {
    /// Sends a letter to this address of an account. An earlier one is not good any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn challenge(&self, id: AccountId, address: &EmailAddress) -> Result<(), Refused> {
        let mut on = self.store.write().await?;
        self.challenge_in(&mut on, id, address).await?;
        on.commit().await?;
        self.letters.wake();
        Ok(())
    }

    /// The same, in a transaction that does more.
    pub(super) async fn challenge_in(
        &self,
        on: &mut Transaction,
        id: AccountId,
        address: &EmailAddress,
    ) -> Result<(), Refused> {
        let token = Token::random();
        let now = throttle::now(on).await?;
        let challenge = json!({
            "email": address.as_str(),
            "token_hash": token.hash(),
            "time": now,
        });
        let update = Update {
            email_address_challenge: Some(Some(challenge)),
            ..Update::default()
        };
        let updated = stored::update(on, id, update).await;
        updated.map_err(|error| Refused::from(accounts::Error::from(error)))?;
        let letter = self.verify_letter(address.clone(), &token);
        let kind = letters::Kind::Verification;
        Ok(self.letters.put(on, kind, &letter).await?)
    }

    fn verify_letter(&self, to: EmailAddress, token: &Token) -> Letter {
        let settings = self.settings.get();
        let name = settings.get("site_name");
        let (site, token) = (&self.site, token.reveal());
        let hours = LIFETIME.as_secs() / 3600;
        Letter {
            subject: format!("{name}: is this your address?"),
            text: format!(
                "This link shows {name} that {to} is your address; it is good for {hours} hours:\n\n    \
                 {site}/auth/verify?token={token}&email={to}\n\n\
                 If you have no account there, nothing has to be done.\n"
            ),
            to,
        }
    }

    /// Takes the token of a letter: the address is known to belong to the account.
    ///
    /// # Errors
    /// [`Refused::Token`], [`Refused::Throttled`], or when the database does not answer.
    pub async fn verify(
        &self,
        address: &str,
        offered: &str,
        origin: &Origin,
    ) -> Result<AccountId, Refused> {
        let address: EmailAddress = address.parse().map_err(|_invalid| Refused::Token)?;
        let offered = Token::offered(offered).ok_or(Refused::Token)?;
        attempts::count_token(&self.store, origin).await?;
        let mut on = self.store.write().await?;
        let found = stored::by_email_address(&mut on, address.as_str()).await?;
        let id = found.ok_or(Refused::Token)?.id;
        let account = stored::locked(&mut on, id).await?.ok_or(Refused::Token)?;
        let challenge = stored::challenge(&mut on, id).await?;
        let now = throttle::now(&mut on).await?;
        let fits = challenge.is_some_and(|challenge| is_for(&challenge, &address, &offered, now));
        if !fits || account.email_address.as_deref() != Some(address.as_str()) {
            return Err(Refused::Token);
        }
        let mut verified = account.email_address_verified;
        verified[address.as_str()] = json!(now);
        let update = Update {
            email_address_verified: Some(verified),
            email_address_challenge: Some(None),
            ..Update::default()
        };
        let updated = stored::update(&mut on, id, update).await;
        updated.map_err(|error| Refused::from(accounts::Error::from(error)))?;
        creation::run(&mut on, id, &address).await?;
        on.commit().await?;
        Ok(id)
    }
}

/// Whether that was sent to this address with this token, and not too long ago.
fn is_for(challenge: &Json, address: &EmailAddress, offered: &Token, now: Time) -> bool {
    let text = |name: &str| {
        challenge
            .get(name)
            .and_then(Json::as_str)
            .unwrap_or_default()
    };
    let sent = challenge.get("time").and_then(Json::as_i64).unwrap_or(0);
    text("email") == address.as_str()
        && token::is_same(text("token_hash"), &offered.hash())
        && now.since(Time::from_millis(sent)) < LIFETIME
}
