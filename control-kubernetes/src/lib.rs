//! Projects as pods of a Kubernetes cluster.
//!
//! For each project there is a volume claim, which is its home and stays, and, while it runs, a secret and a pod:
//!
//! ```text
//!   prepare ──▶ secret `run-…`      without the token; nothing runs
//!   open    ──▶ token into it, pod  which needs the secret and is owned by it
//!   end     ──▶ secret and pod are deleted, and it is waited until they are gone
//! ```
//!
//! A pod has the name of its project, so that the cluster itself lets there be one at a time. A pod whose secret was
//! deleted by another hub meanwhile does not start, and the cluster's garbage collector removes it.
//!
//! What decides is pure and always built: [`config`], [`manifest`] and [`view`]. What talks to the cluster is built with
//! the feature `api`, because its client takes minutes to build.

pub mod config;
pub use config::Config;

pub mod manifest;
pub mod view;

#[cfg(feature = "api")]
mod cluster;
#[cfg(feature = "api")]
pub use cluster::{Kubernetes, Unusable};
