//! What people post as their status: it arrives like a message, in a chat of its own, once.

use futures::StreamExt as _;
use wagate::{
    proto::{
        sandbox_v1 as sandbox,
        v1::{self, ChatKind, event::Payload, message_content::Content},
    },
    sandbox::{Chat, Direction, FaultAction, FaultMatch, FaultRule, PhoneOptions},
};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{Message, message::ImageMessage},
};

use crate::support::{Api, Stage, TestPhone, Watcher, text_of, within};

const STATUS: &str = "status@broadcast";

async fn post(api: &Api, phone: &TestPhone, text: &str) -> String {
    let request = sandbox::SendTextRequest {
        phone: phone.number.to_string(),
        to: STATUS.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    let posted = within("a post", api.sandbox().send_text(request)).await;
    posted.unwrap().into_inner().id
}

/// A phone with which the instance has exchanged a message, which is what makes it see statuses.
async fn acquainted(
    stage: &Stage,
    watcher: &mut Watcher,
    to: &v1::Instance,
    by_lid: bool,
) -> TestPhone {
    let phone = stage
        .phone_with(PhoneOptions {
            push_name: "Peer".to_owned(),
            lid_addressed: by_lid,
            ..Default::default()
        })
        .await;
    phone.send(&to.phone_number, "hello").await;
    watcher.until_received(&to.id, "hello").await;
    phone
}

/// A message as an instance has told it.
async fn told(watcher: &mut Watcher, id: &str) -> v1::Message {
    watcher
        .once("a status", |event| {
            let message = match &event.payload {
                Some(Payload::MessageReceived(one)) => one.message.clone(),
                Some(Payload::MessageSent(one)) => one.message.clone(),
                _ => None,
            };
            message.filter(|message| message.id == id)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_received_in_the_chat_of_statuses() {
    for by_lid in [false, true] {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, owner) = stage.open_instance(&api, "one").await;
        let mut watcher = Watcher::from_earliest(&api).await;
        let phone = acquainted(&stage, &mut watcher, &instance, by_lid).await;

        // The first brings the key that the second is read with.
        let mut ids = Vec::new();
        for text in ["good morning", "good evening"] {
            let id = post(&api, &phone, text).await;
            let message = told(&mut watcher, &id).await;
            assert_eq!(text_of(&message), Some(text));
            assert!(!message.from_me);
            let chat = message.chat.as_ref().unwrap();
            assert_eq!(chat.id, STATUS);
            assert_eq!(chat.kind(), ChatKind::Broadcast);
            assert!(chat.party.is_none());
            let sender = message.sender.as_ref().unwrap();
            assert_eq!(sender.phone_number, phone.number.to_string());
            assert!(sender.lid.ends_with("@lid"), "{sender:?}");
            assert_eq!(sender.name, "Peer");
            ids.push(id);
        }
        let image = Message {
            image_message: MessageField::some(ImageMessage {
                caption: Some("a tree".to_owned()),
                mimetype: Some("image/jpeg".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = sandbox::SendMessageRequest {
            phone: phone.number.to_string(),
            to: STATUS.to_owned(),
            content: Some(sandbox::send_message_request::Content::Message(
                image.encode_to_vec().into(),
            )),
            ..Default::default()
        };
        let posted = api.sandbox().send_message(request).await.unwrap();
        let message = told(&mut watcher, &posted.into_inner().id).await;
        match message.content.unwrap().content.unwrap() {
            Content::Image(image) => assert_eq!(image.caption, "a tree"),
            other => panic!("{other:?}"),
        }

        // The owner's phone sees the same, and says that it is a status.
        let request = sandbox::StreamInboxRequest {
            phone: owner.number.to_string(),
            after_sequence: 0,
        };
        let inbox = api.sandbox().stream_inbox(request).await.unwrap();
        let statuses = inbox
            .into_inner()
            .map(|one| one.unwrap().message.unwrap())
            .filter(|one| std::future::ready(one.status))
            .take(3);
        let statuses: Vec<_> = within("three statuses", statuses.collect()).await;
        assert_eq!(statuses[0].id, ids[0]);
        assert_eq!(statuses[1].text, "good evening");
        assert_eq!(statuses[0].sender, phone.number.to_string());

        // It is stored, found and listed.
        let request = v1::GetMessageRequest {
            instance: "one".to_owned(),
            message_id: ids[0].clone(),
            chat: STATUS.to_owned(),
        };
        let found = api.messages().get_message(request).await.unwrap();
        assert_eq!(found.into_inner().message.unwrap().id, ids[0]);
        let request = v1::ListMessagesRequest {
            instance: "one".to_owned(),
            chat: STATUS.to_owned(),
            ..Default::default()
        };
        let listed = api.messages().list_messages(request).await.unwrap();
        assert_eq!(listed.into_inner().messages.len(), 3);

        // Once it is read, whoever posted it hears of that.
        let request = v1::MarkMessagesReadRequest {
            instance: "one".to_owned(),
            message_ids: ids[..1].to_vec(),
            chat: STATUS.to_owned(),
            ..Default::default()
        };
        api.messages().mark_messages_read(request).await.unwrap();
        within("the receipt", async {
            let read = || {
                let log = stage.network.wire_log(phone.number.device(0), 0);
                log.iter().any(|entry| {
                    entry.direction == Direction::ToDevice
                        && entry.text.starts_with("<receipt")
                        && entry.text.contains("type=\"read\"")
                        && entry.text.contains(&ids[0])
                })
            };
            while !read() {
                tokio::task::yield_now().await;
            }
        })
        .await;

        // And taken back.
        let network = &stage.network;
        network
            .revoke(phone.number, Chat::Status, &ids[1])
            .await
            .unwrap();
        watcher
            .until("message.deleted", |event| match &event.payload {
                Some(Payload::MessageDeleted(one)) => (one.message_id == ids[1]).then_some(()),
                _ => None,
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_posts_is_told_as_sent() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let phone = acquainted(&stage, &mut watcher, &instance, false).await;
    // Its receipt is to come after the status itself.
    let network = &stage.network;
    network.switch_phone(phone.number, false).await.unwrap();
    let id = post(&api, &owner, "from my phone").await;
    let message = told(&mut watcher, &id).await;
    assert!(message.from_me);
    assert_eq!(message.chat.unwrap().id, STATUS);
    assert_eq!(
        text_of(&v1::Message {
            chat: None,
            ..told(&mut watcher, &id).await
        }),
        Some("from my phone")
    );
    network.switch_phone(phone.number, true).await.unwrap();
    assert!(phone.until_text("from my phone").await.status);
    // Somebody has got it; the library does not say who.
    let received = watcher
        .once("a receipt", |event| match &event.payload {
            Some(Payload::MessageStatus(one)) if one.message_id == id => Some(one.clone()),
            _ => None,
        })
        .await;
    assert_eq!(received.status(), v1::MessageStatus::Received);
    assert_eq!(received.chat.unwrap().id, STATUS);
    assert!(received.party.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_whose_key_is_missing_is_asked_for() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let phone = acquainted(&stage, &mut watcher, &instance, true).await;
    let lost = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some("message".to_owned()),
            number: Some(owner.number),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Drop,
        skip: 0,
        count: Some(1),
    };
    stage.network.add_fault(lost).unwrap();
    // The key is lost with it.
    post(&api, &phone, "lost").await;
    let id = post(&api, &phone, "unreadable at first").await;
    watcher
        .until_received(&instance.id, "unreadable at first")
        .await;
    let log = stage.network.wire_log(phone.number.device(0), 0);
    assert!(log.iter().any(|entry| {
        entry.direction == Direction::ToDevice
            && entry.text.starts_with("<receipt")
            && entry.text.contains("type=\"retry\"")
            && entry.text.contains(&id)
    }));
    let texts = watcher.received_texts(&instance.id);
    assert_eq!(texts, ["hello", "unreadable at first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_comes_once_whether_it_is_delivered_twice_or_late() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let phone = acquainted(&stage, &mut watcher, &instance, false).await;
    let twice = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some("message".to_owned()),
            number: Some(owner.number),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Duplicate(2),
        skip: 0,
        count: None,
    };
    let twice = stage.network.add_fault(twice).unwrap();
    for number in 0..5 {
        post(&api, &phone, &format!("twice {number}")).await;
    }
    watcher.until_received(&instance.id, "twice 4").await;
    stage.network.clear_faults(&[twice]);
    let cursor = watcher.cursor.clone();

    stage.stop_gateway().await;
    for number in 0..20 {
        let text = format!("late {number}");
        stage
            .network
            .post_status(phone.number, &text)
            .await
            .unwrap();
    }
    phone.send(&instance.phone_number, "and a message").await;
    stage.start_gateway().await;
    let api = stage.api().await;
    let mut late = Watcher::after(&api, &cursor).await;
    late.until_received(&instance.id, "and a message").await;
    late.until_received(&instance.id, "late 19").await;

    let mut wanted = vec!["hello".to_owned()];
    wanted.extend((0..5).map(|number| format!("twice {number}")));
    assert_eq!(watcher.received_texts(&instance.id), wanted);
    let mut wanted: Vec<_> = (0..20).map(|number| format!("late {number}")).collect();
    wanted.push("and a message".to_owned());
    let mut seen = late.received_texts(&instance.id);
    // A chat keeps its order; two chats need not keep theirs.
    seen.sort_by_key(|text| text == "and a message");
    assert_eq!(seen, wanted);
    owner.until_nothing_waits().await;
    // What was acknowledged does not come again.
    stage.restart_gateway().await;
    let api = stage.api().await;
    phone.send(&instance.phone_number, "last").await;
    let mut rest = Watcher::after(&api, &late.cursor).await;
    rest.until_received(&instance.id, "last").await;
    assert_eq!(rest.received_texts(&instance.id), ["last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_statuses_of_strangers() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let stranger = stage.phone("Stranger").await;
    post(&api, &stranger, "not for you").await;
    stranger.send(&instance.phone_number, "hello").await;
    watcher.until_received(&instance.id, "hello").await;
    assert_eq!(watcher.received_texts(&instance.id), ["hello"]);
    post(&api, &stranger, "now for you").await;
    watcher.until_received(&instance.id, "now for you").await;
}
