//! Settings of the site that a process is given: by file, environment and flag, each of which goes before the one named
//! before it. Administrators cannot change them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use dialtone_hub::settings::{self, Kind};
use toml::{Table, Value};

use crate::args::SettingArgs;
use crate::config::Strings;
use crate::exit::Failure;

/// How variables begin that set a setting of the site; the later prefix goes first.
const PREFIXES: [&str; 2] = ["COCALC_SETTING_", "DIALTONE_SETTING_"];

/// The variable with the file.
const FILE: &str = "DIALTONE_SITE_SETTINGS";

/// What file, environment and flags say. What cannot be in a file or a flag is a mistake; variables may be those of
/// another version, and are left out with a warning where they are used.
pub(crate) fn given(
    args: &SettingArgs,
    strings: &dyn Strings,
) -> Result<Vec<(String, String)>, Failure> {
    let file = args.site_settings.clone();
    let file = file.or_else(|| strings.get(FILE).map(Into::into));
    let mut found = match file {
        Some(file) => read(&file)?,
        None => BTreeMap::new(),
    };
    found.extend(variables(strings));
    for text in &args.setting {
        let (name, value) = flag(text)?;
        found.insert(name, value);
    }
    Ok(found.into_iter().collect())
}

fn variables(strings: &dyn Strings) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for prefix in PREFIXES {
        for variable in strings.names() {
            let Some(name) = variable.strip_prefix(prefix) else {
                continue;
            };
            if let Some(value) = strings.get(&variable) {
                found.insert(name.to_lowercase(), value);
            }
        }
    }
    found
}

fn flag(text: &str) -> Result<(String, String), Failure> {
    let Some((name, value)) = text.split_once('=') else {
        let text = format_args!("--setting is NAME=VALUE, not {text:?}");
        return Err(Failure::usage(text));
    };
    check(name, value).map_err(|error| Failure::usage(format_args!("--setting: {error}")))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn check(name: &str, value: &str) -> Result<(), settings::Invalid> {
    settings::definition(name)?.check(value)
}

fn read(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: Table = text.parse().map_err(|error| format!("{error}"))?;
    let one = |(name, value): (String, Value)| {
        let definition = settings::definition(&name).map_err(|error| error.to_string())?;
        let value = as_text(definition.kind, value).map_err(|error| format!("{name} {error}"))?;
        definition
            .check(&value)
            .map_err(|error| error.to_string())?;
        Ok((name, value))
    };
    table.into_iter().map(one).collect()
}

/// A value as settings have it: everything is a text there.
fn as_text(kind: Kind, value: Value) -> Result<String, String> {
    Ok(match (kind, value) {
        (_, Value::String(text)) => text,
        (Kind::YesNo, Value::Boolean(is_on)) => if is_on { "yes" } else { "no" }.to_owned(),
        (Kind::Json, value @ (Value::Table(_) | Value::Array(_))) => {
            serde_json::to_string(&value).map_err(|error| format!("cannot be JSON: {error}"))?
        }
        (Kind::List, Value::Array(texts)) => {
            let texts: Vec<String> = texts
                .into_iter()
                .map(|text| as_text(Kind::Text, text))
                .collect::<Result<_, _>>()?;
            texts.join(",")
        }
        (_, Value::Boolean(value)) => value.to_string(),
        (_, Value::Integer(value)) => value.to_string(),
        (_, Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_)) => {
            return Err("has a value of another kind".to_owned());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.toml");
        let text = "site_name = \"file\"\ndns = \"file.org\"\nhelp_email = \"file@example.org\"\n";
        std::fs::write(&path, text).unwrap();
        let strings = pairs(&[
            ("COCALC_SETTING_SITE_NAME", "theirs"),
            ("DIALTONE_SETTING_SITE_NAME", "ours"),
            ("DIALTONE_SETTING_DNS", "environment.org"),
            ("COCALC_SETTINGS", "x"),
            ("DIALTONE_SITE_SETTINGS", path.to_str().unwrap()),
        ]);
        let args = SettingArgs {
            setting: vec!["dns=flag.org".to_owned()],
            site_settings: None,
        };
        let found: BTreeMap<_, _> = given(&args, &strings).unwrap().into_iter().collect();
        let expected = [
            ("dns", "flag.org"),
            ("help_email", "file@example.org"),
            ("site_name", "ours"),
        ];
        assert_eq!(found, pairs(&expected));
    }

    #[test]
    fn values_of_a_file_become_those_of_settings() {
        let text = "jupyter_api_enabled = true\nnew_project_pool = 3\nselectable_llms = [\"a\", \"b\"]\n\
                    [custom_openai_configuration.local]\nbaseUrl = \"http://x\"\n";
        let expected = [
            (
                "custom_openai_configuration",
                r#"{"local":{"baseUrl":"http://x"}}"#,
            ),
            ("jupyter_api_enabled", "yes"),
            ("new_project_pool", "3"),
            ("selectable_llms", "a,b"),
        ];
        assert_eq!(parse(text).unwrap(), pairs(&expected));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("nothing = 1", "nothing"),
            ("new_project_pool = \"many\"", "new_project_pool"),
            ("dns = 1.5", "dns"),
            ("dns = ", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        for text in ["dns", "nothing=1", "new_project_pool=many"] {
            assert!(flag(text).is_err(), "{text}");
        }
    }
}
