//! Sends that wait: accepted under their WhatsApp id, but no messages yet.
//!
//! A row goes in the transaction that stores its message, sent or failed, so each becomes exactly one message.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::domain::ids::InstanceNumber;

/// A send to be stored.
#[derive(Clone, Debug)]
pub struct NewSend {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// WhatsApp's id, chosen already.
    pub message_id: String,
    /// To whom: a number, `…@lid`, or `…@g.us`.
    pub recipient: String,
    /// Its delay begins then, or later if others for the same recipient are before it.
    pub not_before: SystemTime,
    /// How long it is held back after that.
    pub delay: Duration,
    /// How long before it is due something is shown.
    pub shown: Duration,
    /// It has a time of its own: until then it is before no other one, and behind none.
    pub scheduled: bool,
    /// When it ends if it has not left.
    pub expire_time: SystemTime,
    /// Now.
    pub create_time: SystemTime,
    /// What is to be sent.
    pub body: Bytes,
    /// Most sends of the instance that may wait.
    pub most: usize,
}

impl NewSend {
    /// As it is kept if nothing for the same recipient is before it, under no number yet.
    pub fn as_it_waits(&self) -> SendRow {
        let later = |time: SystemTime, by| time.checked_add(by).unwrap_or(time);
        let due_time = later(self.not_before, self.delay);
        SendRow {
            instance: self.instance,
            message_id: self.message_id.clone(),
            number: 0,
            recipient: self.recipient.clone(),
            person: self.recipient.clone(),
            begin_time: due_time.checked_sub(self.shown).unwrap_or(due_time),
            due_time,
            expire_time: self.expire_time,
            create_time: self.create_time,
            body: self.body.clone(),
        }
    }
}

/// A send as it is kept. Its key is (instance, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// WhatsApp's id.
    pub message_id: String,
    /// The order in which they were accepted.
    pub number: i64,
    /// As in [`NewSend`].
    pub recipient: String,
    /// The one text for the recipient, whichever of their names that is: among those with the same the order is
    /// kept. It changes when a number and a hidden identity turn out to be one.
    pub person: String,
    /// When something begins to be shown; when it is due if nothing is.
    pub begin_time: SystemTime,
    /// When it is to leave.
    pub due_time: SystemTime,
    /// When it ends if it has not left.
    pub expire_time: SystemTime,
    /// When it was accepted.
    pub create_time: SystemTime,
    /// What is to be sent.
    pub body: Bytes,
}

/// Which sends are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendQuery {
    /// The first of each person, if it is due by then or something is to be shown; the longest due first.
    Begun(SystemTime),
    /// Those that have ended by then, in the order in which they were accepted.
    Expired(SystemTime),
    /// All after this number, in the order in which they were accepted.
    After(i64),
}
