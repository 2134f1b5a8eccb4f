//! The objects of a project, as the cluster takes them. Pure.

use std::collections::BTreeMap;

use dialtone_control::quota::Quota;
use dialtone_control::runner::Spec;
use dialtone_hub::control::CopyPath;
use dialtone_hub::id::ProjectId;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::config::Config;

/// The label that tells whose objects these are; its value is the site.
pub const SITE: &str = "dialtone.io/site";

/// The label with the project.
pub const PROJECT: &str = "dialtone.io/project";

/// The label with the number of what was started.
pub const RUN: &str = "dialtone.io/run";

/// The label with the number of the order for which it was started.
pub const ORDER: &str = "dialtone.io/order";

/// The label by which network policies tell projects that may reach the internet: `yes` or `no`.
pub const INTERNET: &str = "dialtone.io/internet";

/// The label with what an object is for: `project` or `copy`.
pub const PURPOSE: &str = "dialtone.io/purpose";

/// The key of a secret under which the token of a project stands.
pub const TOKEN: &str = "secret-token";

/// Where a project finds it.
const TOKEN_FOLDER: &str = "/run/dialtone";

/// Where its home is.
const HOME: &str = "/home/user";

/// The port of raw files.
pub const RAW_PORT: u16 = 6001;

/// Begins anew with what the project says about itself, and becomes the project. The token is moved to where programs
/// of projects look for it.
const SCRIPT: &str = r#"
umask 077
cd "$HOME" || exit 126
rm -rf .smc && mkdir .smc && printf %s "$DIALTONE_RUN_ID" > .smc/run-id || exit 126
cat /run/dialtone/secret-token > .smc/secret-token || exit 126
exec "$@" </dev/null
"#;

/// Names of the objects of a project.
pub fn pod_name(id: ProjectId) -> String {
    format!("project-{id}")
}

/// The name of the claim of a project's home.
pub fn claim_name(id: ProjectId) -> String {
    format!("home-{id}")
}

/// The name of the secret of something that was started.
pub fn secret_name(run_id: Uuid) -> String {
    format!("run-{run_id}")
}

/// The name of the job of a copy.
pub fn job_name(id: Uuid) -> String {
    format!("copy-{id}")
}

/// What selects the objects of a project.
pub fn selector(config: &Config, id: ProjectId) -> String {
    format!("{SITE}={},{PROJECT}={id},{PURPOSE}=project", config.site)
}

/// What selects the pods of all projects.
pub fn selector_of_all(config: &Config) -> String {
    format!("{SITE}={},{PURPOSE}=project", config.site)
}

fn labels(config: &Config, spec: &Spec) -> Json {
    json!({
        SITE: config.site,
        PROJECT: spec.project_id.to_string(),
        RUN: spec.run_id.to_string(),
        ORDER: spec.order.to_string(),
        PURPOSE: "project",
        INTERNET: if spec.quota.network { "yes" } else { "no" },
    })
}

/// The claim of a home, as large as its quota.
pub fn claim(config: &Config, id: ProjectId, disk_quota: u64) -> Json {
    let mut spec = json!({
        "accessModes": [config.access_mode],
        "resources": {"requests": {"storage": megabytes(disk_quota)}},
    });
    if let Some(class) = &config.storage_class {
        spec["storageClassName"] = json!(class);
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(id),
            "labels": {SITE: config.site, PROJECT: id.to_string(), PURPOSE: "home"},
        },
        "spec": spec,
    })
}

/// The secret of something that is about to be started, before it has one.
pub fn secret(config: &Config, spec: &Spec) -> Json {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": secret_name(spec.run_id), "labels": labels(config, spec)},
    })
}

/// The pod of a project. It is owned by its secret, which has this `uid`: without that it does not stay.
pub fn pod(config: &Config, spec: &Spec, secret_uid: &str) -> Json {
    let mut selector = config.node_selector.clone();
    if spec.quota.member_host {
        selector.extend(config.member_node_selector.clone());
    }
    let secret = secret_name(spec.run_id);
    let mut pod = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": config.grace,
        "nodeSelector": selector,
        "tolerations": config.tolerations,
        "imagePullSecrets": pull_secrets(config),
        "securityContext": security(config),
        "containers": [container(config, spec)],
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": claim_name(spec.project_id)}},
            {"name": "token", "secret": {"secretName": secret, "defaultMode": 0o440}},
        ],
    });
    if selector.is_empty() {
        drop(pod.as_object_mut().map(|pod| pod.remove("nodeSelector")));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(spec.project_id),
            "labels": labels(config, spec),
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": secret_uid},
            ],
        },
        "spec": pod,
    })
}

fn pull_secrets(config: &Config) -> Vec<Json> {
    let names = config.image_pull_secrets.iter();
    names.map(|name| json!({"name": name})).collect()
}

fn security(config: &Config) -> Json {
    json!({
        "runAsNonRoot": true,
        "runAsUser": config.user,
        "runAsGroup": config.user,
        "fsGroup": config.user,
        // A home with many files would be walked through at each start otherwise.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn restricted() -> Json {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

fn container(config: &Config, spec: &Spec) -> Json {
    let mut command = vec!["/bin/sh", "-c", SCRIPT, "dialtone-project"];
    command.extend(config.command.iter().map(String::as_str));
    let port = RAW_PORT.to_string();
    command.extend(["--host", "0.0.0.0", "--raw-port", &port]);
    let mut container = json!({
        "name": "project",
        "image": config.image_of(spec.image.as_deref()),
        "command": command,
        "workingDir": HOME,
        "env": environment(config, spec),
        "ports": [{"name": "raw", "containerPort": RAW_PORT}],
        "resources": resources(config, &spec.quota),
        "securityContext": restricted(),
        // What it has printed last is told to its users if it fails.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": {
            // Written when it is connected to the broker, and last.
            "exec": {"command": ["/bin/sh", "-c", "test -e \"$HOME/.smc/project.pid\""]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 30,
        },
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": true},
        ],
    });
    if let Some(policy) = &config.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}

/// What is the project's own goes before what the site says, and neither before what the project must know.
fn environment(config: &Config, spec: &Spec) -> Vec<Json> {
    let id = spec.project_id.to_string();
    let run = spec.run_id.to_string();
    let token = format!("{TOKEN_FOLDER}/{TOKEN}");
    let data = format!("{HOME}/.smc");
    let fixed = [
        ("HOME", HOME),
        ("USER", "user"),
        ("LOGNAME", "user"),
        ("SHELL", "/bin/bash"),
        ("COCALC_USERNAME", "user"),
        ("BASE_PATH", &config.base_path),
        ("COCALC_PROJECT_ID", &id),
        ("DIALTONE_PROJECT_ID", &id),
        ("DIALTONE_RUN_ID", &run),
        ("CONAT_SERVER", &config.broker_url),
        ("DIALTONE_URL", &config.broker_url),
        ("DATA", &data),
        ("LOGS", &data),
        ("COCALC_SECRET_TOKEN", &token),
    ];
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    for more in [&config.env, &spec.env] {
        all.extend(
            more.iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
    }
    all.extend(fixed);
    let shown = all.into_iter();
    shown
        .map(|(name, value)| json!({"name": name, "value": escaped(value)}))
        .collect()
}

/// Kubernetes replaces `$(NAME)` in values; `$$` stands for `$`.
fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

fn resources(config: &Config, quota: &Quota) -> Json {
    let scratch = megabytes(config.scratch);
    json!({
        "requests": {
            "cpu": cores(quota.cpu_request),
            "memory": megabytes(quota.memory_request),
        },
        "limits": {
            "cpu": cores(quota.cpu_limit),
            "memory": megabytes(quota.memory_limit),
            "ephemeral-storage": scratch,
        },
    })
}

/// Kubernetes takes nothing below a thousandth, and no claim for nothing.
fn cores(cores: f64) -> String {
    format!("{:.0}m", (cores * 1000.0).max(1.0))
}

fn megabytes(megabytes: u64) -> String {
    format!("{}M", megabytes.max(1))
}

/// A job that copies files between the homes of two projects.
pub fn copier(config: &Config, id: Uuid, copy: &CopyPath) -> Json {
    let mut command = vec!["rsync".to_owned()];
    command.extend(rsync(copy));
    let labels = json!({
        SITE: config.site,
        PURPOSE: "copy",
        PROJECT: copy.target_project_id.to_string(),
    });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(id), "labels": labels},
        "spec": {
            // Whoever waits tries again, if that is wanted.
            "backoffLimit": 0,
            // By the cluster's clock, whatever becomes of the hub that waits for it.
            "activeDeadlineSeconds": copy.timeout.map_or(COPY_MAX, |limit| limit.as_secs().max(1)),
            "ttlSecondsAfterFinished": COPY_KEPT,
            "template": {"metadata": {"labels": labels}, "spec": copier_pod(config, copy, &command)},
        },
    })
}

fn copier_pod(config: &Config, copy: &CopyPath, command: &[String]) -> Json {
    let volume = |name: &str, id: ProjectId| json!({"name": name, "persistentVolumeClaim": {"claimName": claim_name(id)}});
    json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 1,
        "tolerations": config.tolerations,
        "imagePullSecrets": pull_secrets(config),
        "securityContext": security(config),
        "containers": [{
            "name": "copy",
            "image": config.image,
            "command": command,
            "securityContext": restricted(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": {
                "requests": {"cpu": "50m", "memory": "64M"},
                "limits": {"cpu": "1000m", "memory": "512M"},
            },
            "volumeMounts": [
                {
                    "name": "source", "mountPath": "/source",
                    "readOnly": copy.project_id != copy.target_project_id,
                },
                {"name": "target", "mountPath": "/target"},
            ],
        }],
        "volumes": [
            volume("source", copy.project_id),
            volume("target", copy.target_project_id),
        ],
    })
}

/// Seconds that a copy may take that says nothing about it.
const COPY_MAX: u64 = 600;

/// Seconds for which it is kept after its end, for a hub that was away.
const COPY_KEPT: u64 = 600;

/// Arguments for a copy. Nothing of them is read as an option, and no link leads out of the homes: the pod has nothing
/// else.
fn rsync(copy: &CopyPath) -> Vec<String> {
    let mut args = vec!["-rlpt".to_owned(), "--mkpath".to_owned()];
    let mut flag = |wanted: bool, flag: &str| {
        if wanted {
            args.push(flag.to_owned());
        }
    };
    flag(!copy.overwrite_newer, "--update");
    flag(copy.delete_missing, "--delete");
    flag(copy.backup, "--backup");
    args.extend(copy.bwlimit.map(|limit| format!("--bwlimit={limit}")));
    let excluded = copy.exclude.iter();
    args.extend(excluded.map(|pattern| format!("--exclude={pattern}")));
    args.push("--".to_owned());
    args.push(format!("/source/{}", copy.path.trim_start_matches('/')));
    args.push(format!(
        "/target/{}",
        copy.target_path.trim_start_matches('/')
    ));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            project_id: ProjectId::random(),
            order: 7,
            run_id: Uuid::new_v4(),
            quota: Quota {
                cpu_limit: 1.5,
                cpu_request: 0.02,
                memory_limit: 1000,
                memory_request: 200,
                disk_quota: 3000,
                ..Quota::default()
            },
            env: BTreeMap::from([
                ("A".to_owned(), "$(HOME) costs 3$".to_owned()),
                ("HOME".to_owned(), "/etc".to_owned()),
            ]),
            image: None,
            uid: None,
        }
    }

    #[test]
    fn quotas_become_requests_and_limits() {
        let spec = spec();
        let config = Config::new("image", "ws://broker");
        let pod = pod(&config, &spec, "uid");
        let resources = &pod["spec"]["containers"][0]["resources"];
        let expected = json!({
            "requests": {"cpu": "20m", "memory": "200M"},
            "limits": {"cpu": "1500m", "memory": "1000M", "ephemeral-storage": "2000M"},
        });
        assert_eq!(resources, &expected);
        let claim = claim(&config, spec.project_id, spec.quota.disk_quota);
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "3000M");
    }

    #[test]
    fn a_pod_has_no_rights_and_knows_no_more_than_it_must() {
        let spec = spec();
        let pod = pod(&Config::new("image", "ws://broker"), &spec, "uid");
        let (inside, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
        assert_eq!(inside["automountServiceAccountToken"], false);
        assert_eq!(inside["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            container["securityContext"]["allowPrivilegeEscalation"],
            false
        );
        assert_eq!(
            container["securityContext"]["capabilities"]["drop"][0],
            "ALL"
        );
        let value = |name: &str| {
            let all = container["env"].as_array().unwrap().iter();
            let found = all.filter(|one| one["name"] == name).collect::<Vec<_>>();
            assert_eq!(found.len(), 1, "{name}");
            found[0]["value"].as_str().unwrap().to_owned()
        };
        assert_eq!(
            value("HOME"),
            HOME,
            "a project cannot say where its home is"
        );
        assert_eq!(value("A"), "$$(HOME) costs 3$$", "nothing is put into it");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "uid");
    }

    #[test]
    fn a_copy_is_told_to_rsync() {
        let copy = CopyPath {
            project_id: ProjectId::random(),
            path: "-a/b".to_owned(),
            target_project_id: ProjectId::random(),
            target_path: "/c".to_owned(),
            overwrite_newer: false,
            delete_missing: true,
            backup: false,
            timeout: None,
            bwlimit: Some(100),
            exclude: vec!["*.o".to_owned()],
            wait: true,
            scheduled: None,
        };
        let expected = [
            "-rlpt",
            "--mkpath",
            "--update",
            "--delete",
            "--bwlimit=100",
            "--exclude=*.o",
            "--",
            "/source/-a/b",
            "/target/c",
        ];
        assert_eq!(rsync(&copy), expected);
        let job = copier(&Config::new("image", "ws://b"), Uuid::new_v4(), &copy);
        let mounts = &job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"];
        assert_eq!(mounts[0]["readOnly"], true, "{mounts}");
    }
}
