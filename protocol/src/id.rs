//! Numbers that name things on the wire, each a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A connection to a broker node; given by the node and not used twice by it.
    ConnectionId(u64)
}

id! {
    /// A subscription of one connection; chosen by the client. 0 is the connection's inbox.
    SubscriptionId(u32)
}

id! {
    /// A question of one connection that awaits its answer; chosen by the client.
    RequestId(u32)
}

impl SubscriptionId {
    /// Deliveries to the connection's own inbox carry this id (§6.4).
    pub const INBOX: Self = Self(0);
}
