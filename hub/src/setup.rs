//! What a new site begins with: its first administrator, and a token with which others sign up. Both are made if they are
//! not there, whichever of several hubs comes first, and never changed.

use serde_json::json;

use crate::accounts;
use crate::auth::password::{self, Hasher};
use crate::auth::strength::{self, Weak};
use crate::email::{EmailAddress, InvalidEmailAddress};
use crate::store::accounts::{ADMIN, New};
use crate::store::tokens::{self, Registration};
use crate::store::{self, Store, accounts as stored};

/// Longest token, in bytes.
const TOKEN_LEN_MAX: usize = 256;

/// The first administrator.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address, as written.
    pub email_address: String,
    /// The password.
    pub password: String,
    /// First and last name.
    pub name: Option<String>,
}

/// Without the password.
impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("email_address", &self.email_address)
            .finish_non_exhaustive()
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Made {
    /// The administrator.
    pub admin: bool,
    /// The token.
    pub token: bool,
}

/// Why a site cannot begin with that.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("the first administrator: {0}")]
    EmailAddress(#[from] InvalidEmailAddress),
    /// The password is too easily guessed.
    #[error("the password of the first administrator: {0}")]
    Weak(#[from] Weak),
    /// The token cannot be one.
    #[error(
        "the token with which people sign up must have 1 to {TOKEN_LEN_MAX} bytes without blanks"
    )]
    Token,
    /// The password was not hashed.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Makes what is not there.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    store: &Store,
    hasher: &Hasher,
    admin: Option<&Admin>,
    token: Option<&str>,
) -> Result<Made, Error> {
    let mut made = Made::default();
    if let Some(token) = token {
        made.token = make_token(store, token).await?;
    }
    if let Some(admin) = admin {
        made.admin = make_admin(store, hasher, admin).await?;
    }
    Ok(made)
}

async fn make_token(store: &Store, token: &str) -> Result<bool, Error> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if token.is_empty() || token.len() > TOKEN_LEN_MAX || token.contains(odd) {
        return Err(Error::Token);
    }
    let mut on = store.write().await?;
    if tokens::registration_locked(&mut on, token).await?.is_some() {
        return Ok(false);
    }
    let new = Registration {
        token: token.to_owned(),
        descr: "made when the site was set up".to_owned(),
        counter: 0,
        limit: None,
        expires: None,
        disabled: false,
        ephemeral: None,
        customize: json!({}),
    };
    tokens::put_registration(&mut on, &new).await?;
    on.commit().await?;
    Ok(true)
}

async fn make_admin(store: &Store, hasher: &Hasher, admin: &Admin) -> Result<bool, Error> {
    let address: EmailAddress = admin.email_address.parse()?;
    let found = {
        let mut on = store.read().await?;
        stored::by_email_address(&mut on, address.as_str()).await?
    };
    if found.is_some() {
        return Ok(false);
    }
    let name = admin.name.as_deref().unwrap_or("Site Administrator").trim();
    let (first, last) = name.rsplit_once(' ').unwrap_or((name, ""));
    strength::check(&admin.password, &[address.as_str(), first, last])?;
    let new = New {
        email_address: Some(address.into()),
        password_hash: Some(hasher.hash(&admin.password).await?),
        groups: vec![ADMIN.to_owned()],
        ..New::named(first, last)
    };
    match accounts::create(store, &new).await {
        Ok(()) => Ok(true),
        // Another hub was quicker.
        Err(
            accounts::Error::EmailAddressTaken
            | accounts::Error::NameTaken
            | accounts::Error::Unknown,
        ) => Ok(false),
        Err(accounts::Error::Store(error)) => Err(error.into()),
    }
}
