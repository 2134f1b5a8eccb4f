//! The flags of the settings, made from the table.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{FIELDS, Field, Layer, Origin, Problem, Raw};

/// What the command line says about settings, still as texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    given: Vec<(&'static Field, Vec<String>)>,
}

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

/// The flags of `persist.*` alone, for a node without a broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamFlags(Flags);

impl StreamFlags {
    /// What the flags say.
    pub(crate) fn into_flags(self) -> Flags {
        self.0
    }

    fn own() -> impl Iterator<Item = &'static Field> {
        own().filter(|field| field.table() == "persist")
    }
}

impl clap::FromArgMatches for StreamFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(given(Self::own(), matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for StreamFlags {
    fn augment_args(cmd: Command) -> Command {
        Self::own().fold(cmd, |cmd, field| cmd.arg(arg(field)))
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

fn given(fields: impl Iterator<Item = &'static Field>, matches: &ArgMatches) -> Flags {
    let is_given =
        |field: &&Field| matches.value_source(field.key) == Some(ValueSource::CommandLine);
    let texts = |field: &'static Field| {
        let texts = matches.get_many::<String>(field.key).unwrap_or_default();
        (field, texts.cloned().collect())
    };
    Flags {
        given: fields.filter(is_given).map(texts).collect(),
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(given(own(), matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(cmd: Command) -> Command {
        own().fold(cmd, |cmd, field| cmd.arg(arg(field)))
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

fn arg(field: &Field) -> Arg {
    let arg = Arg::new(field.key)
        .long(field.flag())
        .help(field.doc)
        .value_name(field.value_name)
        .help_heading(heading(field.table()));
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
