//! A proxy's configuration file: settings, `[[project]]` and `[[user]]`, every mistake named with line and column.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::projects::{Reading, Site};
use super::settings::{FIELDS, Layer};
use crate::config::{Origin, Problem, Raw, origin, text_of, unreadable};

/// Longest configuration file, in bytes.
const FILE_LEN_MAX: u64 = 16 << 20;

/// What a file says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) layer: Layer,
    pub(super) site: Site,
}

/// Reads a file. Whatever cannot be used is a problem, and the rest is read nevertheless.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Read {
    match text_of(path, FILE_LEN_MAX) {
        Ok(text) => parse(path, &text, problems),
        Err(error) => {
            problems.push(unreadable(path, &error));
            Read::default()
        }
    }
}

/// Reads the text of a file.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Read {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut file = Places {
        path: path.into(),
        folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        text,
        problems: Vec::new(),
    };
    for error in errors {
        file.problem(
            error.span().map_or(0, |span| span.start),
            "",
            error.message().to_owned(),
        );
    }
    let mut read = Read::default();
    let mut items = Vec::new();
    for (name, value) in table.get_ref() {
        let key = name.get_ref().as_ref();
        match (key, value.get_ref()) {
            ("project" | "user", DeValue::Array(entries)) => items.push((key, entries)),
            ("project" | "user", _) => {
                file.problem(
                    value.span().start,
                    key,
                    format!("write [[{key}]] for each of them"),
                );
            }
            (_, DeValue::Table(inner)) if FIELDS.iter().any(|field| field.table() == key) => {
                for (leaf, value) in inner {
                    let key = format!("{key}.{}", leaf.get_ref());
                    file.setting(&mut read.layer, leaf.span().start, &key, value);
                }
            }
            _ => file.setting(&mut read.layer, name.span().start, key, value),
        }
    }
    // Users first: projects name them.
    items.sort_by_key(|(key, _)| *key == "project");
    let mut reading = Reading::new(&mut file);
    for (key, entries) in items {
        for entry in entries {
            reading.entry(key, entry);
        }
    }
    read.site = reading.site();
    file.problems.sort_by_key(|(at, _)| *at);
    problems.extend(file.problems.into_iter().map(|(_, problem)| problem));
    read
}

/// Places within a file, and what is wrong at them.
pub(super) struct Places<'a> {
    path: Arc<Path>,
    folder: PathBuf,
    text: &'a str,
    /// With the place of each, in bytes from the beginning.
    problems: Vec<(usize, Problem)>,
}

impl Places<'_> {
    fn setting(&mut self, layer: &mut Layer, at: usize, key: &str, value: &Spanned<DeValue<'_>>) {
        if !FIELDS.iter().any(|field| field.key == key) {
            let text =
                "no setting has this name; `dialtone config sample --proxy` lists all".to_owned();
            return self.problem(at, key, text);
        }
        let (origin, folder) = (self.origin(at), self.folder.clone());
        if let Err(text) = layer.set(key, Raw::Toml(value.get_ref(), &folder), origin) {
            self.problem(value.span().start, key, text);
        }
    }

    /// The folder that relative paths start from.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn problem(&mut self, at: usize, key: &str, text: String) {
        let problem = Problem {
            origin: self.origin(at),
            key: key.to_owned(),
            text,
        };
        self.problems.push((at, problem));
    }

    fn origin(&self, at: usize) -> Origin {
        origin(&self.path, self.text, at)
    }
}
