//! How `dialtone top` looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};

use super::look::{Connection, Flow, Rates, Sort};
use crate::print::{bytes, harmless};

/// All that is on the screen.
pub(super) struct Screen<'a> {
    /// What is shown.
    pub(super) rates: &'a Rates,
    /// The column that the connections are sorted by.
    pub(super) sort: Sort,
    /// Whether it stands still.
    pub(super) paused: bool,
    /// Why the last look failed.
    pub(super) trouble: Option<&'a str>,
}

const COLUMNS: [(&str, u16, Option<Sort>); 11] = [
    ("id", 8, Some(Sort::Id)),
    ("identity", 16, None),
    ("client", 18, None),
    ("via", 9, None),
    ("from", 21, None),
    ("subs", 8, Some(Sort::Subscriptions)),
    ("in/s", 8, Some(Sort::MessagesIn)),
    ("out/s", 8, Some(Sort::MessagesOut)),
    ("bytes/s", 10, None),
    ("waiting", 10, Some(Sort::Pending)),
    ("dropped", 8, None),
];

impl Screen<'_> {
    /// Draws it.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let areas = Layout::vertical([
            Constraint::Length(5 + u16::from(self.rates.streams.is_some())),
            Constraint::Min(1),
            Constraint::Length(1),
        ]);
        let [head, body, foot] = areas.areas(frame.area());
        frame.render_widget(ratatui::widgets::Paragraph::new(self.head()), head);
        frame.render_widget(self.table(), body);
        frame.render_widget(self.foot(), foot);
    }

    fn head(&self) -> Vec<Line<'static>> {
        let Rates {
            status,
            total,
            cores,
            ..
        } = self.rates;
        let state = if status.draining { "draining" } else { "up" };
        let memory = status
            .process
            .resident_memory_bytes
            .map_or_else(|| "?".to_owned(), bytes);
        let cores = cores.map_or_else(|| "?".to_owned(), |cores| format!("{cores:.2}"));
        let mut lines = vec![
            Line::from(format!(
                "{} {}  {state} {}",
                harmless(&status.server),
                harmless(&status.node),
                age(status.uptime_s)
            ))
            .bold(),
            Line::from(format!(
                "{} connections  {} subscriptions  {} waiting  memory {memory}  cores {cores}",
                status.connections,
                status.subscriptions,
                bytes(status.outbox_bytes),
            )),
            Line::from(format!(
                "in {} msg/s {}/s   out {} msg/s {}/s",
                count(total.messages_in),
                bytes(whole(total.bytes_in)),
                count(total.messages_out),
                bytes(whole(total.bytes_out)),
            )),
            Line::from(format!(
                "slow consumers {}  stalls {}  throttles {}  dropped {}  denied {}  refused {}  violations {}",
                status.slow_consumers_total,
                status.stalls_total,
                status.throttles_total,
                status.dropped_total,
                status.denied_total,
                status.auth_failures_total,
                status.violations_total,
            )),
        ];
        if let Some((streams, flow)) = &self.rates.streams {
            lines.push(streams.line(*flow));
        }
        lines.push(Line::default());
        lines
    }

    fn table(&self) -> Table<'static> {
        let title = |(name, _, sort): &(&'static str, u16, Option<Sort>)| {
            if *sort == Some(self.sort) {
                format!("{name}▾")
            } else {
                (*name).to_owned()
            }
        };
        let header = Row::new(COLUMNS.iter().map(title))
            .style(Style::new().add_modifier(Modifier::REVERSED));
        let rows = self
            .rates
            .connections
            .iter()
            .map(|(connection, flow)| row(connection, *flow));
        Table::new(rows, COLUMNS.map(|(_, width, _)| Constraint::Length(width))).header(header)
    }

    fn foot(&self) -> Line<'static> {
        match self.trouble {
            Some(trouble) => Line::from(harmless(trouble)).red(),
            None if self.paused => Line::from("paused   p goes on   q ends").yellow(),
            None => Line::from("q ends   s sorts   p pauses").dim(),
        }
    }
}

fn row(connection: &Connection, flow: Flow) -> Row<'static> {
    let cells = [
        connection.id.to_string(),
        harmless(&connection.identity),
        harmless(&connection.client),
        connection.transport.clone(),
        connection.remote.clone().unwrap_or_default(),
        connection.subscriptions.to_string(),
        count(flow.messages_in),
        count(flow.messages_out),
        bytes(whole(flow.bytes_in + flow.bytes_out)),
        bytes(connection.pending_bytes),
        connection.dropped.to_string(),
    ];
    let row = Row::new(cells);
    if connection.slow { row.red() } else { row }
}

/// A rate in at most six characters.
pub(super) fn count(rate: f64) -> String {
    match rate {
        rate if rate >= 999_500.0 => format!("{:.1}M", rate / 1e6),
        rate if rate >= 9_999.5 => format!("{:.0}k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative, and far smaller"
)]
pub(super) fn whole(rate: f64) -> u64 {
    rate as u64
}

fn age(secs: u64) -> String {
    match secs {
        secs if secs >= 86_400 => format!("{}d{}h", secs / 86_400, secs / 3600 % 24),
        secs if secs >= 3600 => format!("{}h{}m", secs / 3600, secs / 60 % 60),
        secs => format!("{}m{}s", secs / 60, secs % 60),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::look::{Connection, Flow, Rates, Status};
    use super::super::streams::{PersistNode, StreamFlow};
    use super::*;

    #[test]
    fn numbers_stay_short() {
        for (rate, shown) in [
            (0.0, "0"),
            (9_999.0, "9999"),
            (12_345.0, "12k"),
            (1_500_000.0, "1.5M"),
        ] {
            assert_eq!(count(rate), shown);
        }
        assert_eq!(
            (age(61), age(7_260), age(90_000)),
            ("1m1s".to_owned(), "2h1m".to_owned(), "1d1h".to_owned())
        );
    }

    #[test]
    fn the_screen_shows_the_broker_and_its_connections() {
        let connection = Connection {
            id: 7,
            identity: "alice".to_owned(),
            subscriptions: 3,
            ..Connection::default()
        };
        let status = Status {
            node: "n1".to_owned(),
            server: "dialtone".to_owned(),
            ..Status::default()
        };
        let flow = Flow {
            messages_in: 12_345.0,
            ..Flow::default()
        };
        let rates = Rates {
            status,
            total: flow,
            cores: Some(0.5),
            streams: Some((PersistNode::default(), StreamFlow::default())),
            connections: vec![(connection, flow)],
        };
        let screen = Screen {
            rates: &rates,
            sort: Sort::Id,
            paused: false,
            trouble: None,
        };
        let mut terminal = Terminal::new(TestBackend::new(140, 12)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let shown = terminal.backend().to_string();
        for part in [
            "dialtone n1  up 0m0s",
            "cores 0.50",
            "in 12k msg/s",
            "0 streams (0 open)",
            "id▾",
            "alice",
            "q ends",
        ] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }
}
