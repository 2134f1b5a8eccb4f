//! What a reader relies on in every source file, and no compiler checks.
#![expect(
    clippy::unwrap_used,
    reason = "a file that cannot be read is a failed test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most lines of a file before its tests.
const LINES_MAX: usize = 600;

/// Folders that are not ours to judge.
const SKIPPED: [&str; 4] = ["target", ".git", "artifacts", "node_modules"];

/// Files and folders whose code is pure: no clock, socket or runtime.
const PURE: [&str; 6] = [
    "protocol/src/",
    "broker/src/router.rs",
    "broker/src/router/",
    "client/src/reconnect.rs",
    "persist/src/core.rs",
    "persist/src/core/",
];

struct Source {
    /// From the root of the workspace.
    path: String,
    text: String,
}

impl Source {
    /// What comes before the tests of the file.
    fn code(&self) -> &str {
        self.text.split("\n#[cfg(test)]").next().unwrap_or_default()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && !SKIPPED.contains(&name.as_ref()) {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort_unstable();
    assert!(paths.len() > 100, "the sources are not where they were");
    let read = |path: PathBuf| Source {
        text: std::fs::read_to_string(&path).unwrap(),
        path: path
            .strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned(),
    };
    paths.into_iter().map(read).collect()
}

/// Fails with all that `wrong` finds in some file.
#[track_caller]
fn none(mut wrong: impl FnMut(&Source) -> Vec<String>) {
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            wrong(source)
                .into_iter()
                .map(|what| format!("{}: {what}", source.path))
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
}

#[test]
fn every_file_says_what_it_is_for() {
    none(|source| {
        let says = source.text.starts_with("//! ") || source.text.starts_with("#!");
        if says {
            Vec::new()
        } else {
            vec!["does not begin with `//! `".to_owned()]
        }
    });
}

#[test]
fn no_file_is_long() {
    none(|source| {
        let len = source.code().lines().count();
        if len <= LINES_MAX {
            Vec::new()
        } else {
            vec![format!("{len} lines before its tests")]
        }
    });
}

#[test]
fn modules_stand_beside_their_folders() {
    none(|source| {
        if source.path.ends_with("/mod.rs") {
            vec!["a mod.rs".to_owned()]
        } else {
            Vec::new()
        }
    });
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not find itself.
    let marks = [
        "TO DO",
        "FIX ME",
        "XX X",
        "HA CK",
        "to do!(",
        "un implemented!(",
    ]
    .map(|mark| mark.replace(' ', ""));
    none(|source| {
        let marked = |line: &str| marks.iter().any(|mark| line.contains(mark.as_str()));
        lines(&source.text)
            .filter(|(_, line)| marked(line))
            .map(|(at, line)| format!("{at}: {line}"))
            .collect()
    });
}

#[test]
fn no_code_is_commented_out() {
    let is_code = |line: &str| {
        let Some(comment) = line.strip_prefix("// ") else {
            return false;
        };
        let keyword = ["let ", "if ", "for ", "use ", "fn ", "pub ", "return ", "}"]
            .iter()
            .any(|word| comment.starts_with(word));
        let ends = comment.ends_with(';')
            || comment.ends_with('{')
            || comment == "}"
            || comment.ends_with("},");
        ends && (keyword || comment.contains('(') || comment.contains('='))
    };
    none(|source| {
        lines(&source.text)
            .filter(|(_, line)| is_code(line))
            .map(|(at, line)| format!("{at}: {line}"))
            .collect()
    });
}

#[test]
fn pure_modules_know_no_runtime() {
    let impure = [
        "tokio",
        "std::net",
        "std::fs",
        "std::env",
        "SystemTime",
        "Instant::now",
    ];
    none(|source| {
        if !PURE.iter().any(|pure| source.path.starts_with(pure)) {
            return Vec::new();
        }
        let code = lines(source.code()).filter(|(_, line)| !line.starts_with("//"));
        let wrong = code.filter(|(_, line)| impure.iter().any(|word| line.contains(word)));
        wrong.map(|(at, line)| format!("{at}: {line}")).collect()
    });
}

/// The section numbers behind `§` in a text.
fn citations(text: &str) -> BTreeSet<String> {
    let number = |part: &str| {
        let digits: String = part
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        digits.trim_end_matches('.').to_owned()
    };
    text.split('§')
        .skip(1)
        .map(number)
        .filter(|number| !number.is_empty())
        .collect()
}

#[test]
fn sections_of_the_protocol_that_are_cited_exist() {
    let text = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let headings: String = text.lines().filter(|line| line.starts_with('#')).collect();
    let known = citations(&headings);
    assert!(known.len() > 20, "{known:?}");
    let unknown: Vec<String> = citations(&text).difference(&known).cloned().collect();
    assert!(unknown.is_empty(), "docs/protocol.md cites {unknown:?}");
    none(|source| {
        if !source.path.starts_with("protocol/") {
            return Vec::new();
        }
        citations(&source.text)
            .difference(&known)
            .map(|number| format!("cites §{number}"))
            .collect()
    });
}
