//! Requests for money, as they are kept.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;

use super::{MessagePlace, MessageRow, NewEvent};
use crate::domain::ids::InstanceNumber;

/// A request for money. Its key is that of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// WhatsApp's id of its message.
    pub message_id: String,
    /// The chat's JID as WhatsApp addressed it.
    pub chat: String,
    /// The writer's JID as WhatsApp addressed it, without a device.
    pub sender: String,
    /// When it was written.
    pub time: SystemTime,
    /// Number of `wagate.v1.PaymentState`, but for EXPIRED.
    pub state: i32,
    /// When it ends.
    pub expire_time: Option<SystemTime>,
    /// The encoded `wagate.v1.Payment`.
    pub body: Bytes,
}

/// What a message does to requests for money, in the transaction that stores it.
#[derive(Clone, Debug)]
pub enum PaymentStep {
    /// It is one.
    Begin(Box<PaymentRow>, Earlier),
    /// It answers one.
    Answer(PaymentAnswer),
}

/// What a stored message, older than the request that it answers, does to it.
#[derive(Clone)]
pub struct Earlier(pub Arc<AnswerOf>);

/// See [`Earlier`].
pub type AnswerOf = dyn Fn(&MessageRow) -> Option<PaymentAnswer> + Send + Sync;

impl std::fmt::Debug for Earlier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Earlier")
    }
}

/// An answer to a request for money.
#[derive(Clone)]
pub struct PaymentAnswer {
    /// WhatsApp's id of the request.
    pub message_id: String,
    /// The chats that it may lie in: one by several names.
    pub chats: Vec<String>,
    /// Makes of the request what it is afterwards: called with each that has this id, until one changes; with `None`
    /// if there is none. May be called more than once.
    pub apply: Arc<ApplyAnswer>,
}

/// See [`PaymentAnswer`].
pub type ApplyAnswer = dyn Fn(Option<&PaymentRow>) -> Answered + Send + Sync;

impl std::fmt::Debug for PaymentAnswer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("PaymentAnswer")
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

/// What came of an answer.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// The request as it is afterwards: same key; `None` leaves it.
    pub row: Option<PaymentRow>,
    /// What the log says of it.
    pub events: Vec<NewEvent>,
}

/// Which requests a caller wants.
#[derive(Clone, Debug)]
pub struct PaymentQuery {
    /// Whose.
    pub instance: InstanceNumber,
    /// Only of a chat, by all its names.
    pub chats: Option<Vec<String>>,
    /// Only with this number of a state.
    pub state: Option<i32>,
    /// Only those whose time is over by then, or is not.
    pub is_over: Option<(bool, SystemTime)>,
    /// Only older than this.
    pub before: Option<MessagePlace>,
    /// Most rows.
    pub limit: usize,
}
