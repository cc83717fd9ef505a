//! Files between wagate and somebody else's client: either leaves them at the network's media host, and the other
//! fetches them there and has the same bytes.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use wagate::proto::v1::{
    self, MediaState, event::Payload, media_source::Source, message_content::Content,
    send_message_request::Content as Asked,
};

use super::kinds::Pair;
use crate::{
    media::download,
    support::{
        Library,
        samples::{mp4, noise, opus, png, webp},
    },
};

const OPUS: &str = "audio/ogg; codecs=opus";
const WAVEFORM: [u8; 4] = [0, 30, 100, 7];

fn encoded(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn source(bytes: &[u8]) -> v1::MediaSource {
    v1::MediaSource {
        source: Some(Source::Data(bytes.to_vec().into())),
        ..Default::default()
    }
}

/// A letter of many blocks that end within one.
fn letter() -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    bytes.extend(noise(200_001));
    bytes
}

/// The start of a JPEG: a picture that nobody looks into.
const THUMBNAIL: &[u8] = b"\xff\xd8\xff\xe0";

/// What wagate says, and what the client must show of it beside the bytes.
fn sent_by_wagate() -> Vec<(Asked, &'static str, Vec<u8>, Value)> {
    vec![
        (
            Asked::Image(v1::ImageContent {
                caption: "look".to_owned(),
                source: Some(source(&png())),
                ..Default::default()
            }),
            "image",
            png(),
            json!({"mime_type": "image/png", "caption": "look", "width": 300, "height": 200}),
        ),
        (
            Asked::Video(v1::VideoContent {
                caption: "watch".to_owned(),
                source: Some(v1::MediaSource {
                    duration_seconds: 7,
                    width: 640,
                    height: 480,
                    thumbnail: THUMBNAIL.into(),
                    ..source(&mp4())
                }),
                ..Default::default()
            }),
            "video",
            mp4(),
            json!({"mime_type": "video/mp4", "caption": "watch", "width": 640, "height": 480,
                   "seconds": 7, "thumbnail": encoded(THUMBNAIL)}),
        ),
        (
            Asked::Audio(v1::AudioContent {
                voice_note: true,
                waveform: WAVEFORM.to_vec().into(),
                source: Some(source(&opus())),
                ..Default::default()
            }),
            "audio",
            opus(),
            json!({"mime_type": OPUS, "seconds": 3, "voice_note": true,
                   "waveform": encoded(&WAVEFORM)}),
        ),
        (
            Asked::Document(v1::DocumentContent {
                caption: "read".to_owned(),
                source: Some(v1::MediaSource {
                    file_name: "letter.pdf".to_owned(),
                    ..source(&letter())
                }),
                ..Default::default()
            }),
            "document",
            letter(),
            json!({"mime_type": "application/pdf", "caption": "read", "file_name": "letter.pdf"}),
        ),
        (
            Asked::Sticker(v1::StickerContent {
                source: Some(source(&webp())),
                ..Default::default()
            }),
            "sticker",
            webp(),
            json!({"mime_type": "image/webp", "width": 512, "height": 512}),
        ),
    ]
}

/// What wagate tells of a file of the client, without where it is and what is not told.
fn told(content: Content) -> (v1::Media, Value) {
    match content {
        Content::Image(image) => (image.media.unwrap(), json!({"caption": image.caption})),
        Content::Video(video) => (video.media.unwrap(), json!({"caption": video.caption})),
        Content::Audio(audio) => (
            audio.media.unwrap(),
            json!({"voice_note": audio.voice_note, "waveform": encoded(&audio.waveform)}),
        ),
        Content::Document(document) => (
            document.media.unwrap(),
            json!({"caption": document.caption}),
        ),
        Content::Sticker(sticker) => (sticker.media.unwrap(), json!({})),
        other => panic!("{other:?}"),
    }
}

async fn files(library: Library) {
    let Some(mut pair) = Pair::on(library).await else {
        return;
    };
    for (asked, kind, bytes, shown) in sent_by_wagate() {
        let id = pair.say(asked).await;
        let seen = pair.other.client.until_content(kind, json!({"id": id}));
        let seen = seen.await;
        assert!(seen["error"].is_null(), "{kind}: {seen}");
        assert_eq!(seen["data"], encoded(&bytes), "the bytes of {kind}");
        for (field, value) in shown.as_object().unwrap() {
            assert_eq!(seen[field], *value, "{field} of {kind}");
        }
        if kind == "image" {
            // wagate made a small one of it.
            let small = seen["thumbnail"].as_str().unwrap();
            assert!(small.starts_with(&encoded(b"\xff\xd8\xff")), "{small}");
        }
    }

    // What can be opened once is opened by somebody else's client, too.
    let (asked, kind, bytes, _) = sent_by_wagate().swap_remove(0);
    let id = pair.say_once(asked).await;
    let seen = pair.other.client.until_content(kind, json!({"id": id}));
    let seen = seen.await;
    assert_eq!(seen["view_once"], true, "{seen}");
    assert_eq!(seen["data"], encoded(&bytes));
    let what = json!({"mime_type": "image/png", "data": encoded(&bytes), "view_once": true});
    let (id, _) = pair.hear("image", what).await;
    let once = |event: &v1::Event| match &event.payload {
        Some(Payload::MessageReceived(one)) => {
            let message = one.message.as_ref().filter(|one| one.id == id)?;
            Some(message.view_once)
        }
        _ => None,
    };
    assert!(pair.watcher.once("the message", once).await);

    // The same files come back, with the same said of them.
    for (_, kind, bytes, said) in sent_by_wagate() {
        let mut what = said.clone();
        what["data"] = encoded(&bytes).into();
        let (id, content) = pair.hear(kind, what).await;
        let (media, around) = told(content);
        for (field, value) in around.as_object().unwrap() {
            assert_eq!(said[field], *value, "{field} of {kind}");
        }
        let described = [
            ("mime_type", json!(media.mime_type)),
            ("file_name", json!(media.file_name)),
            ("width", json!(media.width)),
            ("height", json!(media.height)),
            ("seconds", json!(media.duration_seconds)),
        ];
        for (field, value) in described {
            if !said[field].is_null() {
                assert_eq!(said[field], value, "{field} of {kind}");
            }
        }
        assert_eq!(media.size_bytes, bytes.len() as u64, "{kind}");
        let here = pair.watcher.once("the file", |event| match &event.payload {
            Some(Payload::MediaUpdated(one)) if one.message_id == id => one.media.clone(),
            _ => None,
        });
        let here = here.await;
        assert_eq!(here.state(), MediaState::Ready, "{kind}");
        assert_eq!(here.id, media.id);
        let kept = download(&pair.api, &here, 0, 0).await.unwrap();
        assert!(kept == bytes, "the bytes of {kind}");
    }
    pair.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_wagate_exchange_files() {
    files(Library::Baileys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_and_wagate_exchange_files() {
    files(Library::Whatsmeow).await;
}
