//! A message of every kind as WhatsApp writes it, and as we show it.

use whatsapp_rust::{
    buffa::MessageField,
    waproto::whatsapp::{self as wa, message},
};

use crate::proto::v1::{self, message_content::Content};

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn key(id: &str) -> MessageField<wa::MessageKey> {
    MessageField::some(wa::MessageKey {
        id: text(id),
        participant: text("15550002222@s.whatsapp.net"),
        ..Default::default()
    })
}

fn person() -> Option<v1::Party> {
    Some(v1::Party {
        jid: "15550002222@s.whatsapp.net".to_owned(),
        phone_number: "15550002222".to_owned(),
        ..Default::default()
    })
}

fn at(seconds: i64) -> Option<pbjson_types::Timestamp> {
    Some(pbjson_types::Timestamp { seconds, nanos: 0 })
}

fn file(mime_type: &str) -> v1::Media {
    v1::Media {
        mime_type: mime_type.to_owned(),
        size_bytes: 1_234,
        sha256: vec![7; 32].into(),
        state: v1::MediaState::Pending.into(),
        ..Default::default()
    }
}

fn option(name: &str) -> message::poll_creation_message::Option {
    message::poll_creation_message::Option {
        option_name: text(name),
        ..Default::default()
    }
}

macro_rules! kind {
    ($name:literal, $field:ident: $message:expr => $content:expr) => {
        (
            $name,
            wa::Message {
                $field: MessageField::some($message),
                ..Default::default()
            },
            $content,
        )
    };
}

// After the macro, which they use.
mod business;
mod payments;
mod variants;

/// A kind's name, the message, and what we show of it.
pub type Fixture = (&'static str, wa::Message, Content);

/// All of them.
pub fn all() -> Vec<Fixture> {
    let mut all = said();
    all.extend(files());
    all.extend(done());
    all.extend(business::all());
    all.extend(payments::all());
    all.extend(variants::all());
    all
}

fn said() -> Vec<Fixture> {
    let plain = wa::Message {
        conversation: text("hello"),
        ..Default::default()
    };
    let hello = Content::Text(v1::TextContent {
        text: "hello".to_owned(),
        link_preview: None,
    });
    vec![
        ("text", plain, hello),
        kind!("text with preview", extended_text_message: message::ExtendedTextMessage {
            text: text("see https://example.com"),
            matched_text: text("https://example.com"),
            title: text("Example"),
            description: text("A page"),
            jpeg_thumbnail: Some(vec![1, 2]),
            ..Default::default()
        } => Content::Text(v1::TextContent {
            text: "see https://example.com".to_owned(),
            link_preview: Some(v1::LinkPreview {
                url: "https://example.com".to_owned(),
                title: "Example".to_owned(),
                description: "A page".to_owned(),
                thumbnail: vec![1, 2].into(),
            }),
        })),
        kind!("location", location_message: message::LocationMessage {
            degrees_latitude: Some(1.5),
            degrees_longitude: Some(-2.5),
            name: text("Tower"),
            address: text("Main Street"),
            url: text("https://example.com/tower"),
            jpeg_thumbnail: Some(vec![1]),
            ..Default::default()
        } => Content::Location(v1::LocationContent {
            latitude: 1.5,
            longitude: -2.5,
            name: "Tower".to_owned(),
            address: "Main Street".to_owned(),
            url: "https://example.com/tower".to_owned(),
            thumbnail: vec![1].into(),
        })),
        kind!("live location", live_location_message: message::LiveLocationMessage {
            degrees_latitude: Some(1.5),
            degrees_longitude: Some(-2.5),
            accuracy_in_meters: Some(10),
            speed_in_mps: Some(2.5),
            degrees_clockwise_from_magnetic_north: Some(90),
            caption: text("on my way"),
            sequence_number: Some(3),
            time_offset: Some(60),
            jpeg_thumbnail: Some(vec![1]),
            ..Default::default()
        } => Content::LiveLocation(v1::LiveLocationContent {
            latitude: 1.5,
            longitude: -2.5,
            accuracy_meters: 10,
            speed_mps: 2.5,
            bearing_degrees: 90,
            caption: "on my way".to_owned(),
            sequence_number: 3,
            time_offset_seconds: 60,
            thumbnail: vec![1].into(),
        })),
        kind!("contact", contact_message: message::ContactMessage {
            display_name: text("Ann"),
            vcard: text("BEGIN:VCARD\nTEL;waid=15550003333:+1 555 000 3333\nEND:VCARD"),
            ..Default::default()
        } => Content::Contacts(v1::ContactsContent {
            contacts: vec![v1::ContactCard {
                name: "Ann".to_owned(),
                vcard: "BEGIN:VCARD\nTEL;waid=15550003333:+1 555 000 3333\nEND:VCARD".to_owned(),
                phone_numbers: vec!["15550003333".to_owned()],
            }],
        })),
        kind!("contacts", contacts_array_message: message::ContactsArrayMessage {
            display_name: text("2 contacts"),
            contacts: ["Ann", "Bob"]
                .map(|name| message::ContactMessage {
                    display_name: text(name),
                    ..Default::default()
                })
                .to_vec(),
            ..Default::default()
        } => Content::Contacts(v1::ContactsContent {
            contacts: ["Ann", "Bob"]
                .map(|name| v1::ContactCard {
                    name: name.to_owned(),
                    ..Default::default()
                })
                .to_vec(),
        })),
        kind!("poll", poll_creation_message: message::PollCreationMessage {
            name: text("Tea?"),
            options: vec![option("yes"), option("no")],
            selectable_options_count: Some(0),
            ..Default::default()
        } => Content::Poll(v1::PollContent {
            question: "Tea?".to_owned(),
            options: vec![super::poll_option("yes"), super::poll_option("no")],
            ..Default::default()
        })),
        kind!("quiz", poll_creation_message_v3: message::PollCreationMessage {
            name: text("2+2?"),
            options: vec![option("4"), option("5")],
            selectable_options_count: Some(1),
            poll_type: Some(message::PollType::QUIZ),
            correct_answer: MessageField::some(option("4")),
            end_time: Some(1_700_000_000_000),
            hide_participant_name: Some(true),
            ..Default::default()
        } => Content::Poll(v1::PollContent {
            question: "2+2?".to_owned(),
            options: vec![super::poll_option("4"), super::poll_option("5")],
            selectable_count: 1,
            quiz: true,
            correct_option: "4".to_owned(),
            end_time: at(1_700_000_000),
            hides_voters: true,
        })),
        kind!("event", event_message: message::EventMessage {
            name: text("Tea"),
            description: text("with cake"),
            start_time: Some(1_700_000_000),
            end_time: Some(1_700_003_600),
            join_link: text("https://call.example.com"),
            is_canceled: Some(true),
            extra_guests_allowed: Some(true),
            location: MessageField::some(message::LocationMessage {
                name: text("Garden"),
                ..Default::default()
            }),
            ..Default::default()
        } => Content::EventInvitation(v1::EventInvitationContent {
            name: "Tea".to_owned(),
            description: "with cake".to_owned(),
            start_time: at(1_700_000_000),
            end_time: at(1_700_003_600),
            location: Some(v1::LocationContent {
                name: "Garden".to_owned(),
                ..Default::default()
            }),
            join_link: "https://call.example.com".to_owned(),
            cancelled: true,
            extra_guests_allowed: true,
        })),
        kind!("group invite", group_invite_message: message::GroupInviteMessage {
            group_jid: text("1203630001@g.us"),
            invite_code: text("abc"),
            invite_expiration: Some(1_700_000_000),
            group_name: text("Chess"),
            caption: text("come"),
            ..Default::default()
        } => Content::GroupInvite(v1::GroupInviteContent {
            group_id: "1203630001@g.us".to_owned(),
            subject: "Chess".to_owned(),
            code: "abc".to_owned(),
            expire_time: at(1_700_000_000),
            caption: "come".to_owned(),
        })),
    ]
}

fn video(gif: bool) -> message::VideoMessage {
    message::VideoMessage {
        mimetype: text("video/mp4"),
        file_length: Some(1_234),
        file_sha256: Some(vec![7; 32]),
        seconds: Some(9),
        width: Some(640),
        height: Some(480),
        caption: text("look"),
        gif_playback: Some(gif),
        ..Default::default()
    }
}

fn shown_video(gif: bool, round: bool) -> Content {
    Content::Video(v1::VideoContent {
        source: None,
        media: Some(v1::Media {
            width: 640,
            height: 480,
            duration_seconds: 9,
            ..file("video/mp4")
        }),
        caption: "look".to_owned(),
        gif,
        round,
    })
}

fn files() -> Vec<Fixture> {
    vec![
        kind!("image", image_message: message::ImageMessage {
            mimetype: text("image/jpeg"),
            file_length: Some(1_234),
            file_sha256: Some(vec![7; 32]),
            width: Some(640),
            height: Some(480),
            caption: text("look"),
            jpeg_thumbnail: Some(vec![1, 2]),
            ..Default::default()
        } => Content::Image(v1::ImageContent {
            source: None,
            media: Some(v1::Media {
                width: 640,
                height: 480,
                thumbnail: vec![1, 2].into(),
                ..file("image/jpeg")
            }),
            caption: "look".to_owned(),
        })),
        kind!("video", video_message: video(false) => shown_video(false, false)),
        kind!("gif", video_message: video(true) => shown_video(true, false)),
        kind!("round video", ptv_message: video(false) => shown_video(false, true)),
        kind!("voice note", audio_message: message::AudioMessage {
            mimetype: text("audio/ogg; codecs=opus"),
            file_length: Some(1_234),
            file_sha256: Some(vec![7; 32]),
            seconds: Some(3),
            ptt: Some(true),
            waveform: Some(vec![50; 64]),
            ..Default::default()
        } => Content::Audio(v1::AudioContent {
            source: None,
            media: Some(v1::Media {
                duration_seconds: 3,
                ..file("audio/ogg; codecs=opus")
            }),
            voice_note: true,
            waveform: vec![50; 64].into(),
        })),
        kind!("document", document_message: message::DocumentMessage {
            mimetype: text("application/pdf"),
            file_length: Some(1_234),
            file_sha256: Some(vec![7; 32]),
            file_name: text("plan.pdf"),
            title: text("The plan"),
            page_count: Some(2),
            caption: text("read"),
            ..Default::default()
        } => Content::Document(v1::DocumentContent {
            source: None,
            media: Some(v1::Media {
                file_name: "plan.pdf".to_owned(),
                ..file("application/pdf")
            }),
            caption: "read".to_owned(),
            title: "The plan".to_owned(),
            page_count: 2,
        })),
        kind!("sticker", sticker_message: message::StickerMessage {
            mimetype: text("image/webp"),
            file_length: Some(1_234),
            file_sha256: Some(vec![7; 32]),
            width: Some(512),
            height: Some(512),
            is_animated: Some(true),
            ..Default::default()
        } => Content::Sticker(v1::StickerContent {
            source: None,
            media: Some(v1::Media {
                width: 512,
                height: 512,
                ..file("image/webp")
            }),
            animated: true,
            lottie: false,
        })),
        kind!("album", album_message: message::AlbumMessage {
            expected_image_count: Some(2),
            expected_video_count: Some(1),
            ..Default::default()
        } => Content::Album(v1::AlbumContent {
            image_count: 2,
            video_count: 1,
        })),
    ]
}

fn done() -> Vec<Fixture> {
    use message::{pin_in_chat_message, protocol_message::Type};
    vec![
        kind!("reaction", reaction_message: message::ReactionMessage {
            key: key("3EB0A"),
            text: text("👍"),
            ..Default::default()
        } => Content::Reaction(v1::ReactionContent {
            message_id: "3EB0A".to_owned(),
            emoji: "👍".to_owned(),
            message_sender: person(),
        })),
        kind!("deletion", protocol_message: message::ProtocolMessage {
            key: key("3EB0A"),
            r#type: Some(Type::REVOKE),
            ..Default::default()
        } => Content::Deleted(v1::DeletedContent {
            message_id: "3EB0A".to_owned(),
            ..Default::default()
        })),
        kind!("vote", poll_update_message: message::PollUpdateMessage {
            poll_creation_message_key: key("3EB0A"),
            ..Default::default()
        } => Content::PollVote(v1::PollVoteContent {
            poll_message_id: "3EB0A".to_owned(),
            state: v1::PollVoteState::PollUnknown.into(),
            ..Default::default()
        })),
        kind!("event response", enc_event_response_message: message::EncEventResponseMessage {
            event_creation_message_key: key("3EB0A"),
            ..Default::default()
        } => Content::EventResponse(v1::EventResponseContent {
            event_message_id: "3EB0A".to_owned(),
            ..Default::default()
        })),
        kind!("pin", pin_in_chat_message: message::PinInChatMessage {
            key: key("3EB0A"),
            r#type: Some(pin_in_chat_message::Type::PIN_FOR_ALL),
            ..Default::default()
        } => Content::Pin(v1::PinContent {
            message_id: "3EB0A".to_owned(),
            pinned: true,
            duration_seconds: 0,
        })),
    ]
}
