//! Answers that come before their request, or too late; requests that outlive a restart.

use wagate::sandbox::{Direction, FaultAction, FaultMatch, FaultRule};

use super::*;

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
            expire_time: timestamp(after(6)),
            ..asking(&peer.to_string(), 7)
        })
        .await;
    let theirs = PhonePayment {
        expire_time: Some(after(6)),
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
    assert_eq!(expired, wanted.iter().cloned().collect());
    assert_eq!(
        scene.in_state(PaymentState::Requested).await,
        BTreeSet::new()
    );
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
