//! Votes and answers to invitations, which only who has the message that they belong to can read.
//!
//! The key is made of that message's secret and of the names of both writers, so it has to be known by which of
//! their two names WhatsApp called them: all are tried.

use std::time::{SystemTime, UNIX_EPOCH};

use whatsapp_rust::{
    Jid,
    buffa::MessageField,
    wacore::{
        event::{decrypt_event_response_with_secret, encrypt_event_response_with_secret},
        poll::{
            PollVoteCiphertext, compute_option_hash, decrypt_poll_vote_with_secret,
            encrypt_poll_vote_with_secret,
        },
    },
    wacore_binary::JidExt as _,
    waproto::whatsapp as wa,
};

use super::{ids::Account, inbound, outbound};
use crate::{
    domain::limits::LIST_ENTRIES,
    proto::v1::{self, message_content::Content},
    storage::MessageRow,
};

/// A secret has 32 bytes; anything else is none.
const SECRET_BYTES: usize = 32;

/// A message that others answer with its secret: a poll or an invitation.
pub struct Parent {
    id: String,
    chat: Jid,
    /// The writer as WhatsApp called it.
    writer: Jid,
    /// The writer, by all names that are known.
    writers: Vec<String>,
    from_me: bool,
    secret: Vec<u8>,
    options: Vec<String>,
}

impl Parent {
    /// The stored message, if it is such a one.
    pub fn of(row: &MessageRow) -> Option<Self> {
        let message = outbound::decode(&row.raw).ok()?;
        let peeled = inbound::peel(&message);
        let secret = peeled.secret()?;
        let options = inbound::poll(peeled.message).map(|poll| &poll.options);
        let options = options.into_iter().flatten().take(LIST_ENTRIES);
        let known: v1::Message = prost::Message::decode(row.body.clone()).ok()?;
        Some(Self {
            id: row.message_id.clone(),
            chat: row.chat.parse().ok()?,
            writer: row.sender.parse().ok()?,
            writers: names(&row.sender, known.sender.as_ref()),
            from_me: row.from_me,
            secret: (secret.len() == SECRET_BYTES).then(|| secret.to_vec())?,
            options: options
                .filter_map(|option| option.option_name.clone())
                .collect(),
        })
    }

    /// Which name of an account goes with that of the writer.
    fn own(&self, account: &Account) -> Option<Jid> {
        let names = if self.writer.is_lid() {
            [&account.lid, &account.number]
        } else {
            [&account.number, &account.lid]
        };
        names.into_iter().flatten().next().cloned()
    }

    fn key(&self) -> wa::MessageKey {
        wa::MessageKey {
            remote_jid: Some(self.chat.to_string()),
            from_me: Some(self.from_me),
            id: Some(self.id.clone()),
            participant: self.chat.is_group().then(|| self.writer.to_string()),
        }
    }

    /// What a vote chooses, if it can be read.
    pub fn open_vote(
        &self,
        vote: &wa::message::PollEncValue,
        voters: &[String],
    ) -> Option<Vec<v1::PollOption>> {
        let sealed = PollVoteCiphertext {
            enc_payload: vote.enc_payload.as_deref()?,
            enc_iv: vote.enc_iv.as_deref()?,
        };
        let hashes = self.each(voters, |writer, voter| {
            decrypt_poll_vote_with_secret(sealed, &self.secret, &self.id, writer, voter).ok()
        })?;
        let chosen = hashes.iter().take(LIST_ENTRIES);
        Some(chosen.map(|hash| self.option(hash)).collect())
    }

    fn option(&self, hash: &[u8]) -> v1::PollOption {
        let known = self
            .options
            .iter()
            .find(|name| compute_option_hash(name) == *hash);
        match known {
            Some(name) => inbound::poll_option(name),
            None => v1::PollOption {
                name: String::new(),
                id: hex::encode(&hash[..hash.len().min(SECRET_BYTES)]),
            },
        }
    }

    /// An answer to an invitation, if it can be read.
    fn open_response(
        &self,
        answer: &wa::message::EncEventResponseMessage,
        guests: &[String],
    ) -> Option<wa::message::EventResponseMessage> {
        let payload = answer.enc_payload.as_deref()?;
        let iv = answer.enc_iv.as_deref()?;
        self.each(guests, |writer, guest| {
            decrypt_event_response_with_secret(payload, iv, &self.secret, &self.id, writer, guest)
                .ok()
        })
    }

    fn each<T>(
        &self,
        others: &[String],
        mut open: impl FnMut(&str, &str) -> Option<T>,
    ) -> Option<T> {
        let pairs = self
            .writers
            .iter()
            .flat_map(|writer| others.iter().map(move |other| (writer, other)));
        pairs
            .into_iter()
            .find_map(|(writer, other)| open(writer, other))
    }

    /// The names of the poll's options that have these names; the first that it does not have.
    pub fn lacks<'n>(&self, names: &'n [String]) -> Option<&'n str> {
        let known = |name: &&String| self.options.contains(name);
        names.iter().find(|name| !known(name)).map(String::as_str)
    }

    /// A vote for these options.
    pub fn seal_vote(&self, account: &Account, names: &[String]) -> Option<wa::Message> {
        let hashes: Vec<Vec<u8>> = names
            .iter()
            .map(|name| compute_option_hash(name).to_vec())
            .collect();
        let (writer, voter) = (self.writer.to_non_ad_string(), self.own(account)?);
        let voter = voter.to_string();
        let (payload, iv) =
            encrypt_poll_vote_with_secret(&hashes, &self.secret, &self.id, &writer, &voter).ok()?;
        Some(wa::Message {
            poll_update_message: MessageField::some(wa::message::PollUpdateMessage {
                poll_creation_message_key: MessageField::some(self.key()),
                vote: MessageField::some(wa::message::PollEncValue {
                    enc_payload: Some(payload),
                    enc_iv: Some(iv.to_vec()),
                }),
                sender_timestamp_ms: Some(now_millis()),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    /// An answer to an invitation.
    pub fn seal_response(
        &self,
        account: &Account,
        content: &v1::EventResponseContent,
    ) -> Option<wa::Message> {
        use wa::message::event_response_message::EventResponseType;
        let answer = wa::message::EventResponseMessage {
            response: Some(match content.response() {
                v1::EventResponse::Going => EventResponseType::GOING,
                v1::EventResponse::NotGoing => EventResponseType::NOT_GOING,
                v1::EventResponse::Maybe => EventResponseType::MAYBE,
                v1::EventResponse::Unspecified => return None,
            }),
            timestamp_ms: Some(now_millis()),
            extra_guest_count: i32::try_from(content.extra_guests)
                .ok()
                .filter(|count| *count > 0),
        };
        let (writer, guest) = (self.writer.to_non_ad_string(), self.own(account)?);
        let guest = guest.to_string();
        let (payload, iv) =
            encrypt_event_response_with_secret(&answer, &self.secret, &self.id, &writer, &guest)
                .ok()?;
        Some(wa::Message {
            enc_event_response_message: MessageField::some(wa::message::EncEventResponseMessage {
                event_creation_message_key: MessageField::some(self.key()),
                enc_payload: Some(payload),
                enc_iv: Some(iv.to_vec()),
            }),
            ..Default::default()
        })
    }
}

/// The names of somebody: as WhatsApp called them, and the others that are known.
pub fn names(called: &str, party: Option<&v1::Party>) -> Vec<String> {
    let mut names = vec![called.to_owned()];
    let known = party.into_iter().flat_map(|party| [&party.jid, &party.lid]);
    for name in known {
        if !name.is_empty() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The id of the message whose secret opens this one.
pub fn parent_id(message: &wa::Message) -> Option<&str> {
    let message = inbound::peel(message).message;
    let vote = message.poll_update_message.as_option();
    let answer = message.enc_event_response_message.as_option();
    let key = match (vote, answer) {
        (Some(vote), _) => vote.poll_creation_message_key.as_option()?,
        (None, Some(answer)) => answer.event_creation_message_key.as_option()?,
        (None, None) => return None,
    };
    key.id.as_deref().filter(|id| !id.is_empty())
}

/// Fills in what only the message that this one belongs to can open. `earlier` is what the same
/// person had chosen before.
pub fn open(
    content: &mut Content,
    message: &wa::Message,
    parent: &Parent,
    others: &[String],
    earlier: Vec<v1::PollOption>,
) {
    let message = inbound::peel(message).message;
    match content {
        Content::PollVote(vote) => {
            let sealed = message.poll_update_message.as_option();
            let sealed = sealed.and_then(|update| update.vote.as_option());
            match sealed.and_then(|sealed| parent.open_vote(sealed, others)) {
                Some(options) => {
                    vote.options = options;
                    vote.set_state(v1::PollVoteState::Read);
                }
                None => vote.set_state(v1::PollVoteState::Unreadable),
            }
            vote.previous_options = earlier;
        }
        Content::EventResponse(response) => {
            use wa::message::event_response_message::EventResponseType;
            let sealed = message.enc_event_response_message.as_option();
            let answer = sealed.and_then(|sealed| parent.open_response(sealed, others));
            let Some(answer) = answer else { return };
            response.set_response(match answer.response {
                Some(EventResponseType::GOING) => v1::EventResponse::Going,
                Some(EventResponseType::NOT_GOING) => v1::EventResponse::NotGoing,
                Some(EventResponseType::MAYBE) => v1::EventResponse::Maybe,
                _ => v1::EventResponse::Unspecified,
            });
            let guests = answer.extra_guest_count;
            response.extra_guests = guests
                .and_then(|count| count.try_into().ok())
                .unwrap_or_default();
        }
        _ => {}
    }
}

/// When a vote was cast, by its voter's clock: of two, the later one counts.
pub fn cast_at(message: &wa::Message) -> i64 {
    let message = inbound::peel(message).message;
    let update = message.poll_update_message.as_option();
    update
        .and_then(|update| update.sender_timestamp_ms)
        .unwrap_or_default()
}

fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| now.as_millis().try_into().ok())
        .unwrap_or_default()
}
