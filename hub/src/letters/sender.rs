//! What sends the letters that wait, in every hub.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::route::Route;
use super::smtp::{Refused, SENDING_MAX, Transport};
use super::{Kind, Letter, Letters, folder};
use crate::email::EmailAddress;
use crate::store::letters::{self as stored, Claimed};
use crate::store::{Error, Store};

/// Most characters of a reason that are kept.
const REASON_MAX: usize = 500;

/// How long letters are kept that were given up, for those who look after the site.
const GIVEN_UP_KEEP: Duration = Duration::from_hours(24 * 7);

/// How eagerly letters are sent.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many letters are claimed together.
    pub batch: i64,
    /// How many of them are sent at the same time.
    pub at_once: usize,
    /// How often it is looked whether one is due: for those that other hubs leave behind, and those that had failed.
    pub poll: Duration,
    /// How long to wait after the first failure of a letter; twice as long after each further one.
    pub retry_first: Duration,
    /// The longest wait.
    pub retry_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch: 20,
            at_once: 2,
            poll: Duration::from_secs(5),
            retry_first: Duration::from_secs(30),
            retry_max: Duration::from_hours(1),
        }
    }
}

impl Config {
    fn pause(&self, attempt: i64) -> Duration {
        let doubled = u32::try_from(attempt.clamp(1, 20) - 1).unwrap_or(0);
        let pause = self.retry_first.saturating_mul(1 << doubled);
        pause.min(self.retry_max)
    }
}

/// Sends letters.
#[derive(Debug)]
pub struct Sender {
    store: Store,
    letters: Letters,
    config: Config,
    transports: parking_lot::Mutex<Vec<std::sync::Arc<Transport>>>,
}

/// Most ways to servers that are kept: one for most letters, and one for those with which a password is set anew.
const TRANSPORTS_MAX: usize = 2;

impl Sender {
    /// Sends what is put into this store.
    pub fn new(store: Store, letters: Letters, config: Config) -> Self {
        Self {
            store,
            letters,
            config,
            transports: parking_lot::Mutex::default(),
        }
    }

    /// Sends letters until it is told to stop: those that are being sent then are finished, and others are left to
    /// other hubs.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.round_until(&stop).await {
                // As many as there may be at once: there may be more.
                Ok(tried) if i64::try_from(tried).unwrap_or(i64::MAX) >= self.config.batch => {
                    continue;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "letters wait, since the database does not answer"
                ),
            }
            tokio::select! {
                () = self.letters.new.notified() => {}
                () = tokio::time::sleep(self.config.poll) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Tries to send those that are due, a [batch](Config::batch) at most, and returns how many were claimed.
    ///
    /// # Errors
    /// When the database does not answer. What was sent meanwhile may be sent once more.
    pub async fn round(&self) -> Result<usize, Error> {
        self.round_until(&CancellationToken::new()).await
    }

    /// The same, until it is told to stop: those that were claimed and not begun are given back then.
    ///
    /// # Errors
    /// As for [`round`](Self::round).
    pub async fn round_until(&self, stop: &CancellationToken) -> Result<usize, Error> {
        let mut on = self.store.write().await?;
        let claimed = stored::claim(&mut on, self.config.batch, self.claim_lasts()).await?;
        on.commit().await?;
        let tried = claimed.len();
        let results: Vec<Result<(), Error>> = futures_util::stream::iter(claimed)
            .map(|claimed| self.try_one(claimed, stop))
            .buffer_unordered(self.config.at_once.max(1))
            .collect()
            .await;
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(tried)
    }

    /// Long enough for a whole batch, also if each letter takes as long as it may.
    fn claim_lasts(&self) -> Duration {
        let batch = usize::try_from(self.config.batch).unwrap_or(1);
        let rows = batch.div_ceil(self.config.at_once.max(1));
        SENDING_MAX * u32::try_from(rows + 1).unwrap_or(u32::MAX)
    }

    async fn try_one(&self, claimed: Claimed, stop: &CancellationToken) -> Result<(), Error> {
        if stop.is_cancelled() {
            let mut on = self.store.write().await?;
            stored::release(&mut on, claimed.id, claimed.attempt).await?;
            return on.commit().await;
        }
        let sent = self.send(&claimed).await;
        let mut on = self.store.write().await?;
        match sent {
            Ok(()) => {
                stored::sent(&mut on, claimed.id, claimed.attempt).await?;
            }
            Err(refused) => self.note(&mut on, &claimed, &refused).await?,
        }
        on.commit().await
    }

    async fn send(&self, claimed: &Claimed) -> Result<(), Refused> {
        let to: EmailAddress = claimed.to.parse().map_err(|error| Refused {
            reason: format!("{error}"),
            forever: true,
        })?;
        let letter = Letter {
            to,
            subject: claimed.subject.clone(),
            text: claimed.body.clone(),
        };
        let route = self.letters.route(Kind::from_name(&claimed.kind));
        let route = route.map_err(|error| waits(error.to_string()))?;
        match route {
            Route::None => Err(waits("the site has no way to send letters".to_owned())),
            Route::Folder(folder) => into_folder(folder, claimed.id, letter).await,
            Route::Smtp(server) => {
                let transport = self.transport(&server)?;
                let site = self.letters.site_name();
                transport.send(claimed.id, &site, &letter).await
            }
        }
    }

    /// The way to a server, which is kept as long as the settings stay.
    fn transport(&self, server: &super::Server) -> Result<std::sync::Arc<Transport>, Refused> {
        let mut transports = self.transports.lock();
        if let Some(found) = transports.iter().find(|one| one.is_to(server)) {
            return Ok(std::sync::Arc::clone(found));
        }
        let new = std::sync::Arc::new(Transport::new(server)?);
        if transports.len() >= TRANSPORTS_MAX {
            transports.remove(0);
        }
        transports.push(std::sync::Arc::clone(&new));
        Ok(new)
    }

    /// When a letter is tried again, if that makes sense.
    async fn note(
        &self,
        on: &mut crate::store::Transaction,
        claimed: &Claimed,
        refused: &Refused,
    ) -> Result<(), Error> {
        let reason: String = refused.reason.chars().take(REASON_MAX).collect();
        let pause = self.config.pause(claimed.attempt);
        let (id, attempt) = (claimed.id, claimed.attempt);
        if refused.forever || pause >= claimed.left {
            tracing::error!(%id, kind = claimed.kind, attempt, reason, "a letter could not be sent");
            stored::give_up(on, id, attempt, &reason, GIVEN_UP_KEEP).await?;
        } else {
            tracing::warn!(
                %id,
                kind = claimed.kind,
                attempt,
                reason,
                next_seconds = pause.as_secs(),
                "a letter was not sent and is tried again"
            );
            stored::failed(on, id, attempt, &reason, pause).await?;
        }
        Ok(())
    }
}

/// Sends a letter at once and tells what comes of it, for those who set up a site.
///
/// # Errors
/// Why it was not sent, in words for people.
pub async fn send_now(letters: &Letters, letter: Letter) -> Result<(), String> {
    let id = Uuid::new_v4();
    let route = letters.route(Kind::Notice);
    let done = match route.map_err(|error| error.to_string())? {
        Route::None => return Err("the site has no way to send letters: see the settings email_enabled and email_smtp_server".to_owned()),
        Route::Folder(folder) => into_folder(folder, id, letter).await,
        Route::Smtp(server) => match Transport::new(&server) {
            Ok(transport) => transport.send(id, &letters.site_name(), &letter).await,
            Err(refused) => Err(refused),
        },
    };
    done.map_err(|refused| refused.reason)
}

async fn into_folder(path: std::path::PathBuf, id: Uuid, letter: Letter) -> Result<(), Refused> {
    let written = tokio::task::spawn_blocking(move || folder::write(&path, id, &letter)).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(waits(format!("the folder for letters: {error}"))),
        Err(error) => Err(waits(error.to_string())),
    }
}

fn waits(reason: String) -> Refused {
    Refused {
        reason,
        forever: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let config = Config::default();
        let seconds = |attempt| config.pause(attempt).as_secs();
        assert_eq!([1, 2, 3, 4].map(seconds), [30, 60, 120, 240]);
        assert_eq!([8, 9, 100, i64::MAX].map(seconds), [3600; 4]);
        assert_eq!([0, -1].map(seconds), [30; 2]);
    }
}
