//! Projects, and who is in them.

use serde_json::{Value as Json, json};

use super::assign::Assign;
use super::error::Error;
use super::outbox::{Change, Table};
use super::row::Row;
use super::sql::{Sql, Statement};
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::time::Time;

/// What somebody is in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// May do everything, also decide who else is in it.
    Owner,
    /// Works in it.
    Collaborator,
}

impl Group {
    /// Its name in the database and for clients.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Collaborator => "collaborator",
        }
    }

    /// The group with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "owner" => Some(Self::Owner),
            "collaborator" => Some(Self::Collaborator),
            _ => None,
        }
    }
}

/// A project, without what belongs to how it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Its number.
    pub id: ProjectId,
    /// What it is called.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// Its name in addresses of pages.
    pub name: Option<String>,
    /// When it was made.
    pub created: Time,
    /// When something in it was last changed.
    pub last_edited: Option<Time>,
    /// Whether it was given up.
    pub deleted: bool,
    /// Whether only owners decide who is in it.
    pub manage_users_owner_only: bool,
    /// With which software it runs.
    pub compute_image: Option<String>,
    /// What an administrator has set about its quotas.
    pub settings: Json,
    /// Whether it runs, and since when.
    pub state: Option<Json>,
}

/// Somebody in a project.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Who.
    pub account_id: AccountId,
    /// As what.
    pub group: Group,
    /// Whether the project is kept out of their sight.
    pub hide: bool,
    /// Since when.
    pub joined: Time,
    /// When they last did something in it.
    pub last_active: Option<Time>,
}

/// A project to be made.
#[derive(Debug, Clone)]
pub struct New {
    /// Its number.
    pub id: ProjectId,
    /// What it is called.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// With which software it runs.
    pub compute_image: Option<String>,
    /// Who makes it, and becomes its owner; a project without one waits for its first owner.
    pub owner: Option<AccountId>,
}

/// Makes a project, with its owner in it.
///
/// # Errors
/// [`Error::Conflict`] if there is one with this number, [`Error::Missing`] if there is no such owner.
pub async fn insert(on: &mut Transaction, new: &New) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO projects (project_id, title, description, compute_image, created, created_by, last_edited)
         VALUES ($1, $2, $3, $4, {now}, $5, {now})",
    );
    let insert = insert
        .bind(new.id)
        .bind(&new.title)
        .bind(&new.description)
        .bind(new.compute_image.clone())
        .bind(new.owner);
    on.execute(insert).await?;
    on.changed(Change::insert(Table::Projects, key(new.id)).project(new.id));
    match new.owner {
        Some(owner) => put_member(on, new.id, owner, Group::Owner).await,
        None => Ok(()),
    }
}

const COLUMNS: &str = "project_id, title, description, name, created, last_edited, deleted, \
     manage_users_owner_only, compute_image, settings, state_json";

fn project(row: &Row) -> Result<Project, Error> {
    Ok(Project {
        id: row.get("project_id")?,
        title: row.get("title")?,
        description: row.get("description")?,
        name: row.maybe("name")?,
        created: row.get("created")?,
        last_edited: row.maybe("last_edited")?,
        deleted: row.get("deleted")?,
        manage_users_owner_only: row.get("manage_users_owner_only")?,
        compute_image: row.maybe("compute_image")?,
        settings: row.get("settings")?,
        state: row.maybe("state_json")?,
    })
}

async fn list(on: &mut Reader, statement: Statement) -> Result<Vec<Project>, Error> {
    on.rows(statement).await?.iter().map(project).collect()
}

/// The project with this number.
///
/// # Errors
/// When the database does not answer.
pub async fn by_id(on: &mut Reader, id: ProjectId) -> Result<Option<Project>, Error> {
    let find = Sql::built(format!(
        "SELECT {COLUMNS} FROM projects WHERE project_id = $1"
    ));
    Ok(list(on, find.bind(id)).await?.pop())
}

/// Projects by number behind `after`, given up ones as well; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn after(
    on: &mut Reader,
    after: Option<ProjectId>,
    limit: i64,
) -> Result<Vec<Project>, Error> {
    let page = Sql::built(format!(
        "SELECT {COLUMNS} FROM projects WHERE project_id > $1 ORDER BY project_id LIMIT $2"
    ));
    let after = after.unwrap_or(ProjectId::from_uuid(uuid::Uuid::nil()));
    list(on, page.bind(after).bind(limit)).await
}

/// What is to be changed about a project; the rest stays.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::option_option,
    reason = "whether it changes, and what is there afterwards"
)]
pub struct Update {
    /// What it is called.
    pub title: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// Its name in addresses of pages; `Some(None)` takes it away.
    pub name: Option<Option<String>>,
    /// Whether it is given up.
    pub deleted: Option<bool>,
    /// Whether only owners decide who is in it.
    pub manage_users_owner_only: Option<bool>,
    /// With which software it runs.
    pub compute_image: Option<String>,
    /// What an administrator has set about its quotas.
    pub settings: Option<Json>,
}

/// Changes a project. `false` if there is none with this number.
///
/// # Errors
/// When the database does not answer.
pub async fn update(on: &mut Transaction, id: ProjectId, update: Update) -> Result<bool, Error> {
    let assign = Assign::default()
        .maybe("title", update.title)
        .maybe("description", update.description)
        .maybe("name", update.name)
        .maybe("deleted", update.deleted)
        .maybe("manage_users_owner_only", update.manage_users_owner_only)
        .maybe("compute_image", update.compute_image)
        .maybe("settings", update.settings);
    let columns = assign.columns().to_vec();
    let Some(statement) = assign.update("projects", "project_id", id) else {
        return Ok(by_id(on, id).await?.is_some());
    };
    let done = on.execute(statement).await? > 0;
    if done {
        on.changed(Change::update(Table::Projects, key(id), &columns).project(id));
    }
    Ok(done)
}

/// Who is in a project: owners first, then by number.
///
/// # Errors
/// When the database does not answer.
pub async fn members(on: &mut Reader, id: ProjectId) -> Result<Vec<Member>, Error> {
    let members = Sql::same(
        "SELECT account_id, grp, hide, joined, last_active FROM project_members
          WHERE project_id = $1 ORDER BY grp DESC, account_id",
    );
    members_of(&on.rows(members.bind(id)).await?)
}

/// The same, which nobody else changes until the transaction ends: for rules about all who are in a project, such as
/// that an owner remains.
///
/// # Errors
/// When the database does not answer.
pub async fn members_locked(on: &mut Transaction, id: ProjectId) -> Result<Vec<Member>, Error> {
    // The row of the project stands for all of them, also for those who are still to come.
    let lock = Sql::pair(
        "SELECT 1 FROM projects WHERE project_id = $1 FOR UPDATE",
        "SELECT 1 FROM projects WHERE project_id = $1",
    );
    on.row(lock.bind(id)).await?;
    members(on, id).await
}

fn members_of(rows: &[Row]) -> Result<Vec<Member>, Error> {
    let member = |row: &Row| {
        Ok(Member {
            account_id: row.get("account_id")?,
            group: group(row)?,
            hide: row.get("hide")?,
            joined: row.get("joined")?,
            last_active: row.maybe("last_active")?,
        })
    };
    rows.iter().map(member).collect()
}

fn group(row: &Row) -> Result<Group, Error> {
    let name: String = row.get("grp")?;
    Group::from_name(&name).ok_or_else(|| Error::Corrupt(format!("there is no group {name:?}")))
}

/// What somebody is in a project, if anything.
///
/// # Errors
/// When the database does not answer.
pub async fn membership(
    on: &mut Reader,
    id: ProjectId,
    account: AccountId,
) -> Result<Option<Group>, Error> {
    let find =
        Sql::same("SELECT grp FROM project_members WHERE project_id = $1 AND account_id = $2");
    let row = on.row(find.bind(id).bind(account)).await?;
    row.as_ref().map(group).transpose()
}

/// The projects that somebody is in and that are not given up, those that were changed last first; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn of_account(on: &mut Reader, id: AccountId, limit: i64) -> Result<Vec<Project>, Error> {
    let own = Sql::built(format!(
        "SELECT {COLUMNS} FROM projects
          WHERE NOT deleted AND project_id IN (SELECT project_id FROM project_members WHERE account_id = $1)
          ORDER BY CASE WHEN last_edited IS NULL THEN 1 ELSE 0 END, last_edited DESC, project_id LIMIT $2"
    ));
    list(on, own.bind(id).bind(limit)).await
}

/// The projects that somebody is in, also those that are given up, in no order; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn ids_of_account(
    on: &mut Reader,
    id: AccountId,
    limit: i64,
) -> Result<Vec<ProjectId>, Error> {
    let own = Sql::same("SELECT project_id FROM project_members WHERE account_id = $1 LIMIT $2");
    let rows = on.rows(own.bind(id).bind(limit)).await?;
    rows.iter().map(|row| row.get("project_id")).collect()
}

/// Puts somebody into a project, or makes them what they are to be in it.
///
/// # Errors
/// [`Error::Missing`] if there is no such project or account.
pub async fn put_member(
    on: &mut Transaction,
    id: ProjectId,
    account: AccountId,
    group: Group,
) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO project_members (project_id, account_id, grp, joined) VALUES ($1, $2, $3, {now})
         ON CONFLICT (project_id, account_id) DO UPDATE SET grp = excluded.grp",
    );
    on.execute(put.bind(id).bind(account).bind(group.name()))
        .await?;
    let change = Change::update(Table::ProjectMembers, member_key(id, account), &["grp"]);
    on.changed(change.project(id).account(account));
    Ok(())
}

/// Takes somebody out of a project. `false` if they are not in it.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_member(
    on: &mut Transaction,
    id: ProjectId,
    account: AccountId,
) -> Result<bool, Error> {
    let delete = Sql::same("DELETE FROM project_members WHERE project_id = $1 AND account_id = $2");
    let done = on.execute(delete.bind(id).bind(account)).await? > 0;
    if done {
        let change = Change::delete(Table::ProjectMembers, member_key(id, account));
        on.changed(change.project(id).account(account));
    }
    Ok(done)
}

/// Notes that somebody did something in a project.
///
/// # Errors
/// When the database does not answer.
pub async fn touch(on: &mut Transaction, id: ProjectId, account: AccountId) -> Result<(), Error> {
    let project = Sql::same("UPDATE projects SET last_edited = {now} WHERE project_id = $1");
    on.execute(project.bind(id)).await?;
    let member = Sql::same(
        "UPDATE project_members SET last_active = {now} WHERE project_id = $1 AND account_id = $2",
    );
    on.execute(member.bind(id).bind(account)).await?;
    on.changed(Change::update(Table::Projects, key(id), &["last_edited"]).project(id));
    Ok(())
}

/// What a project is made with beside what it is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Milliseconds after which it is deleted.
    pub ephemeral: Option<i64>,
    /// What is set about its quotas.
    pub settings: Json,
    /// The licences that it uses, by number.
    pub site_license: Option<Json>,
}

/// Sets what a new project is made with.
///
/// # Errors
/// When the database does not answer.
pub async fn put_options(
    on: &mut Transaction,
    id: ProjectId,
    options: Options,
) -> Result<(), Error> {
    let put = Sql::same(
        "UPDATE projects SET ephemeral = $2, settings = $3, site_license = $4 WHERE project_id = $1",
    );
    let put = put
        .bind(id)
        .bind(options.ephemeral)
        .bind(options.settings)
        .bind(options.site_license);
    on.execute(put).await?;
    let fields = ["ephemeral", "settings", "site_license"];
    on.changed(Change::update(Table::Projects, key(id), &fields).project(id));
    Ok(())
}

/// Gives a project up: it is not started any more, and its licences are free for others. `false` if there is none, or
/// it was given up before.
///
/// # Errors
/// When the database does not answer.
pub async fn give_up(on: &mut Transaction, id: ProjectId) -> Result<bool, Error> {
    let give_up = Sql::same(
        "UPDATE projects SET deleted = $2, site_license = NULL WHERE project_id = $1 AND NOT deleted",
    );
    let done = on.execute(give_up.bind(id).bind(true)).await? > 0;
    if done {
        let change = Change::update(Table::Projects, key(id), &["deleted", "site_license"]);
        on.changed(change.project(id));
    }
    Ok(done)
}

/// The secret with which a project signs in, if it has one.
///
/// # Errors
/// When the database does not answer.
pub async fn secret_token(on: &mut Reader, id: ProjectId) -> Result<Option<String>, Error> {
    let find = Sql::same("SELECT secret_token FROM projects WHERE project_id = $1");
    match on.row(find.bind(id)).await? {
        Some(row) => row.maybe("secret_token"),
        None => Ok(None),
    }
}

/// Gives a project this secret unless it has one, and returns the one that it then has; `None` if there is no such
/// project.
///
/// # Errors
/// When the database does not answer.
pub async fn ensure_secret_token(
    on: &mut Transaction,
    id: ProjectId,
    token: &str,
) -> Result<Option<String>, Error> {
    let ensure = Sql::same(
        "UPDATE projects SET secret_token = coalesce(secret_token, $2) WHERE project_id = $1 RETURNING secret_token",
    );
    let row = on.row(ensure.bind(id).bind(token)).await?;
    row.map(|row| row.get("secret_token")).transpose()
}

/// Takes the secret from a project. Whoever follows the changes throws out what was let in with it.
///
/// # Errors
/// When the database does not answer.
pub async fn clear_secret_token(on: &mut Transaction, id: ProjectId) -> Result<(), Error> {
    let clear = Sql::same(
        "UPDATE projects SET secret_token = NULL WHERE project_id = $1 AND secret_token IS NOT NULL",
    );
    if on.execute(clear.bind(id)).await? > 0 {
        on.changed(Change::update(Table::Projects, key(id), &["secret_token"]).project(id));
    }
    Ok(())
}

pub(super) fn key(id: ProjectId) -> Json {
    json!({ "project_id": id })
}

fn member_key(id: ProjectId, account: AccountId) -> Json {
    json!({ "project_id": id, "account_id": account })
}
