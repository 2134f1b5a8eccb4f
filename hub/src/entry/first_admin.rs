//! The first administrator of a site: made by whoever has the link that the program printed, once.

use tokio::sync::Mutex;

use super::{Entry, Origin, Refused, SignedIn, open_session};
use crate::accounts;
use crate::auth::session::Kind;
use crate::auth::strength;
use crate::auth::token::Token;
use crate::email::EmailAddress;
use crate::store::accounts::{self as stored, ADMIN, New};
use crate::store::{self, Store, throttle};

/// The right to become the first administrator. It is kept in memory alone: it ends with the process, and when it was
/// used.
#[derive(Debug)]
pub struct Invitation {
    hash: String,
    /// Whether it was used. Whoever uses it holds this meanwhile: others wait, and if nothing comes of it they may.
    used: Mutex<bool>,
}

/// Who wants to be it.
#[derive(Clone)]
pub struct Request<'a> {
    /// The secret of the link.
    pub token: &'a str,
    /// The address, as typed.
    pub email_address: &'a str,
    /// The password.
    pub password: &'a str,
    /// The first name.
    pub first_name: &'a str,
    /// The last name.
    pub last_name: &'a str,
    /// From where.
    pub origin: Origin,
}

/// Without password and token.
impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Invitation {
    /// One, and its secret, if the site has no administrator.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn if_needed(store: &Store) -> Result<Option<(Self, String)>, store::Error> {
        let admins = stored::in_group(&mut store.read().await?, ADMIN).await?;
        if !admins.is_empty() {
            return Ok(None);
        }
        let token = Token::random();
        let invitation = Self {
            hash: token.hash(),
            used: Mutex::new(false),
        };
        Ok(Some((invitation, token.reveal().to_owned())))
    }

    /// Whether this is its secret, and it was not used.
    pub fn is_open_to(&self, token: &str) -> bool {
        let offered = Token::offered(token).map(|token| token.hash());
        let is_it = offered.is_some_and(|hash| crate::auth::token::is_same(&self.hash, &hash));
        // While somebody uses it, that may still fail.
        is_it && self.used.try_lock().map_or(true, |used| !*used)
    }
}

impl Entry {
    /// Makes the first administrator and signs in. If that is not possible for another reason than the link, the link
    /// stays good.
    ///
    /// # Errors
    /// [`Refused::Token`] if the link was used, is another one, or the site has an administrator by now; otherwise as
    /// for [`sign_up`](Self::sign_up).
    pub async fn become_first_admin(
        &self,
        invitation: &Invitation,
        request: &Request<'_>,
    ) -> Result<SignedIn, Refused> {
        if !invitation.is_open_to(request.token) {
            return Err(Refused::Token);
        }
        let address: EmailAddress = request
            .email_address
            .parse()
            .map_err(|_invalid| Refused::EmailAddress)?;
        let first_name = super::sign_up::name("the first name", request.first_name)?;
        let last_name = super::sign_up::name("the last name", request.last_name)?;
        strength::check(request.password, &[address.as_str(), first_name, last_name])?;
        let new = New {
            email_address: Some(address.into()),
            password_hash: Some(self.hasher.hash(request.password).await?),
            created_by: request.origin.ip.clone(),
            groups: vec![ADMIN.to_owned()],
            ..New::named(first_name, last_name)
        };
        // Who goes away in the middle has not used it; if the administrator was made by then, that is found.
        let mut used = invitation.used.lock().await;
        if *used {
            return Err(Refused::Token);
        }
        let signed_in = self.make_admin(&new, &request.origin).await?;
        *used = true;
        Ok(signed_in)
    }

    async fn make_admin(&self, new: &New, origin: &Origin) -> Result<SignedIn, Refused> {
        let mut on = self.store.write().await?;
        if !stored::in_group(&mut on, ADMIN).await?.is_empty() {
            return Err(Refused::Token);
        }
        let inserted = stored::insert(&mut on, new).await;
        inserted.map_err(|error| Refused::from(accounts::Error::from(error)))?;
        let account = stored::by_id(&mut on, new.id)
            .await?
            .ok_or(Refused::Wrong)?;
        let now = throttle::now(&mut on).await?;
        let signed_in = open_session(&mut on, &account, Kind::Password, origin, now).await?;
        on.commit().await?;
        Ok(signed_in)
    }
}
