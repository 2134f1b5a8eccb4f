//! Telling in time that the certificate of a node ends: when it has, the node is refused by all others.

use std::time::{Duration, SystemTime};

use dialtone_transport::tls::ServerTls;
use tokio_util::sync::CancellationToken;

use super::folder::left;
use crate::print::time;

/// From when on it is told.
pub(crate) const WARN_BEFORE: Duration = Duration::from_hours(30 * 24);

/// How often.
const INTERVAL: Duration = Duration::from_hours(12);

/// Looks until `stop`.
pub(crate) async fn watch(own: &ServerTls, stop: &CancellationToken) {
    loop {
        tell(own);
        let waited = stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await;
        if waited.is_none() {
            return;
        }
    }
}

/// Looks once.
pub(crate) fn tell(own: &ServerTls) {
    let Some(ends) = own.valid_until() else {
        return;
    };
    let left = left(ends, SystemTime::now());
    if left.is_zero() {
        tracing::error!(
            ended = time(ends),
            "the certificate of this node has ended: other nodes refuse it; {HINT}"
        );
    } else if left < WARN_BEFORE {
        let days = left.as_secs() / 86_400;
        tracing::warn!(
            ends = time(ends),
            days,
            "the certificate of this node ends soon; {HINT}"
        );
    }
}

const HINT: &str = "renew it with `dialtone cluster renew` or a new join token, and send SIGHUP";
