//! Files in messages: by handle, by bytes and by URL, as every kind, and not at all where something is wrong.

use futures::StreamExt as _;
use wagate::{
    proto::v1::{event::Payload, media_source::Source, message_content::Content},
    sandbox::InboxMessage,
};
use waproto::{buffa::Message as _, whatsapp as wa};

use super::*;
use crate::support::{
    TestPhone,
    samples::{mp4, opus, webp},
};
use v1::send_message_request::Content as Asked;

/// An instance and somebody to write to.
struct Scene {
    stage: Stage,
    api: Api,
    peer: TestPhone,
}

impl Scene {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&'static str, &str)]) -> Self {
        let stage = Stage::with(settings).await;
        let api = stage.api().await;
        stage.open_instance(&api, "one").await;
        let peer = stage.phone("Peer").await;
        Self { stage, api, peer }
    }

    fn request(&self, asked: Asked) -> v1::SendMessageRequest {
        v1::SendMessageRequest {
            instance: "one".to_owned(),
            recipient: self.peer.number.to_string(),
            content: Some(asked),
            ..Default::default()
        }
    }

    async fn send(&self, request: v1::SendMessageRequest) -> Result<v1::Message, Status> {
        let sent = within("SendMessage", self.api.messages().send_message(request)).await?;
        Ok(sent.into_inner().message.unwrap())
    }

    async fn say(&self, asked: Asked) -> v1::Message {
        self.send(self.request(asked)).await.unwrap()
    }

    async fn upload(&self, kind: MediaKind, bytes: &[u8]) -> v1::Media {
        let told = UploadMediaMetadata {
            kind: kind.into(),
            ..document("one")
        };
        upload(&self.api, told, bytes).await.unwrap()
    }

    /// A message as a phone has it.
    async fn seen(&self, phone: &TestPhone, id: &str) -> (InboxMessage, wa::Message) {
        let inbox = self.stage.network.inbox(phone.number, 0).unwrap();
        let mut inbox = Box::pin(inbox);
        let found = within("a message in an inbox", async {
            loop {
                let message = inbox.next().await.expect("the inbox stays open");
                if message.id == id {
                    return message;
                }
            }
        })
        .await;
        let message = wa::Message::decode_from_slice(&found.message).unwrap();
        (found, message)
    }

    /// The bytes of a message's file, as a phone opens it.
    async fn opened(&self, id: &str) -> Vec<u8> {
        let (raw, _) = self.seen(&self.peer, id).await;
        self.stage.network.open_file(&raw.message).unwrap()
    }

    /// How many files lie at WhatsApp's media host.
    fn left(&self) -> usize {
        files(
            &self
                .stage
                .data_dir()
                .with_file_name("network")
                .join("media"),
        )
    }

    fn refuse_uploads(&self, status: u16, count: Option<u32>) {
        let fault = MediaFault {
            uploads: true,
            downloads: false,
            action: MediaFaultAction::Status(status),
            count,
        };
        self.stage.network.add_media_fault(fault).unwrap();
    }
}

fn by(source: Source) -> Option<v1::MediaSource> {
    Some(v1::MediaSource {
        source: Some(source),
        ..Default::default()
    })
}

fn data(bytes: &[u8]) -> Option<v1::MediaSource> {
    by(Source::Data(bytes.to_vec().into()))
}

fn handle(media: &v1::Media) -> Option<v1::MediaSource> {
    by(Source::MediaId(media.id.clone()))
}

fn image(source: Option<v1::MediaSource>) -> Asked {
    Asked::Image(v1::ImageContent {
        source,
        ..Default::default()
    })
}

fn video(source: Option<v1::MediaSource>) -> v1::VideoContent {
    v1::VideoContent {
        source,
        ..Default::default()
    }
}

fn file(source: Option<v1::MediaSource>) -> Asked {
    Asked::Document(v1::DocumentContent {
        source,
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_file_reaches_a_phone() {
    let scene = Scene::new().await;
    type Has = fn(&wa::Message) -> bool;
    let (film, note) = (mp4(), opus());
    let kinds: Vec<(Asked, Vec<u8>, Has)> = vec![
        (
            Asked::Image(v1::ImageContent {
                caption: "look".to_owned(),
                source: handle(&scene.upload(MediaKind::Image, &png()).await),
                ..Default::default()
            }),
            png(),
            |seen| {
                let image = seen.image_message.as_option().unwrap();
                image.caption.as_deref() == Some("look")
                    && (image.width, image.height) == (Some(300), Some(200))
                    && image.mimetype.as_deref() == Some("image/png")
                    && image
                        .jpeg_thumbnail
                        .as_ref()
                        .unwrap()
                        .starts_with(b"\xff\xd8")
                    && image.media_key_timestamp.is_some()
            },
        ),
        (
            Asked::Video(v1::VideoContent {
                caption: "watch".to_owned(),
                source: Some(v1::MediaSource {
                    duration_seconds: 7,
                    width: 640,
                    height: 480,
                    ..handle(&scene.upload(MediaKind::Video, &film).await).unwrap()
                }),
                ..Default::default()
            }),
            film.clone(),
            |seen| {
                let video = seen.video_message.as_option().unwrap();
                (video.seconds, video.width) == (Some(7), Some(640))
                    && video.gif_playback.is_none()
                    && video.streaming_sidecar.is_some()
            },
        ),
        (
            Asked::Video(v1::VideoContent {
                gif: true,
                ..video(data(&film))
            }),
            film.clone(),
            |seen| seen.video_message.as_option().unwrap().gif_playback == Some(true),
        ),
        (
            Asked::Video(v1::VideoContent {
                round: true,
                ..video(data(&film))
            }),
            film,
            |seen| seen.ptv_message.is_set() && !seen.video_message.is_set(),
        ),
        (
            Asked::Audio(v1::AudioContent {
                voice_note: true,
                waveform: vec![0, 50, 100].into(),
                source: data(&note),
                ..Default::default()
            }),
            note.clone(),
            |seen| {
                let audio = seen.audio_message.as_option().unwrap();
                audio.ptt == Some(true)
                    && audio.seconds == Some(3)
                    && audio.waveform.as_deref() == Some(&[0, 50, 100][..])
                    && audio.mimetype.as_deref() == Some("audio/ogg; codecs=opus")
            },
        ),
        (
            Asked::Audio(v1::AudioContent {
                source: data(&note),
                ..Default::default()
            }),
            note,
            |seen| seen.audio_message.as_option().unwrap().ptt == Some(false),
        ),
        (
            Asked::Document(v1::DocumentContent {
                caption: "read".to_owned(),
                page_count: 4,
                source: Some(v1::MediaSource {
                    file_name: "letter.pdf".to_owned(),
                    ..data(b"%PDF-1.7 and so on").unwrap()
                }),
                ..Default::default()
            }),
            b"%PDF-1.7 and so on".to_vec(),
            |seen| {
                let document = seen.document_message.as_option().unwrap();
                document.file_name.as_deref() == Some("letter.pdf")
                    && document.title.as_deref() == Some("letter.pdf")
                    && document.mimetype.as_deref() == Some("application/pdf")
                    && (document.page_count, document.caption.as_deref()) == (Some(4), Some("read"))
            },
        ),
        (
            Asked::Sticker(v1::StickerContent {
                source: data(&webp()),
                ..Default::default()
            }),
            webp(),
            |seen| {
                let sticker = seen.sticker_message.as_option().unwrap();
                (sticker.width, sticker.is_animated) == (Some(512), Some(false))
            },
        ),
    ];
    for (asked, bytes, has) in kinds {
        let sent = scene.say(asked).await;
        assert!(sent.status >= v1::MessageStatus::Sent as i32, "{sent:?}");
        let (raw, seen) = scene.seen(&scene.peer, &sent.id).await;
        assert!(has(&seen), "{seen:?}");
        assert_eq!(scene.stage.network.open_file(&raw.message).unwrap(), bytes);
        // What is stored tells the handle, and not where the bytes came from.
        let content = sent.content.unwrap().content.unwrap();
        let (media, source) = match content {
            Content::Image(image) => (image.media, image.source),
            Content::Video(video) => (video.media, video.source),
            Content::Audio(audio) => (audio.media, audio.source),
            Content::Document(document) => (document.media, document.source),
            Content::Sticker(sticker) => (sticker.media, sticker.source),
            other => panic!("{other:?}"),
        };
        assert_eq!(source, None);
        let media = media.unwrap();
        assert_eq!(download(&scene.api, &media, 0, 0).await.unwrap(), bytes);
        // Kept as long as messages' media are, no longer as an upload.
        let request = v1::GetMediaRequest {
            instance: "one".to_owned(),
            media_id: media.id,
        };
        let kept = scene.api.media().get_media(request).await.unwrap();
        let kept = kept.into_inner().media.unwrap().expire_time.unwrap();
        let weeks = kept.seconds - media.create_time.unwrap().seconds > 14 * 86_400;
        assert!(weeks, "{kept:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_opened_once_says_so() {
    let scene = Scene::new().await;
    let (other, _) = scene.stage.open_instance(&scene.api, "two").await;
    let mut watcher = Watcher::from_earliest(&scene.api).await;
    let note = || v1::AudioContent {
        voice_note: true,
        source: data(&opus()),
        ..Default::default()
    };
    let once = |asked| v1::SendMessageRequest {
        view_once: true,
        ephemeral_seconds: Some(86_400),
        ..scene.request(asked)
    };
    let caption = v1::ImageContent {
        caption: "look".to_owned(),
        source: data(&png()),
        ..Default::default()
    };
    for (asked, bytes) in [
        (Asked::Image(caption), png()),
        (Asked::Video(video(data(&mp4()))), mp4()),
        (Asked::Audio(note()), opus()),
    ] {
        let is_sound = matches!(asked, Asked::Audio(_));
        // A phone has it in the envelope that it looks for, and opens its file.
        let sent = scene.send(once(asked.clone())).await.unwrap();
        assert!(sent.view_once && sent.ephemeral_seconds == 86_400);
        let (raw, seen) = scene.seen(&scene.peer, &sent.id).await;
        assert!(raw.is_view_once());
        let envelope = match is_sound {
            true => &seen.view_once_message_v2_extension,
            false => &seen.view_once_message_v2,
        };
        let inner = envelope.as_option().unwrap().message.as_option().unwrap();
        let marks = [
            inner.image_message.as_option().map(|one| one.view_once),
            inner.video_message.as_option().map(|one| one.view_once),
            inner.audio_message.as_option().map(|one| one.view_once),
        ];
        assert_eq!(marks.into_iter().flatten().next(), Some(Some(true)));
        assert_eq!(scene.stage.network.open_file(&raw.message).unwrap(), bytes);

        // It is stored like any other, but is neither passed on nor reworded.
        let request = v1::GetMessageRequest {
            instance: "one".to_owned(),
            message_id: sent.id.clone(),
            ..Default::default()
        };
        let kept = scene.api.messages().get_message(request).await.unwrap();
        assert!(kept.into_inner().message.unwrap().view_once);
        let forward = v1::ForwardMessageRequest {
            instance: "one".to_owned(),
            message_id: sent.id.clone(),
            recipient: other.phone_number.clone(),
            ..Default::default()
        };
        let refused = scene.api.messages().forward_message(forward).await;
        assert_eq!(info(&refused.unwrap_err()), "MESSAGE_NOT_CHANGEABLE");
        let edit = v1::EditMessageRequest {
            instance: "one".to_owned(),
            message_id: sent.id,
            text: "look again".to_owned(),
            ..Default::default()
        };
        let refused = scene.api.messages().edit_message(edit).await;
        assert_eq!(info(&refused.unwrap_err()), "MESSAGE_NOT_CHANGEABLE");

        // wagate understands it.
        let sent = scene.send(v1::SendMessageRequest {
            recipient: other.phone_number.clone(),
            ..once(asked)
        });
        let sent = sent.await.unwrap();
        let received = watcher.once("the message", |event| match &event.payload {
            Some(Payload::MessageReceived(one)) => {
                one.message.clone().filter(|one| one.id == sent.id)
            }
            _ => None,
        });
        let received = received.await;
        assert!(received.view_once && received.ephemeral_seconds == 86_400);
    }

    let album = v1::SendMessageRequest {
        album_message_id: "3EB0".to_owned(),
        ..once(image(data(&png())))
    };
    let refused = [
        once(file(data(b"bytes"))),
        once(Asked::Sticker(v1::StickerContent {
            source: data(&webp()),
            ..Default::default()
        })),
        once(Asked::Audio(v1::AudioContent {
            voice_note: false,
            ..note()
        })),
        once(Asked::Video(v1::VideoContent {
            round: true,
            ..video(data(&mp4()))
        })),
        once(Asked::Video(v1::VideoContent {
            gif: true,
            ..video(data(&mp4()))
        })),
        once(Asked::Text(v1::TextContent {
            text: "hello".to_owned(),
            ..Default::default()
        })),
        album,
    ];
    for request in refused {
        let refused = scene.send(request).await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            ("FIELD_INVALID", "view_once")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_album_holds_its_images() {
    let scene = Scene::new().await;
    let head = scene
        .say(Asked::Album(v1::AlbumContent {
            image_count: 2,
            video_count: 0,
        }))
        .await;
    let in_album = |id: &str| v1::SendMessageRequest {
        album_message_id: id.to_owned(),
        ..scene.request(image(data(&png())))
    };
    for _ in 0..2 {
        let sent = scene.send(in_album(&head.id)).await.unwrap();
        assert_eq!(sent.album_message_id, head.id);
        let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
        let beside = seen.message_context_info.as_option().unwrap();
        let association = beside.message_association.as_option().unwrap();
        let key = association.parent_message_key.as_option().unwrap();
        assert_eq!(key.id.as_deref(), Some(&*head.id));
        scene.opened(&sent.id).await;
    }
    let (_, seen) = scene.seen(&scene.peer, &head.id).await;
    let album = seen.album_message.as_option().unwrap();
    assert_eq!(album.expected_image_count, Some(2));

    let text = scene
        .api
        .send("one", &scene.peer.number.to_string(), "hi")
        .await;
    for (id, reason) in [
        (&*text.unwrap().id, "FIELD_INVALID"),
        ("3EB0", "MESSAGE_NOT_FOUND"),
    ] {
        let refused = scene.send(in_album(id)).await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            (reason, "album_message_id")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_from_a_url_unless_that_leads_inside() {
    let site = website(png()).await;
    let scene = Scene::with(&[("egress.allow_networks", "127.0.0.0/8")]).await;
    let by_url = |path: &str| image(by(Source::Url(format!("{site}{path}"))));
    let sent = scene.say(by_url("/a.png")).await;
    assert_eq!(scene.opened(&sent.id).await, png());
    for path in ["/none", "/lie"] {
        let refused = scene.send(scene.request(by_url(path))).await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            ("URL_FAILED", "image.source.url")
        );
    }
    let guarded = Scene::new().await;
    for url in [
        format!("{site}/a.png"),
        site.replace("127.0.0.1", "localhost"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[::ffff:10.0.0.1]/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let request = guarded.request(image(by(Source::Url(url))));
        let refused = guarded.send(request).await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            ("URL_REFUSED", "image.source.url")
        );
    }
    assert_eq!(
        (
            guarded.left(),
            files(&guarded.stage.data_dir().join("media"))
        ),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_as_what_it_is_to_be_is_not_sent() {
    let scene = Scene::with(&[("media.document_limit", "100kB")]).await;
    let (text, film) = (scene.upload(MediaKind::Document, b"text").await, mp4());
    let long = "x".repeat(1_025);
    let audio = |voice_note, waveform: &[u8], source| {
        Asked::Audio(v1::AudioContent {
            voice_note,
            waveform: waveform.to_vec().into(),
            source,
            ..Default::default()
        })
    };
    let told = |change: fn(&mut v1::MediaSource)| {
        let mut source = data(&png()).unwrap();
        change(&mut source);
        image(Some(source))
    };
    let before = files(&scene.stage.data_dir().join("media"));
    let refused = [
        (image(None), "FIELD_INVALID", "image.source"),
        (
            image(Some(Default::default())),
            "FIELD_INVALID",
            "image.source",
        ),
        (image(data(b"")), "MEDIA_EMPTY", "image.source.data"),
        (
            image(by(Source::MediaId("none".to_owned()))),
            "FIELD_INVALID",
            "image.source.media_id",
        ),
        (
            image(by(Source::MediaId(
                "0197a1b2-0000-4000-8000-000000000000".to_owned(),
            ))),
            "MEDIA_NOT_FOUND",
            "image.source.media_id",
        ),
        (
            image(handle(&text)),
            "MEDIA_TYPE_MISMATCH",
            "image.source.mime_type",
        ),
        (
            image(data(&film)),
            "MEDIA_TYPE_MISMATCH",
            "image.source.mime_type",
        ),
        (
            told(|source| source.mime_type = "image/jpeg".to_owned()),
            "MEDIA_TYPE_MISMATCH",
            "image.source.mime_type",
        ),
        (
            told(|source| source.mime_type = "nonsense".to_owned()),
            "FIELD_INVALID",
            "image.source.mime_type",
        ),
        (
            told(|source| source.file_name = "../x".to_owned()),
            "FIELD_INVALID",
            "image.source.file_name",
        ),
        (
            told(|source| source.thumbnail = b"no JPEG".to_vec().into()),
            "FIELD_INVALID",
            "image.source.thumbnail",
        ),
        (
            Asked::Image(v1::ImageContent {
                caption: long,
                source: data(&png()),
                ..Default::default()
            }),
            "TEXT_TOO_LONG",
            "image.caption",
        ),
        (
            Asked::Video(v1::VideoContent {
                gif: true,
                round: true,
                ..video(data(&film))
            }),
            "FIELD_INVALID",
            "video.round",
        ),
        (
            audio(true, b"", data(b"ID3 and no Opus")),
            "MEDIA_TYPE_MISMATCH",
            "audio.source.mime_type",
        ),
        (
            audio(true, &[101], data(&opus())),
            "FIELD_INVALID",
            "audio.waveform",
        ),
        (
            audio(false, &[1], data(&opus())),
            "FIELD_INVALID",
            "audio.waveform",
        ),
        (
            Asked::Sticker(v1::StickerContent {
                source: data(&png()),
                ..Default::default()
            }),
            "MEDIA_TYPE_MISMATCH",
            "sticker.source.mime_type",
        ),
        (
            file(data(&noise(100_001))),
            "MEDIA_TOO_LARGE",
            "document.source",
        ),
        (
            Asked::Album(v1::AlbumContent {
                image_count: 1,
                video_count: 0,
            }),
            "FIELD_INVALID",
            "album.image_count",
        ),
    ];
    for (asked, reason, field) in refused {
        let refused = scene.send(scene.request(asked)).await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            (reason, field),
            "{refused:?}"
        );
    }
    let astray = v1::SendMessageRequest {
        album_message_id: "3EB0".to_owned(),
        ..scene.request(file(handle(&text)))
    };
    let refused = scene.send(astray).await.unwrap_err();
    assert_eq!(violated_field(&refused), "album_message_id");
    // Somebody whom WhatsApp does not know costs it no file.
    let nobody = v1::SendMessageRequest {
        recipient: "15559998888".to_owned(),
        ..scene.request(file(handle(&text)))
    };
    let refused = scene.send(nobody).await.unwrap_err();
    assert_eq!(info(&refused), "RECIPIENT_NOT_ON_WHATSAPP");
    assert_eq!(scene.left(), 0);
    // A voice note that is none was sound all the same, and goes as an upload that nobody sends.
    within("the traces to vanish", async {
        while files(&scene.stage.data_dir().join("media")) > before + 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // It is told to nobody but the one who is meant.
    let last = scene.say(file(handle(&text))).await;
    assert_eq!(scene.opened(&last.id).await, b"text");
    let inbox = scene.stage.network.inbox(scene.peer.number, 0).unwrap();
    let first = within("the first message", Box::pin(inbox).next())
        .await
        .unwrap();
    assert_eq!(first.id, last.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_whatsapp_does_not_take_is_not_sent_until_it_does() {
    let scene = Scene::new().await;
    let media = scene.upload(MediaKind::Document, b"precious").await;
    // A login that is over, and a host that stumbles, are nobody's business.
    for status in [401, 507] {
        scene.refuse_uploads(status, Some(1));
        let text = format!("stumbled over {status}");
        let sent = scene.say(file(data(text.as_bytes()))).await;
        assert_eq!(scene.opened(&sent.id).await, text.as_bytes());
    }
    let request = v1::SendMessageRequest {
        request_id: "once".to_owned(),
        ..scene.request(file(handle(&media)))
    };
    for status in [401, 404, 507] {
        scene.refuse_uploads(status, None);
        let refused = scene.send(request.clone()).await.unwrap_err();
        assert_eq!(
            (refused.code(), info(&refused)),
            (Code::Unavailable, "MEDIA_NOT_LEFT".into())
        );
        scene.stage.network.clear_media_faults();
    }
    let sent = scene.send(request.clone()).await.unwrap();
    assert_eq!(scene.opened(&sent.id).await, b"precious");
    let again = scene.send(request).await.unwrap();
    assert_eq!(again.id, sent.id);
    let passage = scene.stage.data_dir().join("passage");
    within("the sealed files to vanish", async {
        while files(&passage) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_for_many_is_left_once() {
    let scene = Scene::new().await;
    let other = scene.stage.phone("Other").await;
    let media = scene.upload(MediaKind::Image, &png()).await;
    let to = |phone: &TestPhone| v1::SendMessageRequest {
        recipient: phone.number.to_string(),
        ..scene.request(image(handle(&media)))
    };
    let (one, two) = tokio::join!(scene.send(to(&scene.peer)), scene.send(to(&other)));
    let (one, two) = (one.unwrap(), two.unwrap());
    let (_, one) = scene.seen(&scene.peer, &one.id).await;
    let (_, two) = scene.seen(&other, &two.id).await;
    let path = |message: &wa::Message| {
        let image = message.image_message.as_option().unwrap();
        image.direct_path.clone().unwrap()
    };
    assert_eq!((path(&one), scene.left()), (path(&two), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_goes_out_again() {
    let scene = Scene::new().await;
    let mut watcher = Watcher::from_earliest(&scene.api).await;
    let instance = scene.api.instance("one").await;
    let owner = instance.phone_number.parse().unwrap();
    let file_in = Document {
        bytes: b"passed on",
        mime_type: "text/plain",
        file_name: "note.txt",
    };
    scene
        .stage
        .network
        .send_document(scene.peer.number, owner, file_in)
        .await
        .unwrap();
    let news = super::fetching::until_state(&mut watcher, MediaState::Ready).await;
    let media = news.media.unwrap();
    let sent = scene.say(file(handle(&media))).await;
    assert_eq!(scene.opened(&sent.id).await, b"passed on");
    let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
    let document = seen.document_message.as_option().unwrap();
    assert_eq!(document.file_name.as_deref(), Some("note.txt"));
}
