//! MessageService: checks what a caller wants to say, hands it to the instance, shows what is stored.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    access, requests,
    status::{self, Reason, refuse},
};
use crate::{
    domain::{limits, permission::Permission, recipient::Recipient},
    proto::v1::{
        self,
        message_content::Content,
        message_service_server::{MessageService, MessageServiceServer},
        send_message_request,
    },
    storage::Storage,
    wa::{Outgoing, Registry, message_resource},
};

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
        let outgoing = Outgoing {
            recipient,
            content: content(asked.content)?,
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
        let chat = Some(asked.chat.as_str()).filter(|chat| !chat.is_empty());
        let found = self
            .storage
            .lookup_message(row.number, &asked.message_id, chat)
            .await?
            .ok_or_else(|| {
                refuse(Reason::MessageNotFound, "the instance has no such message")
                    .field("message_id", "must be the id of a message of the instance")
            })?;
        Ok(Response::new(v1::GetMessageResponse {
            message: Some(message_resource(&found)?),
        }))
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
                return Err(refuse(
                    Reason::TextTooLong,
                    format!("the text has {length} characters; WhatsApp takes {limit}"),
                )
                .with("limit", limit)
                .field("text.text", format!("must have at most {limit} characters"))
                .into());
            }
            Ok(Content::Text(text))
        }
    }
}
