//! What a star, or a deletion for the account alone, does to a stored message.
//!
//! Pure: a mark and a message in, the message afterwards and its event out. A mark that comes before its message is
//! made into a note, a hidden row that has the message as its target.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use uuid::Uuid;
use whatsapp_rust::{
    Jid,
    buffa::{Message as _, MessageField},
    waproto::whatsapp::{
        SyncActionValue,
        sync_action_value::{DeleteMessageForMeAction, StarAction},
    },
};

use crate::{
    domain::ids::MediaId,
    events,
    proto::v1::{self, MessageStatus, event::Payload, message_content::Content},
    storage::{Changed, InstanceRow, MessageChange, MessageRow},
    wa::convert::{
        ids::{self, is_same},
        rows,
    },
};

/// What the account does to a message, for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Stars it, or no longer.
    Starred(bool),
    /// Deletes it, and its file with it.
    Deleted {
        /// The file too.
        media: bool,
    },
}

impl Mark {
    /// As WhatsApp has it.
    pub(super) fn value(self, millis: i64, written: SystemTime) -> SyncActionValue {
        let mut value = SyncActionValue {
            timestamp: Some(millis),
            ..Default::default()
        };
        match self {
            Self::Starred(starred) => {
                value.star_action = MessageField::some(StarAction {
                    starred: Some(starred),
                });
            }
            Self::Deleted { media } => {
                let written = written.duration_since(UNIX_EPOCH).unwrap_or_default();
                value.delete_message_for_me_action = MessageField::some(DeleteMessageForMeAction {
                    delete_media: Some(media),
                    message_timestamp: i64::try_from(written.as_secs()).ok(),
                });
            }
        }
        value
    }

    fn of(value: &SyncActionValue) -> Option<Self> {
        if let Some(star) = value.star_action.as_option() {
            return Some(Self::Starred(star.starred == Some(true)));
        }
        let deletion = value.delete_message_for_me_action.as_option()?;
        Some(Self::deletion(deletion))
    }

    /// A deletion as another device made it.
    pub(super) fn deletion(deletion: &DeleteMessageForMeAction) -> Self {
        Self::Deleted {
            media: deletion.delete_media != Some(false),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Starred(true) => "star",
            Self::Starred(false) => "unstar",
            Self::Deleted { .. } => "delete",
        }
    }
}

/// A mark and what it is on.
#[derive(Clone, Debug)]
pub(super) struct Marking {
    pub(super) instance: InstanceRow,
    pub(super) mark: Mark,
    pub(super) message_id: String,
    /// What WhatsApp calls the chat, by all names that are known.
    pub(super) chats: Vec<String>,
    pub(super) chat: v1::Chat,
    /// The account wrote the message.
    pub(super) from_me: bool,
    /// Who wrote it, where that is said: in groups.
    pub(super) sender: Option<v1::Party>,
    /// When it was marked.
    pub(super) time: SystemTime,
}

impl Marking {
    /// When it was marked, in WhatsApp's measure.
    pub(super) fn millis(&self) -> i64 {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    /// The change of the message.
    pub(super) fn change(self) -> MessageChange {
        MessageChange {
            message_id: self.message_id.clone(),
            chats: self.chats.clone(),
            apply: Arc::new(move |target| self.apply(target)),
        }
    }

    /// What is kept of it until the message comes.
    pub(super) fn note(&self) -> MessageRow {
        let own = self.own();
        let sender = match &*own.jid {
            "" => own.lid.clone(),
            jid => jid.to_owned(),
        };
        let (millis, received) = (self.millis(), MessageStatus::Received.into());
        let known = v1::Message {
            id: self.message_id.clone(),
            chat: Some(self.chat.clone()),
            sender: self.sender.clone(),
            from_me: self.from_me,
            ..Default::default()
        };
        MessageRow {
            instance: self.instance.number,
            chat: self.chats.first().cloned().unwrap_or_default(),
            sender,
            message_id: format!("{}/{}/{millis}", self.mark.word(), self.message_id),
            from_me: true,
            outbound: false,
            time: self.time,
            status: received,
            previous_status: received,
            status_reason: String::new(),
            body: known.encode_to_vec().into(),
            raw: self.mark.value(millis, self.time).encode_to_vec().into(),
            target: self.message_id.clone(),
            listed: false,
            words: String::new(),
            starred: false,
            hidden: true,
        }
    }

    fn apply(&self, target: Option<&MessageRow>) -> Changed {
        let Some(row) = target else {
            return Changed {
                events: vec![self.event(match self.mark {
                    Mark::Starred(starred) => self.updated(starred, None),
                    Mark::Deleted { .. } => self.deleted(None),
                })],
                ..Default::default()
            };
        };
        let Some(known) = rows::message(row)
            .ok()
            .filter(|known| self.is_on(row, known))
        else {
            return Changed::default();
        };
        match self.mark {
            Mark::Starred(starred) if row.starred == starred => Changed::default(),
            Mark::Starred(starred) => {
                let row = MessageRow {
                    starred,
                    ..row.clone()
                };
                let known = v1::Message { starred, ..known };
                Changed {
                    row: Some(row),
                    events: vec![self.event(self.updated(starred, Some(known)))],
                    released: None,
                }
            }
            Mark::Deleted { media } => Changed {
                row: Some(hidden(row, &known)),
                released: media_of(&known).filter(|_| media),
                events: vec![self.event(self.deleted(Some(known)))],
            },
        }
    }

    /// Whether it is this message that is meant: two people may choose the same id.
    fn is_on(&self, row: &MessageRow, known: &v1::Message) -> bool {
        let writers = (&self.sender, &known.sender);
        let same = match writers {
            (Some(one), Some(other)) => is_same(one, other),
            _ => true,
        };
        !row.hidden && row.listed && row.from_me == self.from_me && (row.from_me || same)
    }

    fn updated(&self, starred: bool, known: Option<v1::Message>) -> Payload {
        let cause = match starred {
            true => v1::MessageUpdateCause::Starred,
            false => v1::MessageUpdateCause::Unstarred,
        };
        let chat = known.as_ref().and_then(|known| known.chat.clone());
        Payload::MessageUpdated(v1::MessageUpdated {
            message_id: self.message_id.clone(),
            chat: chat.or_else(|| Some(self.chat.clone())),
            sender: known.as_ref().and_then(|known| known.sender.clone()),
            from_me: self.from_me,
            content: known.as_ref().and_then(|known| known.content.clone()),
            edit_id: String::new(),
            message: known,
            cause: cause.into(),
        })
    }

    fn deleted(&self, known: Option<v1::Message>) -> Payload {
        let (chat, sender) = known.map_or((None, None), |known| (known.chat, known.sender));
        Payload::MessageDeleted(v1::MessageDeleted {
            message_id: self.message_id.clone(),
            chat: chat.or_else(|| Some(self.chat.clone())),
            sender,
            from_me: self.from_me,
            actor: Some(self.own()),
            deletion_id: String::new(),
            scope: v1::MessageDeletionScope::Me.into(),
        })
    }

    fn event(&self, payload: Payload) -> crate::storage::NewEvent {
        let word = self.mark.word();
        let dedupe_key = format!("{word}/{}/{}", self.message_id, self.millis());
        events::compose(&self.instance, payload, self.time, &dedupe_key)
    }

    /// The account itself.
    fn own(&self) -> v1::Party {
        let row = &self.instance;
        let number = (!row.phone_number.is_empty()).then(|| Jid::pn(&*row.phone_number));
        let lid: Option<Jid> = row.lid.parse().ok();
        ids::party([number.as_ref(), lid.as_ref()], &row.push_name)
    }
}

/// What a note that was made before its message came does to it.
pub(in crate::wa) fn noted(
    instance: &InstanceRow,
    note: &MessageRow,
    known: v1::Message,
    message: &MessageRow,
) -> Option<MessageChange> {
    let value = SyncActionValue::decode_from_slice(&note.raw).ok()?;
    let marking = Marking {
        instance: instance.clone(),
        mark: Mark::of(&value)?,
        message_id: message.message_id.clone(),
        chats: vec![message.chat.clone()],
        chat: known.chat.unwrap_or_default(),
        from_me: known.from_me,
        sender: known.sender,
        time: note.time,
    };
    Some(marking.change())
}

/// The message without what it says. Its key stays, so that it is not taken for a new one when it comes again.
fn hidden(row: &MessageRow, known: &v1::Message) -> MessageRow {
    let hidden = MessageRow {
        words: String::new(),
        starred: false,
        hidden: true,
        ..row.clone()
    };
    if row.outbound && row.status == MessageStatus::Pending as i32 {
        // It is on its way to others.
        return hidden;
    }
    let bare = v1::Message {
        id: known.id.clone(),
        instance: known.instance.clone(),
        chat: known.chat.clone(),
        sender: known.sender.clone(),
        from_me: known.from_me,
        message_time: known.message_time,
        ..Default::default()
    };
    MessageRow {
        body: bare.encode_to_vec().into(),
        raw: Vec::new().into(),
        ..hidden
    }
}

/// The file that a message has.
pub(in crate::wa) fn media_of(message: &v1::Message) -> Option<MediaId> {
    let media = match message.content.as_ref()?.content.as_ref()? {
        Content::Image(one) => one.media.as_ref(),
        Content::Video(one) => one.media.as_ref(),
        Content::Audio(one) => one.media.as_ref(),
        Content::Document(one) => one.media.as_ref(),
        Content::Sticker(one) => one.media.as_ref(),
        _ => None,
    };
    Uuid::try_parse(&media?.id).ok().map(MediaId)
}
