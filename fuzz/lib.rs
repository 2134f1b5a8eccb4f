//! Functions that must hold for any bytes whatever.
//!
//! Each target is one function here, one binary in `fuzz_targets/` and one folder of inputs in
//! `corpus/`. `cargo fuzz run -s none decode` looks for new inputs and keeps all of them; give it a
//! scratch folder before `fuzz/corpus/decode` to keep them apart. `tests/replay.rs` runs the kept
//! ones with the ordinary tests; `cargo run -p dialtone-fuzz --bin decode -- FILE` runs one file.

#![expect(
    clippy::missing_panics_doc,
    reason = "a panic is how a target says that something does not hold"
)]

mod frames;
pub use frames::{decode, round_trip};

mod subjects;
pub use subjects::subject;

mod client;
pub use client::client_session;

mod server;
pub use server::server_session;

mod script;

mod routing;
pub use routing::router;

mod deframe;

mod upgrade;
pub use upgrade::{http_upgrade, websocket};

mod broker;
pub use broker::connection;

mod link;
pub use link::link;

mod proxy;
pub use proxy::{proxy_head, proxy_path};

/// A target: its name, which is also the name of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("decode", decode),
    ("round_trip", round_trip),
    ("subject", subject),
    ("server_session", server_session),
    ("client_session", client_session),
    ("router", router),
    ("websocket", websocket),
    ("http_upgrade", http_upgrade),
    ("connection", connection),
    ("link", link),
    ("proxy_path", proxy_path),
    ("proxy_head", proxy_head),
];

/// The `main` of a target's binary: libFuzzer's under `cargo fuzz`, else one that replays the files
/// that it is given.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $run(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            for path in std::env::args_os().skip(1) {
                $run(&std::fs::read(path)?);
            }
            Ok(())
        }
    };
}
