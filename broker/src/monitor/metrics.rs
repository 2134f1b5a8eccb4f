//! The status as Prometheus reads it (text format 0.0.4).

use std::fmt::{self, Display, Write as _};

use super::process::Process;
use crate::status::Status;

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
pub(super) fn render(status: &Status, process: &Process) -> String {
    let mut out = Exposition(String::with_capacity(8 << 10));
    write_all(&mut out, status, process).expect("writing to a String cannot fail");
    out.0
}

fn write_all(out: &mut Exposition, status: &Status, process: &Process) -> fmt::Result {
    // A field that is added to the status is met here.
    let Status {
        node,
        server,
        uptime_s,
        ready,
        draining,
        listeners,
        connections,
        subscriptions,
        patterns,
        interest_waiting,
        outbox_bytes,
        accepted_total,
        handshake_failures_total,
        auth_failures_total,
        limit_refusals_total,
        denied_total,
        slow_consumers_total,
        violations_total,
        stalls_total,
        messages_in_total,
        bytes_in_total,
        messages_out_total,
        bytes_out_total,
        unrouted_total,
        dropped_total,
    } = status;
    out.info(node, server)?;
    out.gauge("dialtone_uptime_seconds", "Seconds since the start.", uptime_s)?;
    out.gauge("dialtone_ready", "1 while connections are accepted.", &u8::from(*ready))?;
    out.gauge("dialtone_draining", "1 while the node is draining.", &u8::from(*draining))?;
    out.gauge("dialtone_listeners", "Addresses that connections are accepted on.", &listeners.len())?;
    out.gauge("dialtone_connections", "Open connections.", connections)?;
    out.gauge("dialtone_subscriptions", "Subscriptions of all connections.", subscriptions)?;
    out.gauge("dialtone_patterns", "Distinct patterns of the subscriptions.", patterns)?;
    out.gauge("dialtone_interest_waiting", "Questions that wait for somebody to subscribe.", interest_waiting)?;
    out.gauge("dialtone_outbox_bytes", "Bytes that wait in outboxes.", outbox_bytes)?;
    out.counter("dialtone_connections_accepted_total", "Connections accepted.", accepted_total)?;
    let help = "Connections whose transport or protocol handshake failed.";
    out.counter("dialtone_handshake_failures_total", help, handshake_failures_total)?;
    out.counter("dialtone_auth_failures_total", "Connections whose credentials were refused.", auth_failures_total)?;
    out.counter("dialtone_limit_refusals_total", "Connections refused because of a limit.", limit_refusals_total)?;
    let help = "Publishes, subscriptions and queries that were not permitted.";
    out.counter("dialtone_denied_total", help, denied_total)?;
    out.counter("dialtone_slow_consumers_total", "Connections closed as slow consumers.", slow_consumers_total)?;
    let help = "Connections closed because the peer broke the protocol.";
    out.counter("dialtone_violations_total", help, violations_total)?;
    out.counter("dialtone_stalls_total", "Times a publisher was stalled.", stalls_total)?;
    out.counter("dialtone_messages_in_total", "Messages received, fragments counted one each.", messages_in_total)?;
    out.counter("dialtone_bytes_in_total", "Bytes of the messages received.", bytes_in_total)?;
    out.counter("dialtone_messages_out_total", "Deliveries put into outboxes.", messages_out_total)?;
    out.counter("dialtone_bytes_out_total", "Bytes of the deliveries put into outboxes.", bytes_out_total)?;
    out.counter("dialtone_unrouted_total", "Messages that nobody subscribed to.", unrouted_total)?;
    let help = "Deliveries dropped for subscriptions that drop the oldest.";
    out.counter("dialtone_dropped_total", help, dropped_total)?;
    write_process(out, process)
}

/// The names that all Prometheus clients use.
fn write_process(out: &mut Exposition, process: &Process) -> fmt::Result {
    let Process { resident_memory_bytes, cpu_seconds, open_fds, max_fds } = process;
    if let Some(bytes) = resident_memory_bytes {
        out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes)?;
    }
    if let Some(seconds) = cpu_seconds {
        let help = "Total user and system CPU time spent in seconds.";
        out.counter("process_cpu_seconds_total", help, seconds)?;
    }
    if let Some(open) = open_fds {
        out.gauge("process_open_fds", "Number of open file descriptors.", open)?;
    }
    if let Some(max) = max_fds {
        out.gauge("process_max_fds", "Maximum number of open file descriptors.", max)?;
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

    fn info(&mut self, node: &str, server: &str) -> fmt::Result {
        self.family("dialtone_info", "gauge", "The node's name and software; always 1.")?;
        writeln!(self.0, "dialtone_info{{node=\"{}\",server=\"{}\"}} 1", Label(node), Label(server))
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
