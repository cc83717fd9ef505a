//! The part of the gRPC face that is about messages of every kind.

use std::time::{Duration, UNIX_EPOCH};

use tonic::Response;

use super::{Answer, duration, number, optional_number, timestamp};
use crate::proto::sandbox_v1::{self as pb, send_message_request::Content};
use crate::sandbox::{
    Chat, InboxMessage, Manner, MessageMark, MoneyMessage, PhonePayment, PhonePoll, Sandbox,
    SandboxError, SeenTyping, Typing,
};

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
        Some(Content::PaymentRequest(request)) => {
            let payment = payment(request)?;
            sandbox.request_payment(phone, chat, payment).await?
        }
        Some(Content::DeclinePaymentId(id)) => sandbox.decline_payment(phone, chat, &id).await?,
        Some(Content::CancelPaymentId(id)) => sandbox.cancel_payment(phone, chat, &id).await?,
        Some(Content::PaymentReport(report)) => {
            let request = Some(&*report.request_id).filter(|id| !id.is_empty());
            sandbox
                .report_payment(phone, chat, request, &report.note)
                .await?
        }
        None => return Err(SandboxError::invalid("content", "say something").into()),
    };
    Ok(Response::new(pb::SendMessageResponse {
        id: sent.id,
        send_time: Some(timestamp(sent.time)),
    }))
}

pub(super) async fn star(
    sandbox: &Sandbox,
    request: pb::StarMessageRequest,
) -> Answer<pb::StarMessageResponse> {
    let phone = number("phone", &request.phone)?;
    let chat = chat(sandbox, &request.chat)?;
    sandbox
        .star_message(phone, chat, &request.message_id, request.starred)
        .await?;
    Ok(Response::new(pb::StarMessageResponse {}))
}

pub(super) async fn delete_for_me(
    sandbox: &Sandbox,
    request: pb::DeleteMessageForMeRequest,
) -> Answer<pb::DeleteMessageForMeResponse> {
    let phone = number("phone", &request.phone)?;
    let chat = chat(sandbox, &request.chat)?;
    sandbox
        .delete_message_for_me(phone, chat, &request.message_id, request.delete_media)
        .await?;
    Ok(Response::new(pb::DeleteMessageForMeResponse {}))
}

pub(super) async fn marks(sandbox: &Sandbox, phone: &str) -> Answer<pb::ListMessageMarksResponse> {
    let marks = sandbox.message_marks(number("phone", phone)?).await?;
    Ok(Response::new(pb::ListMessageMarksResponse {
        marks: marks.into_iter().map(Into::into).collect(),
    }))
}

impl From<MessageMark> for pb::MessageMark {
    fn from(mark: MessageMark) -> Self {
        Self {
            chat: mark.chat,
            message_id: mark.message_id,
            from_me: mark.from_me,
            participant: mark.participant,
            starred: mark.starred,
            deleted_for_me: mark.deleted,
        }
    }
}

fn payment(request: pb::PhonePayment) -> Result<PhonePayment, SandboxError> {
    let seconds = request.expire_time.map(|time| u64::try_from(time.seconds));
    let seconds = seconds
        .transpose()
        .map_err(|_| SandboxError::invalid("expire_time", "must be after 1970"))?;
    Ok(PhonePayment {
        currency: request.currency,
        thousandths: u64::try_from(request.amount_thousandths)
            .map_err(|_| SandboxError::invalid("amount_thousandths", "must not be negative"))?,
        note: request.note,
        payer: optional_number("payer", &request.payer)?,
        expire_time: seconds.and_then(|time| UNIX_EPOCH.checked_add(Duration::from_secs(time))),
    })
}

/// What a message in an inbox says of money.
pub(super) fn money(sandbox: &Sandbox, seen: &InboxMessage) -> Option<pb::PhoneMoney> {
    use pb::phone_money::Says;
    let says = match sandbox.money_in(seen)? {
        MoneyMessage::Request(payment) => Says::Request(pb::PhonePayment {
            currency: payment.currency,
            amount_thousandths: payment.thousandths.try_into().unwrap_or(i64::MAX),
            note: payment.note,
            payer: payment
                .payer
                .map(|payer| payer.to_string())
                .unwrap_or_default(),
            expire_time: payment.expire_time.map(timestamp),
        }),
        MoneyMessage::Declined(id) => Says::DeclinedId(id),
        MoneyMessage::Cancelled(id) => Says::CancelledId(id),
        MoneyMessage::Sent(id) => Says::SentId(id.unwrap_or_default()),
    };
    Some(pb::PhoneMoney { says: Some(says) })
}
