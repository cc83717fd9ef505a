//! A send that waits, in the form in which it is stored, and as the message that it is or fails to become.
//!
//! Pure. Holds what a caller said, so that it is composed when it leaves: by then a group may have others in it.

use std::time::{Duration, SystemTime};

use prost::Message as _;
use rand::Rng as _;
use whatsapp_rust::Jid;

use super::{Activity, Outgoing, Patience, Progress, Say, Timing, files};
use crate::{
    domain::recipient::Recipient,
    events::timestamp,
    proto::v1::{self, MessageStatus, message_content::Content},
    storage::{InstanceRow, MessageRow, send::SendRow},
    wa::{
        convert::{ids, words},
        groups::{Mentions, Somebody},
    },
};

/// What a send may take to look for what goes with it, such as the preview of a link.
const LOOKING_TIME: Duration = Duration::from_secs(20);

/// What is stored of a send.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Kept {
    /// What it says.
    #[prost(message, optional, tag = "1")]
    content: Option<v1::MessageContent>,
    /// As in `Outgoing`.
    #[prost(uint32, optional, tag = "2")]
    ephemeral_seconds: Option<u32>,
    /// As in `Outgoing`.
    #[prost(bool, tag = "3")]
    forwarded: bool,
    /// As in `Outgoing`.
    #[prost(string, tag = "4")]
    quoted: String,
    /// As in `Outgoing`.
    #[prost(string, tag = "5")]
    album: String,
    /// Whom it mentions.
    #[prost(message, optional, tag = "6")]
    mentions: Option<v1::MentionOptions>,
    /// What the chat shows before it leaves.
    #[prost(enumeration = "v1::ChatActivity", tag = "7")]
    activity: i32,
    /// As in `Outgoing`.
    #[prost(bool, tag = "8")]
    view_once: bool,
    /// As in `Outgoing`.
    #[prost(bool, tag = "9")]
    fetch_preview: bool,
}

impl Kept {
    /// What is stored of what a caller wants sent.
    pub(super) fn of(outgoing: &Outgoing) -> Self {
        let content = match &outgoing.say {
            Say::Content(content) => Some(v1::MessageContent {
                content: Some(Content::clone(content)),
            }),
            _ => None,
        };
        let mentions = &outgoing.mentions;
        let activity = match outgoing.timing.activity {
            None => v1::ChatActivity::Unspecified,
            Some(Activity::Composing) => v1::ChatActivity::Composing,
            Some(Activity::Recording) => v1::ChatActivity::Recording,
        };
        Self {
            content,
            ephemeral_seconds: outgoing.ephemeral_seconds,
            forwarded: outgoing.forwarded,
            quoted: outgoing.quoted.clone(),
            album: outgoing.album.clone(),
            mentions: Some(v1::MentionOptions {
                everyone: mentions.everyone,
                ghost: mentions.ghost,
                mentioned: mentions
                    .mentioned
                    .iter()
                    .map(|one| one.text.clone())
                    .collect(),
            }),
            activity: activity.into(),
            view_once: outgoing.view_once,
            fetch_preview: outgoing.fetch_preview,
        }
    }

    /// What is stored of a send; `None` where it can't be read.
    pub(super) fn read(send: &SendRow) -> Option<Self> {
        Self::decode(send.body.clone()).ok()
    }

    /// What the chat shows before it leaves.
    pub(super) fn shows(&self) -> Option<Activity> {
        Activity::of(self.activity())
    }

    /// As a caller would want it sent now; `None` where that can't be.
    pub(super) fn outgoing(self, recipient: Recipient) -> Option<Outgoing> {
        let mentions = self.mentions.unwrap_or_default();
        let people = mentions.mentioned.into_iter().map(|text| {
            let recipient = Recipient::parse(&text).ok()?;
            Some(Somebody { text, recipient })
        });
        Some(Outgoing {
            recipient: Some(recipient),
            say: Say::Content(Box::new(self.content?.content?)),
            about: None,
            ephemeral_seconds: self.ephemeral_seconds,
            forwarded: self.forwarded,
            view_once: self.view_once,
            quoted: self.quoted,
            album: self.album,
            fetch_preview: self.fetch_preview,
            mentions: Mentions {
                everyone: mentions.everyone,
                ghost: mentions.ghost,
                mentioned: people.collect::<Option<_>>()?,
            },
            request: None,
            item: None,
            // Nobody waits for it but those behind it, so this bounds only what is looked for on its way.
            patience: Patience {
                until: Progress::Accepted,
                time: LOOKING_TIME,
            },
            timing: Timing::default(),
        })
    }
}

/// The message that a send is as long as it waits.
pub(super) fn pending(instance: &InstanceRow, send: &SendRow) -> MessageRow {
    message(instance, send, MessageStatus::Pending, "")
}

/// The message that a send becomes which does not leave.
pub(super) fn failed(instance: &InstanceRow, send: &SendRow, reason: &str) -> MessageRow {
    message(instance, send, MessageStatus::Error, reason)
}

fn message(
    instance: &InstanceRow,
    send: &SendRow,
    status: MessageStatus,
    reason: &str,
) -> MessageRow {
    let kept = Kept::read(send).unwrap_or_default();
    let mut content = kept.content.and_then(|content| content.content);
    if let Some(content) = &mut content {
        // Nobody is told again where the bytes came from.
        files::take_source(content);
    }
    let chat = chat(&send.recipient);
    let lid: Option<Jid> = instance.lid.parse().ok();
    let number = Some(instance.phone_number.as_str()).filter(|number| !number.is_empty());
    let number = number.map(Jid::pn);
    let sender = match &number {
        Some(number) => number.to_string(),
        None => instance.lid.clone(),
    };
    let target = content.as_ref().and_then(words::target).map(str::to_owned);
    let words = content.as_ref().map(words::words).unwrap_or_default();
    let message = v1::Message {
        id: send.message_id.clone(),
        instance: instance.id.to_string(),
        chat: chat.as_ref().map(|jid| ids::chat(jid, None, "")),
        sender: Some(ids::party(
            [number.as_ref(), lid.as_ref()],
            &instance.push_name,
        )),
        from_me: true,
        message_time: Some(timestamp(send.create_time)),
        content: content.map(|content| v1::MessageContent {
            content: Some(content),
        }),
        ephemeral_seconds: kept.ephemeral_seconds.unwrap_or_default(),
        forwarded: kept.forwarded,
        view_once: kept.view_once,
        album_message_id: kept.album,
        ..Default::default()
    };
    MessageRow {
        instance: send.instance,
        chat: chat.map_or_else(|| send.recipient.clone(), |jid| jid.to_string()),
        sender,
        message_id: send.message_id.clone(),
        from_me: true,
        outbound: true,
        time: send.create_time,
        status: status.into(),
        previous_status: status.into(),
        status_reason: reason.to_owned(),
        body: message.encode_to_vec().into(),
        raw: bytes::Bytes::new(),
        listed: target.is_none(),
        target: target.unwrap_or_default(),
        words,
        starred: false,
        hidden: false,
    }
}

/// The chat with a recipient, as far as it is known before WhatsApp was asked.
fn chat(recipient: &str) -> Option<Jid> {
    Some(match Recipient::parse(recipient).ok()? {
        Recipient::Number(number) => Jid::pn(number),
        Recipient::Lid(user) => Jid::lid(user),
        Recipient::Group(user) => Jid::group(user),
    })
}

/// An id for a message, as WhatsApp's companions make them.
pub(super) fn message_id() -> String {
    let mut random = [0; 9];
    rand::rng().fill_bytes(&mut random);
    format!("3EB0{}", hex::encode_upper(random))
}

/// When a send ends that says nothing of that itself.
pub(super) fn default_expiry(due: SystemTime) -> SystemTime {
    due.checked_add(crate::domain::limits::WAIT_DEFAULT)
        .unwrap_or(due)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::domain::ids::InstanceNumber;

    fn said() -> Outgoing {
        Outgoing {
            recipient: Some(Recipient::Group("120363000000000001".to_owned())),
            say: Say::Content(Box::new(Content::Text(v1::TextContent {
                text: "hello @15550002222".to_owned(),
                ..Default::default()
            }))),
            about: None,
            ephemeral_seconds: Some(86_400),
            forwarded: true,
            view_once: true,
            quoted: "3EB0A".to_owned(),
            album: "3EB0B".to_owned(),
            fetch_preview: true,
            mentions: Mentions {
                everyone: true,
                ghost: true,
                mentioned: vec![Somebody {
                    text: "+1 555 000 2222".to_owned(),
                    recipient: Recipient::Number("15550002222".to_owned()),
                }],
            },
            request: None,
            item: None,
            patience: Patience {
                until: Progress::Accepted,
                time: Duration::ZERO,
            },
            timing: Timing {
                activity: Some(Activity::Recording),
                ..Default::default()
            },
        }
    }

    fn stored(outgoing: &Outgoing) -> SendRow {
        SendRow {
            instance: InstanceNumber(1),
            message_id: message_id(),
            number: 1,
            recipient: outgoing.recipient.as_ref().unwrap().to_string(),
            person: outgoing.recipient.as_ref().unwrap().to_string(),
            begin_time: UNIX_EPOCH,
            due_time: UNIX_EPOCH,
            expire_time: UNIX_EPOCH,
            create_time: UNIX_EPOCH,
            body: Kept::of(outgoing).encode_to_vec().into(),
        }
    }

    #[test]
    fn what_is_kept_comes_out_as_it_went_in() {
        let said = said();
        let send = stored(&said);
        let kept = Kept::read(&send).unwrap();
        assert_eq!(kept.shows(), Some(Activity::Recording));
        let recipient = Recipient::parse(&send.recipient).unwrap();
        assert_eq!(Some(&recipient), said.recipient.as_ref());
        let again = kept.outgoing(recipient).unwrap();
        assert_eq!(Kept::of(&again).content, Kept::of(&said).content);
        assert_eq!(again.ephemeral_seconds, Some(86_400));
        assert!(again.view_once && again.fetch_preview);
        assert!(again.forwarded && again.mentions.everyone && again.mentions.ghost);
        assert_eq!(again.quoted, "3EB0A");
        assert_eq!(again.album, "3EB0B");
        let mentioned = &again.mentions.mentioned[0];
        assert_eq!(mentioned.recipient, said.mentions.mentioned[0].recipient);
        assert_eq!(mentioned.text, "+1 555 000 2222");
    }

    #[test]
    fn a_send_that_can_not_be_read_still_fails_as_a_message() {
        let row = crate::grpc::fake::instance(InstanceNumber(1));
        let send = SendRow {
            body: bytes::Bytes::from_static(b"\xff\xff"),
            ..stored(&said())
        };
        assert!(Kept::read(&send).is_none());
        let failed = failed(&row, &send, "why");
        assert_eq!(failed.message_id, send.message_id);
        assert_eq!(failed.status, MessageStatus::Error as i32);
        assert_eq!(failed.status_reason, "why");
        assert_eq!(failed.chat, "120363000000000001@g.us");
    }

    #[test]
    fn ids_look_like_those_of_companions() {
        let id = message_id();
        assert!(id.starts_with("3EB0") && id.len() == 22, "{id}");
        assert_ne!(id, message_id());
    }
}
