//! What processes of a project find in their environment. Pure.
//!
//! Nothing of the hub's own environment passes that is not on a list: it may hold passwords and keys.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dialtone_hub::id::ProjectId;
use serde_json::json;

use crate::runner::Spec;

/// What of the hub's environment projects may see.
const ALLOWED: &[&str] = &[
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The same, by how the names begin.
const ALLOWED_PREFIX: &str = "LC_";

/// Where programs are, if the hub does not know.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// By which processes of a run are known, whatever they become.
pub(super) const RUN_ID: &str = "DIALTONE_RUN_ID";

/// What of an environment projects may see.
pub(super) fn allowed(all: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    all.into_iter()
        .filter(|(name, _)| ALLOWED.contains(&name.as_str()) || name.starts_with(ALLOWED_PREFIX))
        .collect()
}

/// The environment of a run: names and values are those that programs in projects know.
pub(super) fn of(config: &super::Config, spec: &Spec, home: &str) -> BTreeMap<String, String> {
    let mut env = config.env.clone();
    let path = env.get("PATH").map_or(PATH, String::as_str);
    let path = format!("{home}/bin:{home}/.local/bin:{path}");
    let user = user(spec.project_id);
    let state = format!("{home}/.smc");
    let secret = format!("{state}/secret-token");
    let run_id = spec.run_id.to_string();
    let extra = STANDARD.encode(json!(spec.env).to_string());
    let id = spec.project_id.to_string();
    let fields: [(&str, &str); 16] = [
        ("PATH", &path),
        ("HOME", home),
        ("USER", &user),
        ("LOGNAME", &user),
        ("SHELL", "/bin/bash"),
        ("BASE_PATH", &config.base_path),
        ("DATA", &state),
        ("LOGS", &state),
        ("COCALC_PROJECT_ID", &id),
        ("COCALC_USERNAME", &user),
        ("COCALC_EXTRA_ENV", &extra),
        ("COCALC_SECRET_TOKEN", &secret),
        ("CONAT_SERVER", &config.broker_url),
        ("DIALTONE_URL", &config.broker_url),
        ("DIALTONE_PROJECT_ID", &id),
        (RUN_ID, &run_id),
    ];
    env.extend(fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env
}

/// What a project's user is called: its number without hyphens.
pub(super) fn user(id: ProjectId) -> String {
    id.uuid().simple().to_string()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::quota::Quota;

    #[test]
    fn projects_see_what_is_on_the_list_and_nothing_else() {
        let hub = [
            ("PATH", "/usr/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("SMC_DB_PASSWORD", "hunter2"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("DATABASE_URL", "postgres://hunter2@db"),
            ("LD_PRELOAD", "hunter2.so"),
        ];
        let hub = hub.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = super::super::Config {
            env: allowed(hub),
            broker_url: "ws://127.0.0.1:4480".to_owned(),
            ..super::super::Config::new("here", "/projects/[project_id]", vec!["sh".to_owned()])
        };
        let spec = Spec {
            project_id: ProjectId::random(),
            order: 1,
            run_id: Uuid::new_v4(),
            quota: Quota::default(),
            env: BTreeMap::from([("EDITOR".to_owned(), "vi".to_owned())]),
            image: None,
            uid: None,
        };
        let env = of(&config, &spec, "/projects/x");
        assert!(env.values().all(|value| !value.contains("hunter2")));
        assert_eq!(
            env["PATH"],
            "/projects/x/bin:/projects/x/.local/bin:/usr/bin"
        );
        assert_eq!(env["LC_ALL"], "C.UTF-8");
        assert_eq!(env["COCALC_SECRET_TOKEN"], "/projects/x/.smc/secret-token");
        let extra = STANDARD.decode(&env["COCALC_EXTRA_ENV"]).unwrap();
        assert_eq!(extra, br#"{"EDITOR":"vi"}"#);
        assert!(!env.contains_key("EDITOR"), "the daemon decides about it");
    }
}
