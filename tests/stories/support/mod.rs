//! What every story needs: a stage with a WhatsApp network and a gateway on it, callers, and eyes.
//!
//! Nothing above the wire is faked: the gateway dials the sandbox as it would dial WhatsApp, and the
//! story speaks gRPC to the gateway.

mod api;
mod attacker;
mod calls;
mod foreign;
pub mod groups;
pub mod program;
pub mod samples;
mod stage;
mod volume;
mod watcher;

use std::{future::Future, time::Duration};

pub use api::{Api, info, violated_field};
pub use attacker::{Attacker, Seed, delimited, resident};
pub use foreign::{ForeignClient, Library, Program, Sender, install_bucket};
pub use stage::{Stage, TestPhone};
pub use volume::Volume;
pub use watcher::{Watcher, text_of};

/// How long anything may take that a story waits for. Long, because a test machine may be busy:
/// a story that passes never waits for it.
pub const BUDGET: Duration = Duration::from_secs(40);

/// Waits within the budget.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BUDGET, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}
