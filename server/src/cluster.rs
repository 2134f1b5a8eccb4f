//! A node's part in a cluster, as files and settings say: who it is, whom it trusts, how to join.

pub(crate) mod folder;
pub(crate) use folder::{Folder, left};

pub(crate) mod token;
pub(crate) use token::JoinToken;

mod join;
pub(crate) use join::{Joined, join, preset, refused};

mod trust;
pub(crate) use trust::{Keys, Trusted, trusted};

mod config;
pub(crate) use config::broker_config;

use crate::discovery::Link;

/// The configuration of a node whose certificates stand beside it.
pub(crate) fn node_config(node: &str, cluster: &str, listen: &Link, seeds: &[String]) -> String {
    let seeds = toml::Value::from(seeds.to_vec());
    let listen = toml::Value::from(vec![listen.to_string()]);
    format!(
        "# Node {node} of the cluster {cluster}. `dialtone config sample` explains every setting.\n\n\
         node = {node:?}\n\
         # Where clients connect.\n\
         #listen = [\"ws://127.0.0.1:4480/\"]\n\n\
         [cluster]\n\
         name = {cluster:?}\n\
         # Where other nodes connect, and where to find them.\n\
         listen = {listen}\n\
         seeds = {seeds}\n\
         cert = \"node.pem\"\n\
         key = \"node-key.pem\"\n\
         ca = \"ca.pem\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Layer, Sources};

    #[test]
    fn the_configuration_of_a_node_is_valid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.toml");
        let listen = "quic://127.0.0.1:4434".parse().unwrap();
        let text = node_config("n1", "prod", &listen, &["dns://a:4434".to_owned()]);
        std::fs::write(&path, text).unwrap();
        let sources = Sources {
            flags: Flags::default(),
            file: Some(path),
            preset: Layer::default(),
        };
        let loaded = sources.load(&std::collections::BTreeMap::new());
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let settings = loaded.settings;
        assert_eq!(settings.cluster_listen.value, [listen]);
        assert_eq!(settings.cluster_seeds.value.len(), 1);
        assert_eq!(
            settings.cluster_cert.value,
            Some(dir.path().join("node.pem"))
        );
    }
}
