//! The folder with a node's part in a cluster: certificates, keys, and a configuration that names them.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dialtone_transport::tls::authority::{Authority, Issued, NodeName, lifetime};

use crate::files::replace;

/// What only the owner may read.
const PRIVATE: u32 = 0o600;
/// Characters of a line of PEM.
const PEM_LINE_LEN: usize = 64;

/// The folder. Nothing in it needs to exist.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Who a node is, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Cluster and node.
    pub(crate) name: NodeName,
    /// Until when the certificate is valid.
    pub(crate) ends: SystemTime,
}

impl Folder {
    /// The folder at this path.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The certificates that the cluster trusts.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    /// The authority's private key, where the authority is kept.
    pub(crate) fn ca_key(&self) -> PathBuf {
        self.path.join("ca-key.pem")
    }

    /// The node's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path.join("node.pem")
    }

    /// The node's private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.path.join("node-key.pem")
    }

    /// The broker's configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("broker.toml")
    }

    /// Makes the folder, for its owner alone.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path);
        made.with_context(|| format!("cannot make the folder {}", self.path.display()))
    }

    /// The authority that is kept here.
    pub(crate) fn authority(&self) -> anyhow::Result<Authority> {
        let certificate = read(&self.ca())?;
        let key = read(&self.ca_key())?;
        // The authority signs for the cluster whose node is here.
        let cluster = self
            .identity()?
            .with_context(|| format!("{} is missing", self.certificate().display()))?
            .name
            .cluster;
        Authority::from_pem(&cluster, &certificate, &key)
            .with_context(|| format!("cannot use the authority in {}", self.path.display()))
    }

    /// Who the node is whose certificate is here; `None` when there is no certificate.
    pub(crate) fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let path = self.certificate();
        match std::fs::read(&path) {
            Ok(pem) => identity(&pem)
                .map(Some)
                .with_context(|| format!("cannot use {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Whether the node's certificate is one of this authority's.
    pub(crate) fn is_signed_by(&self, authority: &Authority) -> anyhow::Result<bool> {
        let path = self.certificate();
        let pem =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let ders = ders(&pem, "CERTIFICATE")?;
        Ok(ders
            .first()
            .is_some_and(|der| authority.has_signed(&der.as_slice().into())))
    }

    /// Keeps an authority here.
    pub(crate) fn put_authority(&self, authority: &Authority) -> anyhow::Result<()> {
        Self::put(&self.ca_key(), &authority.key_pem())?;
        Self::put(&self.ca(), authority.certificate_pem())
    }

    /// Keeps a node's certificate and key here.
    pub(crate) fn put_node(&self, issued: &Issued) -> anyhow::Result<()> {
        self.put_pem(&issued.certificate_pem, &issued.key_pem)
    }

    /// The same from PEM. The key goes first: a certificate that is there has its key.
    pub(crate) fn put_pem(&self, certificate: &str, key: &str) -> anyhow::Result<()> {
        Self::put(&self.key(), key)?;
        Self::put(&self.certificate(), certificate)
    }

    /// Keeps what the cluster trusts here.
    pub(crate) fn put_ca(&self, pem: &str) -> anyhow::Result<()> {
        Self::put(&self.ca(), pem)
    }

    /// Writes the broker's configuration unless there is one; whether it did.
    pub(crate) fn put_config_once(&self, text: &str) -> anyhow::Result<bool> {
        let path = self.config();
        let there = path
            .try_exists()
            .with_context(|| format!("cannot look at {}", path.display()))?;
        if !there {
            Self::put(&path, text)?;
        }
        Ok(!there)
    }

    fn put(path: &Path, text: &str) -> anyhow::Result<()> {
        replace(path, text.as_bytes(), PRIVATE)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Who a certificate chain in PEM is for.
pub(crate) fn identity(pem: &[u8]) -> anyhow::Result<Identity> {
    let first = ders(pem, "CERTIFICATE")?
        .into_iter()
        .next()
        .context("it holds no certificate")?
        .into();
    Ok(Identity {
        name: NodeName::of(&first)?,
        ends: lifetime(&first)?.1,
    })
}

/// How long a point in time is away; zero when it is over.
pub(crate) fn left(until: SystemTime, now: SystemTime) -> Duration {
    until.duration_since(now).unwrap_or_default()
}

/// Everything with this label in a PEM file.
pub(crate) fn ders(pem: &[u8], label: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(pem).context("it is no PEM file")?;
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let mut found = Vec::new();
    for block in text.split(begin.as_str()).skip(1) {
        let (body, _) = block
            .split_once(end.as_str())
            .with_context(|| format!("it has no {end}"))?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).context("it is no PEM file")?;
        found.push(der);
    }
    Ok(found)
}

/// Something in DER as PEM.
pub(crate) fn to_pem(der: &[u8], label: &str) -> String {
    let body = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE_LEN));
        pem.extend([line, "\n"]);
        rest = after;
    }
    pem.extend(["-----END ", label, "-----\n"]);
    pem
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn pem_is_written_as_others_write_it() {
        let issued = Authority::generate("prod")
            .unwrap()
            .issue("n1", Duration::from_hours(1))
            .unwrap();
        for (pem, label) in [
            (&issued.certificate_pem, "CERTIFICATE"),
            (&issued.key_pem, "PRIVATE KEY"),
        ] {
            let ders = ders(pem.as_bytes(), label).unwrap();
            assert_eq!(ders.len(), 1);
            assert_eq!(to_pem(&ders[0], label).trim(), pem.trim());
        }
        assert_eq!(
            ders(b"nothing here", "CERTIFICATE").unwrap(),
            [[0_u8; 0]; 0]
        );
        ders(b"-----BEGIN CERTIFICATE-----\nAAAA", "CERTIFICATE").unwrap_err();
        ders(b"\xff", "CERTIFICATE").unwrap_err();
    }

    #[test]
    fn what_is_kept_is_found_again_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path().join("a/b"));
        assert_eq!(folder.identity().unwrap(), None);
        folder.create().unwrap();
        let authority = Authority::generate("prod").unwrap();
        folder.put_authority(&authority).unwrap();
        folder
            .put_node(&authority.issue("n1", Duration::from_hours(1)).unwrap())
            .unwrap();
        assert!(folder.put_config_once("a").unwrap());
        assert!(!folder.put_config_once("b").unwrap());

        let identity = folder.identity().unwrap().unwrap();
        assert_eq!(identity.name.to_string(), "node n1 of cluster prod");
        assert_eq!(folder.authority().unwrap().cluster(), "prod");
        assert_eq!(read(&folder.config()).unwrap(), "a");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), PRIVATE);
        }
    }
}
