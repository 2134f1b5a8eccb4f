//! What is told about a request when it is over: a line in the access log, and the counters.

use std::sync::Arc;
use std::time::SystemTime;

use http::{Request, StatusCode};
use tokio::time::Instant;

use crate::body::Progress;
use crate::grant::Place;
use crate::log::Entry;
use crate::metrics::{Metrics, add};
use crate::serve::Client;
use crate::site::Site;

/// A request from its head to the last byte of its answer. Told about when it is dropped, however it ends.
pub(crate) struct Record {
    pub(crate) site: Arc<Site>,
    pub(crate) client: Arc<Client>,
    pub(crate) entry: Entry,
    begun: Instant,
    /// How far the upload is, where there is one to a server.
    pub(crate) progress: Option<Arc<Progress>>,
    /// Its place among the project's requests.
    pub(crate) place: Option<Place>,
    is_tunnel: bool,
    /// Whether the pages of the site are at the host that was asked.
    pub(crate) is_at_site: bool,
}

impl Record {
    pub(crate) fn begin<B>(site: &Arc<Site>, client: &Arc<Client>, request: &Request<B>) -> Self {
        add(&site.metrics.requests, 1);
        client.begin();
        let text = |name| {
            let value = request.headers().get(name).filter(|_| site.log.is_some());
            value
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .unwrap_or_default()
        };
        let path = if site.log.is_some() {
            request.uri().path().to_owned()
        } else {
            String::new()
        };
        let entry = Entry {
            // Nobody else reads it.
            at: if site.log.is_some() {
                SystemTime::now()
            } else {
                SystemTime::UNIX_EPOCH
            },
            client: client.address.ip(),
            method: request.method().clone(),
            path,
            version: request.version(),
            status: StatusCode::OK,
            received: 0,
            sent: 0,
            took: std::time::Duration::ZERO,
            identity: Arc::clone(&site.nobody),
            project: None,
            code: "",
            agent: text(http::header::USER_AGENT),
        };
        Self {
            site: Arc::clone(site),
            client: Arc::clone(client),
            entry,
            begun: Instant::now(),
            progress: None,
            place: None,
            is_tunnel: false,
            is_at_site: true,
        }
    }

    /// From here on it is a WebSocket.
    pub(crate) fn becomes_tunnel(&mut self) {
        self.is_tunnel = true;
        let metrics = &self.site.metrics;
        metrics
            .requests
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        add(&metrics.tunnels, 1);
        add(&metrics.tunnels_total, 1);
        metrics.answered(self.entry.status.as_u16());
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.site.metrics
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let metrics = &self.site.metrics;
        let gauge = if self.is_tunnel {
            &metrics.tunnels
        } else {
            &metrics.requests
        };
        gauge.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        if !self.is_tunnel {
            metrics.answered(self.entry.status.as_u16());
            let received = self
                .progress
                .as_ref()
                .map_or(0, |progress| progress.bytes());
            self.entry.received = received;
        }
        add(&metrics.received_bytes, self.entry.received);
        add(&metrics.sent_bytes, self.entry.sent);
        self.client.end();
        if let Some(log) = &self.site.log {
            self.entry.took = self.begun.elapsed();
            log.add(&self.entry, metrics);
        }
    }
}
