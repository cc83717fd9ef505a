//! What a caller says, one function for each kind.

use whatsapp_rust::{
    buffa::MessageField,
    waproto::whatsapp::{self as wa, message},
};

use crate::{events::system_time, proto::v1};

/// A text that may be left out.
pub(super) fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

pub(super) fn bytes(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec()).filter(|bytes| !bytes.is_empty())
}

pub(super) fn seconds(time: Option<&pbjson_types::Timestamp>) -> Option<i64> {
    let time = system_time(time?)?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    since.as_secs().try_into().ok()
}

/// Plain, unless it has a preview.
pub fn text(text: &v1::TextContent) -> wa::Message {
    let Some(preview) = &text.link_preview else {
        return wa::Message {
            conversation: Some(text.text.clone()),
            ..Default::default()
        };
    };
    wa::Message {
        extended_text_message: MessageField::some(message::ExtendedTextMessage {
            text: Some(text.text.clone()),
            matched_text: Some(preview.url.clone()),
            title: Some(preview.title.clone()),
            description: some(&preview.description),
            jpeg_thumbnail: bytes(&preview.thumbnail),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A personal invite into a group.
pub fn group_invite(invite: &v1::GroupInviteContent) -> wa::Message {
    wa::Message {
        group_invite_message: MessageField::some(message::GroupInviteMessage {
            group_jid: Some(invite.group_id.clone()),
            invite_code: Some(invite.code.clone()),
            invite_expiration: seconds(invite.expire_time.as_ref()),
            group_name: Some(invite.subject.clone()),
            caption: some(&invite.caption),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn place(place: &v1::LocationContent) -> message::LocationMessage {
    message::LocationMessage {
        degrees_latitude: Some(place.latitude),
        degrees_longitude: Some(place.longitude),
        name: some(&place.name),
        address: some(&place.address),
        url: some(&place.url),
        jpeg_thumbnail: bytes(&place.thumbnail),
        ..Default::default()
    }
}

/// A place.
pub fn location(location: &v1::LocationContent) -> wa::Message {
    wa::Message {
        location_message: MessageField::some(place(location)),
        ..Default::default()
    }
}

/// Where somebody is.
pub fn live_location(live: &v1::LiveLocationContent) -> wa::Message {
    wa::Message {
        live_location_message: MessageField::some(message::LiveLocationMessage {
            degrees_latitude: Some(live.latitude),
            degrees_longitude: Some(live.longitude),
            accuracy_in_meters: Some(live.accuracy_meters).filter(|meters| *meters > 0),
            speed_in_mps: Some(live.speed_mps).filter(|speed| *speed > 0.0),
            degrees_clockwise_from_magnetic_north: Some(live.bearing_degrees)
                .filter(|degrees| *degrees > 0),
            caption: some(&live.caption),
            sequence_number: Some(live.sequence_number.try_into().unwrap_or(i64::MAX)),
            time_offset: Some(live.time_offset_seconds).filter(|seconds| *seconds > 0),
            jpeg_thumbnail: bytes(&live.thumbnail),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// One contact card, or several.
pub fn contacts(contacts: &v1::ContactsContent) -> wa::Message {
    let mut cards: Vec<_> = contacts.contacts.iter().map(card).collect();
    if cards.len() == 1 {
        return wa::Message {
            contact_message: cards.pop().into(),
            ..Default::default()
        };
    }
    wa::Message {
        contacts_array_message: MessageField::some(message::ContactsArrayMessage {
            display_name: Some(format!("{} contacts", cards.len())),
            contacts: cards,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn card(card: &v1::ContactCard) -> message::ContactMessage {
    message::ContactMessage {
        display_name: Some(card.name.clone()),
        vcard: Some(if card.vcard.is_empty() {
            vcard(&card.name, &card.phone_numbers)
        } else {
            card.vcard.clone()
        }),
        ..Default::default()
    }
}

/// A vCard of a name and numbers, which WhatsApp offers to write to.
fn vcard(name: &str, numbers: &[String]) -> String {
    let mut escaped = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '\\' | ',' | ';' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '\n' => escaped.push_str("\\n"),
            letter if letter.is_control() => {}
            letter => escaped.push(letter),
        }
    }
    let mut vcard = format!("BEGIN:VCARD\nVERSION:3.0\nN:;{escaped};;;\nFN:{escaped}\n");
    for number in numbers {
        vcard.push_str(&format!("TEL;type=CELL;waid={number}:+{number}\n"));
    }
    vcard.push_str("END:VCARD");
    vcard
}

/// A message with the secret that what answers it is sealed with.
fn secretive(message: wa::Message, secret: [u8; 32]) -> wa::Message {
    wa::Message {
        message_context_info: MessageField::some(wa::MessageContextInfo {
            message_secret: Some(secret.to_vec()),
            ..Default::default()
        }),
        ..message
    }
}

/// A poll or a quiz: WhatsApp has one version for those with one choice, and one for the others.
pub fn poll(poll: &v1::PollContent, secret: [u8; 32]) -> wa::Message {
    let option = |name: &str| message::poll_creation_message::Option {
        option_name: Some(name.to_owned()),
        ..Default::default()
    };
    let creation = message::PollCreationMessage {
        name: Some(poll.question.clone()),
        options: poll.options.iter().map(|one| option(&one.name)).collect(),
        selectable_options_count: Some(poll.selectable_count),
        poll_type: poll.quiz.then_some(message::PollType::QUIZ),
        correct_answer: if poll.quiz {
            MessageField::some(option(&poll.correct_option))
        } else {
            MessageField::none()
        },
        ..Default::default()
    };
    let creation = MessageField::some(creation);
    let message = if poll.selectable_count == 1 {
        wa::Message {
            poll_creation_message_v3: creation,
            ..Default::default()
        }
    } else {
        wa::Message {
            poll_creation_message: creation,
            ..Default::default()
        }
    };
    secretive(message, secret)
}

/// An invitation to an event.
pub fn invitation(event: &v1::EventInvitationContent, secret: [u8; 32]) -> wa::Message {
    let message = wa::Message {
        event_message: MessageField::some(message::EventMessage {
            name: Some(event.name.clone()),
            description: some(&event.description),
            start_time: seconds(event.start_time.as_ref()),
            end_time: seconds(event.end_time.as_ref()),
            location: event.location.as_ref().map(place).into(),
            join_link: some(&event.join_link),
            is_canceled: Some(event.cancelled),
            extra_guests_allowed: Some(event.extra_guests_allowed),
            ..Default::default()
        }),
        ..Default::default()
    };
    secretive(message, secret)
}
