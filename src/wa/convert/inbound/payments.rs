//! Requests for money, answers to them, and what phones say of payments.

use whatsapp_rust::{
    Jid,
    waproto::whatsapp::{self as wa, message},
};

use super::{actions, key_id, long, peel::peel, polls::millis};
use crate::{
    domain::currency::{self, Amount},
    proto::v1::{self, message_content::Content},
    wa::convert::ids::Names,
};

/// A request for money.
pub fn request(request: &message::RequestPaymentMessage, names: &Names) -> Content {
    let payer = request.request_from.as_deref().and_then(actions::person);
    Content::PaymentRequest(v1::PaymentRequestContent {
        amount: amount(request),
        note: text(request.note_message.as_option()),
        payer: payer.map(|jid| names.party(&jid, "")),
        expire_time: request.expiry_timestamp.and_then(millis),
    })
}

/// Who is asked for money, where the message says so.
pub fn asked(message: &wa::Message) -> Option<Jid> {
    let request = peel(message).message.request_payment_message.as_option()?;
    actions::person(request.request_from.as_deref()?)
}

/// A request is declined.
pub fn declined(answer: &message::DeclinePaymentRequestMessage) -> Content {
    Content::PaymentDeclined(v1::PaymentDeclinedContent {
        payment_id: key_id(answer.key.as_option()),
    })
}

/// A request is taken back.
pub fn cancelled(answer: &message::CancelPaymentRequestMessage) -> Content {
    Content::PaymentCancelled(v1::PaymentCancelledContent {
        payment_id: key_id(answer.key.as_option()),
    })
}

/// Money was sent, says the sender's phone. What the payment service needs of it stays in the stored form.
pub fn sent(payment: &message::SendPaymentMessage) -> Content {
    Content::PaymentSent(v1::PaymentSentContent {
        payment_id: key_id(payment.request_message_key.as_option()),
        note: text(payment.note_message.as_option()),
    })
}

/// An invitation to a payment service.
pub fn invite(invite: &message::PaymentInviteMessage) -> Content {
    use message::payment_invite_message::ServiceType;
    let provider = match invite.service_type {
        Some(ServiceType::FBPAY) => v1::PaymentProvider::Fbpay,
        Some(ServiceType::NOVI) => v1::PaymentProvider::Novi,
        Some(ServiceType::UPI) => v1::PaymentProvider::Upi,
        Some(ServiceType::UNKNOWN) | None => v1::PaymentProvider::Unspecified,
    };
    Content::PaymentInvite(v1::PaymentInviteContent {
        provider: provider.into(),
        expire_time: invite.expiry_timestamp.and_then(millis),
    })
}

/// The text that goes with money is a message of its own.
pub fn note(message: &wa::Message) -> Option<&wa::Message> {
    let request = message.request_payment_message.as_option();
    let sent = message.send_payment_message.as_option();
    let note = request
        .and_then(|request| request.note_message.as_option())
        .or_else(|| sent?.note_message.as_option())?;
    Some(peel(note).message)
}

fn text(note: Option<&wa::Message>) -> String {
    let Some(note) = note.map(|note| peel(note).message) else {
        return String::new();
    };
    let extended = note.extended_text_message.as_option();
    let text = note.conversation.as_ref();
    long(text.or_else(|| extended?.text.as_ref()))
}

/// The newer form of an amount names its divisor; the older one is in thousandths.
fn amount(request: &message::RequestPaymentMessage) -> Option<v1::Money> {
    let older = request.currency_code_iso4217.as_deref();
    let newer = request.amount.as_option().and_then(|money| {
        let amount = Amount::of_fraction(money.value?, money.offset?)?;
        Some((amount, money.currency_code.as_deref().or(older)?))
    });
    let (amount, currency) = match newer {
        Some(newer) => newer,
        None => (Amount::of_thousandths(request.amount1000?)?, older?),
    };
    let currency = currency.to_ascii_uppercase();
    if currency.len() != 3 || !currency.bytes().all(|one| one.is_ascii_uppercase()) {
        return None;
    }
    let amount = match currency::places(&currency) {
        Some(places) => amount.with_places(places),
        None => amount,
    };
    Some(v1::Money {
        currency,
        minor_units: amount.units(),
        exponent: Some(amount.places()),
    })
}
