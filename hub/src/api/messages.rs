//! `messages`: letters between accounts.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::throttled::count;
use crate::auth::throttle::Action;
use crate::id::AccountId;
use crate::store::messages::{self, Kind, Message, New};
use crate::store::{Reader, Store, accounts};
use crate::time::Time;

/// How many messages are listed, if a call says nothing.
const LISTED: i64 = 100;

#[derive(Deserialize)]
struct Send {
    to_ids: Vec<String>,
    subject: String,
    body: String,
    reply_id: Option<i64>,
}

#[derive(Deserialize, Default)]
struct Get {
    r#type: Option<Type>,
    limit: Option<i64>,
    offset: Option<i64>,
    cutoff: Option<Time>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Type {
    Received,
    Sent,
    New,
    Starred,
}

/// The handlers with those of this file.
pub fn install(store: &Store, handlers: Handlers) -> Handlers {
    handlers
        .with_on("messages.send", store, send)
        .with_on("messages.get", store, get)
}

async fn send(store: Store, mut call: Call) -> Result<Json, Error> {
    let from = caller(&call)?;
    let wanted: Send = call.argument(0)?;
    if wanted.to_ids.is_empty() {
        return Ok(Json::Null);
    }
    count(&store, Action::Message, &from.to_string()).await?;
    let mut on = store.write().await?;
    let to = receivers(&mut on, &wanted.to_ids).await?;
    if to.is_empty() {
        return Ok(Json::Null);
    }
    let thread = match wanted.reply_id {
        None => None,
        Some(id) => Some(thread(&mut on, id, from).await?),
    };
    let new = New {
        from,
        to: &to,
        subject: &wanted.subject,
        body: &wanted.body,
        thread,
    };
    let id = messages::insert(&mut on, &new).await?;
    on.commit().await?;
    Ok(id.into())
}

/// The thread of a message that is answered. Only who has a message answers it.
async fn thread(on: &mut Reader, id: i64, account: AccountId) -> Result<i64, Error> {
    let thread = messages::thread(on, id, account).await?;
    thread.ok_or_else(|| {
        let text = format!("there is no message {id} to answer");
        Error::new(Code::NotFound, text)
    })
}

/// The accounts that are meant. Identifiers must be those of accounts; whether somebody has an address is not said.
async fn receivers(on: &mut Reader, to: &[String]) -> Result<Vec<AccountId>, Error> {
    let (mut ids, mut found) = (BTreeSet::new(), BTreeSet::new());
    for one in to {
        if let Ok(id) = one.parse::<AccountId>() {
            ids.insert(id);
        } else if let Some(account) = accounts::by_email_address(on, &one.to_lowercase()).await?
            && !account.deleted
        {
            found.insert(account.id);
        }
    }
    let named: Vec<AccountId> = ids.iter().copied().collect();
    let known: BTreeSet<AccountId> = accounts::by_ids(on, &named)
        .await?
        .into_iter()
        .filter(|account| !account.deleted)
        .map(|account| account.id)
        .collect();
    if let Some(unknown) = ids.difference(&known).next() {
        let text = format!("there is no account {unknown}");
        return Err(Error::new(Code::NotFound, text));
    }
    found.extend(known);
    Ok(found.into_iter().collect())
}

async fn get(store: Store, mut call: Call) -> Result<Json, Error> {
    let account = caller(&call)?;
    let wanted = call.argument::<Option<Get>>(0)?.unwrap_or_default();
    let kind = match wanted.r#type {
        None | Some(Type::Received) => Kind::Received,
        Some(Type::Sent) => Kind::Sent,
        Some(Type::New) => Kind::New,
        Some(Type::Starred) => Kind::Starred,
    };
    let page = (wanted.limit.unwrap_or(LISTED), wanted.offset.unwrap_or(0));
    let mut on = store.read().await?;
    let found = messages::list(&mut on, account, kind, wanted.cutoff, page).await?;
    Ok(found.iter().map(shown).collect())
}

/// A message as clients of the original know it.
fn shown(message: &Message) -> Json {
    let flags = message.flags;
    json!({
        "id": message.id,
        "sent": message.sent,
        "from_id": message.from,
        "to_ids": message.to,
        "subject": message.subject,
        "body": message.body,
        "thread_id": message.thread,
        "read": flags.read,
        "saved": flags.saved,
        "starred": flags.starred,
        "liked": flags.liked,
        "deleted": flags.deleted,
        "expire": flags.expired,
    })
}
