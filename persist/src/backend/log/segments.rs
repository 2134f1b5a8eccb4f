//! The segments that there are: their files, how long they are, how much of them is still needed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::position::SegmentId;
use super::segment;
use crate::disk::{Disk, File};

/// All segments of a log.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    /// Number of the log; a segment of another one is not taken for ours.
    log: u64,
    /// Bytes taken from the disk when a segment begins.
    reserve: Option<u64>,
    /// Most files held open.
    open_max: usize,
    all: RwLock<BTreeMap<SegmentId, Arc<Segment>>>,
    /// Which files are open, the longest first.
    open: Mutex<VecDeque<SegmentId>>,
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// Bytes written.
    len: AtomicU64,
    /// Bytes that somebody may ask for, about.
    live: AtomicI64,
    /// Something in it cannot be read, so that it is kept as it is.
    damaged: AtomicBool,
    file: Mutex<Option<Arc<dyn File>>>,
}

impl Segment {
    pub(crate) fn new(id: SegmentId, len: u64, live: u64) -> Self {
        Self {
            id,
            len: AtomicU64::new(len),
            live: AtomicI64::new(signed(live)),
            damaged: AtomicBool::new(false),
            file: Mutex::new(None),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Bytes that somebody may ask for, about.
    pub(crate) fn live(&self) -> u64 {
        u64::try_from(self.live.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn set_live(&self, live: u64) {
        self.live.store(signed(live), Ordering::Relaxed);
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(crate) fn set_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Segments {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        log: u64,
        reserve: Option<u64>,
        open_max: usize,
    ) -> Self {
        Self {
            disk,
            log,
            reserve,
            open_max,
            all: RwLock::default(),
            open: Mutex::default(),
        }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Number of the log.
    pub(crate) fn log(&self) -> u64 {
        self.log
    }

    /// Takes up a segment that was there when the log was opened.
    pub(crate) fn add(&self, segment: Segment) {
        self.all.write().insert(segment.id, Arc::new(segment));
    }

    /// Begins a segment.
    pub(crate) fn create(&self, id: SegmentId) -> io::Result<Arc<dyn File>> {
        let file = segment::create(&*self.disk, self.log, id, self.reserve)?;
        let made = Segment::new(id, u64::from(segment::HEADER_LEN), 0);
        *made.file.lock() = Some(Arc::clone(&file));
        self.add(made);
        self.opened(id);
        Ok(file)
    }

    /// Gives back what was reserved and not used, before the last sync of a segment.
    pub(crate) fn seal(&self, id: SegmentId, file: &dyn File) -> io::Result<()> {
        match (self.reserve, self.get(id)) {
            (Some(_), Some(segment)) => file.set_len(segment.len()),
            (None | Some(_), _) => Ok(()),
        }
    }

    /// A segment is at least so long.
    pub(crate) fn grown(&self, id: SegmentId, len: u64) {
        if let Some(segment) = self.get(id) {
            segment.len.fetch_max(len, Ordering::Relaxed);
        }
    }

    /// Counts bytes that were written and are needed.
    pub(crate) fn add_live(&self, id: SegmentId, bytes: u64) {
        if let Some(segment) = self.get(id) {
            segment.live.fetch_add(signed(bytes), Ordering::Relaxed);
        }
    }

    /// Counts bytes that are not needed any more.
    pub(crate) fn bury(&self, id: SegmentId, bytes: u64) {
        if let Some(segment) = self.get(id) {
            segment.live.fetch_sub(signed(bytes), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<Arc<Segment>> {
        self.all.read().get(&id).map(Arc::clone)
    }

    /// All segments, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.all.read().values().map(Arc::clone).collect()
    }

    /// The file of a segment, opened if need be.
    pub(crate) fn file(&self, id: SegmentId) -> io::Result<Arc<dyn File>> {
        let segment = self.get(id).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no segment {id}"))
        })?;
        let mut file = segment.file.lock();
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let opened = self.disk.open(&segment::name(id))?;
        *file = Some(Arc::clone(&opened));
        drop(file);
        self.opened(id);
        Ok(opened)
    }

    /// Removes the files of segments. Those who read them go on reading.
    pub(crate) fn remove(&self, ids: &[SegmentId]) -> io::Result<()> {
        for id in ids {
            self.disk.remove(&segment::name(*id))?;
            self.all.write().remove(id);
        }
        self.disk.sync_names()
    }

    /// Notes that a file is open, and closes the one that has been for longest if those are too
    /// many.
    fn opened(&self, id: SegmentId) {
        let mut open = self.open.lock();
        open.push_back(id);
        if open.len() <= self.open_max {
            return;
        }
        let closed = open.pop_front();
        drop(open);
        if let Some(segment) = closed.and_then(|id| self.get(id)) {
            *segment.file.lock() = None;
        }
    }
}
