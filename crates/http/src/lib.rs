//! Daybook over HTTP.
//!
//! **Architecture invariant:** this crate is the only one that knows HTTP, and it decides nothing. What is allowed,
//! what is valid and what happens is said by the commands and views that are registered.

mod auth;
mod client_address;
mod commands;
mod cursor;
mod dead_letters;
mod door;
mod health;
mod history;
pub mod metrics;
mod observe;
mod openapi;
mod personal;
mod problem;
mod projections;
mod request;
mod server;
mod verify;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daybook_core::Domain;
use daybook_dispatch::Dispatcher;
use daybook_identity::Identity;
use daybook_keys::Keys;
use daybook_log::Log;
use daybook_views::Views;

pub use client_address::TrustedProxies;
pub use openapi::document as openapi;
pub use problem::Problem;
pub use server::{Running, start};

/// Limits of the HTTP interface.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most bytes of a request's body.
    pub body_bytes_max: usize,
    /// The longest that a reader may wait for a position, in seconds.
    pub wait_s_max: u64,
    /// How many threads answer requests.
    pub workers: usize,
    /// How long requests under way may go on once the server is to stop, in seconds. Connections that nobody uses are kept for
    /// 5 s: when it is shorter, they are closed though a proxy may be about to use them.
    pub drain_s: u64,
    /// Who is believed when they say whom a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// The most readers that follow views at once.
    pub live_max: usize,
    /// The most of them that are the same actor, or from the same address and not signed in.
    pub live_per_actor_max: usize,
    /// How long a client may take nothing of what it is sent, in seconds.
    pub live_stall_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 * 1024,
            wait_s_max: 30,
            workers: 2,
            drain_s: 20,
            trusted_proxies: TrustedProxies::default(),
            live_max: 2_000,
            live_per_actor_max: 20,
            live_stall_s: 30,
        }
    }
}

/// Whether the process can do its work.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says so.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it can.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What stands behind the HTTP interface.
#[derive(Clone)]
pub struct Backend {
    /// What is registered.
    pub domain: Arc<Domain>,
    /// Where commands go.
    pub dispatcher: Dispatcher,
    /// Where events are read.
    pub log: Log,
    /// Where views are read.
    pub views: Views,
    /// Where actors are known.
    pub identity: Identity,
    /// What personal fields are opened with, and cursors sealed.
    pub keys: Keys,
    /// Whether the process can do its work.
    pub readiness: Readiness,
    /// The limits.
    pub settings: Settings,
}
