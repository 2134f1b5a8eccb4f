//! `dialtone admin users`

use std::io::Write as _;

use dialtone_broker::auth::file::hash_password;
use dialtone_hub::accounts::{self, Error};
use dialtone_hub::auth::strength;
use dialtone_hub::email::EmailAddress;
use dialtone_hub::store::accounts::{self as stored, ADMIN, Account, New, Search};
use serde_json::json;

use super::super::passwd;
use super::super::records::table;
use super::{Site, failure, when};
use crate::args::{UserAdd, UserNamed, Users};
use crate::exit::{Failure, Outcome};
use crate::print::{Output, harmless, note};

/// Longest name, in characters.
const NAME_LEN_MAX: usize = 254;

pub(super) async fn run(site: &Site<'_>, command: Users) -> Outcome {
    let (account, done) = match command {
        Users::Ls { words, limit } => return ls(site, &words, limit).await,
        Users::Show(who) => return show(site, &find(site, &who).await?),
        Users::Add(args) => return add(site, args).await,
        Users::Passwd(who) => {
            let account = find(site, &who).await?;
            let address = account.email_address.as_deref().unwrap_or_default();
            let hash = new_password(&[address, &account.first_name, &account.last_name])?;
            let done = accounts::set_password(site.store, account.id, &hash, None).await;
            done.map_err(refused)?;
            (account, "has a new password and is signed out everywhere")
        }
        Users::Ban(who) => {
            let account = find(site, &who).await?;
            let done = accounts::ban(site.store, account.id, true).await;
            done.map_err(refused)?;
            (account, "is locked out")
        }
        Users::Unban(who) => {
            let account = find(site, &who).await?;
            let done = accounts::ban(site.store, account.id, false).await;
            done.map_err(refused)?;
            (account, "may come in again")
        }
        Users::Promote(who) => {
            let account = find(site, &who).await?;
            let done = accounts::set_admin(site.store, account.id, true).await;
            done.map_err(refused)?;
            (account, "is an administrator")
        }
        Users::Demote(who) => {
            let account = find(site, &who).await?;
            let done = accounts::set_admin(site.store, account.id, false).await;
            done.map_err(refused)?;
            (account, "is no administrator")
        }
        Users::SignOut(who) => {
            let account = find(site, &who).await?;
            let done = accounts::sign_out(site.store, account.id, None).await;
            done.map_err(refused)?;
            (account, "is signed out everywhere")
        }
        Users::Rm(who) => {
            let account = find(site, &who).await?;
            let done = accounts::delete(site.store, account.id).await;
            done.map_err(refused)?;
            (account, "is gone")
        }
    };
    say(&account, done);
    Ok(())
}

fn refused(error: Error) -> Failure {
    match error {
        Error::Store(error) => failure(error),
        Error::Unknown | Error::EmailAddressTaken | Error::NameTaken => {
            Failure::from(anyhow::Error::from(error))
        }
    }
}

async fn find(site: &Site<'_>, who: &UserNamed) -> Result<Account, Failure> {
    let found = accounts::find(site.store, &who.who).await;
    found.map_err(|error| {
        let unknown = matches!(error, Error::Unknown);
        let failure = refused(error);
        if unknown {
            failure.hint("`dialtone admin users ls` lists accounts")
        } else {
            failure
        }
    })
}

fn say(account: &Account, text: &str) {
    let who = account.email_address.clone();
    let who = who.unwrap_or_else(|| account.id.to_string());
    note(format_args!("{} {text}", harmless(&who)));
}

/// Asks for a password that signing up would take as well, from somebody of whom this is known.
fn new_password(personal: &[&str]) -> Result<String, Failure> {
    let password = passwd::secret("password")?;
    strength::check(&password, personal).map_err(Failure::usage)?;
    Ok(hash_password(&password).map_err(anyhow::Error::from)?)
}

async fn add(site: &Site<'_>, args: UserAdd) -> Outcome {
    let address: EmailAddress = args.email_address.parse().map_err(Failure::usage)?;
    for name in [&args.first_name, &args.last_name] {
        if name.chars().count() > NAME_LEN_MAX {
            return Err(Failure::usage(format_args!(
                "a name has at most {NAME_LEN_MAX} characters"
            )));
        }
    }
    let hash = new_password(&[address.as_str(), &args.first_name, &args.last_name])?;
    let new = New {
        email_address: Some(address.into()),
        password_hash: Some(hash),
        groups: if args.admin {
            vec![ADMIN.to_owned()]
        } else {
            Vec::new()
        },
        ..New::named(&args.first_name, &args.last_name)
    };
    accounts::create(site.store, &new).await.map_err(refused)?;
    let mut out = Output::stdout();
    if site.json {
        out.json(&json!({"account_id": new.id}))?;
    } else {
        out.line(new.id)?;
    }
    Ok(out.flush()?)
}

fn show(site: &Site<'_>, account: &Account) -> Outcome {
    let mut out = Output::stdout();
    if site.json {
        out.json(&shown(account))?;
        return Ok(out.flush()?);
    }
    let name = format!("{} {}", account.first_name, account.last_name);
    let none = || "-".to_owned();
    let lines = [
        ("account", account.id.to_string()),
        ("email", account.email_address.clone().unwrap_or_else(none)),
        ("name", harmless(name.trim())),
        ("page", account.name.clone().unwrap_or_else(none)),
        ("state", state(account).to_owned()),
        ("groups", account.groups.join(", ")),
        ("created", when(Some(account.created))),
        ("last active", when(account.last_active)),
    ];
    for (title, text) in lines {
        out.line(format_args!("{title:<12} {text}"))?;
    }
    Ok(out.flush()?)
}

fn state(account: &Account) -> &'static str {
    match account {
        Account { deleted: true, .. } => "deleted",
        Account { banned: true, .. } => "banned",
        _ => "active",
    }
}

/// Never the hash of the password.
fn shown(account: &Account) -> serde_json::Value {
    json!({
        "account_id": account.id,
        "email_address": account.email_address,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "name": account.name,
        "state": state(account),
        "groups": account.groups,
        "created": account.created,
        "last_active": account.last_active,
    })
}

async fn ls(site: &Site<'_>, words: &[String], limit: i64) -> Outcome {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let search = Search {
        words: &words,
        everybody: true,
        limit,
    };
    let mut on = site.store.read().await.map_err(failure)?;
    let found = stored::search(&mut on, search).await.map_err(failure)?;
    let mut out = Output::stdout();
    if site.json {
        found
            .iter()
            .try_for_each(|account| out.json(&shown(account)))?;
        return Ok(out.flush()?);
    }
    let rows: Vec<_> = found
        .iter()
        .map(|account| {
            let name = format!("{} {}", account.first_name, account.last_name);
            [
                account.id.to_string(),
                account
                    .email_address
                    .clone()
                    .unwrap_or_else(|| "-".to_owned()),
                state(account).to_owned(),
                when(account.last_active),
                harmless(name.trim()),
            ]
        })
        .collect();
    table(
        &mut out,
        ["ACCOUNT", "EMAIL", "STATE", "LAST ACTIVE", "NAME"],
        &rows,
    )?;
    Ok(out.flush()?)
}
