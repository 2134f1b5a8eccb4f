//! The settings of the site: what there is to set, what is set, and hearing of changes.
//!
//! They are texts in the database. A value that somebody wants to set is checked here; one that is in the database and
//! does not fit, because another version wrote it, counts as its default. Every hub has all of them in memory and reads
//! them anew when the [feed](crate::feed) tells of a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::feed::{Follower, News};
use crate::store::outbox::Table;
use crate::store::settings::{self as stored, Stored};
use crate::store::{Error, Store};

mod definitions;

/// Longest value, in bytes: texts of terms and pages are long.
pub const VALUE_LEN_MAX: usize = 256 << 10;

/// What a setting can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A text that is not shown to those who look at the settings.
    Secret,
    /// `yes` or `no`.
    YesNo,
    /// `true` or `false`.
    TrueFalse,
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// An object of JSON.
    Json,
    /// Texts with commas between.
    List,
    /// An address for letters, or nothing.
    Email,
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

/// A setting that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// What it can be.
    pub kind: Kind,
    /// What it is if nobody sets it.
    pub default: &'static str,
    /// Whether everybody may read it.
    pub public: bool,
}

/// Why a setting cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is none with this name.
    #[error("there is no setting {0:?}")]
    Unknown(String),
    /// It is something else.
    #[error("setting {name} must be {expected}")]
    Value {
        /// Which one.
        name: &'static str,
        /// What it must be.
        expected: String,
    },
}

/// Why a setting was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It cannot be.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The environment of the hubs has set it.
    #[error("setting {0} is set by the environment of the hub and cannot be changed here")]
    Readonly(&'static str),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] Error),
}

/// All settings that there are.
pub fn definitions() -> &'static [Definition] {
    definitions::ALL
}

/// The setting with this name.
///
/// # Errors
/// [`Invalid::Unknown`].
pub fn definition(name: &str) -> Result<&'static Definition, Invalid> {
    let found = definitions::ALL.iter().find(|one| one.name == name);
    found.ok_or_else(|| Invalid::Unknown(name.chars().take(64).collect()))
}

impl Definition {
    /// Whether it can have this value.
    ///
    /// # Errors
    /// [`Invalid::Value`] with what it must be.
    pub fn check(&'static self, value: &str) -> Result<(), Invalid> {
        if value.len() > VALUE_LEN_MAX {
            return Err(self.must_be(format!("at most {VALUE_LEN_MAX} bytes long")));
        }
        let wrong = match self.kind {
            Kind::Text | Kind::Secret | Kind::List => None,
            Kind::YesNo => (!matches!(value, "yes" | "no")).then(|| "yes or no".to_owned()),
            Kind::TrueFalse => {
                (!matches!(value, "true" | "false")).then(|| "true or false".to_owned())
            }
            Kind::Integer { min, max } => {
                let number = value.parse::<i64>();
                let fits = number.is_ok_and(|number| (min..=max).contains(&number));
                (!fits).then(|| format!("a whole number from {min} to {max}"))
            }
            Kind::Json => {
                let read: Result<serde_json::Map<String, serde_json::Value>, _> =
                    serde_json::from_str(value);
                read.err()
                    .map(|error| format!("an object of JSON ({error})"))
            }
            Kind::Email => {
                let fits = value.is_empty()
                    || value.split_once('@').is_some_and(|(name, host)| {
                        !name.is_empty() && !host.is_empty() && !value.contains(char::is_whitespace)
                    });
                (!fits).then(|| "an email address".to_owned())
            }
            Kind::OneOf(texts) => (!texts.contains(&value)).then(|| format!("one of {texts:?}")),
        };
        wrong.map_or(Ok(()), |expected| Err(self.must_be(expected)))
    }

    fn must_be(&self, expected: String) -> Invalid {
        Invalid::Value {
            name: self.name,
            expected,
        }
    }
}

/// All settings at a moment.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    stored: BTreeMap<String, Stored>,
}

impl Settings {
    fn new(stored: Vec<Stored>) -> Self {
        let by_name = stored.into_iter().map(|one| (one.name.clone(), one));
        Self {
            stored: by_name.collect(),
        }
    }

    /// Those with these values, for tests.
    #[cfg(test)]
    pub(crate) fn of_pairs(pairs: &[(&str, &str)]) -> Self {
        let stored = pairs.iter().map(|(name, value)| Stored {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            readonly: false,
        });
        Self::new(stored.collect())
    }

    /// What a setting is: as it was set, or its default. A name that there is not is nothing.
    pub fn get(&self, name: &str) -> &str {
        let Ok(definition) = definition(name) else {
            return "";
        };
        match self.stored.get(name) {
            Some(stored) if definition.check(&stored.value).is_ok() => &stored.value,
            _ => definition.default,
        }
    }

    /// Whether a setting is `yes` or `true`.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), "yes" | "true")
    }

    /// A setting that is a number; 0 for one that is not.
    pub fn number(&self, name: &str) -> i64 {
        self.get(name).parse().unwrap_or(0)
    }

    /// The texts of a setting that is a list.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let texts = self.get(name).split(',').map(str::trim);
        texts.filter(|text| !text.is_empty()).collect()
    }

    /// Whether the environment of the hubs has set it.
    pub fn is_readonly(&self, name: &str) -> bool {
        self.stored.get(name).is_some_and(|stored| stored.readonly)
    }

    /// Whether somebody has set it.
    pub fn is_set(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }
}

/// The settings of a running hub, as they are now. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Live {
    store: Store,
    now: Arc<RwLock<Arc<Settings>>>,
}

impl Live {
    /// Reads them, and returns what keeps them up to date: to be run as long as they are wanted.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(store: &Store) -> Result<(Self, Follower), Error> {
        // Before they are read, so that a change after that is told.
        let follower = Follower::from_now(store).await?;
        let live = Self {
            store: store.clone(),
            now: Arc::new(RwLock::new(Arc::new(read(store).await?))),
        };
        Ok((live, follower))
    }

    /// As they are now.
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.now.read())
    }

    /// Reads them again whenever one was changed, until it is told to stop.
    pub async fn follow(&self, mut follower: Follower, stop: CancellationToken) {
        let following = async {
            loop {
                let changed = match follower.next().await {
                    Ok(News::Changes(entries)) => entries
                        .iter()
                        .any(|entry| entry.change.table == Table::ServerSettings),
                    Ok(News::Gap) => true,
                    Err(error) => {
                        self.wait(&error).await;
                        continue;
                    }
                };
                if changed {
                    self.read_again().await;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = stop.cancelled() => {}
        }
    }

    async fn read_again(&self) {
        loop {
            match read(&self.store).await {
                Ok(settings) => {
                    *self.now.write() = Arc::new(settings);
                    return;
                }
                Err(error) => self.wait(&error).await,
            }
        }
    }

    async fn wait(&self, error: &Error) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the settings may be old while the database does not answer"
        );
        tokio::time::sleep(self.store.poll()).await;
    }
}

/// The settings as they are stored now.
///
/// # Errors
/// When the database does not answer.
pub async fn read(store: &Store) -> Result<Settings, Error> {
    Ok(Settings::new(stored::all(&mut store.read().await?).await?))
}

/// Sets one.
///
/// # Errors
/// If there is none with this name, it cannot be that, or it is not to be changed.
pub async fn set(store: &Store, name: &str, value: &str) -> Result<(), SetError> {
    let definition = definition(name)?;
    definition.check(value)?;
    let mut on = store.write().await?;
    if !stored::set(&mut on, name, value).await? {
        return Err(SetError::Readonly(definition.name));
    }
    Ok(on.commit().await?)
}

/// What a setting is; if nobody has set it, it becomes `new`, for all hubs that ask at the same time alike.
///
/// # Errors
/// If there is none with this name, it cannot be that, or the database does not answer.
pub async fn get_or_set(store: &Store, name: &str, new: &str) -> Result<String, SetError> {
    definition(name)?.check(new)?;
    let mut on = store.write().await?;
    stored::set_if_empty(&mut on, name, new).await?;
    let settings = Settings::new(stored::all(&mut on).await?);
    on.commit().await?;
    Ok(settings.get(name).to_owned())
}

/// Lets the default of one hold again. `false` if that was so already.
///
/// # Errors
/// If there is none with this name, or it is not to be changed.
pub async fn unset(store: &Store, name: &str) -> Result<bool, SetError> {
    let definition = definition(name)?;
    if read(store).await?.is_readonly(name) {
        return Err(SetError::Readonly(definition.name));
    }
    let mut on = store.write().await?;
    let gone = stored::unset(&mut on, name).await?;
    on.commit().await?;
    Ok(gone)
}

/// Sets those that the environment says, and lets all others be changed. Those that cannot be are left out, with a
/// warning, so that a mistake in one does not keep the site from its start.
///
/// # Errors
/// When the database does not answer.
pub async fn set_from_environment(
    store: &Store,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Error> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let name = name.to_lowercase();
        match definition(&name).and_then(|definition| definition.check(&value)) {
            Ok(()) => settings.push((name, value)),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a setting of the environment is left out"
            ),
        }
    }
    let mut on = store.write().await?;
    stored::set_readonly(&mut on, &settings).await?;
    on.commit().await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_has_one_name_and_a_default_that_fits() {
        let mut names = BTreeSet::new();
        for definition in definitions() {
            assert!(names.insert(definition.name), "{} twice", definition.name);
            definition.check(definition.default).unwrap();
            assert!(!(definition.public && definition.kind == Kind::Secret));
        }
    }

    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<(), &str>) {
        let checked = definition(name).and_then(|definition| definition.check(value));
        let checked = checked.map_err(|error| error.to_string());
        assert_eq!(checked, expected.map_err(ToOwned::to_owned));
    }

    #[test]
    fn values_are_checked() {
        check("email_signup", "no", Ok(()));
        check(
            "email_signup",
            "maybe",
            Err("setting email_signup must be yes or no"),
        );
        check("nothing", "1", Err("there is no setting \"nothing\""));
        check("email_smtp_port", "587", Ok(()));
        check(
            "email_smtp_port",
            "70000",
            Err("setting email_smtp_port must be a whole number from 1 to 65535"),
        );
        check("help_email", "", Ok(()));
        check("help_email", "help@example.org", Ok(()));
        check(
            "help_email",
            "help@",
            Err("setting help_email must be an email address"),
        );
        check("default_quotas", "{\"cores\":1}", Ok(()));
        check(
            "samesite_remember_me",
            "Strict",
            Err("setting samesite_remember_me must be one of [\"strict\", \"lax\", \"none\"]"),
        );
    }

    #[test]
    fn what_another_version_has_stored_counts_as_the_default() {
        let row = |name: &str, value: &str| Stored {
            name: name.to_owned(),
            value: value.to_owned(),
            readonly: false,
        };
        let settings = Settings::new(vec![
            row("email_signup", "sometimes"),
            row("verify_emails", "yes"),
            row("of_the_future", "yes"),
            row("i18n", "de, fr,,es "),
        ]);
        assert!(settings.is_on("email_signup"));
        assert!(settings.is_on("verify_emails"));
        assert_eq!(settings.get("of_the_future"), "");
        assert_eq!(settings.list("i18n"), ["de", "fr", "es"]);
        assert_eq!(settings.number("llm_default_quota"), 10);
    }
}
