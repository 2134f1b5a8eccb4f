//! Joining: from a token to files, and to the settings that name them.

use std::time::SystemTime;

use anyhow::Context as _;
use dialtone_transport::tls::authority::NodeName;

use super::folder::{identity, to_pem};
use super::token::TokenError;
use super::{Folder, JoinToken};
use crate::config::{Layer, Origin, Raw};
use crate::exit::{Exit, Failure};

/// What joining has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// The folder holds this node's part in the cluster from here on.
    New,
    /// The same node's certificate was replaced by one that is valid for longer.
    Renewed,
    /// The folder holds a certificate of the same node that is valid for as long.
    Already,
}

/// Takes over what a token holds. What has joined before needs no valid token, so that a broker may be started with the
/// same one again and again.
pub(crate) fn join(token: &JoinToken, folder: &Folder, now: SystemTime) -> Result<Joined, Failure> {
    let name = NodeName {
        cluster: token.cluster.clone(),
        node: token.node.clone(),
    };
    let chain = pem_of(&token.certificates, "CERTIFICATE");
    let offered = identity(chain.as_bytes())
        .ok()
        .filter(|offered| offered.name == name)
        .ok_or_else(|| refused(TokenError::Damaged("its certificate is for somebody else")))?;
    let joined = match folder.identity()? {
        None => Joined::New,
        Some(own) if own.name != name => return Err(taken(folder, &own.name, &name)),
        Some(own) if own.ends >= offered.ends => return Ok(Joined::Already),
        Some(_) => Joined::Renewed,
    };
    match token.check_expiry(now) {
        Ok(()) => {}
        Err(_) if joined == Joined::Renewed => return Ok(Joined::Already),
        Err(expired) => return Err(refused(expired)),
    }
    folder.create()?;
    folder.put_ca(&pem_of(&token.authorities, "CERTIFICATE"))?;
    folder.put_pem(&chain, &to_pem(&token.key, "PRIVATE KEY"))?;
    Ok(joined)
}

fn pem_of(ders: &[Vec<u8>], label: &str) -> String {
    ders.iter().map(|der| to_pem(der, label)).collect()
}

/// A token that cannot be used, with what to do.
pub(crate) fn refused(error: TokenError) -> Failure {
    let hint = match &error {
        TokenError::NotOne | TokenError::Damaged(_) | TokenError::Version => {
            "`dialtone cluster join-token` prints one, in one line"
        }
        TokenError::Expired { .. } => {
            "make a new one with `dialtone cluster join-token` where the cluster's authority is kept"
        }
    };
    Failure::new(Exit::Usage, error).hint(hint)
}

fn taken(folder: &Folder, own: &NodeName, other: &NodeName) -> Failure {
    Failure::from(anyhow::anyhow!(
        "{} belongs to {own}, but the token is for {other}",
        folder.path().display()
    ))
    .hint("name another folder, or remove that one if the node is gone")
}

/// The settings of a broker that has joined with a token.
pub(crate) fn preset(token: &JoinToken, folder: &Folder, layer: &mut Layer) -> anyhow::Result<()> {
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    for (key, text) in [
        ("node", token.node.clone()),
        ("cluster.name", token.cluster.clone()),
        ("cluster.seeds", token.seeds.join(",")),
        ("cluster.cert", path(folder.certificate())),
        ("cluster.key", path(folder.key())),
        ("cluster.ca", path(folder.ca())),
    ] {
        layer
            .set(key, Raw::Texts(&[text]), Origin::Default)
            .map_err(|error| anyhow::anyhow!("{key}: {error}"))
            .context("the join token cannot be used")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use dialtone_transport::tls::authority::Authority;

    use super::super::folder::ders;
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    struct Scene {
        dir: tempfile::TempDir,
        authority: Authority,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                authority: Authority::generate("prod").unwrap(),
            }
        }

        fn folder(&self) -> Folder {
            Folder::at(self.dir.path().join("cluster"))
        }

        fn token(&self, node: &str, validity: Duration) -> JoinToken {
            let issued = self.authority.issue(node, validity).unwrap();
            let one = |pem: &str, label| ders(pem.as_bytes(), label).unwrap();
            let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + HOUR;
            JoinToken {
                cluster: "prod".to_owned(),
                node: node.to_owned(),
                authorities: one(self.authority.certificate_pem(), "CERTIFICATE"),
                certificates: one(&issued.certificate_pem, "CERTIFICATE"),
                key: one(&issued.key_pem, "PRIVATE KEY").remove(0),
                seeds: vec!["quic://10.0.0.1:4434".to_owned()],
                expires: expires.as_secs(),
            }
        }
    }

    #[test]
    fn the_same_token_joins_once_and_goes_on_after_its_expiry() {
        let scene = Scene::new();
        let (folder, now) = (scene.folder(), SystemTime::now());
        let token = scene.token("n2", HOUR);
        let late = join(&token, &folder, now + 2 * HOUR).unwrap_err();
        assert!(late.to_string().contains("expired at"), "{late}");
        assert!(!folder.path().exists());
        assert_eq!(join(&token, &folder, now).unwrap(), Joined::New);
        assert_eq!(join(&token, &folder, now).unwrap(), Joined::Already);
        assert_eq!(
            join(&token, &folder, now + 2 * HOUR).unwrap(),
            Joined::Already
        );
    }

    #[test]
    fn a_later_token_renews_the_certificate() {
        let scene = Scene::new();
        let (folder, now) = (scene.folder(), SystemTime::now());
        join(&scene.token("n2", HOUR), &folder, now).unwrap();
        let before = folder.identity().unwrap().unwrap();
        let later = scene.token("n2", 3 * HOUR);
        assert_eq!(
            join(&later, &folder, now + 2 * HOUR).unwrap(),
            Joined::Already,
            "a token that has expired renews nothing"
        );
        assert_eq!(join(&later, &folder, now).unwrap(), Joined::Renewed);
        assert!(folder.identity().unwrap().unwrap().ends > before.ends);
    }

    #[test]
    fn a_folder_of_another_node_is_left_alone() {
        let scene = Scene::new();
        let (folder, now) = (scene.folder(), SystemTime::now());
        join(&scene.token("n2", HOUR), &folder, now).unwrap();
        let error = join(&scene.token("n3", 2 * HOUR), &folder, now).unwrap_err();
        assert!(
            error.to_string().contains(
                "belongs to node n2 of cluster prod, but the token is for node n3 of cluster prod"
            ),
            "{error}"
        );
        let mut forged = scene.token("n2", 2 * HOUR);
        forged.node = "n4".to_owned();
        let error = join(&forged, &folder, now).unwrap_err();
        assert!(error.to_string().contains("for somebody else"), "{error}");
    }

    #[test]
    fn the_settings_follow_from_the_token() {
        let scene = Scene::new();
        let mut layer = Layer::default();
        preset(&scene.token("n2", HOUR), &scene.folder(), &mut layer).unwrap();
        let settings = layer.resolve();
        assert_eq!(settings.node.value.as_deref(), Some("n2"));
        assert_eq!(settings.cluster_name.value.as_deref(), Some("prod"));
        assert_eq!(settings.cluster_seeds.value.len(), 1);
        assert_eq!(
            settings.cluster_cert.value,
            Some(scene.folder().certificate())
        );
    }
}
