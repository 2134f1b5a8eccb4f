//! What the monitoring server shows, taken from the broker's handle.

use dialtone_broker::Handle;
use dialtone_broker::monitor::{ConnectionQuery, Page, Source, SubscriptionQuery};
use dialtone_broker::status::{ConnectionStatus, Status, SubscriptionStatus};

/// The figures of a running broker.
pub(crate) struct Figures(pub(crate) Handle);

impl Source for Figures {
    fn status(&self) -> Status {
        self.0.status()
    }

    fn connections(&self, query: &ConnectionQuery) -> Page<ConnectionStatus> {
        query.page(self.0.all_connections(usize::MAX))
    }

    /// How many there are; the handle does not list them.
    fn subscriptions(&self, query: &SubscriptionQuery) -> Page<SubscriptionStatus> {
        let total = usize::try_from(self.0.status().subscriptions).unwrap_or(usize::MAX);
        Page {
            offset: query.offset,
            limit: query.limit,
            total,
            items: Vec::new(),
        }
    }
}
