//! Stars and deletions for the account alone, between wagate and somebody else's client that are companions of one
//! phone.

use std::time::Duration;

use wagate::{
    proto::v1::{self, MessageDeletionScope as Scope, MessageUpdateCause as Cause, event::Payload},
    sandbox::Chat,
};

use super::Companion;
use crate::support::{Library, Stage, Watcher, within};

/// How often it is looked whether the phone has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(20);

async fn marks_are_shared(library: Library) {
    let Some(program) = library.install().await else {
        return;
    };
    let stage = Stage::new().await;
    let api = stage.api().await;
    let mut other = Companion::paired(&stage, program, false).await;
    let instance = api.create("one").await;
    stage.pair(&api, "one", &other.owner).await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let open = v1::InstanceState::Open;
    watcher.until_state(&instance.id, open).await;
    let peer = stage.phone("Peer").await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        let id = peer.send(&other.number, text).await;
        other.client.until_text(text).await;
        watcher.until_received(&instance.id, text).await;
        other.owner.until_text(text).await;
        ids.push(id);
    }

    // The client does it, and wagate and the phone hear of it.
    for on in [true, false] {
        other.client.mark("star", &ids[0], on).await;
        let wanted = if on { Cause::Starred } else { Cause::Unstarred };
        let told = watcher
            .until("a star", |event| match &event.payload {
                Some(Payload::MessageUpdated(one)) if one.message_id == ids[0] => Some(one.clone()),
                _ => None,
            })
            .await;
        assert_eq!(told.cause(), wanted);
        assert_eq!(told.message.unwrap().starred, on);
    }
    other.client.mark("delete_for_me", &ids[1], true).await;
    let told = watcher
        .until("a deletion", |event| match &event.payload {
            Some(Payload::MessageDeleted(one)) => Some(one.clone()),
            _ => None,
        })
        .await;
    assert_eq!((&told.message_id, told.scope()), (&ids[1], Scope::Me));

    // wagate and the phone do it, and the client hears of it.
    for (starred, what) in [(true, "star"), (false, "unstar")] {
        let request = v1::StarMessageRequest {
            instance: "one".to_owned(),
            message_id: ids[2].clone(),
            starred,
            ..Default::default()
        };
        let starring = api.messages().star_message(request).await;
        assert_eq!(
            starring.unwrap().into_inner().message.unwrap().starred,
            starred
        );
        other.client.until_mark(&ids[2], what).await;
    }
    let (network, owner) = (&stage.network, other.owner.number);
    let chat = Chat::User(peer.number);
    network
        .star_message(owner, chat, &ids[2], true)
        .await
        .unwrap();
    other.client.until_mark(&ids[2], "star").await;
    let request = v1::DeleteMessageForMeRequest {
        instance: "one".to_owned(),
        message_id: ids[0].clone(),
        ..Default::default()
    };
    api.messages().delete_message_for_me(request).await.unwrap();
    other.client.until_mark(&ids[0], "delete_for_me").await;

    // All devices have come to the same.
    within("the phone's view", async {
        loop {
            let marks = network.message_marks(owner).await.unwrap();
            let mut marks: Vec<_> = marks
                .iter()
                .map(|mark| (&mark.message_id, mark.starred, mark.deleted))
                .collect();
            marks.sort_by_key(|(id, ..)| ids.iter().position(|one| one == *id));
            let wanted = [
                (&ids[0], false, true),
                (&ids[1], false, true),
                (&ids[2], true, false),
            ];
            if marks == wanted {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
    other.client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_are_shared_with_baileys() {
    marks_are_shared(Library::Baileys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_are_shared_with_whatsmeow() {
    marks_are_shared(Library::Whatsmeow).await;
}
