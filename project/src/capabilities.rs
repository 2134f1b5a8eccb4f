//! What is installed here, and what a client may therefore ask for.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};
use tokio::time::Instant;

use crate::error::Error;

/// Programs, by the names under which clients look for them; one of the programs is enough.
const PROGRAMS: [(&str, &[&str]); 18] = [
    ("jupyter", &["jupyter"]),
    ("jupyter_lab", &["jupyter-lab"]),
    ("jupyter_notebook", &["jupyter-notebook"]),
    ("vscode", &["code-server"]),
    ("rserver", &["rserver"]),
    ("julia", &["julia"]),
    ("sage", &["sage"]),
    ("R", &["R"]),
    ("rmd", &["Rscript"]),
    ("qmd", &["quarto"]),
    ("latex", &["xelatex", "pdflatex"]),
    ("spellcheck", &["aspell"]),
    ("jq", &["jq"]),
    ("pandoc", &["pandoc"]),
    ("x11", &["xpra"]),
    ("sshd", &["sshd"]),
    ("html2pdf", &["chromium", "chromium-browser"]),
    ("git", &["git"]),
];

/// Programs that put a text in order, by the language that clients name.
const FORMATTERS: [(&str, &str); 7] = [
    ("python", "yapf"),
    ("r", "Rscript"),
    ("latex", "latexindent"),
    ("clang", "clang-format"),
    ("go", "gofmt"),
    ("rust", "rustfmt"),
    ("prettier", "prettier"),
];

/// The first program of this name on a search path.
pub(crate) fn find_program(environment: &BTreeMap<String, String>, name: &str) -> Option<PathBuf> {
    let path = environment.get("PATH")?;
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|program| {
            program
                .metadata()
                .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        })
}

/// What was found out, for a while.
#[derive(Debug)]
pub(crate) struct Capabilities {
    environment: BTreeMap<String, String>,
    home: String,
    kept_for: Duration,
    found: Mutex<Option<(Instant, Json)>>,
}

impl Capabilities {
    pub(crate) fn new(
        environment: BTreeMap<String, String>,
        home: String,
        kept_for: Duration,
    ) -> Self {
        Self {
            environment,
            home,
            kept_for,
            found: Mutex::default(),
        }
    }

    /// The configuration in one of its aspects: `main`, or `x11` with the programs that need a screen.
    pub(crate) fn get(&self, aspect: &str, anew: bool) -> Result<Json, Error> {
        match aspect {
            "main" => Ok(self.main(anew)),
            "x11" => {
                let has = find_program(&self.environment, "xpra").is_some();
                Ok(json!({"timestamp": now(), "capabilities": {"xpra": has}}))
            }
            other => Err(Error::argument(
                "aspect",
                format!("is main or x11, not {other:?}"),
            )),
        }
    }

    fn main(&self, anew: bool) -> Json {
        let mut found = self.found.lock();
        if let Some((at, value)) = &*found
            && !anew
            && at.elapsed() < self.kept_for
        {
            return value.clone();
        }
        let value = self.look();
        *found = Some((Instant::now(), value.clone()));
        value
    }

    fn look(&self) -> Json {
        let has = |name: &str| find_program(&self.environment, name).is_some();
        let mut capabilities: Map<String, Json> = PROGRAMS
            .iter()
            .map(|(name, programs)| ((*name).to_owned(), programs.iter().any(|p| has(p)).into()))
            .collect();
        let formatting: Map<String, Json> = FORMATTERS
            .iter()
            .map(|(language, program)| ((*language).to_owned(), has(program).into()))
            .collect();
        capabilities.insert("formatting".to_owned(), formatting.into());
        capabilities.insert("homeDirectory".to_owned(), self.home.clone().into());
        let jupyter = json!({
            "lab": has("jupyter-lab"),
            "notebook": has("jupyter-notebook"),
            "kernelspec": has("jupyter"),
        });
        if has("jupyter") {
            capabilities.insert("jupyter".to_owned(), jupyter);
        }
        json!({"timestamp": now(), "capabilities": capabilities})
    }
}

/// The time of day in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn programs_are_found_on_the_path_alone() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("git");
        std::fs::write(&program, "").unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let environment = BTreeMap::from([("PATH".to_owned(), format!("/none:{path}"))]);
        assert_eq!(find_program(&environment, "git"), None, "nobody may run it");
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_program(&environment, "git"), Some(program.clone()));
        let capabilities = Capabilities::new(environment, "/h".into(), Duration::from_hours(1));
        let main = capabilities.get("main", false).unwrap();
        assert_eq!(main["capabilities"]["git"], true);
        assert_eq!(main["capabilities"]["jupyter"], false);
        assert_eq!(main["capabilities"]["homeDirectory"], "/h");
        std::fs::remove_file(&program).unwrap();
        assert_eq!(
            capabilities.get("main", false).unwrap(),
            main,
            "it is remembered"
        );
        assert_eq!(
            capabilities.get("main", true).unwrap()["capabilities"]["git"],
            false
        );
        assert!(capabilities.get("other", false).is_err());
    }
}
