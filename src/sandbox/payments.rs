//! Money on simulated phones: requests for it, answers to them, and what a phone says of a payment. No money moves.
//!
//! Owns what these messages look like, as plain as phones write them: no stanza of its own goes with them. Whether a
//! phone may do what it does is for others to judge.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{Message, Money, message},
};

use super::{
    Sandbox,
    address::Number,
    error::SandboxError,
    messages::Chat,
    phone::{
        inbox::{InboxMessage, text_of},
        send::SentText,
    },
};

/// What the amounts of a phone are to be divided by.
const MILLE: u32 = 1_000;

/// A request for money, as a phone asks or shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PhonePayment {
    /// Its currency, such as `BRL`.
    pub currency: String,
    /// How much, in thousandths.
    pub thousandths: u64,
    /// Text with it.
    pub note: String,
    /// Who is to pay: in a request of a phone, nobody means the other side of a direct chat.
    pub payer: Option<Number>,
    /// When it ends.
    pub expire_time: Option<SystemTime>,
}

/// What a message on a phone's screen is about, where that is money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoneyMessage {
    /// Somebody asks for it.
    Request(PhonePayment),
    /// The request with this id is declined.
    Declined(String),
    /// The request with this id is taken back.
    Cancelled(String),
    /// Somebody says that they paid; with the id of the request, if it is for one.
    Sent(Option<String>),
}

impl Sandbox {
    /// A phone asks for money.
    pub async fn request_payment(
        &self,
        phone: Number,
        chat: Chat,
        payment: PhonePayment,
    ) -> Result<SentText, SandboxError> {
        let payer = match (chat, payment.payer) {
            (_, Some(payer)) => payer,
            (Chat::User(to), None) => to,
            _ => return Err(SandboxError::invalid("payer", "say who is to pay")),
        };
        let namespace = self.namespace(phone, chat)?;
        let note = (!payment.note.is_empty()).then(|| text(payment.note));
        let value = i64::try_from(payment.thousandths)
            .map_err(|_| SandboxError::invalid("amount_thousandths", "is too much"))?;
        let request = message::RequestPaymentMessage {
            note_message: note.into(),
            currency_code_iso4217: Some(payment.currency.clone()),
            amount1000: Some(payment.thousandths),
            request_from: Some(self.called(payer, namespace)?.to_string()),
            expiry_timestamp: payment.expire_time.map(seconds),
            amount: MessageField::some(Money {
                value: Some(value),
                offset: Some(MILLE),
                currency_code: Some(payment.currency),
            }),
            ..Default::default()
        };
        let message = Message {
            request_payment_message: MessageField::some(request),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// A phone declines a request in its inbox.
    pub async fn decline_payment(
        &self,
        phone: Number,
        chat: Chat,
        request_id: &str,
    ) -> Result<SentText, SandboxError> {
        let (_, key) = self.target(phone, chat, request_id)?;
        let answer = message::DeclinePaymentRequestMessage {
            key: MessageField::some(key),
        };
        let message = Message {
            decline_payment_request_message: MessageField::some(answer),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// A phone takes back a request in its inbox.
    pub async fn cancel_payment(
        &self,
        phone: Number,
        chat: Chat,
        request_id: &str,
    ) -> Result<SentText, SandboxError> {
        let (_, key) = self.target(phone, chat, request_id)?;
        let answer = message::CancelPaymentRequestMessage {
            key: MessageField::some(key),
        };
        let message = Message {
            cancel_payment_request_message: MessageField::some(answer),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// A phone says that it has paid: for a request in its inbox, or for none.
    pub async fn report_payment(
        &self,
        phone: Number,
        chat: Chat,
        request_id: Option<&str>,
        note: &str,
    ) -> Result<SentText, SandboxError> {
        let key = request_id
            .map(|id| self.target(phone, chat, id))
            .transpose()?;
        let note = (!note.is_empty()).then(|| text(note.to_owned()));
        let sent = message::SendPaymentMessage {
            note_message: note.into(),
            request_message_key: key.map(|(_, key)| key).into(),
            ..Default::default()
        };
        let message = Message {
            send_payment_message: MessageField::some(sent),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// What a message in an inbox says of money, as the phone shows it.
    pub fn money_in(&self, seen: &InboxMessage) -> Option<MoneyMessage> {
        let message = Message::decode_from_slice(&seen.message).ok()?;
        let id = |key: &MessageField<waproto::whatsapp::MessageKey>| key.as_option()?.id.clone();
        if let Some(request) = message.request_payment_message.as_option() {
            return Some(MoneyMessage::Request(self.shown(request)));
        }
        if let Some(answer) = message.decline_payment_request_message.as_option() {
            return id(&answer.key).map(MoneyMessage::Declined);
        }
        if let Some(answer) = message.cancel_payment_request_message.as_option() {
            return id(&answer.key).map(MoneyMessage::Cancelled);
        }
        let sent = message.send_payment_message.as_option()?;
        Some(MoneyMessage::Sent(id(&sent.request_message_key)))
    }

    fn shown(&self, request: &message::RequestPaymentMessage) -> PhonePayment {
        let note = request.note_message.as_option();
        let payer = request.request_from.as_deref();
        let end = request
            .expiry_timestamp
            .and_then(|end| u64::try_from(end).ok());
        PhonePayment {
            currency: request.currency_code_iso4217.clone().unwrap_or_default(),
            thousandths: request.amount1000.unwrap_or_default(),
            note: note.and_then(text_of).unwrap_or_default(),
            payer: payer.and_then(|payer| self.resolve(payer).ok()),
            expire_time: end
                .filter(|end| *end > 0)
                .and_then(|end| UNIX_EPOCH.checked_add(Duration::from_secs(end))),
        }
    }
}

fn text(text: String) -> Message {
    Message {
        extended_text_message: MessageField::some(message::ExtendedTextMessage {
            text: Some(text),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().try_into().unwrap_or(i64::MAX)
}
