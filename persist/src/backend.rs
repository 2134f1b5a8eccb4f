//! Where streams are stored.

pub mod log;
