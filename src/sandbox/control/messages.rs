//! The part of the gRPC face that is about messages of every kind.

use tonic::Response;

use super::{Answer, duration, number, timestamp};
use crate::proto::sandbox_v1::{self as pb, send_message_request::Content};
use crate::sandbox::{Chat, Manner, PhonePoll, Sandbox, SandboxError, SeenTyping, Typing};

/// What the wire calls statuses.
const STATUS: &str = "status@broadcast";

/// Where a caller wants a phone to write.
pub(super) fn chat(sandbox: &Sandbox, to: &str) -> Result<Chat, SandboxError> {
    if to.trim() == STATUS {
        return Ok(Chat::Status);
    }
    match to.parse() {
        Ok(group) => Ok(Chat::Group(group)),
        Err(_) => sandbox.resolve(to).map(Chat::User),
    }
}

fn manner(request: &pb::SendMessageRequest) -> Result<Manner, SandboxError> {
    let ephemeral = match request.ephemeral {
        Some(time) => duration("ephemeral", time)?.as_secs(),
        None => 0,
    };
    Ok(Manner {
        ephemeral_seconds: u32::try_from(ephemeral)
            .map_err(|_| SandboxError::invalid("ephemeral", "is too long"))?,
        view_once: request.view_once,
        forwarding_score: request.forwarding_score,
    })
}

/// What a phone was shown of others who write.
pub(super) fn chat_states(sandbox: &Sandbox, phone: &str) -> Answer<pb::ListChatStatesResponse> {
    let seen = sandbox.typing(number("phone", phone)?)?;
    Ok(Response::new(pb::ListChatStatesResponse {
        states: seen.into_iter().map(Into::into).collect(),
    }))
}

impl From<SeenTyping> for pb::ChatState {
    fn from(seen: SeenTyping) -> Self {
        let kind = match seen.typing {
            Typing::Composing => pb::ChatStateKind::Composing,
            Typing::Recording => pb::ChatStateKind::Recording,
            Typing::Paused => pb::ChatStateKind::Paused,
        };
        Self {
            sender: seen.sender.number.to_string(),
            sender_device: seen.sender.device.into(),
            group: seen
                .group
                .map(|group| group.jid().to_string())
                .unwrap_or_default(),
            kind: kind.into(),
            time: Some(timestamp(seen.time)),
        }
    }
}

pub(super) async fn send(
    sandbox: &Sandbox,
    request: pb::SendMessageRequest,
) -> Answer<pb::SendMessageResponse> {
    let phone = number("phone", &request.phone)?;
    let chat = chat(sandbox, &request.to)?;
    let manner = manner(&request)?;
    let marked = matches!(
        &request.content,
        Some(Content::Message(_) | Content::Poll(_))
    );
    if !marked && !manner.is_plain() {
        let problem = "only a message or a poll disappears, is seen once or passed on";
        return Err(SandboxError::invalid("content", problem).into());
    }
    let sent = match request.content {
        Some(Content::Message(message)) => {
            sandbox
                .send_message_as(phone, chat, &message, manner)
                .await?
        }
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
            sandbox.create_poll_as(phone, chat, poll, manner).await?
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
