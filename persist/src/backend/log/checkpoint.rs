//! A checkpoint: what is known of all streams at a place of the log, so that a start reads only
//! what was written behind it. `docs/persist-log.md` §6.
//!
//! It holds nothing that is not in the segments. Without one, or with one that is damaged, a
//! start reads them all.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::sync::Arc;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::Config;

use super::bytes::{Cursor, len_number, put_bytes, put_number, unzigzag, zigzag};
use super::frame::checksum;
use super::head;
use super::position::{Position, SegmentId};
use super::queue::Placed;
use super::streams::{SharedMeta, State, Stream};
use crate::backend::StreamId;
use crate::disk::{Disk, read_exact_at};

const MAGIC: [u8; 8] = *b"DTCHECK1";
const PREFIX: &str = "checkpoint-";
const TEMPORARY: &str = "checkpoint.tmp";

/// Magic, number of the log, length before compression, checksum.
const HEADER_LEN: usize = 8 + 8 + 8 + 4;

/// Longest checkpoint before compression; ten million streams need less.
const LEN_MAX: u64 = 4 << 30;

/// Name of the file of a checkpoint.
pub(crate) fn name(number: u64) -> String {
    format!("{PREFIX}{number:010}")
}

/// The number of the checkpoint in a file of this name.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix(PREFIX)?.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

/// Whether a file of this name is a checkpoint that was not finished.
pub(crate) fn is_temporary(name: &str) -> bool {
    name == TEMPORARY
}

/// A stream that was deleted, while frames of it may be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// The segment in which it was deleted: older ones may have frames of it.
    pub(crate) first: SegmentId,
    /// The frame that says so.
    pub(crate) placed: Placed,
}

/// What a checkpoint says beside the streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// All before this place is in the checkpoint.
    pub(crate) at: Position,
    /// The next number that a stream gets.
    pub(crate) next_stream: u64,
    /// Segments with their length and how much of it is needed.
    pub(crate) segments: Vec<(SegmentId, u64, u64)>,
    pub(crate) tombstones: BTreeMap<StreamId, Tombstone>,
}

/// What was read from a checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// Number of the log.
    pub(crate) log: u64,
    pub(crate) summary: Summary,
    pub(crate) streams: Vec<Stream>,
    /// Bytes of the file.
    pub(crate) len: u64,
}

/// Writes a checkpoint and says how many bytes it has. When this returns, it survives a loss of
/// power.
pub(crate) fn write(
    disk: &dyn Disk,
    log: u64,
    number: u64,
    summary: &Summary,
    streams: &[Arc<Stream>],
) -> io::Result<u64> {
    let raw = encode(summary, streams);
    let compressed = zstd::bulk::compress(&raw, 1)?;
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&log.to_le_bytes());
    header.extend_from_slice(&len_number(raw.len()).to_le_bytes());
    header.extend_from_slice(&checksum(&compressed).to_le_bytes());
    if disk.list()?.iter().any(|name| is_temporary(name)) {
        disk.remove(TEMPORARY)?;
    }
    let file = disk.create(TEMPORARY)?;
    file.write_at(&mut [IoSlice::new(&header), IoSlice::new(&compressed)], 0)?;
    file.sync()?;
    disk.rename(TEMPORARY, &name(number))?;
    disk.sync_names()?;
    Ok(len_number(HEADER_LEN + compressed.len()))
}

/// Reads a checkpoint. `Err` is what is wrong with it, in words.
pub(crate) fn read(disk: &dyn Disk, name: &str) -> Result<Checkpoint, String> {
    let bytes = read_file(disk, name).map_err(|error| format!("it cannot be read: {error}"))?;
    let (header, compressed) = bytes
        .split_first_chunk::<HEADER_LEN>()
        .ok_or("it is too short")?;
    let field = |from: usize| {
        let bytes: [u8; 8] = header[from..from + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    if header[..8] != MAGIC {
        return Err("it does not begin like a checkpoint".to_owned());
    }
    if header[24..28] != checksum(compressed).to_le_bytes() {
        return Err("its checksum is wrong".to_owned());
    }
    let len = Some(field(16)).filter(|len| *len <= LEN_MAX);
    let len = len
        .and_then(|len| usize::try_from(len).ok())
        .ok_or("it is too long")?;
    let raw = zstd::bulk::decompress(compressed, len)
        .map_err(|error| format!("it cannot be decompressed: {error}"))?;
    let (summary, streams) = decode(&mut Cursor::new(&raw)).ok_or("it cannot be understood")?;
    Ok(Checkpoint {
        log: field(8),
        summary,
        streams,
        len: len_number(bytes.len()),
    })
}

fn read_file(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let len = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(bytes)
}

fn encode(summary: &Summary, streams: &[Arc<Stream>]) -> Vec<u8> {
    let mut raw = Vec::new();
    put_number(&mut raw, summary.at.number());
    put_number(&mut raw, summary.next_stream);
    put_number(&mut raw, len_number(summary.segments.len()));
    for (segment, len, live) in &summary.segments {
        put_number(&mut raw, u64::from(*segment));
        put_number(&mut raw, *len);
        put_number(&mut raw, *live);
    }
    put_number(&mut raw, len_number(summary.tombstones.len()));
    for (id, tombstone) in &summary.tombstones {
        put_number(&mut raw, id.0);
        put_number(&mut raw, u64::from(tombstone.first));
        put_placed(&mut raw, Position::ZERO, tombstone.placed);
    }
    let mut configs = Configs::default();
    let (mut body, mut expiries) = (Vec::new(), Vec::new());
    let (mut count, mut expiring, mut before) = (0, 0, 0);
    for stream in streams {
        let state = stream.state.lock();
        if !state.deleted {
            count += 1;
            put_stream(&mut body, stream, &state, &mut configs, summary.at);
            if let Some(due) = state.due {
                expiring += 1;
                put_number(&mut expiries, zigzag(before, stream.id.0));
                put_number(&mut expiries, due);
                before = stream.id.0;
            }
        }
    }
    put_number(&mut raw, len_number(configs.all.len()));
    for config in &configs.all {
        put_bytes(&mut raw, &head::config_bytes(config));
    }
    put_number(&mut raw, count);
    raw.extend_from_slice(&body);
    put_number(&mut raw, expiring);
    raw.extend_from_slice(&expiries);
    raw
}

/// Configurations, each once.
#[derive(Default)]
struct Configs {
    all: Vec<Arc<Config>>,
    /// By the address of the shared value.
    known: HashMap<*const Config, usize, ahash::RandomState>,
}

impl Configs {
    fn number(&mut self, config: &Arc<Config>) -> usize {
        *self.known.entry(Arc::as_ptr(config)).or_insert_with(|| {
            self.all.push(Arc::clone(config));
            self.all.len() - 1
        })
    }
}

fn put_placed(raw: &mut Vec<u8>, before: Position, placed: Placed) {
    put_number(raw, zigzag(before.number(), placed.position.number()));
    put_number(raw, u64::from(placed.len));
}

fn read_placed(cursor: &mut Cursor<'_>, before: Position) -> Option<Placed> {
    let position = unzigzag(before.number(), cursor.number()?);
    Some(Placed {
        position: Position::from_number(position),
        len: u32::try_from(cursor.number()?).ok()?,
    })
}

/// Frames behind `at` are left out: they are read again from the log.
fn put_stream(
    raw: &mut Vec<u8>,
    stream: &Stream,
    state: &State,
    configs: &mut Configs,
    at: Position,
) {
    let meta = &state.meta;
    let config = configs.number(&meta.config);
    put_number(raw, stream.id.0);
    put_bytes(raw, stream.name.as_str().as_bytes());
    put_number(raw, meta.epoch);
    put_number(raw, meta.created);
    raw.push(u8::from(meta.restoring));
    put_number(raw, len_number(config));
    put_number(raw, state.totals.revision);
    head::put_totals(raw, &state.totals, meta.created);
    put_number(raw, state.fence);
    put_number(raw, u64::from(state.parts));
    let before_at = |placed: &&Placed| placed.position < at;
    put_number(
        raw,
        len_number(state.frames.iter().filter(before_at).count()),
    );
    let mut before = Position::ZERO;
    for placed in state.frames.iter().filter(before_at) {
        put_placed(raw, before, *placed);
        before = placed.position;
    }
}

fn decode(cursor: &mut Cursor<'_>) -> Option<(Summary, Vec<Stream>)> {
    let mut summary = Summary {
        at: Position::from_number(cursor.number()?),
        next_stream: cursor.number()?,
        ..Summary::default()
    };
    for _ in 0..cursor.number()? {
        let id = SegmentId::try_from(cursor.number()?).ok()?;
        summary
            .segments
            .push((id, cursor.number()?, cursor.number()?));
    }
    for _ in 0..cursor.number()? {
        let id = StreamId(cursor.number()?);
        let tombstone = Tombstone {
            first: SegmentId::try_from(cursor.number()?).ok()?,
            placed: read_placed(cursor, Position::ZERO)?,
        };
        summary.tombstones.insert(id, tombstone);
    }
    let mut configs = Vec::new();
    for _ in 0..cursor.number()? {
        let config: Config = rmp_serde::from_slice(cursor.bytes()?).ok()?;
        configs.push(Arc::new(config));
    }
    let mut streams = Vec::new();
    for _ in 0..cursor.number()? {
        streams.push(read_stream(cursor, &configs)?);
    }
    if cursor.is_empty() {
        // Of a version that did not know when something is over: it is looked for.
        for stream in &mut streams {
            stream.state.get_mut().due = Some(0);
        }
        return Some((summary, streams));
    }
    let (mut id, mut streams_by_id) = (0, streams.iter_mut());
    for _ in 0..cursor.number()? {
        id = unzigzag(id, cursor.number()?);
        let due = cursor.number()?;
        // Both are in the order of their numbers.
        let stream = streams_by_id.find(|stream| stream.id.0 == id)?;
        stream.state.get_mut().due = Some(due);
    }
    cursor.is_empty().then_some((summary, streams))
}

fn read_stream(cursor: &mut Cursor<'_>, configs: &[Arc<Config>]) -> Option<Stream> {
    let id = StreamId(cursor.number()?);
    let name = StreamName::new(cursor.text()?).ok()?;
    let meta = SharedMeta {
        epoch: cursor.number()?,
        created: cursor.number()?,
        restoring: cursor.byte()? != 0,
        config: Arc::clone(configs.get(cursor.len()?)?),
    };
    let revision = cursor.number()?;
    let totals = head::read_totals(cursor, revision, meta.created)?;
    let fence = cursor.number()?;
    let parts = u32::try_from(cursor.number()?).ok()?;
    let mut frames = Vec::new();
    let mut before = Position::ZERO;
    for _ in 0..cursor.number()? {
        let placed = read_placed(cursor, before)?;
        before = placed.position;
        frames.push(placed);
    }
    let state = State {
        totals,
        fence,
        parts,
        ..State::new(meta, &frames)
    };
    Some(Stream {
        id,
        name,
        state: parking_lot::Mutex::new(state),
    })
}
