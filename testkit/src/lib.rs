//! What tests of more than one crate need: a network that misbehaves from a seed, a broker on it, raw peers and real
//! clients, and a model of routing that is obviously right.
//!
//! Reading order: [`link`] is a connection with delays, chunks, stalls and cuts; [`world`] a broker with its peers and
//! clients on such links; [`peer`] speaks frames by hand; [`model`] says what must be delivered; [`recorder`] keeps what
//! happened, to be compared. [`postgres`] is a real database, [`s3`] a
//! real object store, [`mail`] a real mail server, [`kernels`] real servers of Jupyter kernels, for what is to be tested with one.
//!
//! Everything takes its time from tokio. In a runtime of one thread whose clock is paused, a run depends on its seed and
//! on what the broker draws at random, and an hour of waiting takes no time.

pub mod ledger;
pub use ledger::Ledger;
pub mod dns;
pub mod fleet;
pub use fleet::Fleet;

pub mod kernels;
pub use kernels::KernelServer;

pub mod link;
pub use link::{Link, Manner};

pub mod mail;
pub use mail::{MailServer, MailTls};

pub mod mesh;
pub use mesh::Mesh;

pub mod model;
pub use model::Model;

pub mod peer;
pub use peer::{Delivered, Peer, Said};

pub mod postgres;
pub use postgres::Postgres;

pub mod providers;

pub mod recorder;
pub use recorder::Recorder;

mod relay;

pub mod s3;

pub mod streams;
pub use streams::Streams;

pub mod world;
pub use world::World;
