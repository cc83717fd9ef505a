//! What becomes of requests for money.
//!
//! Owns who may do what to one, and when: only its payer declines it, only its writer takes it back, each as long as
//! it is open; a cancelled one stays cancelled. Makes steps that the store takes in one transaction with the message
//! that causes them. Looks nothing up, and knows nothing of money itself: what is reported as paid is a report.

use std::{sync::Arc, time::SystemTime};

use prost::Message as _;

use super::convert::{ids::is_same, rows};
use crate::{
    events::{self, system_time, timestamp},
    proto::v1::{self, PaymentState, event::Payload, message_content::Content},
    storage::{
        Effects, InstanceRow, MessageRow, NewEvent, StorageError,
        payment::{Answered, Earlier, PaymentAnswer, PaymentRow, PaymentStep},
    },
};

/// What a message does to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Declines it.
    Decline,
    /// Takes it back.
    Cancel,
    /// Says that it is paid.
    Pay,
}

/// What the log says of a message about money beside that it is there, and what it does to requests. Of one that the
/// account sends, once WhatsApp has it.
pub(super) fn effects(instance: &InstanceRow, row: &MessageRow, message: &v1::Message) -> Effects {
    let mut effects = Effects::default();
    let content = message.content.as_ref();
    match content.and_then(|content| content.content.as_ref()) {
        Some(Content::PaymentRequest(request)) => {
            let payment = begun(instance, message, request);
            let payload = Payload::PaymentRequested(v1::PaymentRequested {
                payment: Some(payment.clone()),
            });
            effects
                .events
                .push(told(instance, message, row.time, payload));
            let kept = PaymentRow {
                instance: row.instance,
                message_id: row.message_id.clone(),
                chat: row.chat.clone(),
                sender: row.sender.clone(),
                time: row.time,
                state: payment.state,
                expire_time: payment.expire_time.as_ref().and_then(system_time),
                body: payment.encode_to_vec().into(),
            };
            let earlier = earlier(instance, row, &payment);
            effects
                .payments
                .push(PaymentStep::Begin(Box::new(kept), earlier));
        }
        Some(content) => match Answer::of(instance, row, message, content) {
            Some(answer) if answer.payment_id.is_empty() => {
                effects.events.extend(answer.apply(None).events);
            }
            Some(answer) => {
                effects
                    .payments
                    .push(PaymentStep::Answer(answer.into_step(chats(row, message))));
            }
            None => {}
        },
        None => {}
    }
    effects
}

/// The request as it begins.
fn begun(
    instance: &InstanceRow,
    message: &v1::Message,
    request: &v1::PaymentRequestContent,
) -> v1::Payment {
    let chat = message.chat.clone().unwrap_or_default();
    let payer = match (chat.kind(), message.from_me) {
        // Between two it can be nobody else, whoever is named.
        (v1::ChatKind::Direct, true) => chat.party.clone(),
        (v1::ChatKind::Direct, false) => Some(rows::account(instance)),
        _ => request.payer.clone(),
    };
    let direction = if message.from_me {
        v1::PaymentDirection::Sent
    } else {
        v1::PaymentDirection::Received
    };
    v1::Payment {
        id: message.id.clone(),
        instance: message.instance.clone(),
        chat: Some(chat),
        direction: direction.into(),
        requester: message.sender.clone(),
        payer,
        amount: request.amount.clone(),
        note: request.note.clone(),
        state: PaymentState::Requested.into(),
        request_time: message.message_time,
        expire_time: request.expire_time,
        update_time: message.message_time,
        answer_message_id: String::new(),
    }
}

/// What the chat of a message is called, by all names that are known.
fn chats(row: &MessageRow, message: &v1::Message) -> Vec<String> {
    let party = message.chat.as_ref().and_then(|chat| chat.party.as_ref());
    let names = party.into_iter().flat_map(|party| [&party.jid, &party.lid]);
    let others = names.filter(|name| !name.is_empty() && **name != row.chat);
    std::iter::once(&row.chat).chain(others).cloned().collect()
}

/// What messages that were stored before a request do to it.
fn earlier(instance: &InstanceRow, request: &MessageRow, payment: &v1::Payment) -> Earlier {
    let (instance, chat) = (instance.clone(), request.chat.clone());
    let party = payment.chat.as_ref().and_then(|chat| chat.party.clone());
    Earlier(Arc::new(move |early| {
        if early.status < v1::MessageStatus::Sent as i32 {
            // It can't be read yet, or WhatsApp has not taken it.
            return None;
        }
        let message = rows::message(early).ok()?;
        let theirs = message.chat.as_ref().and_then(|chat| chat.party.as_ref());
        let same = early.chat == chat
            || theirs
                .zip(party.as_ref())
                .is_some_and(|(one, other)| is_same(one, other));
        let content = message.content.as_ref()?.content.as_ref()?;
        let answer = Answer {
            is_told: true,
            ..Answer::of(&instance, early, &message, content)?
        };
        same.then(|| answer.into_step(vec![chat.clone()]))
    }))
}

/// A message that does something to a request.
struct Answer {
    instance: InstanceRow,
    act: Act,
    payment_id: String,
    note: String,
    message: v1::Message,
    time: SystemTime,
    /// It was stored before its request: what the log says of a payment by itself, it has said.
    is_told: bool,
}

impl Answer {
    fn of(
        instance: &InstanceRow,
        row: &MessageRow,
        message: &v1::Message,
        content: &Content,
    ) -> Option<Self> {
        let (act, payment_id, note) = match content {
            Content::PaymentDeclined(one) => (Act::Decline, &one.payment_id, ""),
            Content::PaymentCancelled(one) => (Act::Cancel, &one.payment_id, ""),
            Content::PaymentSent(one) => (Act::Pay, &one.payment_id, one.note.as_str()),
            _ => return None,
        };
        Some(Self {
            instance: instance.clone(),
            act,
            payment_id: payment_id.clone(),
            note: note.to_owned(),
            message: message.clone(),
            time: row.time,
            is_told: false,
        })
    }

    fn into_step(self, chats: Vec<String>) -> PaymentAnswer {
        PaymentAnswer {
            message_id: self.payment_id.clone(),
            chats,
            apply: Arc::new(move |found| self.apply(found)),
        }
    }

    fn apply(&self, found: Option<&PaymentRow>) -> Answered {
        let known = found.and_then(|row| v1::Payment::decode(row.body.clone()).ok());
        let moved = known.as_ref().and_then(|known| self.moved(known));
        let row = found.zip(moved.as_ref()).map(|(row, payment)| PaymentRow {
            state: payment.state,
            body: payment.encode_to_vec().into(),
            ..row.clone()
        });
        let payload = match self.act {
            Act::Decline => moved.map(|payment| {
                let payment = Some(payment);
                Payload::PaymentDeclined(v1::PaymentDeclined { payment })
            }),
            Act::Cancel => moved.map(|payment| {
                let payment = Some(payment);
                Payload::PaymentCancelled(v1::PaymentCancelled { payment })
            }),
            Act::Pay => (!self.is_told).then(|| {
                Payload::PaymentSent(v1::PaymentSent {
                    message_id: self.message.id.clone(),
                    chat: self.message.chat.clone(),
                    sender: self.message.sender.clone(),
                    from_me: self.message.from_me,
                    payment_id: self.payment_id.clone(),
                    note: self.note.clone(),
                    payment: moved.or_else(|| known.map(|known| as_of(known, self.time))),
                })
            }),
        };
        let event = payload.map(|payload| told(&self.instance, &self.message, self.time, payload));
        Answered {
            row,
            events: event.into_iter().collect(),
        }
    }

    /// The request after this; `None` where it may not do that.
    fn moved(&self, payment: &v1::Payment) -> Option<v1::Payment> {
        let sender = self.message.sender.as_ref()?;
        let is = |other: &Option<v1::Party>| other.as_ref().is_some_and(|one| is_same(one, sender));
        let now = as_of(payment.clone(), self.time).state();
        let state = match (self.act, now) {
            (Act::Decline, PaymentState::Requested) if is(&payment.payer) => PaymentState::Declined,
            (Act::Cancel, PaymentState::Requested) if is(&payment.requester) => {
                PaymentState::Cancelled
            }
            (Act::Pay, PaymentState::Requested | PaymentState::Expired)
                if is(&payment.payer) || (payment.payer.is_none() && !is(&payment.requester)) =>
            {
                PaymentState::PaidReported
            }
            _ => return None,
        };
        Some(v1::Payment {
            state: state.into(),
            update_time: Some(timestamp(self.time)),
            answer_message_id: self.message.id.clone(),
            ..payment.clone()
        })
    }
}

fn told(
    instance: &InstanceRow,
    message: &v1::Message,
    time: SystemTime,
    payload: Payload,
) -> NewEvent {
    let dedupe_key = format!("payment/{}", message.id);
    events::compose(instance, payload, time, &dedupe_key)
}

/// A request as it was, or is, at this time: its end needs no message.
fn as_of(mut payment: v1::Payment, time: SystemTime) -> v1::Payment {
    let end = payment.expire_time.as_ref().and_then(system_time);
    if payment.state() == PaymentState::Requested && end.is_some_and(|end| end <= time) {
        payment.state = PaymentState::Expired.into();
        payment.update_time = payment.expire_time;
    }
    payment
}

/// A request for callers, as it is at this time.
pub fn resource(row: &PaymentRow, time: SystemTime) -> Result<v1::Payment, StorageError> {
    let payment = v1::Payment::decode(row.body.clone())
        .map_err(|error| StorageError::Corrupt(error.into()))?;
    Ok(as_of(payment, time))
}

/// Who may do this to a request.
pub(super) fn allowed(payment: &v1::Payment, act: Act) -> Option<&v1::Party> {
    match act {
        Act::Decline | Act::Pay => payment.payer.as_ref(),
        Act::Cancel => payment.requester.as_ref(),
    }
}
