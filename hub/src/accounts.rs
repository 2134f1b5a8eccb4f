//! What is done with accounts as a whole, so that nothing of it is forgotten: a ban, a new password or the end of an
//! account ends everything that was let in as it, in the same transaction.
//!
//! Who asks, and whether they may, is for the callers of these functions.

use crate::email::EmailAddress;
use crate::id::AccountId;
use crate::store::accounts::{self, Account, Taken, Unique, Update};
use crate::store::{self, Store, Transaction, api_keys, passports, remember_me, tokens};

/// Why something was not done with an account.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such account, or no longer.
    #[error("there is no such account")]
    Unknown,
    /// Somebody else has the address.
    #[error("there is an account with this email address already")]
    EmailAddressTaken,
    /// Somebody else has the name.
    #[error("there is an account with this name already")]
    NameTaken,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<Taken> for Error {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Taken(Unique::EmailAddress) => Self::EmailAddressTaken,
            Taken::Taken(Unique::Name) => Self::NameTaken,
            Taken::Store(error) => Self::Store(error),
        }
    }
}

/// Makes an account.
///
/// # Errors
/// [`Error::EmailAddressTaken`].
pub async fn create(store: &Store, new: &accounts::New) -> Result<(), Error> {
    let mut on = store.write().await?;
    accounts::insert(&mut on, new).await?;
    Ok(on.commit().await?)
}

/// The account that somebody means: by its number, its address, or its name.
///
/// # Errors
/// [`Error::Unknown`].
pub async fn find(store: &Store, who: &str) -> Result<Account, Error> {
    let mut on = store.read().await?;
    let found = if let Ok(id) = who.parse::<AccountId>() {
        accounts::by_id(&mut on, id).await?
    } else if let Ok(address) = who.parse::<EmailAddress>() {
        accounts::by_email_address(&mut on, address.as_str()).await?
    } else {
        accounts::by_name(&mut on, who).await?
    };
    found.ok_or(Error::Unknown)
}

/// Locks an account out, or lets it in again. A ban ends its sessions and everything that was let in as it, and takes
/// back what was given out to sign in; keys of programs stay, and do not count as long as it lasts.
///
/// # Errors
/// [`Error::Unknown`].
pub async fn ban(store: &Store, id: AccountId, banned: bool) -> Result<(), Error> {
    let mut on = store.write().await?;
    let update = Update {
        banned: Some(banned),
        ..Update::default()
    };
    changed(accounts::update(&mut on, id, update).await?)?;
    if banned {
        end_everything(&mut on, id, None).await?;
    }
    Ok(on.commit().await?)
}

/// Sets the hash of a new password. Whoever came in with the old one is thrown out, but for the session that is
/// spared: that of the one who asked.
///
/// # Errors
/// [`Error::Unknown`].
pub async fn set_password(
    store: &Store,
    id: AccountId,
    hash: &str,
    spared: Option<&str>,
) -> Result<(), Error> {
    let mut on = store.write().await?;
    set_password_in(&mut on, id, hash, spared).await?;
    Ok(on.commit().await?)
}

/// The same, in a transaction that does more.
///
/// # Errors
/// [`Error::Unknown`].
pub async fn set_password_in(
    on: &mut Transaction,
    id: AccountId,
    hash: &str,
    spared: Option<&str>,
) -> Result<(), Error> {
    let update = Update {
        password_hash: Some(Some(hash.to_owned())),
        ..Update::default()
    };
    changed(accounts::update(on, id, update).await?)?;
    end_everything(on, id, spared).await
}

/// Ends all sessions of an account and everything that was let in as it, but for the session that is spared.
///
/// # Errors
/// [`Error::Unknown`].
pub async fn sign_out(store: &Store, id: AccountId, spared: Option<&str>) -> Result<(), Error> {
    let mut on = store.write().await?;
    changed(accounts::locked(&mut on, id).await?.is_some())?;
    end_everything(&mut on, id, spared).await?;
    Ok(on.commit().await?)
}

/// Ends an account: its address is free, its sessions and keys are gone. Its projects stay, for those who are in them.
///
/// # Errors
/// [`Error::Unknown`], also if it was ended before.
pub async fn delete(store: &Store, id: AccountId) -> Result<(), Error> {
    let mut on = store.write().await?;
    changed(accounts::give_up(&mut on, id).await?)?;
    api_keys::delete_all(&mut on, id).await?;
    passports::delete_all(&mut on, id).await?;
    end_everything(&mut on, id, None).await?;
    Ok(on.commit().await?)
}

/// Makes somebody an administrator of the site, or takes that away, which throws out whatever was let in as one.
///
/// # Errors
/// [`Error::Unknown`].
pub async fn set_admin(store: &Store, id: AccountId, admin: bool) -> Result<(), Error> {
    let mut on = store.write().await?;
    let account = accounts::locked(&mut on, id).await?;
    let mut groups = account.ok_or(Error::Unknown)?.groups;
    groups.retain(|group| group != accounts::ADMIN);
    if admin {
        groups.push(accounts::ADMIN.to_owned());
    }
    let update = Update {
        groups: Some(groups),
        ..Update::default()
    };
    changed(accounts::update(&mut on, id, update).await?)?;
    if !admin {
        accounts::throw_out(&mut on, id).await?;
    }
    Ok(on.commit().await?)
}

/// Sessions, tokens to sign in, letters to set a password: all of it, and the epoch that tells everybody.
async fn end_everything(
    on: &mut Transaction,
    id: AccountId,
    spared: Option<&str>,
) -> Result<(), Error> {
    remember_me::delete_all(on, id, spared).await?;
    tokens::delete_sign_ins(on, id).await?;
    tokens::forget_resets(on, id).await?;
    Ok(accounts::throw_out(on, id).await?)
}

fn changed(done: bool) -> Result<(), Error> {
    if done { Ok(()) } else { Err(Error::Unknown) }
}
