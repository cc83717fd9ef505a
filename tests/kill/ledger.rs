//! What was said, what was seen, and what went wrong: the books that the audit reads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wagate::sandbox::{GroupId, Number};

/// Complaints that are kept word by word; the rest is counted.
const COMPLAINTS: usize = 40;

/// A text that a phone sent to an instance.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub phone: Number,
    /// Index of the instance.
    pub instance: usize,
    /// Written into a group that the account is in.
    pub in_group: bool,
    pub text: String,
    pub message_id: String,
}

/// To whom a caller writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    Person(Number),
    /// A group that everybody is in.
    Group(GroupId),
}

/// A text that a caller had sent, answered at last.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Index of the instance.
    pub instance: usize,
    pub to: Recipient,
    /// On whose screens it must appear.
    pub readers: Vec<Number>,
    pub text: String,
    pub message_id: String,
}

/// A text that a phone has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub by: Number,
    pub from: Number,
    pub message_id: String,
    pub text: String,
}

/// How often callers had to try.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tries {
    /// Calls made.
    pub calls: u64,
    /// Calls that the gateway or its death refused.
    pub refused: u64,
    /// Calls that the caller gave up before they were answered.
    pub abandoned: u64,
    /// Calls made again although they had been answered.
    pub repeated: u64,
}

#[derive(Default)]
pub struct Books {
    pub inbound: Vec<Inbound>,
    pub outbound: Vec<Outbound>,
    pub seen: Vec<Seen>,
    pub tries: Tries,
    complaints: Vec<String>,
    more_complaints: usize,
}

/// The books, open to all who write in them.
#[derive(Default)]
pub struct Ledger(Mutex<Books>);

impl Ledger {
    pub fn books(&self) -> MutexGuard<'_, Books> {
        // Every entry is one push.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is not as promised.
    pub fn complain(&self, complaint: impl Into<String>) {
        let mut books = self.books();
        if books.complaints.len() < COMPLAINTS {
            books.complaints.push(complaint.into());
        } else {
            books.more_complaints += 1;
        }
    }
}

impl Books {
    /// What was not as promised.
    pub fn complaints(&self) -> (&[String], usize) {
        (&self.complaints, self.more_complaints)
    }

    /// Clears what a round has settled.
    pub fn close_round(&mut self) {
        self.inbound.clear();
        self.outbound.clear();
        self.seen.clear();
    }
}
