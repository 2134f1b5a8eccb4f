//! `jupyter`: running pieces of code that leave nothing behind.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha1::{Digest as _, Sha1};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use crate::auth::token::hex;
use crate::id::{AccountId, ProjectId};
use crate::kernels::{Gateway, Gateways, Limits, Unreachable};
use crate::store::Store;
use crate::store::kernels::{self, Ran};

/// What code may use in kernels of the site, as in the original.
const SITE: Limits = Limits {
    total: Duration::from_secs(30),
    cell: Duration::from_secs(15),
    output: 2_500_000,
};

/// What code may use in kernels of a project, as in the original.
const PROJECT: Limits = Limits {
    total: Duration::from_secs(45),
    cell: Duration::from_secs(30),
    output: 5_000_000,
};

/// How long kernels of the site work in an hour: for an account, and for all.
const ACCOUNT_MAX: Duration = Duration::from_mins(15);
const SITE_MAX: Duration = Duration::from_hours(5);

/// Longest name of a kernel, in bytes.
const KERNEL_LEN_MAX: usize = 254;

/// What the functions need.
#[derive(Clone)]
pub struct Jupyter {
    store: Store,
    gateways: Arc<dyn Gateways>,
    /// Those that run code: they end their kernels also when nobody waits for them any more.
    tasks: TaskTracker,
}

impl fmt::Debug for Jupyter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jupyter").finish_non_exhaustive()
    }
}

#[derive(Deserialize, Default)]
struct Where {
    project_id: Option<ProjectId>,
}

#[derive(Deserialize)]
struct Execute {
    input: Option<String>,
    kernel: Option<String>,
    #[serde(default)]
    history: Vec<String>,
    hash: Option<String>,
    tag: Option<String>,
    project_id: Option<ProjectId>,
    path: Option<String>,
    #[serde(rename = "noCache", default)]
    no_cache: bool,
}

impl From<Unreachable> for Error {
    fn from(error: Unreachable) -> Self {
        let code = match error {
            Unreachable::Kernel(_) => Code::NotFound,
            Unreachable::Time(_) => Code::Timeout,
            Unreachable::Output(_) => Code::FailedPrecondition,
            Unreachable::Address(_)
            | Unreachable::Http(_)
            | Unreachable::Refused { .. }
            | Unreachable::Answer(_)
            | Unreachable::Socket(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl Jupyter {
    /// With kernels of these gateways.
    pub fn new(store: Store, gateways: Arc<dyn Gateways>) -> Self {
        Self {
            store,
            gateways,
            tasks: TaskTracker::new(),
        }
    }

    /// The handlers with those of this file. That the caller is a member of the project is in the table.
    pub fn install(&self, handlers: Handlers) -> Handlers {
        handlers
            .with_on("jupyter.kernels", self, |on, call| async move {
                on.kernels(call).await
            })
            .with_on("jupyter.execute", self, |on, call| async move {
                on.execute(call).await
            })
    }

    /// Waits until all kernels that were started have been ended.
    pub async fn end(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn kernels(&self, mut call: Call) -> Result<Json, Error> {
        let wanted = call.argument::<Option<Where>>(0)?.unwrap_or_default();
        let gateway = self.gateways.find(wanted.project_id).await?;
        Ok(gateway.kernels().await?.into())
    }

    async fn execute(&self, mut call: Call) -> Result<Json, Error> {
        let wanted: Execute = call.argument(0)?;
        if let Some(hash) = &wanted.hash {
            return Ok(self.cached(hash).await?.unwrap_or_default());
        }
        let (Some(input), Some(kernel)) = (&wanted.input, &wanted.kernel) else {
            let text = "input and kernel are required, or hash";
            return Err(Error::argument("args[0]", text));
        };
        if kernel.is_empty() || kernel.len() > KERNEL_LEN_MAX {
            let text = format!("must have 1 to {KERNEL_LEN_MAX} bytes");
            return Err(Error::argument("args[0].kernel", text));
        }
        let hash = hash(&wanted, input, kernel);
        if !wanted.no_cache
            && let Some(answer) = self.cached(&hash).await?
        {
            return Ok(answer);
        }
        let account = call.caller.account();
        self.check_use(account, wanted.project_id).await?;
        let gateway = self.gateways.find(wanted.project_id).await?;
        let limits = if wanted.project_id.is_some() {
            PROJECT
        } else {
            SITE
        };
        let mut cells = wanted.history.clone();
        cells.push(input.clone());
        let begin = Instant::now();
        let done = self.run(gateway, kernel.clone(), cells, limits).await;
        let ran = Ran {
            account,
            project: wanted.project_id,
            path: wanted.path.as_deref(),
            hash: &hash,
            kernel,
            tag: wanted.tag.as_deref(),
            duration: begin.elapsed(),
        };
        self.noted(&ran, done).await
    }

    /// Notes what was used, also by code that failed, and keeps the answer.
    async fn noted(
        &self,
        ran: &Ran<'_>,
        done: Result<Vec<Json>, Unreachable>,
    ) -> Result<Json, Error> {
        let mut on = self.store.write().await?;
        kernels::log(&mut on, ran).await?;
        let answer = match done {
            Ok(output) => {
                let output = Json::Array(output);
                let created = kernels::put_cached(&mut on, ran.hash, &output).await?;
                Ok(json!({"output": output, "created": created, "hash": ran.hash}))
            }
            Err(error) => Err(error.into()),
        };
        on.commit().await?;
        answer
    }

    async fn cached(&self, hash: &str) -> Result<Option<Json>, Error> {
        let mut on = self.store.write().await?;
        let found = kernels::cached(&mut on, hash).await?;
        on.commit().await?;
        Ok(found
            .map(|(output, created)| json!({"output": output, "created": created, "hash": hash})))
    }

    async fn check_use(
        &self,
        account: Option<AccountId>,
        project: Option<ProjectId>,
    ) -> Result<(), Error> {
        if project.is_some() {
            return Ok(());
        }
        let account =
            account.ok_or_else(|| Error::new(Code::NotSignedIn, "user must be signed in"))?;
        let mut on = self.store.read().await?;
        let (own, everybody) = kernels::used(&mut on, account).await?;
        if own >= ACCOUNT_MAX || everybody >= SITE_MAX {
            let text = "kernels of the site were used as much as they may be in an hour";
            return Err(Error::new(Code::TooMany, text));
        }
        Ok(())
    }

    /// Runs code in a task of its own, which ends the kernel also when this is dropped.
    async fn run(
        &self,
        gateway: Gateway,
        kernel: String,
        cells: Vec<String>,
        limits: Limits,
    ) -> Result<Vec<Json>, Unreachable> {
        let stop = CancellationToken::new();
        let running = self.tasks.spawn({
            let stop = stop.clone();
            async move { gateway.run(&kernel, &cells, limits, stop.cancelled()).await }
        });
        let _ends = stop.drop_guard();
        let done = running.await;
        done.unwrap_or_else(|error| Err(Unreachable::Answer(error.to_string())))
    }
}

/// What an answer is kept under: all that it depends on.
fn hash(wanted: &Execute, input: &str, kernel: &str) -> String {
    let all = json!([
        wanted.history,
        input,
        kernel,
        wanted.project_id,
        wanted.path
    ]);
    hex(&Sha1::digest(all.to_string().as_bytes()))
}
