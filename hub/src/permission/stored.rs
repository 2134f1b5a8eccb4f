//! Facts from the store, and forgetting them when the store tells that they changed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use super::facts::{Fact, Facts, LookupError};
use crate::caller::Caller;
use crate::feed::{Follower, News};
use crate::identity::HUB_PASSWORD;
use crate::store::outbox::{Change, Op, Table};
use crate::store::projects::Group;
use crate::store::{Error, Reader, Store, accounts, projects};

/// How long it waits to ask again when the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Columns of an account that decide what it may do, and whether it is let in.
const DECISIVE: &[&str] = &["groups", "banned", "deleted", "session_epoch"];

impl Facts for Store {
    fn look_up(&self, fact: Fact) -> BoxFuture<'_, Result<bool, LookupError>> {
        async move {
            let looked = async { holds(&mut self.read().await?, fact).await };
            looked
                .await
                .map_err(|error: Error| LookupError(error.to_string()))
        }
        .boxed()
    }
}

async fn holds(on: &mut Reader, fact: Fact) -> Result<bool, Error> {
    let account = accounts::by_id(on, fact.account()).await?;
    let Some(account) = account.filter(|account| !account.banned && !account.deleted) else {
        return Ok(false);
    };
    Ok(match fact {
        Fact::Admin(_) => account.is_admin(),
        Fact::Member(_, project) => projects::membership(on, project, account.id)
            .await?
            .is_some(),
        Fact::Owner(_, project) => {
            projects::membership(on, project, account.id).await? == Some(Group::Owner)
        }
    })
}

/// Whose permissions changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affected {
    /// One's.
    One(Caller),
    /// Possibly everybody's: changes were missed.
    All,
}

/// Follows the changes until it is told to stop: what changed is forgotten first, and then `told` hears whose it is, so
/// that who asks because of that gets the new answer. For the broker: `permissions_changed`.
pub async fn follow<F: Facts>(
    authority: Arc<Authority<F>>,
    mut follower: Follower,
    told: impl Fn(Affected) + Send,
    stop: CancellationToken,
) {
    loop {
        let news = tokio::select! {
            news = follower.next() => news,
            () = stop.cancelled() => return,
        };
        match news {
            Ok(News::Changes(entries)) => {
                for entry in &entries {
                    if let Some(caller) = affected(&entry.change) {
                        authority.forget_caller(caller);
                        told(Affected::One(caller));
                    }
                }
            }
            Ok(News::Gap) => {
                authority.forget_all();
                told(Affected::All);
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot follow changes of permissions"
                );
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

/// Whose permissions or connections a change decides about.
pub(crate) fn affected(change: &Change) -> Option<Caller> {
    let decisive = |columns: &[&str]| {
        change.op == Op::Delete
            || change
                .fields
                .iter()
                .any(|field| columns.contains(&field.as_str()))
    };
    let account = change.account_id.map(Caller::Account);
    let project = change.project_id.map(Caller::Project);
    match change.table {
        Table::Accounts => account.filter(|_| decisive(DECISIVE)),
        Table::ProjectMembers => account,
        Table::RememberMe => account.filter(|_| change.op == Op::Delete),
        Table::ApiKeys => project.or(account).filter(|_| change.op != Op::Insert),
        Table::Projects => project.filter(|_| decisive(&["secret_token", "deleted"])),
        Table::ServerSettings => (change.key["name"] == HUB_PASSWORD).then_some(Caller::Hub),
        Table::RegistrationTokens
        | Table::Organizations
        | Table::OrganizationMembers
        | Table::Messages
        | Table::MessageRecipients
        | Table::ProjectLog
        | Table::FileUse
        | Table::Mentions
        | Table::Listings
        | Table::PublicPaths
        | Table::ProjectJoinRequests
        | Table::News
        | Table::SystemNotifications => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::{AccountId, ProjectId};

    #[test]
    fn what_ends_a_right_affects_its_holder() {
        let (account, project) = (AccountId::random(), ProjectId::random());
        let key = json!({});
        let (by_account, by_project) = (
            Some(Caller::Account(account)),
            Some(Caller::Project(project)),
        );
        for (change, expected) in [
            (
                Change::update(Table::Accounts, key.clone(), &["banned"]),
                by_account,
            ),
            (
                Change::update(Table::Accounts, key.clone(), &["groups"]),
                by_account,
            ),
            (
                Change::update(Table::Accounts, key.clone(), &["session_epoch"]),
                by_account,
            ),
            (
                Change::update(Table::Accounts, key.clone(), &["first_name"]),
                None,
            ),
            (Change::delete(Table::Accounts, key.clone()), by_account),
            (Change::delete(Table::RememberMe, key.clone()), by_account),
            (Change::insert(Table::RememberMe, key.clone()), None),
            (
                Change::update(
                    Table::ServerSettings,
                    json!({"name": "conat_password"}),
                    &["value"],
                ),
                Some(Caller::Hub),
            ),
            (
                Change::update(Table::ServerSettings, json!({"name": "dns"}), &["value"]),
                None,
            ),
        ] {
            assert_eq!(
                affected(&change.clone().account(account)),
                expected,
                "{change:?}"
            );
        }
        for (change, expected) in [
            (
                Change::update(Table::ProjectMembers, key.clone(), &["grp"]),
                by_account,
            ),
            (
                Change::delete(Table::ProjectMembers, key.clone()),
                by_account,
            ),
            (Change::delete(Table::ApiKeys, key.clone()), by_project),
            (
                Change::update(Table::Projects, key.clone(), &["secret_token"]),
                by_project,
            ),
            (Change::update(Table::Projects, key, &["title"]), None),
        ] {
            let change = change.account(account).project(project);
            assert_eq!(affected(&change), expected, "{change:?}");
        }
    }
}
