//! From settings to the broker's own types: listeners, certificates, users, limits.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use dialtone_broker::auth::Authenticate;
use dialtone_broker::auth::certificate::Certificates;
use dialtone_broker::auth::file::FileAuth;
use dialtone_broker::auth::open::Open;
use dialtone_broker::auth::system::SystemPassword;
use dialtone_broker::{Config, Listen, OutboxConfig};
use dialtone_protocol::Limits;
use dialtone_protocol::session::Timing;
use dialtone_transport::ListenOptions;
use dialtone_transport::tls::ServerTls;
use tokio::runtime::Handle;

use crate::cluster::{Trusted, broker_config};
use crate::config::{Place, Settings, Size};

/// Who may connect.
#[derive(Clone)]
pub(crate) struct Auth {
    /// For the broker.
    pub(crate) provider: Arc<dyn Authenticate>,
    /// The users, where they are in a file that can be read again.
    pub(crate) users: Option<Arc<FileAuth>>,
}

/// The provider that the settings ask for.
pub(crate) fn auth(settings: &Settings) -> anyhow::Result<Auth> {
    let mut auth = users(settings)?;
    if let Some(password) = &settings.system_password.value {
        auth.provider = Arc::new(SystemPassword::new(password, auth.provider));
    }
    Ok(auth)
}

fn users(settings: &Settings) -> anyhow::Result<Auth> {
    if let Some(path) = &settings.users.value {
        let users = Arc::new(FileAuth::open(path, limits(settings))?);
        return Ok(Auth {
            provider: Arc::<FileAuth>::clone(&users),
            users: Some(users),
        });
    }
    let provider: Arc<dyn Authenticate> = if settings.open_to_everyone.value {
        Arc::new(Open::everywhere())
    } else if settings.tls_client_ca.value.is_some() {
        Arc::new(Certificates::any())
    } else {
        Arc::new(Open::new())
    };
    Ok(Auth {
        provider,
        users: None,
    })
}

/// The certificate, where a listener needs one.
pub(crate) fn tls(settings: &Settings) -> anyhow::Result<Option<ServerTls>> {
    if !settings.listen.value.iter().any(Place::is_encrypted) {
        return Ok(None);
    }
    let tls = match (&settings.tls_cert.value, &settings.tls_key.value) {
        (Some(cert), Some(key)) => {
            ServerTls::from_pem_files(cert, key, settings.tls_client_ca.value.as_deref())
        }
        (Some(_), None) | (None, Some(_) | None) => {
            ServerTls::development(settings.tls_dev.value.as_deref())
        }
    };
    tls.map(Some).context("cannot use the certificate")
}

/// What connections are granted.
pub(crate) fn limits(settings: &Settings) -> Limits {
    let len = |Size(bytes)| u32::try_from(bytes).unwrap_or(u32::MAX);
    Limits {
        frame_len_max: len(settings.frame_len_max.value),
        message_len_max: settings.message_len_max.value.0,
        fragment_len_max: len(settings.fragment_len_max.value),
        fragmented_max: settings.fragmented_max.value,
        subscriptions_max: settings.subscriptions_max.value,
        requests_max: settings.requests_max.value,
        messages_per_second_max: settings.messages_per_second_max.value,
        bytes_per_second_max: settings.bytes_per_second_max.value.0,
    }
}

/// The broker's configuration. Connections are spread over `shards`; `trusted` is how a node of a cluster knows others.
pub(crate) fn broker(
    settings: &Settings,
    tls: Option<&ServerTls>,
    trusted: Option<&Trusted>,
    shards: Vec<Handle>,
) -> Config {
    let cluster = settings.cluster_name.value.as_deref().zip(trusted);
    let options = ListenOptions {
        tls: tls.cloned(),
        handshake_timeout: settings.handshake_max.value.get(),
        allowed_origins: settings.allowed_origins.value.clone(),
        ..ListenOptions::default()
    };
    let listen = |endpoint: &dialtone_transport::Endpoint| Listen {
        endpoint: endpoint.clone(),
        options: options.clone(),
    };
    let places = settings.listen.value.iter();
    Config {
        node: node(settings, trusted),
        listen: places.filter_map(Place::peers).map(listen).collect(),
        limits: limits(settings),
        connections_max: settings.connections_max.value,
        connections_per_identity_max: settings.connections_per_identity_max.value,
        handshakes_max: settings.handshakes_max.value,
        interest_waiting_max: settings.interest_waiting_max.value,
        timing: Timing {
            handshake_max: settings.handshake_max.value.get(),
            ping_interval: settings.ping_interval.value.get(),
            pong_max: settings.pong_max.value.get(),
            ahead_max: settings.ahead_max.value.get(),
        },
        outbox: outbox(settings),
        drain_grace: settings.drain_grace.value.get(),
        advertise: settings
            .advertise
            .value
            .iter()
            .map(ToString::to_string)
            .collect(),
        cluster: cluster.map(|(name, trusted)| broker_config(settings, name, trusted)),
        shards,
    }
}

/// What the settings say, or the node's certificate.
fn node(settings: &Settings, trusted: Option<&Trusted>) -> Option<String> {
    let own = trusted.and_then(|trusted| trusted.node.clone());
    settings.node.value.clone().or(own)
}

fn outbox(settings: &Settings) -> OutboxConfig {
    let len = |Size(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX);
    OutboxConfig {
        high_bytes: len(settings.outbox_high.value),
        low_bytes: len(settings.outbox_low.value),
        max_bytes: len(settings.outbox_max.value),
        stall_max: settings.stall_max.value.get(),
        stall_progress: settings.stall_progress.value.get(),
        slow_max: settings.slow_max.value.get(),
        ..OutboxConfig::default()
    }
}

/// Where this user's data lives unless told otherwise (XDG base directories).
pub(crate) fn data_dir(strings: &dyn crate::config::Strings) -> anyhow::Result<PathBuf> {
    xdg(strings, "XDG_DATA_HOME", ".local/share")
}

/// Where this user's configuration lives (XDG base directories).
pub(crate) fn config_dir(strings: &dyn crate::config::Strings) -> anyhow::Result<PathBuf> {
    xdg(strings, "XDG_CONFIG_HOME", ".config")
}

fn xdg(
    strings: &dyn crate::config::Strings,
    variable: &str,
    fallback: &str,
) -> anyhow::Result<PathBuf> {
    let absolute = strings
        .get(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = match absolute {
        Some(base) => base,
        None => {
            let home = strings
                .get("HOME")
                .with_context(|| format!("neither {variable} nor HOME is set"))?;
            PathBuf::from(home).join(fallback)
        }
    };
    Ok(base.join("dialtone"))
}
