//! Brokers and credentials under names, in a file that only its owner can read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::config::Strings;
use crate::exit::Failure;
use crate::profile::Profile;

/// Longest file of contexts, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Longest name of a context, in bytes.
const NAME_LEN_MAX: usize = 64;

/// The file of contexts, read.
#[derive(Debug)]
pub(crate) struct Contexts {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, rename = "context")]
    contexts: BTreeMap<String, Profile>,
}

impl Contexts {
    /// Reads the file of this user; where there is none, there are no contexts.
    pub(crate) fn open(strings: &dyn Strings) -> anyhow::Result<Self> {
        Self::read(crate::assemble::config_dir(strings)?.join("contexts.toml"))
    }

    fn read(path: PathBuf) -> anyhow::Result<Self> {
        let content = match std::fs::metadata(&path) {
            Ok(about) if about.len() > FILE_LEN_MAX => {
                anyhow::bail!("{} is longer than {FILE_LEN_MAX} bytes", path.display())
            }
            Ok(_) => {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                toml::from_str(&text)
                    .with_context(|| format!("{} makes no sense", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Content::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Self { path, content })
    }

    /// Writes the file, readable for its owner only.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let text =
            toml::to_string_pretty(&self.content).context("contexts cannot be written as TOML")?;
        crate::files::replace(&self.path, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Profile, Failure> {
        self.content.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.content.contexts.keys().map(String::as_str).collect();
            let hint = match known.as_slice() {
                [] => {
                    "there are none yet; `dialtone context add NAME --url URL` makes one".to_owned()
                }
                names => format!("there are: {}", names.join(", ")),
            };
            Failure::usage(format_args!("there is no context {name:?}")).hint(hint)
        })
    }

    /// The name of the context in use.
    pub(crate) fn current(&self) -> Option<&str> {
        self.content.current.as_deref()
    }

    /// All contexts by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.content
            .contexts
            .iter()
            .map(|(name, profile)| (name.as_str(), profile))
    }

    /// Adds or replaces a context; the first one is used from here on.
    pub(crate) fn add(
        &mut self,
        name: &str,
        profile: Profile,
        switch: bool,
    ) -> Result<(), Failure> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(allowed) {
            let rule =
                format!("a name must be 1 to {NAME_LEN_MAX} letters, digits, '-', '_' and '.'");
            return Err(Failure::usage(rule));
        }
        let first = self.content.contexts.is_empty();
        self.content.contexts.insert(name.to_owned(), profile);
        if switch || first {
            self.content.current = Some(name.to_owned());
        }
        Ok(())
    }

    /// Uses a context from here on.
    pub(crate) fn switch(&mut self, name: &str) -> Result<(), Failure> {
        self.get(name)?;
        self.content.current = Some(name.to_owned());
        Ok(())
    }

    /// Removes a context; if it was in use, none is in use from here on.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.get(name)?;
        self.content.contexts.remove(name);
        if self.current() == Some(name) {
            self.content.current = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn profile(url: &str) -> Profile {
        Profile {
            url: vec![url.to_owned()],
            token: Some("secret".to_owned()),
            ..Profile::default()
        }
    }

    #[test]
    fn contexts_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/contexts.toml");
        let mut contexts = Contexts::read(path.clone()).unwrap();
        contexts.add("one", profile("ws://one"), false).unwrap();
        contexts.add("two", profile("ws://two"), false).unwrap();
        contexts.save().unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );

        let mut contexts = Contexts::read(path).unwrap();
        assert_eq!(contexts.current(), Some("one"), "the first is used");
        assert_eq!(contexts.get("two").unwrap().url, ["ws://two"]);
        contexts.switch("two").unwrap();
        contexts.remove("two").unwrap();
        assert_eq!(contexts.current(), None);
        assert!(
            contexts
                .get("two")
                .unwrap_err()
                .to_string()
                .contains("there are: one")
        );
        contexts.add("a b", profile("ws://x"), false).unwrap_err();
    }
}
