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
    /// Whether they wrote or were written to, or are only shown, as the members of a group are.
    pub met: bool,
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

/// What sightings made of the contacts. Nothing is told of a contact before it was met, and what one
/// transaction does to a contact is told once, with the outcome.
#[derive(Clone, Debug)]
pub enum ContactNews {
    /// Somebody was met for the first time.
    Created {
        /// As it is now.
        contact: ContactRow,
        /// When they were met.
        time: SystemTime,
    },
    /// A name of somebody who was met before is another one, or is known now.
    Updated {
        /// As it was.
        before: ContactRow,
        /// As it is now.
        after: ContactRow,
    },
    /// Two contacts turned out to be one.
    Merged {
        /// The one that stays, as it is now.
        kept: ContactRow,
        /// The one that is gone; its id means the other from now on.
        gone: ContactId,
    },
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
