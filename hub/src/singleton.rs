//! Work that one hub of all does at a time: whoever has its lease. When that one ends, another goes on.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::leases::{self, Acquired, Lease};
use crate::store::{Error, Store};

/// What the work is called, who wants to do it, and the times of its lease.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the lease.
    pub name: &'static str,
    /// Who wants it: another text for each process that runs.
    pub holder: String,
    /// How long others wait after its holder was heard of last.
    pub ttl: Duration,
    /// How often those who do not have it ask for it.
    pub retry: Duration,
}

impl Config {
    /// With the usual times.
    pub fn new(name: &'static str, holder: &str) -> Self {
        Self {
            name,
            holder: holder.to_owned(),
            ttl: Duration::from_secs(30),
            retry: Duration::from_secs(10),
        }
    }
}

/// Does the work whenever this process has the lease, until it is told to stop or the work returns.
///
/// The work gets the lease, to [fence](leases::fence) what it changes, and a token by which it is told to come to an
/// end, for which it has time as long as the lease lasts. If the lease is lost, the work is dropped where it stands.
pub async fn run<F, W>(store: &Store, config: &Config, stop: &CancellationToken, work: F)
where
    F: Fn(Lease, CancellationToken) -> W,
    W: Future<Output = ()>,
{
    while !stop.is_cancelled() {
        let asked = Instant::now();
        let pause = match acquire(store, config).await {
            Ok(Acquired::Lease(lease)) => {
                tracing::info!(
                    lease = config.name,
                    generation = lease.generation,
                    "this hub has the lease"
                );
                match hold(store, config, &lease, asked, stop, &work).await {
                    End::Returned => return,
                    End::Lost => Duration::ZERO,
                }
            }
            Ok(Acquired::Taken { left, .. }) => left.min(config.retry),
            Err(error) => {
                tracing::warn!(
                    lease = config.name,
                    error = &error as &dyn std::error::Error,
                    "cannot ask for the lease"
                );
                config.retry
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

enum End {
    Returned,
    Lost,
}

async fn hold<F, W>(
    store: &Store,
    config: &Config,
    lease: &Lease,
    asked: Instant,
    stop: &CancellationToken,
    work: &F,
) -> End
where
    F: Fn(Lease, CancellationToken) -> W,
    W: Future<Output = ()>,
{
    let end = tokio::select! {
        () = work(lease.clone(), stop.child_token()) => End::Returned,
        () = keep(store, config, lease, asked) => End::Lost,
    };
    match end {
        End::Returned => {
            if let Err(error) = release(store, lease).await {
                // Others get it when it is over.
                tracing::debug!(
                    lease = config.name,
                    error = &error as &dyn std::error::Error,
                    "cannot give the lease back"
                );
            }
        }
        End::Lost => tracing::warn!(lease = config.name, "this hub has lost the lease"),
    }
    end
}

/// Renews the lease as long as that works, and returns when it is over: by our clock, which began before that of the
/// database, or because the database says so.
async fn keep(store: &Store, config: &Config, lease: &Lease, asked: Instant) {
    let mut over = asked + config.ttl;
    let mut next = asked + config.ttl / 3;
    loop {
        tokio::time::sleep_until(next.min(over)).await;
        let asked = Instant::now();
        if asked >= over {
            return;
        }
        let renewed = tokio::select! {
            renewed = renew(store, config, lease) => renewed,
            () = tokio::time::sleep_until(over) => return,
        };
        match renewed {
            Ok(true) => {
                over = asked + config.ttl;
                next = asked + config.ttl / 3;
            }
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(
                    lease = config.name,
                    error = &error as &dyn std::error::Error,
                    "cannot renew the lease"
                );
                next = asked + config.ttl / 10;
            }
        }
    }
}

async fn acquire(store: &Store, config: &Config) -> Result<Acquired, Error> {
    let mut on = store.write().await?;
    let acquired = leases::acquire(&mut on, config.name, &config.holder, config.ttl).await?;
    on.commit().await?;
    Ok(acquired)
}

async fn renew(store: &Store, config: &Config, lease: &Lease) -> Result<bool, Error> {
    let mut on = store.write().await?;
    let renewed = leases::renew(&mut on, lease, config.ttl).await?;
    on.commit().await?;
    Ok(renewed)
}

async fn release(store: &Store, lease: &Lease) -> Result<(), Error> {
    let mut on = store.write().await?;
    leases::release(&mut on, lease).await?;
    on.commit().await
}
