//! Logs: where they go, how they look, and how their level changes while the program runs.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::Format;

/// Changes what is logged.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Begins to log on standard error.
pub(crate) fn start(level: &str, format: Format) -> anyhow::Result<Logs> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(crate::print::Paint::stderr().is_on());
    let started = match format {
        Format::Text => registry
            .with(lines.with_target(!io::stderr().is_terminal()))
            .try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.context("cannot start logging")?;
    Ok(Logs { filter: handle })
}

impl Logs {
    /// Logs another level from here on.
    pub(crate) fn set_level(&self, level: &str) -> anyhow::Result<()> {
        self.filter
            .reload(parse(level)?)
            .context("cannot change the log level")
    }
}

/// Reads a level or a list of directives.
pub(crate) fn parse(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder()
        .parse(level)
        .with_context(|| format!("log level {level:?} is not understood"))
}
