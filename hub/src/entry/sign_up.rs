//! Making an account for oneself.

use super::{Entry, Origin, Refused, SignedIn, attempts, not_exclusive, open_session};
use crate::accounts;
use crate::auth::registration::{self, Attempt};
use crate::auth::session::Kind;
use crate::auth::strength;
use crate::auth::throttle::Action;
use crate::creation;
use crate::email::EmailAddress;
use crate::letters;
use crate::store::accounts::New;
use crate::store::tokens::{self, Registration};
use crate::store::{Transaction, throttle};

/// Longest first and last name, in characters.
pub const NAME_LEN_MAX: usize = 254;

/// Most tags, and the longest text of one and of the reason, in characters.
const TAGS_MAX: usize = 50;
const TAG_LEN_MAX: usize = 100;
const INTENT_LEN_MAX: usize = 2000;

/// What somebody says about themselves.
#[derive(Clone)]
pub struct Request<'a> {
    /// The address, as typed.
    pub email_address: &'a str,
    /// The password.
    pub password: &'a str,
    /// The first name.
    pub first_name: &'a str,
    /// The last name.
    pub last_name: &'a str,
    /// The token that somebody gave them, if any.
    pub token: Option<&'a str>,
    /// What it is for.
    pub tags: Vec<String>,
    /// Why.
    pub intent: Option<String>,
    /// From where.
    pub origin: Origin,
}

/// Without password and token.
impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Entry {
    /// Makes an account and signs in. If the site sends letters, one is sent to show that the address is theirs.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn sign_up(&self, request: &Request<'_>) -> Result<SignedIn, Refused> {
        if !self.settings.get().is_on("email_signup") {
            return Err(Refused::Disabled("signing up by email"));
        }
        let address: EmailAddress = request
            .email_address
            .parse()
            .map_err(|_invalid| Refused::EmailAddress)?;
        let first_name = name("the first name", request.first_name)?;
        let last_name = name("the last name", request.last_name)?;
        strength::check(request.password, &[address.as_str(), first_name, last_name])?;
        not_exclusive(&mut self.store.read().await?, &address).await?;
        self.count_sign_up(&request.origin, request.token).await?;
        let new = New {
            email_address: Some(address.clone().into()),
            password_hash: Some(self.hasher.hash(request.password).await?),
            created_by: request.origin.ip.clone(),
            tags: tags(&request.tags),
            sign_up_usage_intent: request
                .intent
                .as_deref()
                .map(|text| cut(text, INTENT_LEN_MAX)),
            ..New::named(first_name, last_name)
        };
        let signed_in = self.enter(new, request, Kind::Password).await?;
        if self.letters.are_sent_of(letters::Kind::Verification) {
            self.challenge(signed_in.account_id, &address).await?;
        }
        Ok(signed_in)
    }

    /// Makes an account that ends by itself, with a token that is for such, and signs in.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn sign_up_ephemeral(
        &self,
        token: &str,
        origin: &Origin,
    ) -> Result<SignedIn, Refused> {
        self.count_sign_up(origin, Some(token)).await?;
        let name = crate::auth::token::random_text(6);
        let new = New {
            created_by: origin.ip.clone(),
            ..New::named("Ephemeral", &format!("User-{name}"))
        };
        let request = Request {
            email_address: "",
            password: "",
            first_name: "",
            last_name: "",
            token: Some(token),
            tags: Vec::new(),
            intent: None,
            origin: origin.clone(),
        };
        self.enter(new, &request, Kind::Ephemeral).await
    }

    async fn count_sign_up(&self, origin: &Origin, token: Option<&str>) -> Result<(), Refused> {
        let Some(ip) = &origin.ip else {
            return Ok(());
        };
        let mut who = vec![(Action::SignUpIp, ip.as_str())];
        if token.is_some() {
            who.push((Action::TokenIp, ip));
        }
        attempts::count(&self.store, &who).await.map(drop)
    }

    /// Uses the token, makes the account and the session: all of it or nothing.
    async fn enter(
        &self,
        mut new: New,
        request: &Request<'_>,
        kind: Kind,
    ) -> Result<SignedIn, Refused> {
        let mut on = self.store.write().await?;
        let token = redeem(&mut on, request.token, kind == Kind::Ephemeral).await?;
        if let Some(token) = &token {
            new.ephemeral = token.ephemeral;
            new.customize = token.customize.clone();
        }
        let inserted = crate::store::accounts::insert(&mut on, &new).await;
        inserted.map_err(|error| Refused::from(accounts::Error::from(error)))?;
        if let Some(token) = &token {
            tokens::registration_used(&mut on, &token.token).await?;
        }
        // Elsewhere a letter shows whose the address is, and then it happens.
        if let Some(address) = new.email_address.as_deref()
            && !self.letters.are_sent_of(letters::Kind::Verification)
        {
            let address = address.parse().map_err(|_invalid| Refused::EmailAddress)?;
            creation::run(&mut on, new.id, &address).await?;
        }
        let account = crate::store::accounts::by_id(&mut on, new.id).await?;
        let account = account.ok_or(Refused::Wrong)?;
        let now = throttle::now(&mut on).await?;
        let signed_in = open_session(&mut on, &account, kind, &request.origin, now).await?;
        on.commit().await?;
        Ok(signed_in)
    }
}

/// The token, if one is needed or given; nobody else uses it until the transaction ends.
async fn redeem(
    on: &mut Transaction,
    token: Option<&str>,
    ephemeral: bool,
) -> Result<Option<Registration>, Refused> {
    let token = token.map(str::trim).filter(|token| !token.is_empty());
    let required = tokens::registration_required(on).await?;
    let found = match token {
        Some(token) => tokens::registration_locked(on, token).await?,
        None => None,
    };
    let now = throttle::now(on).await?;
    let attempt = Attempt {
        given: token.is_some(),
        required,
        found: found.as_ref().map(|(found, _)| registration::Stored {
            counter: found.counter,
            limit: found.limit,
            expires: found.expires,
            disabled: found.disabled,
            ephemeral: found.ephemeral,
        }),
        ephemeral,
    };
    registration::redeem(attempt, now)?;
    Ok(found.map(|(found, _)| found))
}

pub(super) fn name<'a>(field: &'static str, text: &'a str) -> Result<&'a str, Refused> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > NAME_LEN_MAX {
        return Err(Refused::Name {
            field,
            max: NAME_LEN_MAX,
        });
    }
    Ok(text)
}

fn tags(tags: &[String]) -> Vec<String> {
    let tags = tags.iter().take(TAGS_MAX);
    tags.map(|tag| cut(tag, TAG_LEN_MAX)).collect()
}

fn cut(text: &str, len_max: usize) -> String {
    text.chars().take(len_max).collect()
}
