//! What became of messages: acks and receipts, stored with their events.
//!
//! Owns how they are read: a run that says the same is one transaction, because they come in floods.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message as _;
use whatsapp_rust::{
    Jid,
    types::{
        events::{Event, Receipt, ServerAck},
        presence::ReceiptType,
    },
    wacore_binary::JidExt as _,
};

use super::Outbox;
use crate::{
    crash_points::CrashPoint,
    events,
    proto::v1::{self, MessageStatus, event::Payload},
    storage::{Effects, EffectsOf, InstanceRow, MessageChange, MessageRow, NewEvent, StatusRise},
    wa::{
        addresses::other_name,
        amending::Carrier,
        convert::{NAME_BYTES, ids, inbound, label, outbound, rows},
        error::WaError,
    },
};

/// Pause before a status that could not be stored is stored again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// A run of acks or receipts that say the same of several messages.
pub(in crate::wa) struct Told {
    /// How many events it took.
    pub(in crate::wa) read: usize,
    status: MessageStatus,
    reason: String,
    by: Option<Jid>,
    time: SystemTime,
    message_ids: Vec<String>,
}

impl Outbox {
    /// The run of events at the front that tell the same status of messages; none if the first does not.
    pub(in crate::wa) fn statuses(&self, events: &[Arc<Event>]) -> Told {
        let mut run = Told {
            read: 0,
            status: MessageStatus::Unspecified,
            reason: String::new(),
            by: None,
            time: SystemTime::now(),
            message_ids: Vec::new(),
        };
        for event in events {
            let next = match &**event {
                Event::ServerAck(ack) => {
                    if let (Some(_), Some(chat)) = (&ack.error, &ack.from)
                        && chat.is_group()
                    {
                        // It may be that the account is no longer in it.
                        self.groups.suspect(&chat.to_non_ad().to_string());
                    }
                    of_ack(ack)
                }
                Event::Receipt(receipt) => self.of_receipt(receipt),
                _ => break,
            };
            let Some(next) = next else {
                run.read += 1;
                continue;
            };
            let same = run.message_ids.is_empty()
                || (run.status == next.status && run.by == next.by && run.reason == next.reason);
            if !same {
                break;
            }
            run.message_ids.extend(next.message_ids);
            run = Told {
                read: run.read + 1,
                message_ids: run.message_ids,
                ..next
            };
        }
        run
    }

    fn of_receipt(&self, receipt: &Receipt) -> Option<Told> {
        let status = match receipt.r#type {
            // A device whose account is shown as offline confirms so.
            ReceiptType::Delivered | ReceiptType::Inactive => MessageStatus::Received,
            ReceiptType::Read => MessageStatus::Read,
            ReceiptType::Played => MessageStatus::Played,
            _ => return None,
        };
        let by = receipt.source.sender.to_non_ad();
        if by.user.len() > NAME_BYTES {
            return None;
        }
        // The account's own devices confirm what they got, which says nothing of the recipient.
        let row = self.instance.borrow();
        let own = (by.is_pn() && by.user == row.phone_number) || by.to_string() == row.lid;
        (!own).then(|| Told {
            read: 1,
            status,
            reason: String::new(),
            by: Some(by),
            time: receipt.timestamp.into(),
            message_ids: receipt
                .message_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }

    /// Stores what was told, with its events; tries until it works or wagate stops.
    pub(in crate::wa) async fn settle(&self, told: Told) {
        if told.message_ids.is_empty() {
            return;
        }
        CrashPoint::StatusTold.pass();
        let by = match &told.by {
            Some(by) => Some(self.party(by).await),
            None => None,
        };
        let instance = self.row().number;
        loop {
            let raised = self
                .raise(
                    told.message_ids.clone(),
                    told.status,
                    told.reason.clone(),
                    by.clone().map(|by| (by, told.time)),
                )
                .await;
            let Err(error) = raised else { return };
            tracing::warn!(%instance, %error, "a status waits for the database");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(STORE_AGAIN) => {}
            }
        }
    }

    /// Whose receipt it is, by both names as far as known.
    async fn party(&self, jid: &Jid) -> v1::Party {
        let client = self.client.borrow().clone();
        let other = match client {
            Some(client) => other_name(&client, jid).await,
            None => None,
        };
        ids::party([Some(jid), other.as_ref()], "")
    }

    pub(super) async fn raise(
        &self,
        message_ids: Vec<String>,
        status: MessageStatus,
        reason: String,
        by: Option<(v1::Party, SystemTime)>,
    ) -> Result<(), WaError> {
        let rise = StatusRise {
            message_ids,
            status: status.into(),
            reason,
            party: by.as_ref().map(|(party, _)| named(party).to_owned()),
        };
        let effects = self.effects_of(status, by);
        let instance = self.row().number;
        let changed = self.storage.raise_status(instance, rise, effects).await?;
        self.tell(&changed);
        Ok(())
    }

    fn effects_of(&self, status: MessageStatus, by: Option<(v1::Party, SystemTime)>) -> EffectsOf {
        let instance = self.row();
        Box::new(move |row| {
            let mut effects = Effects::default();
            // A receipt may come before the ack: whatever shows first that WhatsApp has it.
            let sent = MessageStatus::Sent as i32;
            if row.outbound
                && (row.previous_status < sent && row.status >= sent)
                && let Ok(message) = rows::message(row)
            {
                match changing(&instance, row, &message) {
                    Some(change) => effects.changes.push(change),
                    None => {
                        let payload = Payload::MessageSent(v1::MessageSent {
                            message: Some(message),
                        });
                        let key = dedupe_key(row);
                        effects
                            .events
                            .push(events::compose(&instance, payload, row.time, &key));
                    }
                }
            }
            let told = status_event(&instance, row, status, by.as_ref());
            effects.events.push(told);
            effects
        })
    }

    pub(super) fn status_event(&self, row: &MessageRow, status: MessageStatus) -> NewEvent {
        status_event(&self.instance.borrow(), row, status, None)
    }
}

/// What an edit or a deletion of ours changes here, now that WhatsApp has it.
fn changing(
    instance: &InstanceRow,
    row: &MessageRow,
    message: &v1::Message,
) -> Option<MessageChange> {
    if row.listed {
        return None;
    }
    let carrier = Carrier {
        instance: instance.clone(),
        message: message.clone(),
        chats: vec![row.chat.clone()],
        time: row.time,
        // WhatsApp has taken it: it may.
        by_admin: true,
        raw: outbound::decode(&row.raw)
            .ok()
            .and_then(|message| inbound::edited(&message).cloned()),
    };
    carrier.change()
}

fn status_event(
    instance: &InstanceRow,
    row: &MessageRow,
    status: MessageStatus,
    by: Option<&(v1::Party, SystemTime)>,
) -> NewEvent {
    let chat = v1::Message::decode(row.body.clone())
        .ok()
        .and_then(|message| message.chat);
    let payload = Payload::MessageStatus(v1::MessageStatusUpdated {
        message_id: row.message_id.clone(),
        chat,
        status: status.into(),
        reason: row.status_reason.clone(),
        party: by.map(|(party, _)| party.clone()),
    });
    let time = by.map_or_else(SystemTime::now, |(_, time)| *time);
    events::compose(instance, payload, time, &dedupe_key(row))
}

/// One name of somebody, the same whichever WhatsApp used where both are known.
fn named(party: &v1::Party) -> &str {
    match &*party.jid {
        "" => &party.lid,
        jid => jid,
    }
}

fn dedupe_key(row: &MessageRow) -> String {
    format!("{}/{}/{}", row.chat, row.sender, row.message_id)
}

fn of_ack(ack: &ServerAck) -> Option<Told> {
    if ack.class.as_deref() != Some("message") {
        return None;
    }
    let (status, reason) = match &ack.error {
        None => (MessageStatus::Sent, String::new()),
        Some(code) => (MessageStatus::Error, label(code).into_owned()),
    };
    Some(Told {
        read: 1,
        status,
        reason,
        by: None,
        time: SystemTime::now(),
        message_ids: vec![ack.id.clone()],
    })
}
