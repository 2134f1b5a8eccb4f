//! The status as Prometheus reads it (text format 0.0.4).

use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use super::process::Process;
use super::{Histogram, Metric, MetricValue, Part};
use crate::cluster::status as cluster;
use crate::status::Status;

mod links;

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics: those of a broker, where there is one, of the process and its parts.
pub(super) fn render(
    broker: Option<(&Status, Option<&cluster::Status>)>,
    process: &Process,
    parts: &[Arc<dyn Part>],
) -> String {
    let mut out = Exposition(String::with_capacity(8 << 10));
    write_all(&mut out, broker, process, parts).expect("writing to a String cannot fail");
    out.0
}

fn write_all(
    out: &mut Exposition,
    broker: Option<(&Status, Option<&cluster::Status>)>,
    process: &Process,
    parts: &[Arc<dyn Part>],
) -> fmt::Result {
    if let Some((status, cluster)) = broker {
        write_status(out, status)?;
        if let Some(cluster) = cluster {
            links::write_cluster(out, cluster)?;
        }
    }
    write_process(out, process)?;
    for metric in parts.iter().flat_map(|part| part.metrics()) {
        out.metric(&metric)?;
    }
    Ok(())
}

macro_rules! families {
    ($($kind:ident $name:literal = $field:ident, $help:literal;)+) => {
        /// One line of the table for each number of the status; a field that is added to the status
        /// is missed here by the compiler.
        fn write_status(out: &mut Exposition, status: &Status) -> fmt::Result {
            let Status { node, server, ready, draining, listeners, certificate_ends, $($field),+ } = status;
            out.info(node, server)?;
            out.gauge("dialtone_ready", "1 while connections are accepted.", &u8::from(*ready))?;
            out.gauge("dialtone_draining", "1 while the node is draining.", &u8::from(*draining))?;
            out.gauge("dialtone_listeners", "Addresses that connections are accepted on.", &listeners.len())?;
            if let Some(end) = certificate_ends {
                out.gauge(
                    "dialtone_certificate_end_timestamp_seconds",
                    "When the certificate of the listeners ends, in seconds since 1970.",
                    end,
                )?;
            }
            $(out.$kind($name, $help, $field)?;)+
            Ok(())
        }
    };
}

families! {
    gauge "dialtone_uptime_seconds" = uptime_s, "Seconds since the start.";
    gauge "dialtone_connections" = connections, "Open connections.";
    gauge "dialtone_subscriptions" = subscriptions, "Subscriptions of all connections.";
    gauge "dialtone_patterns" = patterns, "Distinct patterns of the subscriptions.";
    gauge "dialtone_interest_waiting" = interest_waiting, "Questions that wait for somebody to subscribe.";
    gauge "dialtone_outbox_bytes" = outbox_bytes, "Bytes that wait in outboxes.";
    counter "dialtone_connections_accepted_total" = accepted_total, "Connections accepted.";
    counter "dialtone_handshake_failures_total" = handshake_failures_total,
        "Connections whose transport or protocol handshake failed.";
    counter "dialtone_auth_failures_total" = auth_failures_total, "Connections whose credentials were refused.";
    counter "dialtone_limit_refusals_total" = limit_refusals_total, "Connections refused because of a limit.";
    counter "dialtone_denied_total" = denied_total,
        "Publishes, subscriptions and queries that were not permitted.";
    counter "dialtone_slow_consumers_total" = slow_consumers_total, "Connections closed as slow consumers.";
    counter "dialtone_violations_total" = violations_total,
        "Connections closed because the peer broke the protocol.";
    counter "dialtone_stalls_total" = stalls_total, "Times a publisher was stalled.";
    counter "dialtone_throttles_total" = throttles_total,
        "Times a connection was read more slowly because it was ahead of its rates.";
    counter "dialtone_messages_in_total" = messages_in_total, "Messages received, fragments counted one each.";
    counter "dialtone_bytes_in_total" = bytes_in_total, "Bytes of the messages received.";
    counter "dialtone_messages_out_total" = messages_out_total, "Deliveries put into outboxes.";
    counter "dialtone_bytes_out_total" = bytes_out_total, "Bytes of the deliveries put into outboxes.";
    counter "dialtone_unrouted_total" = unrouted_total, "Messages that nobody subscribed to.";
    counter "dialtone_dropped_total" = dropped_total, "Deliveries dropped for subscriptions that drop the oldest.";
}

/// The names that all Prometheus clients use.
fn write_process(out: &mut Exposition, process: &Process) -> fmt::Result {
    let Process {
        resident_memory_bytes,
        cpu_seconds,
        open_fds,
        max_fds,
    } = process;
    if let Some(bytes) = resident_memory_bytes {
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            bytes,
        )?;
    }
    if let Some(seconds) = cpu_seconds {
        let help = "Total user and system CPU time spent in seconds.";
        out.counter("process_cpu_seconds_total", help, seconds)?;
    }
    if let Some(open) = open_fds {
        out.gauge("process_open_fds", "Number of open file descriptors.", open)?;
    }
    if let Some(max) = max_fds {
        out.gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            max,
        )?;
    }
    Ok(())
}

/// The text as far as it is written.
struct Exposition(String);

impl Exposition {
    fn counter(&mut self, name: &str, help: &str, value: &dyn Display) -> fmt::Result {
        self.family(name, "counter", help)?;
        writeln!(self.0, "{name} {value}")
    }

    fn gauge(&mut self, name: &str, help: &str, value: &dyn Display) -> fmt::Result {
        self.family(name, "gauge", help)?;
        writeln!(self.0, "{name} {value}")
    }

    fn metric(&mut self, metric: &Metric) -> fmt::Result {
        let Metric { name, help, value } = metric;
        match value {
            MetricValue::Counter(value) => self.counter(name, help, value),
            MetricValue::Gauge(value) => self.gauge(name, help, value),
            MetricValue::Histogram(histogram) => {
                self.family(name, "histogram", help)?;
                for (bound, count) in &histogram.buckets {
                    writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {count}")?;
                }
                let Histogram { count, sum, .. } = histogram;
                writeln!(self.0, "{name}_bucket{{le=\"+Inf\"}} {count}")?;
                writeln!(self.0, "{name}_sum {sum}\n{name}_count {count}")
            }
        }
    }

    fn info(&mut self, node: &str, server: &str) -> fmt::Result {
        self.family(
            "dialtone_info",
            "gauge",
            "The node's name and software; always 1.",
        )?;
        writeln!(
            self.0,
            "dialtone_info{{node=\"{}\",server=\"{}\"}} 1",
            Label(node),
            Label(server)
        )
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }
}

/// A label's value with what the format escapes.
struct Label<'a>(&'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
