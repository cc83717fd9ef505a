//! A caller's message, in WhatsApp's words.

pub mod actions;
pub mod business;
mod kinds;
pub mod media;
pub mod payments;

use whatsapp_rust::{
    Jid,
    proto_helpers::MessageExt as _,
    waproto::{codec, whatsapp as wa},
};

use super::context::Around;
use crate::proto::v1::message_content::Content;

/// WhatsApp's form of what a caller may say to this chat; `None` for what only arrives, and for what
/// needs another message. `secret` is what answers to it will be sealed with, if it takes any.
pub fn convert(
    content: &Content,
    around: &Around,
    to: &Jid,
    secret: [u8; 32],
) -> Option<wa::Message> {
    let message = match content {
        Content::Text(text) => kinds::text(text),
        Content::GroupInvite(invite) => kinds::group_invite(invite),
        Content::Location(location) => kinds::location(location),
        Content::LiveLocation(live) => kinds::live_location(live),
        Content::Contacts(contacts) => kinds::contacts(contacts),
        Content::Poll(poll) => kinds::poll(poll, secret),
        Content::EventInvitation(event) => kinds::invitation(event, secret),
        Content::List(list) => business::list(list),
        Content::Buttons(buttons) => business::buttons(buttons),
        Content::Interactive(message) => business::interactive(message),
        Content::Album(album) => media::album(album),
        _ => return None,
    };
    Some(surround(message, around, to))
}

/// The message with what stands around it.
pub fn surround(mut message: wa::Message, around: &Around, to: &Jid) -> wa::Message {
    if let Some(context) = around.context(to) {
        message.set_context_info(context);
    }
    message
}

/// The stored form of a message, to be sent again under its id.
pub fn encode(message: &wa::Message) -> Vec<u8> {
    codec::message_to_vec(message)
}

/// The message in a stored form.
pub fn decode(raw: &[u8]) -> anyhow::Result<wa::Message> {
    codec::message_decode(raw).map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    const SECRET: [u8; 32] = [7; 32];

    #[test]
    fn a_text_stays_plain_unless_something_stands_around_it() {
        let text = Content::Text(v1::TextContent {
            text: "hello".to_owned(),
            ..Default::default()
        });
        let to = Jid::group("1203630001");
        let plain = convert(&text, &Around::default(), &to, SECRET).unwrap();
        assert_eq!(plain.conversation.as_deref(), Some("hello"));
        let timed = Around {
            ephemeral_seconds: 60,
            ..Default::default()
        };
        let message = decode(&encode(&convert(&text, &timed, &to, SECRET).unwrap())).unwrap();
        assert_eq!(message.conversation, None);
        assert_eq!(message.text_content(), Some("hello"));
        assert_eq!(message.get_ephemeral_expiration(), Some(60));
    }

    #[test]
    fn whatever_is_said_carries_what_stands_around_it() {
        let poll = |selectable_count| v1::PollContent {
            selectable_count,
            ..Default::default()
        };
        let contacts = |count| v1::ContactsContent {
            contacts: vec![v1::ContactCard::default(); count],
        };
        let kinds = [
            Content::Text(Default::default()),
            Content::GroupInvite(Default::default()),
            Content::Location(Default::default()),
            Content::LiveLocation(Default::default()),
            Content::Contacts(contacts(1)),
            Content::Contacts(contacts(2)),
            Content::Poll(poll(0)),
            Content::Poll(poll(1)),
            Content::EventInvitation(Default::default()),
            Content::List(Default::default()),
            Content::Buttons(Default::default()),
            Content::Interactive(Default::default()),
        ];
        let to = Jid::group("1203630001");
        let ann = Jid::lid("900001");
        let around = Around {
            mentions: vec![crate::wa::convert::context::Mention {
                party: crate::wa::convert::ids::party([Some(&ann), None], ""),
                jid: ann.clone(),
            }],
            ephemeral_seconds: 60,
            forwarded: true,
            ..Default::default()
        };
        for kind in kinds {
            let message = convert(&kind, &around, &to, SECRET).unwrap();
            let context = crate::wa::convert::context::of(&message).expect("a context");
            assert_eq!(context.mentioned_jid, [ann.to_string()], "{kind:?}");
            assert_eq!(context.expiration, Some(60), "{kind:?}");
            assert_eq!(context.is_forwarded, Some(true), "{kind:?}");
        }
    }

    #[test]
    fn an_invite_comes_out_as_it_went_in() {
        let invite = v1::GroupInviteContent {
            group_id: "1203630001@g.us".to_owned(),
            subject: "Chess".to_owned(),
            code: "abc".to_owned(),
            expire_time: Some(pbjson_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            caption: "come".to_owned(),
        };
        let content = Content::GroupInvite(invite);
        let to = Jid::pn("15550000001");
        let message = convert(&content, &Around::default(), &to, SECRET).unwrap();
        assert_eq!(
            super::super::inbound::content(&message, &Default::default()),
            Some(content)
        );
        let unsupported = Content::Unsupported(v1::UnsupportedContent::default());
        assert!(convert(&unsupported, &Around::default(), &to, SECRET).is_none());
    }
}
