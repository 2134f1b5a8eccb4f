//! From settings to the proxy's own types.

use std::path::Path;

use anyhow::Context as _;
use dialtone_proxy::headers::request::Names;
use dialtone_proxy::separate::{Hosts, Key, Separate};
use dialtone_proxy::{Config, Limits, Listen, Timing};
use dialtone_transport::tls::ServerTls;
use tokio::runtime::Handle;

use super::settings::{FIELDS, Settings, TIME_MAX};
use crate::config::{Origin, Problem, Size, Span};

/// Most threads: far more than there are cores in machines.
const THREADS_MAX: u16 = 1024;

/// The least and the most that a head or a buffer may be, in bytes.
const BUFFER: std::ops::RangeInclusive<u64> = 8 << 10..=16 << 20;

/// The fewest and the most characters of the secret of `projects_key`: 128 bits and more, and no file taken by accident.
const KEY_LEN_MIN: usize = 32;
const KEY_LEN_MAX: usize = 4096;

/// Looks for settings that make no sense.
pub(super) fn check(s: &Settings, problems: &mut Vec<Problem>) {
    let mut wrong = |origin: &Origin, key: &str, text: &str| {
        problems.push(Problem {
            origin: origin.clone(),
            key: key.to_owned(),
            text: text.to_owned(),
        });
    };
    if s.listen.value.is_empty() {
        wrong(&s.listen.origin, "listen", "nowhere to listen");
    }
    let base = &s.base.value;
    let is_path = base
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte));
    if !base.starts_with('/') || !is_path || base.contains("//") || base.contains("/.") {
        wrong(&s.base.origin, "base", "must be a path such as /app");
    }
    if s.threads.value > THREADS_MAX {
        wrong(&s.threads.origin, "threads", "at most 1024");
    }
    if s.tls_cert.value.is_some() != s.tls_key.value.is_some() {
        let given = if s.tls_cert.value.is_some() {
            &s.tls_cert
        } else {
            &s.tls_key
        };
        wrong(
            &given.origin,
            "tls",
            "a certificate and its key belong together",
        );
    }
    let encrypted = s.listen.value.iter().any(|at| at.encrypted);
    if encrypted && s.tls_cert.value.is_none() && s.tls_dev.value.is_none() {
        wrong(
            &s.listen.origin,
            "listen",
            "https needs tls.cert and tls.key, or tls.dev",
        );
    }
    let leads = s.tls_redirect.value.is_some() && !encrypted;
    if leads || (!s.hsts.value.get().is_zero() && !encrypted) {
        let (key, given) = if leads {
            ("tls.redirect", &s.tls_redirect.origin)
        } else {
            ("tls.hsts", &s.hsts.origin)
        };
        wrong(given, key, "means nothing without an https address");
    }
    for (key, given) in [
        ("limits.head_len_max", &s.head_len_max),
        ("limits.buffer_len_max", &s.buffer_len_max),
    ] {
        if !BUFFER.contains(&given.value.0) {
            wrong(&given.origin, key, "must be from 8 KiB to 16 MiB");
        }
    }
    for (key, given) in [
        ("limits.connections_max", &s.connections_max),
        ("limits.project_requests_max", &s.project_requests_max),
        ("limits.streams_max", &s.streams_max),
        ("limits.answers_max", &s.answers_max),
    ] {
        if given.value == 0 {
            wrong(&given.origin, key, "must be at least 1");
        }
    }
    check_times(s, &mut wrong);
}

fn check_times(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, &str)) {
    for (field, given) in FIELDS
        .iter()
        .filter(|field| field.table() == "timing")
        .zip(times(s))
    {
        let may_be_zero = field.key == "timing.tunnel_idle";
        if given.value.0 > TIME_MAX || given.value.0.is_zero() && !may_be_zero {
            wrong(
                &given.origin,
                field.key,
                "must be more than 0 and at most a year",
            );
        }
    }
}

/// In the order of the table.
fn times(s: &Settings) -> [&crate::config::Given<Span>; 9] {
    [
        &s.handshake,
        &s.head,
        &s.upload_idle,
        &s.client_stall,
        &s.connect,
        &s.first_byte,
        &s.answer_idle,
        &s.tunnel_idle,
        &s.pool_idle,
    ]
}

/// The path below which everything lies, as the proxy wants it.
pub(super) fn base(settings: &Settings) -> &str {
    settings.base.value.trim_end_matches('/')
}

/// The certificate, where one is needed.
pub(super) fn tls(s: &Settings) -> anyhow::Result<Option<ServerTls>> {
    if !s.listen.value.iter().any(|at| at.encrypted) {
        return Ok(None);
    }
    let tls = match (&s.tls_cert.value, &s.tls_key.value) {
        (Some(cert), Some(key)) => ServerTls::from_pem_files(cert, key, None)?,
        _ => ServerTls::development(s.tls_dev.value.as_deref())?,
    };
    Ok(Some(tls))
}

/// Where projects are, if they have hosts of their own.
pub(super) fn separate(s: &Settings) -> anyhow::Result<Option<Separate>> {
    let Some(hosts) = &s.projects_host.value else {
        return Ok(None);
    };
    let hosts: Hosts = hosts.parse()?;
    let own = || s.listen.value.first().map(ToString::to_string);
    let site = s.site.value.clone().or_else(own).unwrap_or_default();
    let site = site.trim_end_matches('/').to_owned();
    hosts.check_site(&site)?;
    let key = match &s.projects_key.value {
        Some(path) => Key::of(&key_of(path)?),
        None => Key::random(),
    };
    Ok(Some(Separate { hosts, site, key }))
}

/// The secret in a file.
fn key_of(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let secret = text.trim();
    anyhow::ensure!(
        (KEY_LEN_MIN..=KEY_LEN_MAX).contains(&secret.len()),
        "{} must hold a secret of {KEY_LEN_MIN} to {KEY_LEN_MAX} characters, as `openssl rand -hex 32` makes one",
        path.display()
    );
    Ok(secret.to_owned())
}

/// Everything as the proxy wants it.
pub(super) fn config(
    s: &Settings,
    tls: Option<&ServerTls>,
    separate: Option<Separate>,
    shards: Vec<Handle>,
) -> Config {
    let listen = |at: &super::listen::At| Listen {
        addr: at.addr,
        tls: tls.filter(|_| at.encrypted).cloned(),
        https_port: s.tls_redirect.value.filter(|_| !at.encrypted),
    };
    Config {
        listen: s.listen.value.iter().map(listen).collect(),
        base: base(s).to_owned(),
        shards,
        brokers: s.brokers.value.clone(),
        pages: s.pages.value,
        names: Names {
            cookies: s.cookies.value.clone(),
            keys: s.keys.value.clone(),
        },
        allowed_origins: s.allowed_origins.value.clone(),
        trust_forwarded: s.trust_forwarded.value,
        trust_local: false,
        sign_in: s.sign_in.value.clone(),
        separate,
        hsts: Some(s.hsts.value.get()).filter(|hsts| !hsts.is_zero()),
        access_ttl: s.access_ttl.value.get(),
        refusal_ttl: s.refusal_ttl.value.get(),
        target_ttl: s.target_ttl.value.get(),
        drain_grace: s.drain_grace.value.get(),
        timing: timing(s),
        limits: limits(s),
    }
}

fn timing(s: &Settings) -> Timing {
    Timing {
        handshake: s.handshake.value.get(),
        head: s.head.value.get(),
        upload_idle: s.upload_idle.value.get(),
        client_stall: s.client_stall.value.get(),
        connect: s.connect.value.get(),
        first_byte: s.first_byte.value.get(),
        answer_idle: s.answer_idle.value.get(),
        tunnel_idle: s.tunnel_idle.value.get(),
        pool_idle: s.pool_idle.value.get(),
    }
}

fn limits(s: &Settings) -> Limits {
    let size = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
    Limits {
        connections_max: s.connections_max.value,
        project_requests_max: s.project_requests_max.value,
        head_len_max: size(s.head_len_max.value),
        headers_max: s.headers_max.value,
        body_len_max: s.body_len_max.value.0,
        streams_max: s.streams_max.value,
        buffer_len_max: size(s.buffer_len_max.value),
        pool_per_server_max: s.pool_per_server_max.value,
        pool_max: s.pool_max.value,
        answers_max: s.answers_max.value,
        ..Limits::default()
    }
}
