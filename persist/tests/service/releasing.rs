//! What a node lost it lets go of, however many requests for it still come.

use std::sync::Arc;

use dialtone_client::persist::wire::{Fault, FaultKind, Found, Get, Request, Select};
use dialtone_client::persist::{Owner, StreamName};
use dialtone_client::{Client, Encoding};
use dialtone_persist::placement::{Place, Placement};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::scene::{Scene, ask};

/// A question where a stream is, and the way to answer it.
type Question = (String, oneshot::Sender<()>);

/// Another node has everything, which is said when the test lets it be said.
#[derive(Debug)]
struct Elsewhere(mpsc::Sender<Question>);

impl Placement for Elsewhere {
    fn locate<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Place, Fault>> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send((stream.to_string(), answer)).unwrap();
        async move {
            answered.await.unwrap();
            Ok(Place::There {
                node: "other".to_owned(),
            })
        }
        .boxed()
    }

    fn left(&self, _stream: &StreamName) {}

    fn holds(&self, _stream: &StreamName) -> bool {
        false
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        async { Ok(vec!["other".to_owned()]) }.boxed()
    }
}

fn get(client: &Client, stream: &str) -> JoinHandle<Result<Found, Fault>> {
    let (client, stream) = (client.clone(), stream.to_owned());
    tokio::task::spawn(async move {
        let get = Get {
            stream,
            select: Select::Last,
        };
        ask(
            &client,
            &Owner::Hub,
            Request::Get(get),
            Encoding::MessagePack,
        )
        .await
    })
}

#[tokio::test]
async fn a_request_that_comes_later_holds_up_no_release() {
    let (questions, mut asked) = mpsc::channel(2);
    let elsewhere = Elsewhere(questions);
    let scene = Scene::with(|config| config.placement = Some(Arc::new(elsewhere))).await;

    // On its way before the release, so that the stream may be about to be opened.
    let first = get(&scene.client, "a");
    let (stream, answer_first) = asked.recv().await.unwrap();
    assert_eq!(stream, "a");
    let handle = scene.handle.clone();
    let mut release = Box::pin(handle.release_lost());
    assert!(
        release.as_mut().now_or_never().is_none(),
        "waits for what is on its way"
    );

    // On its way after it: this one is told that the stream is elsewhere.
    let second = get(&scene.client, "b");
    let (stream, answer_second) = asked.recv().await.unwrap();
    assert_eq!(stream, "b");
    answer_first.send(()).unwrap();
    release.await;
    answer_second.send(()).unwrap();
    for get in [first, second] {
        let fault = get.await.unwrap().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Moved);
    }
}
