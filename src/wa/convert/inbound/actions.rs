//! Messages that do something to another one: reactions, edits, deletions, pins.

use whatsapp_rust::{Jid, waproto::whatsapp as wa};

use super::{key_id, peel::peel, said, unsupported};
use crate::{
    domain::limits::EMOJI_BYTES,
    proto::v1::{self, message_content::Content},
    wa::convert::{NAME_BYTES, ids::Names},
};

/// A reaction or its removal.
pub fn reaction(reaction: &wa::message::ReactionMessage, names: &Names) -> Content {
    let key = reaction.key.as_option();
    let emoji = reaction.text.as_deref().unwrap_or_default();
    // No emoji is as long; what is no emoji is no reaction to be shown either.
    if emoji.len() > EMOJI_BYTES {
        return unsupported("reactionMessage".to_owned(), "the reaction is no emoji");
    }
    Content::Reaction(v1::ReactionContent {
        message_id: key_id(key),
        emoji: emoji.to_owned(),
        message_sender: key.and_then(writer).map(|jid| names.party(&jid, "")),
    })
}

/// Whose message a reaction is to, where it says so.
pub fn reacted_to(message: &wa::Message) -> Option<Jid> {
    let reaction = peel(message).message.reaction_message.as_option()?;
    writer(reaction.key.as_option()?)
}

/// Who a key says has written the message that it names, where it says so.
pub fn writer(key: &wa::MessageKey) -> Option<Jid> {
    person(key.participant.as_deref()?)
}

/// A person that a message names.
pub(super) fn person(text: &str) -> Option<Jid> {
    let jid: Jid = text.parse().ok()?;
    let fits = (1..=NAME_BYTES).contains(&jid.user.len());
    (fits && (jid.is_pn() || jid.is_lid())).then(|| jid.to_non_ad())
}

/// What a message of the protocol tells people: an edit or a deletion. The rest keeps devices in step.
pub fn protocol(message: &wa::message::ProtocolMessage, names: &Names) -> Option<Content> {
    use wa::message::protocol_message::Type;
    let message_id = key_id(message.key.as_option());
    match message.r#type? {
        Type::REVOKE => Some(Content::Deleted(v1::DeletedContent {
            message_id,
            ..Default::default()
        })),
        Type::MESSAGE_EDIT => {
            let edited = message.edited_message.as_option();
            let content = edited.and_then(|edited| said(peel(edited).message, names));
            let content = content.unwrap_or_else(|| {
                unsupported(
                    "protocolMessage.MESSAGE_EDIT".to_owned(),
                    "the edit holds no message",
                )
            });
            Some(Content::Edited(Box::new(v1::EditedContent {
                message_id,
                content: Some(Box::new(v1::MessageContent {
                    content: Some(content),
                })),
            })))
        }
        _ => None,
    }
}

/// The new message of an edit.
pub fn edited(message: &wa::Message) -> Option<&wa::Message> {
    let protocol = peel(message).message.protocol_message.as_option()?;
    protocol.edited_message.as_option()
}

/// Another message is pinned, or no longer.
pub fn pin(
    pin: &wa::message::PinInChatMessage,
    beside: Option<&wa::MessageContextInfo>,
) -> Content {
    use wa::message::pin_in_chat_message::Type;
    let pinned = pin.r#type == Some(Type::PIN_FOR_ALL);
    let duration = beside.and_then(|beside| beside.message_add_on_duration_in_secs);
    Content::Pin(v1::PinContent {
        message_id: key_id(pin.key.as_option()),
        pinned,
        duration_seconds: duration.filter(|_| pinned).unwrap_or_default(),
    })
}
