//! What `system.terminate` ends in this process.
//!
//! A service that was ended stays so until the process begins anew: that is what whoever tries out what becomes of the
//! others wants. Other hubs go on.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::api::{Service, Services};

/// The services of a process that can be ended by a call. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    pub(super) calls: CancellationToken,
    pub(super) feeds: CancellationToken,
    persist: Option<Persist>,
}

/// A node of persist in the process, which belongs to somebody else.
#[derive(Debug, Clone, Default)]
pub struct Persist {
    /// Cancelled when it is to end.
    pub asked: CancellationToken,
    /// Cancelled when it has.
    pub ended: CancellationToken,
}

impl Ends {
    /// Those of a hub; `has_persist`: there is a node of persist in its process as well, whose owner follows
    /// [`persist`](Self::persist).
    pub fn new(has_persist: bool) -> Self {
        Self {
            persist: has_persist.then(Persist::default),
            ..Self::default()
        }
    }

    /// Cancelled when feeds are to end, whoever tells them.
    pub fn feeds(&self) -> &CancellationToken {
        &self.feeds
    }

    /// What the owner of the node of persist follows, if there is one.
    pub fn persist(&self) -> Option<&Persist> {
        self.persist.as_ref()
    }
}

impl Services for Ends {
    fn end(&self, service: Service) -> BoxFuture<'_, bool> {
        let ended_now = |token: &CancellationToken| {
            let is_first = !token.is_cancelled();
            token.cancel();
            std::future::ready(is_first).boxed()
        };
        match service {
            Service::Api => ended_now(&self.calls),
            Service::Changefeeds => ended_now(&self.feeds),
            Service::Persist => match &self.persist {
                Some(persist) if !persist.asked.is_cancelled() => async {
                    persist.asked.cancel();
                    persist.ended.cancelled().await;
                    true
                }
                .boxed(),
                Some(_) | None => std::future::ready(false).boxed(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_ends_once_and_where_it_is() {
        let alone = Ends::new(false);
        assert!(!alone.end(Service::Persist).await);
        assert!(alone.end(Service::Changefeeds).await);
        assert!(!alone.end(Service::Changefeeds).await);
        assert!(!alone.calls.is_cancelled() && alone.feeds.is_cancelled());

        let ends = Ends::new(true);
        let node = ends.persist().unwrap().clone();
        let ending = ends.end(Service::Persist);
        let stopping = async {
            node.asked.cancelled().await;
            node.ended.cancel();
        };
        let (was_there, ()) = tokio::join!(ending, stopping);
        assert!(was_there);
        assert!(!ends.end(Service::Persist).await);
    }
}
