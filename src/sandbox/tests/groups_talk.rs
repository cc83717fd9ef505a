//! Talk in groups when something is in the way: no key, nobody home, somebody gone, another second name.

use std::collections::BTreeSet;

use wacore::stanza::groups::GroupNotificationAction as Action;
use waproto::buffa::Message as _;

use super::{
    groups::{tea, trio},
    *,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_the_key_asks_for_it() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, bob, &[ada]).await;
    let text = GroupText {
        withheld_from: vec![device],
        ..GroupText::from("who can read this?")
    };
    let sent = sandbox.send_group_text(bob, group, text).await.unwrap();
    let received = gateway.received("who can read this?").await;
    assert_eq!(received.id, sent.id);
    // The key came along.
    sandbox
        .send_group_text(bob, group, "and this?")
        .await
        .unwrap();
    gateway.received("and this?").await;
    let asked = sandbox
        .wire_log(device, 0)
        .into_iter()
        .filter(|entry| {
            entry.direction == Direction::FromDevice && entry.text.contains("type=\"retry\"")
        })
        .count();
    assert_eq!(asked, 1);
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// The client is not told that a phone has lost its keys; it hears when the phone asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_phone_without_the_key_asks_for_it() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, bob, &[ada]).await;
    gateway.send(group.jid(), "with a key").await;
    seen(&sandbox, bob, |message| {
        message.text.as_deref() == Some("with a key")
    })
    .await;
    sandbox.forget_sender_key(bob, group, device).await.unwrap();
    let id = gateway.send(group.jid(), "without").await;
    let message = seen(&sandbox, bob, |message| message.id == id).await;
    assert_eq!(message.text.as_deref(), Some("without"));
    assert_eq!(message.sender, device);
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_member_gets_all_of_it_later_in_order() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let backend = gateway.stop().await;
    until("the device is gone", || {
        !sandbox.phone(ada).unwrap().companions[0].connected
    })
    .await;
    let group = tea(&sandbox, bob, &[ada]).await;
    for at in 0..20 {
        let text = format!("while away {at}");
        sandbox
            .send_group_text(bob, group, text.as_str())
            .await
            .unwrap();
    }
    sandbox
        .change_members(bob, group, MemberChange::Add, &[eve])
        .await
        .unwrap();
    let gateway = Gateway::over(&sandbox, backend, None).await;
    gateway.connected().await;
    for at in 0..20 {
        let received = gateway.received(&format!("while away {at}")).await;
        assert!(received.offline);
        assert_eq!(received.chat, group.jid());
    }
    gateway
        .group_update("the addition", |update| {
            matches!(update.action, Action::Add { .. }).then_some(())
        })
        .await;
    gateway.send(group.jid(), "back again").await;
    for reader in [bob, eve] {
        let message = seen(&sandbox, reader, |message| {
            message.text.as_deref() == Some("back again")
        })
        .await;
        assert_eq!(message.sender, device);
    }
    until("nothing waits", || {
        sandbox.phone(ada).unwrap().companions[0].queued == 0
    })
    .await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// Who is gone gets nothing any more, and could not read it: everybody takes a new key.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_hears_of_it_and_then_nothing() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let (eves, eves_device) = Gateway::paired(&sandbox, eve).await;
    let group = tea(&sandbox, bob, &[ada, eve]).await;
    for (sender, text) in [(bob, "all together"), (eve, "me too")] {
        sandbox.send_group_text(sender, group, text).await.unwrap();
        gateway.received(text).await;
        eves.received(text).await;
    }
    gateway.send(group.jid(), "and I").await;
    eves.received("and I").await;

    let outcomes = sandbox
        .change_members(bob, group, MemberChange::Remove, &[eve])
        .await
        .unwrap();
    assert_eq!(outcomes[0].code, 200);
    for listener in [&gateway, &eves] {
        listener
            .group_update("the removal", |update| {
                matches!(update.action, Action::Remove { .. }).then_some(())
            })
            .await;
    }
    let before = sandbox.wire_log(eves_device, 0).last().unwrap().sequence;
    sandbox
        .send_group_text(bob, group, "among ourselves")
        .await
        .unwrap();
    gateway.received("among ourselves").await;
    let id = gateway.send(group.jid(), "indeed").await;
    seen(&sandbox, bob, |message| message.id == id).await;
    let refused = sandbox.send_group_text(eve, group, "hello?").await;
    assert!(matches!(
        refused,
        Err(SandboxError::Denied { code: 403, .. })
    ));
    // The client itself refuses to write where it is no member; either way nobody sees it.
    let later = sandbox.wire_log(eves_device, before);
    assert!(later.iter().all(|entry| !entry.text.contains("<message")));
    assert!(eves.unexpected().is_empty());
    // A new key for those who stayed.
    let handed_out = |device: DeviceAddress| {
        let log = sandbox.wire_log(device, 0);
        let sent = log.into_iter().filter(|entry| {
            entry.direction == Direction::FromDevice
                && entry.text.contains("skmsg")
                && entry.text.contains("<participants")
        });
        sent.count()
    };
    assert_eq!(handed_out(bob.device(0)), 2);
    assert_eq!(handed_out(ada.device(1)), 2);
    gateway.stop().await;
    eves.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_who_knows_other_devices_hears_of_it() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, bob, &[ada]).await;
    gateway.send(group.jid(), "one device").await;
    seen(&sandbox, bob, |message| message.text.is_some()).await;
    let corrected = || {
        let log = sandbox.wire_log(device, 0);
        let acks = log
            .into_iter()
            .filter(|entry| entry.text.starts_with("<ack") && entry.text.contains("phash"));
        acks.count()
    };
    assert_eq!(corrected(), 0, "both sides count the same devices");
    // Nobody tells the gateway of the new device.
    sandbox
        .add_fault(FaultRule {
            matches: FaultMatch {
                direction: Some(Direction::ToDevice),
                tag: Some("notification".to_owned()),
                number: Some(ada),
                device: Some(device.device),
                ..FaultMatch::default()
            },
            action: FaultAction::Drop,
            skip: 0,
            count: None,
        })
        .unwrap();
    let (bobs, _) = Gateway::paired(&sandbox, bob).await;
    gateway.send(group.jid(), "two devices").await;
    until("the sender is corrected", || corrected() == 1).await;
    gateway.stop().await;
    bobs.stop().await;
    sandbox.shutdown().await;
}

/// Members of a group are told of each other's new devices, also if they never wrote to each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_of_a_member_is_told_and_reads_along() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, eve, &[ada, bob]).await;
    gateway.send(group.jid(), "before").await;
    sandbox
        .send_group_text(eve, group, "before, too")
        .await
        .unwrap();
    gateway.received("before, too").await;
    let (bobs, _) = Gateway::paired(&sandbox, bob).await;
    let pick = |event: &Event| matches!(event, Event::DeviceListUpdate(_)).then_some(());
    gateway
        .events
        .next("the news of the new device", pick)
        .await;
    gateway.send(group.jid(), "after").await;
    bobs.received("after").await;
    sandbox
        .send_group_text(eve, group, "after, too")
        .await
        .unwrap();
    bobs.received("after, too").await;
    gateway.stop().await;
    bobs.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_and_quotes_go_through_as_they_are() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, bob, &[ada]).await;
    let id = gateway.send(group.jid(), "tea or coffee?").await;
    seen(&sandbox, bob, |message| message.id == id).await;
    let lid = sandbox.phone(ada).unwrap().lid.jid().to_string();
    let text = GroupText {
        mentions: vec![lid.clone()],
        quoted_id: Some(id.clone()),
        ..GroupText::from("tea, @you")
    };
    let sent = sandbox.send_group_text(bob, group, text).await.unwrap();
    gateway.received("tea, @you").await;
    // What the sender's own phone shows is what was sent.
    let shown = seen(&sandbox, bob, |message| message.id == sent.id).await;
    let message = Message::decode_from_slice(&shown.message).unwrap();
    let text = message.extended_text_message.into_option().unwrap();
    let context = text.context_info.into_option().unwrap();
    assert_eq!(context.mentioned_jid, std::slice::from_ref(&lid));
    assert_eq!(context.stanza_id, Some(id));
    assert_eq!(context.participant, Some(lid));
    let quoted = context.quoted_message.into_option().unwrap();
    assert_eq!(
        phone::inbox::text_of(&quoted).as_deref(),
        Some("tea or coffee?")
    );
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_and_its_keys_outlive_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox_in(Some(folder.path())).await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let group = tea(&sandbox, bob, &[ada]).await;
    sandbox.send_group_text(bob, group, "before").await.unwrap();
    seen(&sandbox, ada, |message| {
        message.text.as_deref() == Some("before")
    })
    .await;
    let (known, old) = (
        sandbox.group(group).unwrap(),
        sandbox.group_invite(bob, group, false),
    );
    let old = old.await.unwrap();
    sandbox.group_invite(bob, group, true).await.unwrap();
    sandbox.shutdown().await;

    let sandbox = sandbox_in(Some(folder.path())).await;
    let restored = sandbox.group(group).unwrap();
    assert_eq!(restored.members, known.members);
    let eve = phone(&sandbox, "Eve").await;
    let refused = sandbox.join_group(eve, &old).await;
    assert!(matches!(
        refused,
        Err(SandboxError::Denied { code: 410, .. })
    ));
    assert_eq!(
        sandbox.join_group(eve, &restored.invite).await.unwrap(),
        Joined::Member(group)
    );
    sandbox.send_group_text(bob, group, "after").await.unwrap();
    for reader in [ada, eve] {
        let after = seen(&sandbox, reader, |message| {
            message.text.as_deref() == Some("after")
        })
        .await;
        assert_eq!(after.group, Some(group));
    }
    // The members of before did not have to be told the key again.
    let log = sandbox.wire_log(bob.device(0), 0);
    let told: BTreeSet<usize> = log
        .iter()
        .filter(|entry| entry.text.contains("skmsg"))
        .map(|entry| entry.text.matches("<to jid").count())
        .collect();
    assert_eq!(told, BTreeSet::from([1]));
    sandbox.shutdown().await;
}
