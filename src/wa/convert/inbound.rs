//! A message that WhatsApp delivered, in our words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;
use whatsapp_rust::{
    proto_helpers::MessageExt as _,
    waproto::{codec, whatsapp as wa},
};

use whatsapp_rust::types::message::{MessageCategory, MessageInfo};

use super::{
    NAME_BYTES, context, cut,
    ids::{self, Account, Names},
    label,
};
use crate::{
    domain::{
        ids::{InstanceId, InstanceNumber},
        limits::{CAPTION_CHARS, SUBJECT_CHARS, TEXT_CHARS},
    },
    events::timestamp,
    proto::v1::{self, event::Payload, message_content::Content},
    storage::MessageRow,
};

/// A delivered message, ready to be stored.
pub struct Inbound {
    /// How it is kept.
    pub row: MessageRow,
    /// What the log says of it.
    pub payload: Payload,
    /// When it was written.
    pub time: SystemTime,
    /// What is the same when WhatsApp delivers it again.
    pub dedupe_key: String,
}

/// Whether the names of a message are such as WhatsApp gives: not empty and not monstrous. One that is not can't
/// be told apart from others, and comes from no honest client.
pub fn is_named(info: &MessageInfo) -> bool {
    let fits = |length: usize| (1..=NAME_BYTES).contains(&length);
    let source = &info.source;
    let others = [&source.sender_alt, &source.recipient_alt];
    fits(info.id.len())
        && [&source.chat, &source.sender]
            .into_iter()
            .chain(others.into_iter().flatten())
            .all(|jid| fits(jid.user.len()))
}

/// What is known beside a message.
#[derive(Default)]
pub struct Known<'k> {
    /// Other names of the people in it.
    pub names: Names,
    /// The message that it answers, as it is stored.
    pub quoted: Option<&'k MessageRow>,
}

/// The message in our words; `None` for what passes between the devices of one account.
pub fn convert(
    instance: InstanceNumber,
    instance_id: InstanceId,
    account: &Account,
    info: &MessageInfo,
    message: &wa::Message,
    known: &Known<'_>,
) -> Option<Inbound> {
    if info.category == MessageCategory::Peer {
        return None;
    }
    let content = content(message)?;
    let source = &info.source;
    let from_me = source.is_from_me || account.is(&source.sender);

    let sender = if from_me {
        account.party()
    } else {
        let alternative = source.sender_alt.as_ref();
        let alternative = alternative.or_else(|| known.names.other(&source.sender));
        ids::party([Some(&source.sender), alternative], &info.push_name)
    };
    let chat = if from_me {
        let alternative = source.recipient_alt.as_ref();
        let alternative = alternative.or_else(|| known.names.other(&source.chat));
        ids::chat(&source.chat, alternative, "")
    } else {
        let alternative = source.sender_alt.as_ref();
        let alternative = alternative.or_else(|| known.names.other(&source.chat));
        ids::chat(&source.chat, alternative, &info.push_name)
    };
    let (chat_jid, sender_jid) = (source.chat.to_non_ad(), source.sender.to_non_ad());
    let status = if from_me {
        v1::MessageStatus::Sent
    } else {
        v1::MessageStatus::Received
    };
    let time: SystemTime = info.timestamp.into();

    let message_id = info.id.to_string();
    let dedupe_key = format!("{chat_jid}/{sender_jid}/{message_id}");
    let ours = v1::Message {
        id: message_id.clone(),
        instance: instance_id.to_string(),
        chat: Some(chat),
        sender: Some(sender),
        from_me,
        message_time: Some(timestamp(time)),
        status: status.into(),
        status_reason: String::new(),
        content: Some(v1::MessageContent {
            content: Some(content),
        }),
        quoted: context::quoted(message, &known.names, known.quoted),
        mentions: context::mentions(message, &known.names),
    };
    let row = MessageRow {
        instance,
        chat: chat_jid.to_string(),
        sender: sender_jid.to_string(),
        message_id,
        from_me,
        outbound: false,
        time,
        status: status.into(),
        previous_status: status.into(),
        status_reason: String::new(),
        body: ours.encode_to_vec().into(),
        raw: codec::message_to_vec(message).into(),
    };
    let payload = if from_me {
        Payload::MessageSent(v1::MessageSent {
            message: Some(ours),
        })
    } else {
        Payload::MessageReceived(v1::MessageReceived {
            message: Some(ours),
        })
    };
    Some(Inbound {
        row,
        payload,
        time,
        dedupe_key,
    })
}

/// What it says; `None` for protocol noise that is no message to anybody.
pub fn content(message: &wa::Message) -> Option<Content> {
    let message = message.get_base_message();
    if let Some((kind, text)) = text(message) {
        // No client lets its user write more.
        if text.chars().nth(TEXT_CHARS).is_some() {
            return Some(unsupported(
                kind.to_owned(),
                "the text is longer than WhatsApp allows",
            ));
        }
        return Some(Content::Text(v1::TextContent {
            text: text.to_owned(),
        }));
    }
    if let Some(invite) = message.group_invite_message.as_option() {
        return Some(Content::GroupInvite(group_invite(invite)));
    }
    let reason = "this version can't represent this kind of message";
    if let Some(protocol) = message.protocol_message.as_option() {
        use wa::message::protocol_message::Type;
        // Edits and deletions are news to a reader; the rest keeps devices in step.
        let kind = match protocol.r#type {
            Some(Type::REVOKE) => "protocolMessage.REVOKE",
            Some(Type::MESSAGE_EDIT) => "protocolMessage.MESSAGE_EDIT",
            _ => return None,
        };
        return Some(unsupported(kind.to_owned(), reason));
    }
    Some(unsupported(kind_name(message), reason))
}

/// The text and WhatsApp's name of the field that it is in.
fn text(message: &wa::Message) -> Option<(&'static str, &str)> {
    if let Some(text) = &message.conversation {
        return Some(("conversation", text));
    }
    let extended = message.extended_text_message.as_option()?;
    Some((
        "extendedTextMessage",
        extended.text.as_deref().unwrap_or_default(),
    ))
}

fn group_invite(invite: &wa::message::GroupInviteMessage) -> v1::GroupInviteContent {
    let text = |text: &Option<String>, chars| cut(text.as_deref().unwrap_or_default(), chars);
    let expires = invite
        .invite_expiration
        .and_then(|at| u64::try_from(at).ok());
    v1::GroupInviteContent {
        group_id: label(invite.group_jid.as_deref().unwrap_or_default()).into_owned(),
        subject: text(&invite.group_name, SUBJECT_CHARS),
        code: label(invite.invite_code.as_deref().unwrap_or_default()).into_owned(),
        expire_time: expires
            .filter(|at| *at > 0)
            .and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at)))
            .map(timestamp),
        caption: text(&invite.caption, CAPTION_CHARS),
    }
}

fn unsupported(original_type: String, reason: &str) -> Content {
    Content::Unsupported(v1::UnsupportedContent {
        original_type,
        reason: reason.to_owned(),
    })
}

/// WhatsApp's name of the field that is set, such as `stickerMessage`.
fn kind_name(message: &wa::Message) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(message) else {
        return "unknown".to_owned();
    };
    let beside = ["message_context_info", "sender_key_distribution_message"];
    fields
        .iter()
        .find(|(name, value)| !value.is_null() && !beside.contains(&name.as_str()))
        .map_or_else(|| "unknown".to_owned(), |(name, _)| camel_case(name))
}

fn camel_case(snake: &str) -> String {
    let mut words = snake.split('_');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use whatsapp_rust::{Jid, buffa::MessageField};

    fn account() -> Account {
        Account {
            number: Some(Jid::pn("15550009999")),
            lid: Some(Jid::lid("909999")),
            push_name: "Own".to_owned(),
        }
    }

    fn info(chat: Jid, sender: Jid) -> MessageInfo {
        let mut info = MessageInfo {
            id: "3EB0ABC".into(),
            push_name: "Peer".to_owned(),
            ..Default::default()
        };
        info.source.chat = chat;
        info.source.sender = sender;
        info
    }

    fn converted(info: &MessageInfo, message: &wa::Message) -> Option<v1::Message> {
        let id = InstanceId(uuid::Uuid::nil());
        let known = Known::default();
        let inbound = convert(InstanceNumber(1), id, &account(), info, message, &known)?;
        match inbound.payload {
            Payload::MessageReceived(one) => one.message,
            Payload::MessageSent(one) => one.message,
            other => panic!("{other:?}"),
        }
    }

    fn text_message(text: &str) -> wa::Message {
        wa::Message {
            conversation: Some(text.to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn a_text_from_a_hidden_identity_names_the_number_too() {
        let mut info = info(Jid::lid("900001"), Jid::lid_device("900001", 3));
        info.source.sender_alt = Some(Jid::pn("15550001111"));
        let message = converted(&info, &text_message("hello")).unwrap();
        let chat = message.chat.unwrap();
        assert_eq!(chat.id, "15550001111@s.whatsapp.net");
        let sender = message.sender.unwrap();
        assert_eq!(sender.lid, "900001@lid");
        assert_eq!(sender.phone_number, "15550001111");
        assert_eq!(sender.name, "Peer");
        assert!(!message.from_me);
    }

    #[test]
    fn a_text_from_the_own_phone_was_sent() {
        let mut info = info(Jid::pn("15550001111"), Jid::pn("15550009999"));
        info.source.is_from_me = true;
        let message = converted(&info, &text_message("mine")).unwrap();
        assert!(message.from_me);
        assert_eq!(message.status(), v1::MessageStatus::Sent);
        assert_eq!(message.chat.unwrap().id, "15550001111@s.whatsapp.net");
        assert_eq!(message.sender.unwrap().phone_number, "15550009999");
    }

    #[test]
    fn a_text_that_nobody_could_have_written_is_not_shown() {
        let jid = Jid::pn("15550001111");
        let longest = "ü".repeat(TEXT_CHARS);
        let message = converted(&info(jid.clone(), jid.clone()), &text_message(&longest)).unwrap();
        match message.content.unwrap().content.unwrap() {
            Content::Text(one) => assert_eq!(one.text, longest),
            other => panic!("{other:?}"),
        }
        let over = longest + "!";
        let message = converted(&info(jid.clone(), jid), &text_message(&over)).unwrap();
        match message.content.unwrap().content.unwrap() {
            Content::Unsupported(one) => assert_eq!(one.original_type, "conversation"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn monstrous_names_are_recognised_and_display_names_cut() {
        let jid = Jid::pn("15550001111");
        let mut one = info(jid.clone(), jid.clone());
        assert!(is_named(&one));
        one.push_name = "ü".repeat(100_000);
        let message = converted(&one, &text_message("hello")).unwrap();
        assert!(message.sender.unwrap().name.len() < 2_000);
        one.id = "A".repeat(NAME_BYTES + 1);
        assert!(!is_named(&one));
        one.id = "".into();
        assert!(!is_named(&one));
        let mut one = info(jid, Jid::pn("1".repeat(NAME_BYTES + 1)));
        assert!(!is_named(&one));
        one.source.sender = Jid::pn("");
        assert!(!is_named(&one));
    }

    #[test]
    fn an_unknown_kind_keeps_its_name() {
        let message = wa::Message {
            sticker_message: MessageField::some(wa::message::StickerMessage::default()),
            ..Default::default()
        };
        let jid = Jid::pn("15550001111");
        let message = converted(&info(jid.clone(), jid), &message).unwrap();
        match message.content.unwrap().content.unwrap() {
            Content::Unsupported(one) => assert_eq!(one.original_type, "stickerMessage"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_keeps_devices_in_step_is_no_message() {
        use wa::message::{ProtocolMessage, protocol_message::Type};
        let message = wa::Message {
            protocol_message: MessageField::some(ProtocolMessage {
                r#type: Some(Type::APP_STATE_SYNC_KEY_SHARE),
                ..Default::default()
            }),
            ..Default::default()
        };
        let jid = Jid::pn("15550001111");
        assert!(converted(&info(jid.clone(), jid), &message).is_none());
    }
}
