//! The table of settings: name, key, type, default and documentation of each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dialtone_broker::Config as Broker;
use dialtone_broker::cluster::{Config as Cluster, Trust};
use dialtone_transport::Endpoint;

use super::gateway::GatewayUrl;
use super::place::Place;
use super::value::{Raw, Size, Span, Value};
use super::{Given, Origin, PREFIX};
use crate::discovery::{Link, PORT_CLUSTER, Seed};

/// One line of the table, without its type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// What its environment variable begins with.
    pub(crate) prefix: &'static str,
    /// The key in a file, with dots between tables.
    pub(crate) key: &'static str,
    /// What it does, in one paragraph.
    pub(crate) doc: &'static str,
    /// What stands for its value in help texts.
    pub(crate) value_name: &'static str,
    /// Whether it is a list.
    pub(crate) list: bool,
    /// Whether its flag needs no value.
    pub(crate) switch: bool,
    /// A value other than the default, as a text; for tests and examples.
    #[cfg_attr(not(test), expect(dead_code, reason = "each setting is tried with it"))]
    pub(crate) example: &'static str,
}

impl Field {
    /// The flag, without the dashes in front. The most used ones are short.
    pub(crate) fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// The environment variable.
    pub(crate) fn env(&self) -> String {
        let prefix = self.prefix;
        match self.key {
            "log.level" => format!("{prefix}LOG"),
            key => format!("{prefix}{}", key.replace('.', "_").to_uppercase()),
        }
    }

    /// The table in a file; empty for the top level.
    pub(crate) fn table(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(table, _)| table)
    }

    /// The key within its table.
    pub(crate) fn leaf(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, leaf)| leaf)
    }
}

macro_rules! settings {
    ($($name:ident: $type:ty, $key:literal, $default:expr, $example:literal, $doc:literal;)+) => {
        /// Every setting, in the order of the sample file.
        pub(crate) const FIELDS: &[Field] = &[$(Field {
            prefix: PREFIX,
            key: $key,
            doc: $doc,
            value_name: <$type as Value>::NAME,
            list: <$type as Value>::LIST,
            switch: <$type as Value>::SWITCH,
            example: $example,
        }),+];

        /// What one source says; `None` where it says nothing.
        #[derive(Debug, Clone, Default)]
        pub(crate) struct Layer {
            $($name: Option<Given<$type>>,)+
        }

        impl Layer {
            /// Reads the setting of this key; the text says what is wrong.
            pub(crate) fn set(&mut self, key: &str, raw: Raw<'_>, origin: Origin) -> Result<(), String> {
                match key {
                    $($key => self.$name = Some(Given { value: <$type as Value>::read(raw)?, origin }),)+
                    _ => return Err("no setting has this name".to_owned()),
                }
                Ok(())
            }

            /// This source, with what it does not say taken from another.
            pub(crate) fn or(self, lower: Self) -> Self {
                Self { $($name: self.$name.or(lower.$name),)+ }
            }

            /// This source, with what it does not say taken from the defaults.
            pub(crate) fn resolve(self) -> Settings {
                let default = Broker::default();
                Settings {
                    $($name: self.$name.unwrap_or_else(|| Given {
                        value: ($default)(&default),
                        origin: Origin::Default,
                    }),)+
                }
            }
        }

        /// Every setting with its value.
        #[derive(Debug, Clone)]
        pub(crate) struct Settings {
            $(pub(crate) $name: Given<$type>,)+
        }

        impl Settings {
            /// Takes some settings, chosen by their keys, over from another reading.
            pub(crate) fn take(&mut self, newer: Self, wanted: impl Fn(&str) -> bool) {
                $(if wanted($key) {
                    self.$name = newer.$name;
                })+
            }

            /// Every setting as TOML, in the order of [`FIELDS`].
            pub(crate) fn shown(&self) -> Vec<(toml::Value, &Origin)> {
                vec![$((self.$name.value.to_toml(), &self.$name.origin)),+]
            }
        }
    };
}

settings! {
    node: Option<String>, "node", |_: &Broker| None, "node-7",
        "Name of this node, for people and for links to other nodes. Empty: one is made up.";
    listen: Vec<Place>, "listen", |_: &Broker| vec![Place::Peers(plain())], "ws://127.0.0.1:4999/",
        "Where to listen: quic://HOST:PORT, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH; socketio+http://HOST:PORT/BASE or socketio+https://HOST:PORT/BASE for existing Conat clients. Port 0 takes any free port.";
    advertise: Vec<Endpoint>, "advertise", |_: &Broker| Vec::new(), "wss://broker.example.org:4443/",
        "URLs under which clients reach this broker, told to clients, and to the other nodes of its cluster for theirs. Without a cluster, those of its neighbours as well: where clients go when it drains.";
    monitor: Option<SocketAddr>, "monitor", |_: &Broker| None, "127.0.0.1:4999",
        "Address of the monitoring server (/healthz, /readyz, /metrics, /varz, /connz, /subsz, /routez). Empty: none.";
    users: Option<PathBuf>, "users", |_: &Broker| None, "/etc/dialtone/users.toml",
        "File with the users, their password hashes, tokens and permissions. Without one, everybody on this machine may do everything, and nobody else may connect.";
    open_to_everyone: bool, "open_to_everyone", |_: &Broker| false, "true",
        "Without a users file: let everybody do everything, from wherever they connect.";
    system_password: Option<String>, "system_password", |_: &Broker| None, "secret",
        "Password of the system account, which may do everything, for nodes and tools that send it as the cookie `sys`. With it, sys.conat.> answers administrators. In the environment others on this machine do not see it.";
    hub_password_file: Option<PathBuf>, "hub_password_file", |_: &Broker| None, "/etc/dialtone/hub-password",
        "File with the site's own secret (`dialtone admin settings get conat_password`). With it, hubs connect, and decide who else may and what they may do; no users file is used then.";
    threads: u16, "threads", |_: &Broker| 0, "3",
        "Threads that carry connections. 0: one for each core.";
    drain_grace: Span, "drain_grace", |_: &Broker| Span(Duration::from_secs(10)), "7s",
        "How long a drain may take before the remaining connections are cut. `dialtone up`: 1s.";
    tls_cert: Option<PathBuf>, "tls.cert", |_: &Broker| None, "/etc/dialtone/cert.pem",
        "Certificate chain for wss and quic, as PEM.";
    tls_key: Option<PathBuf>, "tls.key", |_: &Broker| None, "/etc/dialtone/key.pem",
        "Private key of the certificate, as PEM.";
    tls_client_ca: Option<PathBuf>, "tls.client_ca", |_: &Broker| None, "/etc/dialtone/clients.pem",
        "Certificates, as PEM, that sign the certificates of clients. With it, clients may prove who they are by a certificate.";
    tls_dev: Option<PathBuf>, "tls.dev", |_: &Broker| None, "/tmp/dialtone",
        "Folder for a development certificate, made when there is none, used where no certificate is given.";
    allowed_origins: Vec<String>, "websocket.allowed_origins", |_: &Broker| Vec::new(), "https://example.org",
        "Web origins whose pages may connect with cookies. Empty: pages of the same host only.";
    connections_max: u32, "limits.connections_max", |d: &Broker| d.connections_max, "11",
        "Most connections at the same time.";
    connections_per_identity_max: u32, "limits.connections_per_identity_max",
        |d: &Broker| d.connections_per_identity_max, "12",
        "Most connections of one identity at the same time.";
    handshakes_max: u32, "limits.handshakes_max", |d: &Broker| d.handshakes_max, "13",
        "Most handshakes in progress on each listener; further peers wait in the kernel's queue.";
    interest_waiting_max: u32, "limits.interest_waiting_max", |d: &Broker| d.interest_waiting_max, "14",
        "Most questions that wait for a subscriber to come, over all connections.";
    frame_len_max: Size, "limits.frame_len_max", |d: &Broker| Size(d.limits.frame_len_max.into()), "2 MiB",
        "Longest frame that is read.";
    message_len_max: Size, "limits.message_len_max", |d: &Broker| Size(d.limits.message_len_max), "3 MiB",
        "Longest payload of a message.";
    fragment_len_max: Size, "limits.fragment_len_max", |d: &Broker| Size(d.limits.fragment_len_max.into()), "96 KiB",
        "Longest payload that is sent in one piece; longer ones are cut into such pieces.";
    fragmented_max: u16, "limits.fragmented_max", |d: &Broker| d.limits.fragmented_max, "15",
        "Most messages in pieces that a connection may have in flight.";
    subscriptions_max: u32, "limits.subscriptions_max", |d: &Broker| d.limits.subscriptions_max, "16",
        "Most subscriptions of a connection.";
    requests_max: u32, "limits.requests_max", |d: &Broker| d.limits.requests_max, "17",
        "Most answers that a connection may be waiting for.";
    messages_per_second_max: u32, "limits.messages_per_second_max",
        |d: &Broker| d.limits.messages_per_second_max, "18",
        "Messages that a connection may publish a second; beyond it, it is read more slowly. 0: without a limit.";
    bytes_per_second_max: Size, "limits.bytes_per_second_max", |d: &Broker| Size(d.limits.bytes_per_second_max), "19 MiB",
        "Bytes that a connection may send a second; beyond it, it is read more slowly. 0: without a limit.";
    outbox_high: Size, "outbox.high", |d: &Broker| size(d.outbox.high_bytes), "512 KiB",
        "Above this much unsent data for one connection, whoever publishes to it is slowed down.";
    outbox_low: Size, "outbox.low", |d: &Broker| size(d.outbox.low_bytes), "128 KiB",
        "Below this much unsent data, they go on at full speed.";
    outbox_max: Size, "outbox.max", |d: &Broker| size(d.outbox.max_bytes), "512 MiB",
        "A connection with more unsent data than this is closed as a slow consumer.";
    stall_max: Span, "outbox.stall_max", |d: &Broker| Span(d.outbox.stall_max), "123ms",
        "Longest time that a publisher is slowed down at a time for one slow consumer.";
    stall_progress: Span, "outbox.stall_progress", |d: &Broker| Span(d.outbox.stall_progress), "124ms",
        "A consumer that has taken nothing for this long is not waited for, since its neighbours would suffer. Twenty times as long for whoever sends a large message.";
    slow_max: Span, "outbox.slow_max", |d: &Broker| Span(d.outbox.slow_max), "12s",
        "A consumer above outbox.high that has taken nothing for this long is closed.";
    handshake_max: Span, "timing.handshake_max", |d: &Broker| Span(d.timing.handshake_max), "21s",
        "How long a new connection may take to introduce itself.";
    ping_interval: Span, "timing.ping_interval", |d: &Broker| Span(d.timing.ping_interval), "22s",
        "How long a connection may be silent before it is asked whether it is there.";
    pong_max: Span, "timing.pong_max", |d: &Broker| Span(d.timing.pong_max), "23s",
        "How long its answer may take.";
    ahead_max: Span, "timing.ahead_max", |d: &Broker| Span(d.timing.ahead_max), "24s",
        "A connection this far ahead of limits.messages_per_second_max or limits.bytes_per_second_max is closed; until then it is read more slowly.";
    socketio_addresses: Vec<String>, "socketio.addresses", |_: &Broker| Vec::new(), "https://hub.example.org",
        "URLs under which Socket.IO clients reach this node, as they are told. Empty: where it listens.";
    socketio_max_payload: Size, "socketio.max_payload", |_: &Broker| size(socketio().max_payload), "4 MiB",
        "Longest WebSocket message of a Socket.IO client; it cuts longer messages into chunks.";
    socketio_subscriptions_max: u32, "socketio.subscriptions_max", |_: &Broker| count(socketio().subscriptions_max), "51",
        "Most subscriptions of a Socket.IO client.";
    socketio_hub_subscriptions_max: u32, "socketio.hub_subscriptions_max", |_: &Broker| count(socketio().hub_subscriptions_max), "52",
        "Most subscriptions of a Socket.IO client that is a hub.";
    socketio_ping_interval: Span, "socketio.ping_interval", |_: &Broker| Span(socketio().ping_interval), "54s",
        "How often a Socket.IO client is asked whether it is there.";
    socketio_ping_timeout: Span, "socketio.ping_timeout", |_: &Broker| Span(socketio().ping_timeout), "53s",
        "How long its answer may take.";
    cluster_name: Option<String>, "cluster.name", |_: &Broker| None, "prod",
        "Name of the cluster that this node belongs to; the same on all its nodes. Empty: the node stands alone.";
    cluster_listen: Vec<Link>, "cluster.listen", |_: &Broker| vec![link_default()], "quic://127.0.0.1:4999",
        "Where to listen for other nodes: quic://HOST:PORT or wss://HOST:PORT/PATH. Port 0 takes any free port.";
    cluster_advertise: Vec<Link>, "cluster.advertise", |_: &Broker| Vec::new(), "quic://n7.example.org:4434",
        "URLs under which other nodes reach this one. Empty: where it listens, at the address that the others see.";
    cluster_seeds: Vec<Seed>, "cluster.seeds", |_: &Broker| Vec::new(), "dns://dialtone.example.org:4434",
        "Where to find other nodes, one of which is enough: quic://HOST:PORT, wss://HOST:PORT/PATH, dns://NAME:PORT (all its addresses) or srv://_dialtone._udp.NAME (all its services). Names are looked up again as their answers expire.";
    cluster_dns_servers: Vec<SocketAddr>, "cluster.dns_servers", |_: &Broker| Vec::new(), "127.0.0.1:53",
        "Name servers for cluster.seeds. Empty: those of the operating system.";
    cluster_cert: Option<PathBuf>, "cluster.cert", |_: &Broker| None, "/etc/dialtone/node.pem",
        "This node's certificate chain, as PEM, for the links to other nodes: made by `dialtone cluster init` or `join`.";
    cluster_key: Option<PathBuf>, "cluster.key", |_: &Broker| None, "/etc/dialtone/node-key.pem",
        "Private key of cluster.cert, as PEM.";
    cluster_ca: Option<PathBuf>, "cluster.ca", |_: &Broker| None, "/etc/dialtone/ca.pem",
        "Certificates, as PEM, that sign the certificates of nodes; with gateways, those of the other clusters as well.";
    cluster_secret_file: Option<PathBuf>, "cluster.secret_file", |_: &Broker| None, "/etc/dialtone/secret",
        "File with a secret that all nodes know, instead of certificates. The environment variable DIALTONE_CLUSTER_SECRET may hold the secret itself.";
    cluster_gateways: Vec<GatewayUrl>, "cluster.gateways", |_: &Broker| Vec::new(), "west=quic://west.example.org:4434",
        "Other clusters that messages are sent to: NAME=URL, several of one cluster to fail over; NAME alone for one that only sends to this one. For both ways, each names the other's URLs.";
    cluster_gateway_secret_file: Option<PathBuf>, "cluster.gateway_secret_file", |_: &Broker| None, "/etc/dialtone/gateways",
        "File with the secret shared with other clusters, where it is another one than cluster.secret_file.";
    cluster_forget_after: Span, "cluster.forget_after", |_: &Broker| Span(links().timing.forget_after), "31m",
        "How long a node that cannot be reached is remembered and dialled.";
    cluster_ping_interval: Span, "cluster.ping_interval", |_: &Broker| Span(links().timing.ping_interval), "24s",
        "How often each end of a link asks whether the other one is there.";
    cluster_pong_max: Span, "cluster.pong_max", |_: &Broker| Span(links().timing.pong_max), "25s",
        "How long its answer may take before the link is lost.";
    cluster_handshake_max: Span, "cluster.handshake_max", |_: &Broker| Span(links().timing.handshake_max), "26s",
        "How long a new link may take until both nodes know each other.";
    cluster_redial_max: Span, "cluster.redial_max", |_: &Broker| Span(links().timing.redial_max), "27s",
        "Longest wait before a node that could not be reached is dialled again.";
    cluster_count_max: Span, "cluster.count_max", |_: &Broker| Span(links().timing.count_max), "28s",
        "How long the acknowledgement of a publish waits for the counts of other nodes.";
    cluster_members_max: u32, "cluster.members_max", |_: &Broker| count(links().members_max), "29",
        "Most nodes of the cluster; further ones are not linked with.";
    cluster_counts_max: u32, "cluster.counts_max", |_: &Broker| count(links().counts_max), "30",
        "Most acknowledged publishes that wait for counts of other nodes; further ones are answered with what is known.";
    cluster_changes_max: u32, "cluster.changes_max", |_: &Broker| count(links().changes_max), "32",
        "Most recent changes of subscriptions kept for nodes that lag; one that lags more is told everything again.";
    cluster_outbox_high: Size, "cluster.outbox_high", |_: &Broker| size(links().outbox.high_bytes), "5 MiB",
        "Above this much unsent data for another node, whoever publishes to it is slowed down.";
    cluster_outbox_low: Size, "cluster.outbox_low", |_: &Broker| size(links().outbox.low_bytes), "3 MiB",
        "Below this much unsent data, they go on at full speed.";
    cluster_outbox_max: Size, "cluster.outbox_max", |_: &Broker| size(links().outbox.max_bytes), "256 MiB",
        "A link with more unsent data than this is closed and made anew.";
    persist_node: Option<String>, "persist.node", |_: &Broker| None, "p1",
        "Name of the persist node: 1 to 64 letters, digits, - and _. It must stay the same as long as its streams do. Empty: that of the machine.";
    persist_monitor: Option<SocketAddr>, "persist.monitor", |_: &Broker| None, "127.0.0.1:4998",
        "Address of the monitoring server of `dialtone persist` (/healthz, /readyz, /metrics, /persistz); `dialtone up` has these pages at monitor. Empty: none.";
    persist_quota_streams: u64, "persist.quota_streams", |_: &Broker| 0, "1000",
        "Most streams of an account or a project, over all nodes. 0: no limit.";
    persist_quota_bytes: Size, "persist.quota_bytes", |_: &Broker| Size(0), "10 GiB",
        "Most bytes of records of an account or a project, over all nodes. 0: no limit.";
    persist_quota_msgs_rate: u64, "persist.quota_msgs_per_second", |_: &Broker| 0, "500",
        "Most records that an account or a project may append within any second, on each node. 0: no limit.";
    persist_quota_bytes_rate: Size, "persist.quota_bytes_per_second", |_: &Broker| Size(0), "5 MiB",
        "Most bytes that an account or a project may append within any second, on each node. 0: no limit.";
    persist_quotas: Option<PathBuf>, "persist.quotas_file", |_: &Broker| None, "/etc/dialtone/quotas.toml",
        "File with other quotas for some: a table for each scope, such as [project-UUID], with streams, bytes, msgs_per_second and bytes_per_second.";
    persist_streams_open: u32, "persist.streams_open_max", |_: &Broker| 10_000, "200",
        "Most streams that a node has loaded; with more, idle ones are unloaded, whatever persist.idle_max says.";
    persist_idle_max: Span, "persist.idle_max", |_: &Broker| Span(Duration::from_mins(5)), "34s",
        "A stream that was not used for this long is unloaded.";
    persist_requests_max: u32, "persist.requests_max", |_: &Broker| 65_536, "35",
        "Most requests that a node works on at a time, waiting ones included; further ones are refused as busy.";
    persist_segment_len: Size, "persist.segment_len_max", |_: &Broker| Size(log().segment_len_max), "32 MiB",
        "With logs: bytes after which a segment of the log ends, from 4 KiB to 2 GiB. Space is freed, and archived, a segment at a time.";
    persist_waiting_bytes: Size, "persist.waiting_bytes_max", |_: &Broker| size(log().waiting_bytes_max), "64 MiB",
        "With logs: most bytes that wait for the disk and are then synced together, from 1 MiB to 1 GiB; further writes are refused as unavailable.";
    persist_compress_len: Size, "persist.compress_len_min", |_: &Broker| size(log().compress_len_min), "4 KiB",
        "With logs: records of at least so many bytes are compressed with zstd, where that saves an eighth. 0: never.";
    persist_free_bytes: Size, "persist.free_bytes_min", |_: &Broker| Size(log().free_bytes_min), "1 GiB",
        "With logs: with less space than this left on the disk nothing is appended, so that what frees space can be written.";
    persist_checkpoint_bytes: Size, "persist.checkpoint_bytes", |_: &Broker| Size(log().checkpoint_bytes), "16 MiB",
        "With logs: bytes of log after which a checkpoint is written, at least 1 MiB. A start reads what was written since.";
    persist_compact_percent: u16, "persist.compact_live_percent", |_: &Broker| log().compact_live_percent.into(), "40",
        "With logs: segments of which a smaller share than this is needed, in percent, are compacted, at most 95. 0: never.";
    persist_compact_rate: Size, "persist.compact_bytes_per_second", |_: &Broker| Size(log().compact_bytes_per_second), "8 MiB",
        "With logs: most bytes that compaction reads and writes a second, at least 64 KiB.";
    persist_reserve: bool, "persist.reserve", |_: &Broker| log().reserve, "true",
        "With logs: take the space of a segment from the disk when it begins.";
    persist_workers: u16, "persist.workers", |_: &Broker| 0, "3",
        "With logs: threads for reading, loading and compressing, at most 64. 0: one for each core, from 2 to 8.";
    persist_postgres: Option<String>, "persist.postgres", |_: &Broker| None, "postgres://dialtone@db.example.org/dialtone",
        "URL of the PostgreSQL that keeps the streams, for all nodes together. Empty: each node keeps its streams in a log in its data folder.";
    persist_postgres_password: Option<PathBuf>, "persist.postgres_password_file", |_: &Broker| None, "/etc/dialtone/postgres.password",
        "File with the password for PostgreSQL.";
    persist_postgres_connections: u16, "persist.postgres_connections_max", |_: &Broker| 16, "24",
        "Most connections of a node to PostgreSQL.";
    persist_lease: Span, "persist.lease", |_: &Broker| Span(Duration::from_secs(10)), "14s",
        "With PostgreSQL: how long a node that has died keeps its streams before others take them over.";
    persist_nodes: Vec<String>, "persist.nodes", |_: &Broker| Vec::new(), "p1",
        "With logs: the names of all persist nodes, the same list on each of them. A stream belongs to one of them for good. Empty: there is one.";
    persist_archive: Option<String>, "persist.archive", |_: &Broker| None, "s3://archive/p1",
        "Where the log is copied to: s3://BUCKET/PREFIX or a folder, for this node alone. A node whose data folder is empty begins with what is there. Empty: nowhere.";
    persist_archive_endpoint: Option<String>, "persist.archive_endpoint", |_: &Broker| None, "https://s3.example.org",
        "Address of the S3-compatible store, where it is not AWS.";
    persist_archive_region: Option<String>, "persist.archive_region", |_: &Broker| None, "eu-central-1",
        "Region of the bucket. Empty: as the environment says.";
    persist_archive_keys: Option<PathBuf>, "persist.archive_keys_file", |_: &Broker| None, "/etc/dialtone/archive.keys",
        "File with the id of the access key and its secret, on a line each. Empty: as the environment or the machine says.";
    persist_archive_interval: Span, "persist.archive_interval", |_: &Broker| Span(Duration::from_secs(10)), "33s",
        "How often the archive is brought up to date. What was written since is lost with the disk.";
    persist_archive_rate: Size, "persist.archive_bytes_per_second_max", |_: &Broker| Size(0), "20 MiB",
        "Most bytes of the log that are uploaded a second. 0: without a limit.";
    persist_archive_keep: Span, "persist.archive_keep", |_: &Broker| Span(Duration::from_hours(168)), "24h",
        "How long one can go back to earlier states of the archive.";
    log_level: String, "log.level", |_: &Broker| "info".to_owned(), "debug",
        "What is logged: error, warn, info, debug or trace, or directives such as info,dialtone_broker=debug.";
    log_format: Format, "log.format", |_: &Broker| Format::Text, "json",
        "How it is logged: text or json.";
}

fn size(bytes: usize) -> Size {
    Size(bytes as u64)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The defaults for Socket.IO.
fn socketio() -> dialtone_conat::Config {
    dialtone_conat::Config::default()
}

/// The broker's own defaults for a cluster.
fn links() -> Cluster {
    Cluster::new("", Trust::Anyone)
}

/// The log's own defaults.
fn log() -> dialtone_persist::backend::log::Config {
    dialtone_persist::backend::log::Config::default()
}

/// The default listener for other nodes. They prove who they are, so that it may be open to all.
fn link_default() -> Link {
    Link(Endpoint::Quic {
        host: "0.0.0.0".to_owned(),
        port: PORT_CLUSTER,
    })
}

/// The default listener: WebSocket on this machine only.
fn plain() -> Endpoint {
    Endpoint::Ws {
        host: "127.0.0.1".to_owned(),
        port: dialtone_transport::PORT_WS,
        path: "/".to_owned(),
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Value for Format {
    const NAME: &'static str = "FORMAT";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("expected text or json, found {other:?}")),
        }
    }

    fn to_toml(&self) -> toml::Value {
        match self {
            Self::Text => "text".into(),
            Self::Json => "json".into(),
        }
    }
}

/// Used by the conversion to the broker's own types.
impl Span {
    /// The time itself.
    pub(crate) fn get(self) -> Duration {
        self.0
    }
}
