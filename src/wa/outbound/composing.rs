//! From what a caller wants to what WhatsApp is sent: who is meant, what stands around it, and what it does to
//! another message.
//!
//! Asks WhatsApp who a recipient is; sends and stores nothing.

use rand::Rng as _;
use whatsapp_rust::{
    Client, Jid, proto_helpers::MessageExt as _, wacore_binary::JidExt as _,
    waproto::whatsapp as wa,
};

use super::{Filed, Outbox, Outgoing, Say};
use crate::{
    domain::{ids::MediaId, limits::CAPTION_CHARS},
    proto::v1::{self, MessageStatus, message_content::Content},
    storage::MessageRow,
    wa::{
        addresses::Address,
        app_state::media_of,
        convert::{
            context::{Around, Quote},
            inbound,
            outbound::{
                self, actions,
                business::{self, NoChoice},
            },
            rows,
            secrets::Parent,
        },
        error::WaError,
        groups::{GroupFault, GroupRefusal},
        hook::account,
    },
};

/// A message on its way to the store.
pub(super) struct Composed {
    pub(super) to: Address,
    pub(super) content: Content,
    pub(super) around: Around,
    /// WhatsApp's form of all of it.
    pub(super) message: wa::Message,
    /// The JID that the account writes with.
    pub(super) sender: String,
    /// The media that it has.
    pub(super) file: Option<MediaId>,
    /// The media of the message that it passes on.
    pub(super) shared: Option<MediaId>,
}

/// A stored message that another one is about.
struct About<'r> {
    row: &'r MessageRow,
    known: v1::Message,
}

impl<'r> About<'r> {
    fn of(row: &'r MessageRow) -> Result<Self, WaError> {
        let known = rows::message(row)?;
        Ok(Self { row, known })
    }

    fn content(&self) -> Option<&Content> {
        self.known.content.as_ref()?.content.as_ref()
    }

    /// The message, if it stands for itself and is still there.
    fn alive(self) -> Result<Self, WaError> {
        match self.content() {
            Some(Content::Deleted(_)) => Err(unchangeable("it is deleted")),
            _ if !self.row.listed => Err(unchangeable("it only does something to another message")),
            _ if self.row.status == MessageStatus::Error as i32 => {
                Err(unchangeable("WhatsApp did not take it"))
            }
            _ if self.row.status == MessageStatus::Pending as i32 => {
                Err(unchangeable("WhatsApp has not confirmed it yet"))
            }
            _ => Ok(self),
        }
    }

    fn raw(&self) -> Result<wa::Message, WaError> {
        outbound::decode(&self.row.raw).map_err(|error| {
            tracing::warn!(%error, "a stored message can't be used again");
            unchangeable("it can't be read")
        })
    }
}

fn unchangeable(why: &'static str) -> WaError {
    WaError::Unchangeable(why)
}

fn refused() -> WaError {
    WaError::MessageRefused("this kind can't be sent".to_owned())
}

fn not_an_option(why: &'static str) -> WaError {
    WaError::NoChoice {
        field: "options",
        why,
    }
}

impl From<NoChoice> for WaError {
    fn from(NoChoice { field, why }: NoChoice) -> Self {
        Self::NoChoice { field, why }
    }
}

/// Something to seal answers with.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    secret
}

impl Outbox {
    /// Finds out who is meant and what has to stand around the message. Nothing is sent yet.
    pub(super) async fn compose(
        &self,
        client: &Client,
        outgoing: Outgoing,
        file: Option<Filed>,
    ) -> Result<Composed, WaError> {
        let to = match (&outgoing.recipient, &outgoing.about) {
            (Some(recipient), _) => self.addresses.resolve(client, recipient).await?,
            (None, Some(about)) => chat_of(about)?,
            (None, None) => return Err(unchangeable("it names no chat")),
        };
        let mut around = Around {
            quote: self.quote(&outgoing.quoted, &to).await?,
            forwarded: outgoing.forwarded,
            ..Default::default()
        };
        let account = account(client);
        let mut group = None;
        let sender = if to.to.is_group() {
            let known = self.groups.to_write(&to.to.to_string()).await?;
            let mentions = &outgoing.mentions;
            around.mentions = self.groups.to_mention(client, &known, mentions).await?;
            around.name_all = mentions.everyone && !mentions.ghost;
            around.ephemeral_seconds = known.ephemeral_seconds;
            let own = self.groups.own_name(&known);
            group = Some(known);
            own
        } else {
            let own = if to.to.is_lid() {
                account.lid.or(account.number)
            } else {
                account.number.or(account.lid)
            };
            own.map(|jid| jid.to_string()).unwrap_or_default()
        };
        if let Some(seconds) = outgoing.ephemeral_seconds {
            around.ephemeral_seconds = seconds;
        }
        let about = outgoing.about.as_ref();
        let media = file.as_ref().map(|file| file.id);
        let passed_on = matches!(outgoing.say, Say::Forward);
        let shared = about
            .filter(|_| passed_on)
            .and_then(|row| media_of(&rows::message(row).ok()?));
        let (content, mut message) = match (outgoing.say, file) {
            (Say::Content(content), Some(file)) => {
                let content = around.content(*content).ok_or(WaError::TextTooLong)?;
                let message = outbound::media::convert(&content, file.left).ok_or_else(refused)?;
                let message = outbound::surround(message, &around, &to.to);
                match outgoing.view_once {
                    true => (content, outbound::media::once(message)),
                    false => (content, message),
                }
            }
            (Say::Content(content), None) => self.say(client, *content, &around, &to).await?,
            (Say::RequestPayment(demand), _) => {
                self.demand(client, *demand, &around, &to, group.as_ref())
                    .await?
            }
            (Say::AnswerPayment(reply), _) => {
                let row = about.ok_or_else(|| unchangeable("it is not stored"))?;
                let request = About::of(row)?.alive()?;
                self.reply(client, reply, request.row, &to.to).await?
            }
            (say, _) => {
                let row = about.ok_or_else(|| unchangeable("it is not stored"))?;
                let about = About::of(row)?.alive()?;
                do_to(client, say, about, &to.to, &around, group.as_ref())?
            }
        };
        if !outgoing.album.is_empty() {
            let head = self.album(&outgoing.album, &to).await?;
            outbound::media::into_album(&mut message, head);
        }
        Ok(Composed {
            to,
            content,
            around,
            message,
            sender,
            file: media,
            shared,
        })
    }

    /// The head of an album that this account began in the chat.
    async fn album(&self, message_id: &str, to: &Address) -> Result<wa::MessageKey, WaError> {
        const FIELD: &str = "album_message_id";
        let row = self.stored(message_id, to).await?;
        let row = row.ok_or(WaError::NoSuchMessage(FIELD))?;
        let about = About::of(&row)?;
        match about.content() {
            Some(Content::Album(_)) if row.from_me => Ok(actions::key(&row, &to.to)),
            _ => Err(WaError::NoChoice {
                field: FIELD,
                why: "must be the head of an album of the own account",
            }),
        }
    }

    async fn say(
        &self,
        client: &Client,
        content: Content,
        around: &Around,
        to: &Address,
    ) -> Result<(Content, wa::Message), WaError> {
        match content {
            Content::Reaction(mut reaction) => {
                let field = "reaction.message_id";
                let row = self.stored(&reaction.message_id, to).await?;
                let row = row.ok_or(WaError::NoSuchMessage(field))?;
                let about = About::of(&row)?.alive()?;
                let message = actions::reaction(&row, &to.to, &reaction.emoji);
                reaction.message_sender = about.known.sender;
                Ok((Content::Reaction(reaction), message))
            }
            Content::EventResponse(response) => {
                let field = "event_response.event_message_id";
                let row = self.stored(&response.event_message_id, to).await?;
                let row = row.ok_or(WaError::NoSuchMessage(field))?;
                let about = About::of(&row)?.alive()?;
                let Some(Content::EventInvitation(_)) = about.content() else {
                    return Err(unchangeable("it is no invitation to an event"));
                };
                let parent = Parent::of(&row);
                let sealed =
                    parent.and_then(|parent| parent.seal_response(&account(client), &response));
                let message = sealed.ok_or_else(|| unchangeable("its secret is not known"))?;
                Ok((Content::EventResponse(response), message))
            }
            Content::ListReply(reply) => {
                answer(around, to, |asked| business::list_reply(asked, reply))
            }
            Content::ButtonReply(reply) => {
                answer(around, to, |asked| business::button_reply(asked, reply))
            }
            Content::InteractiveReply(reply) => answer(around, to, |asked| {
                business::interactive_reply(asked, reply)
            }),
            content => {
                let content = around.content(content).ok_or(WaError::TextTooLong)?;
                let message = outbound::convert(&content, around, &to.to, secret());
                Ok((content, message.ok_or_else(refused)?))
            }
        }
    }

    /// The message with this id in a chat, by either of its names.
    async fn stored(&self, message_id: &str, to: &Address) -> Result<Option<MessageRow>, WaError> {
        let number = self.row().number;
        let names = [Some(&to.to), to.other.as_ref()];
        for chat in names.into_iter().flatten().map(ToString::to_string) {
            let here = self.storage.lookup_message(number, message_id, Some(&chat));
            if let Some(row) = here.await? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The stored message with this id: that of the same chat, if several chats hold it.
    async fn quote(&self, message_id: &str, to: &Address) -> Result<Option<Quote>, WaError> {
        if message_id.is_empty() {
            return Ok(None);
        }
        if let Some(row) = self.stored(message_id, to).await? {
            return readable(row).map(Some);
        }
        let number = self.row().number;
        let elsewhere = self.storage.lookup_message(number, message_id, None);
        let row = elsewhere.await?.ok_or(WaError::NothingToQuote)?;
        readable(row).map(Some)
    }
}

/// Answers the message that is quoted.
fn answer(
    around: &Around,
    to: &Address,
    choose: impl FnOnce(&wa::Message) -> Result<(Content, wa::Message), NoChoice>,
) -> Result<(Content, wa::Message), WaError> {
    let quote = around.quote.as_ref().ok_or(WaError::NothingToQuote)?;
    let (content, message) = choose(quote.message())?;
    Ok((content, outbound::surround(message, around, &to.to)))
}

/// Does something to a stored message.
fn do_to(
    client: &Client,
    say: Say,
    about: About<'_>,
    chat: &Jid,
    around: &Around,
    group: Option<&v1::Group>,
) -> Result<(Content, wa::Message), WaError> {
    let row = about.row;
    let message_id = row.message_id.clone();
    Ok(match say {
        Say::Content(_) | Say::RequestPayment(_) | Say::AnswerPayment(_) => {
            return Err(unchangeable("it is not about another message"));
        }
        Say::Edit(_) | Say::Forward if about.known.view_once => {
            return Err(unchangeable("it can be opened only once"));
        }
        Say::Edit(text) => {
            if !row.from_me {
                return Err(unchangeable("somebody else wrote it"));
            }
            if !is_text(about.content()) && text.chars().count() > CAPTION_CHARS {
                return Err(WaError::CaptionTooLong);
            }
            if is_text(about.content()) && text.trim().is_empty() {
                return Err(WaError::TextEmpty);
            }
            let edited = actions::reworded(&about.raw()?, &text);
            let edited = edited.ok_or_else(|| unchangeable("it has neither text nor caption"))?;
            let content = inbound::content(&edited, &Default::default());
            let content = content.map(|content| {
                Box::new(v1::MessageContent {
                    content: Some(content),
                })
            });
            let edit = v1::EditedContent {
                message_id,
                content,
            };
            let message = actions::edit(row, chat, edited);
            (Content::Edited(Box::new(edit)), message)
        }
        Say::Revoke => {
            let admin = |group: &v1::Group| {
                let role = group.own_role();
                matches!(role, v1::GroupRole::Admin | v1::GroupRole::Owner)
            };
            if !row.from_me {
                match group {
                    None => return Err(unchangeable("somebody else wrote it")),
                    Some(group) if !admin(group) => {
                        return Err(WaError::Group(GroupRefusal {
                            fault: GroupFault::NotAdmin,
                            field: "message_id".to_owned(),
                            code: 0,
                        }));
                    }
                    Some(_) => {}
                }
            }
            let deletion = v1::DeletedContent {
                message_id,
                actor: Some(account(client).party()),
                delete_time: Some(crate::events::timestamp(std::time::SystemTime::now())),
                by_admin: group.is_some_and(admin),
            };
            (Content::Deleted(deletion), actions::revoke(row, chat))
        }
        Say::Pin(duration_seconds) => {
            let pin = v1::PinContent {
                message_id,
                pinned: duration_seconds > 0,
                duration_seconds,
            };
            (Content::Pin(pin), actions::pin(row, chat, duration_seconds))
        }
        Say::Vote(names) => {
            let Some(Content::Poll(poll)) = about.content() else {
                return Err(unchangeable("it is no poll"));
            };
            if poll.selectable_count > 0 && names.len() > poll.selectable_count as usize {
                return Err(not_an_option("are more than the poll allows"));
            }
            let unknown = || unchangeable("its secret is not known");
            let parent = Parent::of(row).ok_or_else(unknown)?;
            if parent.lacks(&names).is_some() {
                return Err(not_an_option("must be options of the poll"));
            }
            let message = parent.seal_vote(&account(client), &names);
            let vote = v1::PollVoteContent {
                poll_message_id: message_id,
                options: names
                    .iter()
                    .map(|name| inbound::poll_option(name))
                    .collect(),
                previous_options: Vec::new(),
                state: v1::PollVoteState::Read.into(),
            };
            (Content::PollVote(vote), message.ok_or_else(unknown)?)
        }
        Say::Forward => {
            let content = about.content().cloned();
            let content = content.ok_or_else(|| unchangeable("it is of a newer kind"))?;
            if matches!(
                content,
                Content::Poll(_)
                    | Content::EventInvitation(_)
                    | Content::Album(_)
                    | Content::PaymentRequest(_)
                    | Content::PaymentSent(_)
                    | Content::PaymentInvite(_)
                    | Content::Unsupported(_)
            ) {
                return Err(unchangeable("this kind can't be passed on"));
            }
            let mut message = actions::forward(&about.raw()?);
            message.set_ephemeral_expiration(around.ephemeral_seconds);
            (content, message)
        }
    })
}

fn is_text(content: Option<&Content>) -> bool {
    matches!(content, Some(Content::Text(_)))
}

/// The chat of a stored message, as WhatsApp called it.
fn chat_of(row: &MessageRow) -> Result<Address, WaError> {
    let to: Jid = row
        .chat
        .parse()
        .map_err(|_| unchangeable("its chat can't be written to"))?;
    let known = rows::message(row)?;
    let party = known.chat.and_then(|chat| chat.party).unwrap_or_default();
    let other = if to.is_lid() { &party.jid } else { &party.lid };
    Ok(Address {
        other: other.parse().ok().filter(|_| !to.is_group()),
        to,
    })
}

/// A stored message to be answered.
fn readable(row: MessageRow) -> Result<Quote, WaError> {
    if row.raw.is_empty() {
        return Err(WaError::NothingToQuote);
    }
    Quote::of(row).map_err(|error| {
        tracing::warn!(%error, "a stored message can't be answered");
        WaError::NothingToQuote
    })
}
