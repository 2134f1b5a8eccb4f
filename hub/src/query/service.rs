//! Feeds over the broker.
//!
//! Who wants to follow a query sends `{query, options?, after?}` to `changefeeds.<kind>-<own id>.open`, as a request of
//! which it expects many answers. They are, in the encoding of the request:
//!
//! | answer | |
//! |---|---|
//! | `{seq, rows}` | all rows; what was there before is to be forgotten |
//! | `{seq, updates: [{action, new_val?, old_val?}]}` | what changed |
//! | `{seq, alive: true}` | nothing has changed for [`SIGN_OF_LIFE`] |
//! | `{error, code}` | the feed has ended |
//!
//! Whoever hears nothing for three times that long asks again, with `after` the last `seq`, and any hub goes on. A feed
//! ends when nobody takes its answers any more.

use std::time::Duration;

use dialtone_client::{Client, Encoding, Message, SubscribeError};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::feeds::{Event, Feed, Feeds};
use super::{OPTIONS_LEN_MAX, QUERY_LEN_MAX};
use crate::api::{Code, Error};
use crate::caller::Caller;
use crate::permission::Facts;

/// Where feeds are asked for.
pub const PATTERN: &str = "changefeeds.*.open";

/// The queue group of all hubs.
const GROUP: &str = "0";

/// How often a feed says that it is there, if nothing changes.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How long it may take until an answer was delivered.
const DELIVER_MAX: Duration = Duration::from_secs(30);

/// Longest request, in bytes.
const REQUEST_LEN_MAX: usize = QUERY_LEN_MAX + OPTIONS_LEN_MAX + 1_024;

#[derive(Deserialize)]
struct Open {
    query: Json,
    #[serde(default)]
    options: Json,
    after: Option<i64>,
}

/// Feeds on a broker.
#[derive(Debug)]
pub struct FeedService {
    stop: CancellationToken,
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl FeedService {
    /// Opens feeds for whoever asks, until it is stopped. Tasks run on the current runtime.
    ///
    /// # Errors
    /// When the broker does not let this client subscribe.
    pub async fn start<F: Facts>(
        client: &Client,
        feeds: &Feeds<F>,
    ) -> Result<Self, SubscribeError> {
        let mut asked = client
            .subscription(PATTERN)
            .group(GROUP)
            .subscribe()
            .await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let ended = CancellationToken::new();
        let service = Self {
            stop: stop.clone(),
            ended: ended.clone(),
            tasks: tasks.clone(),
        };
        let (client, feeds) = (client.clone(), feeds.clone());
        let own = tasks.clone();
        tasks.spawn(async move {
            let _ended = ended.drop_guard();
            while let Some(Some(message)) = stop.run_until_cancelled(asked.next()).await {
                let (client, feeds, stop) = (client.clone(), feeds.clone(), stop.clone());
                own.spawn(async move { follow(&client, &feeds, &message, &stop).await });
            }
        });
        Ok(service)
    }

    /// Waits until the broker has ended the subscription, or the client has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends all feeds, and tells their followers, who go on with another hub.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn follow<F: Facts>(
    client: &Client,
    feeds: &Feeds<F>,
    message: &Message,
    stop: &CancellationToken,
) {
    // Nobody waits for what was no request.
    let Some(reply) = message.reply() else { return };
    let to = Follower {
        client,
        reply,
        encoding: message.encoding(),
    };
    let error = match opened(feeds, message).await {
        Ok(feed) => match feed_to(feed, &to, stop).await {
            Some(error) => error,
            None => return,
        },
        Err(error) => error,
    };
    to.take(&error.to_json()).await;
}

async fn opened<F: Facts>(feeds: &Feeds<F>, message: &Message) -> Result<Feed<F>, Error> {
    let caller = caller(message.subject().as_str())?;
    let len = message.payload().len();
    if len > REQUEST_LEN_MAX {
        let text = format!("the request is longer than {REQUEST_LEN_MAX} bytes ({len})");
        return Err(Error::new(Code::BadRequest, text));
    }
    let Open {
        query,
        options,
        after,
    } = message
        .decode()
        .map_err(|error| Error::new(Code::BadRequest, format!("not a request: {error}")))?;
    feeds.open(caller, query, options, after).await
}

/// Nobody but the caller itself and hubs may publish to its subject.
fn caller(subject: &str) -> Result<Caller, Error> {
    let owner = subject.split('.').nth(1).unwrap_or_default();
    let caller = owner.parse().ok().filter(|caller| *caller != Caller::Hub);
    caller.ok_or_else(|| {
        let text =
            "feeds are asked for at changefeeds.account-<id>.open or changefeeds.project-<id>.open";
        Error::new(Code::BadRequest, text)
    })
}

/// Tells a follower until it has gone, which needs no word, or the feed has ended.
async fn feed_to<F: Facts>(
    mut feed: Feed<F>,
    to: &Follower<'_>,
    stop: &CancellationToken,
) -> Option<Error> {
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(SIGN_OF_LIFE, feed.next()) => next,
            () = stop.cancelled() => {
                return Some(Error::new(Code::Unavailable, "the hub is going away"));
            }
        };
        let answer = match next {
            Ok(Ok(Event::Rows { seq, rows })) => json!({"seq": seq, "rows": rows}),
            Ok(Ok(Event::Updates { seq, updates })) => json!({"seq": seq, "updates": updates}),
            Ok(Err(error)) => return Some(error),
            Err(_elapsed) => json!({"seq": feed.seq(), "alive": true}),
        };
        if !to.take(&answer).await {
            return None;
        }
    }
}

/// Where answers go.
struct Follower<'a> {
    client: &'a Client,
    reply: &'a str,
    encoding: Encoding,
}

impl Follower<'_> {
    /// Whether somebody took the answer.
    async fn take(&self, answer: &Json) -> bool {
        let (encoding, payload) = match self.encoding {
            Encoding::Json => (Encoding::Json, serde_json::to_vec(answer).ok()),
            Encoding::MessagePack | Encoding::Other(_) => {
                (Encoding::MessagePack, rmp_serde::to_vec_named(answer).ok())
            }
        };
        let Some(payload) = payload else { return false };
        let said = self
            .client
            .message(self.reply)
            .encoding(encoding)
            .payload(payload)
            .timeout(DELIVER_MAX)
            .publish_acked()
            .await;
        match said {
            Ok(takers) => takers > 0,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a feed cannot be told"
                );
                false
            }
        }
    }
}
