//! Configurations as TOML for people: the sample, and what was resolved.

use std::fmt::Write as _;

use super::{FIELDS, Layer, Origin, Settings};

/// A file with every setting at its default, commented out and explained.
pub(crate) fn sample() -> String {
    let mut out = String::from(
        "# Configuration of a Dialtone broker.\n\
         # Every setting is shown with its default. Flags go before environment variables, those\n\
         # before this file. Check it with: dialtone config check --config FILE\n",
    );
    let defaults = Layer::default().resolve();
    let mut table = "";
    for (field, (value, _)) in FIELDS.iter().zip(defaults.shown()) {
        enter(&mut out, &mut table, field.table());
        out.push('\n');
        for line in wrapped(field.doc) {
            append(&mut out, format_args!("# {line}\n"));
        }
        append(
            &mut out,
            format_args!("# Flag --{}, environment {}.\n", field.flag(), field.env()),
        );
        append(&mut out, format_args!("#{} = {value}\n", field.leaf()));
    }
    out
}

/// Every setting with its value and its origin. Settings name files; none of them holds a secret.
pub(crate) fn resolved(settings: &Settings) -> String {
    let lines: Vec<_> = FIELDS
        .iter()
        .zip(settings.shown())
        .map(|(field, (value, origin))| {
            (field.table(), format!("{} = {value}", field.leaf()), origin)
        })
        .collect();
    let width = lines
        .iter()
        .map(|(_, line, _)| line.chars().count())
        .filter(|width| *width <= 60)
        .max()
        .unwrap_or(0);
    let (mut out, mut table) = (String::new(), "");
    for (of, line, origin) in lines {
        enter(&mut out, &mut table, of);
        append(
            &mut out,
            format_args!("{line:width$}  # {}\n", Place(origin)),
        );
    }
    out
}

/// Every setting as a file that says all, whatever the defaults are.
pub(crate) fn as_file(settings: &Settings) -> String {
    let (mut out, mut table) = (String::new(), "");
    for (field, (value, _)) in FIELDS.iter().zip(settings.shown()) {
        enter(&mut out, &mut table, field.table());
        append(&mut out, format_args!("{} = {value}\n", field.leaf()));
    }
    out
}

struct Place<'a>(&'a Origin);

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Origin::File { .. } => write!(f, "file {}", self.0),
            Origin::Flag(_) | Origin::Env(_) | Origin::Default => self.0.fmt(f),
        }
    }
}

/// Begins the next table, unless it has begun.
pub(crate) fn enter(out: &mut String, table: &mut &'static str, next: &'static str) {
    if *table != next {
        append(out, format_args!("\n[{next}]\n"));
        *table = next;
    }
}

/// Writes to the end.
pub(crate) fn append(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("a string takes whatever is written to it");
}

/// The words of a text in lines of at most 90 characters.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 90;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
