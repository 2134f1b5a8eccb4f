//! Feeds for clients of the original, which follow a query over a socket of its own.
//!
//! A client connects to `changefeeds.account-<id>` and sends `{query, options?}` as its first message. What it is told:
//!
//! | message | |
//! |---|---|
//! | `{update: {<table>: [row, …]}}` | first, what the query finds |
//! | `{update: {action, new_val?, old_val?}}` | what changed, one message each |
//! | `{error, code}` | the feed has ended, and the socket ends; the code is that of HTTP |
//!
//! Such a client knows no numbers of changes: when its socket has ended it asks again, and gets all rows. What a feed
//! is, and its bounds, are those of [`Feeds`].

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, SubscribeError};
use dialtone_conat::socket::{self, Data, Inbound, Options, Server, Socket, Writer};
use dialtone_hub::api::{Code, Error};
use dialtone_hub::auth::token;
use dialtone_hub::caller::Caller;
use dialtone_hub::query::{Event, Feed, Feeds};
use dialtone_hub::store::Store;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where sockets are connected to.
const PATTERN: &str = "changefeeds.*";

/// Letters and digits by which clients tell hubs apart.
const ID_LEN: usize = 16;

/// How often a client is asked whether it is there, as in the original.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// Most sockets of a hub: as many as it has feeds, and some that have not said yet what they want.
const SOCKETS_MAX: usize = 52_000;

/// How long a client may take to say what it wants to follow.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// How long it may take until the last message has arrived.
const LAST_WITHIN: Duration = Duration::from_secs(3);

/// How long to wait until it is listened again.
const RETRY: Duration = Duration::from_secs(3);

/// What a client sends first.
#[derive(Deserialize)]
struct Open {
    query: Json,
    #[serde(default)]
    options: Json,
}

/// Follows queries over sockets until `stop`, or the service of feeds is ended by a call.
pub(super) async fn keep(client: &Client, feeds: &Feeds<Store>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match serve(client, feeds, stop).await {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => tracing::warn!("the broker has ended the sockets of feeds"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "existing clients cannot follow queries"
            ),
        }
        stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
    }
}

async fn serve(
    client: &Client,
    feeds: &Feeds<Store>,
    stop: &CancellationToken,
) -> Result<(), SubscribeError> {
    let tasks = TaskTracker::new();
    let id = token::random_text(ID_LEN);
    let options = Options {
        keep_alive: KEEP_ALIVE,
        ..Options::default()
    };
    let beginning = Server::listen(client, PATTERN, &id, options, &tasks);
    let Some(begun) = stop.run_until_cancelled(beginning).await else {
        return Ok(());
    };
    let mut server = begun?;
    let places = Arc::new(Semaphore::new(SOCKETS_MAX));
    while let Some(Some(socket)) = stop.run_until_cancelled(server.accept()).await {
        // Without a place the socket is closed, and its client tries again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("too many sockets of feeds on this hub");
            continue;
        };
        let (feeds, stop) = (feeds.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            follow(socket, &feeds, &stop).await;
        });
    }
    drop(server);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Serves one socket to its end.
async fn follow(mut socket: Socket, feeds: &Feeds<Store>, stop: &CancellationToken) {
    let writer = socket.writer().clone();
    let ended = tokio::select! {
        ended = follow_to_the_end(&mut socket, &writer, feeds) => ended,
        () = stop.cancelled() => Some(Error::new(Code::Unavailable, "the hub is going away")),
    };
    // Whoever has gone is told nothing.
    let Some(error) = ended else { return };
    let last = json!({"error": error.to_string(), "code": status(error.code)});
    let telling = async {
        if writer.write(Data::of(&last)).await.is_ok() {
            // It may have gone meanwhile.
            let _gone = writer.drained().await;
        }
    };
    if tokio::time::timeout(LAST_WITHIN, telling).await.is_err() {
        tracing::debug!(
            subject = socket.subject(),
            "a follower was not told of the end"
        );
    }
}

async fn follow_to_the_end(
    socket: &mut Socket,
    writer: &Writer,
    feeds: &Feeds<Store>,
) -> Option<Error> {
    let opening = tokio::time::timeout(OPEN_WITHIN, opened(socket, feeds)).await;
    let (table, mut feed) = match opening {
        Ok(Some(Ok(opened))) => opened,
        Ok(Some(Err(error))) => return Some(error),
        Ok(None) => return None,
        Err(_elapsed) => {
            let text = "a query is to be sent after connecting";
            return Some(Error::new(Code::Timeout, text));
        }
    };
    loop {
        let event = tokio::select! {
            event = feed.next() => event,
            heard = socket.next() => match heard {
                None => return None,
                Some(Inbound::Data(_)) => {
                    let text = "a socket follows one query";
                    return Some(Error::new(Code::BadRequest, text));
                }
                Some(Inbound::Request(request)) => {
                    socket::respond(&request, Data::of(&Json::Null)).await;
                    continue;
                }
            },
        };
        for update in match event {
            Ok(Event::Rows { rows, .. }) => vec![json!({ table.as_str(): rows })],
            Ok(Event::Updates { updates, .. }) => updates.iter().map(|one| json!(one)).collect(),
            Err(error) => return Some(error),
        } {
            // It waits while too much is not acknowledged, and a client that has gone ends the socket.
            if writer
                .write(Data::of(&json!({ "update": update })))
                .await
                .is_err()
            {
                return None;
            }
        }
    }
}

/// The feed that a client wants, with the name of its table; `None` if it has gone.
async fn opened(
    socket: &mut Socket,
    feeds: &Feeds<Store>,
) -> Option<Result<(String, Feed<Store>), Error>> {
    loop {
        match socket.next().await? {
            Inbound::Data(data) => return Some(open(socket.subject(), &data, feeds).await),
            Inbound::Request(request) => socket::respond(&request, Data::of(&Json::Null)).await,
        }
    }
}

async fn open(
    subject: &str,
    data: &Data,
    feeds: &Feeds<Store>,
) -> Result<(String, Feed<Store>), Error> {
    let caller = account(subject)?;
    let Open { query, options } = data
        .decode()
        .map_err(|error| Error::new(Code::BadRequest, format!("not a query: {error}")))?;
    let table = query.as_object().and_then(|query| query.keys().next());
    let table = table.cloned().unwrap_or_default();
    let feed = feeds.open(caller, query, options, None).await?;
    Ok((table, feed))
}

/// Who follows. Nobody but the account itself and hubs may publish to its subject.
fn account(subject: &str) -> Result<Caller, Error> {
    let base = socket::base_subject(subject).unwrap_or_default();
    let owner = base.split('.').nth(1).unwrap_or_default();
    let caller = owner.parse().ok();
    caller
        .filter(|caller| matches!(caller, Caller::Account(_)))
        .ok_or_else(|| {
            let text = "queries are followed at changefeeds.account-<id>";
            Error::new(Code::BadRequest, text)
        })
}

/// What clients of the original know codes by.
fn status(code: Code) -> u16 {
    match code {
        Code::TooMany => 429,
        Code::PermissionDenied | Code::NotSignedIn => 403,
        Code::NotFound | Code::UnknownFunction => 404,
        Code::BadRequest | Code::InvalidArgument => 400,
        Code::Timeout => 408,
        Code::Unavailable | Code::NotConfigured => 503,
        Code::Conflict | Code::FailedPrecondition => 409,
        Code::Cancelled | Code::Internal => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_says_who_follows() {
        let id = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";
        let caller = account(&format!("changefeeds.account-{id}.server.s1.c1")).unwrap();
        assert_eq!(caller.to_string(), format!("account-{id}"));
        for other in [
            format!("changefeeds.project-{id}.server.s.c"),
            "x".to_owned(),
        ] {
            assert_eq!(account(&other).unwrap_err().code, Code::BadRequest);
        }
    }
}
