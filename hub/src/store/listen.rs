//! Hearing of what other hubs have changed: PostgreSQL tells it; of SQLite it is asked now and then, since commands
//! beside the hub may have changed something.

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;

use super::connect::Pools;
use super::error::{Error, of};
use super::{Store, outbox};

impl Store {
    /// Listens until it is told to stop, and wakes those who follow the changes. Without it, they hear of changes of
    /// this process at once and of others when they look by themselves.
    pub async fn listen(&self, stop: CancellationToken) {
        let listening = async {
            loop {
                let Err(error) = self.listen_once().await;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "changes of other hubs are heard of later, since the database does not tell them"
                );
                tokio::time::sleep(self.poll()).await;
            }
        };
        tokio::select! {
            () = listening => {}
            () = stop.cancelled() => {}
        }
    }

    async fn listen_once(&self) -> Result<std::convert::Infallible, Error> {
        match &self.shared.pools {
            Pools::Postgres(pool) => self.listen_postgres(pool).await,
            Pools::Sqlite { .. } => loop {
                self.look().await?;
                tokio::time::sleep(self.poll()).await;
            },
        }
    }

    async fn listen_postgres(&self, pool: &PgPool) -> Result<std::convert::Infallible, Error> {
        let mut listener = PgListener::connect_with(pool)
            .await
            .map_err(|error| of(&error))?;
        listener
            .listen(outbox::CHANNEL)
            .await
            .map_err(|error| of(&error))?;
        self.look().await?;
        loop {
            match listener.try_recv().await.map_err(|error| of(&error))? {
                Some(told) => {
                    if let Ok(seq) = told.payload().parse() {
                        self.shared.wake(seq);
                    }
                }
                // It was broken, and something may have been missed.
                None => self.look().await?,
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let head = outbox::head(&mut self.read().await?).await?;
        self.shared.wake(head);
        Ok(())
    }
}
