//! Runs calls: rules, bounds, deadline, cancellation.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Bounds};
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::request::{CALL_ID_LEN_MAX, Request, meet, prepare};
use crate::caller::Caller;
use crate::permission::{Authority, Facts};

/// The functions of a hub, ready to be called from anywhere.
#[derive(Debug)]
pub struct Api<F> {
    authority: Arc<Authority<F>>,
    handlers: Handlers,
    admission: Admission,
    under_way: Mutex<HashMap<(Caller, String), CancellationToken>>,
    calls: AtomicU64,
    failures: AtomicU64,
}

/// What it says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Calls so far.
    pub calls: u64,
    /// Calls so far that were answered with an error.
    pub failures: u64,
    /// Calls that run.
    pub running: usize,
}

/// Forgets the name of a call when it ends.
struct Named<'a, F> {
    api: &'a Api<F>,
    key: Option<(Caller, String)>,
    token: CancellationToken,
}

impl<F> Drop for Named<'_, F> {
    fn drop(&mut self) {
        // Also when the call was dropped, so that what it started elsewhere ends.
        self.token.cancel();
        if let Some(key) = self.key.take() {
            self.api.under_way.lock().remove(&key);
        }
    }
}

impl<F: Facts> Api<F> {
    /// With these handlers, besides those that need nothing.
    pub fn new(authority: Arc<Authority<F>>, handlers: Handlers, bounds: Bounds) -> Self {
        Self {
            authority,
            handlers: super::system::with_own(handlers),
            admission: Admission::new("calls", bounds),
            under_way: Mutex::default(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Calls a function. The future may be dropped at any time; what the function does then ends where it next waits.
    ///
    /// # Errors
    /// What the caller is to be told.
    pub async fn call(&self, caller: Caller, request: Request) -> Result<Json, Error> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.admitted(caller, request)
            .await
            .inspect_err(|error| self.failed(error))
    }

    async fn admitted(&self, caller: Caller, mut request: Request) -> Result<Json, Error> {
        let _permit = self.admission.admit(caller)?;
        let named = self.named(caller, request.id.take())?;
        let prepared = prepare(caller, request)?;
        let call = Call {
            caller,
            function: prepared.function,
            args: prepared.args,
            cancelled: named.token.clone(),
        };
        let work = async {
            meet(&self.authority, prepared.needs).await?;
            // Whoever makes a mistake in a handler hurts the one call, and hears of it in the log.
            let run = AssertUnwindSafe(async { self.handlers.run(call)?.await });
            run.catch_unwind()
                .await
                .unwrap_or_else(|_panic| Err(panicked(prepared.function.name)))
        };
        tokio::select! {
            biased;
            () = named.token.cancelled() => Err(Error::new(Code::Cancelled, "the call was cancelled")),
            done = tokio::time::timeout(prepared.deadline, work) => {
                done.unwrap_or_else(|_elapsed| Err(timed_out(prepared.deadline)))
            }
        }
    }

    /// Ends a call that has a name. Whether there was one is not said.
    pub fn cancel(&self, caller: Caller, id: &str) {
        let found = self.under_way.lock().get(&(caller, id.to_owned())).cloned();
        if let Some(token) = found {
            token.cancel();
        }
    }

    /// What it says about itself.
    pub fn status(&self) -> Status {
        Status {
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            running: self.admission.count(),
        }
    }

    /// Names of functions that this hub has no handlers for.
    pub fn not_configured(&self) -> Vec<&'static str> {
        self.handlers.missing()
    }

    fn named(&self, caller: Caller, id: Option<String>) -> Result<Named<'_, F>, Error> {
        let token = CancellationToken::new();
        let key = match id {
            None => None,
            Some(id) if (1..=CALL_ID_LEN_MAX).contains(&id.len()) => Some((caller, id)),
            Some(_) => {
                let text = format!("the id of a call has 1 to {CALL_ID_LEN_MAX} bytes");
                return Err(Error::new(Code::BadRequest, text));
            }
        };
        if let Some(key) = &key {
            let mut under_way = self.under_way.lock();
            if under_way.contains_key(key) {
                return Err(Error::new(
                    Code::Conflict,
                    "a call with this id is under way",
                ));
            }
            under_way.insert(key.clone(), token.clone());
        }
        Ok(Named {
            api: self,
            key,
            token,
        })
    }

    fn failed(&self, error: &Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (code, error) = (error.code, error as &dyn std::error::Error);
        if code == Code::Internal {
            tracing::error!(error, "a call failed");
        } else {
            tracing::debug!(code = code.name(), error, "a call failed");
        }
    }
}

fn panicked(name: &str) -> Error {
    Error::new(
        Code::Internal,
        format!("{name} failed by a mistake of the hub"),
    )
}

fn timed_out(deadline: Duration) -> Error {
    let millis = deadline.as_millis();
    Error::new(Code::Timeout, format!("not done within {millis} ms"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures_util::future::BoxFuture;
    use serde_json::json;
    use tokio::sync::Notify;

    use super::*;
    use crate::id::{AccountId, ProjectId};
    use crate::permission::{Fact, LookupError};

    struct Known(HashSet<Fact>);

    impl Facts for Known {
        fn look_up(&self, fact: Fact) -> BoxFuture<'_, Result<bool, LookupError>> {
            async move { Ok(self.0.contains(&fact)) }.boxed()
        }
    }

    fn api(facts: impl IntoIterator<Item = Fact>, handlers: Handlers) -> Api<Known> {
        let facts = Known(facts.into_iter().collect());
        let authority = Authority::new(facts, crate::permission::Config::default());
        Api::new(Arc::new(authority), handlers, Bounds::default())
    }

    fn request(value: Json) -> Request {
        serde_json::from_value(value).unwrap()
    }

    fn start(project: ProjectId) -> Request {
        request(json!({"name": "projects.start", "args": [{"project_id": project}]}))
    }

    #[tokio::test]
    async fn a_handler_runs_only_when_the_rules_hold() {
        let (account, project) = (AccountId::random(), ProjectId::random());
        let handlers = Handlers::new().with("projects.start", |call: Call| async move {
            Ok(json!([call.caller.to_string(), call.args]))
        });
        let api = api([Fact::Member(account, project)], handlers);
        let caller = Caller::Account(account);
        assert_eq!(
            api.call(caller, start(project)).await.unwrap(),
            json!([caller.to_string(), [{"project_id": project}]])
        );
        let stranger = Caller::Account(AccountId::random());
        for (caller, project) in [(stranger, project), (caller, ProjectId::random())] {
            let error = api.call(caller, start(project)).await.unwrap_err();
            assert_eq!(error.code, Code::PermissionDenied);
        }
        let status = api.status();
        assert_eq!((status.calls, status.failures, status.running), (3, 2, 0));
    }

    #[tokio::test]
    async fn what_is_not_configured_says_so_after_the_rules() {
        let (account, project) = (AccountId::random(), ProjectId::random());
        let api = api([Fact::Member(account, project)], Handlers::new());
        let caller = Caller::Account(account);
        let error = api.call(caller, start(project)).await.unwrap_err();
        assert_eq!(error.code, Code::NotConfigured);
        assert_eq!(error.text, "projects.start is not configured on this site");
        let error = api
            .call(caller, start(ProjectId::random()))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline() {
        let handlers = Handlers::new().with("system.userSalesloftSync", |_| std::future::pending());
        let api = api([], handlers);
        let caller = Caller::Account(AccountId::random());
        let call = request(json!({"name": "system.userSalesloftSync", "timeout": 1_500}));
        let error = api.call(caller, call).await.unwrap_err();
        assert_eq!(
            (error.code, &*error.text),
            (Code::Timeout, "not done within 1500 ms")
        );
        assert_eq!(api.status().running, 0);
    }

    #[tokio::test]
    async fn its_caller_and_nobody_else_cancels_a_call() {
        let started = Arc::new(Notify::new());
        let ended = CancellationToken::new();
        let handlers = {
            let (started, ended) = (Arc::clone(&started), ended.clone());
            Handlers::new().with("system.userSalesloftSync", move |call: Call| {
                let (started, ended) = (Arc::clone(&started), ended.clone());
                async move {
                    let _told = ended.drop_guard();
                    started.notify_one();
                    call.cancelled.cancelled().await;
                    std::future::pending().await
                }
            })
        };
        let api = api([], handlers);
        let caller = Caller::Account(AccountId::random());
        let call = || request(json!({"name": "system.userSalesloftSync", "id": "7"}));
        let mut running = Box::pin(api.call(caller, call()));
        tokio::select! {
            _ = &mut running => panic!("it does not end by itself"),
            () = started.notified() => {}
        }
        let again = api.call(caller, call()).await.unwrap_err();
        assert_eq!(again.code, Code::Conflict);
        api.cancel(Caller::Account(AccountId::random()), "7");
        api.cancel(caller, "8");
        assert!(running.as_mut().now_or_never().is_none());
        api.cancel(caller, "7");
        assert_eq!(running.await.unwrap_err().code, Code::Cancelled);
        ended.cancelled().await;
        assert!(api.under_way.lock().is_empty());
        let wrong = request(json!({"name": "system.ping", "id": "x".repeat(65)}));
        assert_eq!(
            api.call(caller, wrong).await.unwrap_err().code,
            Code::BadRequest
        );
    }

    #[tokio::test]
    async fn a_mistake_in_a_handler_hurts_one_call() {
        let handlers = Handlers::new().with("system.userSalesloftSync", |_| async {
            panic!("a mistake")
        });
        let api = api([], handlers);
        let caller = Caller::Account(AccountId::random());
        let call = request(json!({"name": "system.userSalesloftSync"}));
        assert_eq!(
            api.call(caller, call).await.unwrap_err().code,
            Code::Internal
        );
        let ping = request(json!({"name": "system.ping"}));
        assert!(api.call(caller, ping).await.is_ok());
        assert_eq!(api.status().running, 0);
    }
}
