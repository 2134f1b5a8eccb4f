//! Projects as users have them: real processes, real databases, hubs that are killed.
//!
//! A hub under test is a process of its own (this program once more, see [`a_hub`]), so that it can be killed as the
//! system kills. The test itself asks as a hub that runs no projects would.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a step that fails is a test that fails, and the tasks of a test end with it"
)]

mod crash;
mod descriptors;
mod life;
mod limits;
mod site;
mod storm;
mod upkeep;
mod users;
mod worker;

/// Runs each test on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                Box::pin(super::$test(crate::site::Site::sqlite())).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                Box::pin(super::$test(crate::site::Site::postgres())).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// Not a test: the process of a hub, started by tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process of a hub, which tests start"]
async fn a_hub() {
    site::run_hub().await;
}
