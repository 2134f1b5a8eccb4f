//! Every setting from every source, and which source goes first.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Args as _, FromArgMatches as _};

use super::*;

fn flags(args: &[String]) -> Flags {
    let command = Flags::augment_args(clap::Command::new("test"));
    let args = std::iter::once("test".to_owned()).chain(args.iter().cloned());
    Flags::from_arg_matches(&command.try_get_matches_from(args).unwrap()).unwrap()
}

fn shown(layer: Layer, index: usize) -> (String, Origin) {
    let settings = layer.resolve();
    let (value, origin) = settings.shown().swap_remove(index);
    (value.to_string(), origin.clone())
}

fn flag_layer(field: &Field, text: &str) -> Layer {
    let mut given = flags(&[]);
    if field.table() == "log" {
        given.add(field.key, Some(text.to_owned()));
    } else if field.switch {
        given = flags(&[format!("--{}={text}", field.flag())]);
    } else {
        given = flags(&[format!("--{}", field.flag()), text.to_owned()]);
    }
    let mut problems = Vec::new();
    let layer = given.layer(&mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    layer
}

fn env_layer(field: &Field, text: &str) -> Layer {
    let strings = BTreeMap::from([(field.env(), text.to_owned())]);
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let layer = from_environment(&strings, &mut problems, &mut warnings);
    assert!(
        problems.is_empty() && warnings.is_empty(),
        "{problems:?} {warnings:?}"
    );
    layer
}

fn file_layer(key: &str, value: &toml::Value) -> Layer {
    let mut problems = Vec::new();
    let layer = file::parse(
        Path::new("test.toml"),
        &format!("{key} = {value}"),
        &mut problems,
    );
    assert!(problems.is_empty(), "{problems:?}");
    layer
}

#[test]
fn each_setting_is_set_by_flag_environment_and_file_alike() {
    for (index, field) in FIELDS.iter().enumerate() {
        let (default, origin) = shown(Layer::default(), index);
        assert_eq!(origin, Origin::Default);
        let by_flag = flag_layer(field, field.example);
        let value = by_flag.clone().resolve().shown().swap_remove(index).0;
        let by_file = file_layer(field.key, &value);
        let by_env = env_layer(field, field.example);
        assert_ne!(
            value.to_string(),
            default,
            "{}: the example must differ from the default",
            field.key
        );

        let (text, origin) = shown(by_flag.clone(), index);
        assert_eq!(origin, Origin::Flag(format!("--{}", field.flag())));
        assert_eq!(
            shown(by_env.clone(), index),
            (text.clone(), Origin::Env(field.env())),
            "{}",
            field.key
        );
        let (from_file, origin) = shown(by_file, index);
        assert_eq!(from_file, text, "{}", field.key);
        assert!(matches!(origin, Origin::File { line: 1, .. }), "{origin}");
    }
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    for (index, field) in FIELDS.iter().enumerate() {
        let example = flag_layer(field, field.example);
        let example_value = example.clone().resolve().shown().swap_remove(index).0;
        let default_value = Layer::default().resolve().shown().swap_remove(index).0;
        let file = file_layer(field.key, &default_value);
        let (value, origin) = shown(
            example
                .clone()
                .or(env_layer(field, field.example))
                .or(file.clone()),
            index,
        );
        assert_eq!(
            (value, origin),
            (
                example_value.to_string(),
                Origin::Flag(format!("--{}", field.flag()))
            )
        );
        let (value, origin) = shown(env_layer(field, field.example).or(file.clone()), index);
        assert_eq!(
            (value, origin),
            (example_value.to_string(), Origin::Env(field.env()))
        );
        let (value, origin) = shown(Layer::default().or(file), index);
        assert_eq!(value, default_value.to_string());
        assert!(matches!(origin, Origin::File { .. }), "{origin}");
    }
}

#[test]
fn the_sample_holds_every_setting_with_its_default() {
    let sample = sample();
    let uncommented: String = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let mut problems = Vec::new();
    let layer = file::parse(Path::new("sample.toml"), &uncommented, &mut problems);
    assert!(problems.is_empty(), "{problems:?}\n{uncommented}");
    let (read, default) = (layer.resolve(), Layer::default().resolve());
    for ((field, (value, origin)), (expected, _)) in
        FIELDS.iter().zip(read.shown()).zip(default.shown())
    {
        assert_eq!(value.to_string(), expected.to_string(), "{}", field.key);
        assert!(
            matches!(origin, Origin::File { .. }),
            "{} is missing from the sample",
            field.key
        );
    }
}

#[test]
fn contradictions_are_named_at_the_setting() {
    let text = "open_to_everyone = true\nusers = \"u.toml\"\n[tls]\ncert = \"c.pem\"\n[outbox]\nlow = \"2 GiB\"\n";
    let mut problems = Vec::new();
    let layer = file::parse(Path::new("/etc/d.toml"), text, &mut problems);
    rules::check(&layer.resolve(), &mut problems, &mut Vec::new());
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "/etc/d.toml:4:1: tls.cert: needs tls.key as well",
            "/etc/d.toml:1:1: open_to_everyone: contradicts users; leave one of them out",
            "/etc/d.toml:6:1: outbox.low: must be below outbox.high",
        ]
    );
}

#[test]
fn streams_are_in_one_store_and_passwords_in_files() {
    let text = "[persist]\npostgres = \"postgres://d:secret@db/d\"\narchive = \"ftp://a\"\nnodes = [\"p1\"]\nlease = \"10ms\"\n";
    let mut problems = Vec::new();
    let layer = file::parse(Path::new("/etc/d.toml"), text, &mut problems);
    rules::check(&layer.resolve(), &mut problems, &mut Vec::new());
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let at = |line: u32, rest: &str| format!("/etc/d.toml:{line}:1: persist.{rest}");
    assert_eq!(
        problems,
        [
            at(
                2,
                "postgres: a password belongs in the file that persist.postgres_password_file names"
            ),
            at(
                2,
                "postgres: persist.archive is for logs; PostgreSQL has its own copies"
            ),
            at(
                2,
                "postgres: persist.nodes is for logs; with PostgreSQL nodes find each other"
            ),
            at(5, "lease: from 1s to 600s"),
            at(
                3,
                "archive: \"ftp://a\" is no archive: s3://BUCKET/PREFIX, file:///FOLDER, or a folder"
            ),
        ]
    );
}

#[test]
fn paths_in_a_file_start_from_its_folder() {
    let mut problems = Vec::new();
    let layer = file::parse(
        Path::new("/etc/dialtone/d.toml"),
        "users = \"u.toml\"",
        &mut problems,
    );
    assert_eq!(
        layer.resolve().users.value,
        Some("/etc/dialtone/u.toml".into())
    );
}

#[test]
fn unknown_variables_are_doubtful() {
    let strings = BTreeMap::from([
        ("DIALTONE_LISTNE".to_owned(), "x".to_owned()),
        ("OTHER".to_owned(), "x".to_owned()),
    ]);
    let sources = Sources {
        flags: Flags::default(),
        file: None,
        preset: Layer::default(),
    };
    let loaded = sources.load(&strings);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["env DIALTONE_LISTNE: no setting has this name"]);
}

#[test]
fn a_switch_needs_no_value() {
    let mut problems = Vec::new();
    let layer = flags(&["--open-to-everyone".to_owned()]).layer(&mut problems);
    assert!(layer.resolve().open_to_everyone.value);
}

#[test]
fn the_documentation_lists_every_setting() {
    let documented = include_str!("../../../docs/configuration.md");
    let defaults = Layer::default().resolve();
    let missing: String = FIELDS
        .iter()
        .zip(defaults.shown())
        .map(|(field, (default, _))| format!("| `{}` | `{default}` | {} |\n", field.key, field.doc))
        .filter(|row| !documented.contains(row.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/configuration.md lacks these rows:\n{missing}"
    );
}
