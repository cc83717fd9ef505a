//! Requests for money, and answers to them.

use whatsapp_rust::{
    Jid,
    buffa::MessageField,
    waproto::whatsapp::{self as wa, message},
};

use super::kinds::{seconds, some};
use crate::{domain::currency::Amount, proto::v1};

/// A request for money; `None` where WhatsApp can't carry the amount. Both forms of the amount are written, because
/// older phones know one and newer ones the other. What goes around a message goes around its note.
pub fn request(
    request: &v1::PaymentRequestContent,
    payer: &Jid,
    context: Option<wa::ContextInfo>,
) -> Option<wa::Message> {
    let money = request.amount.as_ref()?;
    let amount = Amount::new(money.minor_units, money.exponent?)?;
    let note = (!request.note.is_empty() || context.is_some()).then(|| wa::Message {
        extended_text_message: MessageField::some(message::ExtendedTextMessage {
            text: Some(request.note.clone()),
            context_info: context.into(),
            ..Default::default()
        }),
        ..Default::default()
    });
    let request = message::RequestPaymentMessage {
        note_message: note.into(),
        currency_code_iso4217: some(&money.currency),
        amount1000: Some(amount.thousandths().ok()?),
        request_from: Some(payer.to_string()),
        expiry_timestamp: seconds(request.expire_time.as_ref()),
        amount: MessageField::some(wa::Money {
            value: Some(amount.units()),
            offset: Some(amount.divisor()),
            currency_code: some(&money.currency),
        }),
        ..Default::default()
    };
    Some(wa::Message {
        request_payment_message: MessageField::some(request),
        ..Default::default()
    })
}

/// Declines the request that has this key.
pub fn decline(key: wa::MessageKey) -> wa::Message {
    wa::Message {
        decline_payment_request_message: MessageField::some(
            message::DeclinePaymentRequestMessage {
                key: MessageField::some(key),
            },
        ),
        ..Default::default()
    }
}

/// Takes back the request that has this key.
pub fn cancel(key: wa::MessageKey) -> wa::Message {
    wa::Message {
        cancel_payment_request_message: MessageField::some(message::CancelPaymentRequestMessage {
            key: MessageField::some(key),
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::currency,
        proto::v1::message_content::Content,
        wa::convert::{context, inbound, outbound},
    };

    fn asking(money: v1::Money) -> v1::PaymentRequestContent {
        v1::PaymentRequestContent {
            amount: Some(money),
            note: "for tea".to_owned(),
            payer: None,
            expire_time: Some(pbjson_types::Timestamp {
                seconds: 1_900_000_000,
                nanos: 0,
            }),
        }
    }

    fn understood(message: &wa::Message) -> v1::PaymentRequestContent {
        match inbound::content(message, &Default::default()) {
            Some(Content::PaymentRequest(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_goes_around_a_request_goes_around_its_note() {
        let money = v1::Money {
            currency: "BRL".to_owned(),
            minor_units: 1_050,
            exponent: Some(2),
        };
        let around = wa::ContextInfo {
            expiration: Some(60),
            stanza_id: Some("3EB0A".to_owned()),
            ..Default::default()
        };
        let payer = Jid::pn("15550002222");
        for note in ["for tea", ""] {
            let asking = v1::PaymentRequestContent {
                note: note.to_owned(),
                ..asking(money.clone())
            };
            let message = request(&asking, &payer, Some(around.clone())).unwrap();
            assert_eq!(context::of(&message), Some(&around));
            assert_eq!(context::quoted_id(&message), Some("3EB0A"));
            let told = understood(&message);
            assert_eq!(told.payer.unwrap().phone_number, "15550002222");
            assert_eq!((told.note, told.amount), (asking.note, asking.amount));
            assert_eq!(told.expire_time, asking.expire_time);
        }
        let bare = v1::PaymentRequestContent {
            note: String::new(),
            ..asking(money)
        };
        let message = request(&bare, &payer, None).unwrap();
        let message = message.request_payment_message.as_option().unwrap();
        assert!(!message.note_message.is_set());
    }

    proptest! {
        /// Whatever amount of whatever currency leaves comes out as it was, by either form.
        #[test]
        fn an_amount_arrives_as_it_left(
            units in 1..=i64::MAX,
            currency in prop::sample::select(vec!["JPY", "BRL", "KWD", "CLF"]),
        ) {
            let exponent = currency::places(currency);
            let money = v1::Money { currency: currency.to_owned(), minor_units: units, exponent };
            let sent = request(&asking(money.clone()), &Jid::pn("15550002222"), None);
            let fits = Amount::new(units, exponent.unwrap()).unwrap().thousandths().is_ok();
            prop_assert_eq!(sent.is_some(), fits);
            if let Some(sent) = sent {
                let mut sent = outbound::decode(&outbound::encode(&sent)).unwrap();
                prop_assert_eq!(understood(&sent).amount, Some(money.clone()));
                let older = sent.request_payment_message.as_option_mut().unwrap();
                older.amount = MessageField::none();
                prop_assert_eq!(understood(&sent).amount, Some(money));
            }
        }

        /// Nothing that a sender writes as an amount makes a panic, or a negative amount.
        #[test]
        fn any_amount_is_understood_or_left_out(
            value in any::<Option<i64>>(),
            offset in any::<Option<u32>>(),
            amount1000 in any::<Option<u64>>(),
            currency in "\\PC{0,4}|[a-zA-Z]{3}",
        ) {
            let message = wa::Message {
                request_payment_message: MessageField::some(message::RequestPaymentMessage {
                    currency_code_iso4217: Some(currency.clone()),
                    amount1000,
                    amount: MessageField::some(wa::Money { value, offset, currency_code: Some(currency) }),
                    ..Default::default()
                }),
                ..Default::default()
            };
            if let Some(amount) = understood(&message).amount {
                prop_assert!(amount.minor_units >= 0);
                prop_assert_eq!(amount.currency.len(), 3);
            }
        }
    }
}
