//! `wagate outbox …`: what is accepted and not confirmed yet.

use clap::{Args, Subcommand};

use super::{connection::Gateway, failure::Failure, format, output::Output};
use crate::proto::v1::{
    CancelSendRequest, ListOutboxRequest, ListOutboxResponse, OutboxEntry, OutboxState,
};

/// What to do with sends that WhatsApp has not confirmed.
#[derive(Debug, Subcommand)]
pub enum Outbox {
    /// Lists them.
    List(List),
    /// Takes one back that has not left.
    Cancel(Cancel),
}

/// Arguments of `outbox list`.
#[derive(Debug, Args)]
pub struct List {
    /// Name or id of the instance.
    instance: String,
}

/// Arguments of `outbox cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Name or id of the instance.
    instance: String,
    /// Id of the message, as `send` shows it.
    message_id: String,
}

impl Outbox {
    /// Does it.
    pub async fn run(self, gateway: &Gateway, output: &mut Output) -> Result<(), Failure> {
        let mut client = gateway.messages();
        match self {
            Self::List(List { instance }) => {
                let mut all = ListOutboxResponse::default();
                loop {
                    let request = ListOutboxRequest {
                        instance: instance.clone(),
                        page_token: std::mem::take(&mut all.next_page_token),
                        ..ListOutboxRequest::default()
                    };
                    let page = client.list_outbox(request).await?.into_inner();
                    all.entries.extend(page.entries);
                    all.next_page_token = page.next_page_token;
                    if all.next_page_token.is_empty() {
                        break;
                    }
                }
                output.show(&all, |all| listed(&all.entries))
            }
            Self::Cancel(Cancel {
                instance,
                message_id,
            }) => {
                let request = CancelSendRequest {
                    instance,
                    message_id,
                    ..CancelSendRequest::default()
                };
                let answer = client.cancel_send(request).await?.into_inner();
                output.show(&answer, |answer| {
                    let message = answer.message.as_ref();
                    message
                        .map(|one| format!("{}: cancelled", format::plain(&one.id)))
                        .unwrap_or_default()
                })
            }
        }
    }
}

fn listed(entries: &[OutboxEntry]) -> String {
    let rows: Vec<_> = entries.iter().map(row).collect();
    let head = ["ID", "STATE", "TO", "DUE", "EXPIRES"];
    format::table(&head, &rows)
}

fn row(entry: &OutboxEntry) -> Vec<String> {
    let message = entry.message.as_ref();
    let chat = message.and_then(|message| message.chat.as_ref());
    let to = match entry.recipient.as_str() {
        "" => chat.map(format::which).unwrap_or_default(),
        recipient => format::plain(recipient),
    };
    let state = match entry.state() {
        OutboxState::Unspecified => "",
        OutboxState::Accepted => "waits",
        OutboxState::Sending => "leaving",
        OutboxState::Unknown => "not confirmed",
    };
    vec![
        message
            .map(|one| format::plain(&one.id))
            .unwrap_or_default(),
        state.to_owned(),
        to,
        format::time(entry.due_time.as_ref()),
        format::time(entry.expire_time.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Message;

    #[test]
    fn what_waits_is_shown_with_its_recipient() {
        let entry = OutboxEntry {
            message: Some(Message {
                id: "3EB0A".into(),
                ..Message::default()
            }),
            state: OutboxState::Accepted.into(),
            recipient: "15550001111".into(),
            ..OutboxEntry::default()
        };
        let text = listed(&[entry]);
        assert!(text.contains("3EB0A") && text.contains("waits"), "{text}");
        assert!(text.contains("15550001111"), "{text}");
    }
}
