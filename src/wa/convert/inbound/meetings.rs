//! Invitations to events, and the envelopes of answers.

use whatsapp_rust::waproto::whatsapp as wa;

use super::{key_id, places, seconds, short};
use crate::{
    domain::limits::{DESCRIPTION_CHARS, LINK_CHARS},
    proto::v1::{self, message_content::Content},
    wa::convert::LABEL_CHARS,
};

/// An invitation.
pub fn invitation(event: &wa::message::EventMessage) -> Content {
    Content::EventInvitation(v1::EventInvitationContent {
        name: short(event.name.as_ref(), LABEL_CHARS),
        description: short(event.description.as_ref(), DESCRIPTION_CHARS),
        start_time: event.start_time.and_then(seconds),
        end_time: event.end_time.and_then(seconds),
        location: event.location.as_option().map(places::place),
        join_link: short(event.join_link.as_ref(), LINK_CHARS),
        cancelled: event.is_canceled == Some(true),
        extra_guests_allowed: event.extra_guests_allowed == Some(true),
    })
}

/// An answer that is not opened yet.
pub fn response(answer: &wa::message::EncEventResponseMessage) -> Content {
    Content::EventResponse(v1::EventResponseContent {
        event_message_id: key_id(answer.event_creation_message_key.as_option()),
        ..Default::default()
    })
}
