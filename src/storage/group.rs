//! Groups as they are kept.

use bytes::Bytes;

use super::NewEvent;

/// A group as it is kept. Its key is (instance, jid).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// `…@g.us`.
    pub jid: String,
    /// The account is in it.
    pub member: bool,
    /// The encoded `wagate.v1.Group`.
    pub body: Bytes,
}

/// What is new about groups.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// As they are now.
    pub groups: Vec<GroupRow>,
    /// From now on all groups of the account are known.
    pub complete: bool,
    /// What the log says of it.
    pub events: Vec<NewEvent>,
}
