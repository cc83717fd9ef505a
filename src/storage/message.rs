//! Messages as they are kept, what comes of them, and which are wanted.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;

use super::{NewEvent, payment::PaymentStep, send::SendRow};
use crate::domain::ids::{InstanceNumber, MediaId};

/// A message as it is kept. Its key is (instance, chat, sender, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// The chat's JID as WhatsApp addressed it.
    pub chat: String,
    /// The writer's JID as WhatsApp addressed it, without a device.
    pub sender: String,
    /// WhatsApp's id.
    pub message_id: String,
    /// Written by the account.
    pub from_me: bool,
    /// Handed to us by a caller and to be sent by us.
    pub outbound: bool,
    /// When it was written.
    pub time: SystemTime,
    /// Number of `wagate.v1.MessageStatus`; 0 stands in for a message that can't be read yet.
    pub status: i32,
    /// The status before the last rise; the same as `status` where it has not risen.
    pub previous_status: i32,
    /// WhatsApp's reason for an error.
    pub status_reason: String,
    /// The encoded `wagate.v1.Message`; its status is that of this row, not that in the bytes.
    pub body: Bytes,
    /// WhatsApp's own encoding of the content, for quoting, forwarding and sending again.
    pub raw: Bytes,
    /// WhatsApp's id of the message that it does something to; empty if it stands for itself.
    pub target: String,
    /// Stands for itself in a list of messages.
    pub listed: bool,
    /// What it can be found by.
    pub words: String,
    /// The account has starred it.
    pub starred: bool,
    /// The account has deleted it for itself: nobody is shown it, and it does not come back.
    pub hidden: bool,
}

/// What comes of storing a message.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// What the log says of it.
    pub events: Vec<NewEvent>,
    /// What it changes.
    pub changes: Vec<MessageChange>,
    /// What it does to requests for money.
    pub payments: Vec<PaymentStep>,
}

/// A message to be stored, with what comes of it.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// The message.
    pub row: MessageRow,
    /// What comes of it where it is new.
    pub effects: Effects,
    /// What messages that were stored before it do to it.
    pub late: Option<Late>,
}

impl MessageRecord {
    /// A message that changes no other one.
    pub fn new(row: MessageRow, events: Vec<NewEvent>) -> Self {
        let effects = Effects {
            events,
            ..Effects::default()
        };
        Self {
            row,
            effects,
            late: None,
        }
    }
}

/// See [`Late`].
pub type ChangeOf = dyn Fn(&MessageRow) -> Option<MessageChange> + Send + Sync;

/// What a message, stored before the one that it does something to, does now that this has come; `None`
/// if it does nothing. May be called more than once.
#[derive(Clone)]
pub struct Late(pub Arc<ChangeOf>);

impl std::fmt::Debug for Late {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Late")
    }
}

/// Makes a change of a message as it is now; `None` where it is not stored.
pub type Apply = Arc<dyn Fn(Option<&MessageRow>) -> Changed + Send + Sync>;

/// A change of a stored message by another one, in the same transaction.
#[derive(Clone)]
pub struct MessageChange {
    /// WhatsApp's id of the message to change.
    pub message_id: String,
    /// The chats that it may lie in: one by several names.
    pub chats: Vec<String>,
    /// Makes the change of the message as it is now: called with each that has this id, until one
    /// changes; with `None` if there is none. May be called more than once.
    pub apply: Apply,
}

impl std::fmt::Debug for MessageChange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MessageChange")
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

/// What came of applying a change.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// The message as it is afterwards: same key; `None` leaves it.
    pub row: Option<MessageRow>,
    /// What the log says of it.
    pub events: Vec<NewEvent>,
    /// The media that it no longer has: its bytes go, unless another message has had it too.
    pub released: Option<MediaId>,
}

/// Makes what comes of a message's new status from the row as it is after it, inside the
/// transaction. May be called more than once; only the result of the last call is committed.
pub type EffectsOf = Box<dyn Fn(&MessageRow) -> Effects + Send + Sync>;

/// Where a message stands among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePlace {
    /// When it was written.
    pub time: SystemTime,
    /// The order in which it was stored.
    pub number: i64,
}

/// Which messages a caller wants.
#[derive(Clone, Debug)]
pub struct MessageQuery {
    /// Whose.
    pub instance: InstanceNumber,
    /// Only of a chat, by all its names.
    pub chats: Option<Vec<String>>,
    /// Only with all of these words.
    pub words: Option<String>,
    /// Also those that only do something to others.
    pub actions: bool,
    /// Only those that are starred.
    pub starred: bool,
    /// Only older than this.
    pub before: Option<MessagePlace>,
    /// Most rows.
    pub limit: usize,
}

/// What was told of messages that the account wrote.
#[derive(Clone, Debug)]
pub struct StatusRise {
    /// WhatsApp's ids of the messages.
    pub message_ids: Vec<String>,
    /// Number of `wagate.v1.MessageStatus`.
    pub status: i32,
    /// WhatsApp's reason for an error.
    pub reason: String,
    /// The JID of the one whose receipt it is.
    pub party: Option<String>,
}

/// What came of accepting a message to send.
#[derive(Clone, Debug)]
pub enum AcceptOutcome {
    /// Stored; to be sent.
    Accepted,
    /// The request id was used before with the same body: this is its message.
    Replayed(Box<MessageRow>),
    /// The same, and this is its send, which still waits.
    Waits(Box<SendRow>),
    /// Too many wait already: nothing is stored.
    Full,
    /// The request id was used before with another body, which differs in these fields.
    Reused(Vec<String>),
    /// It is that of a recipient of a mailing list whose turn it is not: paused, deleted, or done before.
    Withdrawn,
    /// It is that of a recipient of a mailing list who has another turn under another name.
    Twice,
}
