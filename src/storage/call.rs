//! Calls as they are kept.

use std::time::SystemTime;

use bytes::Bytes;

use crate::domain::ids::InstanceNumber;

/// A call as it is kept. Its key is (instance, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// WhatsApp's id.
    pub call_id: String,
    /// JID of whoever sent it, as WhatsApp addressed them: whom an answer goes to.
    pub peer: String,
    /// JID of the device that calls, as WhatsApp addressed it.
    pub creator: String,
    /// When it was first heard of.
    pub time: SystemTime,
    /// Its end is still to be told.
    pub open: bool,
    /// Number of the `wagate.v1.CallState` to be told if nothing else is heard; 0 where none is known.
    pub verdict: i32,
    /// Text still to be sent to the caller; empty is none.
    pub answer: String,
    /// The encoded `wagate.v1.Call`.
    pub body: Bytes,
}

/// Which calls are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallQuery {
    /// Those whose end is still to be told.
    Open,
    /// Those whose caller is still to be sent a text.
    Unanswered,
}
