use std::{collections::BTreeSet, sync::LazyLock};

use proptest::{collection::vec, prelude::*, sample::Index};
use whatsapp_rust::{Jid, buffa::MessageField};

use super::*;

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
    Some(inbound.message)
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
        sticker_pack_message: MessageField::some(wa::message::StickerPackMessage::default()),
        ..Default::default()
    };
    let jid = Jid::pn("15550001111");
    let message = converted(&info(jid.clone(), jid), &message).unwrap();
    match message.content.unwrap().content.unwrap() {
        Content::Unsupported(one) => assert_eq!(one.original_type, "stickerPackMessage"),
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

type Wrap = fn(wa::Message) -> wa::Message;

macro_rules! envelopes {
    ($($field:ident),+ $(,)?) => {
        [
            ("bare", (|message| message) as Wrap),
            ("device_sent_message", |message| wa::Message {
                device_sent_message: MessageField::some(wa::message::DeviceSentMessage {
                    message: MessageField::some(message),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            $((stringify!($field), |message| wa::Message {
                $field: MessageField::some(wa::message::FutureProofMessage {
                    message: MessageField::some(message),
                }),
                ..Default::default()
            }),)+
        ]
    };
}

/// Every envelope that a message may come in.
const WRAPS: [(&str, Wrap); 20] = envelopes!(
    ephemeral_message,
    view_once_message,
    view_once_message_v2,
    view_once_message_v2_extension,
    document_with_caption_message,
    edited_message,
    associated_child_message,
    lottie_sticker_message,
    poll_creation_message_v4,
    poll_creation_option_image_message,
    group_mentioned_message,
    group_status_message,
    group_status_message_v2,
    bot_invoke_message,
    bot_forwarded_message,
    question_message,
    question_reply_message,
    spoiler_message,
);

#[test]
fn every_kind_of_the_contract_has_a_fixture() {
    let known: BTreeSet<String> = fixtures::all()
        .into_iter()
        .map(|(_, _, content)| {
            let content = Some(content);
            let json = serde_json::to_value(v1::MessageContent { content }).unwrap();
            json.as_object().unwrap().keys().next().unwrap().clone()
        })
        .collect();
    let contract = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTOR_SET).unwrap();
    let content = contract
        .file
        .iter()
        .filter(|file| file.package() == "wagate.v1")
        .flat_map(|file| &file.message_type)
        .find(|message| message.name() == "MessageContent")
        .unwrap();
    let kinds = content
        .field
        .iter()
        .map(|field| field.json_name().to_owned());
    assert_eq!(known, kinds.collect());
}

#[test]
fn every_kind_is_understood_in_every_envelope_and_in_two() {
    let names = Names::default();
    for (kind, message, wanted) in fixtures::all() {
        for (outer, wrap) in WRAPS {
            for (inner, wrap_first) in WRAPS {
                let wrapped = wrap(wrap_first(message.clone()));
                let found = content(&wrapped, &names);
                assert_eq!(found.as_ref(), Some(&wanted), "{kind}, {inner} in {outer}");
                let once = [inner, outer]
                    .iter()
                    .any(|one| one.starts_with("view_once"));
                assert_eq!(peel(&wrapped).view_once, once, "{kind}, {inner} in {outer}");
            }
        }
    }
}

#[test]
fn every_kind_can_be_what_an_edit_says() {
    use wa::message::{ProtocolMessage, protocol_message::Type};
    let names = Names::default();
    for (kind, message, wanted) in fixtures::all() {
        if words::target(&wanted).is_some() && !matches!(wanted, Content::Reaction(_)) {
            continue;
        }
        let edit = wa::Message {
            protocol_message: MessageField::some(ProtocolMessage {
                key: MessageField::some(wa::MessageKey {
                    id: Some("3EB0A".to_owned()),
                    ..Default::default()
                }),
                r#type: Some(Type::MESSAGE_EDIT),
                edited_message: MessageField::some(message),
                ..Default::default()
            }),
            ..Default::default()
        };
        for (envelope, wrap) in WRAPS {
            match content(&wrap(edit.clone()), &names) {
                Some(Content::Edited(edit)) => {
                    assert_eq!(edit.message_id, "3EB0A");
                    let content = edit.content.unwrap().content;
                    assert_eq!(content.as_ref(), Some(&wanted), "{kind}, {envelope}");
                }
                other => panic!("{kind}, {envelope}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_kind_comes_out_of_its_stored_form_and_has_json() {
    for (kind, message, _) in fixtures::all() {
        let jid = Jid::pn("15550001111");
        let message = converted(&info(jid.clone(), jid), &message).unwrap();
        let json = serde_json::to_string(&message).unwrap();
        assert_eq!(
            serde_json::from_str::<v1::Message>(&json).unwrap(),
            message,
            "{kind}"
        );
    }
}

#[test]
fn what_stands_around_a_message_is_told() {
    let context = wa::ContextInfo {
        is_forwarded: Some(true),
        forwarding_score: Some(127),
        expiration: Some(86_400),
        ..Default::default()
    };
    let image = wa::Message {
        image_message: MessageField::some(wa::message::ImageMessage {
            view_once: Some(true),
            context_info: MessageField::some(context),
            ..Default::default()
        }),
        message_context_info: MessageField::some(wa::MessageContextInfo {
            message_association: MessageField::some(wa::MessageAssociation {
                association_type: Some(wa::message_association::AssociationType::MEDIA_ALBUM),
                parent_message_key: MessageField::some(wa::MessageKey {
                    id: Some("3EB0A".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let jid = Jid::pn("15550001111");
    let told = converted(&info(jid.clone(), jid), &image).unwrap();
    assert!(told.view_once && told.forwarded);
    assert_eq!(
        (told.forwarding_score, told.ephemeral_seconds),
        (127, 86_400)
    );
    assert_eq!(told.album_message_id, "3EB0A");
}

/// Every fixture in every envelope, as it comes from the wire.
static WIRE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let all = fixtures::all();
    let wrapped = all.iter().flat_map(|(_, message, _)| {
        let wrap = |(_, wrap): (_, Wrap)| codec::message_to_vec(&wrap(message.clone()));
        WRAPS.map(wrap)
    });
    wrapped.collect()
});

/// A place in a message, a byte, and what is done with them.
type Change = (Index, u8, u8);

fn changed(mut bytes: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for (place, byte, change) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = place.index(bytes.len());
        match change {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            2 => {
                bytes.remove(place);
            }
            // Lengths and numbers at their ends, where arithmetic goes wrong.
            3 => bytes[place] = 0xff,
            4 => bytes.truncate(place),
            // A part of it once more, as a field that comes twice.
            _ => {
                let end = (place + usize::from(byte)).min(bytes.len());
                let part = bytes[place..end].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes
}

proptest! {
    // More where `PROPTEST_CASES` says so.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    /// Whatever comes out of a decoded message, it is not a panic, it is no bigger than what came, and it has a
    /// JSON form.
    ///
    /// For ten minutes, to be stopped by the clock and by nothing else:
    ///
    /// ```sh
    /// PROPTEST_CASES=100000000 timeout 10m cargo test --lib no_mutated_message_makes_a_panic
    /// ```
    #[test]
    fn no_mutated_message_makes_a_panic(
        which in any::<Index>(),
        changes in vec((any::<Index>(), any::<u8>(), 0..6_u8), 0..12),
    ) {
        let bytes = changed(which.get(&WIRE).clone(), changes);
        if let Ok(message) = codec::message_decode(&bytes) {
            let jid = Jid::pn("15550001111");
            if let Some(told) = converted(&info(jid.clone(), jid), &message) {
                // Every field may be told twice, and an option of a poll with a digest.
                let most = 4_096 + 128 * bytes.len();
                prop_assert!(told.encoded_len() <= most);
                let json = serde_json::to_string(&told);
                prop_assert!(json.is_ok(), "{:?}: {told:?}", json);
                let back = serde_json::from_str::<v1::Message>(&json.unwrap());
                prop_assert!(back.is_ok(), "{back:?}: {told:?}");
            }
        }
    }
}
