//! Every bound of the service, as plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::Owner;

use crate::backend::Backend;
use crate::clock::Clock;
use crate::placement::Placement;

/// Where streams are kept that are not ephemeral.
#[derive(Debug, Clone)]
pub enum Store {
    /// In memory: everything is lost with the process.
    Memory,
    /// In a log on disk, in this folder, which one process uses at a time.
    Log(PathBuf),
    /// In something that is open already.
    Open(Arc<dyn Backend>),
}

/// More numbers for the status of a node, from around the service.
#[derive(Clone)]
pub struct Extra(Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>);

impl Extra {
    /// What `count` says whenever it is asked: names in snake case, with their unit at the end.
    pub fn new(count: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    /// The numbers now.
    pub(crate) fn count(&self) -> Vec<(&'static str, u64)> {
        (self.0)()
    }
}

impl Default for Extra {
    fn default() -> Self {
        Self::new(Vec::new)
    }
}

impl std::fmt::Debug for Extra {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.count()).finish()
    }
}

/// What one owner may have on one node; 0 is without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_field_names,
    reason = "every one is a maximum, and names end with their qualifier"
)]
pub struct Quota {
    /// Most streams.
    pub streams_max: u64,
    /// Most bytes of records.
    pub bytes_max: u64,
    /// Most records within any second.
    pub msgs_per_second_max: u64,
    /// Most bytes of records within any second.
    pub bytes_per_second_max: u64,
}

/// What accounts and projects may have; the hub has no quota.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quotas {
    /// What those may have of whom nothing else is said.
    pub all: Quota,
    /// Exceptions from that by scope: `project-<uuid>`, `account-<uuid>`.
    pub by_scope: BTreeMap<String, Quota>,
}

impl Quotas {
    /// What an owner may have.
    pub fn of(&self, owner: &Owner) -> Quota {
        match owner {
            Owner::Hub => Quota::default(),
            Owner::Account(_) | Owner::Project(_) => {
                let own = self.by_scope.get(&owner.scope());
                own.copied().unwrap_or(self.all)
            }
        }
    }
}

/// How a node of the service runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the node: 1 to 64 letters, digits, `-` and `_`.
    pub node: String,
    /// Where streams are kept.
    pub store: Store,
    /// Which node has which stream; `None` is a node by itself.
    pub placement: Option<Arc<dyn Placement>>,
    /// What time it is.
    pub clock: Clock,
    /// What owners may have; [`Handle::set_quotas`](crate::Handle::set_quotas) changes it while the node runs.
    pub quotas: Quotas,
    /// Most streams that are loaded at a time; 10,000 by default. When there are more, idle ones are unloaded.
    pub streams_open_max: usize,
    /// A stream that was not used for this long is unloaded; 5 minutes by default.
    pub idle_max: Duration,
    /// Most requests that wait for a stream to be loaded, by stream; 4,096 by default.
    pub loading_max: usize,
    /// Most reads that are under way at a time; 64 by default. Others wait.
    pub reads_max: usize,
    /// Most requests that are under way at a time, waiting watches included; 65,536 by default. Others are `busy`.
    pub requests_max: usize,
    /// Most watches and fetches of one owner that wait at a time; 10,000 by default. Others are `busy`.
    pub waiting_per_owner_max: usize,
    /// Most bytes of records of a stream that wait to be committed; 64 MiB by default. Further writes are `busy`.
    pub uncommitted_bytes_max: u64,
    /// More numbers for the status.
    pub extra: Extra,
    /// How long stopping may take; 10 s by default.
    pub drain_max: Duration,
}

impl Config {
    /// A node with the defaults.
    pub fn new(node: impl Into<String>, store: Store) -> Self {
        Self {
            node: node.into(),
            store,
            placement: None,
            clock: Clock::system(),
            quotas: Quotas::default(),
            streams_open_max: 10_000,
            idle_max: Duration::from_mins(5),
            loading_max: 4_096,
            reads_max: 64,
            requests_max: 65_536,
            waiting_per_owner_max: 10_000,
            uncommitted_bytes_max: 64 << 20,
            extra: Extra::default(),
            drain_max: Duration::from_secs(10),
        }
    }
}
