//! Durable streams and key-value stores: a client of the broker that keeps what must survive.

pub mod backend;
pub mod disk;
