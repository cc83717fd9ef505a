//! Who can be asked for what: in groups, by field, and phones over gRPC.

use wagate::proto::sandbox_v1::{self as sandbox, send_message_request::Content as Said};

use super::*;
use crate::support::violated_field;

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_only_the_payer_declines() {
    for by_lid in [false, true] {
        let mut scene = Scene::new().await;
        let eve = scene.stage.phone("Eve").await;
        let stranger = scene.stage.phone("Sam").await;
        let (group, jid) = scene.group(by_lid, &[eve.number]).await;
        let network = scene.stage.network.clone();
        let ask = |payer: &str| v1::RequestPaymentRequest {
            payer: payer.to_owned(),
            ..asking(&jid, 1_050)
        };
        for (payer, field) in [
            (String::new(), "payer"),
            (scene.instance.phone_number.clone(), "payer"),
            (stranger.number.to_string(), "payer"),
        ] {
            let refused = scene.try_ask(ask(&payer)).await.unwrap_err();
            assert_eq!(info(&refused), "FIELD_INVALID", "{payer}");
            assert_eq!(violated_field(&refused), field);
        }
        let asked = scene.ask(ask(&eve.number.to_string())).await;
        let payer = asked.payer.clone().unwrap();
        assert_eq!(payer.phone_number, eve.number.to_string());
        match scene.shown(&eve, &asked.id).await {
            MoneyMessage::Request(shown) => assert_eq!(shown.payer, Some(eve.number)),
            other => panic!("{other:?}"),
        }
        scene.seen(&scene.peer, &asked.id).await;
        let peer = scene.peer.number;
        network
            .decline_payment(peer, group, &asked.id)
            .await
            .unwrap();
        let declined = network.decline_payment(eve.number, group, &asked.id).await;
        let payment = scene.declined_event(&asked.id).await;
        assert_eq!(payment.answer_message_id, declined.unwrap().id);

        // Somebody asks the instance, and somebody else.
        for (payer, may) in [(scene.owner.number, true), (eve.number, false)] {
            let payment = PhonePayment {
                payer: Some(payer),
                ..ten_reais()
            };
            let theirs = scene.asked_by(peer, group, payment).await;
            let payer = payer.to_string();
            assert_eq!(theirs.payer.unwrap().phone_number, payer);
            match scene.decline(&theirs.id, "").await {
                Ok((_, payment)) => {
                    assert!(may);
                    assert_eq!(payment.state(), PaymentState::Declined);
                }
                Err(refused) => {
                    assert!(!may, "{refused:?}");
                    assert_eq!(info(&refused), "PAYMENT_ROLE_REQUIRED");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_asked_for_is_refused_by_its_field() {
    let scene = Scene::new().await;
    let peer = scene.peer.number.to_string();
    let good = asking(&peer, 1_050);
    let money = |currency: &str, minor_units, exponent| v1::RequestPaymentRequest {
        amount: Some(v1::Money {
            currency: currency.to_owned(),
            minor_units,
            exponent,
        }),
        ..good.clone()
    };
    let none = v1::RequestPaymentRequest {
        amount: None,
        ..good.clone()
    };
    let past = v1::RequestPaymentRequest {
        expire_time: timestamp(SystemTime::now() - Duration::from_secs(5)),
        ..good.clone()
    };
    let third = v1::RequestPaymentRequest {
        payer: "15550009999".to_owned(),
        ..good.clone()
    };
    let own = v1::RequestPaymentRequest {
        recipient: scene.instance.phone_number.clone(),
        ..good.clone()
    };
    for (request, field) in [
        (none, "amount"),
        (money("XXX", 1, None), "amount.currency"),
        (money("brl", 1, None), "amount.currency"),
        (money("BRL", 1, Some(3)), "amount.exponent"),
        (money("BRL", 0, None), "amount.minor_units"),
        (money("BRL", -1, None), "amount.minor_units"),
        (money("BRL", i64::MAX, None), "amount.minor_units"),
        (money("CLF", 12_345, Some(4)), "amount.minor_units"),
        (past, "expire_time"),
        (third, "payer"),
        (own, "recipient"),
    ] {
        let refused = scene.try_ask(request.clone()).await.unwrap_err();
        assert_eq!(info(&refused), "FIELD_INVALID", "{request:?}");
        assert_eq!(violated_field(&refused), field, "{request:?}");
    }
    let long = v1::RequestPaymentRequest {
        note: "x".repeat(1_025),
        ..good.clone()
    };
    assert_eq!(
        info(&scene.try_ask(long).await.unwrap_err()),
        "TEXT_TOO_LONG"
    );
    // Nothing of it was stored, and what can be asked for is.
    assert_eq!(
        scene.in_state(PaymentState::Unspecified).await,
        BTreeSet::new()
    );
    for request in [
        money("JPY", 7, Some(0)),
        money("KWD", i64::MAX, None),
        money("CLF", 12_340, None),
    ] {
        let wanted = request.amount.clone().unwrap();
        let asked = scene.ask(request).await.amount.unwrap();
        assert_eq!(asked.minor_units, wanted.minor_units);
        assert!(asked.exponent.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_are_told_what_to_do_with_money_over_grpc() {
    let mut scene = Scene::new().await;
    let phone = scene.peer.number.to_string();
    let to = scene.instance.phone_number.clone();
    let mut control = scene.api.sandbox();
    let mut say = async |content| {
        let request = sandbox::SendMessageRequest {
            phone: phone.clone(),
            to: to.clone(),
            content: Some(content),
            ..Default::default()
        };
        let sent = control.send_message(request).await.unwrap();
        sent.into_inner().id
    };
    let payment = sandbox::PhonePayment {
        currency: "JPY".to_owned(),
        amount_thousandths: 7_000,
        note: "for tea".to_owned(),
        ..Default::default()
    };
    let id = say(Said::PaymentRequest(payment)).await;
    let asked = scene.requested(&id).await;
    let amount = asked.amount.unwrap();
    assert_eq!((amount.minor_units, amount.exponent), (7, Some(0)));
    say(Said::CancelPaymentId(id.clone())).await;
    scene.cancelled_event(&id).await;

    let ours = scene.ask(asking(&phone, 1_050)).await;
    scene.seen(&scene.peer, &ours.id).await;
    let paid = sandbox::PhonePaymentReport {
        request_id: ours.id.clone(),
        note: "done".to_owned(),
    };
    let paid = say(Said::PaymentReport(paid)).await;
    scene.sent_event(&paid).await;
    let other = scene.ask(asking(&phone, 1)).await;
    scene.seen(&scene.peer, &other.id).await;
    say(Said::DeclinePaymentId(other.id.clone())).await;
    scene.declined_event(&other.id).await;

    let request = sandbox::StreamInboxRequest {
        phone: phone.clone(),
        after_sequence: 0,
    };
    let inbox = scene.api.sandbox().stream_inbox(request).await.unwrap();
    let mut inbox = inbox.into_inner();
    use sandbox::phone_money::Says;
    let mut shown = Vec::new();
    while shown.len() < 6 {
        let seen = within("the inbox", inbox.message()).await.unwrap().unwrap();
        let seen = seen.message.unwrap();
        shown.extend(seen.money.and_then(|money| money.says));
    }
    let says = |wanted: &Says| shown.contains(wanted);
    assert!(says(&Says::CancelledId(id)));
    assert!(says(&Says::SentId(ours.id)));
    assert!(says(&Says::DeclinedId(other.id)));
    let asked = shown.iter().filter_map(|one| match one {
        Says::Request(one) => Some((&*one.currency, one.amount_thousandths, &*one.payer)),
        _ => None,
    });
    let mut asked: Vec<_> = asked.collect();
    asked.sort();
    let wanted = [
        ("BRL", 10, &*phone),
        ("BRL", 10_500, &*phone),
        ("JPY", 7_000, &*to),
    ];
    assert_eq!(asked, wanted);
}
