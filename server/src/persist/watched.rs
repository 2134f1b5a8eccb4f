//! A node of persist as the monitoring server shows it.

use std::time::{SystemTime, UNIX_EPOCH};

use dialtone_broker::monitor::{Histogram, Metric, MetricValue, Part};
use dialtone_client::persist::wire::NodeInfo;
use dialtone_persist::Handle;
use serde_json::json;

/// A node that runs in this process.
#[derive(Debug)]
pub(crate) struct Watched(Handle);

impl Watched {
    /// Watches this one.
    pub(crate) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    fn latency(&self) -> Histogram {
        let latency = self.0.latency();
        let mut so_far = 0;
        let buckets = latency.buckets.iter().map(|(bound, count)| {
            so_far += count;
            (bound.as_secs_f64(), so_far)
        });
        Histogram {
            buckets: buckets.collect(),
            count: latency.count,
            sum: latency.sum.as_secs_f64(),
        }
    }
}

impl Part for Watched {
    fn name(&self) -> &'static str {
        "persist"
    }

    fn page(&self) -> (&'static str, &'static str) {
        ("/persistz", "the persist node: streams, counters, lease")
    }

    fn failure(&self) -> Option<String> {
        let status = self.0.status();
        let lost = (status.lease == Some(0)).then(|| "it has no lease".to_owned());
        status.failure.or(lost)
    }

    fn show(&self) -> serde_json::Result<serde_json::Value> {
        let mut page = serde_json::to_value(self.0.status())?;
        let (latency, batches) = (self.latency(), batches(&self.0.status()));
        if let Some(page) = page.as_object_mut() {
            page.insert("commit_latency".to_owned(), json!(latency));
            page.insert("records_per_commit".to_owned(), json!(batches));
        }
        Ok(page)
    }

    fn metrics(&self) -> Vec<Metric> {
        let status = self.0.status();
        let mut all = gauges(&status);
        all.extend(
            status
                .counters
                .iter()
                .map(|(name, count)| counted(name, *count)),
        );
        all.push(Metric {
            name: "dialtone_persist_commit_seconds".to_owned(),
            help: "How long commits take from their decision until they are as durable as asked for.",
            value: MetricValue::Histogram(self.latency()),
        });
        all
    }
}

/// Records of a commit on average since the start.
#[expect(
    clippy::cast_precision_loss,
    reason = "an average needs no more digits"
)]
fn batches(status: &NodeInfo) -> Option<f64> {
    let count = |name: &str| status.counters.get(name).copied();
    let (records, commits) = (count("records_appended")?, count("commits")?);
    (commits > 0).then(|| records as f64 / commits as f64)
}

/// Prometheus knows no other numbers.
#[expect(clippy::cast_precision_loss, reason = "they are below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

fn gauges(status: &NodeInfo) -> Vec<Metric> {
    let gauge = |name: &str, help, value| Metric {
        name: format!("dialtone_persist_{name}"),
        help,
        value: MetricValue::Gauge(value),
    };
    let mut all = vec![
        gauge(
            "failed",
            "1 when the store accepts nothing more.",
            f64::from(u8::from(status.failure.is_some())),
        ),
        gauge(
            "uptime_seconds",
            "Seconds since the start of the node.",
            float(status.uptime) / 1e3,
        ),
        gauge("streams", "Streams that are kept.", float(status.streams)),
        gauge(
            "streams_open",
            "Streams that are loaded.",
            float(status.streams_open),
        ),
        gauge("records", "Records that are kept.", float(status.messages)),
        gauge("bytes", "What the records count for.", float(status.bytes)),
        gauge(
            "disk_bytes",
            "What the store takes on disk.",
            float(status.disk_bytes),
        ),
        gauge(
            "waiting",
            "Watches and fetches that wait.",
            float(status.waiting),
        ),
    ];
    if let Some(lease) = status.lease {
        let help = "What is left of the lease of the node.";
        all.push(gauge("lease_seconds", help, float(lease) / 1e3));
        let help = "The view of the nodes that this one acts on.";
        all.push(gauge("view", help, float(status.view)));
    }
    if let Some(at) = status.counters.get("archive_archived_at_ms") {
        let help = "How long ago the newest state of the archive was written.";
        let age = if *at == 0 {
            0
        } else {
            now().saturating_sub(*at)
        };
        all.push(gauge("archive_age_seconds", help, float(age) / 1e3));
    }
    all
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Numbers among the counters of a node that come and go.
const GAUGES: [&str; 7] = [
    "archive_archived_at_ms",
    "archive_failures",
    "archive_generation",
    "archive_waiting_bytes",
    "live_bytes",
    "postgres_connections",
    "segments",
];

fn counted(name: &str, count: u64) -> Metric {
    let is_gauge = GAUGES.contains(&name);
    Metric {
        name: if is_gauge {
            format!("dialtone_persist_{name}")
        } else {
            format!("dialtone_persist_{name}_total")
        },
        help: help(name),
        value: if is_gauge {
            MetricValue::Gauge(float(count))
        } else {
            MetricValue::Counter(float(count))
        },
    }
}

fn help(name: &str) -> &'static str {
    match name {
        "requests" => "Requests that were received.",
        "faults" => "Requests that were refused or failed.",
        "records_appended" => "Records that were appended and committed.",
        "bytes_appended" => "What these count for.",
        "commits" => "Commits of streams that were stored.",
        "commits_failed" => "Commits of streams that failed.",
        "records_read" => "Records that were given to readers, watches and fetches.",
        "watches" => "Answers to watches.",
        "deliveries" => "Deliveries of consumers.",
        "redeliveries" => "Deliveries that were made again.",
        "dead_letters" => "Records that consumers gave up.",
        "loads" => "Streams that were loaded.",
        "unloads" => "Streams that were unloaded.",
        "answers_lost" => "Answers that could not be sent.",
        "segments" => "Segments of the log.",
        "live_bytes" => "Bytes of the log that are needed.",
        "groups" => "Writes to the log, each with all that waited.",
        "frames" => "Frames that were written to the log.",
        "written_bytes" => "Bytes that were written to the log.",
        "syncs" => "Syncs of the log.",
        "sync_us" => "Microseconds that these took.",
        "checkpoints" => "Checkpoints that were written.",
        "snapshots" => "Snapshots of streams that were written.",
        "segments_compacted" => "Segments that were compacted.",
        "moved_bytes" => "Bytes that compaction has written again.",
        "freed_bytes" => "Bytes that compaction has freed.",
        "archive_archived_at_ms" => {
            "When the newest state of the archive was written, in milliseconds since 1970."
        }
        "archive_failures" => "Attempts to archive that failed since the last one that succeeded.",
        "archive_generation" => "The number of the newest state of the archive.",
        "archive_uploaded_bytes" => "Bytes that were uploaded to the archive.",
        "archive_waiting_bytes" => "Bytes of the log that the archive does not have yet.",
        "postgres_transactions" => "Transactions of PostgreSQL.",
        "postgres_commits" => "Commits of streams in these.",
        "postgres_commits_refused" => "Commits of streams that the database refused.",
        "postgres_connections" => "Connections to PostgreSQL.",
        _ => "A number of the persist node.",
    }
}
