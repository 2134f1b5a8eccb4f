//! Organizations: people who belong together, and those among them who look after the others.
//!
//! Somebody is in one organization at most. Its name stands in the account as well, where clients look for it.

use serde_json::{Value as Json, json};

use super::assign::Assign;
use super::error::Error;
use super::outbox::{Change, Table};
use super::row::Row;
use super::sql::{Sql, Statement};
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, OrganizationId};
use crate::time::Time;

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its number.
    pub id: OrganizationId,
    /// What it is called; nobody else has the name, in whatever case.
    pub name: String,
    /// What it is called in full.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// Where more is said about it.
    pub link: String,
    /// Where letters to it go.
    pub email_address: String,
    /// When it was made.
    pub created: Time,
}

/// Somebody in an organization.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Who.
    pub account_id: AccountId,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// Where letters go.
    pub email_address: Option<String>,
    /// When the account was last used.
    pub last_active: Option<Time>,
    /// Whether they look after the others.
    pub is_admin: bool,
}

/// Makes an organization.
///
/// # Errors
/// [`Error::Conflict`] if there is one with this name.
pub async fn insert(on: &mut Transaction, id: OrganizationId, name: &str) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO organizations (organization_id, name, created) VALUES ($1, $2, {now})",
    );
    on.execute(insert.bind(id).bind(name)).await?;
    on.changed(Change::insert(Table::Organizations, key(id)));
    Ok(())
}

const COLUMNS: &str = "organization_id, name, title, description, link, email_address, created";

fn organization(row: &Row) -> Result<Organization, Error> {
    Ok(Organization {
        id: row.get("organization_id")?,
        name: row.get("name")?,
        title: row.get("title")?,
        description: row.get("description")?,
        link: row.get("link")?,
        email_address: row.get("email_address")?,
        created: row.get("created")?,
    })
}

async fn one(on: &mut Reader, statement: Statement) -> Result<Option<Organization>, Error> {
    let row = on.row(statement).await?;
    row.as_ref().map(organization).transpose()
}

/// The organization with this name, in whatever case.
///
/// # Errors
/// When the database does not answer.
pub async fn by_name(on: &mut Reader, name: &str) -> Result<Option<Organization>, Error> {
    let find = Sql::built(format!(
        "SELECT {COLUMNS} FROM organizations WHERE lower(name) = lower($1) AND NOT deleted"
    ));
    one(on, find.bind(name)).await
}

/// The same, of which nobody else changes the members until the transaction ends.
///
/// # Errors
/// When the database does not answer.
pub async fn locked(on: &mut Transaction, name: &str) -> Result<Option<Organization>, Error> {
    let lock = Sql::pair(
        "SELECT 1 FROM organizations WHERE lower(name) = lower($1) FOR UPDATE",
        "SELECT 1 FROM organizations WHERE lower(name) = lower($1)",
    );
    on.row(lock.bind(name)).await?;
    by_name(on, name).await
}

/// Organizations with those who look after them, by name; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn all(
    on: &mut Reader,
    limit: i64,
) -> Result<Vec<(Organization, Vec<AccountId>)>, Error> {
    let all = Sql::built(format!(
        "SELECT {COLUMNS} FROM organizations WHERE NOT deleted ORDER BY lower(name) LIMIT $1"
    ));
    let rows = on.rows(all.bind(limit)).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let organization = organization(row)?;
        let admins = Sql::same(
            "SELECT account_id FROM organization_members
              WHERE organization_id = $1 AND is_admin ORDER BY account_id",
        );
        let admins = on.rows(admins.bind(organization.id)).await?;
        let admins: Result<Vec<AccountId>, Error> =
            admins.iter().map(|row| row.get("account_id")).collect();
        found.push((organization, admins?));
    }
    Ok(found)
}

/// What is to be changed about an organization; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// What it is called in full.
    pub title: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// Where more is said about it.
    pub link: Option<String>,
    /// Where letters to it go.
    pub email_address: Option<String>,
}

/// Changes an organization, if there is something to change.
///
/// # Errors
/// When the database does not answer.
pub async fn update(on: &mut Transaction, id: OrganizationId, update: Update) -> Result<(), Error> {
    let assign = Assign::default()
        .maybe("title", update.title)
        .maybe("description", update.description)
        .maybe("link", update.link)
        .maybe("email_address", update.email_address);
    let columns = assign.columns().to_vec();
    if let Some(statement) = assign.update("organizations", "organization_id", id) {
        on.execute(statement).await?;
        on.changed(Change::update(Table::Organizations, key(id), &columns));
    }
    Ok(())
}

/// Who is in an organization: those who look after the others first, then by name; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn members(
    on: &mut Reader,
    id: OrganizationId,
    limit: i64,
) -> Result<Vec<Member>, Error> {
    let members = Sql::same(
        "SELECT a.account_id, a.first_name, a.last_name, a.email_address, a.last_active, m.is_admin
           FROM organization_members m JOIN accounts a ON a.account_id = m.account_id
          WHERE m.organization_id = $1 AND NOT a.deleted
          ORDER BY m.is_admin DESC, lower(a.last_name), lower(a.first_name), a.account_id LIMIT $2",
    );
    let rows = on.rows(members.bind(id).bind(limit)).await?;
    let member = |row: &Row| {
        Ok(Member {
            account_id: row.get("account_id")?,
            first_name: row.get("first_name")?,
            last_name: row.get("last_name")?,
            email_address: row.maybe("email_address")?,
            last_active: row.maybe("last_active")?,
            is_admin: row.get("is_admin")?,
        })
    };
    rows.iter().map(member).collect()
}

/// The organization that somebody is in, and whether they look after the others.
///
/// # Errors
/// When the database does not answer.
pub async fn of_account(
    on: &mut Reader,
    account: AccountId,
) -> Result<Option<(Organization, bool)>, Error> {
    let find = Sql::same(
        "SELECT o.organization_id, o.name, o.title, o.description, o.link, o.email_address, o.created, m.is_admin
           FROM organization_members m JOIN organizations o ON o.organization_id = m.organization_id
          WHERE m.account_id = $1 AND NOT o.deleted",
    );
    let row = on.row(find.bind(account)).await?;
    row.map(|row| Ok((organization(&row)?, row.get("is_admin")?)))
        .transpose()
}

/// Puts somebody into an organization and into no other one, or makes them what they are to be in it.
///
/// # Errors
/// [`Error::Missing`] if there is no such account.
pub async fn put_member(
    on: &mut Transaction,
    organization: &Organization,
    account: AccountId,
    is_admin: bool,
) -> Result<(), Error> {
    let id = organization.id;
    let others = Sql::same(
        "DELETE FROM organization_members WHERE account_id = $1 AND organization_id <> $2
         RETURNING organization_id",
    );
    for row in on.rows(others.bind(account).bind(id)).await? {
        let left = row.get("organization_id")?;
        on.changed(
            Change::delete(Table::OrganizationMembers, member_key(left, account)).account(account),
        );
    }
    let put = Sql::same(
        "INSERT INTO organization_members (organization_id, account_id, is_admin) VALUES ($1, $2, $3)
         ON CONFLICT (organization_id, account_id) DO UPDATE SET is_admin = excluded.is_admin",
    );
    on.execute(put.bind(id).bind(account).bind(is_admin))
        .await?;
    let change = Change::update(
        Table::OrganizationMembers,
        member_key(id, account),
        &["is_admin"],
    );
    on.changed(change.account(account));
    name_in_account(on, account, Some(&organization.name)).await
}

/// Takes somebody out of an organization. `false` if they are not in it.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_member(
    on: &mut Transaction,
    id: OrganizationId,
    account: AccountId,
) -> Result<bool, Error> {
    let delete = Sql::same(
        "DELETE FROM organization_members WHERE organization_id = $1 AND account_id = $2",
    );
    if on.execute(delete.bind(id).bind(account)).await? == 0 {
        return Ok(false);
    }
    on.changed(
        Change::delete(Table::OrganizationMembers, member_key(id, account)).account(account),
    );
    name_in_account(on, account, None).await?;
    Ok(true)
}

async fn name_in_account(
    on: &mut Transaction,
    account: AccountId,
    name: Option<&str>,
) -> Result<(), Error> {
    let set = Sql::same("UPDATE accounts SET org = $2 WHERE account_id = $1");
    on.execute(set.bind(account).bind(name.map(str::to_owned)))
        .await?;
    let key = json!({ "account_id": account });
    on.changed(Change::update(Table::Accounts, key, &["org"]).account(account));
    Ok(())
}

fn key(id: OrganizationId) -> Json {
    json!({ "organization_id": id })
}

fn member_key(id: OrganizationId, account: AccountId) -> Json {
    json!({"organization_id": id, "account_id": account})
}
