//! Projects as pods, on the real API of Kubernetes: list, watch, preconditions, conflicts and graceful deletion are the
//! cluster's own. Only the node is played, by [`node`], which does what a kubelet tells the cluster about pods.
//!
//! `./test kubernetes` starts an API server and runs this; `DIALTONE_TEST_KUBERNETES` is its kubeconfig. Without it, every
//! test says that it has tested nothing.

#![cfg(feature = "api")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a step that fails is a test that fails, and the tasks of a test end with it"
)]

mod copies;
mod life;
mod node;
mod site;
