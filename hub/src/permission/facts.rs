//! What must be known beside a subject to decide about it, and whom to ask.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::id::{AccountId, ProjectId};

/// A question about an account whose answer is yes or no, and can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fact {
    /// The account is an administrator of the site.
    Admin(AccountId),
    /// The account is an owner or collaborator of the project.
    Member(AccountId, ProjectId),
    /// The account is an owner of the project.
    Owner(AccountId, ProjectId),
}

impl Fact {
    /// Whom it is about.
    pub fn account(self) -> AccountId {
        match self {
            Self::Admin(account) | Self::Member(account, _) | Self::Owner(account, _) => account,
        }
    }
}

/// A fact that could not be looked up. Nothing is allowed because of that, and nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot look up a permission: {0}")]
pub struct LookupError(pub String);

/// Where facts come from: the store, or a hub that is asked over the broker.
///
/// A banned or deleted account is neither an administrator nor a member of anything.
pub trait Facts: Send + Sync + 'static {
    /// Whether it is so by now.
    fn look_up(&self, fact: Fact) -> BoxFuture<'_, Result<bool, LookupError>>;
}
