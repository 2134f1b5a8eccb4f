//! The cluster as Prometheus reads it: figures of the node's part, and of each of its links.

use std::fmt::{self, Write as _};

use super::{Exposition, Label};
use crate::cluster::status::{LinkStatus, MemberState, Status};

pub(super) fn write_cluster(out: &mut Exposition, status: &Status) -> fmt::Result {
    out.family(
        "dialtone_cluster_members",
        "gauge",
        "Nodes of the cluster by what is known of them.",
    )?;
    for (name, state) in [
        ("own", MemberState::Own),
        ("linked", MemberState::Linked),
        ("unlinked", MemberState::Unlinked),
        ("left", MemberState::Left),
    ] {
        let count = status
            .members
            .iter()
            .filter(|member| member.state == state)
            .count();
        writeln!(
            out.0,
            "dialtone_cluster_members{{state=\"{name}\"}} {count}"
        )?;
    }
    if let Some(end) = status.certificate_ends {
        out.gauge(
            "dialtone_cluster_certificate_end_timestamp_seconds",
            "When the certificate shown to other nodes ends, in seconds since 1970.",
            &end,
        )?;
    }
    out.gauge(
        "dialtone_cluster_interest_patterns",
        "Patterns that the node announces.",
        &status.interest.patterns,
    )?;
    out.counter(
        "dialtone_cluster_interest_version",
        "Changes of the interest that the node announces.",
        &status.interest.version,
    )?;
    out.gauge(
        "dialtone_cluster_counts_waiting",
        "Acknowledged publishes that wait for counts of other nodes.",
        &status.counts_waiting,
    )?;
    out.counter(
        "dialtone_cluster_counts_missed_total",
        "Acknowledgements sent without the count of some node.",
        &status.counts_missed_total,
    )?;
    out.counter(
        "dialtone_cluster_links_total",
        "Links that were established.",
        &status.links_total,
    )?;
    out.counter(
        "dialtone_cluster_links_overflowed_total",
        "Links closed because the other node did not take what waited for it.",
        &status.links_overflowed_total,
    )?;
    out.counter(
        "dialtone_cluster_refusals_total",
        "Nodes that were refused, or refused this one.",
        &status.refusals_total,
    )?;
    write_links(out, &status.links)
}

macro_rules! families {
    ($($kind:literal $name:literal = |$link:ident| $value:expr, $help:literal;)+) => {
        /// Each family with a line for each link.
        fn write_links(out: &mut Exposition, links: &[LinkStatus]) -> fmt::Result {
            $(
                out.family($name, $kind, $help)?;
                for $link in links {
                    write_link(out, $name, $link, &$value)?;
                }
            )+
            Ok(())
        }
    };
}

families! {
    "gauge" "dialtone_link_round_trip_seconds" = |link| round_trip(link), "The last round trip over the link.";
    "gauge" "dialtone_link_pending_bytes" = |link| link.pending_bytes, "Bytes that wait to be sent.";
    "gauge" "dialtone_link_age_seconds" = |link| link.age_s, "Seconds since the link was established.";
    "gauge" "dialtone_link_interest_patterns" = |link| link.interest.patterns, "Patterns that the other node has announced.";
    "counter" "dialtone_link_messages_out_total" = |link| link.messages_out, "Messages sent, fragments counted one each.";
    "counter" "dialtone_link_bytes_out_total" = |link| link.bytes_out, "Bytes of the messages sent.";
    "counter" "dialtone_link_messages_in_total" = |link| link.messages_in, "Messages received, fragments counted one each.";
    "counter" "dialtone_link_bytes_in_total" = |link| link.bytes_in, "Bytes of the messages received.";
    "counter" "dialtone_link_control_bytes_out_total" = |link| link.control_bytes_out, "Bytes of interest, members and keepalive sent.";
    "counter" "dialtone_link_control_bytes_in_total" = |link| link.control_bytes_in, "Bytes of interest, members and keepalive received.";
    "counter" "dialtone_link_resyncs_total" = |link| link.resyncs, "Times that the other node's interest was asked for again.";
    "counter" "dialtone_link_snapshots_total" = |link| link.snapshots, "Snapshots of interest sent.";
    "counter" "dialtone_link_dropped_in_total" = |link| link.dropped_in, "Messages received that could not be delivered.";
}

#[expect(
    clippy::cast_precision_loss,
    reason = "round trips are far below 2^53 microseconds"
)]
fn round_trip(link: &LinkStatus) -> f64 {
    link.round_trip_us
        .map_or(f64::NAN, |micros| micros as f64 / 1e6)
}

fn write_link(
    out: &mut Exposition,
    name: &str,
    link: &LinkStatus,
    value: &dyn fmt::Display,
) -> fmt::Result {
    let (node, cluster) = (
        Label(&link.node),
        Label(link.gateway.as_deref().unwrap_or_default()),
    );
    let direction = link.direction;
    writeln!(
        out.0,
        "{name}{{node=\"{node}\",gateway=\"{cluster}\",direction=\"{direction}\"}} {value}"
    )
}
