//! Certificates that are read again when their files change, so that whoever renews them need not tell us.

use std::path::Path;
use std::time::{Duration, SystemTime};

use dialtone_transport::tls::ServerTls;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::expiry::{self, Shown};

/// How often the files are looked at. A renewed certificate is needed days later; one that was wrong, soon.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What changes when a file is written again or replaced.
type Stamp = Vec<Option<(SystemTime, u64, u64)>>;

fn stamp(tls: &ServerTls) -> Stamp {
    let of = |path: &Path| {
        let about = std::fs::metadata(path).ok()?;
        let number = std::os::unix::fs::MetadataExt::ino(&about);
        Some((about.modified().ok()?, about.len(), number))
    };
    tls.files().into_iter().map(of).collect()
}

/// Reads the certificate again whenever its files change, or somebody asks for it, until `end`. A certificate that cannot
/// be used leaves the one before in its place: while a chain and its key are replaced one after the other, they do not
/// fit.
pub(crate) async fn follow(tls: &ServerTls, asked: &Notify, end: &CancellationToken) {
    let mut seen = stamp(tls);
    let mut failed = false;
    loop {
        let by_request = tokio::select! {
            () = end.cancelled() => return,
            () = asked.notified() => true,
            () = sleep(LOOK_INTERVAL) => false,
        };
        let now = stamp(tls);
        if !by_request && !failed && now == seen {
            continue;
        }
        let changed = now != seen;
        seen = now;
        let before = tls.fingerprint();
        match tls.reload() {
            Ok(()) => {
                failed = false;
                if tls.fingerprint() != before {
                    tracing::info!(fingerprint = %tls.fingerprint(), "certificate replaced");
                    expiry::tell(tls, Shown::Browsers);
                }
            }
            Err(error) => {
                // It is tried again, and told once for each change.
                if changed || by_request {
                    let error = anyhow::Error::from(error);
                    tracing::error!("{:#}", error.context("the certificate stays as it was"));
                }
                failed = true;
            }
        }
    }
}
