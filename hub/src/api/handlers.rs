//! What does the work of each function. A hub installs those for which it has what they need; the others answer that
//! they are not configured.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::error::{Code, Error};
use super::function::Function;
use super::table;
use crate::caller::Caller;

/// A call that was let through: its arguments are checked, and what the table says must hold does.
#[derive(Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// What.
    pub function: &'static Function,
    /// The arguments, as many as are declared; those that were left out are null.
    pub args: Vec<Json>,
    /// Cancelled when nobody waits for the answer any more. A call is also dropped then; this is for what it has
    /// started elsewhere.
    pub cancelled: CancellationToken,
}

impl Call {
    /// The argument with this number, as what a function takes.
    ///
    /// # Errors
    /// When the function takes something else than the table declares.
    pub fn argument<T: DeserializeOwned>(&mut self, number: usize) -> Result<T, Error> {
        let value = self
            .args
            .get_mut(number)
            .map(Json::take)
            .unwrap_or_default();
        serde_json::from_value(value)
            .map_err(|error| Error::argument(format_args!("args[{number}]"), error))
    }
}

type Handler = dyn Fn(Call) -> BoxFuture<'static, Result<Json, Error>> + Send + Sync;

/// The handlers of a hub, by the names of their functions.
#[derive(Default, Clone)]
pub struct Handlers(HashMap<&'static str, Arc<Handler>>);

impl Handlers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a handler for a function.
    ///
    /// # Panics
    /// When the table has no such function, or there is a handler for it: both are mistakes of the program, found when
    /// it starts.
    #[must_use]
    pub fn with<H, F>(mut self, name: &'static str, handler: H) -> Self
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Json, Error>> + Send + 'static,
    {
        assert!(table::find(name).is_some(), "the table has no {name}");
        let handler: Arc<Handler> = Arc::new(move |call| Box::pin(handler(call)));
        let former = self.0.insert(name, handler);
        assert!(former.is_none(), "there are two handlers for {name}");
        self
    }

    /// With a handler that works on something which all its calls share.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    #[must_use]
    pub fn with_on<T, H, F>(self, name: &'static str, on: &T, handler: H) -> Self
    where
        T: Clone + Send + Sync + 'static,
        H: Fn(T, Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Json, Error>> + Send + 'static,
    {
        let on = on.clone();
        self.with(name, move |call| handler(on.clone(), call))
    }

    /// Whether there is one for a function.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names of functions that have none.
    pub fn missing(&self) -> Vec<&'static str> {
        table::functions()
            .map(|function| function.name)
            .filter(|name| !self.has(name))
            .collect()
    }

    pub(super) fn run(&self, call: Call) -> Result<BoxFuture<'static, Result<Json, Error>>, Error> {
        let name = call.function.name;
        let handler = self.0.get(name).ok_or_else(|| {
            Error::new(
                Code::NotConfigured,
                format!("{name} is not configured on this site"),
            )
        })?;
        Ok(handler(call))
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handlers({})", self.0.len())
    }
}
