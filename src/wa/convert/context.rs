//! What stands around a message: the one that it answers, and whom it mentions.

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use whatsapp_rust::{Jid, proto_helpers::build_quote_context_with_info, waproto::whatsapp as wa};

use super::{NAME_BYTES, ids::Names, inbound, is_longer, label, outbound};
use crate::{
    domain::limits::TEXT_CHARS,
    proto::v1::{self, message_content::Content},
    storage::MessageRow,
};

/// Most people that a message is shown to mention: twice what a group may have.
const MENTIONS_SHOWN: usize = 2_048;

/// The context of a message, if it has one; that of money stands around its note.
pub fn of(message: &wa::Message) -> Option<&wa::ContextInfo> {
    around(inbound::peel(message).message)
}

/// The same of a message that is out of its envelopes.
pub fn around(message: &wa::Message) -> Option<&wa::ContextInfo> {
    let message = inbound::payment_note(message).unwrap_or(message);
    macro_rules! first_of {
        ($($field:ident),+ $(,)?) => {
            None$(.or_else(|| message.$field.as_option()?.context_info.as_option()))+
        };
    }
    first_of!(
        extended_text_message,
        image_message,
        video_message,
        ptv_message,
        audio_message,
        document_message,
        sticker_message,
        album_message,
        location_message,
        live_location_message,
        contact_message,
        contacts_array_message,
        poll_creation_message,
        poll_creation_message_v2,
        poll_creation_message_v3,
        poll_creation_message_v5,
        poll_creation_message_v6,
        event_message,
        list_message,
        list_response_message,
        buttons_message,
        buttons_response_message,
        template_message,
        template_button_reply_message,
        interactive_message,
        interactive_response_message,
        product_message,
        order_message,
        group_invite_message,
    )
}

/// The id of the message that this one answers.
pub fn quoted_id(message: &wa::Message) -> Option<&str> {
    quoted_by(of(message)?)
}

fn quoted_by(context: &wa::ContextInfo) -> Option<&str> {
    let id = context.stanza_id.as_deref()?;
    (1..=NAME_BYTES).contains(&id.len()).then_some(id)
}

/// Everybody whom the context names: who may have another name that is worth looking up.
pub fn people(message: &wa::Message) -> Vec<Jid> {
    let named = inbound::reacted_to(message).or_else(|| inbound::asked_to_pay(message));
    let Some(context) = of(message) else {
        return named.into_iter().collect();
    };
    let quoted = context.participant.as_deref();
    let mentioned = context.mentioned_jid.iter().map(String::as_str);
    let people = quoted.into_iter().chain(mentioned.take(MENTIONS_SHOWN));
    named.into_iter().chain(people.filter_map(person)).collect()
}

fn person(text: &str) -> Option<Jid> {
    let jid: Jid = text.parse().ok()?;
    let fits = (1..=NAME_BYTES).contains(&jid.user.len());
    (fits && (jid.is_pn() || jid.is_lid())).then(|| jid.to_non_ad())
}

/// The message that another one answers: as it is stored, else as its writer says.
pub fn quoted(
    context: &wa::ContextInfo,
    names: &Names,
    stored: Option<&MessageRow>,
) -> Option<v1::QuotedMessage> {
    let id = quoted_by(context)?.to_owned();
    let chat = context.remote_jid.as_deref().unwrap_or_default();
    let mut quoted = v1::QuotedMessage {
        id,
        sender: context
            .participant
            .as_deref()
            .and_then(person)
            .map(|jid| names.party(&jid, "")),
        chat: label(chat).into_owned(),
        content: context
            .quoted_message
            .as_option()
            .and_then(|quoted| inbound::content(quoted, names))
            .map(|content| v1::MessageContent {
                content: Some(content),
            }),
        stored: false,
    };
    if let Some(stored) = stored
        && let Ok(known) = v1::Message::decode(stored.body.clone())
    {
        quoted.sender = known.sender.or(quoted.sender);
        quoted.content = known.content;
        quoted.stored = true;
    }
    Some(quoted)
}

/// Whom a message mentions.
pub fn mentions(context: &wa::ContextInfo, names: &Names) -> Option<v1::Mentions> {
    let everyone = context.non_jid_mentions.is_some_and(|kind| kind > 0);
    let mentioned = context.mentioned_jid.iter().take(MENTIONS_SHOWN);
    let parties: Vec<_> = mentioned
        .filter_map(|jid| person(jid))
        .map(|jid| names.party(&jid, ""))
        .collect();
    (everyone || !parties.is_empty()).then_some(v1::Mentions { parties, everyone })
}

/// A message to be answered.
#[derive(Clone, Debug)]
pub struct Quote {
    row: MessageRow,
    message: wa::Message,
    chat: Jid,
    sender: Jid,
}

impl Quote {
    /// The answered message as it is stored; an error if its stored form can't be read.
    pub fn of(row: MessageRow) -> anyhow::Result<Self> {
        Ok(Self {
            message: outbound::decode(&row.raw)?,
            chat: row.chat.parse()?,
            sender: row.sender.parse()?,
            row,
        })
    }

    /// As WhatsApp has it.
    pub fn message(&self) -> &wa::Message {
        &self.message
    }

    /// As it is shown to callers.
    pub fn shown(&self, to: &Jid) -> v1::QuotedMessage {
        let known = v1::Message::decode(self.row.body.clone()).unwrap_or_default();
        v1::QuotedMessage {
            id: self.row.message_id.clone(),
            sender: known.sender,
            chat: if self.chat == *to {
                String::new()
            } else {
                self.row.chat.clone()
            },
            content: known.content,
            stored: true,
        }
    }
}

/// Somebody to be mentioned.
#[derive(Clone, Debug)]
pub struct Mention {
    /// What the group calls them.
    pub jid: Jid,
    /// The person, by both names.
    pub party: v1::Party,
}

/// What goes around a message to be sent.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// What it answers.
    pub quote: Option<Quote>,
    /// Whom it mentions.
    pub mentions: Vec<Mention>,
    /// The mentioned are named in the text even where the caller did not.
    pub name_all: bool,
    /// How long it lives, in seconds; 0 is for ever.
    pub ephemeral_seconds: u32,
    /// It is marked as forwarded.
    pub forwarded: bool,
}

impl Around {
    /// WhatsApp's form of it; `None` where there is nothing to say.
    pub fn context(&self, to: &Jid) -> Option<wa::ContextInfo> {
        let mut context = match &self.quote {
            Some(quote) => build_quote_context_with_info(
                quote.row.message_id.as_str(),
                &quote.sender,
                &quote.chat,
                to,
                &quote.message,
            ),
            None if self.is_plain() => return None,
            None => wa::ContextInfo::default(),
        };
        let mentioned = self.mentions.iter().map(|one| one.jid.to_string());
        context.mentioned_jid = mentioned.collect();
        if self.forwarded {
            context.is_forwarded = Some(true);
            context.forwarding_score = Some(1);
        }
        context.expiration = Some(self.ephemeral_seconds).filter(|seconds| *seconds > 0);
        Some(context)
    }

    fn is_plain(&self) -> bool {
        self.mentions.is_empty() && self.ephemeral_seconds == 0 && !self.forwarded
    }

    /// The text with the mentioned called as the group calls them; `None` if it grew too long.
    pub fn text(&self, text: &str) -> Option<String> {
        let mut called = HashMap::new();
        for one in &self.mentions {
            let name = one.jid.user.as_str();
            let lid = one.party.lid.strip_suffix("@lid").unwrap_or_default();
            for known in [name, lid, &one.party.phone_number] {
                if !known.is_empty() {
                    called.insert(known, name);
                }
            }
        }
        let (mut written, mut named) = (String::with_capacity(text.len()), HashSet::new());
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            let after = &rest[at + 1..];
            let digits = after.strip_prefix('+').unwrap_or(after);
            let end = digits
                .find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(digits.len());
            written.push_str(&rest[..=at]);
            rest = match called.get(&digits[..end]) {
                Some(name) => {
                    written.push_str(name);
                    named.insert(*name);
                    &digits[end..]
                }
                None => after,
            };
        }
        written.push_str(rest);
        if self.name_all {
            let mut between = "\n";
            for one in &self.mentions {
                if named.insert(one.jid.user.as_str()) {
                    written.push_str(between);
                    written.push('@');
                    written.push_str(&one.jid.user);
                    between = " ";
                }
            }
        }
        (!is_longer(&written, TEXT_CHARS)).then_some(written)
    }

    /// Whom it mentions, as it is shown to callers.
    pub fn shown_mentions(&self) -> Option<v1::Mentions> {
        let parties: Vec<_> = self.mentions.iter().map(|one| one.party.clone()).collect();
        (!parties.is_empty()).then_some(v1::Mentions {
            parties,
            everyone: false,
        })
    }

    /// The content with the mentioned called as the group calls them; `None` if it grew too long.
    pub fn content(&self, content: Content) -> Option<Content> {
        Some(match content {
            other if self.mentions.is_empty() => other,
            Content::Text(text) => Content::Text(v1::TextContent {
                text: self.text(&text.text)?,
                ..text
            }),
            Content::LiveLocation(live) => Content::LiveLocation(v1::LiveLocationContent {
                caption: self.text(&live.caption)?,
                ..live
            }),
            Content::GroupInvite(invite) => Content::GroupInvite(v1::GroupInviteContent {
                caption: self.text(&invite.caption)?,
                ..invite
            }),
            Content::List(list) => Content::List(v1::ListContent {
                description: self.text(&list.description)?,
                ..list
            }),
            Content::Buttons(buttons) => Content::Buttons(v1::ButtonsContent {
                text: self.text(&buttons.text)?,
                ..buttons
            }),
            Content::Interactive(message) => Content::Interactive(v1::InteractiveContent {
                body: self.text(&message.body)?,
                ..message
            }),
            Content::Image(image) => Content::Image(v1::ImageContent {
                caption: self.text(&image.caption)?,
                ..image
            }),
            Content::Video(video) if !video.round => Content::Video(v1::VideoContent {
                caption: self.text(&video.caption)?,
                ..video
            }),
            Content::Document(document) => Content::Document(v1::DocumentContent {
                caption: self.text(&document.caption)?,
                ..document
            }),
            // The others have no text to name somebody in.
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domain::ids::InstanceNumber;
    use whatsapp_rust::buffa::MessageField;

    fn mention(lid: &str, number: &str, by_lid: bool) -> Mention {
        let (hidden, known) = (Jid::lid(lid), Jid::pn(number));
        Mention {
            party: super::super::ids::party([Some(&hidden), Some(&known)], ""),
            jid: if by_lid { hidden } else { known },
        }
    }

    fn around(by_lid: bool, name_all: bool) -> Around {
        Around {
            mentions: vec![
                mention("900001", "15550000001", by_lid),
                mention("900002", "15550000002", by_lid),
            ],
            name_all,
            ..Default::default()
        }
    }

    fn row(chat: &str) -> MessageRow {
        let known = v1::Message {
            sender: Some(v1::Party {
                phone_number: "15550000001".to_owned(),
                ..Default::default()
            }),
            content: Some(v1::MessageContent {
                content: Some(Content::Text(v1::TextContent {
                    text: "as it was".to_owned(),
                    link_preview: None,
                })),
            }),
            ..Default::default()
        };
        let original = wa::Message {
            conversation: Some("as it was".to_owned()),
            ..Default::default()
        };
        MessageRow {
            instance: InstanceNumber(1),
            chat: chat.to_owned(),
            sender: "15550000001@s.whatsapp.net".to_owned(),
            message_id: "3EB0A".to_owned(),
            from_me: false,
            outbound: false,
            time: SystemTime::UNIX_EPOCH,
            status: 4,
            previous_status: 4,
            status_reason: String::new(),
            body: known.encode_to_vec().into(),
            raw: outbound::encode(&original).into(),
            target: String::new(),
            listed: true,
            words: String::new(),
            starred: false,
            hidden: false,
        }
    }

    #[test]
    fn people_are_called_as_the_group_calls_them() {
        let text = "hi @15550000001, @+15550000002! not @155500000011 or me@15550000009";
        let hidden = around(true, false).text(text).unwrap();
        assert_eq!(
            hidden,
            "hi @900001, @900002! not @155500000011 or me@15550000009"
        );
        let numbered = around(false, false).text(&hidden).unwrap();
        assert_eq!(
            numbered,
            "hi @15550000001, @15550000002! not @155500000011 or me@15550000009"
        );
    }

    #[test]
    fn everyone_is_named_once_and_a_ghost_not_at_all() {
        let text = "come, @900002";
        let all = around(true, true).text(text).unwrap();
        assert_eq!(all, "come, @900002\n@900001");
        assert_eq!(around(true, false).text("come").unwrap(), "come");
        assert_eq!(around(true, true).text(&"x".repeat(TEXT_CHARS)), None);
    }

    #[test]
    fn a_quote_carries_the_original_and_names_another_chat() {
        let here = Jid::group("1203630001");
        let around = |chat: &str| Around {
            quote: Some(Quote::of(row(chat)).unwrap()),
            ephemeral_seconds: 60,
            ..Default::default()
        };
        let context = around("1203630001@g.us").context(&here).unwrap();
        assert_eq!(context.stanza_id.as_deref(), Some("3EB0A"));
        let sender = context.participant.as_deref();
        assert_eq!(sender, Some("15550000001@s.whatsapp.net"));
        assert_eq!(context.remote_jid, None);
        assert_eq!(context.expiration, Some(60));
        let original = context.quoted_message.as_option().unwrap();
        assert_eq!(original.conversation.as_deref(), Some("as it was"));

        let elsewhere = around("1203630002@g.us");
        let context = elsewhere.context(&here).unwrap();
        assert_eq!(context.remote_jid.as_deref(), Some("1203630002@g.us"));
        let shown = elsewhere.quote.unwrap().shown(&here);
        assert_eq!(shown.chat, "1203630002@g.us");
        assert!(shown.stored);
        assert_eq!(Around::default().context(&here), None);
    }

    #[test]
    fn what_is_stored_is_believed_before_what_is_quoted() {
        let message = wa::Message {
            extended_text_message: MessageField::some(wa::message::ExtendedTextMessage {
                text: Some("answer".to_owned()),
                context_info: MessageField::some(wa::ContextInfo {
                    stanza_id: Some("3EB0A".to_owned()),
                    participant: Some("900001@lid".to_owned()),
                    quoted_message: MessageField::some(wa::Message {
                        conversation: Some("as they say it was".to_owned()),
                        ..Default::default()
                    }),
                    mentioned_jid: vec!["900002@lid".to_owned(), "junk".to_owned()],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut names = Names::default();
        names.pair(&Jid::lid("900001"), &Jid::pn("15550000001"));
        let context = of(&message).unwrap();
        let told = quoted(context, &names, None).unwrap();
        assert!(!told.stored);
        assert_eq!(told.sender.unwrap().phone_number, "15550000001");
        let known = quoted(context, &names, Some(&row("1203630001@g.us"))).unwrap();
        assert!(known.stored);
        let text = |quoted: v1::QuotedMessage| match quoted.content.unwrap().content.unwrap() {
            Content::Text(text) => text.text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(known), "as it was");
        let mentioned = mentions(context, &names).unwrap();
        assert_eq!(mentioned.parties.len(), 1);
        assert_eq!(mentioned.parties[0].lid, "900002@lid");
        assert_eq!(people(&message).len(), 2);
    }
}
