//! Messages of every kind: what phones write, what they do to messages in their inbox, and what they make of votes.

use std::time::{SystemTime, UNIX_EPOCH};

use wacore::poll::{
    PollVoteCiphertext, compute_option_hash, decrypt_poll_vote_with_secret,
    encrypt_poll_vote_with_secret,
};
use wacore_binary::Jid;
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{Message, MessageContextInfo, MessageKey, message},
};

use super::{
    Sandbox,
    address::{Namespace, Number},
    audience::Audience,
    error::SandboxError,
    group::GroupId,
    keys::random_bytes,
    manner::Manner,
    phone::{
        Phone,
        app_state::MessageMark,
        inbox::InboxMessage,
        send::{SentText, check_text},
    },
};

/// What a text posted as a status stands on: a dark green.
const STATUS_COLOUR: u32 = 0xff1f_3b2d;

/// Where a phone writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chat {
    /// To one account.
    User(Number),
    /// Into a group.
    Group(GroupId),
    /// To everybody whom the account has exchanged messages with, as its status.
    Status,
}

/// A poll that a phone asks.
#[derive(Debug, Clone, Default)]
pub struct PhonePoll {
    /// The question.
    pub question: String,
    /// What can be chosen.
    pub options: Vec<String>,
    /// How many may be; 0 is any number.
    pub selectable: u32,
}

impl Sandbox {
    /// A phone sends an encoded protobuf `Message` as it is; returns when the network has it.
    pub async fn send_message(
        &self,
        phone: Number,
        chat: Chat,
        message: &[u8],
    ) -> Result<SentText, SandboxError> {
        let plain = Manner::default();
        self.send_message_as(phone, chat, message, plain).await
    }

    /// The same, marked as to be sent in this manner.
    pub async fn send_message_as(
        &self,
        phone: Number,
        chat: Chat,
        message: &[u8],
        manner: Manner,
    ) -> Result<SentText, SandboxError> {
        let message = Message::decode_from_slice(message)
            .map_err(|_| SandboxError::invalid("message", "is not an encoded Message"))?;
        self.send_built(phone, chat, manner.mark(message)?).await
    }

    pub(super) async fn send_built(
        &self,
        phone: Number,
        chat: Chat,
        message: Message,
    ) -> Result<SentText, SandboxError> {
        let phone = self.network.find_phone(phone)?;
        match chat {
            Chat::User(to) => phone.send(to, message).await,
            Chat::Group(group) => phone.send_to_group(group, message, &[]).await,
            Chat::Status => phone.post_status(message).await,
        }
    }

    /// A phone posts a text as its status.
    pub async fn post_status(&self, phone: Number, text: &str) -> Result<SentText, SandboxError> {
        check_text(text)?;
        let post = message::ExtendedTextMessage {
            text: Some(text.to_owned()),
            background_argb: Some(STATUS_COLOUR),
            ..Default::default()
        };
        let message = Message {
            extended_text_message: MessageField::some(post),
            ..Default::default()
        };
        self.send_built(phone, Chat::Status, message).await
    }

    /// A phone reacts to a message in its inbox; with no emoji it takes its reaction back.
    pub async fn react(
        &self,
        phone: Number,
        chat: Chat,
        message_id: &str,
        emoji: &str,
    ) -> Result<SentText, SandboxError> {
        let (_, key) = self.target(phone, chat, message_id)?;
        let reaction = message::ReactionMessage {
            key: MessageField::some(key),
            text: Some(emoji.to_owned()),
            sender_timestamp_ms: Some(now_millis()),
            ..Default::default()
        };
        let message = Message {
            reaction_message: MessageField::some(reaction),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// A phone gives a message in its inbox another text. Whether it may is for others to judge.
    pub async fn edit(
        &self,
        phone: Number,
        chat: Chat,
        message_id: &str,
        text: &str,
    ) -> Result<SentText, SandboxError> {
        let (_, key) = self.target(phone, chat, message_id)?;
        let edited = Message {
            conversation: Some(text.to_owned()),
            ..Default::default()
        };
        let protocol = message::ProtocolMessage {
            key: MessageField::some(key),
            r#type: Some(message::protocol_message::Type::MESSAGE_EDIT),
            edited_message: MessageField::some(edited),
            timestamp_ms: Some(now_millis()),
            ..Default::default()
        };
        let message = Message {
            protocol_message: MessageField::some(protocol),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// A phone deletes a message in its inbox for everybody. Whether it may is for others to judge.
    pub async fn revoke(
        &self,
        phone: Number,
        chat: Chat,
        message_id: &str,
    ) -> Result<SentText, SandboxError> {
        let (_, key) = self.target(phone, chat, message_id)?;
        let protocol = message::ProtocolMessage {
            key: MessageField::some(key),
            r#type: Some(message::protocol_message::Type::REVOKE),
            ..Default::default()
        };
        let message = Message {
            protocol_message: MessageField::some(protocol),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// A phone asks a poll.
    pub async fn create_poll(
        &self,
        phone: Number,
        chat: Chat,
        poll: PhonePoll,
    ) -> Result<SentText, SandboxError> {
        let plain = Manner::default();
        self.create_poll_as(phone, chat, poll, plain).await
    }

    /// The same, marked as to be sent in this manner.
    pub async fn create_poll_as(
        &self,
        phone: Number,
        chat: Chat,
        poll: PhonePoll,
        manner: Manner,
    ) -> Result<SentText, SandboxError> {
        let options = poll.options.into_iter();
        let creation = message::PollCreationMessage {
            name: Some(poll.question),
            options: options
                .map(|name| message::poll_creation_message::Option {
                    option_name: Some(name),
                    ..Default::default()
                })
                .collect(),
            selectable_options_count: Some(poll.selectable),
            ..Default::default()
        };
        let message = Message {
            poll_creation_message_v3: MessageField::some(creation),
            message_context_info: MessageField::some(MessageContextInfo {
                message_secret: Some(random_bytes::<32>().to_vec()),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.send_built(phone, chat, manner.mark(message)?).await
    }

    /// A phone votes in a poll in its inbox; no option takes its vote back.
    pub async fn vote(
        &self,
        phone: Number,
        chat: Chat,
        poll_id: &str,
        options: &[String],
    ) -> Result<SentText, SandboxError> {
        let (poll, key) = self.target(phone, chat, poll_id)?;
        let secret = secret(&poll)?;
        let namespace = self.namespace(phone, chat)?;
        let creator = self.called(poll.sender.number, namespace)?.to_string();
        let voter = self.called(phone, namespace)?.to_string();
        let hashes: Vec<Vec<u8>> = options
            .iter()
            .map(|name| compute_option_hash(name).to_vec())
            .collect();
        let (payload, iv) =
            encrypt_poll_vote_with_secret(&hashes, &secret, poll_id, &creator, &voter)
                .map_err(SandboxError::crypto)?;
        let update = message::PollUpdateMessage {
            poll_creation_message_key: MessageField::some(key),
            vote: MessageField::some(message::PollEncValue {
                enc_payload: Some(payload),
                enc_iv: Some(iv.to_vec()),
            }),
            sender_timestamp_ms: Some(now_millis()),
            ..Default::default()
        };
        let message = Message {
            poll_update_message: MessageField::some(update),
            ..Default::default()
        };
        self.send_built(phone, chat, message).await
    }

    /// The options that a vote in a phone's inbox chooses, as the phone shows them.
    pub fn read_vote(&self, phone: Number, vote_id: &str) -> Result<Vec<String>, SandboxError> {
        let phone = self.network.find_phone(phone)?;
        let vote = in_inbox(&phone, vote_id)?;
        let message = decoded(&vote);
        let no_vote = || SandboxError::invalid("vote_id", "is no vote");
        let update = message
            .poll_update_message
            .as_option()
            .ok_or_else(no_vote)?;
        let key = update.poll_creation_message_key.as_option();
        let poll_id = key.and_then(|key| key.id.as_deref()).ok_or_else(no_vote)?;
        let sealed = update.vote.as_option().ok_or_else(no_vote)?;
        let ciphertext = PollVoteCiphertext {
            enc_payload: sealed.enc_payload.as_deref().unwrap_or_default(),
            enc_iv: sealed.enc_iv.as_deref().unwrap_or_default(),
        };
        let poll = in_inbox(&phone, poll_id)?;
        let secret = secret(&poll)?;
        let mut error = no_vote();
        for namespace in [Namespace::Lid, Namespace::Number] {
            let creator = self.called(poll.sender.number, namespace)?.to_string();
            let voter = self.called(vote.sender.number, namespace)?.to_string();
            match decrypt_poll_vote_with_secret(ciphertext, &secret, poll_id, &creator, &voter) {
                Ok(hashes) => return Ok(chosen(&poll, &hashes)),
                Err(failed) => error = SandboxError::crypto(failed),
            }
        }
        Err(error)
    }

    /// A phone stars a message in its inbox, or no longer.
    pub async fn star_message(
        &self,
        phone: Number,
        chat: Chat,
        message_id: &str,
        starred: bool,
    ) -> Result<(), SandboxError> {
        let (_, key) = self.target(phone, chat, message_id)?;
        self.network.find_phone(phone)?.star(&key, starred).await
    }

    /// A phone deletes a message in its inbox for its own account alone. It stays in the inbox.
    pub async fn delete_message_for_me(
        &self,
        phone: Number,
        chat: Chat,
        message_id: &str,
        delete_media: bool,
    ) -> Result<(), SandboxError> {
        let (found, key) = self.target(phone, chat, message_id)?;
        let phone = self.network.find_phone(phone)?;
        phone.delete_for_me(&key, delete_media, found.time).await
    }

    /// The messages that a phone shows as starred or hides because they are deleted for its account.
    pub async fn message_marks(&self, phone: Number) -> Result<Vec<MessageMark>, SandboxError> {
        self.network.find_phone(phone)?.marks().await
    }

    /// A message in a phone's inbox, and the key that names it to others in the chat.
    pub(super) fn target(
        &self,
        phone: Number,
        chat: Chat,
        message_id: &str,
    ) -> Result<(InboxMessage, MessageKey), SandboxError> {
        let found = in_inbox(&*self.network.find_phone(phone)?, message_id)?;
        let namespace = self.namespace(phone, chat)?;
        let (remote, participant) = match chat {
            Chat::User(to) => (self.called(to, namespace)?, None),
            Chat::Group(group) => (
                group.jid(),
                Some(self.called(found.sender.number, namespace)?),
            ),
            Chat::Status => (
                Audience::Status.jid(),
                Some(self.called(found.sender.number, namespace)?),
            ),
        };
        let key = MessageKey {
            remote_jid: Some(remote.to_string()),
            from_me: Some(found.sender.number == phone),
            id: Some(message_id.to_owned()),
            participant: participant.map(|jid| jid.to_string()),
        };
        Ok((found, key))
    }

    /// Which of their names people have in a chat.
    pub(super) fn namespace(&self, phone: Number, chat: Chat) -> Result<Namespace, SandboxError> {
        let state = self.network.lock();
        match chat {
            Chat::User(_) | Chat::Status => {
                let account = state.accounts.get(&phone);
                account
                    .map(|account| account.namespace())
                    .ok_or(SandboxError::NoSuchPhone(phone))
            }
            Chat::Group(group) => {
                let known = state.groups.get(&group);
                known
                    .map(|group| group.namespace())
                    .ok_or(SandboxError::NoSuchGroup(group))
            }
        }
    }

    pub(super) fn called(&self, number: Number, namespace: Namespace) -> Result<Jid, SandboxError> {
        let state = self.network.lock();
        let account = state.accounts.get(&number);
        let account = account.ok_or_else(|| SandboxError::NoSuchUser(number.to_string()))?;
        Ok(account.jid(namespace))
    }
}

fn in_inbox(phone: &Phone, message_id: &str) -> Result<InboxMessage, SandboxError> {
    phone.inbox.find(message_id).ok_or_else(|| {
        SandboxError::invalid("message_id", "no message in the phone's inbox has this id")
    })
}

fn decoded(message: &InboxMessage) -> Message {
    Message::decode_from_slice(&message.message).unwrap_or_default()
}

fn secret(poll: &InboxMessage) -> Result<Vec<u8>, SandboxError> {
    let message = decoded(poll);
    let beside = message.message_context_info.as_option();
    let secret = beside.and_then(|beside| beside.message_secret.clone());
    secret.ok_or_else(|| SandboxError::invalid("poll_id", "the message has no secret"))
}

fn chosen(poll: &InboxMessage, hashes: &[Vec<u8>]) -> Vec<String> {
    let message = decoded(poll);
    let versions = [
        &message.poll_creation_message,
        &message.poll_creation_message_v3,
    ];
    let creation = versions.into_iter().find_map(|poll| poll.as_option());
    let options = creation.into_iter().flat_map(|poll| &poll.options);
    options
        .filter_map(|option| option.option_name.clone())
        .filter(|name| hashes.iter().any(|hash| *hash == compute_option_hash(name)))
        .collect()
}

fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| now.as_millis().try_into().ok())
        .unwrap_or_default()
}
