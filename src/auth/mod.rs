//! Who is calling and what they may do.
//!
//! Owns API keys: their secrets' shape, their check in constant time, the short memory of checked
//! keys, and the news of a revocation. Secrets are stored as hashes only.
//! Never fails open: without a caller nothing is allowed, and a call that reached a service without
//! one is a bug, not an administrator. Knows no gRPC status.

mod caller;
mod kept;
mod keys;
mod secret;

pub use caller::Caller;
pub use kept::KeepError;
pub use keys::{AuthError, Keys, NewKey};
pub use secret::Secret;
