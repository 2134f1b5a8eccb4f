//! Whether a hub is alive, and whether it is ready: what it knows about itself, for those who ask over HTTP.
//!
//! *Alive* means that starting it again would not help. *Ready* means that it should get work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{Status, Store};

/// When a hub counts as ill.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many requests may have or wait for a connection to the database until it counts as overloaded.
    pub requests_warn: usize,
    /// How long the database may be away until the hub should be started again.
    pub database_away_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            requests_warn: 300,
            database_away_max: Duration::from_mins(5),
        }
    }
}

/// What a hub knows about itself.
#[derive(Debug)]
pub struct Health {
    config: Config,
    store: Store,
    started: Instant,
    draining: AtomicBool,
    /// Since when the database does not answer.
    away: Mutex<Option<Instant>>,
    /// Services of this hub, and whether they can do what they are there for.
    services: Mutex<BTreeMap<&'static str, bool>>,
}

/// A check, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub text: String,
}

impl Health {
    /// Of a hub that has just reached its database.
    pub fn new(config: Config, store: Store) -> Self {
        Self {
            config,
            store,
            started: Instant::now(),
            draining: AtomicBool::new(false),
            away: Mutex::new(None),
            services: Mutex::default(),
        }
    }

    /// Notes whether a service can do what it is there for. A hub that should have it is not ready without it.
    pub fn service(&self, name: &'static str, there: bool) {
        self.services.lock().insert(name, there);
    }

    /// Notes whether the database answers.
    pub fn database(&self, answers: bool) {
        let mut away = self.away.lock();
        *away = match *away {
            _ if answers => None,
            Some(since) => Some(since),
            None => Some(Instant::now()),
        };
    }

    /// Notes that the hub is about to end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the database answers, as far as is known.
    pub fn is_database_there(&self) -> bool {
        self.away.lock().is_none()
    }

    /// How long the hub has run.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the store says about itself.
    pub fn store(&self) -> Status {
        self.store.status()
    }

    /// How many requests count as too many.
    pub fn requests_warn(&self) -> usize {
        self.config.requests_warn
    }

    /// Whether too many requests have or wait for a connection to the database.
    pub fn is_overloaded(&self) -> bool {
        self.store().requests >= self.config.requests_warn
    }

    /// Everything that decides whether the hub is alive.
    pub fn alive(&self) -> Vec<Check> {
        let away = self.away.lock().map(|since| since.elapsed());
        let database = match away {
            None => Check {
                ok: true,
                text: "the database answers".to_owned(),
            },
            Some(away) => Check {
                ok: away < self.config.database_away_max,
                text: format!("the database has not answered for {} s", away.as_secs()),
            },
        };
        vec![database, self.load(), self.up()]
    }

    /// Everything that decides whether the hub is ready.
    pub fn ready(&self) -> Vec<Check> {
        let there = self.is_database_there();
        let draining = self.is_draining();
        let mut checks = vec![
            Check {
                ok: there,
                text: if there {
                    "the database answers".to_owned()
                } else {
                    "the database does not answer".to_owned()
                },
            },
            Check {
                ok: !draining,
                text: if draining {
                    "about to end".to_owned()
                } else {
                    "taking work".to_owned()
                },
            },
        ];
        let services = self.services.lock();
        checks.extend(services.iter().map(|(name, there)| Check {
            ok: *there,
            text: format!("{name} {}", if *there { "works" } else { "has no broker" }),
        }));
        checks
    }

    fn load(&self) -> Check {
        let requests = self.store().requests;
        Check {
            ok: requests < self.config.requests_warn,
            text: format!(
                "{requests} requests at the database; {} are too many",
                self.config.requests_warn
            ),
        }
    }

    fn up(&self) -> Check {
        Check {
            ok: true,
            text: format!("up for {} s", self.uptime().as_secs()),
        }
    }
}
