//! Where orders are written down and results are told, as an executor sees it.
//!
//! [`stored`] is the database of the hub, in whose process the executor is; [`remote`](crate::worker) asks a hub over the
//! broker.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use dialtone_hub::control::{CopyPath, Phase};
use dialtone_hub::id::ProjectId;
use dialtone_hub::store::control::Claim;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::machine::{Order, Outcome};
use crate::quota::Quota;
use crate::run::{Reached, Run};

mod stored;
pub use stored::Stored;
pub(crate) use stored::site;

/// What a call will give.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Why a ledger did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else has it now: what was begun is to be left where it is.
    #[error("somebody else carries it out")]
    Lost,
    /// It does not answer. What is not done is claimed again later, by whoever comes first.
    #[error("{0}")]
    Unavailable(String),
}

/// An order to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The right to do it.
    pub claim: Claim,
    /// What is to be done.
    pub order: Order,
    /// What was started before and not ended.
    pub run: Option<Run>,
    /// What the project may use.
    pub quota: Quota,
    /// What its processes find in their environment besides.
    pub env: BTreeMap<String, String>,
    /// With which software it runs.
    pub image: Option<String>,
    /// The user of the system under which it runs, where each project has its own.
    pub uid: Option<u32>,
}

/// Files to be copied.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyTask {
    /// The number of the copy.
    pub id: Uuid,
    /// How often it was claimed.
    pub generation: i64,
    /// What is copied.
    pub copy: CopyPath,
    /// The users of the system of both projects, where each has its own.
    pub source_uid: Option<u32>,
    /// The same of the target.
    pub target_uid: Option<u32>,
}

/// What becomes of the news that something ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Death {
    /// Its remains will be ended.
    Ordered,
    /// Something else was ordered, and whoever does that will see.
    Pending,
    /// It is not what runs.
    Past,
}

/// Where orders are written down.
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Takes orders that nobody carries out, at most `limit`.
    fn claim(&self, limit: usize) -> Answer<'_, Vec<Task>>;

    /// Keeps a claim, and returns the last order.
    fn hold<'a>(&'a self, claim: &'a Claim) -> Answer<'a, Order>;

    /// Writes down what a project does, and returns the last order.
    fn tell<'a>(&'a self, claim: &'a Claim, phase: Phase) -> Answer<'a, Order>;

    /// Writes down what is about to be started, and returns the last order and the secret of the project.
    fn launch<'a>(&'a self, claim: &'a Claim, run: &'a Run) -> Answer<'a, (Order, String)>;

    /// Writes down what became of an order, and gives the claim back.
    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        outcome: &'a Outcome,
        reached: Option<(&'a Run, &'a Reached)>,
    ) -> Answer<'a, ()>;

    /// Tells that what was started is over by itself.
    fn died<'a>(&'a self, id: ProjectId, run_id: Uuid, reason: &'a str) -> Answer<'a, Death>;

    /// What was started on this machine and not ended.
    fn started(&self) -> Answer<'_, Vec<(ProjectId, Run)>>;

    /// Takes copies that are due, at most `limit`.
    fn claim_copies(&self, limit: usize) -> Answer<'_, Vec<CopyTask>>;

    /// Keeps a copy.
    fn hold_copy(&self, id: Uuid, generation: i64) -> Answer<'_, ()>;

    /// Writes down what became of a copy.
    fn finish_copy<'a>(
        &'a self,
        id: Uuid,
        generation: i64,
        error: Option<&'a str>,
    ) -> Answer<'a, ()>;

    /// Waits until there may be something new to be claimed. It may be dropped.
    fn news(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
