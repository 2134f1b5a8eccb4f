//! An archiver that is stopped while the object store takes its time.

use std::fmt;
use std::sync::Arc;

use dialtone_persist::archive::Archive;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::site::{Site, archiver};

/// A store to which the first manifest is under way until told otherwise. Who asks does not take back what was sent: it
/// comes before the next one, even if nobody waits for the answer any more.
#[derive(Debug)]
struct Slow {
    store: Arc<InMemory>,
    sent: Mutex<Option<(Path, PutPayload, PutOptions)>>,
    /// The first manifest was sent.
    is_sent: Notify,
    may_arrive: Semaphore,
}

impl Slow {
    fn new(store: &Arc<InMemory>) -> Self {
        Self {
            store: Arc::clone(store),
            sent: Mutex::default(),
            is_sent: Notify::new(),
            may_arrive: Semaphore::new(0),
        }
    }

    /// What was sent arrives.
    async fn arrive(&self) -> Option<Result<PutResult>> {
        let (path, payload, options) = self.sent.lock().take()?;
        Some(self.store.put_opts(&path, payload, options).await)
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slow")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Slow {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if !location.as_ref().starts_with("manifests/") {
            return self.store.put_opts(location, payload, opts).await;
        }
        if self.may_arrive.available_permits() == 0 && self.sent.lock().is_none() {
            *self.sent.lock() = Some((location.clone(), payload, opts));
            self.is_sent.notify_one();
            self.may_arrive.acquire().await.unwrap().forget();
            self.may_arrive.add_permits(1);
            return self.arrive().await.expect("nobody else had it arrive");
        }
        drop(self.arrive().await);
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// The manifest that is under way says less than the one that is written at the end, and has its number.
#[tokio::test]
async fn an_archiver_that_is_stopped_leaves_the_newest_manifest() {
    let store = Arc::new(InMemory::new());
    let slow = Arc::new(Slow::new(&store));
    let own: Arc<dyn ObjectStore> = Arc::<Slow>::clone(&slow);
    let mut site = Site::new();
    site.append("s", None, vec![1; 700]).await;
    let uploader = archiver(&Archive::new(own, Path::default()), &site.log);
    let (stop, stopping) = oneshot::channel::<()>();
    let running = tokio::task::spawn(uploader.run(async { drop(stopping.await) }));
    slow.is_sent.notified().await;
    site.append("s", None, vec![2; 700]).await;
    stop.send(()).unwrap();
    // Whoever does not wait for what is under way has the occasion to go on.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    slow.may_arrive.add_permits(1);
    running.await.unwrap();
    let archive = Archive::new(store, Path::default());
    let (restored, report) = Site::restored(&archive, None).await.unwrap();
    assert_eq!(restored.contents().await, site.contents().await);
    assert_eq!(report.generation, 2);
}
