//! Which database the hub uses: from flags, from the environment, or a file in the data folder.

use std::path::Path;

use anyhow::Context as _;
use dialtone_hub::store::{Config, Location};

use crate::args::DatabaseArgs;
use crate::assemble;
use crate::config::Strings;
use crate::exit::Failure;

/// The file of the database within the data folder.
const FILE: &str = "hub.db";

/// The name and the user that CoCalc takes where nothing is said.
const COCALC: &str = "smc";

/// Where it is, and how much is asked of it.
pub(crate) fn config(args: &DatabaseArgs, strings: &dyn Strings) -> Result<Config, Failure> {
    let mut location = location(args, strings)?;
    let file = args.database_password_file.clone();
    let file = file.or_else(|| {
        strings
            .get("DIALTONE_DATABASE_PASSWORD_FILE")
            .map(Into::into)
    });
    if let (Location::Postgres { password, .. }, Some(path)) = (&mut location, file) {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        *password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(Config {
        connections_max: args.database_connections,
        ..Config::new(location)
    })
}

fn location(args: &DatabaseArgs, strings: &dyn Strings) -> Result<Location, Failure> {
    if let Some(host) = &args.database_nodes {
        return nodes(args, host, strings);
    }
    let url = args.database_url.clone();
    let url = url
        .or_else(|| strings.get("DIALTONE_DATABASE_URL"))
        .or_else(|| strings.get("DATABASE_URL"));
    if let Some(url) = url {
        return url.parse().map_err(Failure::usage);
    }
    let data = args.data.clone();
    let data = match data.or_else(|| strings.get("DIALTONE_DATA").map(Into::into)) {
        Some(data) => data,
        None => assemble::data_dir(strings)?,
    };
    private_folder(&data)?;
    Ok(Location::Sqlite {
        path: data.join(FILE),
    })
}

/// A PostgreSQL by its parts, as the flags of CoCalc's hub name them.
fn nodes(args: &DatabaseArgs, host: &str, strings: &dyn Strings) -> Result<Location, Failure> {
    if host.contains(',') {
        return Err(Failure::usage(
            "--database-nodes takes one host; a URL of the database may stand for several behind a proxy",
        ));
    }
    let part = |given: &Option<String>, variables: &[&str]| {
        let found = variables.iter().find_map(|name| strings.get(name));
        given.clone().or(found).unwrap_or_else(|| COCALC.to_owned())
    };
    let name = encoded(&part(&args.database_name, &["PGDATABASE", "SMC_DB"]));
    let user = encoded(&part(&args.database_user, &["PGUSER"]));
    let url = if host.starts_with('/') {
        format!("postgres://{user}@localhost/{name}?host={}", encoded(host))
    } else {
        format!("postgres://{user}@{host}/{name}")
    };
    url.parse().map_err(Failure::usage)
}

/// A text as a part of a URL.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend([format!("%{byte:02X}")]);
        }
    }
    out
}

/// Makes a folder that nobody else reads, unless it is there.
pub(crate) fn private_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn args() -> DatabaseArgs {
        DatabaseArgs {
            database_url: None,
            database_nodes: None,
            database_name: None,
            database_user: None,
            database_password_file: None,
            database_connections: 16,
            data: None,
        }
    }

    fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[track_caller]
    fn check(args: &DatabaseArgs, variables: &[(&str, &str)], expected: &str) {
        let found = location(args, &strings(variables));
        let found = found.map_or_else(|failure| failure.cause(), |location| location.to_string());
        assert_eq!(found, expected);
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let in_folder = DatabaseArgs {
            data: Some(data.clone()),
            ..args()
        };
        let file = format!("sqlite:{}/hub.db", data.display());
        check(&in_folder, &[], &file);
        check(
            &in_folder,
            &[("DATABASE_URL", "postgres://a@b/c")],
            "postgres://a@b/c",
        );
        let both = [
            ("DATABASE_URL", "postgres://a@b/c"),
            ("DIALTONE_DATABASE_URL", "sqlite:x.db"),
        ];
        check(&in_folder, &both, "sqlite:x.db");
        let url = DatabaseArgs {
            database_url: Some("sqlite:y.db".to_owned()),
            ..args()
        };
        check(&url, &both, "sqlite:y.db");
    }

    #[test]
    fn a_database_may_be_named_by_its_parts() {
        let nodes = |host: &str| DatabaseArgs {
            database_nodes: Some(host.to_owned()),
            ..args()
        };
        check(
            &nodes("db.example.org"),
            &[],
            "postgres://smc@db.example.org/smc",
        );
        check(
            &nodes("/run/pg"),
            &[("PGUSER", "u@x")],
            "postgres://u%40x@localhost/smc?host=/run/pg",
        );
        let named = DatabaseArgs {
            database_name: Some("site".to_owned()),
            database_user: Some("hub".to_owned()),
            ..nodes("db:5433")
        };
        check(
            &named,
            &[("PGUSER", "other")],
            "postgres://hub@db:5433/site",
        );
        check(
            &nodes("a,b"),
            &[],
            "--database-nodes takes one host; a URL of the database may stand for several behind a proxy",
        );
    }
}
