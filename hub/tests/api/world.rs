//! A site of which everything is known: who is what, and a handler for each function that says that it ran.

use std::collections::HashSet;
use std::sync::Arc;

use dialtone_hub::api::{Api, Bounds, Call, Error, Handlers, Request, functions};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::permission::{Authority, Config, Fact, Facts, LookupError};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

/// Facts that are in a set.
#[derive(Debug)]
pub(crate) struct Known(HashSet<Fact>);

impl Facts for Known {
    fn look_up(&self, fact: Fact) -> BoxFuture<'_, Result<bool, LookupError>> {
        async move { Ok(self.0.contains(&fact)) }.boxed()
    }
}

/// Who there is.
pub(crate) struct World {
    pub(crate) api: Arc<Api<Known>>,
    pub(crate) admin: Caller,
    pub(crate) owner: Caller,
    pub(crate) member: Caller,
    pub(crate) stranger: Caller,
    /// The daemon of the project.
    pub(crate) project: Caller,
    /// The daemon of another one.
    pub(crate) other_project: Caller,
    pub(crate) project_id: ProjectId,
    pub(crate) other_project_id: ProjectId,
}

/// Functions that the API brings along.
pub(crate) const BUILT_IN: &[&str] = &["system.ping", "system.test", "system.describe"];

impl World {
    pub(crate) fn new() -> Self {
        let [admin, owner, member, stranger] = [(); 4].map(|()| AccountId::random());
        let (project_id, other_project_id) = (ProjectId::random(), ProjectId::random());
        let facts = [
            Fact::Admin(admin),
            Fact::Owner(owner, project_id),
            Fact::Member(owner, project_id),
            Fact::Member(member, project_id),
        ];
        let authority = Authority::new(Known(HashSet::from(facts)), Config::default());
        Self {
            api: Arc::new(Api::new(Arc::new(authority), ran(), Bounds::default())),
            admin: Caller::Account(admin),
            owner: Caller::Account(owner),
            member: Caller::Account(member),
            stranger: Caller::Account(stranger),
            project: Caller::Project(project_id),
            other_project: Caller::Project(other_project_id),
            project_id,
            other_project_id,
        }
    }

    /// An API of which nobody knows anything about anybody.
    pub(crate) fn api_with(handlers: Handlers) -> Arc<Api<Known>> {
        let authority = Authority::new(Known(HashSet::new()), Config::default());
        Arc::new(Api::new(Arc::new(authority), handlers, Bounds::default()))
    }

    pub(crate) async fn call(
        &self,
        caller: Caller,
        name: &str,
        args: &Json,
    ) -> Result<Json, Error> {
        let request: Request = serde_json::from_value(json!({"name": name, "args": args})).unwrap();
        self.api.call(caller, request).await
    }
}

/// Handlers that answer with what reached them.
fn ran() -> Handlers {
    functions()
        .map(|function| function.name)
        .filter(|name| !BUILT_IN.contains(name))
        .fold(Handlers::new(), |handlers, name| {
            handlers.with(
                name,
                |call: Call| async move { Ok(json!({"ran": call.args})) },
            )
        })
}
