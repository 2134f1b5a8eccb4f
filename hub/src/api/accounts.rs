//! Functions about accounts: finding them, their names, and tokens with which one signs in as one.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::shape::is_email;
use super::throttled::count;
use crate::auth::password::{self, Hasher, Verdict};
use crate::auth::throttle::Action;
use crate::auth::token::Token;
use crate::id::AccountId;
use crate::permission::{Authority, Fact, Facts};
use crate::store::Store;
use crate::store::accounts::{self, Account, Search};
use crate::store::tokens::{self, SignIn};
use crate::time::Time;

/// How long a token to sign in lasts, as in the original.
const SIGN_IN_TTL: Duration = Duration::from_hours(24);

/// How long a link to set a new password lasts that an administrator makes, as in the original.
const RESET_TTL: Duration = Duration::from_hours(24);

/// How many accounts a search finds, if its caller says nothing; most for others; most for administrators.
const FOUND: i64 = 20;
const FOUND_MAX: i64 = 50;
const FOUND_ADMIN_MAX: i64 = 2_500;

/// Most items of a search.
const ITEMS_MAX: usize = 50;

/// What the functions need.
#[derive(Debug)]
pub struct Accounts<F> {
    store: Store,
    authority: Arc<Authority<F>>,
    hasher: Hasher,
}

impl<F> Clone for Accounts<F> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            authority: Arc::clone(&self.authority),
            hasher: self.hasher.clone(),
        }
    }
}

#[derive(Deserialize)]
struct UserSearch {
    query: String,
    limit: Option<i64>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    only_email: bool,
}

#[derive(Deserialize)]
struct AuthToken {
    user_account_id: AccountId,
    password: Option<String>,
}

#[derive(Deserialize)]
struct User {
    user_account_id: AccountId,
}

/// The account that calls.
pub(super) fn caller(call: &Call) -> Result<AccountId, Error> {
    call.caller
        .account()
        .ok_or_else(|| Error::new(Code::NotSignedIn, "user must be signed in"))
}

impl From<password::Error> for Error {
    fn from(error: password::Error) -> Self {
        let code = match error {
            password::Error::Busy => Code::Unavailable,
            password::Error::TooLong => Code::InvalidArgument,
            password::Error::Malformed | password::Error::Broken(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl<F: Facts> Accounts<F> {
    /// On this store, as far as the authority lets the caller.
    pub fn new(store: Store, authority: Arc<Authority<F>>, hasher: Hasher) -> Self {
        Self {
            store,
            authority,
            hasher,
        }
    }

    /// The handlers with those of this file, and with that of keys.
    pub fn install(self, handlers: Handlers) -> Handlers {
        let (names, search, make) = (self.clone(), self.clone(), self.clone());
        let (revoke, expire, reset) = (self.clone(), self.clone(), self.clone());
        let handlers = super::keys::install(self.store, handlers);
        handlers
            .with("system.getNames", move |call| {
                let accounts = names.clone();
                async move { accounts.names(call).await }
            })
            .with("system.userSearch", move |call| {
                let accounts = search.clone();
                async move { accounts.search(call).await }
            })
            .with("system.generateUserAuthToken", move |call| {
                let accounts = make.clone();
                async move { accounts.make_token(call).await }
            })
            .with("system.revokeUserAuthToken", move |mut call| {
                let accounts = revoke.clone();
                async move { accounts.revoke(&call.argument::<String>(0)?).await }
            })
            .with("org.expireToken", move |mut call| {
                let accounts = expire.clone();
                async move {
                    let options: Json = call.argument(0)?;
                    accounts
                        .revoke(options["token"].as_str().unwrap_or_default())
                        .await
                }
            })
            .with("system.adminResetPasswordLink", move |call| {
                let accounts = reset.clone();
                async move { accounts.reset_link(call).await }
            })
    }

    async fn names(&self, mut call: Call) -> Result<Json, Error> {
        let ids: Vec<AccountId> = call.argument(0)?;
        let mut on = self.store.read().await?;
        let found = accounts::by_ids(&mut on, &ids).await?;
        let names: Map<String, Json> = found
            .into_iter()
            .filter(|account| !account.deleted)
            .map(|account| {
                let names =
                    json!({"first_name": account.first_name, "last_name": account.last_name});
                (account.id.to_string(), names)
            })
            .collect();
        Ok(Json::Object(names))
    }

    async fn search(&self, mut call: Call) -> Result<Json, Error> {
        let wanted: UserSearch = call.argument(0)?;
        // That the caller is an administrator, if it says so, is in the table.
        let max = if wanted.admin {
            FOUND_ADMIN_MAX
        } else {
            FOUND_MAX
        };
        let limit = wanted.limit.unwrap_or(FOUND).min(max);
        let mut on = self.store.read().await?;
        let mut found: Vec<Json> = Vec::new();
        for item in items(&wanted.query)? {
            let by_email = is_email(item);
            let accounts = if let Ok(id) = item.parse::<AccountId>() {
                accounts::by_id(&mut on, id).await?.into_iter().collect()
            } else if by_email {
                let address = item.to_lowercase();
                accounts::by_email_address(&mut on, &address)
                    .await?
                    .into_iter()
                    .collect()
            } else if wanted.only_email {
                Vec::new()
            } else {
                let words: Vec<&str> = item.split_whitespace().take(8).collect();
                let search = Search {
                    words: &words,
                    everybody: wanted.admin,
                    limit,
                };
                accounts::search(&mut on, search).await?
            };
            let visible = accounts
                .iter()
                .filter(|account| wanted.admin || !(account.banned || account.deleted))
                .map(|account| shown(account, by_email, wanted.admin));
            found.extend(visible);
        }
        found.dedup_by(|one, other| one["account_id"] == other["account_id"]);
        found.truncate(usize::try_from(limit).unwrap_or(0));
        Ok(Json::Array(found))
    }

    async fn make_token(&self, mut call: Call) -> Result<Json, Error> {
        let caller = caller(&call)?;
        let wanted: AuthToken = call.argument(0)?;
        let is_admin = self.authority.holds(Fact::Admin(caller)).await?;
        if !is_admin {
            let password = wanted.password.as_deref().unwrap_or_default();
            self.check_password(caller, wanted.user_account_id, password)
                .await?;
        }
        let token = Token::random();
        let sign_in = SignIn {
            account_id: wanted.user_account_id,
            created_by: caller,
            is_admin,
        };
        let mut on = self.store.write().await?;
        let target = accounts::locked(&mut on, wanted.user_account_id).await?;
        if target.is_none_or(|account| account.deleted || account.banned) {
            return Err(Error::new(Code::NotFound, "there is no such account"));
        }
        tokens::put_sign_in(&mut on, &token.hash(), &sign_in, SIGN_IN_TTL).await?;
        on.commit().await?;
        Ok(token.reveal().into())
    }

    /// Whoever gives a wrong password for an account waits before the next one, on whichever hub; whether there is such
    /// an account is not to be seen.
    async fn check_password(
        &self,
        caller: AccountId,
        target: AccountId,
        password: &str,
    ) -> Result<(), Error> {
        let who = format!("{caller} {target}");
        count(&self.store, Action::AuthToken, &who).await?;
        let account = {
            let mut on = self.store.read().await?;
            accounts::by_id(&mut on, target).await?
        };
        let active = account.filter(|account| !account.banned && !account.deleted);
        let stored = active.and_then(|account| account.password_hash);
        if self.hasher.check(password, stored.as_deref()).await? == Verdict::Wrong {
            return Err(Error::denied(
                "must be an admin, or give the password of the account",
            ));
        }
        Ok(())
    }

    /// Whoever has a token may end it. Whether there was one is not said.
    async fn revoke(&self, token: &str) -> Result<Json, Error> {
        let token = Token::offered(token)
            .ok_or_else(|| Error::argument("token", "has not the form of a token"))?;
        let mut on = self.store.write().await?;
        tokens::delete_sign_in(&mut on, &token.hash()).await?;
        on.commit().await?;
        Ok(Json::Null)
    }

    async fn reset_link(&self, mut call: Call) -> Result<Json, Error> {
        let User { user_account_id } = call.argument(0)?;
        let mut on = self.store.write().await?;
        let account = accounts::locked(&mut on, user_account_id).await?;
        let account = account
            .filter(|account| !account.deleted)
            .ok_or_else(|| Error::new(Code::NotFound, "there is no such account"))?;
        let address = account.email_address.ok_or_else(|| {
            Error::new(
                Code::FailedPrecondition,
                "the account has no e-mail address",
            )
        })?;
        let token = Token::random();
        tokens::put_reset(&mut on, &token.hash(), user_account_id, &address, RESET_TTL).await?;
        on.commit().await?;
        Ok(format!("/auth/password-reset/{}", token.reveal()).into())
    }
}

/// The items of a search: an identifier, addresses, and words.
fn items(query: &str) -> Result<Vec<&str>, Error> {
    let items: Vec<&str> = query
        .split([',', ';'])
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    if items.len() > ITEMS_MAX {
        let text = format!("has more than {ITEMS_MAX} items ({})", items.len());
        return Err(Error::argument("args[0].query", text));
    }
    Ok(items)
}

/// An account as a search shows it. Its address is shown to those who knew it, and to administrators.
fn shown(account: &Account, by_email: bool, admin: bool) -> Json {
    let mut shown = json!({
        "account_id": account.id,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "name": account.name,
        "created": account.created,
        "last_active": account.last_active.map(Time::millis),
    });
    if let Some(fields) = shown.as_object_mut() {
        if by_email || admin {
            fields.insert("email_address".to_owned(), json!(account.email_address));
        }
        if admin {
            fields.insert("banned".to_owned(), account.banned.into());
        }
    }
    shown
}
