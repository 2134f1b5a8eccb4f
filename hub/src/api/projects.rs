//! `projects`: making them, and who is in them. Running them is the work of project control.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use crate::control::Control;
use crate::id::{AccountId, ProjectId};
use crate::members::{Change, Effect, InviteRefused, Refused, Situation};
use crate::settings::Live;
use crate::store::projects::{self, Group};
use crate::store::{Reader, Store, Transaction, accounts, invites, licences, pool, project_log};

/// What a project is called by default.
const TITLE: &str = "No Title";

/// Most licences of a new project.
const LICENCES_MAX: usize = 16;

/// What the functions need.
#[derive(Debug, Clone)]
pub struct Projects {
    store: Store,
    settings: Arc<Live>,
    control: Option<Arc<dyn Control>>,
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
    public_path_id: Option<String>,
    #[serde(rename = "noPool", default)]
    no_pool: bool,
    #[serde(default)]
    customize: Customize,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Customize {
    #[serde(default)]
    disable_internet: bool,
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
        Self {
            store,
            settings,
            control: None,
        }
    }

    /// With what starts new projects.
    #[must_use]
    pub fn control(mut self, control: Arc<dyn Control>) -> Self {
        self.control = Some(control);
        self
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
        if self.settings.get().is_on("disable_project_creation") {
            return Err(Error::denied("projects cannot be made on this site"));
        }
        if create.start && self.control.is_none() {
            let text = "starting a new project is not configured on this site";
            return Err(Error::new(Code::NotConfigured, text));
        }
        let mut on = self.store.write().await?;
        let start = create.start;
        let id = match self.take_pooled(&mut on, &create, owner).await? {
            Some(id) => id,
            None => insert(&mut on, create, owner).await?,
        };
        on.commit().await?;
        if let Some(control) = self.control.as_ref().filter(|_| start) {
            // Ordered, and not waited for: the caller has the project already.
            if let Err(error) = control.touch(id, Some(owner), true).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, project_id = %id, "a new project was not started");
            }
        }
        Ok(json!(id))
    }

    /// One that was made before anybody wanted it, and may run already, if that is as good as a new one.
    async fn take_pooled(
        &self,
        on: &mut Transaction,
        create: &Create,
        owner: AccountId,
    ) -> Result<Option<ProjectId>, Error> {
        let has_pool = self.settings.get().number("new_project_pool") > 0;
        if !has_pool || !create.is_plain() {
            return Ok(None);
        }
        let title = create.title.as_deref().unwrap_or(TITLE);
        let description = create.description.as_deref().unwrap_or_default();
        Ok(pool::take(on, owner, title, description, pool::AGE_MAX).await?)
    }

    async fn remove(&self, mut call: Call) -> Result<Json, Error> {
        let caller = caller(&call)?;
        let Opts::<Remove> { opts } = call.argument(0)?;
        let mut on = self.store.write().await?;
        let change = Change::Remove(opts.account_id);
        let effect = decide(&mut on, &self.settings, caller, opts.project_id, change).await?;
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
        let effect = decide(&mut on, &self.settings, caller, opts.project_id, change).await?;
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
                    let effect = self.decide_to_add(&mut on, caller, project, target).await?;
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

    /// Whoever adds himself to a project that is open to him needs nobody who is in it.
    async fn decide_to_add(
        &self,
        on: &mut Transaction,
        caller: AccountId,
        id: ProjectId,
        target: AccountId,
    ) -> Result<Effect, Error> {
        let decided = decide(on, &self.settings, caller, id, Change::Add(target)).await;
        let is_stranger = decided
            .as_ref()
            .is_err_and(|error| error.reason == Some(Refused::Requester.reason()));
        if target == caller && is_stranger && self.is_open(on, id, caller).await? {
            return Ok(Effect::Put(target, Group::Collaborator));
        }
        decided
    }

    async fn is_open(
        &self,
        on: &mut Reader,
        id: ProjectId,
        caller: AccountId,
    ) -> Result<bool, Error> {
        let open = invites::open(on, id).await?;
        if open.sandbox && self.settings.get().is_on("sandbox_projects_enabled") {
            return Ok(true);
        }
        Ok(match open.course {
            Some(course) => projects::membership(on, course, caller).await?.is_some(),
            None => false,
        })
    }
}

/// Decides about a change of a project that nobody else changes until the transaction ends.
pub(super) async fn decide(
    on: &mut Transaction,
    settings: &Live,
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
        || settings.get().is_on("strict_collaborator_management");
    let situation = Situation {
        caller,
        members: &members,
        owners_manage,
    };
    Ok(situation.decide(change)?)
}

impl Create {
    /// Whether nothing is asked for in which a project of the pool may be different.
    fn is_plain(&self) -> bool {
        !self.no_pool
            && self.image.is_none()
            && self.project_id.is_none()
            && self.ephemeral.is_none()
            && self.license.is_none()
            && self.public_path_id.is_none()
            && self.customize.license.is_none()
            && !self.customize.disable_internet
    }
}

/// A project that is made now.
async fn insert(
    on: &mut Transaction,
    create: Create,
    owner: AccountId,
) -> Result<ProjectId, Error> {
    let options = options(on, &create).await?;
    let new = projects::New {
        id: create.project_id.unwrap_or_else(ProjectId::random),
        title: create.title.unwrap_or_else(|| TITLE.to_owned()),
        description: create.description.unwrap_or_default(),
        compute_image: create.image,
        owner: Some(owner),
    };
    projects::insert(on, &new).await?;
    projects::put_options(on, new.id, options).await?;
    Ok(new.id)
}

/// What a new project is made with: licences are those that are named, and that of what it is made from.
async fn options(on: &mut Reader, create: &Create) -> Result<projects::Options, Error> {
    let named = [&create.license, &create.customize.license];
    let mut ids: Vec<Uuid> = named
        .into_iter()
        .flatten()
        .flat_map(|list| list.split(','))
        .filter_map(|id| id.trim().parse().ok())
        .collect();
    if let Some(path) = &create.public_path_id {
        ids.extend(licences::of_public_path(on, path).await?);
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > LICENCES_MAX {
        let text = format!("has more than {LICENCES_MAX} licences ({})", ids.len());
        return Err(Error::argument("args[0].license", text));
    }
    let valid = licences::valid(on, ids.clone()).await?;
    if let Some(unknown) = ids.iter().find(|id| !valid.contains(id)) {
        let text = format!("there is no licence {unknown} that is not over");
        return Err(Error::new(Code::NotFound, text));
    }
    let used: Map<String, Json> = ids.iter().map(|id| (id.to_string(), json!({}))).collect();
    let settings = if create.customize.disable_internet {
        json!({"disableInternet": true})
    } else {
        json!({})
    };
    Ok(projects::Options {
        ephemeral: create.ephemeral,
        settings,
        site_license: (!used.is_empty()).then_some(Json::Object(used)),
    })
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

pub(super) async fn put(
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
    invites::delete_request(on, project, target).await?;
    let event = json!({"event": "invite_user", "invite_account_id": target});
    project_log::insert(on, project, caller, event).await?;
    Ok(())
}
