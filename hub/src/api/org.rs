//! `org`: organizations.
//!
//! Those who look after an organization act on its members alone, and never on an administrator of the site. Who may is
//! decided by the rows, in the transaction that changes something.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::throttled::count;
use crate::auth::password::Hasher;
use crate::auth::strength;
use crate::auth::throttle::Action;
use crate::auth::token::Token;
use crate::email::EmailAddress;
use crate::entry::Refused;
use crate::id::{AccountId, OrganizationId, ProjectId};
use crate::sso::exclusive;
use crate::store::accounts::{self, Account, Taken, Unique};
use crate::store::organizations::{self, Organization, Update};
use crate::store::tokens::{self, SignIn};
use crate::store::{Reader, Store, Transaction, logs, messages, projects, throttle};
use crate::time::Time;

/// How long a token to sign in as a member lasts, if a call says nothing, and at most.
const TOKEN_TTL: Duration = Duration::from_hours(24);
const TOKEN_TTL_MAX: Duration = Duration::from_hours(30 * 24);

/// Most organizations that are listed, and most members of one.
const ORGANIZATIONS_MAX: i64 = 10_000;
const MEMBERS_MAX: i64 = 10_000;

/// Longest first and last name, in characters.
const NAME_LEN_MAX: usize = 254;

/// What the first project of an account is called.
const FIRST_PROJECT: &str = "My First Project";

/// What the functions need.
#[derive(Debug, Clone)]
pub struct Organizations {
    store: Store,
    hasher: Hasher,
    /// Where the site is, without a slash at the end.
    site: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: String,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    title: Option<String>,
    description: Option<String>,
    link: Option<String>,
    email_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateUser {
    name: String,
    email: String,
    first_name: String,
    last_name: String,
    password: Option<String>,
}

#[derive(Deserialize)]
struct CreateToken {
    user: String,
    expire: Option<Time>,
}

#[derive(Deserialize)]
struct Letter {
    name: String,
    subject: String,
    body: String,
}

/// An organization that the caller may look after.
struct Managed {
    organization: Organization,
    /// Whether the caller is an administrator of the site.
    by_site: bool,
}

impl Organizations {
    /// On this store. `site` is the address of the site, for links.
    pub fn new(store: Store, hasher: Hasher, site: String) -> Self {
        Self {
            store,
            hasher,
            site,
        }
    }

    /// The handlers with those of this file.
    pub fn install(self, handlers: Handlers) -> Handlers {
        handlers
            .with_on("org.getAll", &self, |org, call| async move {
                org.get_all(call).await
            })
            .with_on("org.create", &self, |org, call| async move {
                org.create(call).await
            })
            .with_on(
                "org.get",
                &self,
                |org, call| async move { org.get(call).await },
            )
            .with_on(
                "org.set",
                &self,
                |org, call| async move { org.set(call).await },
            )
            .with_on("org.addAdmin", &self, |org, call| async move {
                org.add_admin(call).await
            })
            .with_on("org.addUser", &self, |org, call| async move {
                org.add_user(call).await
            })
            .with_on("org.createUser", &self, |org, call| async move {
                org.create_user(call).await
            })
            .with_on("org.removeUser", &self, |org, call| async move {
                org.remove_user(call).await
            })
            .with_on("org.removeAdmin", &self, |org, call| async move {
                org.remove_admin(call).await
            })
            .with_on("org.createToken", &self, |org, call| async move {
                org.create_token(call).await
            })
            .with_on("org.getUsers", &self, |org, call| async move {
                org.get_users(call).await
            })
            .with_on("org.message", &self, |org, call| async move {
                org.message(call).await
            })
    }

    async fn get_all(&self, _call: Call) -> Result<Json, Error> {
        let mut on = self.store.read().await?;
        let all = organizations::all(&mut on, ORGANIZATIONS_MAX).await?;
        Ok(all
            .into_iter()
            .map(|(organization, admins)| {
                json!({
                    "organization_id": organization.id,
                    "name": organization.name,
                    "title": organization.title,
                    "admin_account_ids": admins,
                })
            })
            .collect())
    }

    async fn create(&self, mut call: Call) -> Result<Json, Error> {
        let Named { name } = call.argument(0)?;
        if !crate::query::is_username(&name) {
            let text =
                "must be 1 to 39 letters, digits and single hyphens between them, and no UUID";
            return Err(Error::argument("args[0].name", text));
        }
        let mut on = self.store.write().await?;
        let taken = accounts::by_name(&mut on, &name).await?.is_some()
            || organizations::by_name(&mut on, &name).await?.is_some();
        if taken {
            let text = format!("the name {name} is taken");
            return Err(Error::new(Code::Conflict, text));
        }
        let id = OrganizationId::random();
        organizations::insert(&mut on, id, &name).await?;
        on.commit().await?;
        Ok(json!(id))
    }

    async fn get(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let Named { name } = call.argument(0)?;
        let mut on = self.store.read().await?;
        let found = organizations::by_name(&mut on, &name).await?;
        let Managed { organization, .. } = managed(&mut on, found, &name, by).await?;
        let members = organizations::members(&mut on, organization.id, MEMBERS_MAX).await?;
        let admins: Vec<AccountId> = members
            .iter()
            .filter(|member| member.is_admin)
            .map(|member| member.account_id)
            .collect();
        Ok(json!({
            "organization_id": organization.id,
            "name": organization.name,
            "title": organization.title,
            "description": organization.description,
            "link": organization.link,
            "email_address": organization.email_address,
            "created": organization.created,
            "admin_account_ids": admins,
        }))
    }

    async fn set(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let set: Set = call.argument(0)?;
        let mut on = self.store.write().await?;
        let Managed { organization, .. } = managed_locked(&mut on, &set.name, by).await?;
        let update = Update {
            title: set.title,
            description: set.description,
            link: set.link,
            email_address: set.email_address,
        };
        organizations::update(&mut on, organization.id, update).await?;
        on.commit().await?;
        Ok(Json::Null)
    }

    async fn add_admin(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let NamedUser { name, user } = call.argument(0)?;
        let mut on = self.store.write().await?;
        let Managed { organization, .. } = managed_locked(&mut on, &name, by).await?;
        let account = meant(&mut on, &user).await?;
        let before = organizations::of_account(&mut on, account.id).await?;
        if let Some((other, _)) = before.filter(|(other, _)| other.id != organization.id) {
            let text = format!("the account is in another organization, {}", other.name);
            return Err(Error::new(Code::FailedPrecondition, text));
        }
        organizations::put_member(&mut on, &organization, account.id, true).await?;
        on.commit().await?;
        Ok(Json::Null)
    }

    async fn add_user(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let NamedUser { name, user } = call.argument(0)?;
        let mut on = self.store.write().await?;
        let Managed { organization, .. } = managed_locked(&mut on, &name, by).await?;
        let account = meant(&mut on, &user).await?;
        let before = organizations::of_account(&mut on, account.id).await?;
        // Who is in it stays what they are.
        let is_admin = before.is_some_and(|(own, is_admin)| own.id == organization.id && is_admin);
        organizations::put_member(&mut on, &organization, account.id, is_admin).await?;
        on.commit().await?;
        Ok(Json::Null)
    }

    async fn create_user(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let wanted: CreateUser = call.argument(0)?;
        self.check_managed(&wanted.name, by).await?;
        let new = self.new_user(&wanted, by).await?;
        let mut on = self.store.write().await?;
        let Managed { organization, .. } = managed_locked(&mut on, &wanted.name, by).await?;
        not_exclusive(&mut on, &wanted.email).await?;
        accounts::insert(&mut on, &new).await?;
        organizations::put_member(&mut on, &organization, new.id, false).await?;
        let project = projects::New {
            id: ProjectId::random(),
            title: FIRST_PROJECT.to_owned(),
            description: String::new(),
            compute_image: None,
            owner: Some(new.id),
        };
        projects::insert(&mut on, &project).await?;
        on.commit().await?;
        Ok(json!(new.id))
    }

    /// Hashing a password takes its time, and is not done for those who may not.
    async fn check_managed(&self, name: &str, by: AccountId) -> Result<(), Error> {
        let mut on = self.store.read().await?;
        let found = organizations::by_name(&mut on, name).await?;
        managed(&mut on, found, name, by).await.map(drop)
    }

    async fn new_user(&self, wanted: &CreateUser, by: AccountId) -> Result<accounts::New, Error> {
        let address: EmailAddress = wanted
            .email
            .parse()
            .map_err(|error| Error::argument("args[0].email", error))?;
        let first_name = name("args[0].firstName", &wanted.first_name)?;
        let last_name = name("args[0].lastName", &wanted.last_name)?;
        // Without a password it has one that nobody knows, until its owner sets another one by letter.
        let password = match wanted.password.as_deref() {
            Some(password) => {
                strength::check(password, &[address.as_str(), first_name, last_name])
                    .map_err(|weak| Error::argument("args[0].password", weak))?;
                password.to_owned()
            }
            None => Token::random().reveal().to_owned(),
        };
        Ok(accounts::New {
            email_address: Some(address.into()),
            password_hash: Some(self.hasher.hash(&password).await?),
            owner_id: Some(by),
            ..accounts::New::named(first_name, last_name)
        })
    }

    async fn remove_user(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let NamedUser { name, user } = call.argument(0)?;
        let mut on = self.store.write().await?;
        let managed = managed_locked(&mut on, &name, by).await?;
        let (account, is_admin) = member(&mut on, &managed, &user).await?;
        if is_admin {
            let text =
                "an administrator of the organization cannot be removed; make them a member first";
            return Err(Error::new(Code::FailedPrecondition, text));
        }
        organizations::delete_member(&mut on, managed.organization.id, account.id).await?;
        on.commit().await?;
        Ok(Json::Null)
    }

    async fn remove_admin(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let NamedUser { name, user } = call.argument(0)?;
        let mut on = self.store.write().await?;
        let managed = managed_locked(&mut on, &name, by).await?;
        let (account, _) = member(&mut on, &managed, &user).await?;
        organizations::put_member(&mut on, &managed.organization, account.id, false).await?;
        on.commit().await?;
        Ok(Json::Null)
    }

    async fn create_token(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let wanted: CreateToken = call.argument(0)?;
        let mut on = self.store.write().await?;
        let account = members_organization(&mut on, &wanted.user, by).await?;
        let now = throttle::now(&mut on).await?;
        let ttl = wanted.expire.map_or(TOKEN_TTL, |expire| expire.since(now));
        if ttl.is_zero() || ttl > TOKEN_TTL_MAX {
            let text = format!(
                "must be within the next {} h",
                TOKEN_TTL_MAX.as_secs() / 3_600
            );
            return Err(Error::argument("args[0].expire", text));
        }
        let token = Token::random();
        let sign_in = SignIn {
            account_id: account,
            created_by: by,
            is_admin: true,
        };
        tokens::put_sign_in(&mut on, &token.hash(), &sign_in, ttl).await?;
        let event = json!({"account_id": account, "created_by": by});
        logs::central(&mut on, "auth-token", &event).await?;
        on.commit().await?;
        let token = token.reveal();
        let url = format!("{}/auth/impersonate?auth_token={token}", self.site);
        Ok(json!({"token": token, "url": url}))
    }

    async fn get_users(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let Named { name } = call.argument(0)?;
        let mut on = self.store.read().await?;
        let found = organizations::by_name(&mut on, &name).await?;
        let Managed { organization, .. } = managed(&mut on, found, &name, by).await?;
        let members = organizations::members(&mut on, organization.id, MEMBERS_MAX).await?;
        Ok(members
            .into_iter()
            .map(|member| {
                json!({
                    "account_id": member.account_id,
                    "first_name": member.first_name,
                    "last_name": member.last_name,
                    "email_address": member.email_address,
                    "last_active": member.last_active,
                    "is_admin": member.is_admin,
                })
            })
            .collect())
    }

    async fn message(&self, mut call: Call) -> Result<Json, Error> {
        let by = caller(&call)?;
        let letter: Letter = call.argument(0)?;
        self.check_managed(&letter.name, by).await?;
        count(&self.store, Action::Message, &by.to_string()).await?;
        let mut on = self.store.write().await?;
        let Managed { organization, .. } = managed_locked(&mut on, &letter.name, by).await?;
        let members = organizations::members(&mut on, organization.id, MEMBERS_MAX).await?;
        let to: Vec<AccountId> = members.iter().map(|member| member.account_id).collect();
        if to.is_empty() {
            return Ok(Json::Null);
        }
        let new = messages::New {
            from: by,
            to: &to,
            subject: &letter.subject,
            body: &letter.body,
            thread: None,
        };
        let id = messages::insert(&mut on, &new).await?;
        on.commit().await?;
        Ok(id.into())
    }
}

/// Nobody makes an account with a password for people who sign in in another way only: they could not come in with it,
/// and whoever made it would have taken their address.
async fn not_exclusive(on: &mut Reader, address: &str) -> Result<(), Error> {
    let address: EmailAddress = address
        .parse()
        .map_err(|error| Error::argument("args[0].email", error))?;
    match exclusive::of(on, &address).await? {
        Some(only) => Err(Refused::Exclusive(only.display).into()),
        None => Ok(()),
    }
}

impl From<Taken> for Error {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Taken(Unique::EmailAddress) => Self::new(
                Code::Conflict,
                "there is an account with this email address already",
            ),
            Taken::Taken(Unique::Name) => {
                Self::new(Code::Conflict, "there is an account with this name already")
            }
            Taken::Store(error) => error.into(),
        }
    }
}

fn name<'a>(place: &str, text: &'a str) -> Result<&'a str, Error> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > NAME_LEN_MAX {
        return Err(Error::argument(
            place,
            format_args!("must have 1 to {NAME_LEN_MAX} characters"),
        ));
    }
    Ok(text)
}

/// The organization, if the caller may look after it. Others are not told whether there is one.
async fn managed(
    on: &mut Reader,
    found: Option<Organization>,
    name: &str,
    by: AccountId,
) -> Result<Managed, Error> {
    let own = accounts::by_id(on, by).await?;
    let by_site = own.is_some_and(|own| own.is_usable() && own.is_admin());
    let Some(organization) = found else {
        return Err(if by_site {
            Error::new(Code::NotFound, format!("there is no organization {name}"))
        } else {
            not_admin(name)
        });
    };
    let is_admin = organizations::of_account(on, by)
        .await?
        .is_some_and(|(own, is_admin)| own.id == organization.id && is_admin);
    if !(by_site || is_admin) {
        return Err(not_admin(name));
    }
    Ok(Managed {
        organization,
        by_site,
    })
}

fn not_admin(name: &str) -> Error {
    Error::denied(format!("must be an admin of the organization {name}"))
}

/// The same, of which nobody else changes the members until the transaction ends.
async fn managed_locked(on: &mut Transaction, name: &str, by: AccountId) -> Result<Managed, Error> {
    let found = organizations::locked(on, name).await?;
    managed(on, found, name, by).await
}

/// The same, but an error with this code is told as another one, which says less.
fn told_as<T>(
    code: Code,
    instead: impl FnOnce() -> Error,
    done: Result<T, Error>,
) -> Result<T, Error> {
    done.map_err(|error| if error.code == code { instead() } else { error })
}

/// The account that is meant, by its number or its address.
async fn meant(on: &mut Reader, user: &str) -> Result<Account, Error> {
    let found = match user.parse::<AccountId>() {
        Ok(id) => accounts::by_id(on, id).await?,
        Err(_) => accounts::by_email_address(on, &user.to_lowercase()).await?,
    };
    found
        .filter(|account| !account.deleted)
        .ok_or_else(|| Error::new(Code::NotFound, "there is no such account"))
}

/// A member of the organization on whom the caller may act, and whether they look after the others.
async fn member(on: &mut Reader, managed: &Managed, user: &str) -> Result<(Account, bool), Error> {
    let not_member = || {
        let name = &managed.organization.name;
        Error::new(
            Code::NotFound,
            format!("the account is not in the organization {name}"),
        )
    };
    // Whether there is such an account elsewhere is not for those who look after this organization.
    let account = told_as(Code::NotFound, not_member, meant(on, user).await)?;
    let own = organizations::of_account(on, account.id).await?;
    let own = own.filter(|(own, _)| own.id == managed.organization.id);
    let (_, is_admin) = own.ok_or_else(not_member)?;
    if account.is_admin() && !managed.by_site {
        return Err(Error::denied(
            "the account is an administrator of the site, on whom only others of them act",
        ));
    }
    Ok((account, is_admin))
}

/// The account that is meant, if the caller looks after the organization that it is in.
async fn members_organization(
    on: &mut Transaction,
    user: &str,
    by: AccountId,
) -> Result<AccountId, Error> {
    let refused = || Error::denied("must be an admin of the organization of the account");
    let account = told_as(Code::NotFound, refused, meant(on, user).await)?;
    let own = organizations::of_account(on, account.id).await?;
    let (organization, _) = own.ok_or_else(refused)?;
    // Both are looked at again when nobody changes them.
    let managed = managed_locked(on, &organization.name, by).await;
    let managed = told_as(Code::PermissionDenied, refused, managed)?;
    let (account, _) = member(on, &managed, user).await?;
    if account.banned {
        return Err(Error::new(
            Code::FailedPrecondition,
            "the account is banned",
        ));
    }
    Ok(account.id)
}
