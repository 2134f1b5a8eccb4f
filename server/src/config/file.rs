//! A configuration file: TOML, every mistake of it named with line and column.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::{FIELDS, Layer, Origin, Problem, Raw};

/// Longest configuration file of a broker, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Reads a file. Whatever cannot be used is a problem, and the rest is read nevertheless.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Layer {
    match text_of(path, FILE_LEN_MAX) {
        Ok(text) => parse(path, &text, problems),
        Err(error) => {
            problems.push(unreadable(path, &error));
            Layer::default()
        }
    }
}

/// The text of a file of at most `len_max` bytes.
pub(crate) fn text_of(path: &Path, len_max: u64) -> std::io::Result<String> {
    let len = std::fs::metadata(path)?.len();
    if len > len_max {
        return Err(std::io::Error::other(format!(
            "{len} bytes are more than {len_max}"
        )));
    }
    std::fs::read_to_string(path)
}

/// What is wrong with a file that cannot be read at all.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem {
        origin: origin(&path.into(), "", 0),
        key: String::new(),
        text: format!("cannot be read: {error}"),
    }
}

/// The place of a byte of a text.
pub(crate) fn origin(path: &Arc<Path>, text: &str, at: usize) -> Origin {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before
        .get(line_start..)
        .map_or(0, |rest| rest.chars().count())
        + 1;
    Origin::File {
        path: Arc::clone(path),
        line,
        column,
    }
}

/// Reads the text of a file.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Layer {
    let (table, errors) = DeTable::parse_recoverable(text);
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut reader = Reader {
        path: path.into(),
        folder,
        text,
        layer: Layer::default(),
        problems: Vec::new(),
    };
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.problem(at, "", error.message().to_owned());
    }
    reader.table("", table.get_ref());
    reader.problems.sort_by_key(|(at, _)| *at);
    problems.extend(reader.problems.into_iter().map(|(_, problem)| problem));
    reader.layer
}

struct Reader<'a> {
    path: Arc<Path>,
    folder: PathBuf,
    text: &'a str,
    layer: Layer,
    /// With the place of each, in bytes from the beginning.
    problems: Vec<(usize, Problem)>,
}

impl Reader<'_> {
    /// Tables nest as deeply as the keys of the settings have dots, since unknown ones end the walk.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let at = name.span().start;
            if FIELDS.iter().any(|field| field.key == key) {
                let origin = self.origin(at);
                let raw = Raw::Toml(value.get_ref(), &self.folder);
                if let Err(text) = self.layer.set(&key, raw, origin) {
                    self.problem(value.span().start, &key, text);
                }
            } else if !FIELDS.iter().any(|field| field.table() == key) {
                self.problem(at, &key, unknown(&key));
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.table(&key, inner);
            } else {
                self.problem(
                    value.span().start,
                    &key,
                    format!("expected a table; write [{key}]"),
                );
            }
        }
    }

    fn problem(&mut self, at: usize, key: &str, text: String) {
        let origin = self.origin(at);
        self.problems.push((
            at,
            Problem {
                origin,
                key: key.to_owned(),
                text,
            },
        ));
    }

    fn origin(&self, at: usize) -> Origin {
        origin(&self.path, self.text, at)
    }
}

fn unknown(key: &str) -> String {
    let leaf = key.rsplit_once('.').map_or(key, |(_, leaf)| leaf);
    let near = FIELDS
        .iter()
        .find(|field| field.leaf() == leaf || distance(field.key, key) <= 2);
    match near {
        Some(field) => format!("no setting has this name; did you mean {}?", field.key),
        None => "no setting has this name; `dialtone config sample` lists all".to_owned(),
    }
}

/// How many characters must be put in, taken out or changed to get from one text to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row.first().copied().unwrap_or(0);
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(a != *b);
            diagonal = *cell;
            *cell = changed.min(*cell + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        parse(Path::new("d.toml"), text, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let text = "listne = [\"ws://a\"]\nthreads = \"many\"\n[limits]\n  frame_len_max = 1.5\nmax = 1\n[log]\nlevel = 3\n";
        assert_eq!(
            problems(text),
            [
                "d.toml:1:1: listne: no setting has this name; did you mean listen?",
                "d.toml:2:11: threads: expected a whole number from 0 to 65535, found \"many\"",
                "d.toml:4:19: limits.frame_len_max: expected a string or a number, found a number with a fraction",
                "d.toml:5:1: limits.max: no setting has this name; did you mean outbox.max?",
                "d.toml:7:9: log.level: expected a string, found a number",
            ]
        );
    }

    #[test]
    fn broken_toml_is_named_with_its_place() {
        let found = problems("threads = 2\nnode = \"a\nlisten = 3\n");
        assert!(
            found
                .first()
                .is_some_and(|first| first.starts_with("d.toml:2:")),
            "{found:?}"
        );
    }

    #[test]
    fn a_table_must_be_one() {
        assert_eq!(
            problems("tls = 3"),
            ["d.toml:1:7: tls: expected a table; write [tls]"]
        );
        assert_eq!(
            problems("[nonsense]\na = 1"),
            ["d.toml:1:2: nonsense: no setting has this name; `dialtone config sample` lists all"]
        );
    }

    #[test]
    fn distances() {
        assert_eq!(distance("listen", "listne"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
