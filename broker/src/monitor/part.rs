//! What else runs in the process and is watched with the broker, or instead of one.

use serde::Serialize;

/// A part of the process with a page of its own, and figures among the metrics. Called on threads that may block; must
/// not wait for long.
pub trait Part: Send + Sync + 'static {
    /// Its name in words.
    fn name(&self) -> &'static str;

    /// Its page with the slash before it, such as `/persistz`, and what that shows.
    fn page(&self) -> (&'static str, &'static str);

    /// Why it does not do what it is there for, if so: `/readyz` says so.
    fn failure(&self) -> Option<String>;

    /// What its page shows.
    ///
    /// # Errors
    /// When that cannot be written as JSON.
    fn show(&self) -> serde_json::Result<serde_json::Value>;

    /// Its figures.
    fn metrics(&self) -> Vec<Metric>;
}

/// A figure as Prometheus reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name, with its unit at the end.
    pub name: String,
    /// What it is.
    pub help: &'static str,
    /// How much it is.
    pub value: MetricValue,
}

/// The value of a figure.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// It only grows.
    Counter(f64),
    /// It comes and goes.
    Gauge(f64),
    /// How often something was how much.
    Histogram(Histogram),
}

/// How often something was how much.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Histogram {
    /// Upper bounds, ascending, and how often it was at most that.
    pub buckets: Vec<(f64, u64)>,
    /// How often there was anything.
    pub count: u64,
    /// All of it together.
    pub sum: f64,
}
