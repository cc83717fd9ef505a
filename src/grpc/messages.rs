//! MessageService: checks what a caller wants to say, hands it to the instance, shows what is stored.

use std::sync::Arc;

use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::{
    access, groups, requests,
    status::{self, Reason, refuse},
};
use crate::{
    domain::{
        limits,
        permission::Permission,
        recipient::{Recipient, group_jid},
    },
    proto::v1::{
        self,
        message_content::Content,
        message_service_server::{MessageService, MessageServiceServer},
        send_message_request,
    },
    storage::{MessageRow, Storage},
    wa::{Mentions, Outgoing, Registry, message_resource},
};

/// Most messages with one id that are looked through for a chat. Ids are random: two are rare.
const SAME_ID: usize = 1_000;

/// Longest id of a message to answer: far longer than WhatsApp's.
const QUOTED_ID_BYTES: usize = 256;

/// The service.
pub struct Messages {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
}

impl Messages {
    /// The service, on this store and these sessions.
    pub fn server(
        storage: Arc<dyn Storage>,
        registry: Arc<Registry>,
    ) -> MessageServiceServer<Self> {
        MessageServiceServer::new(Self { storage, registry })
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }
}

#[tonic::async_trait]
impl MessageService for Messages {
    async fn send_message(
        &self,
        request: Request<v1::SendMessageRequest>,
    ) -> Result<Response<v1::SendMessageResponse>, Status> {
        let caller = access::permit(&request, Permission::MessagesWrite)?;
        let asked = request.into_inner();
        let row =
            access::instance(self.storage.as_ref(), &caller, "instance", &asked.instance).await?;
        let recipient = Recipient::parse(&asked.recipient).map_err(|why| {
            refuse(Reason::RecipientInvalid, format!("recipient {why}")).field("recipient", why)
        })?;
        let body = v1::SendMessageRequest {
            // An instance named another way is the same one.
            instance: row.id.to_string(),
            request_id: String::new(),
            ..asked.clone()
        };
        let request = requests::mark(&caller, "SendMessage", &asked.request_id, &body)?;
        let mentions = asked.mentions.unwrap_or_default();
        if asked.quoted_message_id.len() > QUOTED_ID_BYTES {
            return Err(status::field_invalid("quoted_message_id", "is too long"));
        }
        let outgoing = Outgoing {
            recipient,
            content: content(asked.content)?,
            quoted: asked.quoted_message_id,
            mentions: Mentions {
                everyone: mentions.everyone,
                ghost: mentions.ghost,
                mentioned: groups::people("mentions.mentioned", mentions.mentioned)?,
            },
            request,
        };
        let sent = self.registry.send(row.number, outgoing).await?;
        Ok(Response::new(v1::SendMessageResponse {
            message: Some(message_resource(&sent)?),
        }))
    }

    async fn get_message(
        &self,
        request: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        let caller = access::permit(&request, Permission::MessagesRead)?;
        let asked = request.into_inner();
        let row =
            access::instance(self.storage.as_ref(), &caller, "instance", &asked.instance).await?;
        if asked.message_id.is_empty() {
            return Err(status::field_invalid("message_id", "must not be empty"));
        }
        let rows = self
            .storage
            .list_messages(row.number, &asked.message_id, SAME_ID)
            .await?;
        for row in &rows {
            let message = message_resource(row)?;
            if asked.chat.is_empty() || is_in(row, &message, &asked.chat) {
                return Ok(Response::new(v1::GetMessageResponse {
                    message: Some(message),
                }));
            }
        }
        Err(
            refuse(Reason::MessageNotFound, "the instance has no such message")
                .field("message_id", "must be the id of a message of the instance")
                .into(),
        )
    }
}

/// Whether a message lies in this chat, by whichever of its names.
fn is_in(row: &MessageRow, message: &v1::Message, chat: &str) -> bool {
    let Some(known) = &message.chat else {
        return row.chat == chat;
    };
    if row.chat == chat || known.id == chat {
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

/// What the caller wants to say, within WhatsApp's limits.
fn content(content: Option<send_message_request::Content>) -> Result<Content, Status> {
    match content {
        None => Err(status::field_invalid(
            "content",
            "must say something, such as text",
        )),
        Some(send_message_request::Content::Text(text)) => {
            let length = text.text.chars().count();
            if text.text.trim().is_empty() {
                return Err(refuse(Reason::TextEmpty, "the text is empty")
                    .field("text.text", "must not be empty")
                    .into());
            }
            if length > limits::TEXT_CHARS {
                let limit = limits::TEXT_CHARS;
                return Err(status::text_too_long(
                    "text.text",
                    format!("the text has {length} characters; WhatsApp takes {limit}"),
                    limit,
                ));
            }
            Ok(Content::Text(text))
        }
        Some(send_message_request::Content::GroupInvite(invite)) => {
            Ok(Content::GroupInvite(group_invite(invite)?))
        }
    }
}

fn group_invite(invite: v1::GroupInviteContent) -> Result<v1::GroupInviteContent, Status> {
    let group_id = group_jid(&invite.group_id).map_err(|why| {
        refuse(
            Reason::GroupIdInvalid,
            format!("group_invite.group_id {why}"),
        )
        .field("group_invite.group_id", why)
    })?;
    if invite.code.is_empty() {
        return Err(status::field_invalid(
            "group_invite.code",
            "must not be empty",
        ));
    }
    let limit = limits::CAPTION_CHARS;
    if invite.caption.chars().count() > limit {
        return Err(status::text_too_long(
            "group_invite.caption",
            "the caption is too long".to_owned(),
            limit,
        ));
    }
    Ok(v1::GroupInviteContent {
        group_id,
        subject: groups::subject("group_invite.subject", invite.subject)?,
        ..invite
    })
}
