//! What `SIGHUP` does: reads certificates, users, limits, quotas, seeds and the log level again. Whatever cannot be
//! used is logged and stays as it was; connections stay in any case.

use std::sync::Arc;

use dialtone_broker::Handle;
use dialtone_broker::auth::file::FileAuth;
use dialtone_transport::tls::ServerTls;
use tokio::sync::{Notify, watch};

use crate::assemble;
use crate::cluster::Keys;
use crate::config::{Environment, FIELDS, Settings, Sources};
use crate::discovery::Seed;
use crate::expiry::{self, Shown};
use crate::persist::{self, QUOTA_KEYS};
use crate::telemetry::Logs;

/// Everything that can be read again.
pub(crate) struct Reload {
    /// Where the configuration came from, and comes from again.
    pub(crate) sources: Sources,
    /// The configuration in use.
    pub(crate) settings: Settings,
    /// The certificate.
    pub(crate) tls: Option<ServerTls>,
    /// The users.
    pub(crate) users: Option<Arc<FileAuth>>,
    /// What a node of a cluster shows to others.
    pub(crate) keys: Option<Keys>,
    /// The logs.
    pub(crate) logs: Logs,
    /// The broker.
    pub(crate) broker: Handle,
    /// The node of persist in this process, if there is one.
    pub(crate) streams: Option<dialtone_persist::Handle>,
    /// Has the certificate of the hub's address read again, if there is a hub.
    pub(crate) https: Option<Arc<Notify>>,
    /// Tells who looks for other nodes where.
    pub(crate) seeds: watch::Sender<Vec<Seed>>,
}

/// Settings that are taken over while the broker runs. Files keep their names, and are read again.
const LIVE: [&str; 10] = [
    "cluster.seeds",
    "limits.frame_len_max",
    "limits.message_len_max",
    "limits.fragment_len_max",
    "limits.fragmented_max",
    "limits.subscriptions_max",
    "limits.requests_max",
    "limits.messages_per_second_max",
    "limits.bytes_per_second_max",
    "log.level",
];

/// Whether a setting is taken over while the process runs.
fn is_live(key: &str, has_streams: bool) -> bool {
    LIVE.contains(&key) || (has_streams && QUOTA_KEYS.contains(&key))
}

impl Reload {
    /// Reads everything again.
    pub(crate) fn run(&mut self) {
        tracing::info!("reloading");
        if let Some(https) = &self.https {
            https.notify_one();
        }
        let (settings, certificate, users) = (self.settings(), self.certificate(), self.users());
        let keys = self.keys();
        if settings && certificate && users && keys {
            tracing::info!("reloaded");
        } else {
            tracing::warn!("not everything could be read again; the rest is in use");
        }
    }

    /// Whether they could be used; as with the others.
    fn settings(&mut self) -> bool {
        let loaded = self.sources.load(&Environment);
        if !loaded.problems.is_empty() {
            for problem in &loaded.problems {
                tracing::error!("{problem}");
            }
            tracing::error!("the configuration stays as it was");
            return false;
        }
        self.warn_about_fixed(&loaded.settings);
        let limits = assemble::limits(&loaded.settings);
        if limits != assemble::limits(&self.settings) {
            self.broker.set_limits(limits);
            tracing::info!("new limits apply to new connections");
        }
        self.take_seeds(&loaded.settings);
        let (quotas, has_streams) = (self.quotas(&loaded.settings), self.streams.is_some());
        let level = &loaded.settings.log_level.value;
        if *level != self.settings.log_level.value {
            match self.logs.set_level(level) {
                Ok(()) => tracing::info!(level, "log level changed"),
                Err(error) => tracing::error!("{error:#}"),
            }
        }
        self.settings
            .take(loaded.settings, |key| is_live(key, has_streams));
        quotas
    }

    /// Whether they could be used. The file is read again even when its name is the same.
    fn quotas(&self, newer: &Settings) -> bool {
        let Some(streams) = &self.streams else {
            return true;
        };
        match persist::quotas(newer) {
            Ok(quotas) => streams.set_quotas(quotas),
            Err(error) => {
                tracing::error!("{:#}", error.context("the quotas stay as they were"));
                return false;
            }
        }
        true
    }

    fn take_seeds(&self, newer: &Settings) {
        let seeds = &newer.cluster_seeds.value;
        if *seeds != self.settings.cluster_seeds.value {
            tracing::info!(count = seeds.len(), "other seeds are used from now on");
            self.seeds.send_replace(seeds.clone());
        }
    }

    fn warn_about_fixed(&self, newer: &Settings) {
        let pairs = self.settings.shown().into_iter().zip(newer.shown());
        for (field, ((old, _), (new, _))) in FIELDS.iter().zip(pairs) {
            if old != new && !is_live(field.key, self.streams.is_some()) {
                tracing::warn!(
                    key = field.key,
                    "this setting changes with the next start only"
                );
            }
        }
    }

    fn certificate(&self) -> bool {
        let Some(tls) = &self.tls else { return true };
        let before = tls.fingerprint();
        let read = tls.reload();
        let used = read.is_ok();
        match read {
            Ok(()) if tls.fingerprint() == before => {
                tracing::info!("certificates read again, the server's is unchanged");
            }
            Ok(()) => tracing::info!(fingerprint = %tls.fingerprint(), "certificate replaced"),
            Err(error) => {
                tracing::error!(
                    "{:#}",
                    anyhow::Error::from(error).context("the certificates stay as they were")
                );
            }
        }
        expiry::tell(tls, Shown::Clients);
        used
    }

    fn keys(&self) -> bool {
        let Some(keys) = self.keys.as_ref().filter(|keys| keys.files) else {
            return true;
        };
        let before = keys.server.fingerprint();
        // Both sides or none: a node that is one to some and another one to others would be hard to understand.
        let read = keys.client.reload().and_then(|()| keys.server.reload());
        let used = read.is_ok();
        match read {
            Ok(()) if keys.server.fingerprint() == before => {
                tracing::info!("cluster certificate read again, unchanged");
            }
            Ok(()) => tracing::info!("cluster certificate replaced; new links use it"),
            Err(error) => tracing::error!(
                "{:#}",
                anyhow::Error::from(error).context("the cluster certificate stays as it was")
            ),
        }
        expiry::tell(&keys.server, Shown::Nodes);
        used
    }

    fn users(&self) -> bool {
        let Some(users) = &self.users else {
            return true;
        };
        let read = users.reload_with(assemble::limits(&self.settings));
        let used = read.is_ok();
        match read {
            Ok(changed) => {
                for identity in changed.affected() {
                    self.broker.permissions_changed(Some(identity));
                }
                let (added, removed) = (changed.added.len(), changed.removed.len());
                tracing::info!(
                    added,
                    altered = changed.altered.len(),
                    removed,
                    "users read again"
                );
            }
            Err(error) => tracing::error!(
                "{:#}",
                anyhow::Error::from(error).context("the users stay as they were")
            ),
        }
        used
    }
}
