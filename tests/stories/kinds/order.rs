//! What comes before the message that it is about, and messages that can't be read at first.

use std::time::Duration;

use wagate::sandbox::{Direction, FaultAction, FaultMatch, FaultRule, GroupText};

use super::*;

impl Scene {
    /// The next message to the instance takes its time; those after it overtake it.
    fn delay_next(&self) {
        self.delay(Direction::ToDevice, "message");
    }

    fn delay(&self, direction: Direction, tag: &str) {
        let rule = FaultRule {
            matches: FaultMatch {
                direction: Some(direction),
                tag: Some(tag.to_owned()),
                number: Some(self.owner.number),
                device: Some(1),
                ..Default::default()
            },
            action: FaultAction::Delay(Duration::from_secs(2)),
            skip: 0,
            count: Some(1),
        };
        self.stage.network.add_fault(rule).unwrap();
    }

    async fn place_of(&mut self, what: &str, is: impl Fn(&Payload) -> bool) -> v1::Event {
        self.watcher
            .once(what, |event| {
                let payload = event.payload.as_ref()?;
                is(payload).then(|| event.clone())
            })
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_overtakes_its_message_is_applied_to_it() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let own = scene.instance.phone_number.clone();
        let hello = scene.peer.send(&own, "hello").await;
        scene.received(&hello).await;
        let (network, phone) = (scene.stage.network.clone(), scene.peer.number);
        scene.delay_next();
        let id = scene.peer.send(&own, "at five").await;
        let edit = network.edit(phone, scene.own(), &id, "at six").await;
        let edit = edit.unwrap().id;
        let early = scene.updated(&edit).await;
        assert_eq!((early.message_id, early.message), (id.clone(), None));
        let received = scene.received(&id).await;
        assert_eq!(text_of(received.content.as_ref().unwrap()), "at five");
        let late = scene
            .watcher
            .once("the edit once more", |event| match &event.payload {
                Some(Payload::MessageUpdated(one)) if one.message.is_some() => Some(one.clone()),
                _ => None,
            })
            .await;
        assert_eq!(late.edit_id, edit);
        assert_eq!(text_of(late.content.as_ref().unwrap()), "at six");
        let stored = scene.stored(&id).await;
        assert_eq!(stored.content, late.content);
        assert!(stored.edit_time.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_overtakes_its_message_deletes_it() {
    let mut scene = Scene::new().await;
    let eve = scene.stage.phone("Eve").await;
    let (group, _) = scene.group(true, &[eve.number]).await;
    let network = scene.stage.network.clone();
    let Chat::Group(id) = group else {
        unreachable!()
    };
    for phone in [scene.peer.number, eve.number] {
        let said = network.send_group_text(phone, id, "hello").await.unwrap();
        scene.received(&said.id).await;
    }
    scene.delay_next();
    let said = network.send_group_text(eve.number, id, "rude").await;
    let said = said.unwrap().id;
    scene.seen(&scene.peer, &said).await;
    // The peer made the group, so it may delete what others write.
    network
        .revoke(scene.peer.number, group, &said)
        .await
        .unwrap();
    let early = scene.deleted(&said).await;
    assert_eq!(early.sender, None);
    scene.received(&said).await;
    let late = scene
        .watcher
        .once("the deletion once more", |event| match &event.payload {
            Some(Payload::MessageDeleted(one)) if one.sender.is_some() => Some(one.clone()),
            _ => None,
        })
        .await;
    assert_eq!(late.sender.unwrap().phone_number, eve.number.to_string());
    let actor = late.actor.unwrap().phone_number;
    assert_eq!(actor, scene.peer.number.to_string());
    match content(&scene.stored(&said).await) {
        Content::Deleted(deletion) => assert!(deletion.by_admin),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_at_first_keeps_its_place() {
    let mut scene = Scene::new().await;
    let (group, jid) = scene.group(true, &[]).await;
    let network = scene.stage.network.clone();
    let Chat::Group(id) = group else {
        unreachable!()
    };
    let text = GroupText {
        text: "with a key that you lack".to_owned(),
        withheld_from: vec![scene.owner.number.device(1)],
        ..Default::default()
    };
    // The request for it takes its time.
    scene.delay(Direction::FromDevice, "receipt");
    let said = network.send_group_text(scene.peer.number, id, text).await;
    let said = said.unwrap().id;
    let waits = scene
        .place_of("message.undecryptable", |payload| {
            matches!(payload, Payload::MessageUndecryptable(one)
                if one.message.as_ref().is_some_and(|one| one.id == said))
        })
        .await;
    let Some(Payload::MessageUndecryptable(held)) = waits.payload else {
        unreachable!()
    };
    let held = held.message.unwrap();
    assert_eq!(held.status(), v1::MessageStatus::Unspecified);
    assert_eq!(held.chat.unwrap().id, jid);
    match held.content.unwrap().content.unwrap() {
        Content::Unsupported(content) => assert_eq!(content.original_type, "undecryptable"),
        other => panic!("{other:?}"),
    }
    let came = scene
        .place_of("the message", |payload| {
            matches!(payload, Payload::MessageReceived(one)
                if one.message.as_ref().is_some_and(|one| one.id == said))
        })
        .await;
    assert_eq!(came.dedupe_key, waits.dedupe_key);
    let stored = scene.stored(&said).await;
    assert_eq!(stored.status(), v1::MessageStatus::Received);
    assert_eq!(
        text_of(stored.content.as_ref().unwrap()),
        "with a key that you lack"
    );
    let listed = v1::ListMessagesRequest {
        instance: "one".to_owned(),
        chat: jid,
        ..Default::default()
    };
    let listed = scene.api.messages().list_messages(listed).await.unwrap();
    let listed = listed.into_inner().messages;
    assert_eq!(listed.iter().filter(|one| one.id == said).count(), 1);
}
