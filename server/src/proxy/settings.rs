//! The table of a proxy's settings, and where each comes from: a flag goes before the environment, that before the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use dialtone_proxy::Config as Proxy;

use super::listen::At;
use crate::config::{self, Field, Given, Origin, Problem, Raw, Size, Span, Strings, Value};

/// What the environment variables of a proxy begin with.
const PREFIX: &str = "DIALTONE_PROXY_";

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
                let default = Proxy::default();
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
            /// Every setting as TOML, in the order of [`FIELDS`].
            pub(crate) fn shown(&self) -> Vec<(toml::Value, &Origin)> {
                vec![$((self.$name.value.to_toml(), &self.$name.origin)),+]
            }
        }
    };
}

settings! {
    listen: Vec<At>, "listen", |_: &Proxy| vec![At::default()], "https://127.0.0.1:4999",
        "Where to listen: http://IP:PORT or https://IP:PORT, which also speak HTTP/2. Port 0 takes any free port.";
    base: String, "base", |_: &Proxy| "/".to_owned(), "/app",
        "The path below which everything lies, such as /app.";
    monitor: Option<SocketAddr>, "monitor", |_: &Proxy| None, "127.0.0.1:4999",
        "Address of the monitoring server (/healthz, /readyz, /metrics). Empty: none.";
    threads: u16, "threads", |_: &Proxy| 0, "3",
        "Threads that carry connections. 0: one for each core.";
    drain_grace: Span, "drain_grace", |d: &Proxy| Span(d.drain_grace), "7s",
        "How long requests and WebSockets may go on after the proxy was told to stop.";
    brokers: Vec<SocketAddr>, "brokers", |_: &Proxy| Vec::new(), "127.0.0.1:4480",
        "Brokers behind {base}/conat/, by IP:PORT of their ws listeners, used in turn. Empty: none.";
    pages: Option<SocketAddr>, "pages", |_: &Proxy| None, "127.0.0.1:5000",
        "The server of everything that is neither a project's nor a broker's, by IP:PORT, such as a hub; it gets all cookies. Empty: none.";
    sign_in: Option<String>, "sign_in", |_: &Proxy| None, "/sign-in",
        "Where browsers without credentials are sent. Empty: they are shown a page that says so.";
    projects_host: Option<String>, "projects_host", |_: &Proxy| None, "{project}.example.org",
        "Host of the servers of projects, which keeps their pages from acting as whoever opens them: {project}.example.org, one for each, or one for all. Empty: the proxy's own.";
    site: Option<String>, "site", |_: &Proxy| None, "https://hub.example.org",
        "Where people find the site, when projects have hosts of their own. Empty: where the proxy listens first.";
    projects_key: Option<PathBuf>, "projects_key", |_: &Proxy| None, "/etc/dialtone/projects.key",
        "File with a secret by which the cookies of projects' hosts are sealed: the same for all proxies of a site. Empty: one that ends with the process.";
    trust_forwarded: bool, "trust_forwarded", |_: &Proxy| false, "true",
        "Believe Forwarded and X-Forwarded-*: only where a proxy of yours stands in front that sets them.";
    allowed_origins: Vec<String>, "allowed_origins", |_: &Proxy| Vec::new(), "https://example.org",
        "Web origins whose pages may open WebSockets with cookies. Empty: pages of the same host only.";
    cookies: Vec<String>, "cookies", |d: &Proxy| d.names.cookies.clone(), "session",
        "Names of the cookies that are credentials: checked, never passed on, never set by a project.";
    keys: Vec<String>, "keys", |d: &Proxy| d.names.keys.clone(), "key-",
        "What the keys in Authorization: Bearer begin with that are credentials. Others are the projects' own and pass.";
    tls_cert: Option<PathBuf>, "tls.cert", |_: &Proxy| None, "/etc/dialtone/cert.pem",
        "Certificate chain for https, as PEM.";
    tls_key: Option<PathBuf>, "tls.key", |_: &Proxy| None, "/etc/dialtone/key.pem",
        "Private key of the certificate, as PEM.";
    tls_dev: Option<PathBuf>, "tls.dev", |_: &Proxy| None, "/tmp/dialtone",
        "Folder for a development certificate, made when there is none, used where no certificate is given.";
    tls_redirect: Option<u16>, "tls.redirect", |_: &Proxy| None, "443",
        "Port to which whoever comes by http is led, to come by https; 0: that of the first https address. Empty: http is answered.";
    hsts: Span, "tls.hsts", |_: &Proxy| Span(Duration::ZERO), "8760h",
        "How long browsers that came by https come by nothing else (Strict-Transport-Security). 0: nothing is said.";
    log_file: Option<PathBuf>, "access_log.file", |_: &Proxy| None, "/var/log/dialtone/access.log",
        "File for the access log, one line for each request; opened again on SIGHUP. `-` is standard output. Empty: none.";
    log_combined: bool, "access_log.combined", |_: &Proxy| false, "true",
        "Write the access log in the combined format of Apache and nginx instead of JSON.";
    access_ttl: Span, "cache.access", |d: &Proxy| Span(d.access_ttl), "61s",
        "How long an answer about access is used, and how often live connections are asked about again.";
    refusal_ttl: Span, "cache.refusal", |d: &Proxy| Span(d.refusal_ttl), "11s",
        "How long a refusal is used.";
    target_ttl: Span, "cache.target", |d: &Proxy| Span(d.target_ttl), "31s",
        "How long the address of a project's server is used.";
    handshake: Span, "timing.handshake", |d: &Proxy| Span(d.timing.handshake), "21s",
        "How long the TLS handshake of a client may take.";
    head: Span, "timing.head", |d: &Proxy| Span(d.timing.head), "22s",
        "How long a client may take for the next request and its head: how long its connection may be idle.";
    upload_idle: Span, "timing.upload_idle", |d: &Proxy| Span(d.timing.upload_idle), "23s",
        "How long a client may be silent within the body of a request.";
    client_stall: Span, "timing.client_stall", |d: &Proxy| Span(d.timing.client_stall), "24s",
        "How long a client may take nothing of what is sent to it.";
    connect: Span, "timing.connect", |d: &Proxy| Span(d.timing.connect), "25s",
        "How long connecting to a server may take.";
    first_byte: Span, "timing.first_byte", |d: &Proxy| Span(d.timing.first_byte), "26s",
        "How long a server may take for the first byte of its answer.";
    answer_idle: Span, "timing.answer_idle", |d: &Proxy| Span(d.timing.answer_idle), "27s",
        "How long a server may be silent within its answer.";
    tunnel_idle: Span, "timing.tunnel_idle", |d: &Proxy| Span(d.timing.tunnel_idle), "28s",
        "How long a WebSocket may be silent in both directions. 0: for ever.";
    pool_idle: Span, "timing.pool_idle", |d: &Proxy| Span(d.timing.pool_idle), "29s",
        "How long a connection to a server is kept for the next request. Servers that close earlier cost a retry.";
    connections_max: u32, "limits.connections_max", |d: &Proxy| d.limits.connections_max, "11",
        "Connections of clients at the same time; further ones wait in the kernel's queue.";
    project_requests_max: u32, "limits.project_requests_max", |d: &Proxy| d.limits.project_requests_max, "12",
        "Requests and WebSockets in progress within one project.";
    head_len_max: Size, "limits.head_len_max", |d: &Proxy| Size(d.limits.head_len_max.into()), "13 KiB",
        "Longest head of a request.";
    headers_max: u16, "limits.headers_max", |d: &Proxy| d.limits.headers_max, "14",
        "Most headers of a request.";
    body_len_max: Size, "limits.body_len_max", |d: &Proxy| Size(d.limits.body_len_max), "15 GiB",
        "Longest body of a request. 0: no limit.";
    streams_max: u32, "limits.streams_max", |d: &Proxy| d.limits.streams_max, "16",
        "Requests in progress on one HTTP/2 connection.";
    buffer_len_max: Size, "limits.buffer_len_max", |d: &Proxy| Size(d.limits.buffer_len_max.into()), "17 KiB",
        "How much of one body is read ahead, each way.";
    pool_per_server_max: u32, "limits.pool_per_server_max", |d: &Proxy| d.limits.pool_per_server_max, "18",
        "Connections that are kept for one server, on each thread.";
    pool_max: u32, "limits.pool_max", |d: &Proxy| d.limits.pool_max, "19",
        "Connections that are kept altogether, on each thread.";
    answers_max: u32, "limits.answers_max", |d: &Proxy| d.limits.answers_max, "20",
        "Answers about access and addresses that are kept, each.";
}

/// What the command line says, still as texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    given: config::Texts,
}

impl Flags {
    /// What the flags say.
    pub(super) fn layer(&self, problems: &mut Vec<Problem>) -> Layer {
        let mut layer = Layer::default();
        for (field, texts) in &self.given {
            let origin = Origin::Flag(format!("--{}", field.flag()));
            set(&mut layer, field, texts, origin, problems);
        }
        layer
    }
}

/// What the environment says.
pub(super) fn environment(
    strings: &dyn Strings,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Layer {
    let mut layer = Layer::default();
    for field in FIELDS {
        if let Some(text) = strings.get(&field.env()) {
            set(
                &mut layer,
                field,
                &[text],
                Origin::Env(field.env()),
                problems,
            );
        }
    }
    let known =
        |name: &String| name == super::CONFIG || FIELDS.iter().any(|field| field.env() == *name);
    for name in strings
        .names()
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && !known(name))
    {
        let text = "no setting has this name".to_owned();
        warnings.push(Problem {
            origin: Origin::Env(name),
            key: String::new(),
            text,
        });
    }
    layer
}

fn set(
    layer: &mut Layer,
    field: &Field,
    texts: &[String],
    origin: Origin,
    problems: &mut Vec<Problem>,
) {
    if let Err(text) = layer.set(field.key, Raw::Texts(texts), origin.clone()) {
        problems.push(Problem {
            origin,
            key: field.key.to_owned(),
            text,
        });
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            given: config::given(FIELDS.iter(), matches),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(cmd: Command) -> Command {
        FIELDS.iter().fold(cmd, |cmd, field| cmd.arg(arg(field)))
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

fn arg(field: &Field) -> Arg {
    let heading = match field.table() {
        "tls" => "TLS",
        "access_log" => "Access log",
        "cache" => "What is remembered",
        "timing" => "Timing",
        "limits" => "Limits",
        _ => "Proxy",
    };
    config::arg(field, heading)
}

/// The longest time that a setting may be; more is a mistake in its unit.
pub(super) const TIME_MAX: Duration = Duration::from_hours(24 * 366);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::proxy::file;

    fn shown(layer: Layer, index: usize) -> (String, Origin) {
        let settings = layer.resolve();
        let (value, origin) = settings.shown().swap_remove(index);
        (value.to_string(), origin.clone())
    }

    fn by_flag(field: &Field) -> Layer {
        let command = Flags::augment_args(Command::new("test"));
        let flag = format!("--{}={}", field.flag(), field.example);
        let matches = command.try_get_matches_from(["test", &flag]).unwrap();
        let mut problems = Vec::new();
        let layer = Flags::from_arg_matches(&matches)
            .unwrap()
            .layer(&mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        layer
    }

    #[test]
    fn each_setting_is_set_by_flag_environment_and_file_alike() {
        for (index, field) in FIELDS.iter().enumerate() {
            let (default, origin) = shown(Layer::default(), index);
            assert_eq!(origin, Origin::Default);
            let (by_flag, origin) = shown(by_flag(field), index);
            assert_eq!(origin, Origin::Flag(format!("--{}", field.flag())));
            assert_ne!(by_flag, default, "{}: the example must differ", field.key);

            let strings = BTreeMap::from([(field.env(), field.example.to_owned())]);
            let (mut problems, mut warnings) = (Vec::new(), Vec::new());
            let layer = environment(&strings, &mut problems, &mut warnings);
            assert_eq!(
                shown(layer, index),
                (by_flag.clone(), Origin::Env(field.env()))
            );

            let text = format!("{} = {by_flag}", field.key);
            let read = file::parse(Path::new("p.toml"), &text, &mut problems);
            assert_eq!(shown(read.layer, index).0, by_flag, "{text}");
            assert!(
                problems.is_empty() && warnings.is_empty(),
                "{problems:?} {warnings:?}"
            );
        }
    }
}
