//! The configuration of a broker: one table of settings, read from flags, the environment and a file.
//!
//! [`fields`] holds the table, and everything follows from it: the flag, the environment variable
//! and the key of each setting, the sample file, and what `dialtone config check` prints. A flag
//! goes before the environment, the environment before the file, the file before the default.
//! To add a setting, add its line there and use it in [`crate::assemble`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod strings;
pub(crate) use strings::{Environment, Strings};

mod value;
pub(crate) use value::{Raw, Size, Span, Value};

mod gateway;

mod place;
pub(crate) use place::Place;

mod fields;
pub(crate) use fields::{FIELDS, Field, Format, Layer, Settings};

mod file;
pub(crate) use file::{origin, text_of, unreadable};

mod flags;
pub(crate) use flags::{ArchiveFlags, Flags, StreamFlags, Texts, arg, given};

mod rules;
pub(crate) use rules::is_loopback;

mod show;
pub(crate) use show::{append, as_file, enter, resolved, sample};

/// What every environment variable of ours begins with.
const PREFIX: &str = "DIALTONE_";

/// Variables of ours that are no settings of a broker.
const OTHERS: [&str; 14] = [
    "DIALTONE_CA",
    "DIALTONE_CLUSTER_DIR",
    "DIALTONE_CLUSTER_SECRET",
    "DIALTONE_CLUSTER_TOKEN",
    "DIALTONE_CONFIG",
    "DIALTONE_CONTEXT",
    "DIALTONE_CREDENTIALS",
    "DIALTONE_DATA",
    "DIALTONE_FINGERPRINT",
    "DIALTONE_PASSWORD",
    "DIALTONE_SUBJECT",
    "DIALTONE_TOKEN",
    "DIALTONE_URL",
    "DIALTONE_USER",
];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line; with the name of the flag.
    Flag(String),
    /// The environment; with the name of the variable.
    Env(String),
    /// A file.
    File {
        /// Its path.
        path: Arc<Path>,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Given<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// Something that is wrong with the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) origin: Origin,
    /// The key of the setting; empty when it is about the whole source.
    pub(crate) key: String,
    /// What.
    pub(crate) text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, self.key.as_str()) {
            (origin, "") => write!(f, "{origin}: {}", self.text),
            (Origin::Default, key) => write!(f, "{key}: {}", self.text),
            (origin, key) => write!(f, "{origin}: {key}: {}", self.text),
        }
    }
}

/// Where a configuration is read from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// What the command line says.
    pub(crate) flags: Flags,
    /// The file, where one is named.
    pub(crate) file: Option<PathBuf>,
    /// Defaults of the subcommand, which go before those of the table.
    pub(crate) preset: Layer,
}

/// A configuration as far as it could be read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Every setting with its origin.
    pub(crate) settings: Settings,
    /// What is wrong; with any of these the settings must not be used.
    pub(crate) problems: Vec<Problem>,
    /// What is doubtful.
    pub(crate) warnings: Vec<Problem>,
}

impl Sources {
    /// Reads and merges all sources. Nothing is bound or started.
    pub(crate) fn load(&self, strings: &dyn Strings) -> Loaded {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let flags = self.flags.layer(&mut problems);
        let environment = from_environment(strings, &mut problems, &mut warnings);
        let file = match &self.file {
            Some(path) => file::read(path, &mut problems),
            None => Layer::default(),
        };
        let merged = flags.or(environment).or(file).or(self.preset.clone());
        let settings = merged.resolve();
        rules::check(&settings, &mut problems, &mut warnings);
        Loaded {
            settings,
            problems,
            warnings,
        }
    }
}

fn from_environment(
    strings: &dyn Strings,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Layer {
    let mut layer = Layer::default();
    for field in FIELDS {
        let name = field.env();
        let Some(text) = strings.get(&name) else {
            continue;
        };
        let origin = Origin::Env(name);
        if let Err(text) = layer.set(field.key, Raw::Texts(&[text]), origin.clone()) {
            problems.push(Problem {
                origin,
                key: field.key.to_owned(),
                text,
            });
        }
    }
    for name in strings.names() {
        let known =
            OTHERS.contains(&name.as_str()) || FIELDS.iter().any(|field| field.env() == name);
        // Those of a proxy are looked at by the proxy.
        let is_proxys = name.starts_with("DIALTONE_PROXY_");
        if name.starts_with(PREFIX) && !known && !is_proxys {
            let text = "no setting has this name".to_owned();
            warnings.push(Problem {
                origin: Origin::Env(name),
                key: String::new(),
                text,
            });
        }
    }
    layer
}

#[cfg(test)]
mod tests;
