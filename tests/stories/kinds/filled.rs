//! Every field that an integrator reads from a message, filled by a phone that sent one: who, where, when, and
//! what each kind says.

use std::time::Duration;

use wagate::{proto::v1::CallState, sandbox::PhonePoll};
use waproto::{
    buffa::MessageField,
    whatsapp::message::{self, poll_creation_message},
};

use super::*;

const SHA256: [u8; 32] = [7; 32];
const JPEG: [u8; 4] = [0xff, 0xd8, 0xff, 0xd9];

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

macro_rules! with {
    ($field:ident: $message:expr) => {
        wa::Message {
            $field: MessageField::some($message),
            ..Default::default()
        }
    };
}

/// Holds the named fields of a kind against what was sent.
macro_rules! filled {
    ($message:expr, $kind:ident { $($field:ident: $value:expr),+ $(,)? }) => {
        match content(&$message) {
            Content::$kind(one) => {
                $(assert_eq!(one.$field, $value, stringify!($kind.$field));)+
            }
            other => panic!("{other:?}"),
        }
    };
}

/// The same for the file of a kind.
macro_rules! media {
    ($message:expr, $kind:ident { $($field:ident: $value:expr),+ $(,)? }) => {
        match content(&$message) {
            Content::$kind(one) => {
                let media = one.media.as_ref().expect("a file");
                $(assert_eq!(media.$field, $value, stringify!($kind.media.$field));)+
            }
            other => panic!("{other:?}"),
        }
    };
}

impl Scene {
    /// The peer's phone says something in a chat, and the instance hears it, with all that any message has.
    async fn hears(&mut self, chat: Chat, said: wa::Message) -> v1::Message {
        let (network, phone) = (&self.stage.network, self.peer.number);
        let raw = said.encode_to_vec();
        let id = network.send_message(phone, chat, &raw).await.unwrap().id;
        self.heard(&id).await
    }

    /// The message of this id, with all that any message has.
    async fn heard(&mut self, id: &str) -> v1::Message {
        let (event, message) = self
            .watcher
            .once("a message", |event| match &event.payload {
                Some(Payload::MessageReceived(one)) => {
                    let message = one.message.clone().filter(|one| one.id == id)?;
                    Some((event.clone(), message))
                }
                _ => None,
            })
            .await;
        assert_eq!(event.r#type, "message.received");
        assert!(uuid::Uuid::parse_str(&event.id).is_ok());
        assert!(!event.cursor.is_empty() && !event.dedupe_key.is_empty());
        assert_eq!(event.instance, self.instance.id);
        assert_eq!(event.instance_number, self.instance.number);
        assert!(event.instance_sequence > 0);
        assert!(event.record_time.is_some());
        assert!(event.occur_time.is_some());
        assert_eq!(event.occur_time, message.message_time);

        assert_eq!(message.instance, self.instance.id);
        assert_eq!(message.status(), v1::MessageStatus::Received);
        assert!(message.status_reason.is_empty());
        assert!(!message.from_me);
        self.is_peer(message.sender.as_ref());
        let chat = message.chat.as_ref().unwrap();
        if chat.kind() == v1::ChatKind::Direct {
            assert_eq!(chat.id, self.peer.number.jid().to_string());
            self.is_peer(chat.party.as_ref());
        }
        assert_eq!(self.stored(id).await.content, message.content);
        message
    }

    fn is_peer(&self, party: Option<&v1::Party>) {
        let party = party.expect("somebody");
        let peer = self.stage.network.phone(self.peer.number).unwrap();
        assert_eq!(party.jid, peer.number.jid().to_string());
        assert_eq!(party.phone_number, peer.number.to_string());
        assert_eq!(party.name, "Peer");
        // An account that is addressed by its number has not shown its hidden identity.
        if peer.lid_addressed || !party.lid.is_empty() {
            assert_eq!(party.lid, peer.lid.jid().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_file_is_told() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        assert_eq!(scene.instance.phone_number, scene.owner.number.to_string());
        let own = scene.own();

        let image = with!(image_message: message::ImageMessage {
            mimetype: some("image/jpeg"),
            file_length: Some(102_400),
            file_sha256: Some(SHA256.to_vec()),
            width: Some(1_920),
            height: Some(1_080),
            caption: some("the harbour"),
            jpeg_thumbnail: Some(JPEG.to_vec()),
            ..Default::default()
        });
        let told = scene.hears(own, image.clone()).await;
        media!(
            told,
            Image {
                mime_type: "image/jpeg",
                size_bytes: 102_400,
                sha256: SHA256.as_slice(),
                width: 1_920,
                height: 1_080,
                thumbnail: JPEG.as_slice(),
            }
        );
        filled!(
            told,
            Image {
                caption: "the harbour"
            }
        );
        assert!(!told.view_once);
        let once = with!(view_once_message_v2: message::FutureProofMessage {
            message: MessageField::some(image),
        });
        let told = scene.hears(own, once).await;
        assert!(told.view_once);
        filled!(
            told,
            Image {
                caption: "the harbour"
            }
        );

        let video = with!(video_message: message::VideoMessage {
            mimetype: some("video/mp4"),
            file_length: Some(5_242_880),
            seconds: Some(30),
            width: Some(1_280),
            height: Some(720),
            caption: some("the waves"),
            gif_playback: Some(true),
            jpeg_thumbnail: Some(JPEG.to_vec()),
            ..Default::default()
        });
        let told = scene.hears(own, video).await;
        media!(
            told,
            Video {
                mime_type: "video/mp4",
                size_bytes: 5_242_880,
                duration_seconds: 30,
                width: 1_280,
                height: 720,
                thumbnail: JPEG.as_slice(),
            }
        );
        filled!(
            told,
            Video {
                caption: "the waves",
                gif: true,
                round: false
            }
        );

        let voice = with!(audio_message: message::AudioMessage {
            mimetype: some("audio/ogg; codecs=opus"),
            file_length: Some(51_200),
            seconds: Some(15),
            ptt: Some(true),
            waveform: Some(vec![40; 64]),
            ..Default::default()
        });
        let told = scene.hears(own, voice).await;
        media!(
            told,
            Audio {
                mime_type: "audio/ogg; codecs=opus",
                size_bytes: 51_200,
                duration_seconds: 15,
            }
        );
        filled!(
            told,
            Audio {
                voice_note: true,
                waveform: [40; 64].as_slice()
            }
        );

        let document = with!(document_message: message::DocumentMessage {
            mimetype: some("application/pdf"),
            file_length: Some(1_048_576),
            file_name: some("tides.pdf"),
            caption: some("the tides"),
            page_count: Some(10),
            jpeg_thumbnail: Some(JPEG.to_vec()),
            ..Default::default()
        });
        let document = with!(document_with_caption_message: message::FutureProofMessage {
            message: MessageField::some(document),
        });
        let told = scene.hears(own, document).await;
        media!(
            told,
            Document {
                mime_type: "application/pdf",
                size_bytes: 1_048_576,
                file_name: "tides.pdf",
                thumbnail: JPEG.as_slice(),
            }
        );
        filled!(
            told,
            Document {
                caption: "the tides",
                page_count: 10
            }
        );

        let sticker = with!(sticker_message: message::StickerMessage {
            mimetype: some("image/webp"),
            file_length: Some(20_480),
            width: Some(512),
            height: Some(512),
            ..Default::default()
        });
        let told = scene.hears(own, sticker).await;
        media!(
            told,
            Sticker {
                mime_type: "image/webp",
                size_bytes: 20_480,
                width: 512,
                height: 512,
            }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_what_is_said_is_told() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let own = scene.own();
        let plain = wa::Message {
            conversation: some("low water at six"),
            ..Default::default()
        };
        let told = scene.hears(own, plain.clone()).await;
        filled!(
            told,
            Text {
                text: "low water at six"
            }
        );

        let place = with!(location_message: message::LocationMessage {
            degrees_latitude: Some(53.5),
            degrees_longitude: Some(-9.25),
            name: some("Pier"),
            address: some("Harbour Road 1"),
            jpeg_thumbnail: Some(JPEG.to_vec()),
            ..Default::default()
        });
        let told = scene.hears(own, place).await;
        filled!(
            told,
            Location {
                latitude: 53.5,
                longitude: -9.25,
                name: "Pier",
                address: "Harbour Road 1",
                thumbnail: JPEG.as_slice(),
            }
        );

        let live = with!(live_location_message: message::LiveLocationMessage {
            degrees_latitude: Some(53.5),
            degrees_longitude: Some(-9.25),
            accuracy_in_meters: Some(10),
            speed_in_mps: Some(5.5),
            degrees_clockwise_from_magnetic_north: Some(180),
            caption: some("rowing"),
            sequence_number: Some(3),
            time_offset: Some(3_600),
            ..Default::default()
        });
        let told = scene.hears(own, live).await;
        filled!(
            told,
            LiveLocation {
                latitude: 53.5,
                longitude: -9.25,
                accuracy_meters: 10,
                speed_mps: 5.5,
                bearing_degrees: 180,
                caption: "rowing",
                sequence_number: 3,
                time_offset_seconds: 3_600,
            }
        );

        let vcard =
            "BEGIN:VCARD\nVERSION:3.0\nFN:Ann\nTEL;waid=15550003333:+1 555 000 3333\nEND:VCARD";
        let card = with!(contact_message: message::ContactMessage {
            display_name: some("Ann"),
            vcard: some(vcard),
            ..Default::default()
        });
        let told = scene.hears(own, card).await;
        let card = v1::ContactCard {
            name: "Ann".to_owned(),
            vcard: vcard.to_owned(),
            phone_numbers: vec!["15550003333".to_owned()],
        };
        filled!(told, Contacts { contacts: [card] });

        let pack = with!(sticker_pack_message: message::StickerPackMessage::default());
        let told = scene.hears(own, pack).await;
        filled!(
            told,
            Unsupported {
                original_type: "stickerPackMessage"
            }
        );
        match content(&told) {
            Content::Unsupported(one) => assert!(!one.reason.is_empty()),
            other => panic!("{other:?}"),
        }

        // The same from a group.
        let (group, jid) = scene.group(by_lid, &[]).await;
        let told = scene.hears(group, plain).await;
        filled!(
            told,
            Text {
                text: "low water at six"
            }
        );
        let chat = told.chat.unwrap();
        assert_eq!((&chat.id, chat.kind()), (&jid, v1::ChatKind::Group));
        assert!(chat.party.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_an_answer_is_told() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let own = scene.own();
        let asked = scene.say(text("when is low water?")).await;
        scene.seen(&scene.peer, &asked.id).await;
        let answer = with!(extended_text_message: message::ExtendedTextMessage {
            text: some("at six"),
            context_info: MessageField::some(wa::ContextInfo {
                stanza_id: Some(asked.id.clone()),
                participant: Some(scene.owner.number.jid().to_string()),
                quoted_message: MessageField::some(wa::Message {
                    conversation: some("when is high water?"),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
        let told = scene.hears(own, answer).await;
        let quoted = told.quoted.as_ref().unwrap();
        assert!(quoted.stored);
        assert_eq!(quoted.id, asked.id);
        assert_eq!(quoted.sender, asked.sender);
        // What is stored is believed, not what the answer says of it.
        assert_eq!(quoted.content, asked.content);

        // A message of the peer, which the peer reacts to, edits and deletes.
        let id = scene.peer.send(&scene.instance.phone_number, "helo").await;
        scene.heard(&id).await;
        let (network, phone) = (scene.stage.network.clone(), scene.peer.number);
        for emoji in ["🌊", ""] {
            let reaction = network.react(phone, own, &id, emoji).await.unwrap();
            let told = scene.heard(&reaction.id).await;
            filled!(
                told,
                Reaction {
                    message_id: id.as_str(),
                    emoji: emoji
                }
            );
        }
        let edit = network.edit(phone, own, &id, "hello").await.unwrap();
        let updated = scene.updated(&edit.id).await;
        assert_eq!((&updated.message_id, updated.from_me), (&id, false));
        assert_eq!(text_of(updated.content.as_ref().unwrap()), "hello");
        scene.is_peer(updated.sender.as_ref());
        scene.is_peer(updated.chat.unwrap().party.as_ref());
        let deletion = network.revoke(phone, own, &id).await.unwrap();
        let deleted = scene.deleted(&id).await;
        assert_eq!(
            (&deleted.deletion_id, deleted.from_me),
            (&deletion.id, false)
        );
        scene.is_peer(deleted.sender.as_ref());
        scene.is_peer(deleted.actor.as_ref());
        scene.is_peer(deleted.chat.unwrap().party.as_ref());
    }
}

fn chosen(names: &[&str]) -> Vec<v1::PollOption> {
    let options = names.iter().map(|name| v1::PollOption {
        name: (*name).to_owned(),
        id: wagate::wa::poll_option(name).id,
    });
    options.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_poll_and_its_votes_is_told() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let (network, phone, own) = (scene.stage.network.clone(), scene.peer.number, scene.own());
        let names = |options: &[&str]| -> Vec<String> {
            options.iter().map(|name| (*name).to_owned()).collect()
        };
        let poll = PhonePoll {
            question: "Which boat?".to_owned(),
            options: names(&["red", "blue", "green"]),
            selectable: 2,
        };
        let poll = network.create_poll(phone, own, poll).await.unwrap().id;
        let told = scene.heard(&poll).await;
        filled!(
            told,
            Poll {
                question: "Which boat?",
                options: chosen(&["red", "blue", "green"]),
                selectable_count: 2,
                quiz: false,
            }
        );
        let mut before: &[&str] = &[];
        for now in [&["green"][..], &["red", "blue"], &[]] {
            let vote = network.vote(phone, own, &poll, &names(now)).await.unwrap();
            let told = scene.heard(&vote.id).await;
            filled!(
                told,
                PollVote {
                    poll_message_id: poll.as_str(),
                    options: chosen(now),
                    previous_options: chosen(before),
                }
            );
            before = now;
        }
        let quiz = with!(poll_creation_message_v3: message::PollCreationMessage {
            name: some("2+2?"),
            options: ["4", "5"]
                .map(|name| poll_creation_message::Option {
                    option_name: some(name),
                    ..Default::default()
                })
                .to_vec(),
            selectable_options_count: Some(1),
            poll_type: Some(message::PollType::QUIZ),
            ..Default::default()
        });
        let told = scene.hears(own, quiz).await;
        filled!(
            told,
            Poll {
                quiz: true,
                selectable_count: 1
            }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_call_is_told() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let (api, caller) = (scene.api.clone(), scene.peer.number);
        let to = scene.instance.phone_number.clone();
        let instance = scene.instance.id.clone();

        let missed = api.call(caller, &to, true).await;
        let offer = scene
            .watcher
            .until_call(&instance, &missed, CallState::Offer);
        let offer = offer.await;
        assert_eq!((&offer.id, &offer.instance), (&missed, &instance));
        scene.is_peer(offer.caller.as_ref());
        assert!(offer.video && !offer.group && offer.group_id.is_empty());
        assert!(offer.offer_time.is_some() && offer.state_time.is_some());
        scene
            .watcher
            .until_call(&instance, &missed, CallState::Ringing)
            .await;
        api.phone_hangs_up(caller, &missed).await.unwrap();
        let end = scene
            .watcher
            .until_call(&instance, &missed, CallState::Missed);
        assert!(end.await.video);

        let answered = api.call(caller, &to, false).await;
        let offer = scene
            .watcher
            .until_call(&instance, &answered, CallState::Offer);
        assert!(!offer.await.video);
        api.phone_answers(scene.owner.number, &answered)
            .await
            .unwrap();
        scene
            .watcher
            .until_call(&instance, &answered, CallState::Accept)
            .await;

        let rejected = api.call(caller, &to, false).await;
        scene
            .watcher
            .until_call(&instance, &rejected, CallState::Offer)
            .await;
        api.reject("one", &rejected).await.unwrap();
        scene
            .watcher
            .until_call(&instance, &rejected, CallState::Reject)
            .await;

        let short = Duration::from_millis(200);
        let rung = api.call_for(caller, &to, false, short).await;
        scene
            .watcher
            .until_call(&instance, &rung, CallState::Timeout)
            .await;
    }
}
