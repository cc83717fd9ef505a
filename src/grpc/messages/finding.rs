//! Stored messages, by what callers call them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::{Code, Status};

use crate::{
    domain::{ids::InstanceNumber, recipient::Recipient},
    grpc::{
        page,
        status::{self, Reason, refuse},
    },
    proto::v1,
    storage::{MessagePlace, MessageQuery, MessageRow, RequestMark, Storage},
    wa::message_resource,
};

/// Most messages with one id that are looked through for a chat. Ids are random: two are rare.
pub(in crate::grpc) const SAME_ID: usize = 1_000;

/// Longest id of a message: far longer than WhatsApp's.
pub(super) const QUOTED_ID_BYTES: usize = 256;

/// Longest query, in characters.
const QUERY_CHARS: usize = 256;

/// The newest message with this id, in this chat if one is named. `field` names the id in the request.
pub(super) async fn one(
    storage: &dyn Storage,
    instance: InstanceNumber,
    field: &str,
    message_id: &str,
    chat: &str,
) -> Result<MessageRow, Status> {
    id(field, message_id)?;
    for row in storage.list_messages(instance, message_id, SAME_ID).await? {
        if is_in_chat(&row, chat) {
            return Ok(row);
        }
    }
    Err(
        refuse(Reason::MessageNotFound, "the instance has no such message")
            .field(field, "must be the id of a message of the instance")
            .into(),
    )
}

/// What was found; nothing where a request may have been answered before the message went.
pub(super) fn unless_repeated(
    found: Result<MessageRow, Status>,
    request: &Option<RequestMark>,
) -> Result<Option<MessageRow>, Status> {
    match found {
        Ok(row) => Ok(Some(row)),
        Err(status) if status.code() == Code::NotFound && request.is_some() => Ok(None),
        Err(status) => Err(status),
    }
}

/// The id of a message. `field` names it in the request.
pub(super) fn id(field: &str, message_id: &str) -> Result<(), Status> {
    if message_id.is_empty() {
        return Err(status::field_invalid(field, "must not be empty"));
    }
    Ok(())
}

/// Whether a message lies in this chat, by whichever of its names; every one lies in the empty one.
pub(super) fn is_in_chat(row: &MessageRow, chat: &str) -> bool {
    chat.is_empty()
        || message_resource(row).is_ok_and(|message| is_in(&row.chat, message.chat.as_ref(), chat))
}

/// Whether what lies in the chat that WhatsApp calls `own` lies in this one, by whichever of its names.
pub(in crate::grpc) fn is_in(own: &str, known: Option<&v1::Chat>, chat: &str) -> bool {
    let Some(known) = known else {
        return own == chat;
    };
    if own == chat || known.id == chat {
        return true;
    }
    let Some(party) = &known.party else {
        return false;
    };
    match Recipient::parse(chat) {
        Ok(Recipient::Number(number)) => party.phone_number == number,
        Ok(Recipient::Lid(lid)) => party.lid.strip_suffix("@lid") == Some(lid.as_str()),
        Ok(Recipient::Group(_)) | Err(_) => false,
    }
}

/// What WhatsApp calls a chat, by all names that are known; `None` where none is named.
pub(in crate::grpc) async fn chats(
    storage: &dyn Storage,
    instance: InstanceNumber,
    chat: &str,
) -> Result<Option<Vec<String>>, Status> {
    let chat = chat.trim();
    if chat.is_empty() {
        return Ok(None);
    }
    let device = storage.device(instance);
    let (own, other) = match Recipient::parse(chat) {
        Ok(Recipient::Number(number)) => {
            let known = device.mapping_of_number(&number).await?;
            let other = known.map(|known| format!("{}@lid", known.lid));
            (format!("{number}@s.whatsapp.net"), other)
        }
        Ok(Recipient::Lid(lid)) => {
            let known = device.mapping_of_lid(&lid).await?;
            let other = known.map(|known| format!("{}@s.whatsapp.net", known.phone_number));
            (format!("{lid}@lid"), other)
        }
        Ok(Recipient::Group(group)) => (format!("{group}@g.us"), None),
        // Channels and status updates: what is stored of them can be read.
        Err(_) if chat.contains('@') && chat.len() <= QUOTED_ID_BYTES => (chat.to_owned(), None),
        Err(why) => return Err(status::field_invalid("chat", why)),
    };
    Ok(Some(std::iter::once(own).chain(other).collect()))
}

/// The words that a caller looks for.
pub(super) fn query(text: String) -> Result<String, Status> {
    let length = text.chars().count();
    let has_words = text.chars().any(char::is_alphanumeric);
    if !has_words || length > QUERY_CHARS {
        return Err(status::field_invalid(
            "query",
            format!("must have 1 to {QUERY_CHARS} characters, with a word among them"),
        ));
    }
    Ok(text)
}

/// A list of messages that callers read page by page.
pub(super) struct Pages {
    pub(super) method: &'static str,
    pub(super) chats: Option<Vec<String>>,
    pub(super) words: Option<String>,
    pub(super) actions: bool,
    pub(super) starred: bool,
}

impl Pages {
    /// A page, newest first, and the token of the next.
    pub(super) async fn read(
        self,
        storage: &dyn Storage,
        instance: InstanceNumber,
        page_size: i32,
        page_token: &str,
    ) -> Result<(Vec<v1::Message>, String), Status> {
        let size = page::size(page_size)?;
        let before = page::after(self.method, page_token)?;
        let before = before.map(|key| place(&key).ok_or_else(status::page_token_invalid));
        let query = MessageQuery {
            instance,
            chats: self.chats,
            words: self.words,
            actions: self.actions,
            starred: self.starred,
            before: before.transpose()?,
            // One more than asked for tells whether there is a next page.
            limit: size + 1,
        };
        let found = storage.query_messages(query).await?;
        let (found, token) = page::cut(self.method, found, size, |(last, _)| key(*last));
        let messages = found.iter().map(|(_, row)| message_resource(row));
        Ok((messages.collect::<Result<_, _>>()?, token))
    }
}

/// A place as a page token has it.
pub(in crate::grpc) fn key(place: MessagePlace) -> String {
    let since = place.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}/{}", since.as_micros(), place.number)
}

/// The place in a page token.
pub(in crate::grpc) fn place(key: &str) -> Option<MessagePlace> {
    let (micros, number) = key.split_once('/')?;
    let since = Duration::from_micros(micros.parse().ok()?);
    Some(MessagePlace {
        time: SystemTime::UNIX_EPOCH.checked_add(since)?,
        number: number.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_out_as_it_went_in() {
        let place = MessagePlace {
            time: UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            number: 7,
        };
        assert_eq!(super::place(&key(place)), Some(place));
        for wrong in ["", "1", "x/1", "1/x", "99999999999999999999/1"] {
            assert_eq!(super::place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_query_has_words() {
        assert!(query("two words".to_owned()).is_ok());
        for wrong in ["", "  ", "\"*", &"x".repeat(QUERY_CHARS + 1)] {
            assert!(query(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
