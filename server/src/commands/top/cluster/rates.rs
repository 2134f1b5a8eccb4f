//! What happened in a cluster between two looks.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::look::{Flow, Status, per_second};
use super::{Look, NodeLook};
use crate::commands::cluster::view::Link;

/// A node.
#[derive(Debug)]
pub(super) struct NodeRates {
    pub(super) node: String,
    pub(super) state: String,
    /// What it said, and a second of what happened to it.
    pub(super) said: Result<(Status, Flow), String>,
}

/// A link, as one of its ends tells it.
#[derive(Debug)]
pub(super) struct LinkRates {
    pub(super) from: String,
    pub(super) link: Link,
    pub(super) flow: Flow,
}

/// A cluster.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) cluster: String,
    pub(super) nodes: Vec<NodeRates>,
    pub(super) links: Vec<LinkRates>,
}

impl Rates {
    /// What happened between two looks. What is new in the second is not known to have done all that in the time.
    pub(super) fn between(before: &Look, after: &Look) -> Self {
        let secs = after.at.duration_since(before.at).as_secs_f64();
        let old: HashMap<&str, &NodeLook> = before
            .nodes
            .iter()
            .map(|look| (look.node.as_str(), look))
            .collect();
        let mut rates = Self {
            cluster: after.cluster.clone(),
            nodes: Vec::new(),
            links: Vec::new(),
        };
        for look in &after.nodes {
            let known = old.get(look.node.as_str());
            let known = known.and_then(|known| known.said.as_ref().ok());
            rates.nodes.push(NodeRates {
                node: look.node.clone(),
                state: look.state.clone(),
                said: match &look.said {
                    Ok((status, _)) => {
                        let flow = known.map(|(earlier, _)| flow_of_node(earlier, status, secs));
                        Ok((status.clone(), flow.unwrap_or_default()))
                    }
                    Err(error) => Err(error.clone()),
                },
            });
            let Ok((_, view)) = &look.said else { continue };
            for link in &view.links {
                let known = known.and_then(|(_, view)| {
                    let same =
                        |other: &&Link| other.node == link.node && other.gateway == link.gateway;
                    view.links.iter().find(same)
                });
                let flow = known.map(|earlier| flow_of_link(earlier, link, secs));
                rates.links.push(LinkRates {
                    from: look.node.clone(),
                    link: link.clone(),
                    flow: flow.unwrap_or_default(),
                });
            }
        }
        rates
    }

    /// For scripts.
    pub(super) fn to_json(&self) -> Value {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| match &node.said {
                Ok((status, flow)) => json!({
                    "node": node.node, "state": node.state, "status": status, "per_second": flow,
                }),
                Err(error) => json!({ "node": node.node, "state": node.state, "error": error }),
            })
            .collect();
        let links: Vec<_> = self
            .links
            .iter()
            .map(|one| {
                json!({
                    "from": one.from, "to": one.link.node, "gateway": one.link.gateway,
                    "round_trip_us": one.link.round_trip_us, "pending_bytes": one.link.pending_bytes,
                    "resyncs": one.link.resyncs, "per_second": one.flow,
                })
            })
            .collect();
        json!({ "cluster": self.cluster, "nodes": nodes, "links": links })
    }
}

fn flow_of_node(before: &Status, after: &Status, secs: f64) -> Flow {
    Flow {
        messages_in: per_second(before.messages_in_total, after.messages_in_total, secs),
        bytes_in: per_second(before.bytes_in_total, after.bytes_in_total, secs),
        messages_out: per_second(before.messages_out_total, after.messages_out_total, secs),
        bytes_out: per_second(before.bytes_out_total, after.bytes_out_total, secs),
    }
}

fn flow_of_link(before: &Link, after: &Link, secs: f64) -> Flow {
    Flow {
        messages_in: per_second(before.messages_in, after.messages_in, secs),
        bytes_in: per_second(before.bytes_in, after.bytes_in, secs),
        messages_out: per_second(before.messages_out, after.messages_out, secs),
        bytes_out: per_second(before.bytes_out, after.bytes_out, secs),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::commands::cluster::view::View;

    pub(in super::super) fn look(at: Instant, total: u64) -> Look {
        let status = Status {
            node: "n1".to_owned(),
            messages_in_total: total,
            ..Status::default()
        };
        let view = View {
            links: vec![Link {
                node: "n2".to_owned(),
                messages_out: total / 2,
                round_trip_us: Some(250),
                ..Link::default()
            }],
            ..View::default()
        };
        let node = |node: &str, state: &str, said| NodeLook {
            node: node.to_owned(),
            state: state.to_owned(),
            said,
        };
        Look {
            at,
            cluster: "prod".to_owned(),
            nodes: vec![
                node("n1", "own", Ok((status, view))),
                node("n2", "unlinked", Err("takes too long to answer".to_owned())),
            ],
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let at = Instant::now();
        let (before, after) = (look(at, 100), look(at + Duration::from_secs(2), 300));
        let shown = Rates::between(&before, &after).to_json();
        assert_eq!(shown["nodes"][0]["per_second"]["messages_in"], 100.0);
        assert_eq!(shown["links"][0]["per_second"]["messages_out"], 50.0);
        assert_eq!(shown["links"][0]["to"], "n2");
        assert_eq!(shown["nodes"][1]["error"], "takes too long to answer");
        let mut fresh = before;
        fresh.nodes.clear();
        let shown = Rates::between(&fresh, &after).to_json();
        assert_eq!(shown["nodes"][0]["per_second"]["messages_in"], 0.0);
        assert_eq!(shown["links"][0]["per_second"]["messages_out"], 0.0);
    }
}
