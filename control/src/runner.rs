//! What starts and ends projects on a machine, or in whatever they run.
//!
//! A runner decides nothing: it looks, starts, waits and ends. It is asked about a project by one executor at a time,
//! except for [`Runner::exited`]. Every call may be dropped, and asked again by another process.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use dialtone_hub::control::CopyPath;
use dialtone_hub::id::ProjectId;
use uuid::Uuid;

use crate::machine::Observed;
use crate::quota::Quota;
use crate::run::{Reached, Run};

/// What a call of a runner will give. Errors are reasons for users of the project, without secrets.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// What is to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// For which project.
    pub project_id: ProjectId,
    /// For which order.
    pub order: i64,
    /// The number of what is started.
    pub run_id: Uuid,
    /// What it may use.
    pub quota: Quota,
    /// What its processes find in their environment besides.
    pub env: BTreeMap<String, String>,
    /// With which software it runs.
    pub image: Option<String>,
    /// The user of the system under which it runs, where each project has its own.
    pub uid: Option<u32>,
}

/// Something that stands ready and does nothing until it is let go. Dropped, it ends by itself, also when this process
/// is killed.
pub trait Gate: Send + fmt::Debug {
    /// What it is found by: to be written down before it is opened.
    fn run(&self) -> &Run;

    /// Lets it begin, with the secret by which it signs in at the broker.
    fn open(self: Box<Self>, secret: String) -> Answer<'static, ()>;
}

/// Starts and ends projects.
pub trait Runner: Send + Sync + fmt::Debug {
    /// The range of users of the system, where each project has its own.
    fn uids(&self) -> Option<std::ops::RangeInclusive<u32>> {
        None
    }

    /// What is there of a project. Something that stands behind a closed gate is nothing.
    fn observe<'a>(
        &'a self,
        id: ProjectId,
        uid: Option<u32>,
        run: Option<&'a Run>,
    ) -> Answer<'a, Observed>;

    /// Makes something stand ready to be started.
    fn prepare<'a>(&'a self, spec: &'a Spec) -> Answer<'a, Box<dyn Gate>>;

    /// Waits until it answers. Whoever asks bounds the time.
    fn reached<'a>(&'a self, id: ProjectId, run: &'a Run) -> Answer<'a, Reached>;

    /// Waits until what was started is over, and says how that came.
    fn exited<'a>(&'a self, id: ProjectId, run: &'a Run) -> Answer<'a, String>;

    /// Ends whatever is there of a project, in good order if it is quick about it, and returns when nothing is left.
    fn end<'a>(&'a self, id: ProjectId, uid: Option<u32>, run: Option<&'a Run>) -> Answer<'a, ()>;

    /// Copies files between the homes of two projects.
    fn copy<'a>(&'a self, copy: &'a CopyPath, users: CopyUsers) -> Answer<'a, ()>;
}

/// The users of the system of the two projects of a copy, where each project has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyUsers {
    /// Who owns what is copied.
    pub source: Option<u32>,
    /// Who is to own the copy.
    pub target: Option<u32>,
}
