//! How `dialtone top --cluster` looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};

use super::super::view::{count, whole};
use super::rates::{LinkRates, NodeRates, Rates};
use crate::commands::cluster::view::{age, millis};
use crate::print::{bytes, harmless};

const NODES: [(&str, u16); 10] = [
    ("node", 16),
    ("state", 12),
    ("up for", 8),
    ("clients", 8),
    ("subs", 8),
    ("in/s", 8),
    ("out/s", 8),
    ("bytes/s", 10),
    ("waiting", 10),
    ("slow", 6),
];

const LINKS: [(&str, u16); 9] = [
    ("from", 16),
    ("to", 22),
    ("round trip", 12),
    ("out/s", 8),
    ("in/s", 8),
    ("bytes/s", 10),
    ("waiting", 10),
    ("patterns", 9),
    ("resyncs", 8),
];

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, rates: &Rates, paused: bool, trouble: Option<&str>) {
    let rows = u16::try_from(rates.nodes.len()).unwrap_or(u16::MAX);
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows.saturating_add(2)),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [head, nodes, links, foot] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(title(rates)).bold(), head);
    frame.render_widget(table(NODES, rates.nodes.iter().map(node)), nodes);
    frame.render_widget(table(LINKS, rates.links.iter().map(link)), links);
    let foot_line = match trouble {
        Some(trouble) => Line::from(harmless(trouble).replace('\n', " ")).red(),
        None if paused => Line::from("paused   p goes on   q ends").yellow(),
        None => Line::from("q ends   p pauses").dim(),
    };
    frame.render_widget(foot_line, foot);
}

fn title(rates: &Rates) -> String {
    let answering = rates.nodes.iter().filter(|node| node.said.is_ok()).count();
    format!(
        "cluster {}  {answering} of {} nodes answer  {} links",
        harmless(&rates.cluster),
        rates.nodes.len(),
        rates.links.len()
    )
}

fn table<const N: usize>(
    columns: [(&'static str, u16); N],
    rows: impl Iterator<Item = Row<'static>>,
) -> Table<'static> {
    let header = Row::new(columns.map(|(name, _)| name))
        .style(Style::new().add_modifier(Modifier::REVERSED));
    Table::new(rows, columns.map(|(_, width)| Constraint::Length(width))).header(header)
}

fn node(node: &NodeRates) -> Row<'static> {
    let state = match node.state.as_str() {
        "own" | "linked" => "up",
        "unlinked" => "not linked",
        other => other,
    };
    match &node.said {
        Ok((status, flow)) => Row::new([
            harmless(&node.node),
            harmless(if status.draining { "draining" } else { state }),
            age(status.uptime_s),
            status.connections.to_string(),
            status.subscriptions.to_string(),
            count(flow.messages_in),
            count(flow.messages_out),
            bytes(whole(flow.bytes_in + flow.bytes_out)),
            bytes(status.outbox_bytes),
            status.slow_consumers_total.to_string(),
        ]),
        Err(error) => Row::new([
            harmless(&node.node),
            harmless(state),
            harmless(error).replace('\n', " "),
        ])
        .red(),
    }
}

fn link(one: &LinkRates) -> Row<'static> {
    let to = match &one.link.gateway {
        Some(cluster) => format!("{}@{cluster}", one.link.node),
        None => one.link.node.clone(),
    };
    Row::new([
        harmless(&one.from),
        harmless(&to),
        millis(one.link.round_trip_us),
        count(one.flow.messages_out),
        count(one.flow.messages_in),
        bytes(whole(one.flow.bytes_in + one.flow.bytes_out)),
        bytes(one.link.pending_bytes),
        one.link.interest.patterns.to_string(),
        one.link.resyncs.to_string(),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rates::tests::look;
    use super::*;

    #[test]
    fn the_screen_shows_nodes_and_links() {
        let at = Instant::now();
        let rates = Rates::between(&look(at, 100), &look(at + Duration::from_secs(2), 300));
        let mut terminal = Terminal::new(TestBackend::new(120, 12)).unwrap();
        terminal
            .draw(|frame| draw(frame, &rates, false, None))
            .unwrap();
        let shown = terminal.backend().to_string();
        for part in [
            "cluster prod  1 of 2 nodes answer  1 links",
            "n1",
            "not linked",
            "takes t",
            "0.25 ms",
            "q ends",
        ] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }
}
