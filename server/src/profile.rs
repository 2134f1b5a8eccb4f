//! Which broker, as whom, and whom to trust: what flags, environment and contexts say about it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::args::{ConnectArgs, TlsArgs};
use crate::config::Strings;

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// Where brokers can be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) url: Vec<String>,
    /// Where the monitoring server is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) monitor: Option<String>,
    /// A file with the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credentials: Option<PathBuf>,
    /// A user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// The user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// A PEM file of certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// The fingerprint of the certificate to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<String>,
    /// Whether any certificate is trusted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) insecure: bool,
    /// Own certificate chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

impl Profile {
    /// What flags say.
    pub(crate) fn from_flags(url: &[String], tls: &TlsArgs) -> Self {
        let TlsArgs {
            credentials,
            user,
            password,
            token,
            ca,
            fingerprint,
            insecure,
            cert,
            key,
        } = tls.clone();
        let url = url.to_vec();
        Self {
            url,
            monitor: None,
            credentials,
            user,
            password,
            token,
            ca,
            fingerprint,
            insecure,
            cert,
            key,
        }
    }

    /// What the environment says.
    pub(crate) fn from_environment(strings: &dyn Strings) -> Self {
        let get = |name: &str| strings.get(&format!("DIALTONE_{name}"));
        let urls = get("URL").unwrap_or_default();
        Self {
            url: urls
                .split(',')
                .map(str::trim)
                .filter(|url| !url.is_empty())
                .map(str::to_owned)
                .collect(),
            credentials: get("CREDENTIALS").map(Into::into),
            user: get("USER"),
            password: get("PASSWORD"),
            token: get("TOKEN"),
            ca: get("CA").map(Into::into),
            fingerprint: get("FINGERPRINT"),
            ..Self::default()
        }
    }

    /// This profile, with what it does not say taken from another. Who to be and whom to trust are
    /// taken as a whole, so that a password is never paired with somebody else's name.
    pub(crate) fn or(self, lower: Self) -> Self {
        let own_identity = self.has_identity();
        let own_trust = self.ca.is_some() || self.fingerprint.is_some() || self.insecure;
        let own_certificate = self.cert.is_some();
        let mut identity = if own_identity { &self } else { &lower }.clone();
        if own_identity && self.user.is_some() && self.password.is_none() && lower.user.is_none() {
            // A name as a flag and the password in the environment, where others do not see it.
            identity.password.clone_from(&lower.password);
        }
        let trust = if own_trust { &self } else { &lower }.clone();
        let certificate = if own_certificate { &self } else { &lower }.clone();
        Self {
            url: if self.url.is_empty() {
                lower.url
            } else {
                self.url
            },
            monitor: self.monitor.or(lower.monitor),
            credentials: identity.credentials,
            user: identity.user,
            password: identity.password,
            token: identity.token,
            ca: trust.ca,
            fingerprint: trust.fingerprint,
            insecure: trust.insecure,
            cert: certificate.cert,
            key: certificate.key,
        }
    }

    fn has_identity(&self) -> bool {
        self.credentials.is_some() || self.user.is_some() || self.token.is_some()
    }

    /// The same with stars in place of secrets.
    pub(crate) fn masked(&self) -> Self {
        let mask = |secret: &Option<String>| secret.as_ref().map(|_| "***".to_owned());
        Self {
            password: mask(&self.password),
            token: mask(&self.token),
            ..self.clone()
        }
    }
}

/// Merges the sources: flags before the environment before the context in use. A context that is
/// named by a flag goes before the environment. What a context says about credentials and trust
/// is for its own URLs and used with no others.
pub(crate) fn merge(args: &ConnectArgs, environment: Profile, context: Option<Profile>) -> Profile {
    let flags = Profile::from_flags(&args.url, &args.tls);
    let context = context.unwrap_or_default();
    if args.context.is_some() {
        if flags.url.is_empty() {
            flags.or(context).or(environment)
        } else {
            flags.or(environment)
        }
    } else {
        let above = flags.or(environment);
        if above.url.is_empty() {
            above.or(context)
        } else {
            above
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str, user: Option<&str>, token: Option<&str>) -> Profile {
        Profile {
            url: if url.is_empty() {
                Vec::new()
            } else {
                vec![url.to_owned()]
            },
            user: user.map(str::to_owned),
            password: user.map(|_| "p".to_owned()),
            token: token.map(str::to_owned),
            ..Profile::default()
        }
    }

    fn args(url: &str, context: Option<&str>) -> ConnectArgs {
        ConnectArgs {
            url: if url.is_empty() {
                Vec::new()
            } else {
                vec![url.to_owned()]
            },
            context: context.map(str::to_owned),
            ..ConnectArgs::default()
        }
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_context() {
        let environment = || source("ws://env", None, None);
        let context = || Some(source("ws://context", Some("alice"), None));
        assert_eq!(
            merge(&args("ws://flag", None), environment(), context()).url,
            ["ws://flag"]
        );
        assert_eq!(
            merge(&args("", None), environment(), context()).url,
            ["ws://env"]
        );
        assert_eq!(
            merge(&args("", None), Profile::default(), context()).url,
            ["ws://context"]
        );
        assert_eq!(
            merge(&args("", Some("c")), environment(), context()).url,
            ["ws://context"]
        );
    }

    #[test]
    fn credentials_of_a_context_go_to_its_own_urls_only() {
        let context = || Some(source("ws://context", Some("alice"), None));
        assert_eq!(
            merge(&args("ws://flag", None), Profile::default(), context()).user,
            None
        );
        assert_eq!(
            merge(&args("ws://flag", Some("c")), Profile::default(), context()).user,
            None
        );
        assert_eq!(
            merge(&args("", None), Profile::default(), context())
                .user
                .as_deref(),
            Some("alice")
        );
    }

    #[test]
    fn who_to_be_is_taken_from_one_source_as_a_whole() {
        let merged = source("ws://a", None, Some("t")).or(source("ws://b", Some("alice"), None));
        assert_eq!(
            (merged.token.as_deref(), merged.user, merged.password),
            (Some("t"), None, None)
        );
    }

    #[test]
    fn a_password_in_the_environment_goes_with_a_name_on_the_command_line() {
        let mut flags = source("", Some("alice"), None);
        flags.password = None;
        let environment = Profile {
            password: Some("p".to_owned()),
            ..Profile::default()
        };
        assert_eq!(flags.clone().or(environment).password.as_deref(), Some("p"));
        assert_eq!(flags.or(source("", Some("bob"), None)).password, None);
    }

    #[test]
    fn secrets_are_masked() {
        let masked = source("ws://a", Some("alice"), Some("secret")).masked();
        assert_eq!(masked.password.as_deref(), Some("***"));
        assert_eq!(masked.token.as_deref(), Some("***"));
        assert_eq!(masked.user.as_deref(), Some("alice"));
    }
}
