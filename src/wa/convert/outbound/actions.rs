//! What a caller does to a message that is stored.

use std::time::{SystemTime, UNIX_EPOCH};

use whatsapp_rust::{
    Jid,
    buffa::MessageField,
    proto_helpers::{MessageExt as _, build_reaction_message},
    wacore_binary::JidExt as _,
    waproto::whatsapp::{self as wa, message},
};

use crate::{storage::MessageRow, wa::convert::inbound};

/// The key of a stored message, in the chat that it lies in.
pub fn key(target: &MessageRow, chat: &Jid) -> wa::MessageKey {
    wa::MessageKey {
        remote_jid: Some(chat.to_string()),
        from_me: Some(target.from_me),
        id: Some(target.message_id.clone()),
        participant: chat.is_group().then(|| target.sender.clone()),
    }
}

/// A reaction, or with no emoji its removal.
pub fn reaction(target: &MessageRow, chat: &Jid, emoji: &str) -> wa::Message {
    build_reaction_message(key(target, chat), emoji, now_millis())
}

fn protocol(protocol: message::ProtocolMessage) -> wa::Message {
    wa::Message {
        protocol_message: MessageField::some(protocol),
        ..Default::default()
    }
}

/// The edit of a message of the own account.
pub fn edit(target: &MessageRow, chat: &Jid, edited: wa::Message) -> wa::Message {
    use message::protocol_message::Type;
    protocol(message::ProtocolMessage {
        key: MessageField::some(key(target, chat)),
        r#type: Some(Type::MESSAGE_EDIT),
        edited_message: MessageField::some(edited),
        timestamp_ms: Some(now_millis()),
        ..Default::default()
    })
}

/// The message with another text or caption; `None` if it has neither.
pub fn reworded(original: &wa::Message, text: &str) -> Option<wa::Message> {
    let mut message = inbound::peel(original).message.clone();
    message.message_context_info = MessageField::none();
    if message.conversation.is_some() {
        message.conversation = Some(text.to_owned());
        return Some(message);
    }
    if let Some(extended) = message.extended_text_message.as_option_mut() {
        extended.text = Some(text.to_owned());
        return Some(message);
    }
    let caption = Some(text.to_owned()).filter(|text| !text.is_empty());
    if let Some(image) = message.image_message.as_option_mut() {
        image.caption = caption;
    } else if let Some(video) = message.video_message.as_option_mut() {
        video.caption = caption;
    } else if let Some(document) = message.document_message.as_option_mut() {
        document.caption = caption;
    } else {
        return None;
    }
    Some(message)
}

/// The deletion of a message for everybody. That of somebody else's names its writer.
pub fn revoke(target: &MessageRow, chat: &Jid) -> wa::Message {
    use message::protocol_message::Type;
    let mut key = key(target, chat);
    if target.from_me {
        key.participant = None;
    }
    protocol(message::ProtocolMessage {
        key: MessageField::some(key),
        r#type: Some(Type::REVOKE),
        ..Default::default()
    })
}

/// Pins a message, or with no duration unpins it.
pub fn pin(target: &MessageRow, chat: &Jid, duration_seconds: u32) -> wa::Message {
    use message::pin_in_chat_message::Type;
    let kind = match duration_seconds {
        0 => Type::UNPIN_FOR_ALL,
        _ => Type::PIN_FOR_ALL,
    };
    wa::Message {
        pin_in_chat_message: MessageField::some(message::PinInChatMessage {
            key: MessageField::some(key(target, chat)),
            r#type: Some(kind),
            sender_timestamp_ms: Some(now_millis()),
        }),
        message_context_info: MessageField::some(wa::MessageContextInfo {
            message_add_on_duration_in_secs: Some(duration_seconds),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The message as it is passed on.
pub fn forward(original: &wa::Message) -> wa::Message {
    *inbound::peel(original).message.prepare_for_forward()
}

fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| now.as_millis().try_into().ok())
        .unwrap_or_default()
}
