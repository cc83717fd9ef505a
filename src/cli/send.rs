//! `wagate send`: one text, safe to repeat.

use clap::Args;
use uuid::Uuid;

use super::{connection::Gateway, failure::Failure, format, output::Output};
use crate::proto::v1::{
    Message, MessageStatus, SendMessageRequest, TextContent, send_message_request::Content,
};

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// Name or id of the instance that sends.
    instance: String,
    /// Phone number with country code, or JID.
    recipient: String,
    /// What to say.
    text: String,
    /// Makes it safe to repeat this command for 24 hours. Default: a new one.
    #[arg(long)]
    request_id: Option<String>,
}

impl Send {
    /// Sends.
    pub async fn run(self, gateway: &Gateway, output: &mut Output) -> Result<(), Failure> {
        let request_id = self
            .request_id
            .unwrap_or_else(|| Uuid::now_v7().to_string());
        let request = SendMessageRequest {
            instance: self.instance,
            recipient: self.recipient,
            content: Some(Content::Text(TextContent {
                text: self.text,
                link_preview: None,
            })),
            request_id: request_id.clone(),
            ..Default::default()
        };
        match gateway.messages().send_message(request).await {
            Ok(answer) => output.show(answer.get_ref(), |answer| {
                answer.message.as_ref().map(outcome).unwrap_or_default()
            }),
            Err(status) => {
                if may_have_arrived(status.code()) {
                    output.remark(&format!(
                        "Repeat it with --request-id {request_id} and it can't be sent twice."
                    ));
                }
                Err(status.into())
            }
        }
    }
}

/// After these nobody knows what the server did.
fn may_have_arrived(code: tonic::Code) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(
        code,
        Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown
    )
}

fn outcome(message: &Message) -> String {
    let chat = message.chat.as_ref().map(format::which).unwrap_or_default();
    let line = format!(
        "{}: {} to {chat}",
        format::status(message.status()),
        format::plain(&message.id)
    );
    match message.status() {
        MessageStatus::Pending => {
            format!("{line}\nWhatsApp has not confirmed it yet; `message.status` events tell.")
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Chat;

    #[test]
    fn an_unconfirmed_message_is_called_so() {
        let mut message = Message {
            id: "3EB0".into(),
            status: MessageStatus::Sent.into(),
            chat: Some(Chat {
                id: "15550001111@s.whatsapp.net".into(),
                ..Chat::default()
            }),
            ..Message::default()
        };
        assert_eq!(
            outcome(&message),
            "sent: 3EB0 to 15550001111@s.whatsapp.net"
        );
        message.status = MessageStatus::Pending.into();
        assert!(outcome(&message).contains("not confirmed"));
    }
}
