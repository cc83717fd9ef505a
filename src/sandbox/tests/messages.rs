//! Texts both ways, in both namespaces, to every device, online and offline.

use super::*;

async fn both_ways(ada_by_lid: bool) {
    let sandbox = sandbox().await;
    let ada = if ada_by_lid {
        lid_phone(&sandbox, "Ada").await
    } else {
        phone(&sandbox, "Ada").await
    };
    let bob = if ada_by_lid {
        lid_phone(&sandbox, "Bob").await
    } else {
        phone(&sandbox, "Bob").await
    };
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;

    for round in 0..3 {
        let text = format!("hello {round}");
        let sent = sandbox.send_text(bob, ada, &text).await.unwrap();
        let received = gateway.received(&text).await;
        assert_eq!(received.id, sent.id);
        assert_eq!(received.sender.is_lid(), ada_by_lid);
        assert!(!received.from_me && !received.offline);

        let text = format!("answer {round}");
        let id = gateway.send(received.chat, &text).await;
        let answer = seen(&sandbox, bob, |message| message.id == id).await;
        assert_eq!(answer.text.as_deref(), Some(text.as_str()));
        assert_eq!(answer.sender, device);
        assert_eq!(answer.push_name, "Ada");
        assert_eq!(answer.by_lid, ada_by_lid);
        // Ada's own phone shows what its companion wrote, in the chat with Bob.
        let copy = seen(&sandbox, ada, |message| message.id == id).await;
        assert_eq!((copy.chat, copy.sender), (bob, device));
        assert_eq!(copy.text.as_deref(), Some(text.as_str()));
    }
    until("nothing waits for the device", || {
        sandbox.phone(ada).unwrap().companions[0].queued == 0
    })
    .await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_go_both_ways_by_number() {
    both_ways(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_go_both_ways_by_lid() {
    both_ways(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_learns_of_delivery() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let id = gateway.send(bob.jid(), "are you there?").await;
    let pick = |event: &Event| match event {
        Event::ServerAck(ack) if ack.id == id => Some(()),
        _ => None,
    };
    gateway.events.next("the server's ack", pick).await;
    let pick = |event: &Event| match event {
        Event::Receipt(receipt) if receipt.message_ids.iter().any(|found| **found == *id) => {
            Some(())
        }
        _ => None,
    };
    gateway.events.next("the delivery receipt", pick).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_own_phone_writes_reaches_the_companion() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let sent = sandbox.send_text(ada, bob, "from my phone").await.unwrap();
    let received = gateway.received("from my phone").await;
    assert_eq!(received.id, sent.id);
    assert!(received.from_me);
    assert_eq!(received.chat, bob.jid());
    seen(&sandbox, bob, |message| message.id == sent.id).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_talk_to_each_other_and_to_each_others_phones() {
    let sandbox = sandbox().await;
    let (ada, bob) = (
        phone(&sandbox, "Ada").await,
        lid_phone(&sandbox, "Bob").await,
    );
    let (one, _) = Gateway::paired(&sandbox, ada).await;
    let (two, _) = Gateway::paired(&sandbox, bob).await;
    let id = one.send(bob.jid(), "one to two").await;
    let received = two.received("one to two").await;
    assert_eq!(received.id, id);
    seen(&sandbox, bob, |message| message.id == id).await;
    two.send(received.chat, "two to one").await;
    let back = one.received("two to one").await;
    assert_eq!(back.text, "two to one");
    seen(&sandbox, ada, |message| message.id == back.id).await;
    one.stop().await;
    two.stop().await;
    sandbox.shutdown().await;
}

/// A companion linked later is told to those who write to the account, and gets what they write.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_companion_gets_messages_too() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (one, _) = Gateway::paired(&sandbox, ada).await;
    let (bobs, _) = Gateway::paired(&sandbox, bob).await;
    bobs.send(ada.jid(), "to one device").await;
    one.received("to one device").await;
    let (two, device) = Gateway::paired(&sandbox, ada).await;
    assert_eq!(device, ada.device(2));
    let pick = |event: &Event| matches!(event, Event::DeviceListUpdate(_)).then_some(());
    bobs.events.next("the news of the new device", pick).await;
    bobs.send(ada.jid(), "to two devices").await;
    one.received("to two devices").await;
    two.received("to two devices").await;
    // What one companion sends, the other sees as its own.
    one.send(bob.jid(), "from one").await;
    assert!(two.received("from one").await.from_me);
    for gateway in [one, two, bobs] {
        gateway.stop().await;
    }
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_an_absent_device_arrive_later_once() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    sandbox.send_text(bob, ada, "while here").await.unwrap();
    gateway.received("while here").await;
    let backend = gateway.stop().await;
    until("the device is gone", || {
        !sandbox.phone(ada).unwrap().companions[0].connected
    })
    .await;

    let texts: Vec<String> = (0..12)
        .map(|number| format!("while away {number}"))
        .collect();
    for text in &texts {
        sandbox.send_text(bob, ada, text).await.unwrap();
    }
    let gateway = Gateway::over(&sandbox, backend, None).await;
    gateway.connected().await;
    for text in &texts {
        assert!(gateway.received(text).await.offline);
    }
    until("nothing waits for the device", || {
        sandbox.phone(ada).unwrap().companions[0].queued == 0
    })
    .await;
    let backend = gateway.stop().await;
    let gateway = Gateway::over(&sandbox, backend, None).await;
    gateway.connected().await;
    sandbox.send_text(bob, ada, "the end").await.unwrap();
    gateway.received("the end").await;
    assert!(gateway.unexpected().is_empty());
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// A device that lost its sessions asks the phone for what it cannot read, and gets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_lost_its_sessions_recovers() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    sandbox.send_text(bob, ada, "hello").await.unwrap();
    let hello = gateway.received("hello").await;
    gateway.send(hello.chat, "hello, Bob").await;
    seen(&sandbox, bob, |message| {
        message.text.as_deref() == Some("hello, Bob")
    })
    .await;
    let device = gateway.stop().await.load().await.unwrap().unwrap();
    let bare = Arc::new(InMemoryBackend::new());
    bare.create().await.unwrap();
    bare.save(&device).await.unwrap();
    let gateway = Gateway::over(&sandbox, bare, None).await;
    gateway.connected().await;
    sandbox
        .send_text(bob, ada, "can you read this?")
        .await
        .unwrap();
    gateway.received("can you read this?").await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_looked_up() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let nobody = Number::from(15_550_009_999);
    let found = gateway
        .client()
        .contacts()
        .is_on_whatsapp(&[bob.jid(), nobody.jid()])
        .await
        .unwrap();
    let known = |number: Number| {
        let result = found
            .iter()
            .find(|result| result.jid.user == number.to_string());
        result.is_some_and(|result| result.is_registered)
    };
    assert!(known(bob) && !known(nobody));
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// With who is who, and only once: some clients hold everything back until they have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_told_the_history() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    sandbox.send_text(bob, ada, "long ago").await.unwrap();
    seen(&sandbox, ada, |message| message.sender.number == bob).await;
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let pick = |event: &Event| match event {
        Event::HistorySync(history) => history.get().cloned(),
        _ => None,
    };
    let history = gateway.events.next("the history", pick).await;
    let known: Vec<_> = history
        .phone_number_to_lid_mappings
        .iter()
        .filter_map(|known| Some((known.pn_jid.clone()?, known.lid_jid.clone()?)))
        .collect();
    let wanted = [bob, ada].map(|number| {
        let info = sandbox.phone(number).unwrap();
        (info.number.jid().to_string(), info.lid.jid().to_string())
    });
    assert_eq!(known, wanted);
    until("nothing waits for the device", || {
        sandbox.phone(ada).unwrap().companions[0].queued == 0
    })
    .await;

    sandbox.drop_connection(device).unwrap();
    gateway.connected().await;
    sandbox.send_text(bob, ada, "today").await.unwrap();
    gateway.received("today").await;
    let again = |event: &Event| matches!(event, Event::HistorySync(_));
    assert_eq!(gateway.events.count(again), 0);
    gateway.stop().await;
    sandbox.shutdown().await;
}
