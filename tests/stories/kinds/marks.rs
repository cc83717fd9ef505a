//! What the account's devices share of a message and nobody else knows: stars, and deletions for the account alone.

use std::time::Duration;

use wagate::sandbox::{Direction, Document, FaultAction, FaultMatch, FaultRule, Refusal};

use super::*;
use crate::support::info;
use v1::{MediaState, MessageDeletionScope as Scope, MessageUpdateCause as Cause};

/// How often it is looked whether something has come about that no event tells of.
const LOOK_EVERY: Duration = Duration::from_millis(20);

async fn star(
    api: &Api,
    id: &str,
    starred: bool,
    request_id: &str,
) -> Result<v1::Message, tonic::Status> {
    let request = v1::StarMessageRequest {
        instance: "one".to_owned(),
        message_id: id.to_owned(),
        starred,
        request_id: request_id.to_owned(),
        ..Default::default()
    };
    let done = within("StarMessage", api.messages().star_message(request)).await?;
    Ok(done.into_inner().message.unwrap())
}

async fn delete(api: &Api, id: &str, request_id: &str) -> Result<(), tonic::Status> {
    let request = v1::DeleteMessageForMeRequest {
        instance: "one".to_owned(),
        message_id: id.to_owned(),
        request_id: request_id.to_owned(),
        ..Default::default()
    };
    let mut messages = api.messages();
    let deleting = messages.delete_message_for_me(request);
    within("DeleteMessageForMe", deleting).await.map(|_| ())
}

/// Requests of companions about app state.
fn app_state() -> FaultMatch {
    FaultMatch {
        direction: Some(Direction::FromDevice),
        tag: Some("iq".to_owned()),
        xmlns: Some("w:sync:app:state".to_owned()),
        device: Some(1),
        ..Default::default()
    }
}

impl Scene {
    /// A message of the peer that the instance and its phone have.
    async fn theirs(&mut self, text: &str) -> String {
        let id = self.peer.send(&self.instance.phone_number, text).await;
        self.received(&id).await;
        self.seen(&self.owner, &id).await;
        id
    }

    fn with_peer(&self) -> Chat {
        Chat::User(self.peer.number)
    }

    /// Waits until the owner's phone has marked a message so: starred, deleted.
    async fn until_marked(&self, id: &str, wanted: (bool, bool)) {
        within("a mark on the phone", async {
            loop {
                let marks = self.stage.network.message_marks(self.owner.number);
                let marks = marks.await.unwrap();
                let mark = marks.iter().find(|mark| mark.message_id == id);
                if mark.map_or((false, false), |mark| (mark.starred, mark.deleted)) == wanted {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
        .await;
    }

    /// The next change of a star.
    async fn next_star(&mut self, id: &str) -> v1::MessageUpdated {
        self.watcher
            .until("a star", |event| match &event.payload {
                Some(Payload::MessageUpdated(one))
                    if one.message_id == id
                        && matches!(one.cause(), Cause::Starred | Cause::Unstarred) =>
                {
                    Some(one.clone())
                }
                _ => None,
            })
            .await
    }

    /// The deletion of a stored message.
    async fn deleted_with_sender(&mut self, id: &str) -> v1::MessageDeleted {
        self.watcher
            .once("message.deleted", |event| match &event.payload {
                Some(Payload::MessageDeleted(one)) if one.message_id == id => {
                    one.sender.is_some().then(|| one.clone())
                }
                _ => None,
            })
            .await
    }

    /// How often stars and deletions of a message were told.
    fn times_told(&self, id: &str) -> usize {
        let seen = self.watcher.seen.iter();
        let about = seen.filter(|event| match &event.payload {
            Some(Payload::MessageUpdated(one)) => one.message_id == id,
            Some(Payload::MessageDeleted(one)) => one.message_id == id,
            _ => false,
        });
        about.count()
    }

    async fn starred(&self) -> Vec<String> {
        let request = v1::ListMessagesRequest {
            instance: "one".to_owned(),
            chat: self.peer.number.to_string(),
            starred_only: true,
            ..Default::default()
        };
        let listed = self.api.messages().list_messages(request).await.unwrap();
        let messages = listed.into_inner().messages;
        messages.into_iter().map(|message| message.id).collect()
    }

    /// Nobody finds it any more.
    async fn is_gone(&self, id: &str) {
        let request = v1::GetMessageRequest {
            instance: "one".to_owned(),
            message_id: id.to_owned(),
            ..Default::default()
        };
        let refused = self.api.messages().get_message(request).await.unwrap_err();
        assert_eq!(info(&refused), "MESSAGE_NOT_FOUND");
        let request = v1::ListMessagesRequest {
            instance: "one".to_owned(),
            chat: self.peer.number.to_string(),
            include_actions: true,
            ..Default::default()
        };
        let listed = self.api.messages().list_messages(request).await.unwrap();
        let listed = listed.into_inner().messages;
        assert!(listed.iter().all(|message| message.id != id));
        let request = v1::SearchMessagesRequest {
            instance: "one".to_owned(),
            query: "secret".to_owned(),
            ..Default::default()
        };
        let found = self.api.messages().search_messages(request).await.unwrap();
        let found = found.into_inner().messages;
        assert!(found.iter().all(|message| message.id != id));
    }

    async fn restart(&mut self, meanwhile: impl AsyncFnOnce(&Self)) {
        self.stage.stop_gateway().await;
        meanwhile(self).await;
        self.stage.start_gateway().await;
        self.api = self.stage.api().await;
        self.watcher = Watcher::after(&self.api, &self.watcher.cursor).await;
        let open = v1::InstanceState::Open;
        self.watcher.until_state(&self.instance.id, open).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_of_the_instance_is_one_on_the_phone() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let theirs = scene.theirs("theirs").await;
        let mine = scene.say(text("mine")).await.id;
        scene.seen(&scene.owner, &mine).await;
        for (id, from_me) in [(&theirs, false), (&mine, true)] {
            let starred = star(&scene.api, id, true, "").await.unwrap();
            assert!(starred.starred && starred.id == *id);
            scene.until_marked(id, (true, false)).await;
            let told = scene.next_star(id).await;
            assert_eq!((told.cause(), told.from_me), (Cause::Starred, from_me));
            assert_eq!(told.message.as_ref(), Some(&starred));
            assert_eq!(told.content, starred.content);
            assert!(scene.stored(id).await.starred);
        }
        assert_eq!(scene.starred().await, [&*mine, &*theirs]);

        // Once more changes nothing; back changes it.
        star(&scene.api, &theirs, true, "").await.unwrap();
        let unstarred = star(&scene.api, &theirs, false, "").await.unwrap();
        assert!(!unstarred.starred);
        let told = scene.next_star(&theirs).await;
        assert_eq!(told.cause(), Cause::Unstarred);
        scene.until_marked(&theirs, (false, false)).await;
        assert_eq!(scene.starred().await, [&*mine]);
        assert_eq!((scene.times_told(&theirs), scene.times_told(&mine)), (2, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_of_the_phone_is_told_also_after_a_restart() {
    let mut scene = Scene::new().await;
    let id = scene.theirs("theirs").await;
    let (network, phone) = (scene.stage.network.clone(), scene.owner.number);
    let chat = scene.with_peer();
    network.star_message(phone, chat, &id, true).await.unwrap();
    let told = scene.next_star(&id).await;
    assert_eq!(told.cause(), Cause::Starred);
    assert_eq!(told.message, Some(scene.stored(&id).await));

    scene
        .restart(async |_| network.star_message(phone, chat, &id, false).await.unwrap())
        .await;
    let told = scene.next_star(&id).await;
    assert_eq!(told.cause(), Cause::Unstarred);
    assert!(!scene.stored(&id).await.starred);
    // The instance goes on from what the phone did.
    star(&scene.api, &id, true, "").await.unwrap();
    assert_eq!(scene.next_star(&id).await.cause(), Cause::Starred);
    scene.until_marked(&id, (true, false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_it_is_told_whose_message_is_meant() {
    for by_lid in [false, true] {
        let mut scene = Scene::new().await;
        let (group, jid) = scene.group(by_lid, &[]).await;
        let Chat::Group(id) = group else {
            unreachable!()
        };
        let network = scene.stage.network.clone();
        let said = network.send_group_text(scene.peer.number, id, "hello");
        let said = said.await.unwrap().id;
        scene.received(&said).await;
        scene.seen(&scene.owner, &said).await;
        let mine = scene.say_to(&jid, text("mine")).await.unwrap().id;
        scene.seen(&scene.owner, &mine).await;

        star(&scene.api, &said, true, "").await.unwrap();
        scene.until_marked(&said, (true, false)).await;
        let marks = network.message_marks(scene.owner.number).await.unwrap();
        assert_eq!(marks[0].chat, jid);
        assert_eq!(marks[0].participant.ends_with("@lid"), by_lid);
        scene.next_star(&said).await;
        for own in [&said, &mine] {
            let owner = scene.owner.number;
            let deleting = network.delete_message_for_me(owner, group, own, false);
            deleting.await.unwrap();
            let deleted = scene.deleted_with_sender(own).await;
            assert_eq!(deleted.scope(), Scope::Me);
            assert_eq!(deleted.from_me, *own == mine);
            scene.is_gone(own).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_instance_deletes_for_itself_others_keep() {
    let mut scene = Scene::new().await;
    let id = scene.theirs("a secret").await;
    let mine = scene.say(text("my secret")).await.id;
    scene.seen(&scene.owner, &mine).await;
    star(&scene.api, &id, true, "").await.unwrap();
    for (id, from_me) in [(&id, false), (&mine, true)] {
        delete(&scene.api, id, "").await.unwrap();
        scene.is_gone(id).await;
        let deleted = scene.deleted_with_sender(id).await;
        assert_eq!((deleted.scope(), deleted.from_me), (Scope::Me, from_me));
        assert!(deleted.deletion_id.is_empty());
        let actor = deleted.actor.as_ref().unwrap();
        assert_eq!(actor.phone_number, scene.instance.phone_number);
        scene.seen(&scene.peer, id).await;
        let refused = delete(&scene.api, id, "").await.unwrap_err();
        assert_eq!(info(&refused), "MESSAGE_NOT_FOUND");
    }
    scene.until_marked(&id, (true, true)).await;
    scene.until_marked(&mine, (false, true)).await;
    // Nor does it come back: what the peer does to it is about nothing.
    let (network, peer) = (&scene.stage.network, scene.peer.number);
    let edit = network.edit(peer, scene.own(), &id, "another secret").await;
    edit.unwrap();
    scene.theirs("last").await;
    scene.is_gone(&id).await;
    assert_eq!(scene.times_told(&id), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_takes_its_file_along_unless_it_was_passed_on() {
    let mut scene = Scene::new().await;
    let mut ids = Vec::new();
    for bytes in [b"one file".as_slice(), b"another file"] {
        let file = Document {
            bytes,
            mime_type: "text/plain",
            file_name: "file.txt",
        };
        let (network, owner) = (&scene.stage.network, scene.owner.number);
        let id = network.send_document(scene.peer.number, owner, file).await;
        let id = id.unwrap();
        let message = scene.received(&id).await;
        let Content::Document(document) = content(&message) else {
            panic!("{message:?}");
        };
        let media = document.media.as_ref().unwrap().id.clone();
        scene
            .watcher
            .once("the file", |event| match &event.payload {
                Some(Payload::MediaUpdated(one)) => one
                    .media
                    .as_ref()
                    .filter(|one| one.id == media && one.state() == MediaState::Ready)
                    .map(|_| ()),
                _ => None,
            })
            .await;
        scene.seen(&scene.owner, &id).await;
        ids.push((id, media));
    }
    let request = v1::ForwardMessageRequest {
        instance: "one".to_owned(),
        message_id: ids[1].0.clone(),
        recipient: scene.peer.number.to_string(),
        ..Default::default()
    };
    scene.api.messages().forward_message(request).await.unwrap();
    for (id, _) in &ids {
        delete(&scene.api, id, "").await.unwrap();
    }
    // It goes with the next sweep, which comes with a start too.
    scene.stage.restart_gateway().await;
    scene.api = scene.stage.api().await;
    let state = async |media: &str| {
        let request = v1::GetMediaRequest {
            instance: "one".to_owned(),
            media_id: media.to_owned(),
        };
        let media = scene.api.media().get_media(request).await.unwrap();
        media.into_inner().media.unwrap().state()
    };
    within("the end of a file", async {
        while state(&ids[0].1).await != MediaState::Gone {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
    assert_eq!(state(&ids[1].1).await, MediaState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_as_the_first() {
    let mut scene = Scene::new().await;
    let id = scene.theirs("a secret").await;
    let starred = star(&scene.api, &id, true, "r1").await.unwrap();
    star(&scene.api, &id, false, "r2").await.unwrap();
    let again = star(&scene.api, &id, true, "r1").await.unwrap();
    assert_eq!(again, starred);
    assert!(!scene.stored(&id).await.starred);
    let refused = star(&scene.api, &id, false, "r1").await.unwrap_err();
    assert_eq!(info(&refused), "REQUEST_ID_REUSED");
    delete(&scene.api, &id, "r3").await.unwrap();
    delete(&scene.api, &id, "r3").await.unwrap();
    scene.restart(async |_| {}).await;
    delete(&scene.api, &id, "r3").await.unwrap();
    let refused = delete(&scene.api, &id, "r4").await.unwrap_err();
    assert_eq!(info(&refused), "MESSAGE_NOT_FOUND");
    let again = star(&scene.api, &id, true, "r1").await.unwrap();
    assert_eq!(again, starred);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_its_message_waits_for_it() {
    let mut scene = Scene::new().await;
    let (peer, owner) = (scene.peer.clone(), scene.owner.number);
    let own = scene.instance.phone_number.clone();
    let network = scene.stage.network.clone();
    let chat = scene.with_peer();
    // Whatever is there at the first look is past.
    let known = scene.theirs("known").await;
    star(&scene.api, &known, true, "").await.unwrap();
    // The phone has them and marks them before the instance has heard of them.
    let late = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some("message".to_owned()),
            number: Some(owner),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Delay(Duration::from_secs(2)),
        skip: 0,
        count: Some(2),
    };
    network.add_fault(late).unwrap();
    let starred = peer.send(&own, "star").await;
    let deleted = peer.send(&own, "secret").await;
    scene.seen(&scene.owner, &deleted).await;
    network
        .star_message(owner, chat, &starred, true)
        .await
        .unwrap();
    let told = scene.next_star(&starred).await;
    assert!(told.message.is_none() && told.sender.is_none());
    network
        .delete_message_for_me(owner, chat, &deleted, true)
        .await
        .unwrap();
    let told = scene.deleted(&deleted).await;
    assert!(told.sender.is_none() && told.scope() == Scope::Me);

    let told = scene.next_star(&starred).await;
    assert_eq!(told.message, Some(scene.stored(&starred).await));
    assert!(told.message.unwrap().starred);
    scene.deleted_with_sender(&deleted).await;
    scene.is_gone(&deleted).await;
    assert_eq!(
        (scene.times_told(&starred), scene.times_told(&deleted)),
        (2, 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_companion_goes_on_from_what_is_long_past() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (owner, peer) = (stage.phone("Owner").await, stage.phone("Peer").await);
    let id = peer.send(&owner.number.to_string(), "old").await;
    owner.until_text("old").await;
    let chat = Chat::User(peer.number);
    // So much that nobody is shown all of it one by one.
    for time in 0..221 {
        let star = stage
            .network
            .star_message(owner.number, chat, &id, time % 2 == 0);
        star.await.unwrap();
    }
    let instance = api.create("one").await;
    stage.pair(&api, "one", &owner).await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let open = v1::InstanceState::Open;
    watcher.until_state(&instance.id, open).await;
    let new = peer.send(&owner.number.to_string(), "new").await;
    watcher.until_received(&instance.id, "new").await;
    // The phone takes only what is made on top of all that there was.
    assert!(star(&api, &new, true, "").await.unwrap().starred);
    let marks = stage.network.message_marks(owner.number).await.unwrap();
    let mut marks: Vec<_> = marks.iter().map(|mark| &mark.message_id).collect();
    marks.sort();
    let mut wanted = [&id, &new];
    wanted.sort();
    assert_eq!(marks, wanted);
    let told = watcher
        .until("a star", |event| match &event.payload {
            Some(Payload::MessageUpdated(one)) => Some(one.message_id.clone()),
            _ => None,
        })
        .await;
    assert_eq!(told, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_marked_is_refused_with_its_reason() {
    let mut scene = Scene::new().await;
    let id = scene.theirs("theirs").await;
    let unknown = star(&scene.api, "NONE", true, "r0").await.unwrap_err();
    assert_eq!(info(&unknown), "MESSAGE_NOT_FOUND");
    let reaction = send_message_request::Content::Reaction(v1::ReactionContent {
        message_id: id.clone(),
        emoji: "👍".to_owned(),
        ..Default::default()
    });
    let reaction = scene.say(reaction).await.id;
    for refused in [
        star(&scene.api, &reaction, true, "").await.unwrap_err(),
        delete(&scene.api, &reaction, "").await.unwrap_err(),
    ] {
        assert_eq!(info(&refused), "MESSAGE_NOT_CHANGEABLE");
    }

    let network = scene.stage.network.clone();
    let refuse = |code| {
        let refusal = Refusal { code, backoff: 7 };
        FaultRule {
            matches: app_state(),
            action: FaultAction::Refuse(refusal),
            skip: 0,
            count: Some(1),
        }
    };
    for (code, reason) in [
        (403, "APP_STATE_REFUSED"),
        (429, "WHATSAPP_RATE_LIMITED"),
        (503, "WHATSAPP_TIMEOUT"),
    ] {
        network.add_fault(refuse(code)).unwrap();
        let refused = star(&scene.api, &id, true, "r").await.unwrap_err();
        assert_eq!(info(&refused), reason);
        assert!(!scene.stored(&id).await.starred);
    }
    // The same request is done once it can be.
    let done = star(&scene.api, &id, true, "r").await.unwrap();
    assert!(done.starred);
    assert_eq!(scene.next_star(&id).await.cause(), Cause::Starred);
    assert_eq!(scene.times_told(&id), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_phones_keys_nothing_is_shared() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let owner = stage.phone("Owner").await;
    let peer = stage.phone("Peer").await;
    // What the phone tells its new companion gets lost.
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
        count: Some(2),
    };
    stage.network.add_fault(lost).unwrap();
    let instance = api.create("one").await;
    stage.pair(&api, "one", &owner).await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let open = v1::InstanceState::Open;
    watcher.until_state(&instance.id, open).await;
    peer.send(&owner.number.to_string(), "hello").await;
    let message = watcher.until_received(&instance.id, "hello").await;
    let refused = star(&api, &message.id, true, "").await.unwrap_err();
    assert_eq!(info(&refused), "APP_STATE_KEYS_MISSING");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}
