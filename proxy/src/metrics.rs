//! What the proxy counts, and its text for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the times to the first byte of an answer, in milliseconds.
const BOUNDS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// Name, type and description of each counter and gauge.
const SIMPLE: [(&str, &str, &str, Gauge); 13] = [
    ("connections", "gauge", "Connections of clients.", |m| {
        &m.connections
    }),
    (
        "connections_total",
        "counter",
        "Connections of clients so far.",
        |m| &m.connections_total,
    ),
    ("requests", "gauge", "Requests in progress.", |m| {
        &m.requests
    }),
    (
        "websockets",
        "gauge",
        "WebSockets to projects and brokers.",
        |m| &m.tunnels,
    ),
    ("websockets_total", "counter", "WebSockets so far.", |m| {
        &m.tunnels_total
    }),
    (
        "received_bytes_total",
        "counter",
        "Bytes of bodies and WebSockets from clients.",
        |m| &m.received_bytes,
    ),
    (
        "sent_bytes_total",
        "counter",
        "Bytes of bodies and WebSockets to clients.",
        |m| &m.sent_bytes,
    ),
    (
        "upstream_connections_total",
        "counter",
        "Connections made to servers.",
        |m| &m.upstream_connects,
    ),
    (
        "upstream_reuses_total",
        "counter",
        "Requests over a connection that was there.",
        |m| &m.upstream_reuses,
    ),
    (
        "upstream_failures_total",
        "counter",
        "Servers that could not be reached or broke off.",
        |m| &m.upstream_failures,
    ),
    (
        "cookies_refused_total",
        "counter",
        "Cookies that projects may not set.",
        |m| &m.cookies_refused,
    ),
    (
        "access_ended_total",
        "counter",
        "Requests and WebSockets ended because access ended.",
        |m| &m.ended,
    ),
    (
        "log_lines_lost_total",
        "counter",
        "Lines of the access log that could not be written.",
        |m| &m.log_lines_lost,
    ),
];

/// One of the numbers.
type Gauge = fn(&Metrics) -> &AtomicU64;

/// Counters and gauges. All of them begin with zero and are changed from any thread.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) tunnels: AtomicU64,
    pub(crate) tunnels_total: AtomicU64,
    pub(crate) answers: [AtomicU64; 5],
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) upstream_connects: AtomicU64,
    pub(crate) upstream_reuses: AtomicU64,
    pub(crate) upstream_failures: AtomicU64,
    pub(crate) cookies_refused: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) log_lines_lost: AtomicU64,
    first_byte: [AtomicU64; BOUNDS.len() + 1],
    first_byte_micros: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Adds one to a gauge, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<F: Fn(&Metrics) -> &AtomicU64>(pub(crate) std::sync::Arc<Metrics>, F);

impl<F: Fn(&Metrics) -> &AtomicU64> Held<F> {
    pub(crate) fn new(metrics: &std::sync::Arc<Metrics>, gauge: F) -> Self {
        add(gauge(metrics), 1);
        Self(std::sync::Arc::clone(metrics), gauge)
    }
}

impl<F: Fn(&Metrics) -> &AtomicU64> Drop for Held<F> {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts an answer by the first digit of its status.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = self
            .answers
            .get(usize::from(status / 100).saturating_sub(1))
        {
            add(counter, 1);
        }
    }

    /// Counts how long a server took for the first byte of its answer.
    pub(crate) fn first_byte(&self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|bound| *bound < millis);
        if let Some(counter) = self.first_byte.get(at) {
            add(counter, 1);
        }
        add(
            &self.first_byte_micros,
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        );
    }

    /// Connections of clients at present.
    pub fn connections(&self) -> u64 {
        get(&self.connections)
    }

    /// Requests in progress at present, web sockets not among them.
    pub fn requests(&self) -> u64 {
        get(&self.requests)
    }

    /// web sockets at present.
    pub fn tunnels(&self) -> u64 {
        get(&self.tunnels)
    }

    /// Connections to servers that were made, and requests that went over one that was there already.
    pub fn upstream(&self) -> (u64, u64) {
        (get(&self.upstream_connects), get(&self.upstream_reuses))
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(4096);
        for (name, kind, help, gauge) in SIMPLE {
            line(
                &mut out,
                format_args!(
                    "# HELP dialtone_proxy_{name} {help}\n# TYPE dialtone_proxy_{name} {kind}"
                ),
            );
            line(
                &mut out,
                format_args!("dialtone_proxy_{name} {}", get(gauge(self))),
            );
        }
        let name = "dialtone_proxy_responses_total";
        line(
            &mut out,
            format_args!(
                "# HELP {name} Answers by the first digit of their status.\n# TYPE {name} counter"
            ),
        );
        for (digit, counter) in (1..).zip(&self.answers) {
            line(
                &mut out,
                format_args!("{name}{{class=\"{digit}xx\"}} {}", get(counter)),
            );
        }
        self.histogram(&mut out);
        out
    }

    fn histogram(&self, out: &mut String) {
        let name = "dialtone_proxy_first_byte_seconds";
        line(
            out,
            format_args!(
                "# HELP {name} Time to the first byte of a server's answer.\n# TYPE {name} histogram"
            ),
        );
        let mut count = 0;
        for (at, counter) in self.first_byte.iter().enumerate() {
            count += get(counter);
            match BOUNDS.get(at) {
                Some(bound) => {
                    let seconds = Duration::from_millis(*bound).as_secs_f64();
                    line(
                        out,
                        format_args!("{name}_bucket{{le=\"{seconds}\"}} {count}"),
                    );
                }
                None => line(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}")),
            }
        }
        let sum = Duration::from_micros(get(&self.first_byte_micros)).as_secs_f64();
        line(out, format_args!("{name}_sum {sum}\n{name}_count {count}"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes whatever is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_bucket_once() {
        let metrics = Metrics::default();
        metrics.answered(204);
        metrics.answered(101);
        metrics.answered(599);
        metrics.first_byte(Duration::from_millis(1));
        metrics.first_byte(Duration::from_mins(10));
        let text = metrics.text();
        for part in [
            "dialtone_proxy_responses_total{class=\"2xx\"} 1\n",
            "dialtone_proxy_responses_total{class=\"5xx\"} 1\n",
            "_bucket{le=\"0.001\"} 1\n",
            "_bucket{le=\"30\"} 1\n",
            "_bucket{le=\"+Inf\"} 2\n",
            "_count 2\n",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}
