//! Telling in time that a certificate ends: when it has, whoever is shown it refuses it.

use std::fmt;
use std::time::{Duration, SystemTime};

use dialtone_transport::tls::ServerTls;
use tokio_util::sync::CancellationToken;

use crate::cluster::left;
use crate::print::time;

/// From when on it is told.
pub(crate) const WARN_BEFORE: Duration = Duration::from_hours(30 * 24);

/// The same for development certificates, which last for days only.
const WARN_BEFORE_DEVELOPMENT: Duration = Duration::from_hours(24);

/// How often.
const INTERVAL: Duration = Duration::from_hours(12);

/// To whom a certificate is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// To clients, by the listeners.
    Clients,
    /// To browsers, by a proxy.
    Browsers,
    /// To other nodes of the cluster.
    Nodes,
}

/// Why a certificate is refused, or soon will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Begins(SystemTime),
    Ended(SystemTime),
    /// In so many days.
    Ends(SystemTime, u64),
}

/// A finding about the certificate shown to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    finding: Finding,
    shown: Shown,
    is_development: bool,
}

impl Notice {
    /// What is to be told about a certificate; nothing while it is good for long.
    pub(crate) fn about(own: &ServerTls, shown: Shown, now: SystemTime) -> Option<Self> {
        let is_development = own.is_development();
        let warn_before = if is_development {
            WARN_BEFORE_DEVELOPMENT
        } else {
            WARN_BEFORE
        };
        let (begins, ends) = own.lifetime()?;
        Some(Self {
            finding: find(begins, ends, warn_before, now)?,
            shown,
            is_development,
        })
    }

    /// Whether the certificate is refused already.
    fn is_refused(&self) -> bool {
        !matches!(self.finding, Finding::Ends(..))
    }
}

fn find(
    begins: SystemTime,
    ends: SystemTime,
    warn_before: Duration,
    now: SystemTime,
) -> Option<Finding> {
    let left = left(ends, now);
    if left.is_zero() {
        Some(Finding::Ended(ends))
    } else if now < begins {
        Some(Finding::Begins(begins))
    } else if left < warn_before {
        Some(Finding::Ends(ends, left.as_secs() / 86_400))
    } else {
        None
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, who) = match self.shown {
            Shown::Clients => ("the certificate for wss and quic", "clients"),
            Shown::Browsers => ("the certificate for https", "browsers"),
            Shown::Nodes => ("the certificate of this node", "other nodes"),
        };
        match self.finding {
            Finding::Begins(at) => {
                return write!(
                    f,
                    "{what} is valid from {} only: {who} refuse it until then; is the clock of this machine right?",
                    time(at)
                );
            }
            Finding::Ended(at) => write!(f, "{what} ended at {}: {who} refuse it", time(at))?,
            Finding::Ends(at, 0) => write!(f, "{what} ends in less than a day, at {}", time(at))?,
            Finding::Ends(at, 1) => write!(f, "{what} ends in one day, at {}", time(at))?,
            Finding::Ends(at, days) => write!(f, "{what} ends in {days} days, at {}", time(at))?,
        }
        f.write_str(match (self.shown, self.is_development) {
            (Shown::Nodes, _) => {
                "; renew it with `dialtone cluster renew` or a new join token, and send SIGHUP"
            }
            (Shown::Clients, false) => "; put a new one into the file of tls.cert and send SIGHUP",
            (Shown::Browsers, false) => {
                "; put a new one into its file, which is read again by itself"
            }
            (Shown::Clients | Shown::Browsers, true) => {
                "; SIGHUP or a new start makes another one, with another fingerprint"
            }
        })
    }
}

/// Looks until `stop`.
pub(crate) async fn watch(own: &ServerTls, shown: Shown, stop: &CancellationToken) {
    loop {
        tell(own, shown);
        let waited = stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await;
        if waited.is_none() {
            return;
        }
    }
}

/// Looks once.
pub(crate) fn tell(own: &ServerTls, shown: Shown) {
    match Notice::about(own, shown, SystemTime::now()) {
        Some(notice) if notice.is_refused() => tracing::error!("{notice}"),
        Some(notice) => tracing::warn!("{notice}"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn day(number: u32) -> SystemTime {
        UNIX_EPOCH + DAY * number
    }

    #[test]
    fn it_is_told_before_the_end_at_the_end_and_before_the_beginning() {
        let found = |now| find(day(100), day(200), WARN_BEFORE, now);
        assert_eq!(found(day(99)), Some(Finding::Begins(day(100))));
        assert_eq!(found(day(100)), None);
        assert_eq!(found(day(170)), None);
        assert_eq!(
            found(day(170) + Duration::from_secs(1)),
            Some(Finding::Ends(day(200), 29))
        );
        assert_eq!(
            found(day(200) - Duration::from_secs(1)),
            Some(Finding::Ends(day(200), 0))
        );
        assert_eq!(found(day(200)), Some(Finding::Ended(day(200))));
        assert_eq!(found(day(300)), Some(Finding::Ended(day(200))));
    }

    #[test]
    fn the_text_says_when_who_is_concerned_and_what_to_do() {
        let notice = |finding, shown, is_development| {
            let notice = Notice {
                finding,
                shown,
                is_development,
            };
            notice.to_string()
        };
        assert_eq!(
            notice(Finding::Ended(day(200)), Shown::Clients, false),
            "the certificate for wss and quic ended at 1970-07-20T00:00:00.000Z: clients refuse it; \
             put a new one into the file of tls.cert and send SIGHUP"
        );
        assert_eq!(
            notice(Finding::Ends(day(200), 0), Shown::Clients, true),
            "the certificate for wss and quic ends in less than a day, at 1970-07-20T00:00:00.000Z; \
             SIGHUP or a new start makes another one, with another fingerprint"
        );
        assert_eq!(
            notice(Finding::Ends(day(200), 7), Shown::Nodes, false),
            "the certificate of this node ends in 7 days, at 1970-07-20T00:00:00.000Z; \
             renew it with `dialtone cluster renew` or a new join token, and send SIGHUP"
        );
        assert_eq!(
            notice(Finding::Begins(day(200)), Shown::Clients, false),
            "the certificate for wss and quic is valid from 1970-07-20T00:00:00.000Z only: \
             clients refuse it until then; is the clock of this machine right?"
        );
    }
}
