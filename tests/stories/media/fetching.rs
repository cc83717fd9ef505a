//! What messages bring: fetched from WhatsApp's media hosts, whatever those do.

use wagate::{
    proto::v1::{event::Payload, message_content::Content},
    sandbox::{Chat, FileKind, LeftFile},
};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{self as wa, message},
};

use super::*;
use crate::support::TestPhone;

/// The next news of a media, with the state that it has now.
pub async fn until_state(watcher: &mut Watcher, state: MediaState) -> v1::MediaUpdated {
    within(&format!("{state:?}"), async {
        loop {
            let event = watcher
                .event()
                .await
                .unwrap()
                .expect("the stream stays open");
            if let Some(Payload::MediaUpdated(updated)) = event.payload
                && updated.media.as_ref().unwrap().state() == state
            {
                return updated;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_brings_is_fetched() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let peer = stage.phone("Peer").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let bytes = noise(700_000);
    let file = Document {
        bytes: &bytes,
        mime_type: "application/x-noise",
        file_name: "noise.bin",
    };
    // The host is full of trouble at first, and the file comes all the same.
    stage
        .network
        .add_media_fault(MediaFault {
            uploads: false,
            downloads: true,
            action: MediaFaultAction::Status(401),
            count: Some(1),
        })
        .unwrap();
    let id = stage
        .network
        .send_document(peer.number, owner.number, file)
        .await
        .unwrap();
    let news = until_state(&mut watcher, MediaState::Ready).await;
    assert_eq!(
        (&news.message_id, news.previous_state()),
        (&id, MediaState::Pending)
    );
    let media = news.media.unwrap();
    assert_eq!(
        (&*media.mime_type, &*media.file_name),
        ("application/x-noise", "noise.bin")
    );
    assert_eq!(
        (media.kind(), media.size_bytes),
        (MediaKind::Document, 700_000)
    );
    assert!(media.expire_time.is_some());
    assert!(download(&api, &media, 0, 0).await.unwrap() == bytes);

    // One that WhatsApp has no longer is asked of the phone.
    stage
        .network
        .add_media_fault(MediaFault {
            uploads: false,
            downloads: true,
            action: MediaFaultAction::Status(404),
            count: None,
        })
        .unwrap();
    stage
        .network
        .send_document(peer.number, owner.number, file)
        .await
        .unwrap();
    let news = until_state(&mut watcher, MediaState::ExpiredAsked).await;
    let media = news.media.unwrap();
    let refused = download(&api, &media, 0, 0).await.unwrap_err();
    assert_eq!(info(&refused), "MEDIA_NOT_READY");
    within("the phone to be asked", async {
        while !stage
            .network
            .wire_log(owner.companion(), 0)
            .iter()
            .any(|entry| entry.text.contains("server-error"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_allowed_is_not_fetched() {
    let stage = Stage::with(&[("media.document_limit", "100kB")]).await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let peer = stage.phone("Peer").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let bytes = noise(200_000);
    let file = Document {
        bytes: &bytes,
        mime_type: "application/x-noise",
        file_name: "noise.bin",
    };
    stage
        .network
        .send_document(peer.number, owner.number, file)
        .await
        .unwrap();
    let news = until_state(&mut watcher, MediaState::Gone).await;
    let media = news.media.unwrap();
    assert_eq!(media.size_bytes, 200_000);
    let refused = download(&api, &media, 0, 0).await.unwrap_err();
    assert_eq!(info(&refused), "MEDIA_NOT_READY");
}

/// An instance, its owner's phone and somebody who writes to it.
struct Scene {
    stage: Stage,
    api: Api,
    owner: TestPhone,
    peer: TestPhone,
    watcher: Watcher,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (_, owner) = stage.open_instance(&api, "one").await;
        let peer = stage.phone("Peer").await;
        let watcher = Watcher::from_earliest(&api).await;
        Self {
            stage,
            api,
            owner,
            peer,
            watcher,
        }
    }

    /// The peer sends this; answers with the message's id.
    async fn say(&self, message: &wa::Message) -> String {
        let (from, to) = (self.peer.number, Chat::User(self.owner.number));
        let bytes = message.encode_to_vec();
        let sent = self.stage.network.send_message(from, to, &bytes).await;
        sent.unwrap().id
    }

    async fn received(&mut self, id: &str) -> v1::Message {
        self.watcher
            .once("a message", |event| match &event.payload {
                Some(Payload::MessageReceived(one)) => {
                    one.message.clone().filter(|one| one.id == id)
                }
                _ => None,
            })
            .await
    }

    fn fault(&self, action: MediaFaultAction, count: Option<u32>) {
        let fault = MediaFault {
            uploads: false,
            downloads: true,
            action,
            count,
        };
        self.stage.network.add_media_fault(fault).unwrap();
    }
}

macro_rules! with_file {
    ($field:ident: $kind:ident, $left:expr, $($more:tt)*) => {{
        let left: LeftFile = $left;
        wa::Message {
            $field: MessageField::some(message::$kind {
                direct_path: Some(left.direct_path),
                media_key: Some(left.media_key),
                file_enc_sha256: Some(left.file_enc_sha256),
                file_sha256: Some(left.file_sha256),
                file_length: Some(left.file_length),
                $($more)*
                ..Default::default()
            }),
            ..Default::default()
        }
    }};
}

fn media_of(message: &v1::Message) -> v1::Media {
    let content = message.content.as_ref().unwrap().content.as_ref().unwrap();
    let media = match content {
        Content::Image(image) => &image.media,
        Content::Video(video) => &video.media,
        Content::Audio(audio) => &audio.media,
        Content::Document(document) => &document.media,
        Content::Sticker(sticker) => &sticker.media,
        other => panic!("{other:?}"),
    };
    media.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_every_kind_of_message_is_fetched() {
    let mut scene = Scene::new().await;
    let bytes = png();
    let leave = |kind| scene.stage.network.leave_file(&bytes, kind).unwrap();
    let envelope = |inner| message::FutureProofMessage {
        message: MessageField::some(inner),
    };
    let messages = [
        (
            MediaKind::Image,
            with_file!(image_message: ImageMessage, leave(FileKind::Image),
                mimetype: Some("image/png".to_owned()),
                caption: Some("look".to_owned()),
                static_url: Some("https://example.com/elsewhere".to_owned()),),
        ),
        (
            MediaKind::Video,
            with_file!(video_message: VideoMessage, leave(FileKind::Video),
                gif_playback: Some(true),),
        ),
        (
            MediaKind::Video,
            with_file!(ptv_message: VideoMessage, leave(FileKind::Video),),
        ),
        (
            MediaKind::Audio,
            with_file!(audio_message: AudioMessage, leave(FileKind::Audio), ptt: Some(true),),
        ),
        (
            MediaKind::Sticker,
            with_file!(sticker_message: StickerMessage, leave(FileKind::Image),),
        ),
        (
            MediaKind::Document,
            wa::Message {
                document_with_caption_message: MessageField::some(envelope(
                    with_file!(document_message: DocumentMessage, leave(FileKind::Document),
                        caption: Some("read".to_owned()),),
                )),
                ..Default::default()
            },
        ),
    ];
    for (kind, message) in messages {
        let id = scene.say(&message).await;
        let received = scene.received(&id).await;
        let shown = media_of(&received);
        assert_eq!((shown.kind(), shown.state()), (kind, MediaState::Pending));
        assert!(!shown.id.is_empty());
        // What the sender calls an address of the file is passed on to nobody.
        assert!(shown.url.is_empty() && !format!("{received:?}").contains("elsewhere"));
        let news = until_state(&mut scene.watcher, MediaState::Ready).await;
        assert_eq!(news.message_id, id);
        let media = news.media.unwrap();
        assert_eq!((&media.id, media.kind()), (&shown.id, kind));
        assert_eq!(download(&scene.api, &media, 0, 0).await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_whatsapp_has_forgotten_is_asked_of_the_phone() {
    let mut scene = Scene::new().await;
    let network = scene.stage.network.clone();
    let bytes = noise(100_000);
    let left = |seed: usize| {
        let bytes = noise(100_000 + seed);
        let left = network.leave_file(&bytes, FileKind::Document).unwrap();
        with_file!(document_message: DocumentMessage, left,)
    };
    let message = left(0);
    network.expire_media().unwrap();
    let id = scene.say(&message).await;
    let asked = until_state(&mut scene.watcher, MediaState::ExpiredAsked).await;
    assert_eq!(
        (asked.previous_state(), &asked.message_id),
        (MediaState::Pending, &id)
    );
    let again = until_state(&mut scene.watcher, MediaState::Pending).await;
    assert_eq!(again.previous_state(), MediaState::ExpiredAsked);
    let news = until_state(&mut scene.watcher, MediaState::Ready).await;
    let media = news.media.unwrap();
    assert!(download(&scene.api, &media, 0, 0).await.unwrap() == bytes);

    // The phone has lost it too.
    let message = left(1);
    network.expire_media().unwrap();
    network.lose_media().unwrap();
    let id = scene.say(&message).await;
    let news = until_state(&mut scene.watcher, MediaState::Gone).await;
    assert_eq!(news.message_id, id);
    let refused = download(&scene.api, &news.media.unwrap(), 0, 0).await;
    assert_eq!(info(&refused.unwrap_err()), "MEDIA_NOT_READY");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_is_tried_again_and_a_liar_is_not_believed() {
    let mut scene = Scene::new().await;
    let bytes = noise(300_000);
    let leave = || {
        scene
            .stage
            .network
            .leave_file(&bytes, FileKind::Document)
            .unwrap()
    };
    let honest = with_file!(document_message: DocumentMessage, leave(),);
    let other_hash = with_file!(document_message: DocumentMessage,
        LeftFile { file_sha256: vec![7; 32], ..leave() },);
    let other_key = with_file!(document_message: DocumentMessage,
        LeftFile { media_key: vec![7; 32], ..leave() },);
    // The whole of it is far more than was announced: what counts is what comes.
    let other_length = with_file!(document_message: DocumentMessage,
        LeftFile { file_length: 10, ..leave() },);

    scene.fault(MediaFaultAction::BreakAfter(1_000), Some(1));
    scene.say(&honest).await;
    let news = until_state(&mut scene.watcher, MediaState::Ready).await;
    let media = news.media.unwrap();
    assert!(download(&scene.api, &media, 0, 0).await.unwrap() == bytes);

    let before = files(&scene.stage.data_dir().join("media"));
    let id = scene.say(&other_length).await;
    let news = until_state(&mut scene.watcher, MediaState::Ready).await;
    let media = news.media.unwrap();
    assert_eq!((news.message_id, media.size_bytes), (id, 300_000));
    // One that is not what its message says is asked of the phone, and what that leaves is the same.
    let id = scene.say(&other_hash).await;
    let asked = until_state(&mut scene.watcher, MediaState::ExpiredAsked).await;
    assert_eq!(asked.message_id, id);
    let news = until_state(&mut scene.watcher, MediaState::Gone).await;
    assert_eq!(
        (&news.message_id, news.previous_state()),
        (&id, MediaState::Pending)
    );
    // Under another key not even the question can be read.
    let id = scene.say(&other_key).await;
    let asked = until_state(&mut scene.watcher, MediaState::ExpiredAsked).await;
    assert_eq!(asked.message_id, id);
    scene.say(&honest).await;
    until_state(&mut scene.watcher, MediaState::Ready).await;
    assert_eq!(files(&scene.stage.data_dir().join("media")), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_damaged_is_asked_of_the_phone_once() {
    let mut scene = Scene::new().await;
    let bytes = noise(100_000);
    let network = scene.stage.network.clone();
    let message = || {
        let left = network.leave_file(&bytes, FileKind::Document).unwrap();
        with_file!(document_message: DocumentMessage, left,)
    };
    // The phone leaves it again, and then it is right.
    scene.fault(MediaFaultAction::Damage, Some(1));
    let id = scene.say(&message()).await;
    let asked = until_state(&mut scene.watcher, MediaState::ExpiredAsked).await;
    assert_eq!(
        (asked.previous_state(), &asked.message_id),
        (MediaState::Pending, &id)
    );
    let news = until_state(&mut scene.watcher, MediaState::Ready).await;
    assert_eq!(news.message_id, id);
    let media = news.media.unwrap();
    assert!(download(&scene.api, &media, 0, 0).await.unwrap() == bytes);

    // What the phone has left is wrong, too.
    let before = files(&scene.stage.data_dir().join("media"));
    scene.fault(MediaFaultAction::Damage, None);
    let id = scene.say(&message()).await;
    until_state(&mut scene.watcher, MediaState::ExpiredAsked).await;
    let news = until_state(&mut scene.watcher, MediaState::Gone).await;
    assert_eq!(
        (news.previous_state(), &news.message_id),
        (MediaState::Pending, &id)
    );
    let questions = scene.watcher.seen.iter().filter(|event| {
        matches!(&event.payload, Some(Payload::MediaUpdated(one)) if one.message_id == id
            && one.media.as_ref().unwrap().state() == MediaState::ExpiredAsked)
    });
    assert_eq!(questions.count(), 1);
    assert_eq!(files(&scene.stage.data_dir().join("media")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_comes_back_is_other_news() {
    let mut scene = Scene::new().await;
    let left = scene
        .stage
        .network
        .leave_file(b"a file", FileKind::Document);
    // The phone leaves it again and again, and it is never there.
    scene.fault(MediaFaultAction::Status(404), None);
    let message = with_file!(document_message: DocumentMessage, left.unwrap(),);
    let id = scene.say(&message).await;
    for _ in 0..2 {
        until_state(&mut scene.watcher, MediaState::ExpiredAsked).await;
    }
    scene.stage.network.clear_media_faults();
    until_state(&mut scene.watcher, MediaState::Ready).await;
    let mut keys: Vec<_> = scene
        .watcher
        .seen
        .iter()
        .filter(|event| {
            matches!(&event.payload, Some(Payload::MediaUpdated(one)) if one.message_id == id)
        })
        .map(|event| event.dedupe_key.clone())
        .collect();
    assert!(keys.len() >= 5, "{keys:?}");
    let told = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), told, "{keys:?}");
}
