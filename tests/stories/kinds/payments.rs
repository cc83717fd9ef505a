//! Requests for money: asked and answered from both sides.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::Status;
use wagate::{
    proto::{
        sandbox_v1::{self as sandbox, send_message_request::Content as Said},
        v1::{PaymentDirection, PaymentState},
    },
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, MoneyMessage, PhonePayment},
};

use super::*;
use crate::support::{info, violated_field};

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
        let asked = self.api.payments().request_payment(request);
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
        let declined = self.api.payments().decline_payment(request);
        let declined = within("DeclinePayment", declined).await?.into_inner();
        Ok((declined.message.unwrap(), declined.payment.unwrap()))
    }

    async fn cancel(&self, id: &str) -> Result<(v1::Message, v1::Payment), Status> {
        let request = v1::CancelPaymentRequest {
            instance: "one".to_owned(),
            payment_id: id.to_owned(),
            ..Default::default()
        };
        let cancelled = self.api.payments().cancel_payment(request);
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

    /// The ids of the payments in a state, newest first.
    async fn in_state(&self, state: PaymentState) -> Vec<String> {
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
        assert_eq!(scene.in_state(PaymentState::Declined).await, [asked.id]);
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
            expire_time: end.clone(),
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
    assert_eq!(
        scene.in_state(PaymentState::Cancelled).await,
        [&*theirs.id, &*ours.id]
    );
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
    assert_eq!(listed, [theirs.id, ours.id]);
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
async fn an_answer_that_comes_before_its_request_counts_when_that_has_come() {
    let mut scene = Scene::new().await;
    let eve = scene.stage.phone("Eve").await;
    let (group, _) = scene.group(true, &[eve.number]).await;
    let network = scene.stage.network.clone();
    let Chat::Group(id) = group else {
        unreachable!()
    };
    // All have written before, so nobody has to ask anybody for keys.
    for phone in [scene.peer.number, eve.number] {
        let said = network.send_group_text(phone, id, "hello").await.unwrap();
        scene.received(&said.id).await;
    }
    for declines in [true, false] {
        network.add_fault(late(&scene, "message", 1)).unwrap();
        let payment = PhonePayment {
            payer: Some(eve.number),
            ..ten_reais()
        };
        let sent = network
            .request_payment(scene.peer.number, group, payment)
            .await;
        let request = sent.unwrap().id;
        scene.seen(&eve, &request).await;
        let early = if declines {
            network.decline_payment(eve.number, group, &request).await
        } else {
            let reported = network.report_payment(eve.number, group, Some(&request), "");
            reported.await
        };
        let early = early.unwrap().id;
        scene.received(&early).await;
        assert!(!scene.watcher.seen.iter().any(
            |event| matches!(&event.payload, Some(Payload::MessageReceived(one))
                if one.message.as_ref().is_some_and(|one| one.id == request))
        ));
        if declines {
            let payment = scene.declined_event(&request).await;
            assert_eq!(payment.answer_message_id, early);
        } else {
            assert_eq!(scene.sent_event(&early).await.payment, None);
            scene.requested(&request).await;
            let payment = scene.payment(&request).await;
            assert_eq!(payment.state(), PaymentState::PaidReported);
            assert_eq!(payment.answer_message_id, early);
        }
    }
    let told = scene.told();
    let wanted = [
        "payment.requested",
        "payment.declined",
        "payment.sent",
        "payment.requested",
    ];
    assert_eq!(told, wanted);
}

/// What comes to the instance with this tag comes late.
fn late(scene: &Scene, tag: &str, count: u32) -> FaultRule {
    FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some(tag.to_owned()),
            number: Some(scene.owner.number),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Delay(Duration::from_secs(2)),
        skip: 0,
        count: Some(count),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_overtake_the_confirmation_of_its_request() {
    let mut scene = Scene::new().await;
    let network = scene.stage.network.clone();
    // They know each other, so nothing but the request needs to be said.
    scene.say(text("hello")).await;
    scene.caught_up().await;
    network.add_fault(late(&scene, "ack", 1)).unwrap();
    network.add_fault(late(&scene, "receipt", 2)).unwrap();
    let (peer, own) = (scene.peer.clone(), scene.own());
    let answer = async {
        let inbox = network.inbox(peer.number, 0).unwrap();
        let mut inbox = Box::pin(inbox);
        loop {
            let seen = inbox.next().await.expect("the inbox stays open");
            if let Some(MoneyMessage::Request(_)) = network.money_in(&seen) {
                break network.decline_payment(peer.number, own, &seen.id).await;
            }
        }
    };
    let asked = scene.try_ask(asking(&peer.number.to_string(), 1_050));
    let (asked, answered) = tokio::join!(asked, within("an answer", answer));
    let payment = asked.unwrap().payment.unwrap();
    let declined = scene.declined_event(&payment.id).await;
    assert_eq!(declined.answer_message_id, answered.unwrap().id);
    let payment = scene.payment(&payment.id).await;
    assert_eq!(payment.state(), PaymentState::Declined);
    scene.caught_up().await;
    assert_eq!(scene.told(), ["payment.requested", "payment.declined"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_outlive_a_restart_and_their_time() {
    let mut scene = Scene::new().await;
    let (own, peer) = (scene.own(), scene.peer.number);
    let open = scene.ask(asking(&peer.to_string(), 1_050)).await;
    let brief = scene
        .ask(v1::RequestPaymentRequest {
            expire_time: timestamp(after(4)),
            ..asking(&peer.to_string(), 7)
        })
        .await;
    let theirs = PhonePayment {
        expire_time: Some(after(4)),
        ..ten_reais()
    };
    let theirs = scene.asked_by(peer, own, theirs).await;
    let past = PhonePayment {
        expire_time: Some(SystemTime::now() - Duration::from_secs(60)),
        ..ten_reais()
    };
    let past = scene.asked_by(peer, own, past).await;
    let refused = scene.decline(&past.id, "").await.unwrap_err();
    assert_eq!(info(&refused), "PAYMENT_SETTLED");

    scene.stage.restart_gateway().await;
    scene.api = scene.stage.api().await;
    scene.watcher = Watcher::from_earliest(&scene.api).await;
    let (_, cancelled) = within("the return of the session", async {
        loop {
            match scene.cancel(&open.id).await {
                Ok(cancelled) => break cancelled,
                Err(refused) if info(&refused) == "INSTANCE_CONNECTING" => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
    })
    .await;
    assert_eq!(cancelled.state(), PaymentState::Cancelled);
    within("their end", async {
        while scene.payment(&brief.id).await.state() != PaymentState::Expired
            || scene.payment(&theirs.id).await.state() != PaymentState::Expired
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let over = scene.payment(&brief.id).await;
    assert_eq!(over.update_time, over.expire_time);
    for refused in [
        scene.cancel(&brief.id).await.unwrap_err(),
        scene.decline(&theirs.id, "").await.unwrap_err(),
    ] {
        assert_eq!(info(&refused), "PAYMENT_SETTLED");
    }
    let expired = scene.in_state(PaymentState::Expired).await;
    let mut wanted = vec![past.id.clone(), theirs.id.clone(), brief.id.clone()];
    assert!(wanted.iter().all(|id| expired.contains(id)) && expired.len() == 3);
    assert_eq!(scene.in_state(PaymentState::Requested).await, [""; 0]);
    // A decline that comes too late is none; money that comes late is money.
    let network = scene.stage.network.clone();
    scene.seen(&scene.peer, &brief.id).await;
    network.decline_payment(peer, own, &brief.id).await.unwrap();
    let paid = network.report_payment(peer, own, Some(&brief.id), "").await;
    let paid = scene.sent_event(&paid.unwrap().id).await;
    assert_eq!(paid.payment.unwrap().state(), PaymentState::PaidReported);

    // Page by page, newest first, of one chat by any of its names.
    wanted.push(open.id.clone());
    let (mut token, mut listed) = (String::new(), Vec::new());
    loop {
        let request = v1::ListPaymentsRequest {
            instance: "one".to_owned(),
            chat: peer.to_string(),
            page_size: 3,
            page_token: token,
            ..Default::default()
        };
        let page = scene.api.payments().list_payments(request).await.unwrap();
        let page = page.into_inner();
        assert!(page.payments.len() <= 3);
        listed.extend(page.payments.into_iter().map(|one| one.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 4);
    assert!(wanted.iter().all(|id| listed.contains(id)));
    let elsewhere = v1::ListPaymentsRequest {
        instance: "one".to_owned(),
        chat: scene.owner.number.to_string(),
        ..Default::default()
    };
    let elsewhere = scene.api.payments().list_payments(elsewhere).await.unwrap();
    assert_eq!(elsewhere.into_inner().payments, []);
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
    assert_eq!(scene.in_state(PaymentState::Unspecified).await, [""; 0]);
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
