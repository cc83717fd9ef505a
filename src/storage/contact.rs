//! People as they are kept: one row each, whichever of their names WhatsApp used.
//!
//! A person has a hidden identity (LID) that stays and a number that may change hands. Which belongs to
//! which is decided by the ledger of all pairs ever seen: a number is its latest holder's, and what is
//! shown of a hidden identity is the latest number that is still its own. So the order in which pairs
//! are learnt does not matter, and an old message that is read late changes nothing.

use std::time::SystemTime;

use crate::domain::ids::ContactId;

/// Something WhatsApp showed of a person: one name or both, perhaps with what they call themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The hidden identity, digits only; empty if not shown.
    pub lid: String,
    /// Digits of the number; empty if not shown.
    pub phone_number: String,
    /// Display name; empty if not shown.
    pub name: String,
    /// Where it was seen, in a word.
    pub source: String,
    /// When; the latest sighting decides, whenever it is told.
    pub time: SystemTime,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRow {
    /// Its id.
    pub id: ContactId,
    /// The hidden identity, digits only; empty if unknown.
    pub lid: String,
    /// Digits of the number; empty if unknown.
    pub phone_number: String,
    /// The latest display name; empty if unknown.
    pub name: String,
    /// When it was first seen here.
    pub create_time: SystemTime,
    /// When it last changed.
    pub update_time: SystemTime,
}

/// Two contacts turned out to be one.
#[derive(Clone, Debug)]
pub struct ContactMerge {
    /// The one that stays, as it is now.
    pub kept: ContactRow,
    /// The one that is gone; its id means the other from now on.
    pub gone: ContactId,
}

/// What a contact is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContactKey {
    /// By its id, or the id of one that was merged into it.
    Id(ContactId),
    /// By the number that it holds or held last.
    Number(String),
    /// By its hidden identity.
    Lid(String),
}
