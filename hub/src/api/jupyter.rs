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
use super::shape::has_null_character;
use crate::auth::token::hex;
use crate::id::{AccountId, ProjectId};
use crate::kernels::{Gateway, Gateways, Limits, Unreachable};
use crate::store::kernels::{self, Ran};
use crate::store::{Store, throttle};
use crate::time::Time;

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

/// Longest answer that is kept for who asks the same again, in bytes as JSON. Longer ones are pictures and tables, which
/// nobody asks for twice, and a database full of them is slow.
const KEPT_MAX: usize = 256 << 10;

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

/// Code that is to be run, and for whom.
struct Run {
    gateway: Gateway,
    cells: Vec<String>,
    account: Option<AccountId>,
    project: Option<ProjectId>,
    path: Option<String>,
    hash: String,
    kernel: String,
    tag: Option<String>,
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
            let cached = self.cached(wanted.project_id, hash).await?;
            return Ok(cached.unwrap_or_default());
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
            && let Some(answer) = self.cached(wanted.project_id, &hash).await?
        {
            return Ok(answer);
        }
        let account = call.caller.account();
        self.check_use(account, wanted.project_id).await?;
        let gateway = self.gateways.find(wanted.project_id).await?;
        let mut cells = wanted.history;
        cells.push(input.clone());
        let run = Run {
            gateway,
            cells,
            account,
            project: wanted.project_id,
            path: wanted.path,
            hash,
            kernel: kernel.clone(),
            tag: wanted.tag,
        };
        self.run(run).await
    }

    async fn cached(&self, project: Option<ProjectId>, hash: &str) -> Result<Option<Json>, Error> {
        let mut on = self.store.write().await?;
        let found = kernels::cached(&mut on, &kept_under(project, hash)).await?;
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

    /// Runs code in a task of its own, which ends the kernel and notes what was used also when this is dropped.
    async fn run(&self, run: Run) -> Result<Json, Error> {
        let stop = CancellationToken::new();
        let running = self.tasks.spawn({
            let (store, stop) = (self.store.clone(), stop.clone());
            async move { run.finish(&store, &stop).await }
        });
        let _ends = stop.drop_guard();
        let done = running.await;
        done.unwrap_or_else(|error| Err(Unreachable::Answer(error.to_string()).into()))
    }
}

impl Run {
    async fn finish(self, store: &Store, stop: &CancellationToken) -> Result<Json, Error> {
        let limits = if self.project.is_some() {
            PROJECT
        } else {
            SITE
        };
        let begin = Instant::now();
        let running = self
            .gateway
            .run(&self.kernel, &self.cells, limits, stop.cancelled());
        let done = running.await;
        let noted = self.note(store, begin.elapsed(), done.as_ref().ok()).await;
        let output = done?;
        let created = noted?;
        Ok(json!({"output": output, "created": created, "hash": self.hash}))
    }

    /// Notes what was used, also by code that failed, and keeps the answer if it is one to be kept.
    async fn note(
        &self,
        store: &Store,
        duration: Duration,
        output: Option<&Vec<Json>>,
    ) -> Result<Time, Error> {
        let ran = Ran {
            account: self.account,
            project: self.project,
            path: self.path.as_deref(),
            hash: &self.hash,
            kernel: &self.kernel,
            tag: self.tag.as_deref(),
            duration,
        };
        let mut on = store.write().await?;
        kernels::log(&mut on, &ran).await?;
        let created = match output.filter(|output| is_kept(output)) {
            Some(output) => {
                let key = kept_under(self.project, &self.hash);
                kernels::put_cached(&mut on, &key, &Json::Array(output.clone())).await?
            }
            None => throttle::now(&mut on).await?,
        };
        on.commit().await?;
        Ok(created)
    }
}

/// Whether an answer is kept for who asks the same again.
fn is_kept(output: &[Json]) -> bool {
    let output = Json::from(output);
    output.to_string().len() <= KEPT_MAX && !has_null_character(&output)
}

/// What an answer is known by to clients: all that it depends on.
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

/// What an answer is kept under. Whoever learns the hash of an answer of a project finds it as a member alone.
fn kept_under(project: Option<ProjectId>, hash: &str) -> String {
    match project {
        None => hash.to_owned(),
        Some(project) => hex(&Sha1::digest(format!("{project} {hash}").as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_apart_by_project() {
        let (one, other) = (ProjectId::random(), ProjectId::random());
        let keys = [
            kept_under(None, "x"),
            kept_under(Some(one), "x"),
            kept_under(Some(other), "x"),
            kept_under(Some(one), "y"),
        ];
        for (number, key) in keys.iter().enumerate() {
            assert!(!keys[..number].contains(key), "{keys:?}");
        }
    }

    #[test]
    fn what_is_long_or_cannot_be_stored_is_not_kept() {
        assert!(is_kept(&[json!({"text": "4"}), json!("\\u0000")]));
        assert!(!is_kept(&[json!("\0")]));
        let text = |len: usize| [json!("x".repeat(len))];
        assert!(!is_kept(&text(KEPT_MAX - 3)));
        assert!(is_kept(&text(KEPT_MAX - 4)));
    }
}
