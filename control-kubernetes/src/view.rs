//! What pods say about a project: what is there, whether it answers, how it came to its end. Pure.

use std::net::IpAddr;

use dialtone_control::machine::Observed;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::manifest::RUN;

/// A pod as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// What was started as it.
    pub run_id: Option<Uuid>,
    /// Where it is reached, once it has a place.
    pub ip: Option<IpAddr>,
    /// Whether it answers.
    pub ready: bool,
    /// Whether its processes have ended, or it was told to end.
    pub over: bool,
    /// Why it cannot become anything, or how it ended.
    pub reason: Option<String>,
}

/// Reasons for which a container waits that no waiting mends.
const HOPELESS: &[&str] = &["InvalidImageName", "ErrImageNeverPull", "ImageInspectError"];

/// How much of what it has printed last is told, in characters.
const WORDS_MAX: usize = 300;

impl View {
    /// From what the cluster says.
    pub fn new(pod: &Json) -> Self {
        let (about, status) = (&pod["metadata"], &pod["status"]);
        let text = |json: &Json| json.as_str().map(str::to_owned);
        let phase = status["phase"].as_str().unwrap_or_default();
        let ended = matches!(phase, "Succeeded" | "Failed");
        let hopeless = hopeless(status);
        let leaves = about["deletionTimestamp"].is_string();
        let ready = is_ready(status);
        let over = ended || leaves || hopeless.is_some();
        let reason = if ended {
            Some(ending(status))
        } else if leaves {
            Some("its pod was deleted".to_owned())
        } else {
            hopeless
        };
        Self {
            name: text(&about["name"]).unwrap_or_default(),
            run_id: text(&about["labels"][RUN]).and_then(|run| run.parse().ok()),
            ip: text(&status["podIP"]).and_then(|ip| ip.parse().ok()),
            ready: ready && !over,
            over,
            reason,
        }
    }
}

fn is_ready(status: &Json) -> bool {
    let conditions = status["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn hopeless(status: &Json) -> Option<String> {
    let containers = status["containerStatuses"].as_array()?;
    containers.iter().find_map(|container| {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str()?;
        if !HOPELESS.contains(&reason) {
            return None;
        }
        let message = waiting["message"].as_str().unwrap_or_default();
        Some(one_line(&format!(
            "it cannot be started: {reason} {message}"
        )))
    })
}

/// How a pod has ended, in words for those who use the project.
fn ending(status: &Json) -> String {
    let container = &status["containerStatuses"][0]["state"]["terminated"];
    let words = container["message"].as_str().unwrap_or_default().trim();
    // Of the pod as a whole: a node that was drained or had no room left.
    let (why, more) = match (status["reason"].as_str(), container["reason"].as_str()) {
        (Some(reason), _) => {
            let message = status["message"].as_str().unwrap_or_default();
            (format!("its node ended it ({reason})"), message)
        }
        (None, Some("OOMKilled")) => ("it ran out of memory".to_owned(), words),
        _ => ("it ended by itself".to_owned(), words),
    };
    if more.is_empty() {
        return why;
    }
    one_line(&format!("{why}; its last words: {more}"))
}

/// Without what moves a cursor; of long texts the end.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let shown: Vec<char> = line.chars().filter(|one| !one.is_control()).collect();
    let from = shown.len().saturating_sub(WORDS_MAX);
    shown.iter().skip(from).collect()
}

/// What is there of a project whose recorded run is this one.
pub fn observed(pods: &[View], run_id: Option<Uuid>) -> Observed {
    let ours = run_id.and_then(|run_id| pods.iter().find(|pod| pod.run_id == Some(run_id)));
    match ours {
        Some(pod) if pod.ready => Observed::Ready,
        Some(pod) if !pod.over => Observed::Alive,
        _ if pods.is_empty() => Observed::Absent,
        _ => Observed::Remains,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(run_id: Uuid, status: &Json) -> View {
        View::new(&json!({
            "metadata": {"name": "project-x", "labels": {RUN: run_id.to_string()}},
            "status": status,
        }))
    }

    #[test]
    fn a_pod_is_taken_for_what_it_is() {
        let run = Uuid::new_v4();
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let pending = pod(run, &json!({"phase": "Pending"}));
        let running = pod(
            run,
            &json!({"phase": "Running", "podIP": "10.1.2.3", "conditions": ready}),
        );
        let failed = pod(run, &json!({"phase": "Failed", "conditions": ready}));
        assert_eq!(running.ip, Some("10.1.2.3".parse().unwrap()));
        for (pods, expected) in [
            (vec![], Observed::Absent),
            (vec![pending], Observed::Alive),
            (vec![running.clone()], Observed::Ready),
            (vec![failed], Observed::Remains),
        ] {
            assert_eq!(observed(&pods, Some(run)), expected);
        }
        // What another order has started is not ours, and neither is what nobody has written down.
        assert_eq!(
            observed(std::slice::from_ref(&running), Some(Uuid::new_v4())),
            Observed::Remains
        );
        assert_eq!(observed(&[running], None), Observed::Remains);
    }

    #[test]
    fn a_pod_that_is_deleted_is_no_project_any_more() {
        let run = Uuid::new_v4();
        let leaving = View::new(&json!({
            "metadata": {
                "name": "x", "labels": {RUN: run.to_string()}, "deletionTimestamp": "2026-01-01T00:00:00Z",
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }));
        assert!(leaving.over && !leaving.ready);
        assert_eq!(observed(&[leaving], Some(run)), Observed::Remains);
    }

    #[test]
    fn users_are_told_how_it_ended() {
        let told = |status: &Json| pod(Uuid::new_v4(), status).reason.unwrap();
        let ended = |state: &Json| json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": state}}]});
        assert_eq!(
            told(&ended(&json!({"reason": "OOMKilled"}))),
            "it ran out of memory"
        );
        assert_eq!(
            told(&ended(
                &json!({"reason": "Error", "message": "no\n room\u{1b}[2J"})
            )),
            "it ended by itself; its last words: no room[2J"
        );
        assert_eq!(
            told(&json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})),
            "its node ended it (Evicted); its last words: disk"
        );
        let waiting = json!({"phase": "Pending", "containerStatuses": [
            {"state": {"waiting": {"reason": "InvalidImageName", "message": "bad"}}}]});
        assert_eq!(told(&waiting), "it cannot be started: InvalidImageName bad");
        let pulling = json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        assert!(
            !pod(Uuid::new_v4(), &pulling).over,
            "a registry may come back"
        );
    }
}
