//! How a node knows the others, and they it: by certificates of the cluster's authority, or by a shared secret.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use dialtone_broker::cluster::{Secret, Trust};
use dialtone_transport::tls::{ClientCertificate, ClientTls, Roots, ServerTls};

use super::folder::identity;
use crate::config::{Settings, Strings};

/// Longest secret, in bytes.
const SECRET_LEN_MAX: u64 = 4096;

/// The environment variable that holds a secret.
const SECRET_VARIABLE: &str = "DIALTONE_CLUSTER_SECRET";

/// What is shown to other nodes, on both sides of a link. Clones share it; it can be read again.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// To those that dial this node.
    pub(crate) server: ServerTls,
    /// To those that this node dials.
    pub(crate) client: ClientTls,
    /// Whether it comes from files.
    pub(crate) files: bool,
}

/// How a node knows the others.
#[derive(Debug)]
pub(crate) struct Trusted {
    /// For the broker.
    pub(crate) trust: Trust,
    /// The secret shared with other clusters.
    pub(crate) gateway_secret: Option<Secret>,
    /// Encryption, and with certificates the proof as well.
    pub(crate) keys: Keys,
    /// The node's name, where a certificate says it.
    pub(crate) node: Option<String>,
}

/// What the settings say; `None` for a node that stands alone.
pub(crate) fn trusted(
    settings: &Settings,
    strings: &dyn Strings,
) -> anyhow::Result<Option<Trusted>> {
    let Some(cluster) = &settings.cluster_name.value else {
        return Ok(None);
    };
    let secret = match &settings.cluster_secret_file.value {
        Some(path) => Some(secret_of(path)?),
        None => strings
            .get(SECRET_VARIABLE)
            .map(|text| secret(text.as_bytes()).context(SECRET_VARIABLE))
            .transpose()?,
    };
    let gateway_secret = match &settings.cluster_gateway_secret_file.value {
        Some(path) => Some(secret_of(path)?),
        None => secret.clone(),
    };
    let files = (
        &settings.cluster_cert.value,
        &settings.cluster_key.value,
        &settings.cluster_ca.value,
    );
    if let (Some(cert), Some(key), Some(ca)) = files {
        let node = check_identity(settings, cluster, cert)?;
        return Ok(Some(Trusted {
            trust: Trust::Certificates,
            gateway_secret: None,
            keys: keys(cert, key, ca).context("cannot use the certificate of this node")?,
            node: Some(node),
        }));
    }
    let secret = secret.with_context(|| {
        format!(
            "nothing says how the nodes of cluster {cluster:?} know each other: it needs cluster.cert, cluster.key and \
             cluster.ca, or cluster.secret_file, or {SECRET_VARIABLE}"
        )
    })?;
    Ok(Some(Trusted {
        trust: Trust::Secret(secret),
        gateway_secret,
        keys: Keys {
            // It only encrypts: the secret proves who is at the other end of exactly this connection.
            server: ServerTls::development(None).context("cannot make a certificate")?,
            client: ClientTls::new(Roots::Insecure),
            files: false,
        },
        node: None,
    }))
}

fn keys(cert: &Path, key: &Path, ca: &Path) -> anyhow::Result<Keys> {
    let own = ClientCertificate::from_pem_files(cert, key)?;
    Ok(Keys {
        server: ServerTls::from_pem_files(cert, key, Some(ca))?,
        client: ClientTls::with_certificate(Roots::Pem(ca.to_owned()), Some(own)),
        files: true,
    })
}

/// The node that the certificate is for, which must be the one that the settings mean.
fn check_identity(settings: &Settings, cluster: &str, cert: &Path) -> anyhow::Result<String> {
    let pem = std::fs::read(cert).with_context(|| format!("cannot read {}", cert.display()))?;
    let own = identity(&pem)
        .with_context(|| format!("cannot use {}", cert.display()))?
        .name;
    ensure!(
        own.cluster == cluster,
        "{} is for {own}, but cluster.name is {cluster:?}",
        cert.display()
    );
    if let Some(node) = &settings.node.value {
        ensure!(
            own.node == *node,
            "{} is for {own}, but node is {node:?}",
            cert.display()
        );
    }
    Ok(own.node)
}

fn secret_of(path: &Path) -> anyhow::Result<Secret> {
    let about = || format!("cannot use the secret in {}", path.display());
    let meta = std::fs::metadata(path).with_context(about)?;
    if meta.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others on this machine may read the cluster's secret");
    }
    if meta.len() > SECRET_LEN_MAX {
        return Err(anyhow::anyhow!("it has more than {SECRET_LEN_MAX} bytes")).with_context(about);
    }
    let bytes = std::fs::read(path).with_context(about)?;
    secret(&bytes).with_context(about)
}

/// Without the white space around it, which editors leave.
fn secret(bytes: &[u8]) -> anyhow::Result<Secret> {
    Ok(Secret::new(bytes.trim_ascii())?)
}
