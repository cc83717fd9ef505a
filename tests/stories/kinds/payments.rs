//! Requests for money: asked and answered from both sides.

mod asking;
mod late;

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tonic::Status;
use wagate::{
    proto::v1::{PaymentDirection, PaymentState},
    sandbox::{MoneyMessage, PhonePayment},
};

use super::*;
use crate::support::info;

fn brl(minor_units: i64) -> v1::Money {
    v1::Money {
        currency: "BRL".to_owned(),
        minor_units,
        ..Default::default()
    }
}

fn asking(to: &str, minor_units: i64) -> v1::RequestPaymentRequest {
    v1::RequestPaymentRequest {
        instance: "one".to_owned(),
        recipient: to.to_owned(),
        amount: Some(brl(minor_units)),
        note: "for tea".to_owned(),
        ..Default::default()
    }
}

/// What a phone asks for.
fn ten_reais() -> PhonePayment {
    PhonePayment {
        currency: "BRL".to_owned(),
        thousandths: 10_500,
        note: "for cake".to_owned(),
        ..Default::default()
    }
}

fn after(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

fn timestamp(time: SystemTime) -> Option<pbjson_types::Timestamp> {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    Some(pbjson_types::Timestamp {
        seconds: since.as_secs() as i64,
        nanos: 0,
    })
}

impl Scene {
    /// Asks for money; once WhatsApp has the request.
    async fn ask(&self, request: v1::RequestPaymentRequest) -> v1::Payment {
        let asked = self.try_ask(request).await.unwrap();
        let (message, payment) = (asked.message.unwrap(), asked.payment.unwrap());
        assert_eq!(message.id, payment.id);
        payment
    }

    async fn try_ask(
        &self,
        request: v1::RequestPaymentRequest,
    ) -> Result<v1::RequestPaymentResponse, Status> {
        let mut payments = self.api.payments();
        let asked = payments.request_payment(request);
        Ok(within("RequestPayment", asked).await?.into_inner())
    }

    async fn decline(
        &self,
        id: &str,
        request_id: &str,
    ) -> Result<(v1::Message, v1::Payment), Status> {
        let request = v1::DeclinePaymentRequest {
            instance: "one".to_owned(),
            payment_id: id.to_owned(),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        let mut payments = self.api.payments();
        let declined = payments.decline_payment(request);
        let declined = within("DeclinePayment", declined).await?.into_inner();
        Ok((declined.message.unwrap(), declined.payment.unwrap()))
    }

    async fn cancel(&self, id: &str) -> Result<(v1::Message, v1::Payment), Status> {
        let request = v1::CancelPaymentRequest {
            instance: "one".to_owned(),
            payment_id: id.to_owned(),
            ..Default::default()
        };
        let mut payments = self.api.payments();
        let cancelled = payments.cancel_payment(request);
        let cancelled = within("CancelPayment", cancelled).await?.into_inner();
        Ok((cancelled.message.unwrap(), cancelled.payment.unwrap()))
    }

    async fn payment(&self, id: &str) -> v1::Payment {
        let request = v1::GetPaymentRequest {
            instance: "one".to_owned(),
            payment_id: id.to_owned(),
            ..Default::default()
        };
        let found = self.api.payments().get_payment(request).await.unwrap();
        found.into_inner().payment.unwrap()
    }

    /// The ids of the payments in a state. WhatsApp counts seconds, so nothing is said of their order.
    async fn in_state(&self, state: PaymentState) -> BTreeSet<String> {
        let request = v1::ListPaymentsRequest {
            instance: "one".to_owned(),
            state: state.into(),
            ..Default::default()
        };
        let found = self.api.payments().list_payments(request).await.unwrap();
        let found = found.into_inner().payments;
        assert!(
            found
                .iter()
                .all(|one| state == PaymentState::Unspecified || one.state() == state)
        );
        found.into_iter().map(|one| one.id).collect()
    }

    /// A phone asks the instance.
    async fn asked_by(&mut self, phone: Number, chat: Chat, payment: PhonePayment) -> v1::Payment {
        let network = &self.stage.network;
        let sent = network.request_payment(phone, chat, payment).await.unwrap();
        self.requested(&sent.id).await
    }

    async fn requested(&mut self, id: &str) -> v1::Payment {
        self.watcher
            .once("payment.requested", |event| match &event.payload {
                Some(Payload::PaymentRequested(one)) => {
                    one.payment.clone().filter(|one| one.id == id)
                }
                _ => None,
            })
            .await
    }

    async fn declined_event(&mut self, id: &str) -> v1::Payment {
        self.watcher
            .once("payment.declined", |event| match &event.payload {
                Some(Payload::PaymentDeclined(one)) => {
                    one.payment.clone().filter(|one| one.id == id)
                }
                _ => None,
            })
            .await
    }

    async fn cancelled_event(&mut self, id: &str) -> v1::Payment {
        self.watcher
            .once("payment.cancelled", |event| match &event.payload {
                Some(Payload::PaymentCancelled(one)) => {
                    one.payment.clone().filter(|one| one.id == id)
                }
                _ => None,
            })
            .await
    }

    async fn sent_event(&mut self, message_id: &str) -> v1::PaymentSent {
        self.watcher
            .once("payment.sent", |event| match &event.payload {
                Some(Payload::PaymentSent(one)) if one.message_id == message_id => {
                    Some(one.clone())
                }
                _ => None,
            })
            .await
    }

    /// The types of all that was told of money so far.
    fn told(&self) -> Vec<String> {
        let types = self.watcher.seen.iter().map(|event| &event.r#type);
        types
            .filter(|one| one.starts_with("payment."))
            .cloned()
            .collect()
    }

    /// Waits until a text from the peer, and so all before it, has come.
    async fn caught_up(&mut self) {
        let own = self.instance.phone_number.clone();
        let last = self.peer.send(&own, "last").await;
        self.received(&last).await;
    }

    /// What a phone shows of money in a message.
    async fn shown(&self, phone: &TestPhone, id: &str) -> MoneyMessage {
        let (seen, _) = self.seen(phone, id).await;
        let shown = self.stage.network.money_in(&seen);
        shown.expect("it is about money")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_asks_and_the_instance_declines() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let (own, peer) = (scene.own(), scene.peer.number);
        let asked = scene.asked_by(peer, own, ten_reais()).await;
        let received = scene.received(&asked.id).await;
        match content(&received) {
            Content::PaymentRequest(request) => {
                assert_eq!(request.note, "for cake");
                assert_eq!(request.amount, asked.amount);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(asked.direction(), PaymentDirection::Received);
        assert_eq!(asked.state(), PaymentState::Requested);
        let amount = asked.amount.clone().unwrap();
        assert_eq!((amount.minor_units, amount.exponent), (1_050, Some(2)));
        let (requester, payer) = (asked.requester.clone(), asked.payer.clone());
        assert_eq!(requester.unwrap().phone_number, peer.to_string());
        assert_eq!(payer.unwrap().phone_number, scene.instance.phone_number);
        assert_eq!(scene.payment(&asked.id).await, asked);

        let (message, payment) = scene.decline(&asked.id, "once").await.unwrap();
        assert_eq!(payment.state(), PaymentState::Declined);
        assert_eq!(payment.answer_message_id, message.id);
        assert_eq!(scene.declined_event(&asked.id).await, payment);
        for phone in [&scene.peer, &scene.owner] {
            let shown = scene.shown(phone, &message.id).await;
            assert_eq!(shown, MoneyMessage::Declined(asked.id.clone()));
        }
        // A retry gives the first answer, a new try is told that it is settled.
        let (again, _) = scene.decline(&asked.id, "once").await.unwrap();
        assert_eq!(again.id, message.id);
        let refused = scene.decline(&asked.id, "").await.unwrap_err();
        assert_eq!(info(&refused), "PAYMENT_SETTLED");
        scene.caught_up().await;
        assert_eq!(scene.told(), ["payment.requested", "payment.declined"]);
        // A decline does something to a request, as a reaction to a message.
        let declined = scene.in_state(PaymentState::Declined).await;
        assert_eq!(declined, BTreeSet::from([asked.id]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instance_asks_and_a_phone_declines() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let hello = scene.peer.send(&scene.instance.phone_number, "hello").await;
        scene.received(&hello).await;
        let end = timestamp(after(3_600));
        let request = v1::RequestPaymentRequest {
            request_id: "once".to_owned(),
            expire_time: end,
            quoted_message_id: hello.clone(),
            ..asking(&scene.peer.number.to_string(), 1_050)
        };
        let asked = scene.ask(request.clone()).await;
        assert_eq!(asked.direction(), PaymentDirection::Sent);
        assert_eq!(asked.expire_time, end);
        let payer = asked.payer.clone().unwrap();
        assert_eq!(payer.phone_number, scene.peer.number.to_string());
        assert_eq!(scene.requested(&asked.id).await, asked);
        match scene.shown(&scene.peer, &asked.id).await {
            MoneyMessage::Request(shown) => {
                assert_eq!((&*shown.currency, shown.thousandths), ("BRL", 10_500));
                assert_eq!(shown.payer, Some(scene.peer.number));
                assert_eq!(timestamp(shown.expire_time.unwrap()), end);
                assert_eq!(shown.note, "for tea");
            }
            other => panic!("{other:?}"),
        }
        let (_, raw) = scene.seen(&scene.peer, &asked.id).await;
        let raw = raw.request_payment_message.as_option().unwrap();
        let note = raw.note_message.as_option().unwrap();
        let note = note.extended_text_message.as_option().unwrap();
        let around = note.context_info.as_option().unwrap();
        assert_eq!(around.stanza_id.as_deref(), Some(&*hello));
        // It goes as plainly as any text.
        let log = scene.stage.network.wire_log(scene.peer.number.device(0), 0);
        let stanza = log.iter().find(|one| one.text.contains(&asked.id));
        let stanza = &stanza.expect("it was on the wire").text;
        assert!(stanza.contains("type=\"text\""), "{stanza}");
        assert!(
            !stanza.contains("<pay") && !stanza.contains("<biz"),
            "{stanza}"
        );

        let again = scene.ask(request.clone()).await;
        assert_eq!(again, asked);
        let other = v1::RequestPaymentRequest {
            amount: Some(brl(1_051)),
            ..request
        };
        let refused = scene.try_ask(other).await.unwrap_err();
        assert_eq!(info(&refused), "REQUEST_ID_REUSED");

        let (network, peer) = (&scene.stage.network, scene.peer.number);
        let own = scene.own();
        let declined = network.decline_payment(peer, own, &asked.id).await.unwrap();
        let payment = scene.declined_event(&asked.id).await;
        assert_eq!(payment.state(), PaymentState::Declined);
        assert_eq!(payment.answer_message_id, declined.id);
        assert_eq!(scene.payment(&asked.id).await, payment);
        let refused = scene.cancel(&asked.id).await.unwrap_err();
        assert_eq!(info(&refused), "PAYMENT_SETTLED");
        scene.caught_up().await;
        assert_eq!(scene.told(), ["payment.requested", "payment.declined"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_taken_back_from_both_sides_and_stay_so() {
    let mut scene = Scene::new().await;
    let (own, peer) = (scene.own(), scene.peer.number);
    let network = scene.stage.network.clone();
    let ours = scene.ask(asking(&peer.to_string(), 1_050)).await;
    let (message, payment) = scene.cancel(&ours.id).await.unwrap();
    assert_eq!(payment.state(), PaymentState::Cancelled);
    assert_eq!(scene.cancelled_event(&ours.id).await, payment);
    let shown = scene.shown(&scene.peer, &message.id).await;
    assert_eq!(shown, MoneyMessage::Cancelled(ours.id.clone()));

    let theirs = scene.asked_by(peer, own, ten_reais()).await;
    network.cancel_payment(peer, own, &theirs.id).await.unwrap();
    let payment = scene.cancelled_event(&theirs.id).await;
    assert_eq!(payment.state(), PaymentState::Cancelled);

    // Whatever else is said of them, they stay cancelled.
    network.decline_payment(peer, own, &ours.id).await.unwrap();
    let paid = network.report_payment(peer, own, Some(&ours.id), "").await;
    let paid = scene.sent_event(&paid.unwrap().id).await;
    assert_eq!(paid.payment.unwrap().state(), PaymentState::Cancelled);
    let refused = scene.decline(&theirs.id, "").await.unwrap_err();
    assert_eq!(info(&refused), "PAYMENT_SETTLED");
    let cancelled = scene.in_state(PaymentState::Cancelled).await;
    assert_eq!(cancelled, BTreeSet::from([theirs.id, ours.id]));
    scene.caught_up().await;
    let told = scene.told();
    assert_eq!(told.len(), 5, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_for_others() {
    let mut scene = Scene::new().await;
    let (own, peer) = (scene.own(), scene.peer.number);
    let network = scene.stage.network.clone();
    let ours = scene.ask(asking(&peer.to_string(), 1_050)).await;
    let theirs = scene.asked_by(peer, own, ten_reais()).await;
    scene.seen(&scene.peer, &ours.id).await;
    network.cancel_payment(peer, own, &ours.id).await.unwrap();
    network
        .decline_payment(peer, own, &theirs.id)
        .await
        .unwrap();
    let said = network
        .report_payment(peer, own, Some(&theirs.id), "")
        .await;
    // That they say so is told, and changes nothing.
    let said = scene.sent_event(&said.unwrap().id).await;
    assert_eq!(said.payment.unwrap().state(), PaymentState::Requested);
    scene.caught_up().await;
    for id in [&ours.id, &theirs.id] {
        assert_eq!(scene.payment(id).await.state(), PaymentState::Requested);
    }
    for refused in [
        scene.decline(&ours.id, "").await.unwrap_err(),
        scene.cancel(&theirs.id).await.unwrap_err(),
    ] {
        assert_eq!(info(&refused), "PAYMENT_ROLE_REQUIRED");
    }
    let unknown = scene.decline("NONE", "").await.unwrap_err();
    assert_eq!(info(&unknown), "PAYMENT_NOT_FOUND");
    let text = scene.say(text("no request")).await;
    let unknown = scene.cancel(&text.id).await.unwrap_err();
    assert_eq!(info(&unknown), "PAYMENT_NOT_FOUND");
    let told = scene.told();
    assert_eq!(
        told,
        ["payment.requested", "payment.requested", "payment.sent"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_phones_report_as_paid_is_told_and_wagate_reports_nothing_itself() {
    let mut scene = Scene::new().await;
    let (own, peer) = (scene.own(), scene.peer.number);
    let network = scene.stage.network.clone();
    let ours = scene.ask(asking(&peer.to_string(), 1_050)).await;
    scene.seen(&scene.peer, &ours.id).await;
    let paid = network
        .report_payment(peer, own, Some(&ours.id), "done")
        .await;
    let paid = scene.sent_event(&paid.unwrap().id).await;
    assert_eq!((&*paid.note, paid.from_me), ("done", false));
    let payment = paid.payment.unwrap();
    assert_eq!(payment.state(), PaymentState::PaidReported);
    assert_eq!(scene.payment(&ours.id).await, payment);

    // The account's own phone pays what it is asked for.
    let theirs = scene.asked_by(peer, own, ten_reais()).await;
    let (owner, to_peer) = (scene.owner.number, Chat::User(peer));
    let request = v1::SendPaymentRequest {
        instance: "one".to_owned(),
    };
    let refused = scene.api.payments().send_payment(request).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    assert_eq!(info(&refused), "PAYMENT_NOT_SENDABLE");
    scene.seen(&scene.owner, &theirs.id).await;
    let paid = network
        .report_payment(owner, to_peer, Some(&theirs.id), "")
        .await;
    let paid = scene.sent_event(&paid.unwrap().id).await;
    assert!(paid.from_me);
    assert_eq!(paid.payment.unwrap().state(), PaymentState::PaidReported);

    // Nobody asked for this.
    let gift = network.report_payment(peer, own, None, "a gift").await;
    let gift = scene.sent_event(&gift.unwrap().id).await;
    assert_eq!((gift.payment, &*gift.payment_id), (None, ""));
    let listed = scene.in_state(PaymentState::PaidReported).await;
    assert_eq!(listed, BTreeSet::from([theirs.id, ours.id]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_device_of_the_account_asks_and_answers() {
    let mut scene = Scene::new().await;
    let (owner, peer) = (scene.owner.number, scene.peer.number);
    let network = scene.stage.network.clone();
    let asked = scene.asked_by(owner, Chat::User(peer), ten_reais()).await;
    assert_eq!(asked.direction(), PaymentDirection::Sent);
    assert_eq!(asked.payer.clone().unwrap().phone_number, peer.to_string());
    // The instance may take back what the phone asked for: they are one account.
    let (_, payment) = scene.cancel(&asked.id).await.unwrap();
    assert_eq!(payment.state(), PaymentState::Cancelled);

    let own = scene.own();
    let theirs = scene.asked_by(peer, own, ten_reais()).await;
    scene.seen(&scene.owner, &theirs.id).await;
    let declined = network.decline_payment(owner, Chat::User(peer), &theirs.id);
    let declined = declined.await.unwrap();
    let payment = scene.declined_event(&theirs.id).await;
    assert_eq!(payment.answer_message_id, declined.id);
}
