//! `projects`: making them, and who is in them. Running them is the work of project control.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use crate::id::{AccountId, ProjectId};
use crate::members::{Change, Effect, InviteRefused, Refused, Situation};
use crate::settings::Live;
use crate::store::projects::{self, Group};
use crate::store::{Store, Transaction, accounts, invites, project_log};

/// What a project is called by default.
const TITLE: &str = "No Title";

/// What the functions need.
#[derive(Debug, Clone)]
pub struct Projects {
    store: Store,
    settings: Arc<Live>,
}

#[derive(Deserialize, Default)]
struct Create {
    title: Option<String>,
    description: Option<String>,
    image: Option<String>,
    project_id: Option<ProjectId>,
    #[serde(default)]
    start: bool,
    ephemeral: Option<i64>,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Opts<T> {
    opts: T,
}

#[derive(Deserialize)]
struct Remove {
    account_id: AccountId,
    project_id: ProjectId,
}

#[derive(Deserialize)]
struct Make {
    target_account_id: AccountId,
    project_id: ProjectId,
    new_group: String,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "clients name them")]
struct Add {
    account_id: OneOrMany<AccountId>,
    project_id: Option<OneOrMany<ProjectId>>,
    token_id: Option<OneOrMany<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Requester | Refused::NotOwner => Code::PermissionDenied,
            Refused::Target => Code::NotFound,
            Refused::Owner | Refused::LastOwner => Code::FailedPrecondition,
        };
        Self::new(code, refused.to_string()).reason(refused.reason())
    }
}

impl From<InviteRefused> for Error {
    fn from(refused: InviteRefused) -> Self {
        Self::denied(refused.to_string())
    }
}

impl Projects {
    /// On this store, as the settings of the site have it.
    pub fn new(store: Store, settings: Arc<Live>) -> Self {
        Self { store, settings }
    }

    /// The handlers with those of this file.
    pub fn install(self, handlers: Handlers) -> Handlers {
        let (create, add, remove, make) = (self.clone(), self.clone(), self.clone(), self);
        handlers
            .with("projects.createProject", move |call| {
                let projects = create.clone();
                async move { projects.create(call).await }
            })
            .with("projects.addCollaborator", move |call| {
                let projects = add.clone();
                async move { projects.add(call).await }
            })
            .with("projects.removeCollaborator", move |call| {
                let projects = remove.clone();
                async move { projects.remove(call).await }
            })
            .with("projects.changeUserType", move |call| {
                let projects = make.clone();
                async move { projects.make(call).await }
            })
    }

    async fn create(&self, mut call: Call) -> Result<Json, Error> {
        let owner = caller(&call)?;
        let create: Create = call.argument::<Option<Create>>(0)?.unwrap_or_default();
        let missing = [
            (create.start, "start"),
            (create.ephemeral.is_some(), "ephemeral"),
            (
                create.license.is_some_and(|license| !license.is_empty()),
                "license",
            ),
        ];
        if let Some((_, name)) = missing.iter().find(|(wanted, _)| *wanted) {
            let text = format!("createProject with {name} is not configured on this site");
            return Err(Error::new(Code::NotConfigured, text));
        }
        if self.settings.get().is_on("disable_project_creation") {
            return Err(Error::denied("projects cannot be made on this site"));
        }
        let new = projects::New {
            id: create.project_id.unwrap_or_else(ProjectId::random),
            title: create.title.unwrap_or_else(|| TITLE.to_owned()),
            description: create.description.unwrap_or_default(),
            compute_image: create.image,
            owner: Some(owner),
        };
        let mut on = self.store.write().await?;
        projects::insert(&mut on, &new).await?;
        on.commit().await?;
        Ok(json!(new.id))
    }

    async fn remove(&self, mut call: Call) -> Result<Json, Error> {
        let caller = caller(&call)?;
        let Opts::<Remove> { opts } = call.argument(0)?;
        let mut on = self.store.write().await?;
        let change = Change::Remove(opts.account_id);
        let effect = self
            .decide(&mut on, caller, opts.project_id, change)
            .await?;
        if let Effect::Delete(target) = effect {
            projects::delete_member(&mut on, opts.project_id, target).await?;
            let event = json!({"event": "remove_collaborator", "removed_account_id": target});
            project_log::insert(&mut on, opts.project_id, caller, event).await?;
        }
        on.commit().await?;
        Ok(Json::Null)
    }

    async fn make(&self, mut call: Call) -> Result<Json, Error> {
        let caller = caller(&call)?;
        let Opts::<Make> { opts } = call.argument(0)?;
        let group = Group::from_name(&opts.new_group).ok_or_else(|| {
            Error::argument("args[0].opts.new_group", "must be owner or collaborator")
        })?;
        let mut on = self.store.write().await?;
        let change = Change::Make(opts.target_account_id, group);
        let effect = self
            .decide(&mut on, caller, opts.project_id, change)
            .await?;
        if let Effect::Put(target, group) = effect {
            projects::put_member(&mut on, opts.project_id, target, group).await?;
            let event = json!({
                "event": "change_collaborator_type",
                "target_account_id": target,
                "new_group": group.name(),
            });
            project_log::insert(&mut on, opts.project_id, caller, event).await?;
        }
        on.commit().await?;
        Ok(Json::Null)
    }

    /// Each element is decided by itself, and either all of them happen or none.
    async fn add(&self, mut call: Call) -> Result<Json, Error> {
        let caller = caller(&call)?;
        let Opts::<Add> { opts } = call.argument(0)?;
        let targets = opts.account_id.into_vec();
        let mut on = self.store.write().await?;
        let added = match (opts.token_id, opts.project_id) {
            (Some(tokens), _) => {
                let tokens = tokens.into_vec();
                same_length(targets.len(), tokens.len(), "token_id")?;
                let mut added = Vec::with_capacity(tokens.len());
                for (target, token) in targets.into_iter().zip(tokens) {
                    added.push(add_by_token(&mut on, caller, target, &token).await?);
                }
                added
            }
            (None, Some(projects)) => {
                let projects = projects.into_vec();
                same_length(targets.len(), projects.len(), "project_id")?;
                let mut pairs: Vec<(ProjectId, AccountId)> =
                    projects.iter().copied().zip(targets).collect();
                // All take the rows of projects in this order, so that none waits for another in a circle.
                pairs.sort_unstable();
                for (project, target) in pairs {
                    let effect = self
                        .decide(&mut on, caller, project, Change::Add(target))
                        .await?;
                    put(&mut on, caller, project, effect).await?;
                }
                projects
            }
            (None, None) => {
                return Err(Error::argument(
                    "args[0].opts",
                    "project_id or token_id is required",
                ));
            }
        };
        on.commit().await?;
        Ok(match added.as_slice() {
            [one] => json!({"project_id": one}),
            several => json!({"project_id": several}),
        })
    }

    /// Decides about a change of a project that nobody else changes until the transaction ends.
    async fn decide(
        &self,
        on: &mut Transaction,
        caller: AccountId,
        id: ProjectId,
        change: Change,
    ) -> Result<Effect, Error> {
        let members = projects::members_locked(on, id).await?;
        let members: Vec<(AccountId, Group)> = members
            .into_iter()
            .map(|member| (member.account_id, member.group))
            .collect();
        let project = projects::by_id(on, id).await?;
        let owners_manage = project.is_some_and(|project| project.manage_users_owner_only)
            || self.settings.get().is_on("strict_collaborator_management");
        let situation = Situation {
            caller,
            members: &members,
            owners_manage,
        };
        Ok(situation.decide(change)?)
    }
}

fn same_length(accounts: usize, others: usize, name: &str) -> Result<(), Error> {
    if accounts == others {
        return Ok(());
    }
    let text = format!("account_id and {name} must have the same length ({accounts} and {others})");
    Err(Error::argument("args[0].opts", text))
}

/// Lets somebody in whom a token lets in. It is counted only when it is used, and its bearer may only use it for
/// itself: a token is no right to add others.
async fn add_by_token(
    on: &mut Transaction,
    caller: AccountId,
    target: AccountId,
    token: &str,
) -> Result<ProjectId, Error> {
    if target != caller {
        return Err(Error::denied(
            "a project invite token adds its bearer alone",
        ));
    }
    let found = invites::locked(on, token).await?;
    let (project, invite, now) = found.ok_or(InviteRefused::Wrong)?;
    let members = projects::members_locked(on, project).await?;
    if members.iter().any(|member| member.account_id == target) {
        return Ok(project);
    }
    invite.check(now)?;
    invites::used(on, token).await?;
    put(
        on,
        caller,
        project,
        Effect::Put(target, Group::Collaborator),
    )
    .await?;
    Ok(project)
}

async fn put(
    on: &mut Transaction,
    caller: AccountId,
    project: ProjectId,
    effect: Effect,
) -> Result<(), Error> {
    let Effect::Put(target, group) = effect else {
        return Ok(());
    };
    let known = accounts::by_id(on, target).await?;
    if known.is_none_or(|account| account.deleted) {
        return Err(Error::new(
            Code::NotFound,
            format!("there is no account {target}"),
        ));
    }
    projects::put_member(on, project, target, group).await?;
    let event = json!({"event": "invite_user", "invite_account_id": target});
    project_log::insert(on, project, caller, event).await?;
    Ok(())
}
