//! A hub in this process: beside a broker and joined to it in memory, or by itself and joined to a broker over the
//! network.
//!
//! ```text
//!   services   which parts this process runs, from the flags                       pure
//!   plan       everything that a hub needs, from flags and environment
//!   edge       how browsers reach it: encrypted or not, and where the servers of projects are    pure
//!   given      settings of the site, from file, environment and flags               pure but for the file
//!   prepare    what a hub is made of
//!   embedded   the hub in a thread of its own: open the database, serve, join, drain, end
//!   changefeeds   feeds of queries for clients of the original
//!   projects   project control, with projects as processes of this machine
//!   pods       projects as pods of a cluster, where the program was built with that
//!   front      the one address: the proxy in front of the hub's web server
//!   door       the broker's provider: asks the hub who is let in and what they may do
//!   alone      a process with hub, persist or both, and no broker
//!   remote     a broker by itself, whose hubs are elsewhere
//! ```

mod services;
pub(crate) use services::Services;

mod plan;
pub(crate) use plan::{Plan, cookie_names, mode_name};

mod edge;
pub(crate) use edge::Edge;

mod given;
pub(crate) use given::given as given_settings;

mod projects;

mod pods;

mod front;

mod prepare;

mod changefeeds;

mod embedded;
pub(crate) use embedded::{Embedded, Facts, HUB_USER, Join};

mod door;
pub(crate) use door::Door;

mod remote;
pub(crate) use remote::RemoteHub;

mod alone;
pub(crate) use alone::run as run_alone;
