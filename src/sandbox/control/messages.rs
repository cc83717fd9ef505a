//! The part of the gRPC face that is about messages of every kind.

use tonic::Response;

use super::{Answer, number, timestamp};
use crate::{
    proto::sandbox_v1::{self as pb, send_message_request::Content},
    sandbox::{Chat, GroupId, PhonePoll, Sandbox, SandboxError},
};

pub(super) async fn send(
    sandbox: &Sandbox,
    request: pb::SendMessageRequest,
) -> Answer<pb::SendMessageResponse> {
    let phone = number("phone", &request.phone)?;
    let chat = match request.to.parse::<GroupId>() {
        Ok(group) => Chat::Group(group),
        Err(_) => Chat::User(sandbox.resolve(&request.to)?),
    };
    let sent = match request.content {
        Some(Content::Message(message)) => sandbox.send_message(phone, chat, &message).await?,
        Some(Content::Reaction(reaction)) => {
            sandbox
                .react(phone, chat, &reaction.message_id, &reaction.emoji)
                .await?
        }
        Some(Content::Edit(edit)) => {
            sandbox
                .edit(phone, chat, &edit.message_id, &edit.text)
                .await?
        }
        Some(Content::RevokeId(id)) => sandbox.revoke(phone, chat, &id).await?,
        Some(Content::Poll(poll)) => {
            let poll = PhonePoll {
                question: poll.question,
                options: poll.options,
                selectable: poll.selectable,
            };
            sandbox.create_poll(phone, chat, poll).await?
        }
        Some(Content::Vote(vote)) => {
            sandbox
                .vote(phone, chat, &vote.poll_id, &vote.options)
                .await?
        }
        None => return Err(SandboxError::invalid("content", "say something").into()),
    };
    Ok(Response::new(pb::SendMessageResponse {
        id: sent.id,
        send_time: Some(timestamp(sent.time)),
    }))
}
