//! What happens when somebody has an account with an address: those who were invited by letter are let in.
//!
//! It happens when the address is known to be theirs, which a letter shows; where the site sends no letters, when the
//! account is made. What is on its way is in the store, so that it happens once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::email::EmailAddress;
use crate::id::{AccountId, ProjectId};
use crate::store::projects::{self, Group};
use crate::store::{Error, Transaction, creation_actions, project_log};

/// How long an invitation is good, as in the original.
pub const INVITATION_TTL: Duration = Duration::from_hours(14 * 24);

/// Something that happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
enum Action {
    /// The account is let into a project.
    AddToProject {
        project_id: ProjectId,
        invited_by: AccountId,
    },
}

/// Lets whoever makes an account with this address into a project. `false` if too many invitations wait for it.
///
/// # Errors
/// When the database does not answer.
pub async fn invite(
    on: &mut Transaction,
    address: &EmailAddress,
    project_id: ProjectId,
    invited_by: AccountId,
) -> Result<bool, Error> {
    let action = json!(Action::AddToProject {
        project_id,
        invited_by
    });
    creation_actions::insert(on, address.as_str(), &action, INVITATION_TTL).await
}

/// Does what waits for an account with this address. What is about a project that is gone, or from somebody who is not
/// in it any more, does not happen.
///
/// # Errors
/// When the database does not answer.
pub async fn run(
    on: &mut Transaction,
    account: AccountId,
    address: &EmailAddress,
) -> Result<(), Error> {
    let mut projects = Vec::new();
    for action in creation_actions::take(on, address.as_str()).await? {
        match serde_json::from_value(action) {
            Ok(Action::AddToProject {
                project_id,
                invited_by,
            }) => projects.push((project_id, invited_by)),
            // Of another version; whoever sent it can do so again.
            Err(error) => tracing::warn!(%error, "what waits for an account is not understood"),
        }
    }
    // All take the rows of projects in this order.
    projects.sort_unstable();
    for (project, by) in projects {
        let members = projects::members_locked(on, project).await?;
        let exists = projects::by_id(on, project)
            .await?
            .is_some_and(|project| !project.deleted);
        let is_member = |id| members.iter().any(|member| member.account_id == id);
        if exists && is_member(by) && !is_member(account) {
            projects::put_member(on, project, account, Group::Collaborator).await?;
            let event = json!({"event": "invite_user", "invite_account_id": account});
            project_log::insert(on, project, by, event).await?;
        }
    }
    Ok(())
}
