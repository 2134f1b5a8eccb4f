//! [`Persist`]: the service as a program sees it, for one owner.

use std::time::Duration;

use super::call::{Caller, Manner, Repeat, Route};
use super::error::{CallError, OpenError};
use super::name::{Owner, StreamName};
use super::stream::Stream;
use super::wire::{
    Config, Create, Created, Delete, Deleted, List, NodeInfo, Nodes, Request, StreamInfo,
    StreamList,
};
use crate::client::Client;

/// Streams of one page of a listing.
const LIST_PAGE: u32 = 1_000;

/// The persist service, asked for one owner. Cloning is cheap.
///
/// Requests that were certainly not carried out are repeated, as are those that may be carried out twice: readings, and
/// writes with a message id, which every append gets unless it brings one. All attempts together take at most
/// [`timeout`](Self::timeout).
#[derive(Debug, Clone)]
pub struct Persist {
    pub(super) caller: Caller,
}

impl Persist {
    /// For the site itself (scope `hub`).
    pub fn new(client: &Client) -> Self {
        Self::of(client, Owner::Hub)
    }

    /// For an owner. The broker's permissions say who may ask for whom.
    pub fn of(client: &Client, owner: Owner) -> Self {
        Self {
            caller: Caller::new(client.clone(), owner),
        }
    }

    /// Sets how long a request may take with its repetitions; 30 s by default.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.caller.timeout = limit;
        self
    }

    /// Sets how long is waited for a service that nobody provides; 10 s by default, which lets a node restart.
    pub fn service_wait(mut self, limit: Duration) -> Self {
        self.caller.service_wait = limit;
        self
    }

    /// Whose streams these are.
    pub fn owner(&self) -> &Owner {
        &self.caller.owner
    }

    /// The client behind it.
    pub fn client(&self) -> &Client {
        &self.caller.client
    }

    /// A stream by its name, without asking whether there is one.
    ///
    /// # Errors
    /// When the name is not valid.
    pub fn stream(&self, name: impl Into<String>) -> Result<Stream, OpenError> {
        let name = StreamName::new(name.into())?;
        Ok(Stream::new(self.caller.clone(), name, Route::default()))
    }

    /// Makes a stream.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when there is one of that name.
    pub async fn create(
        &self,
        name: impl Into<String>,
        config: Config,
    ) -> Result<Stream, OpenError> {
        self.make(name.into(), config, false).await
    }

    /// Opens a stream, and makes it if there is none. The configuration is for a new one; one that is there keeps its own.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when there is one with another durability, or that is ephemeral where this is not.
    pub async fn open_or_create(
        &self,
        name: impl Into<String>,
        config: Config,
    ) -> Result<Stream, OpenError> {
        self.make(name.into(), config, true).await
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when there is none.
    pub async fn open(&self, name: impl Into<String>) -> Result<Stream, OpenError> {
        let stream = self.stream(name)?;
        match stream.info().await {
            Ok(_) => Ok(stream),
            Err(error) => Err(OpenError::of(stream.name(), error)),
        }
    }

    async fn make(
        &self,
        name: String,
        config: Config,
        exist_ok: bool,
    ) -> Result<Stream, OpenError> {
        let stream = self.stream(name)?;
        let request = Request::Create(Create {
            stream: stream.name().to_owned(),
            config,
            exist_ok,
        });
        let manner = self.caller.manner(Repeat::of_making(exist_ok));
        let created: Created = stream
            .ask(&request, manner)
            .await
            .map_err(|error| OpenError::of(stream.name(), error))?;
        stream.learn(&created.info.config);
        Ok(stream)
    }

    /// Deletes a stream with everything in it; whether there was one.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn delete(&self, name: impl Into<String>) -> Result<bool, OpenError> {
        let stream = self.stream(name)?;
        let request = Request::Delete(Delete {
            stream: stream.name().to_owned(),
        });
        let manner = self.caller.manner(Repeat::Refused);
        let deleted: Result<Deleted, _> = stream.ask(&request, manner).await;
        match deleted.map_err(|error| OpenError::of(stream.name(), error)) {
            Ok(deleted) => Ok(deleted.deleted),
            Err(OpenError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One page of the owner's streams whose names begin with `prefix`, in the order of their names, behind `after`.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<StreamList, CallError> {
        let request = Request::List(List {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit: Some(limit),
            local: false,
        });
        let manner = self.caller.manner(Repeat::Safe);
        self.caller.call(&request, &Route::default(), manner).await
    }

    /// All of the owner's streams whose names begin with `prefix`, in the order of their names. What nodes keep that do
    /// not answer is not among them: [`missing`](StreamList::missing) names these nodes.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn list_all(&self, prefix: &str) -> Result<StreamList, CallError> {
        let mut all = StreamList::default();
        loop {
            let after = all.streams.last().map(|entry| entry.stream.clone());
            let page = self.list(prefix, after.as_deref(), LIST_PAGE).await?;
            let more = page.more && !page.streams.is_empty();
            all.streams.extend(page.streams);
            all.missing.extend(page.missing);
            all.missing.sort();
            all.missing.dedup();
            all.total_streams = page.total_streams;
            all.total_messages = page.total_messages;
            all.total_bytes = page.total_bytes;
            if !more {
                return Ok(all);
            }
        }
    }

    /// The nodes of the service. Of the scope `hub` alone.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, CallError> {
        let manner = self.caller.manner(Repeat::Safe);
        let nodes: Nodes = self
            .caller
            .call(&Request::Nodes, &Route::default(), manner)
            .await?;
        Ok(nodes.nodes)
    }

    /// Describes a stream, without opening it.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when there is none.
    pub async fn info(&self, name: impl Into<String>) -> Result<StreamInfo, OpenError> {
        let stream = self.stream(name)?;
        stream
            .info()
            .await
            .map_err(|error| OpenError::of(stream.name(), error))
    }
}

impl Manner {
    /// The same, for a request that the service answers after up to `wait`.
    pub(super) fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// The same without an end: it is repeated until it succeeds, is refused, or is dropped.
    pub(super) fn forever(self) -> Self {
        Self {
            within: None,
            ..self
        }
    }
}
