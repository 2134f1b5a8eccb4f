//! What a stream is, without I/O: the only place that decides.

pub mod commit;
pub mod records;
