//! The harness of the black-box tests: it starts the real binary on a store of the test's own, talks to it as its
//! users do, and leaves nothing behind.
//!
//! **Architecture invariant:** nothing here depends on a crate of Daybook's. What the tests know is what a user of
//! the binary knows: its command line, its HTTP interface, its files.

mod answer;
mod begun;
mod client;
mod cluster;
mod daybook;
mod kafka;
mod live;
mod process;
mod shop;
mod store;
mod wait;

pub use answer::Answer;
pub use begun::Begun;
pub use client::{Client, Request};
pub use cluster::Cluster;
pub use daybook::{Daybook, DemoUser, Role, Worker};
pub use kafka::{Record, Topic};
pub use live::{Live, LiveEvent};
pub use process::Output;
pub use shop::{Customer, Product, assert_counted_once};
pub use store::{Backend, Held, Store};
pub use wait::wait_for;

/// Makes one test for each backend out of an `async fn(Backend)`, as a module with the function's name.
///
/// ```text
/// on_both!(a_cancelled_order_stays_cancelled);
/// ```
#[macro_export]
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$test($crate::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$test($crate::Backend::Postgres).await;
            }
        })+
    };
}
