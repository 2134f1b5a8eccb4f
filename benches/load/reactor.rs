//! The connections of one thread, and what waits for them.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::conn::{Conn, SCRATCH_LEN, timespec};
use crate::error::LoadError;
use crate::target::{Scheme, Target};

/// Most events that are taken at once.
const EVENTS_MAX: usize = 128;

/// Waits shorter than this are not left to epoll.
const BRIEF: Duration = Duration::from_millis(5);

/// Connections that are read and written by one thread.
#[derive(Debug)]
pub(crate) struct Reactor {
    epoll: OwnedFd,
    slots: Vec<Slot>,
    scratch: Vec<u8>,
    /// Whether the transport has timers of its own.
    timers: bool,
}

#[derive(Debug)]
struct Slot {
    conn: Conn,
    /// Whether room in the socket is waited for.
    room: bool,
}

impl Reactor {
    pub(crate) fn new() -> Result<Self, LoadError> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            slots: Vec::new(),
            scratch: vec![0; SCRATCH_LEN],
            timers: false,
        })
    }

    /// With `count` connections.
    pub(crate) fn connect(target: &Target, count: usize) -> Result<Self, LoadError> {
        Self::connect_to(std::iter::repeat_n(target, count))
    }

    /// With a connection to each of the targets.
    pub(crate) fn connect_to<'t>(
        targets: impl Iterator<Item = &'t Target>,
    ) -> Result<Self, LoadError> {
        let mut reactor = Self::new()?;
        for target in targets {
            reactor.open(target)?;
        }
        Ok(reactor)
    }

    /// Opens one more connection; returns its index.
    pub(crate) fn open(&mut self, target: &Target) -> Result<usize, LoadError> {
        let conn = Conn::open(target, &mut self.scratch)?;
        let index = self.slots.len();
        epoll::add(
            &self.epoll,
            &conn,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        self.timers |= target.scheme == Scheme::Quic;
        self.slots.push(Slot { conn, room: false });
        Ok(index)
    }

    /// Replaces a connection that has ended.
    pub(crate) fn reopen(&mut self, index: usize, target: &Target) -> Result<(), LoadError> {
        let conn = Conn::open(target, &mut self.scratch)?;
        epoll::add(
            &self.epoll,
            &conn,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        // The old socket leaves the epoll set by being closed.
        *self.slot(index) = Slot { conn, room: false };
        Ok(())
    }

    /// How many connections there are.
    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, index: usize) -> &mut Slot {
        self.slots
            .get_mut(index)
            .expect("indices come from `open` and connections are never removed")
    }

    /// The connection at an index that [`open`](Self::open) returned.
    pub(crate) fn conn(&mut self, index: usize) -> &mut Conn {
        &mut self.slot(index).conn
    }

    /// Subscribes and returns once the subscription holds.
    pub(crate) fn subscribe(
        &mut self,
        index: usize,
        patterns: impl Iterator<Item = String>,
        group: Option<&str>,
    ) -> Result<(), LoadError> {
        let format = self.conn(index).format();
        let mut frames = Vec::new();
        let mut id = 0;
        for pattern in patterns {
            id += 1;
            format.subscribe(&mut frames, id, &pattern, group);
            // A batch that fits into every receive buffer, then a round trip, keeps both ends calm.
            if frames.len() > 32 << 10 {
                self.conn(index).post(&frames)?;
                self.fence(index)?;
                frames.clear();
            }
        }
        self.conn(index).post(&frames)?;
        self.fence(index)
    }

    /// As [`Conn::fence`].
    pub(crate) fn fence(&mut self, index: usize) -> Result<(), LoadError> {
        let slot = self
            .slots
            .get_mut(index)
            .expect("indices come from `open` and connections are never removed");
        slot.conn.fence(&mut self.scratch)
    }

    fn register(&self, index: usize) -> Result<(), LoadError> {
        let Some(slot) = self.slots.get(index) else {
            return Ok(());
        };
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, slot.room);
        Ok(epoll::modify(
            &self.epoll,
            &slot.conn,
            EventData::new_u64(index as u64),
            flags,
        )?)
    }

    /// Waits up to `timeout` and handles what happens: `on` gets the index of the connection and
    /// each delivery, whole. Returns the connection that failed, with the reason, if one did.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        on: &mut impl FnMut(usize, &[u8]),
    ) -> Result<(), (usize, LoadError)> {
        let timeout = self.prepare(timeout)?;
        let timeout = self.wait_briefly(timeout).map_err(|error| (0, error))?;
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        let events = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => &mut [],
            Err(errno) => return Err((0, errno.into())),
        };
        for &mut Event { flags, data } in events {
            let index = usize::try_from(data.u64()).unwrap_or(usize::MAX);
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                slot.conn
                    .recv(&mut self.scratch, |frame| on(index, frame))
                    .map_err(|error| (index, error))?;
            }
            if flags.contains(EventFlags::OUT) {
                slot.conn.flush().map_err(|error| (index, error))?;
            }
        }
        Ok(())
    }

    /// Waits by `poll` where epoll, which counts whole milliseconds and rounds up, would wait far too long; how long
    /// epoll is to wait then.
    fn wait_briefly(&self, timeout: Duration) -> Result<Timespec, LoadError> {
        if timeout >= BRIEF || timeout.is_zero() {
            return Ok(timespec(timeout));
        }
        let mut ready = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut ready, Some(&timespec(timeout))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(timespec(Duration::ZERO)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Handles timers, registers changed interests, and says how long to wait.
    fn prepare(&mut self, timeout: Duration) -> Result<Duration, (usize, LoadError)> {
        let mut end = None;
        for index in 0..self.slots.len() {
            if self.timers {
                let conn = self.conn(index);
                conn.on_deadline().map_err(|error| (index, error))?;
                end = [end, conn.deadline()].into_iter().flatten().min();
            }
            let room = self.conn(index).wants_room();
            if room != self.slot(index).room {
                self.slot(index).room = room;
                self.register(index).map_err(|error| (index, error))?;
            }
        }
        let due = end.map(|end| end.saturating_duration_since(Instant::now()));
        Ok(due.unwrap_or(timeout).min(timeout))
    }

    /// Says goodbye on all connections.
    pub(crate) fn close(self) {
        for slot in self.slots {
            slot.conn.close();
        }
    }
}
