//! What was started for a project, as it is written down before it may begin.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dialtone_hub::control::Status;
use dialtone_hub::time::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

/// Something that was started, or is about to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its own number.
    pub id: Uuid,
    /// The order for which it was started.
    pub order: i64,
    /// The machine that it runs on.
    pub host: String,
    /// When it was started, by that machine's clock.
    pub started: Time,
    /// What its runner finds it by; nobody else reads it.
    pub place: Json,
}

/// Where something that was started answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The machine.
    pub ip: IpAddr,
    /// The ports of its servers, by name.
    pub ports: BTreeMap<String, u16>,
    /// The number of its first process, where there is one.
    #[serde(default)]
    pub pid: Option<u32>,
}

impl Reached {
    /// As it is told to those who ask for the status of the project.
    pub fn status(&self, run: &Run) -> Status {
        Status {
            ports: self.ports.clone(),
            pid: self.pid,
            start_ts: Some(run.started),
            session_id: Some(run.id.to_string()),
            host: Some(run.host.clone()),
        }
    }
}
