//! The flags of the settings, made from the table.

use std::marker::PhantomData;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{FIELDS, Field, Layer, Origin, Problem, Raw};

/// What the command line says about settings, still as texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    given: Texts,
}

/// Settings whose flags were given, with what was said.
pub(crate) type Texts = Vec<(&'static Field, Vec<String>)>;

impl Flags {
    /// What the flags say.
    pub(super) fn layer(&self, problems: &mut Vec<Problem>) -> Layer {
        let mut layer = Layer::default();
        for (field, texts) in &self.given {
            let origin = Origin::Flag(format!("--{}", field.flag()));
            if let Err(text) = layer.set(field.key, Raw::Texts(texts), origin.clone()) {
                problems.push(Problem {
                    origin,
                    key: field.key.to_owned(),
                    text,
                });
            }
        }
        layer
    }

    /// The first flag that is given of a table.
    pub(crate) fn first_of(&self, table: &str) -> Option<String> {
        let mut given = self.given.iter().map(|(field, _)| field);
        let found = given.find(|field| field.table() == table)?;
        Some(format!("--{}", found.flag()))
    }

    /// Adds what flags outside the table say, unless they say nothing.
    pub(crate) fn add(&mut self, key: &str, text: Option<String>) {
        let field = FIELDS.iter().find(|field| field.key == key);
        if let (Some(field), Some(text)) = (field, text) {
            self.given.push((field, vec![text]));
        }
    }
}

/// The flags of `log.*` belong to every subcommand and are declared there.
fn own() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(|field| field.table() != "log")
}

/// Some of the settings.
pub(crate) trait Part {
    /// Whether it is one of them.
    fn has(field: &Field) -> bool;
}

/// Everything of persist, for a node without a broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams;

impl Part for Streams {
    fn has(field: &Field) -> bool {
        field.table() == "persist"
    }
}

/// Where an archive is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive;

impl Part for Archive {
    fn has(field: &Field) -> bool {
        matches!(
            field.key,
            "persist.archive"
                | "persist.archive_endpoint"
                | "persist.archive_region"
                | "persist.archive_keys_file"
        )
    }
}

/// The flags of `persist.*`.
pub(crate) type StreamFlags = PartFlags<Streams>;

/// The flags that say where an archive is.
pub(crate) type ArchiveFlags = PartFlags<Archive>;

/// The flags of some of the settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartFlags<P> {
    flags: Flags,
    part: PhantomData<P>,
}

impl<P: Part> PartFlags<P> {
    /// What the flags say.
    pub(crate) fn into_flags(self) -> Flags {
        self.flags
    }

    fn own() -> impl Iterator<Item = &'static Field> {
        own().filter(|field| P::has(field))
    }
}

impl<P: Part> clap::FromArgMatches for PartFlags<P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            flags: Flags {
                given: given(Self::own(), matches),
            },
            part: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<P: Part> clap::Args for PartFlags<P> {
    fn augment_args(cmd: Command) -> Command {
        Self::own().fold(cmd, |cmd, field| {
            cmd.arg(arg(field, heading(field.table())))
        })
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

/// Those of some settings whose flags were given.
pub(crate) fn given(fields: impl Iterator<Item = &'static Field>, matches: &ArgMatches) -> Texts {
    let is_given =
        |field: &&Field| matches.value_source(field.key) == Some(ValueSource::CommandLine);
    let texts = |field: &'static Field| {
        let texts = matches.get_many::<String>(field.key).unwrap_or_default();
        (field, texts.cloned().collect())
    };
    fields.filter(is_given).map(texts).collect()
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            given: given(own(), matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(cmd: Command) -> Command {
        own().fold(cmd, |cmd, field| {
            cmd.arg(arg(field, heading(field.table())))
        })
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

/// The flag of a setting, below a heading.
pub(crate) fn arg(field: &Field, heading: &'static str) -> Arg {
    let arg = Arg::new(field.key)
        .long(field.flag())
        .help(field.doc)
        .value_name(field.value_name)
        .help_heading(heading);
    if field.switch {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true)
    } else if field.list {
        arg.action(ArgAction::Append)
    } else {
        arg
    }
}

fn heading(table: &str) -> &'static str {
    match table {
        "tls" => "TLS",
        "websocket" => "WebSocket",
        "limits" => "Limits of a connection",
        "outbox" => "Slow consumers",
        "timing" => "Timing",
        "socketio" => "Existing clients",
        "cluster" => "Cluster",
        "persist" => "Streams",
        _ => "Broker",
    }
}
