//! Nodes that are always the same.

use std::sync::Arc;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Fault, FaultKind};
use futures_util::future::{BoxFuture, ready};

use super::rendezvous::View;
use super::{Place, Placement};

/// One of several nodes that each keep their streams themselves. When a node is away, so are its streams.
#[derive(Debug, Clone)]
pub struct Fixed {
    me: Arc<str>,
    view: View,
}

impl Fixed {
    /// The node `me` among `nodes`, which every one of them knows in the same spelling.
    pub fn new<N: Into<Arc<str>>>(
        me: impl Into<Arc<str>>,
        nodes: impl IntoIterator<Item = N>,
    ) -> Self {
        Self {
            me: me.into(),
            view: View::new(0, nodes),
        }
    }
}

impl Placement for Fixed {
    fn locate<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Place, Fault>> {
        let place = match self.view.owner(stream.as_str()) {
            Some(owner) if *owner == self.me => Ok(Place::Here { fence: 0 }),
            Some(owner) => Ok(Place::There {
                node: owner.to_string(),
            }),
            None => Err(Fault::new(
                FaultKind::Unavailable,
                "there is no node for any stream",
            )),
        };
        Box::pin(ready(place))
    }

    fn left(&self, _stream: &StreamName) {}

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        Box::pin(ready(Ok(self
            .view
            .nodes()
            .map(ToString::to_string)
            .collect())))
    }
}
