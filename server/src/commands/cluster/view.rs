//! A cluster as one of its nodes sees it, and how that is shown to people.

use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;

use super::table::Table;
use crate::print::{Paint, bytes, counted, harmless, time};

/// What `sys.cluster.status` says, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct View {
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) listeners: Vec<String>,
    pub(crate) interest: Interest,
    pub(crate) members: Vec<Member>,
    pub(crate) seeds: Vec<Seed>,
    pub(crate) links: Vec<Link>,
    pub(crate) counts_waiting: u64,
    pub(crate) refusals_total: u64,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) certificate_ends: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Interest {
    pub(crate) patterns: u64,
    pub(crate) version: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) client_addresses: Vec<String>,
    pub(crate) since_s: u64,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Seed {
    pub(crate) url: String,
    pub(crate) node: Option<String>,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Link {
    pub(crate) node: String,
    pub(crate) gateway: Option<String>,
    pub(crate) direction: String,
    pub(crate) transport: String,
    pub(crate) remote: Option<String>,
    pub(crate) age_s: u64,
    pub(crate) round_trip_us: Option<u64>,
    pub(crate) pending_bytes: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) interest: Interest,
    pub(crate) resyncs: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    pub(crate) ago_s: u64,
    pub(crate) node: Option<String>,
    pub(crate) remote: Option<String>,
    pub(crate) direction: String,
    pub(crate) text: String,
}

/// Most refusals that are shown.
const REFUSALS_SHOWN: usize = 5;

impl View {
    /// Nodes that belong to the cluster and have no link to this one.
    pub(crate) fn missing(&self) -> Vec<&Member> {
        let missing = |member: &&Member| member.state == "unlinked";
        self.members.iter().filter(missing).collect()
    }

    /// The seeds of a node that has found nobody at them: it has just started, or is refused, or they are wrong.
    pub(crate) fn unanswered(&self) -> Vec<&Seed> {
        if self.in_state("own") == 0 || self.in_state("linked") > 0 {
            return Vec::new();
        }
        let is_other = |seed: &&Seed| seed.node.as_deref() != Some(&*self.node);
        self.seeds.iter().filter(is_other).collect()
    }

    /// The state of the cluster in some lines.
    pub(super) fn summary(&self, paint: Paint) -> String {
        let (missing, unanswered) = (self.missing(), self.unanswered());
        let (linked, left) = (self.in_state("linked"), self.in_state("left"));
        let mut lines = vec![format!(
            "Cluster {} as node {} sees it: {}",
            paint.bold(harmless(&self.cluster)),
            paint.bold(harmless(&self.node)),
            if missing.is_empty() && unanswered.is_empty() {
                "all nodes are linked".to_owned()
            } else if missing.is_empty() {
                paint.red("no other node is found")
            } else {
                paint.red(format!(
                    "{} not linked",
                    counted(missing.len() as u64, "node")
                ))
            }
        )];
        let mut nodes = vec![format!("nodes        1 + {linked} linked")];
        if !missing.is_empty() {
            nodes.push(format!(" + {} not linked", missing.len()));
        }
        if left > 0 {
            nodes.push(format!(", {left} left"));
        }
        lines.push(nodes.concat());
        for member in missing {
            let error = member.error.as_deref().unwrap_or("being dialled");
            lines.push(format!(
                "             {} for {}: {}",
                harmless(&member.node),
                age(member.since_s),
                harmless(error)
            ));
        }
        for seed in unanswered {
            let error = seed.error.as_deref().unwrap_or("being dialled");
            let (url, error) = (harmless(&seed.url), harmless(error));
            lines.push(format!("             nobody at {url}: {error}"));
        }
        lines.push(format!("listens      {}", self.listeners.join(", ")));
        lines.push(self.links_line());
        lines.push(format!(
            "interest     {}, version {}; {} publishes wait for counts",
            counted(self.interest.patterns, "pattern"),
            self.interest.version,
            self.counts_waiting
        ));
        if let Some(ends) = self.certificate_ends {
            let ends = time(UNIX_EPOCH + Duration::from_secs(ends));
            lines.push(format!("certificate  valid until {ends}"));
        }
        lines.extend(self.refusal_lines());
        lines.join("\n")
    }

    fn in_state(&self, state: &str) -> usize {
        let same = |member: &&Member| member.state == state;
        self.members.iter().filter(same).count()
    }

    fn links_line(&self) -> String {
        let slowest = self
            .links
            .iter()
            .filter_map(|link| link.round_trip_us)
            .max();
        let waiting: u64 = self.links.iter().map(|link| link.pending_bytes).sum();
        let gateways = self.links.iter().filter(|link| link.gateway.is_some());
        let mut parts = vec![format!("links        {}", self.links.len())];
        match gateways.count() {
            0 => {}
            count => parts.push(format!("{count} of them to other clusters")),
        }
        if slowest.is_some() {
            parts.push(format!("round trip at most {}", millis(slowest)));
        }
        parts.push(format!("{} waiting", bytes(waiting)));
        parts.join(", ")
    }

    fn refusal_lines(&self) -> Vec<String> {
        if self.refusals_total == 0 {
            return Vec::new();
        }
        let mut lines = vec![format!("refusals     {}", self.refusals_total)];
        for refusal in self.refusals.iter().rev().take(REFUSALS_SHOWN) {
            let who = match (&refusal.node, &refusal.remote) {
                (Some(node), Some(remote)) => format!("{node} at {remote}"),
                (Some(one), None) | (None, Some(one)) => one.clone(),
                (None, None) => "somebody".to_owned(),
            };
            let what = if refusal.direction == "refused" {
                "refused"
            } else {
                "refused by"
            };
            lines.push(format!(
                "             {} ago {what} {}: {}",
                age(refusal.ago_s),
                harmless(&who),
                harmless(&refusal.text)
            ));
        }
        lines
    }

    /// One line for each node.
    pub(super) fn nodes(&self, paint: Paint) -> String {
        let mut table = Table::new([
            "node",
            "state",
            "for",
            "round trip",
            "nodes reach it at",
            "clients reach it at",
            "trouble",
        ]);
        for member in &self.members {
            let link = self
                .links
                .iter()
                .find(|link| link.gateway.is_none() && link.node == member.node);
            let state = match member.state.as_str() {
                "own" => "this node",
                "unlinked" => "not linked",
                other => other,
            };
            table.row([
                harmless(&member.node),
                harmless(state),
                age(member.since_s),
                link.map_or_else(String::new, |link| millis(link.round_trip_us)),
                harmless(&member.addresses.join(" ")),
                harmless(&member.client_addresses.join(" ")),
                harmless(member.error.as_deref().unwrap_or_default()),
            ]);
        }
        table.shown(paint)
    }

    /// One line for each link.
    pub(super) fn links(&self, paint: Paint) -> String {
        let mut table = Table::new([
            "node",
            "cluster",
            "via",
            "remote",
            "for",
            "round trip",
            "messages out",
            "bytes out",
            "messages in",
            "bytes in",
            "waiting",
            "patterns",
            "resyncs",
        ]);
        for link in &self.links {
            table.row([
                harmless(&link.node),
                harmless(link.gateway.as_deref().unwrap_or(&self.cluster)),
                harmless(&format!("{}, {}", link.transport, link.direction)),
                harmless(link.remote.as_deref().unwrap_or_default()),
                age(link.age_s),
                millis(link.round_trip_us),
                link.messages_out.to_string(),
                bytes(link.bytes_out),
                link.messages_in.to_string(),
                bytes(link.bytes_in),
                bytes(link.pending_bytes),
                link.interest.patterns.to_string(),
                link.resyncs.to_string(),
            ]);
        }
        table.shown(paint)
    }
}

/// A round trip.
pub(crate) fn millis(micros: Option<u64>) -> String {
    match micros {
        None => "?".to_owned(),
        Some(micros) => format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10),
    }
}

/// A time in the largest units that matter.
pub(crate) fn age(secs: u64) -> String {
    match secs {
        secs if secs >= 86_400 => format!("{}d{}h", secs / 86_400, secs / 3600 % 24),
        secs if secs >= 3600 => format!("{}h{}m", secs / 3600, secs / 60 % 60),
        secs if secs >= 60 => format!("{}m{}s", secs / 60, secs % 60),
        secs => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        serde_json::from_value(serde_json::json!({
            "cluster": "prod", "node": "n1", "listeners": ["quic://0.0.0.0:4434"],
            "interest": { "patterns": 2, "version": 7, "hash": 99 },
            "members": [
                { "node": "n1", "state": "own", "since_s": 61, "addresses": ["quic://10.0.0.1:4434"] },
                { "node": "n2", "state": "linked", "since_s": 60, "client_addresses": ["ws://10.0.0.2:4480/"] },
                { "node": "n3", "state": "unlinked", "since_s": 5, "error": "connection refused\u{1b}[2J" },
                { "node": "n4", "state": "left", "since_s": 5 },
            ],
            "links": [{
                "node": "n2", "direction": "dialled", "transport": "quic", "remote": "10.0.0.2:4434", "age_s": 60,
                "round_trip_us": 1234, "pending_bytes": 2048, "messages_out": 5, "bytes_out": 640,
                "interest": { "patterns": 3 }, "resyncs": 1,
            }],
            "refusals_total": 1,
            "refusals": [{ "ago_s": 3, "remote": "10.0.0.9:999", "direction": "refused", "text": "another cluster" }],
            "certificate_ends": 1_800_000_000_u64,
            "something_new": true,
        }))
        .unwrap()
    }

    #[test]
    fn the_summary() {
        insta::assert_snapshot!(view().summary(Paint::off()), @r"
        Cluster prod as node n1 sees it: 1 node not linked
        nodes        1 + 1 linked + 1 not linked, 1 left
                     n3 for 5s: connection refused�[2J
        listens      quic://0.0.0.0:4434
        links        1, round trip at most 1.23 ms, 2.0 KiB waiting
        interest     2 patterns, version 7; 0 publishes wait for counts
        certificate  valid until 2027-01-15T08:00:00.000Z
        refusals     1
                     3s ago refused 10.0.0.9:999: another cluster
        ");
    }

    #[test]
    fn a_node_that_has_found_nobody_says_so() {
        let alone = |own: &str, seed: Option<&str>| -> View {
            serde_json::from_value(serde_json::json!({
                "cluster": "prod", "node": "n1",
                "members": [{ "node": "n1", "state": own }],
                "seeds": [{ "url": "quic://10.0.0.2:4434", "node": seed, "error": "refused" }],
            }))
            .unwrap()
        };
        assert_eq!(alone("own", None).unanswered().len(), 1);
        let summary = alone("own", None).summary(Paint::off());
        assert!(summary.contains("no other node is found"), "{summary}");
        assert!(
            summary.contains("nobody at quic://10.0.0.2:4434: refused"),
            "{summary}"
        );
        assert_eq!(alone("own", Some("n1")).unanswered().len(), 0, "itself");
        assert_eq!(alone("left", None).unanswered().len(), 0, "it has left");
        assert_eq!(view().unanswered().len(), 0);
    }

    #[test]
    fn the_nodes() {
        insta::assert_snapshot!(view().nodes(Paint::off()), @r"
        NODE  STATE       FOR   ROUND TRIP  NODES REACH IT AT     CLIENTS REACH IT AT  TROUBLE
        n1    this node   1m1s              quic://10.0.0.1:4434
        n2    linked      1m0s  1.23 ms                           ws://10.0.0.2:4480/
        n3    not linked  5s                                                           connection refused�[2J
        n4    left        5s
        ");
    }

    #[test]
    fn the_links() {
        insta::assert_snapshot!(view().links(Paint::off()), @r"
        NODE  CLUSTER  VIA            REMOTE         FOR   ROUND TRIP  MESSAGES OUT  BYTES OUT  MESSAGES IN  BYTES IN  WAITING  PATTERNS  RESYNCS
        n2    prod     quic, dialled  10.0.0.2:4434  1m0s  1.23 ms     5             640 B      0            0 B       2.0 KiB  3         1
        ");
    }
}
