//! The settings of the log.

/// How a log is kept. The defaults are for a server; a laptop needs no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes after which a segment ends and the next one begins, from 4 KiB to 2 GiB; 128 MiB by
    /// default. Space is freed a segment at a time.
    pub segment_len_max: u64,
    /// Whether the space of a segment is taken from the disk when it begins.
    pub reserve: bool,
    /// Most segments whose files are held open, at least 4; 256 by default.
    pub open_segments_max: usize,
    /// Payloads with headers of at least so many bytes are compressed, where that saves an
    /// eighth; 1 KiB by default. `usize::MAX` is never.
    pub compress_len_min: usize,
    /// Most bytes that wait to be written; 256 MiB by default. More are refused as not available.
    pub waiting_bytes_max: usize,
    /// With less space than this left on the disk nothing is appended any more, so that what
    /// frees space can still be written; 256 MiB by default.
    pub free_bytes_min: u64,
    /// Bytes of log after which a checkpoint is written; 64 MiB by default. A start reads what
    /// was written since the last one.
    pub checkpoint_bytes: u64,
    /// Whether the log looks after itself: checkpoints and compaction on a thread of its own.
    /// Without, they are made when asked for.
    pub maintenance: bool,
    /// Segments of which a smaller share than this is needed, in percent, are compacted; 50 by
    /// default, 0 is never.
    pub compact_live_percent: u8,
    /// Bytes that compaction reads and writes per second at most; 32 MiB by default.
    pub compact_bytes_per_second: u64,
    /// Threads for reading, loading and compressing; by default as many as there are processors,
    /// from 2 to 8.
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            segment_len_max: 128 << 20,
            reserve: false,
            open_segments_max: 256,
            compress_len_min: 1 << 10,
            waiting_bytes_max: 256 << 20,
            free_bytes_min: 256 << 20,
            checkpoint_bytes: 64 << 20,
            maintenance: true,
            compact_live_percent: 50,
            compact_bytes_per_second: 32 << 20,
            workers: processors.clamp(2, 8),
        }
    }
}

impl Config {
    /// With every setting within its bounds.
    pub(crate) fn bounded(mut self) -> Self {
        self.segment_len_max = self.segment_len_max.clamp(4 << 10, 2 << 30);
        self.open_segments_max = self.open_segments_max.max(4);
        self.waiting_bytes_max = self.waiting_bytes_max.clamp(1 << 20, 1 << 30);
        self.compact_live_percent = self.compact_live_percent.min(95);
        self.compact_bytes_per_second = self.compact_bytes_per_second.max(64 << 10);
        self.workers = self.workers.clamp(1, 64);
        self
    }
}
