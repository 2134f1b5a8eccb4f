//! The functions of the hub, and how they are called.
//!
//! ```text
//!   hub.account.<id>.api   {name, args}
//!        │
//!     Caller       from the subject alone
//!     Function     one line of the table: wrapper, rules, shapes of its arguments
//!     prepare      identity removed, arguments checked and bounded          pure
//!     rules        membership, administrators: by the authority
//!     handler      does it, within its deadline, until it is cancelled
//!        │
//!   the value, or {error: "Error: …", code: "…"}
//! ```
//!
//! To add one: a [`Function`] in the file of its group in `api/table/`; a handler under that name in
//! [`Handlers`]; rows for each kind of caller in `hub/tests/api`, which fails while the table has a function without
//! them. What is said in the table is checked before a handler runs, so that handlers hold what cannot be said there.

pub(crate) mod error;
pub use error::{Code, Error};

mod shape;
pub use shape::{Field, Shape};
pub(crate) use shape::{NULL_CHARACTER, has_null_character};

mod function;
pub use function::{Function, Rule, Wrapper};

mod table;
pub use table::{find, functions};

mod request;
pub use request::{Need, Prepared, Request, meet, prepare};

mod handlers;
pub use handlers::{Call, Handlers};

mod admission;
pub(crate) use admission::Admission;
pub use admission::Bounds;

mod dispatch;
pub use dispatch::{Api, Status};

mod service;
pub use service::{ApiService, CANCEL_PATTERN, PATTERN};

mod system;

mod projects;
pub use projects::Projects;

mod running;
pub use running::Running;

mod invitations;
pub use invitations::Invitations;

mod accounts;
pub use accounts::Accounts;

mod own;
pub use own::{Service, Services, install as install_own, install_terminate};

mod keys;

mod messages;
pub use messages::install as install_messages;

mod org;
pub use org::Organizations;

mod purchases;
pub use purchases::install as install_purchases;

mod logs;
pub use logs::install as install_logs;

mod files;
pub use files::install as install_files;

mod jupyter;
pub use jupyter::Jupyter;

mod history;
pub use history::Histories;

mod throttled;

mod site;
pub use site::install as install_site;
