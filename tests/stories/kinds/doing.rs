//! What is done to messages: reactions, edits, deletions, pins, passing on, receipts.

use send_message_request::Content as Asked;

use super::*;
use crate::support::info;

fn reaction(id: &str, emoji: &str) -> Asked {
    Asked::Reaction(v1::ReactionContent {
        message_id: id.to_owned(),
        emoji: emoji.to_owned(),
        ..Default::default()
    })
}

async fn edit(api: &Api, id: &str, text: &str) -> Result<v1::Message, tonic::Status> {
    let request = v1::EditMessageRequest {
        instance: "one".to_owned(),
        message_id: id.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    let edited = within("EditMessage", api.messages().edit_message(request)).await?;
    Ok(edited.into_inner().message.unwrap())
}

async fn revoke(api: &Api, id: &str) -> Result<v1::Message, tonic::Status> {
    let request = v1::RevokeMessageRequest {
        instance: "one".to_owned(),
        message_id: id.to_owned(),
        request_id: format!("revoke-{id}"),
        ..Default::default()
    };
    let revoked = within("RevokeMessage", api.messages().revoke_message(request)).await?;
    Ok(revoked.into_inner().message.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_go_both_ways_and_are_taken_back() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let own = scene.instance.phone_number.clone();
        let id = scene.peer.send(&own, "hello").await;
        scene.received(&id).await;
        for emoji in ["👍", ""] {
            let sent = scene.say(reaction(&id, emoji)).await;
            let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
            let seen = seen.reaction_message.as_option().unwrap();
            assert_eq!(seen.text.as_deref(), Some(emoji));
            let key = seen.key.as_option().unwrap();
            assert_eq!((key.id.as_deref(), key.from_me), (Some(&*id), Some(false)));
        }

        let sent = scene.say(text("hello yourself")).await;
        scene.seen(&scene.peer, &sent.id).await;
        for emoji in ["❤️", ""] {
            let (network, phone) = (&scene.stage.network, scene.peer.number);
            let reacted = network.react(phone, scene.own(), &sent.id, emoji).await;
            let received = scene.received(&reacted.unwrap().id).await;
            match content(&received) {
                Content::Reaction(reaction) => {
                    assert_eq!(reaction.message_id, sent.id);
                    assert_eq!(reaction.emoji, emoji);
                }
                other => panic!("{other:?}"),
            }
        }
        let nothing = scene.peer.number.to_string();
        let refused = scene
            .say_to(&nothing, reaction("NONE", "👍"))
            .await
            .unwrap_err();
        assert_eq!(info(&refused), "MESSAGE_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_phone_changes_what_is_stored() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let own = scene.instance.phone_number.clone();
        let id = scene.peer.send(&own, "helo").await;
        scene.received(&id).await;
        let (network, phone) = (&scene.stage.network, scene.peer.number);
        let edit = network
            .edit(phone, scene.own(), &id, "hello")
            .await
            .unwrap();
        let updated = scene.updated(&edit.id).await;
        assert_eq!(updated.message_id, id);
        assert!(!updated.from_me);
        assert_eq!(text_of(updated.content.as_ref().unwrap()), "hello");
        let stored = scene.stored(&id).await;
        assert_eq!(text_of(stored.content.as_ref().unwrap()), "hello");
        assert!(stored.edit_time.is_some());
        assert_eq!(Some(stored), updated.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_instance_edits_and_deletes_is_seen_by_the_phone() {
    let mut scene = Scene::new().await;
    let sent = scene.say(text("helo")).await;
    let (_, original) = scene.seen(&scene.peer, &sent.id).await;
    assert_eq!(original.conversation.as_deref(), Some("helo"));

    let edit = edit(&scene.api, &sent.id, "hello").await.unwrap();
    let (_, seen) = scene.seen(&scene.peer, &edit.id).await;
    let protocol = seen.protocol_message.as_option().unwrap();
    let key = protocol.key.as_option().unwrap();
    assert_eq!(key.id.as_deref(), Some(&*sent.id));
    let edited = protocol.edited_message.as_option().unwrap();
    assert_eq!(edited.conversation.as_deref(), Some("hello"));
    let updated = scene.updated(&edit.id).await;
    assert_eq!(updated.message_id, sent.id);
    let stored = scene.stored(&sent.id).await;
    assert_eq!(text_of(stored.content.as_ref().unwrap()), "hello");

    let deletion = revoke(&scene.api, &sent.id).await.unwrap();
    let (_, seen) = scene.seen(&scene.peer, &deletion.id).await;
    let protocol = seen.protocol_message.as_option().unwrap();
    assert_eq!(protocol.key.as_option().unwrap().from_me, Some(true));
    let deleted = scene.deleted(&sent.id).await;
    assert_eq!(deleted.deletion_id, deletion.id);
    let stored = scene.stored(&sent.id).await;
    assert!(matches!(content(&stored), Content::Deleted(_)));
    // A retry is answered, a new try is not.
    assert_eq!(revoke(&scene.api, &sent.id).await.unwrap().id, deletion.id);
    let again = super::doing::edit(&scene.api, &sent.id, "again")
        .await
        .unwrap_err();
    assert_eq!(info(&again), "MESSAGE_NOT_CHANGEABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_what_others_wrote() {
    let mut scene = Scene::new().await;
    let own = scene.instance.phone_number.clone();
    let theirs = scene.peer.send(&own, "theirs").await;
    scene.received(&theirs).await;
    let refused = edit(&scene.api, &theirs, "mine").await.unwrap_err();
    assert_eq!(info(&refused), "MESSAGE_NOT_CHANGEABLE");
    let refused = revoke(&scene.api, &theirs).await.unwrap_err();
    assert_eq!(info(&refused), "MESSAGE_NOT_CHANGEABLE");

    // A phone that claims the right to it changes nothing either.
    let mine = scene.say(text("mine")).await;
    scene.seen(&scene.peer, &mine.id).await;
    let (network, phone) = (&scene.stage.network, scene.peer.number);
    network
        .edit(phone, scene.own(), &mine.id, "forged")
        .await
        .unwrap();
    network.revoke(phone, scene.own(), &mine.id).await.unwrap();
    let last = scene.peer.send(&own, "last").await;
    scene.received(&last).await;
    let stored = scene.stored(&mine.id).await;
    assert_eq!(text_of(stored.content.as_ref().unwrap()), "mine");
    let told = scene.watcher.seen.iter().any(|event| {
        matches!(
            event.payload,
            Some(Payload::MessageUpdated(_) | Payload::MessageDeleted(_))
        )
    });
    assert!(!told);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_deletes_what_a_member_wrote_and_a_member_does_not() {
    for by_lid in [false, true] {
        let mut scene = Scene::new().await;
        let eve = scene.stage.phone("Eve").await;
        let (group, jid) = scene.group(by_lid, &[eve.number]).await;
        let network = scene.stage.network.clone();
        let Chat::Group(id) = group else {
            unreachable!()
        };
        let said = network
            .send_group_text(eve.number, id, "hello")
            .await
            .unwrap();
        scene.received(&said.id).await;
        let mine = scene.say_to(&jid, text("mine")).await.unwrap();
        scene.seen(&eve, &mine.id).await;
        scene.seen(&scene.peer, &said.id).await;

        // Eve is no admin, and neither is the instance; the peer made the group.
        network.revoke(eve.number, group, &mine.id).await.unwrap();
        let refused = revoke(&scene.api, &said.id).await.unwrap_err();
        assert_eq!(info(&refused), "GROUP_ADMIN_REQUIRED");
        network
            .revoke(scene.peer.number, group, &said.id)
            .await
            .unwrap();
        let deleted = scene.deleted(&said.id).await;
        let actor = deleted.actor.unwrap();
        assert_eq!(actor.phone_number, scene.peer.number.to_string());
        let stored = scene.stored(&mine.id).await;
        assert_eq!(text_of(stored.content.as_ref().unwrap()), "mine");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_passed_on_and_pinned() {
    let mut scene = Scene::new().await;
    let eve = scene.stage.phone("Eve").await;
    let own = scene.instance.phone_number.clone();
    let id = scene.peer.send(&own, "news").await;
    scene.received(&id).await;
    let request = v1::ForwardMessageRequest {
        instance: "one".to_owned(),
        message_id: id.clone(),
        recipient: eve.number.to_string(),
        ..Default::default()
    };
    let forwarded = scene.api.messages().forward_message(request).await.unwrap();
    let forwarded = forwarded.into_inner().message.unwrap();
    assert!(forwarded.forwarded);
    let (_, seen) = scene.seen(&eve, &forwarded.id).await;
    let seen = seen.extended_text_message.as_option().unwrap();
    assert_eq!(seen.text.as_deref(), Some("news"));
    let around = seen.context_info.as_option().unwrap();
    assert_eq!(around.is_forwarded, Some(true));

    for (seconds, pinned) in [(86_400, true), (0, false)] {
        let request = v1::PinMessageRequest {
            instance: "one".to_owned(),
            message_id: id.clone(),
            duration_seconds: seconds,
            ..Default::default()
        };
        let pin = scene.api.messages().pin_message(request).await.unwrap();
        let pin = pin.into_inner().message.unwrap();
        match content(&pin) {
            Content::Pin(pin) => assert_eq!((pin.pinned, &pin.message_id), (pinned, &id)),
            other => panic!("{other:?}"),
        }
        let (_, seen) = scene.seen(&scene.peer, &pin.id).await;
        assert!(seen.pin_in_chat_message.is_set());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_told_to_its_writer() {
    let mut scene = Scene::new().await;
    let own = scene.instance.phone_number.clone();
    let first = scene.peer.send(&own, "one").await;
    let second = scene.peer.send(&own, "two").await;
    scene.received(&first).await;
    scene.received(&second).await;
    let request = v1::MarkMessagesReadRequest {
        instance: "one".to_owned(),
        message_ids: vec![first.clone(), second.clone()],
        ..Default::default()
    };
    scene
        .api
        .messages()
        .mark_messages_read(request)
        .await
        .unwrap();
    let request = v1::MarkMessagesPlayedRequest {
        instance: "one".to_owned(),
        message_ids: vec![first.clone()],
        ..Default::default()
    };
    scene
        .api
        .messages()
        .mark_messages_played(request)
        .await
        .unwrap();
    let phone = scene.peer.number.device(0);
    within("the receipts", async {
        loop {
            let log = scene.stage.network.wire_log(phone, 0);
            let told = |kind: &str, id: &str| {
                log.iter()
                    .any(|one| one.text.contains(kind) && one.text.contains(id))
            };
            let read = told("\"read\"", &first) && told("\"read\"", &second);
            if read && told("\"played\"", &first) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;

    let mine = scene.say(text("mine")).await;
    let request = v1::MarkMessagesReadRequest {
        instance: "one".to_owned(),
        message_ids: vec![mine.id],
        ..Default::default()
    };
    let refused = scene.api.messages().mark_messages_read(request).await;
    assert_eq!(info(&refused.unwrap_err()), "FIELD_INVALID");
}
