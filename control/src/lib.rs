//! Running projects: orders, who carries them out, and the processes that follow.
//!
//! ```text
//!   Control      what a hub is asked: writes orders down, waits for what becomes of them       any hub
//!       │
//!    ledger      orders, claims with generations, runs, results                                the database
//!       │
//!   Executor     claims orders and carries them out, watches what runs                         any machine
//!       │  └── machine   what to do next, pure
//!    Runner      looks, starts, waits, ends                                                    processes
//! ```
//!
//! What must hold, whoever is killed when:
//!
//! * **Of any number of hubs, one carries out an order.** It holds a claim with a generation, and whatever it writes is
//!   written only as long as the claim holds.
//! * **Nothing runs that is not written down.** A process stands behind a [gate](runner::Gate) until its record is
//!   committed; if the one who prepared it is killed, it ends by itself.
//! * **Who takes over remembers nothing**: it looks at what is there, and goes on from that.

pub mod machine;
pub mod order;
pub mod quota;

pub mod run;
pub mod runner;

pub mod ledger;

pub mod executor;
pub mod transition;

mod copy;
pub mod processes;

mod board;
pub mod service;
pub mod upkeep;

pub use executor::Executor;
pub use processes::Processes;
pub use service::Service;
