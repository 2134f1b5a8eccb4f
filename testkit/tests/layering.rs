//! Dependencies between the crates of the workspace run downwards only.
#![expect(
    clippy::unwrap_used,
    reason = "a manifest that cannot be read is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::{Table, Value};

/// What each crate may depend on, in any way, and what only its tests may use besides.
///
/// From the bottom layer up: a crate may name those before it, but `broker` and `client` meet on the wire alone.
const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    ("protocol", &[], &[]),
    ("transport", &["protocol"], &[]),
    ("broker", &["protocol", "transport"], &[]),
    ("client", &["protocol", "transport"], &[]),
    (
        "persist",
        &["protocol", "client"],
        &["transport", "broker", "testkit"],
    ),
    ("proxy", &["transport"], &[]),
    (
        "project",
        &["client", "proxy"],
        &["protocol", "transport", "broker", "testkit"],
    ),
    (
        "hub",
        &["protocol", "client"],
        &["transport", "broker", "persist", "testkit"],
    ),
    (
        "control",
        &["protocol", "client", "hub"],
        &["transport", "broker", "testkit"],
    ),
    ("control-kubernetes", &["hub", "control"], &[]),
    (
        "conat",
        &["protocol", "transport", "client"],
        &["broker", "persist", "testkit"],
    ),
    ("web", &["hub"], &["testkit"]),
    (
        "benches/load",
        &["protocol", "transport", "broker", "client"],
        &[],
    ),
    (
        "server",
        &[
            "protocol",
            "transport",
            "broker",
            "client",
            "persist",
            "hub",
            "control",
            "control-kubernetes",
            "conat",
            "proxy",
            "project",
            "web",
            "benches/load",
        ],
        &["testkit"],
    ),
    (
        "testkit",
        &["protocol", "transport", "broker", "client"],
        &[],
    ),
    (
        "benches",
        &[
            "protocol",
            "transport",
            "broker",
            "client",
            "persist",
            "hub",
            "benches/load",
        ],
        &["testkit"],
    ),
    ("fuzz", &["protocol", "transport", "broker", "proxy"], &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn manifest(folder: &str) -> Table {
    std::fs::read_to_string(root().join(folder).join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

/// The folders of the workspace's crates by their names.
fn members() -> BTreeMap<String, String> {
    let members = manifest("")["workspace"]["members"]
        .as_array()
        .unwrap()
        .clone();
    let folder = |member: Value| member.as_str().unwrap().to_owned();
    let name = |folder: &str| {
        manifest(folder)["package"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    members
        .into_iter()
        .map(folder)
        .map(|folder| (name(&folder), folder))
        .collect()
}

/// The crates of the workspace that one of these tables names.
fn named(
    manifest: &Table,
    sections: &[&str],
    members: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let mut tables: Vec<&Table> = vec![manifest];
    let targets = manifest.get("target").and_then(Value::as_table);
    tables.extend(
        targets
            .into_iter()
            .flat_map(Table::values)
            .filter_map(Value::as_table),
    );
    let sections = tables
        .iter()
        .flat_map(|table| sections.iter().filter_map(|section| table.get(*section)));
    let entries = sections.filter_map(Value::as_table).flatten();
    let names =
        entries.map(|(name, entry)| entry.get("package").and_then(Value::as_str).unwrap_or(name));
    names
        .filter_map(|name| members.get(name).cloned())
        .collect()
}

#[test]
fn crates_depend_on_lower_layers_only() {
    let members = members();
    let listed: BTreeSet<&str> = ALLOWED.iter().map(|(folder, ..)| *folder).collect();
    let found: BTreeSet<&str> = members.values().map(String::as_str).collect();
    assert_eq!(found, listed, "every crate has its line in the table");
    let mut wrong = Vec::new();
    for (folder, allowed, in_tests) in ALLOWED {
        let manifest = manifest(folder);
        for used in named(&manifest, &["dependencies", "build-dependencies"], &members) {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!("{folder} → {used}"));
            }
        }
        for used in named(&manifest, &["dev-dependencies"], &members) {
            if used != *folder
                && !allowed.contains(&used.as_str())
                && !in_tests.contains(&used.as_str())
            {
                wrong.push(format!("{folder} → {used} (tests)"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the layers: {wrong:#?}");
}

/// What only certain crates may name, so that a layer keeps its nature.
#[test]
fn some_crates_are_for_some_layers_only() {
    let only: &[(&str, &[&str])] = &[
        (
            "tokio",
            &[
                "transport",
                "broker",
                "client",
                "persist",
                "hub",
                "control",
                "control-kubernetes",
                "conat",
                "proxy",
                "project",
                "web",
                "benches/load",
                "server",
                "testkit",
                "benches",
                "fuzz",
            ],
        ),
        ("quinn", &["transport", "benches/load"]),
        ("dashmap", &["broker"]),
        ("clap", &["server", "benches/load"]),
        ("sqlx", &["persist", "hub"]),
        ("object_store", &["persist"]),
    ];
    for (name, allowed) in only {
        for (folder, ..) in ALLOWED {
            let manifest = manifest(folder);
            let dependencies = manifest.get("dependencies").and_then(Value::as_table);
            let has = dependencies.is_some_and(|dependencies| dependencies.contains_key(*name));
            assert!(
                !has || allowed.contains(folder),
                "{folder} depends on {name}"
            );
        }
    }
}

/// The files below a folder that name the driver of the database.
fn with_sql(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            with_sql(&path, found);
        } else if std::fs::read_to_string(&path).is_ok_and(|text| text.contains("sqlx::")) {
            let path = path.strip_prefix(root()).unwrap();
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn sql_is_in_stores_only() {
    for (source, store) in [
        ("persist/src", "persist/src/backend/postgres"),
        ("hub/src", "hub/src/store"),
    ] {
        let mut found = Vec::new();
        with_sql(&root().join(source), &mut found);
        assert!(!found.is_empty(), "there is a store in {source}");
        found.retain(|path| !path.starts_with(store));
        assert!(found.is_empty(), "SQL outside of stores: {found:?}");
    }
}
