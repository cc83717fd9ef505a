//! API keys as they are kept.

use std::time::SystemTime;

use crate::domain::{
    ids::{ApiKeyId, InstanceNumber},
    permission::Permission,
};

/// An API key as it is kept. The secret is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Public id.
    pub id: ApiKeyId,
    /// SHA-256 of the secret.
    pub secret_digest: [u8; 32],
    /// For people.
    pub display_name: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Instances it is bound to; empty is all.
    pub instances: Vec<InstanceNumber>,
    /// When it was created.
    pub create_time: SystemTime,
    /// When it was revoked.
    pub revoke_time: Option<SystemTime>,
}

/// What came of revoking a key.
#[derive(Clone, Debug)]
pub enum RevokeOutcome {
    /// Revoked now or before.
    Revoked(ApiKeyRow),
    /// No such key.
    Missing,
    /// It is the last good key that may manage keys.
    LastAdmin,
}
