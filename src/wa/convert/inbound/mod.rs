//! A message that WhatsApp delivered, in our words.

mod actions;
mod business;
mod contacts;
mod media;
mod meetings;
mod missing;
mod payments;
mod peel;
mod places;
mod polls;
mod text;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message as _;
use whatsapp_rust::waproto::{codec, whatsapp as wa};

use whatsapp_rust::types::message::{MessageCategory, MessageInfo};

pub use actions::{edited, reacted_to};
pub use missing::missing;
pub use payments::{asked as asked_to_pay, note as payment_note};
pub use peel::{Peeled, peel};
pub use polls::{creation as poll, option as poll_option};

use super::{
    NAME_BYTES, context, cut,
    ids::{self, Account, Names},
    label,
    secrets::{self, Parent},
    words,
};
use crate::{
    domain::{
        ids::{InstanceId, InstanceNumber},
        limits::{CAPTION_CHARS, SUBJECT_CHARS, TEXT_CHARS, THUMBNAIL_BYTES},
    },
    events::{self, Told, timestamp},
    proto::v1::{self, message_content::Content},
    storage::{InstanceRow, MessageRow, NewEvent, media::MediaRow},
};

/// A delivered message, ready to be stored.
pub struct Inbound {
    /// How it is kept.
    pub row: MessageRow,
    /// How it is shown.
    pub message: v1::Message,
    /// What is the same when WhatsApp delivers it again.
    pub dedupe_key: String,
}

impl Inbound {
    /// Whether all that it does is to change another one.
    pub fn is_change(&self) -> bool {
        let content = self.message.content.as_ref();
        let content = content.and_then(|content| content.content.as_ref());
        matches!(content, Some(Content::Edited(_) | Content::Deleted(_)))
    }

    /// Notes that a deletion is by an admin of the group.
    pub fn note_admin(&mut self) {
        let content = self.message.content.as_mut();
        let content = content.and_then(|content| content.content.as_mut());
        if let Some(Content::Deleted(deletion)) = content {
            deletion.by_admin = true;
            self.row.body = self.message.encode_to_vec().into();
        }
    }

    /// What the log says of a message that stands for itself.
    pub fn event(&self, instance: &InstanceRow) -> NewEvent {
        let told = if self.row.from_me {
            Told::Sent
        } else {
            Told::Received
        };
        self.told(instance, told)
    }

    fn told(&self, instance: &InstanceRow, told: Told) -> NewEvent {
        let row = &self.row;
        events::compose_told(instance, told, &row.body, row.time, &self.dedupe_key)
    }
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
    /// The message whose secret opens it.
    pub parent: Option<&'k Parent>,
    /// What its writer had chosen in the same poll before.
    pub earlier: Vec<v1::PollOption>,
    /// Its file, if it tells where that is.
    pub file: Option<&'k MediaRow>,
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
    let peeled = peel(message);
    let mut content = content_of(peeled, &known.names)?;
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
    if let Some(parent) = known.parent {
        let writer = source.sender.to_non_ad_string();
        let writers = secrets::names(&writer, Some(&sender));
        let earlier = known.earlier.clone();
        secrets::open(&mut content, message, parent, &writers, earlier);
    }
    if let (Some(file), Some(media)) = (known.file, media::of(&mut content)) {
        media.id = file.id.to_string();
        media.instance_id = instance_id.to_string();
        media.kind = file.kind as i32;
    }
    if let Content::Deleted(deletion) = &mut content {
        deletion.actor = Some(sender.clone());
        deletion.delete_time = Some(timestamp(info.timestamp.into()));
    }
    let target = words::target(&content).map(str::to_owned);
    let listed = words::stands_alone(&content);
    let words = words::words(&content);
    let chat_jid = source.chat.to_non_ad_string();
    let sender_jid = source.sender.to_non_ad_string();
    let status = if from_me {
        v1::MessageStatus::Sent
    } else {
        v1::MessageStatus::Received
    };
    let time: SystemTime = info.timestamp.into();

    let around = context::around(peeled.message);
    let message_id = info.id.to_string();
    let dedupe_key = [&*chat_jid, &sender_jid, &message_id].join("/");
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
        quoted: around
            .and_then(|around| context::quoted(around, &known.names, known.quoted))
            .map(Box::new),
        mentions: around.and_then(|around| context::mentions(around, &known.names)),
        view_once: peeled.view_once,
        forwarded: around.is_some_and(|around| around.is_forwarded == Some(true)),
        forwarding_score: around
            .and_then(|around| around.forwarding_score)
            .unwrap_or_default(),
        ephemeral_seconds: around
            .and_then(|around| around.expiration)
            .unwrap_or_default(),
        edit_time: None,
        album_message_id: peeled.album().unwrap_or_default().to_owned(),
        starred: false,
    };
    let row = MessageRow {
        instance,
        chat: chat_jid,
        sender: sender_jid,
        message_id,
        from_me,
        outbound: false,
        time,
        status: status.into(),
        previous_status: status.into(),
        status_reason: String::new(),
        body: ours.encode_to_vec().into(),
        raw: codec::message_to_vec(message).into(),
        listed,
        target: target.unwrap_or_default(),
        words,
        starred: false,
        hidden: false,
    };
    Some(Inbound {
        row,
        message: ours,
        dedupe_key,
    })
}

/// What it says; `None` for protocol noise that is no message to anybody.
pub fn content(message: &wa::Message, names: &Names) -> Option<Content> {
    content_of(peel(message), names)
}

fn content_of(peeled: Peeled<'_>, names: &Names) -> Option<Content> {
    if let Some(pin) = peeled.message.pin_in_chat_message.as_option() {
        return Some(actions::pin(pin, peeled.beside));
    }
    if let Some(protocol) = peeled.message.protocol_message.as_option() {
        return actions::protocol(protocol, names);
    }
    said(peeled.message, names)
}

/// What a message says that is out of its envelopes and does nothing to another one.
fn said(message: &wa::Message, names: &Names) -> Option<Content> {
    if let Some(content) = text::text(message) {
        return Some(content);
    }
    macro_rules! first_of {
        ($($field:ident => $convert:expr),+ $(,)?) => {
            $(if let Some(one) = message.$field.as_option() {
                return Some($convert(one));
            })+
        };
    }
    first_of! {
        image_message => media::image,
        video_message => |one| media::video(one, false),
        ptv_message => |one| media::video(one, true),
        audio_message => media::audio,
        document_message => media::document,
        sticker_message => media::sticker,
        album_message => media::album,
        location_message => places::location,
        live_location_message => places::live_location,
        contact_message => contacts::contact,
        contacts_array_message => contacts::contacts,
        reaction_message => |one| actions::reaction(one, names),
        poll_update_message => polls::vote,
        event_message => meetings::invitation,
        enc_event_response_message => meetings::response,
        list_message => business::list,
        list_response_message => business::list_reply,
        buttons_message => business::buttons,
        buttons_response_message => business::button_reply,
        template_button_reply_message => business::template_reply,
        interactive_message => |one| Content::Interactive(business::interactive(one)),
        interactive_response_message => business::interactive_reply,
        product_message => |one| business::product(one, names),
        order_message => |one| business::order(one, names),
        group_invite_message => |one| Content::GroupInvite(group_invite(one)),
        request_payment_message => |one| payments::request(one, names),
        decline_payment_request_message => payments::declined,
        cancel_payment_request_message => payments::cancelled,
        send_payment_message => payments::sent,
        payment_invite_message => payments::invite,
    }
    if let Some(poll) = polls::creation(message) {
        return Some(polls::poll(poll));
    }
    if let Some(template) = message.template_message.as_option()
        && let Some(content) = business::template(template)
    {
        return Some(Content::Interactive(content));
    }
    let kind = kind_name(message);
    // Alone it only lets a device read what comes later.
    let key = "fastRatchetKeySenderKeyDistributionMessage";
    (kind != key).then(|| unsupported(kind, "this version can't represent this kind of message"))
}

/// A text that WhatsApp does not limit much.
fn long(text: Option<&String>) -> String {
    short(text, TEXT_CHARS)
}

/// A text, cut where no honest client writes that much.
fn short(text: Option<&String>, chars: usize) -> String {
    text.map(|text| cut(text, chars)).unwrap_or_default()
}

/// A picture that is small enough to be passed on.
fn thumbnail(picture: Option<&Vec<u8>>) -> Bytes {
    picture
        .filter(|picture| picture.len() <= THUMBNAIL_BYTES)
        .map(|picture| Bytes::copy_from_slice(picture))
        .unwrap_or_default()
}

/// The id of the message that a key names; empty if it has none.
fn key_id(key: Option<&wa::MessageKey>) -> String {
    let id = key.and_then(|key| key.id.as_deref()).unwrap_or_default();
    if id.len() <= NAME_BYTES {
        id.to_owned()
    } else {
        String::new()
    }
}

/// A time in seconds, if it is one.
fn seconds(time: i64) -> Option<pbjson_types::Timestamp> {
    let time = u64::try_from(time).ok().filter(|time| *time > 0)?;
    UNIX_EPOCH
        .checked_add(Duration::from_secs(time))
        .map(timestamp)
}

fn group_invite(invite: &wa::message::GroupInviteMessage) -> v1::GroupInviteContent {
    let text = |text: &Option<String>, chars| cut(text.as_deref().unwrap_or_default(), chars);
    v1::GroupInviteContent {
        group_id: label(invite.group_jid.as_deref().unwrap_or_default()).into_owned(),
        subject: text(&invite.group_name, SUBJECT_CHARS),
        code: label(invite.invite_code.as_deref().unwrap_or_default()).into_owned(),
        expire_time: invite.invite_expiration.and_then(seconds),
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
mod fixtures;
#[cfg(test)]
mod tests;
