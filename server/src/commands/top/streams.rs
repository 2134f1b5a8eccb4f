//! What `dialtone top` shows of the node of persist beside the broker.

use std::collections::BTreeMap;

use ratatui::text::Line;
use serde::{Deserialize, Serialize};

use super::look::per_second;
use super::view::{count, whole};
use crate::print::{bytes, harmless};

/// What `/persistz` says, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct PersistNode {
    node: String,
    streams: u64,
    streams_open: u64,
    messages: u64,
    bytes: u64,
    disk_bytes: u64,
    waiting: u64,
    /// What is left of the lease, in milliseconds; missing where none is needed.
    lease: Option<u64>,
    failure: Option<String>,
    counters: BTreeMap<String, u64>,
}

/// A second of what happened to the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct StreamFlow {
    pub(super) appended: f64,
    pub(super) appended_bytes: f64,
    pub(super) read: f64,
    pub(super) faults: f64,
}

impl PersistNode {
    fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// What happened since `before`, which was `secs` earlier.
    pub(super) fn since(&self, before: Option<&Self>, secs: f64) -> StreamFlow {
        let Some(before) = before else {
            return StreamFlow::default();
        };
        let rate = |name: &str| per_second(before.counter(name), self.counter(name), secs);
        StreamFlow {
            appended: rate("records_appended"),
            appended_bytes: rate("bytes_appended"),
            read: rate("records_read"),
            faults: rate("faults"),
        }
    }

    /// A line of the head of the screen.
    pub(super) fn line(&self, flow: StreamFlow) -> Line<'static> {
        if let Some(failure) = &self.failure {
            use ratatui::style::Stylize as _;
            return Line::from(format!("persist has failed: {}", harmless(failure))).red();
        }
        let mut text = format!(
            "persist {}  {} streams ({} open)  {} records {}  appended {}/s {}/s  read {}/s  faults {}/s  watching {}",
            harmless(&self.node),
            self.streams,
            self.streams_open,
            self.messages,
            bytes(self.bytes),
            count(flow.appended),
            bytes(whole(flow.appended_bytes)),
            count(flow.read),
            count(flow.faults),
            self.waiting,
        );
        if let Some(waiting) = self.counters.get("archive_waiting_bytes") {
            let behind = bytes(*waiting);
            text.push_str("  archive behind ");
            text.push_str(&behind);
        }
        if let Some(lease) = self.lease {
            let lease = std::time::Duration::from_millis(lease).as_secs_f64();
            text = format!("{text}  lease {lease:.1}s");
        }
        Line::from(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_shown_with_what_happens_to_it() {
        let page = |appended: u64| -> PersistNode {
            let text = format!(
                r#"{{"node":"p1","streams":7,"streams_open":2,"messages":90,"bytes":2048,"waiting":1,"lease":null,
                     "counters":{{"records_appended":{appended},"archive_waiting_bytes":4096}},"more":true}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let (before, after) = (page(100), page(300));
        let flow = after.since(Some(&before), 2.0);
        let shown = after.line(flow).to_string();
        for part in [
            "persist p1",
            "7 streams (2 open)",
            "90 records",
            "appended 100/s",
            "archive behind",
        ] {
            assert!(shown.contains(part), "{part} is missing: {shown}");
        }
        assert!(!shown.contains("lease"), "{shown}");
        assert_eq!(after.since(None, 2.0), StreamFlow::default());
        let failed = PersistNode {
            failure: Some("no space".to_owned()),
            ..after
        };
        assert!(failed.line(flow).to_string().contains("no space"));
    }
}
