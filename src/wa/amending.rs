//! How edits, deletions and late polls change messages that are stored already.
//!
//! Owns who may change what: only its writer edits a message, and its writer or an admin of the group deletes it.
//! Makes changes that the store applies in one transaction with what caused them. Looks nothing up.

use std::{sync::Arc, time::SystemTime};

use prost::Message as _;
use whatsapp_rust::{buffa::MessageField, waproto::whatsapp as wa};

use super::{
    app_state,
    convert::{ids::is_same, inbound, outbound, rows, secrets::Parent, words::words},
    polls,
};
use crate::{
    events::{self, timestamp},
    proto::v1::{self, event::Payload, message_content::Content},
    storage::{Changed, InstanceRow, Late, MessageChange, MessageRow},
};

/// A message that changes another one.
pub(super) struct Carrier {
    /// Whose it is.
    pub(super) instance: InstanceRow,
    /// The message in our words: an edit or a deletion.
    pub(super) message: v1::Message,
    /// What WhatsApp calls the chat, by all names that are known.
    pub(super) chats: Vec<String>,
    /// When it was written.
    pub(super) time: SystemTime,
    /// Its writer is an admin of the group.
    pub(super) by_admin: bool,
    /// An edit's new message, as WhatsApp has it.
    pub(super) raw: Option<wa::Message>,
    /// It was stored before the message that it changes, and may have changed it already.
    pub(super) is_late: bool,
}

impl Carrier {
    /// What it changes; `None` for a message that stands for itself.
    pub(super) fn change(self) -> Option<MessageChange> {
        let content = self.message.content.as_ref()?.content.as_ref()?;
        let message_id = match content {
            Content::Edited(edit) => edit.message_id.clone(),
            Content::Deleted(deletion) => deletion.message_id.clone(),
            _ => return None,
        };
        if message_id.is_empty() {
            return None;
        }
        Some(MessageChange {
            message_id,
            chats: self.chats.clone(),
            apply: Arc::new(move |target| self.apply(target)),
        })
    }

    fn apply(&self, target: Option<&MessageRow>) -> Changed {
        let content = self.message.content.as_ref();
        match content.and_then(|content| content.content.as_ref()) {
            Some(Content::Edited(edit)) => self.edit(edit, target),
            Some(Content::Deleted(deletion)) => self.delete(deletion, target),
            _ => Changed::default(),
        }
    }

    /// Whether the same person wrote both.
    fn wrote(&self, known: &v1::Message) -> bool {
        if self.message.from_me || known.from_me {
            return self.message.from_me && known.from_me;
        }
        match (&self.message.sender, &known.sender) {
            (Some(one), Some(other)) => is_same(one, other),
            _ => false,
        }
    }

    /// Whether a newer edit has changed the message already.
    fn is_outdated(&self, known: &v1::Message) -> bool {
        // WhatsApp counts seconds.
        let own = timestamp(self.time).seconds;
        let last = known.edit_time.as_ref().map(|time| time.seconds);
        last.is_some_and(|last| last > own || (self.is_late && last == own))
    }

    fn edit(&self, edit: &v1::EditedContent, target: Option<&MessageRow>) -> Changed {
        let mut updated = v1::MessageUpdated {
            message_id: edit.message_id.clone(),
            chat: self.message.chat.clone(),
            sender: self.message.sender.clone(),
            from_me: self.message.from_me,
            content: edit.content.as_deref().cloned(),
            edit_id: self.message.id.clone(),
            message: None,
            cause: v1::MessageUpdateCause::Edited.into(),
        };
        let Some(row) = target else {
            return self.told(None, Payload::MessageUpdated(updated));
        };
        let may = |known: &v1::Message| self.wrote(known) && !self.is_outdated(known);
        let Some(mut known) = alive(row).filter(may) else {
            return Changed::default();
        };
        let mut content = edit.content.as_deref().cloned();
        keep_file(known.content.as_ref(), content.as_mut());
        known.content.clone_from(&content);
        known.edit_time = Some(timestamp(self.time));
        updated.content = content;
        updated.message = Some(v1::Message {
            status: row.status,
            status_reason: row.status_reason.clone(),
            starred: row.starred,
            ..known.clone()
        });
        let raw = self.raw.as_ref().map(|new| edited_raw(&row.raw, new));
        let row = rewritten(row, &known, raw);
        self.told(Some(row), Payload::MessageUpdated(updated))
    }

    fn delete(&self, deletion: &v1::DeletedContent, target: Option<&MessageRow>) -> Changed {
        let mut deleted = v1::MessageDeleted {
            message_id: deletion.message_id.clone(),
            chat: self.message.chat.clone(),
            sender: None,
            from_me: false,
            actor: self.message.sender.clone(),
            deletion_id: self.message.id.clone(),
            scope: v1::MessageDeletionScope::Everybody.into(),
        };
        let Some(row) = target else {
            return self.told(None, Payload::MessageDeleted(deleted));
        };
        let may = |known: &v1::Message| self.by_admin || self.wrote(known);
        let Some(mut known) = alive(row).filter(may) else {
            return Changed::default();
        };
        deleted.sender.clone_from(&known.sender);
        deleted.from_me = known.from_me;
        known.content = Some(v1::MessageContent {
            content: Some(Content::Deleted(v1::DeletedContent {
                message_id: deletion.message_id.clone(),
                actor: self.message.sender.clone(),
                delete_time: Some(timestamp(self.time)),
                by_admin: deletion.by_admin,
            })),
        });
        known.quoted = None;
        known.mentions = None;
        // One that is not confirmed yet goes out as it was, before its deletion.
        let unsent = row.outbound && row.status == v1::MessageStatus::Pending as i32;
        let raw = (!unsent).then(Vec::new);
        let row = rewritten(row, &known, raw);
        self.told(Some(row), Payload::MessageDeleted(deleted))
    }

    fn told(&self, row: Option<MessageRow>, payload: Payload) -> Changed {
        let dedupe_key = format!("change/{}", self.message.id);
        Changed {
            row,
            events: vec![events::compose(
                &self.instance,
                payload,
                self.time,
                &dedupe_key,
            )],
            released: None,
        }
    }
}

/// What a message that was stored before this one does to it.
pub(super) fn late(instance: &InstanceRow, message: &MessageRow) -> Late {
    let (instance, message) = (instance.clone(), message.clone());
    Late(Arc::new(move |early| {
        let known = rows::message(early).ok()?;
        if early.hidden {
            let same = is_same_chat(early, &known, &message);
            return same
                .then(|| app_state::noted(&instance, early, known, &message))
                .flatten();
        }
        match known.content.as_ref()?.content.as_ref()? {
            Content::PollVote(_) => {
                let opened = polls::opened(early, &Parent::of(&message)?)?;
                Some(late_vote(&instance, early, opened))
            }
            Content::Edited(_) | Content::Deleted(_) if is_same_chat(early, &known, &message) => {
                late_carrier(&instance, early, known, &message).change()
            }
            _ => None,
        }
    }))
}

/// Whether both are in one chat, by whichever name.
fn is_same_chat(early: &MessageRow, known: &v1::Message, message: &MessageRow) -> bool {
    let party = |known: v1::Message| known.chat.and_then(|chat| chat.party);
    early.chat == message.chat
        || match (
            party(known.clone()),
            rows::message(message).ok().and_then(party),
        ) {
            (Some(one), Some(other)) => is_same(&one, &other),
            _ => false,
        }
}

fn late_carrier(
    instance: &InstanceRow,
    early: &MessageRow,
    known: v1::Message,
    message: &MessageRow,
) -> Carrier {
    let content = known.content.as_ref();
    let content = content.and_then(|content| content.content.as_ref());
    let by_admin = matches!(content, Some(Content::Deleted(deletion)) if deletion.by_admin);
    let raw = outbound::decode(&early.raw).ok();
    Carrier {
        instance: instance.clone(),
        chats: vec![message.chat.clone()],
        time: early.time,
        by_admin,
        raw: raw.and_then(|raw| inbound::edited(&raw).cloned()),
        is_late: true,
        message: known,
    }
}

/// A vote that was stored before its poll, now that it can be read.
fn late_vote(instance: &InstanceRow, vote: &MessageRow, content: Content) -> MessageChange {
    let (instance, sender) = (instance.clone(), vote.sender.clone());
    MessageChange {
        message_id: vote.message_id.clone(),
        chats: vec![vote.chat.clone()],
        apply: Arc::new(move |row| {
            let Some(row) = row.filter(|row| row.sender == sender) else {
                return Changed::default();
            };
            let Ok(mut known) = rows::message(row) else {
                return Changed::default();
            };
            known.content = Some(v1::MessageContent {
                content: Some(content.clone()),
            });
            let payload = Payload::MessageUpdated(v1::MessageUpdated {
                message_id: row.message_id.clone(),
                chat: known.chat.clone(),
                sender: known.sender.clone(),
                from_me: known.from_me,
                content: known.content.clone(),
                edit_id: String::new(),
                message: Some(known.clone()),
                cause: v1::MessageUpdateCause::VoteOpened.into(),
            });
            let dedupe_key = format!("opened/{}", row.message_id);
            Changed {
                events: vec![events::compose(&instance, payload, row.time, &dedupe_key)],
                row: Some(rewritten(row, &known, None)),
                released: None,
            }
        }),
    }
}

/// The stored message, unless it is deleted or only does something to another one.
fn alive(row: &MessageRow) -> Option<v1::Message> {
    let known = v1::Message::decode(row.body.clone()).ok()?;
    let content = known.content.as_ref()?.content.as_ref()?;
    let gone = matches!(content, Content::Deleted(_) | Content::Edited(_));
    (!gone).then_some(known)
}

fn rewritten(row: &MessageRow, known: &v1::Message, raw: Option<Vec<u8>>) -> MessageRow {
    let content = known.content.as_ref();
    let content = content.and_then(|content| content.content.as_ref());
    MessageRow {
        body: known.encode_to_vec().into(),
        raw: raw.map_or_else(|| row.raw.clone(), Into::into),
        words: content.map(words).unwrap_or_default(),
        ..row.clone()
    }
}

/// The new message with what stood beside the old one: its secret among others.
fn edited_raw(old: &[u8], new: &wa::Message) -> Vec<u8> {
    let mut new = new.clone();
    if new.message_context_info.as_option().is_none()
        && let Ok(old) = outbound::decode(old)
        && let Some(beside) = inbound::peel(&old).beside
    {
        new.message_context_info = MessageField::some(beside.clone());
    }
    outbound::encode(&new)
}

/// The edit of a caption may leave out the file.
fn keep_file(old: Option<&v1::MessageContent>, new: Option<&mut v1::MessageContent>) {
    let old = old.and_then(|content| content.content.as_ref());
    let new = new.and_then(|content| content.content.as_mut());
    let bare = |media: &Option<v1::Media>| {
        let size = media.as_ref().map_or(0, |file| file.size_bytes);
        size == 0
    };
    match (old, new) {
        (Some(Content::Image(old)), Some(Content::Image(new))) if bare(&new.media) => {
            new.media.clone_from(&old.media);
        }
        (Some(Content::Video(old)), Some(Content::Video(new))) if bare(&new.media) => {
            new.media.clone_from(&old.media);
        }
        (Some(Content::Document(old)), Some(Content::Document(new))) if bare(&new.media) => {
            new.media.clone_from(&old.media);
        }
        _ => {}
    }
}
