//! MessageService: checks what a caller wants to say or do, hands it to the instance, shows what is stored.

pub(super) mod content;
pub(super) mod finding;
pub(super) mod options;
mod outbox;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tonic::{Request, Response, Status, codec::CompressionEncoding};

pub(super) use self::content::most;
use self::finding::{Pages, QUOTED_ID_BYTES};
use super::{
    access,
    deadline::Deadline,
    groups,
    requests::{Requests, mark_of},
    status::{self, Reason, refuse},
};
use crate::{
    auth::Caller,
    domain::{limits, permission::Permission, recipient::Recipient},
    proto::v1::{
        self,
        message_service_server::{MessageService, MessageServiceServer},
    },
    storage::{InstanceRow, MessageRow, RequestMark, Storage},
    wa::{Mentions, Outgoing, Patience, Progress, Registry, Say, Timing, message_resource},
};

/// How long a message may be pinned, in seconds; 0 unpins it.
const PIN_SECONDS: [u32; 4] = [0, 86_400, 604_800, 2_592_000];

/// When messages may disappear, in seconds; 0 is never.
const EPHEMERAL_SECONDS: [u32; 4] = [0, 86_400, 604_800, 7_776_000];

/// Most messages that are marked at once.
const MARKED: usize = 1_000;

/// An answer that waits goes out this long before the deadline of its call.
const AHEAD: Duration = Duration::from_millis(500);

/// The service.
pub struct Messages {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
    requests: Requests,
}

/// What every call begins with.
pub(super) struct Called<T> {
    pub(super) caller: Caller,
    pub(super) row: InstanceRow,
    pub(super) asked: T,
    /// How long it may wait for what becomes of a message.
    pub(super) patience: Duration,
}

impl<T> Called<T> {
    /// Who calls, and for which instance.
    pub(super) async fn of(
        storage: &dyn Storage,
        request: Request<T>,
        permission: Permission,
        instance: impl Fn(&T) -> &str,
    ) -> Result<Self, Status> {
        let deadline = request.extensions().get::<Deadline>();
        let patience = patience(deadline.map(|Deadline(at)| at.duration_since(Instant::now())));
        let (caller, row, asked) = access::called(storage, request, permission, instance).await?;
        Ok(Self {
            caller,
            row,
            asked,
            patience,
        })
    }
}

impl Messages {
    /// The service, on this store and these sessions.
    pub fn server(
        storage: Arc<dyn Storage>,
        registry: Arc<Registry>,
    ) -> MessageServiceServer<Self> {
        MessageServiceServer::new(Self {
            requests: Requests::new(storage.clone()),
            storage,
            registry,
        })
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
    }

    /// Who calls, and for which instance.
    async fn called<T>(
        &self,
        request: Request<T>,
        permission: Permission,
        instance: impl Fn(&T) -> &str,
    ) -> Result<Called<T>, Status> {
        Called::of(self.storage.as_ref(), request, permission, instance).await
    }

    async fn send(
        &self,
        instance: &InstanceRow,
        outgoing: Outgoing,
    ) -> Result<Option<v1::Message>, Status> {
        let sent = self.registry.send(instance.number, outgoing).await?;
        Ok(Some(message_resource(&sent)?))
    }

    /// Does something to a stored message.
    async fn act(
        &self,
        instance: &InstanceRow,
        about: MessageRow,
        say: Say,
        patience: Duration,
        request: Option<RequestMark>,
    ) -> Result<Option<v1::Message>, Status> {
        let outgoing = Outgoing {
            about: Some(about),
            request,
            ..saying(say, patience)
        };
        self.send(instance, outgoing).await
    }

    async fn find(
        &self,
        instance: &InstanceRow,
        message_id: &str,
        chat: &str,
    ) -> Result<MessageRow, Status> {
        finding::one(
            self.storage.as_ref(),
            instance.number,
            "message_id",
            message_id,
            chat,
        )
        .await
    }

    /// Messages that others wrote, all of one chat.
    async fn received(
        &self,
        instance: &InstanceRow,
        message_ids: &[String],
        chat: &str,
    ) -> Result<Vec<MessageRow>, Status> {
        if message_ids.is_empty() || message_ids.len() > MARKED {
            return Err(status::field_invalid(
                "message_ids",
                format!("must name 1 to {MARKED} messages"),
            ));
        }
        let mut rows: Vec<MessageRow> = Vec::with_capacity(message_ids.len());
        for (number, id) in message_ids.iter().enumerate() {
            let field = format!("message_ids[{number}]");
            let storage = self.storage.as_ref();
            let row = finding::one(storage, instance.number, &field, id, chat).await?;
            if row.from_me {
                return Err(status::field_invalid(
                    &field,
                    "must be a message that somebody else wrote",
                ));
            }
            if rows.first().is_some_and(|first| first.chat != row.chat) {
                return Err(status::field_invalid(
                    &field,
                    "must be of the same chat as the others",
                ));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

/// Nothing around it, to nobody yet.
pub(super) fn saying(say: Say, patience: Duration) -> Outgoing {
    Outgoing {
        recipient: None,
        say,
        about: None,
        quoted: String::new(),
        album: String::new(),
        fetch_preview: false,
        mentions: Mentions::default(),
        ephemeral_seconds: None,
        forwarded: false,
        view_once: false,
        request: None,
        item: None,
        patience: Patience {
            until: Progress::Sent,
            time: patience,
        },
        timing: Timing::default(),
    }
}

/// How long a call that has so much time left waits.
fn patience(left: Option<Duration>) -> Duration {
    let Some(left) = left else {
        return limits::SEND_CONFIRMATION;
    };
    // Of very little time, most.
    let ahead = AHEAD.min(left / 4);
    (left - ahead).min(limits::SEND_CONFIRMATION_MAX)
}

/// How far a message has to come.
fn progress(wait_for: v1::WaitFor) -> Progress {
    match wait_for {
        v1::WaitFor::Unspecified | v1::WaitFor::Sent => Progress::Sent,
        v1::WaitFor::Accepted => Progress::Accepted,
        v1::WaitFor::Delivered => Progress::Delivered,
    }
}

pub(super) fn recipient(text: &str) -> Result<Recipient, Status> {
    Recipient::parse(text).map_err(|why| {
        refuse(Reason::RecipientInvalid, format!("recipient {why}"))
            .field("recipient", why)
            .into()
    })
}

#[tonic::async_trait]
impl MessageService for Messages {
    async fn send_message(
        &self,
        request: Request<v1::SendMessageRequest>,
    ) -> Result<Response<v1::SendMessageResponse>, Status> {
        let mut called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let recipient = recipient(&called.asked.recipient)?;
        let wait_for = v1::WaitFor::try_from(std::mem::take(&mut called.asked.wait_for));
        let wait_for = wait_for.map_err(|_| {
            status::field_invalid("wait_for", "must be ACCEPTED, SENT or DELIVERED")
        })?;
        let request = mark_of!(called.caller, called.row, called.asked, "SendMessage")?;
        let timing = options::timing(&called.asked, progress(wait_for), SystemTime::now())?;
        let asked = called.asked;
        let mentions = asked.mentions.unwrap_or_default();
        options::quoted(&asked.quoted_message_id)?;
        options::ephemeral(asked.ephemeral_seconds)?;
        let content = content::checked(asked.content, &asked.quoted_message_id)?;
        content::in_album(&content, &asked.album_message_id)?;
        content::once(&content, asked.view_once, &asked.album_message_id)?;
        let fetch_preview = content::without_preview(&content, asked.fetch_link_preview)?;
        let outgoing = Outgoing {
            recipient: Some(recipient),
            quoted: asked.quoted_message_id,
            album: asked.album_message_id,
            fetch_preview,
            mentions: Mentions {
                everyone: mentions.everyone,
                ghost: mentions.ghost,
                mentioned: groups::people("mentions.mentioned", mentions.mentioned)?,
            },
            ephemeral_seconds: asked.ephemeral_seconds,
            forwarded: asked.forwarded,
            view_once: asked.view_once,
            request,
            timing,
            patience: Patience {
                until: progress(wait_for),
                time: called.patience,
            },
            ..saying(Say::Content(Box::new(content)), called.patience)
        };
        let message = self.send(&called.row, outgoing).await?;
        Ok(Response::new(v1::SendMessageResponse { message }))
    }

    async fn edit_message(
        &self,
        request: Request<v1::EditMessageRequest>,
    ) -> Result<Response<v1::EditMessageResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "EditMessage")?;
        let (row, asked, patience) = (called.row, called.asked, called.patience);
        content::most("text", &asked.text, limits::TEXT_CHARS)?;
        let about = self.find(&row, &asked.message_id, &asked.chat).await?;
        let say = Say::Edit(asked.text);
        let message = self.act(&row, about, say, patience, mark).await?;
        Ok(Response::new(v1::EditMessageResponse { message }))
    }

    async fn revoke_message(
        &self,
        request: Request<v1::RevokeMessageRequest>,
    ) -> Result<Response<v1::RevokeMessageResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "RevokeMessage")?;
        let (row, asked, patience) = (called.row, called.asked, called.patience);
        let about = self.find(&row, &asked.message_id, &asked.chat).await?;
        let message = self.act(&row, about, Say::Revoke, patience, mark).await?;
        Ok(Response::new(v1::RevokeMessageResponse { message }))
    }

    async fn forward_message(
        &self,
        request: Request<v1::ForwardMessageRequest>,
    ) -> Result<Response<v1::ForwardMessageResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "ForwardMessage")?;
        let (row, asked, patience) = (called.row, called.asked, called.patience);
        let recipient = recipient(&asked.recipient)?;
        let about = self.find(&row, &asked.message_id, &asked.chat).await?;
        let outgoing = Outgoing {
            recipient: Some(recipient),
            about: Some(about),
            forwarded: true,
            request: mark,
            ..saying(Say::Forward, patience)
        };
        let message = self.send(&row, outgoing).await?;
        Ok(Response::new(v1::ForwardMessageResponse { message }))
    }

    async fn vote_poll(
        &self,
        request: Request<v1::VotePollRequest>,
    ) -> Result<Response<v1::VotePollResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "VotePoll")?;
        let (row, asked, patience) = (called.row, called.asked, called.patience);
        content::choice(&asked.options)?;
        let about = self.find(&row, &asked.message_id, &asked.chat).await?;
        let say = Say::Vote(asked.options);
        let message = self.act(&row, about, say, patience, mark).await?;
        Ok(Response::new(v1::VotePollResponse { message }))
    }

    async fn get_poll_results(
        &self,
        request: Request<v1::GetPollResultsRequest>,
    ) -> Result<Response<v1::GetPollResultsResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let (row, asked) = (called.row, called.asked);
        let poll = self.find(&row, &asked.message_id, &asked.chat).await?;
        let results = self.registry.poll_results(&poll).await?;
        let results = results
            .ok_or_else(|| status::field_invalid("message_id", "must be the id of a poll"))?;
        Ok(Response::new(v1::GetPollResultsResponse {
            results: Some(results),
        }))
    }

    async fn pin_message(
        &self,
        request: Request<v1::PinMessageRequest>,
    ) -> Result<Response<v1::PinMessageResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "PinMessage")?;
        let (row, asked, patience) = (called.row, called.asked, called.patience);
        if !PIN_SECONDS.contains(&asked.duration_seconds) {
            return Err(status::field_invalid(
                "duration_seconds",
                "must be 0, 86400, 604800 or 2592000",
            ));
        }
        let about = self.find(&row, &asked.message_id, &asked.chat).await?;
        let say = Say::Pin(asked.duration_seconds);
        let message = self.act(&row, about, say, patience, mark).await?;
        Ok(Response::new(v1::PinMessageResponse { message }))
    }

    async fn star_message(
        &self,
        request: Request<v1::StarMessageRequest>,
    ) -> Result<Response<v1::StarMessageResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "StarMessage")?;
        let (row, asked) = (called.row, called.asked);
        let about = self.find(&row, &asked.message_id, &asked.chat).await;
        let about = finding::unless_repeated(about, &mark)?;
        let state = self.registry.app_state(row.number)?;
        Ok(Response::new(state.star(about, asked.starred, mark).await?))
    }

    async fn delete_message_for_me(
        &self,
        request: Request<v1::DeleteMessageForMeRequest>,
    ) -> Result<Response<v1::DeleteMessageForMeResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(
            called.caller,
            called.row,
            called.asked,
            "DeleteMessageForMe"
        )?;
        let (row, asked) = (called.row, called.asked);
        let about = self.find(&row, &asked.message_id, &asked.chat).await;
        let about = finding::unless_repeated(about, &mark)?;
        let media = asked.delete_media.unwrap_or(true);
        let state = self.registry.app_state(row.number)?;
        Ok(Response::new(
            state.delete_for_me(about, media, mark).await?,
        ))
    }

    async fn mark_messages_read(
        &self,
        request: Request<v1::MarkMessagesReadRequest>,
    ) -> Result<Response<v1::MarkMessagesReadResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "MarkMessagesRead")?;
        let (row, asked) = (called.row, called.asked);
        let rows = self.received(&row, &asked.message_ids, &asked.chat).await?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            registry.mark(row.number, rows, false).await?;
            Ok(v1::MarkMessagesReadResponse {})
        });
        Ok(Response::new(done.await?))
    }

    async fn mark_messages_played(
        &self,
        request: Request<v1::MarkMessagesPlayedRequest>,
    ) -> Result<Response<v1::MarkMessagesPlayedResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(
            called.caller,
            called.row,
            called.asked,
            "MarkMessagesPlayed"
        )?;
        let (row, asked) = (called.row, called.asked);
        let rows = self.received(&row, &asked.message_ids, &asked.chat).await?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            registry.mark(row.number, rows, true).await?;
            Ok(v1::MarkMessagesPlayedResponse {})
        });
        Ok(Response::new(done.await?))
    }

    async fn get_message(
        &self,
        request: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let (row, asked) = (called.row, called.asked);
        let found = match self.find(&row, &asked.message_id, &asked.chat).await {
            Ok(found) => found,
            // It may still wait to be sent.
            Err(missing) => {
                let waits = self.registry.sent_as(row.number, &asked.message_id).await?;
                let waits = waits.filter(|one| finding::is_in_chat(one, &asked.chat));
                waits.ok_or(missing)?
            }
        };
        Ok(Response::new(v1::GetMessageResponse {
            message: Some(message_resource(&found)?),
        }))
    }

    async fn list_outbox(
        &self,
        request: Request<v1::ListOutboxRequest>,
    ) -> Result<Response<v1::ListOutboxResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let (row, asked) = (called.row, called.asked);
        let listing = outbox::list(&self.registry, &row, asked.page_size, &asked.page_token);
        Ok(Response::new(listing.await?))
    }

    async fn cancel_send(
        &self,
        request: Request<v1::CancelSendRequest>,
    ) -> Result<Response<v1::CancelSendResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "CancelSend")?;
        let (row, asked) = (called.row, called.asked);
        finding::id("message_id", &asked.message_id)?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            let ended = registry.cancel_send(row.number, &asked.message_id);
            Ok(v1::CancelSendResponse {
                message: Some(message_resource(&ended.await?)?),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let (row, asked) = (called.row, called.asked);
        let storage = self.storage.as_ref();
        let chats = finding::chats(storage, row.number, &asked.chat).await?;
        let chats = chats.ok_or_else(|| status::field_invalid("chat", "must not be empty"))?;
        let pages = Pages {
            method: "ListMessages",
            chats: Some(chats),
            words: None,
            actions: asked.include_actions,
            starred: asked.starred_only,
        };
        let (messages, next_page_token) = pages
            .read(storage, row.number, asked.page_size, &asked.page_token)
            .await?;
        Ok(Response::new(v1::ListMessagesResponse {
            messages,
            next_page_token,
        }))
    }

    async fn search_messages(
        &self,
        request: Request<v1::SearchMessagesRequest>,
    ) -> Result<Response<v1::SearchMessagesResponse>, Status> {
        let called = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let (row, asked) = (called.row, called.asked);
        let storage = self.storage.as_ref();
        let pages = Pages {
            method: "SearchMessages",
            words: Some(finding::query(asked.query)?),
            chats: finding::chats(storage, row.number, &asked.chat).await?,
            actions: false,
            starred: asked.starred_only,
        };
        let (messages, next_page_token) = pages
            .read(storage, row.number, asked.page_size, &asked.page_token)
            .await?;
        Ok(Response::new(v1::SearchMessagesResponse {
            messages,
            next_page_token,
        }))
    }
}
