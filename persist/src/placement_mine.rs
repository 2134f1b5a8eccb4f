//! Which node has which stream.
//!
//! The nodes that are there form a *view*, which has a number and is kept by a store that all of them share. A node is
//! in the view while its *lease* lasts, which it renews long before it ends. The owner of a stream follows from the
//! view by rendezvous hashing, so that nothing is kept per stream, and a node that comes or goes moves no more streams
//! than it must.
//!
//! Three rules make it safe:
//!
//! 1. A node serves a stream while it owns it in the view that it knows, and its lease lasts by its own clock.
//! 2. It says which view it acts on when it has let go of what it lost by it. A stream that was another node's is not
//!    served before every node of the view has said so, or its lease has ended by the clock of the store.
//! 3. Writes carry the number of the view under which the stream was taken as a *fencing number*; the backend refuses a
//!    lower one than it has seen. So a node that stood still, and does not know that its lease has ended, writes
//!    nothing.

mod keeper;
mod leases;
mod rendezvous;
mod state;

pub use keeper::{Keeper, KeeperConfig};
pub use leases::{LeaseError, Leases, NodeLease, Renew, Renewed};
pub use rendezvous::View;
pub use state::{Placement, Route};
