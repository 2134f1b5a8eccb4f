//! Reading and writing rows for whoever may: queries of clients against rules that stand in one place.
//!
//! ```text
//!   {projects: [{project_id: null, title: null}]}        a query: nulls are what is wanted
//!        │
//!      plan        query + rules + caller → columns, conditions, what must hold     pure
//!        │
//!      store       the statement that the plan says, and nothing else
//! ```
//!
//! What is not declared in [`rule`] and its tables does not exist for a client: tables, fields to read, fields to write.
//! Conditions that keep a caller in its own rows are part of the statement, so that nothing changes between the check
//! and the use.

mod rule;
pub use rule::{Constant, Derived, Field, Get, Kind, Rows, Set, Table, Who, Write};

mod tables;
pub use tables::TABLES;

mod value;
pub use value::Value;

mod options;
pub use options::{Direction, Options};

mod plan;
pub use plan::{Assigned, Change, ChangeKind, Comparison, Condition, Plan, Planned, Select, plan};

mod filter;

mod get;

mod set;
pub(crate) use set::is_username;

mod execute;
pub use execute::Queries;

mod known;
pub use known::{Action, Known, Update};

mod touched;

mod seats;
pub use seats::Bounds as FeedBounds;

mod feeds;
pub use feeds::{Event, Feed, Feeds};

mod service;
pub use service::{FeedService, PATTERN as FEED_PATTERN, SIGN_OF_LIFE};

/// Longest query, in bytes as JSON.
pub const QUERY_LEN_MAX: usize = 1 << 20;

/// Longest options of a query, in bytes as JSON.
pub const OPTIONS_LEN_MAX: usize = 16 << 10;

/// Most queries that are sent as one.
pub const QUERIES_MAX: usize = 32;

/// Most rows that a query returns, whatever it asks for.
pub const ROWS_MAX: u32 = 10_000;

/// Most values of a field that a query names.
pub const VALUES_MAX: usize = 1_000;

/// Most columns by which rows are ordered.
pub const ORDER_MAX: usize = 4;
