//! How projects are run in a cluster: what stands in the file that an operator writes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

/// How projects are run in a cluster. A key that is not known is an error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The image of projects: it must have `sh`, this program in its search path unless `command` says otherwise, and
    /// `rsync` for copies between projects.
    pub image: String,
    /// Other images, by the name of the software that a project asks for (`compute_image`).
    #[serde(default)]
    pub images: BTreeMap<String, String>,
    /// The namespace of pods, claims and secrets; by default that of the credentials.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What tells the objects of this site from those of others in the same namespace, as the value of a label.
    #[serde(default = "site")]
    pub site: String,
    /// The program of a project with its arguments; `--host` and `--raw-port` are added.
    #[serde(default = "command")]
    pub command: Vec<String>,
    /// Where pods reach the broker, as an address of a client; it must be given.
    pub broker_url: String,
    /// The storage class of homes; by default that of the cluster.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// How homes can be mounted: `ReadWriteOnce`, or `ReadWriteMany` where the class allows that, which copies between
    /// projects that run on different nodes need.
    #[serde(default = "access_mode")]
    pub access_mode: String,
    /// On which nodes pods may run, by labels of nodes.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// On which nodes pods of projects for members may run, besides.
    #[serde(default)]
    pub member_node_selector: BTreeMap<String, String>,
    /// Tolerations of pods, as Kubernetes writes them.
    #[serde(default)]
    pub tolerations: Vec<Json>,
    /// Secrets for pulling images.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// `Always`, `IfNotPresent` or `Never`; by default what Kubernetes does with the image's tag.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    /// User and group of all processes of a project; not 0.
    #[serde(default = "user")]
    pub user: u32,
    /// Space for what a project writes outside of its home, in MB.
    #[serde(default = "scratch")]
    pub scratch: u64,
    /// What projects find in their environment besides.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The path of the site: empty, or with a slash in front and none at the end.
    #[serde(default)]
    pub base_path: String,
    /// Seconds from being asked to end until a project is killed.
    #[serde(default = "grace")]
    pub grace: u32,
    /// Seconds that a project may take until it answers, pulling its image included.
    #[serde(default = "start")]
    pub start: u32,
}

fn site() -> String {
    "dialtone".to_owned()
}

fn command() -> Vec<String> {
    vec!["dialtone".to_owned(), "project".to_owned()]
}

fn access_mode() -> String {
    "ReadWriteOnce".to_owned()
}

const fn user() -> u32 {
    2001
}

const fn scratch() -> u64 {
    2000
}

const fn grace() -> u32 {
    10
}

const fn start() -> u32 {
    300
}

/// Longest value of a label, by Kubernetes.
const LABEL_LEN_MAX: usize = 63;

/// What is wrong with what an operator wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text}")]
pub struct Wrong {
    /// The key.
    pub key: &'static str,
    /// What it must be.
    pub text: String,
}

impl Config {
    /// With the least that has to be said.
    pub fn new(image: impl Into<String>, broker_url: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            images: BTreeMap::new(),
            namespace: None,
            site: site(),
            command: command(),
            broker_url: broker_url.into(),
            storage_class: None,
            access_mode: access_mode(),
            node_selector: BTreeMap::new(),
            member_node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            image_pull_secrets: Vec::new(),
            image_pull_policy: None,
            user: user(),
            scratch: scratch(),
            env: BTreeMap::new(),
            base_path: String::new(),
            grace: grace(),
            start: start(),
        }
    }

    /// Looks whether it makes sense.
    ///
    /// # Errors
    /// With the first key that does not.
    pub fn check(&self) -> Result<(), Wrong> {
        let wrong = |key, text: &str| {
            let text = text.to_owned();
            Err(Wrong { key, text })
        };
        if self.image.is_empty() {
            return wrong("image", "is empty");
        }
        if self.broker_url.is_empty() {
            return wrong("broker_url", "is empty");
        }
        if self.command.is_empty() {
            return wrong("command", "is empty");
        }
        if self.user == 0 {
            return wrong("user", "projects do not run as root");
        }
        if !is_label(&self.site) {
            return wrong("site", "must have 1 to 63 letters, digits, -, _ or .");
        }
        if !["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"].contains(&&*self.access_mode) {
            return wrong(
                "access_mode",
                "is ReadWriteOnce, ReadWriteMany or ReadWriteOncePod",
            );
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        if let Some(policy) = &self.image_pull_policy
            && !policies.contains(&policy.as_str())
        {
            return wrong("image_pull_policy", "is Always, IfNotPresent or Never");
        }
        Ok(())
    }

    /// How long a project may take until it answers.
    pub fn start_max(&self) -> Duration {
        Duration::from_secs(self.start.into())
    }

    /// The image for the software that a project asks for.
    pub fn image_of(&self, software: Option<&str>) -> &str {
        let named = software.and_then(|software| self.images.get(software));
        named.unwrap_or(&self.image)
    }
}

/// What Kubernetes takes as the value of a label.
fn is_label(text: &str) -> bool {
    let ends = |one: Option<u8>| one.is_some_and(|one| one.is_ascii_alphanumeric());
    text.len() <= LABEL_LEN_MAX
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text
            .bytes()
            .all(|one| one.is_ascii_alphanumeric() || b"-_.".contains(&one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_least_is_an_image_and_a_broker() {
        let least = json!({"image": "x", "broker_url": "ws://broker:4480"});
        let config: Config = serde_json::from_value(least).unwrap();
        assert_eq!(config, Config::new("x", "ws://broker:4480"));
        config.check().unwrap();
        assert_eq!(config.image_of(Some("unknown")), "x");
    }

    type Change = fn(&mut Config);

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = json!({"image": "x", "broker_url": "y", "imagePullPolicy": "Always"});
        let error = serde_json::from_value::<Config>(unknown).unwrap_err();
        assert!(error.to_string().contains("imagePullPolicy"), "{error}");
        let changes: [(&str, Change); 6] = [
            ("image", |config| config.image.clear()),
            ("broker_url", |config| config.broker_url.clear()),
            ("command", |config| config.command.clear()),
            ("user", |config| config.user = 0),
            ("site", |config| "a b".clone_into(&mut config.site)),
            ("access_mode", |config| config.access_mode.clear()),
        ];
        for (key, change) in changes {
            let mut config = Config::new("x", "y");
            change(&mut config);
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
