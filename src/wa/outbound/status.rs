//! What became of messages: acks and receipts, stored with their events.
//!
//! Owns how they are read: a run that says the same is stored at once, and several runs in one
//! commit, because they come in floods: a message to a large group brings two of each member.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use prost::Message as _;
use whatsapp_rust::{
    Jid,
    types::{
        events::{Event, Receipt, ServerAck},
        presence::ReceiptType,
    },
    wacore_binary::JidExt as _,
};

use super::{
    Outbox,
    refusals::{self, Limit},
};
use crate::{
    crash_points::CrashPoint,
    events,
    proto::v1::{self, MessageStatus, event::Payload},
    storage::{Effects, EffectsOf, InstanceRow, MessageChange, MessageRow, NewEvent, StatusRise},
    wa::{
        addresses::other_name,
        amending::Carrier,
        convert::{NAME_BYTES, ids, inbound, outbound, rows},
        error::WaError,
        payments,
    },
};

/// Runs that are handed to the store together.
const RUNS_AT_ONCE: usize = 64;

/// Pause before a status that could not be stored is stored again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// A run of acks or receipts that say the same of several messages.
struct Told {
    /// How many events it took.
    read: usize,
    status: MessageStatus,
    reason: String,
    by: Option<Jid>,
    time: SystemTime,
    message_ids: Vec<String>,
    /// It is refused for a limit of WhatsApp.
    limit: Option<Limit>,
}

impl Outbox {
    /// Stores the statuses that the events at the front tell, with their events. Returns how many it
    /// has read: none if the first is about something else.
    pub(in crate::wa) async fn observe(&self, events: &[Arc<Event>]) -> usize {
        let (mut read, mut runs) = (0, Vec::new());
        while runs.len() < RUNS_AT_ONCE {
            let told = self.statuses(&events[read..]);
            if told.read == 0 {
                break;
            }
            read += told.read;
            if !told.message_ids.is_empty() {
                runs.push(told);
            }
        }
        // Named first, so that they come to the store in their order.
        let mut named = Vec::with_capacity(runs.len());
        for told in runs {
            let by = match &told.by {
                Some(by) => Some((self.party(by).await, told.time)),
                None => None,
            };
            named.push(self.settle(told, by));
        }
        join_all(named).await;
        read
    }

    /// The run of events at the front that tell the same status of messages; none if the first does not.
    fn statuses(&self, events: &[Arc<Event>]) -> Told {
        let mut run = Told {
            read: 0,
            status: MessageStatus::Unspecified,
            reason: String::new(),
            by: None,
            time: SystemTime::now(),
            message_ids: Vec::new(),
            limit: None,
        };
        for event in events {
            let next = match &**event {
                Event::ServerAck(ack) => {
                    if let (Some(_), Some(chat)) = (&ack.error, &ack.from)
                        && chat.is_group()
                    {
                        // It may be that the account is no longer in it.
                        self.groups.suspect(&chat.to_non_ad_string());
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
        // Of statuses the library names no reader.
        let by = Some(by).filter(|by| by.is_pn() || by.is_lid());
        (!own).then(|| Told {
            read: 1,
            status,
            reason: String::new(),
            by,
            time: receipt.timestamp.into(),
            message_ids: receipt
                .message_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
            limit: None,
        })
    }

    /// Stores what was told, with its events; tries until it works or wagate stops.
    async fn settle(&self, told: Told, by: Option<(v1::Party, SystemTime)>) {
        CrashPoint::StatusTold.pass();
        if let Some(limit) = told.limit {
            // Before anybody hears of the refusal and sends the next.
            self.holds.begin(limit, &told.reason).await;
        }
        let instance = self.row().number;
        loop {
            let raised = self
                .raise(
                    told.message_ids.clone(),
                    told.status,
                    told.reason.clone(),
                    by.clone(),
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
        self.waiting.tell(&changed);
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
                            message: Some(message.clone()),
                        });
                        let key = dedupe_key(row);
                        effects
                            .events
                            .push(events::compose(&instance, payload, row.time, &key));
                        let money = payments::effects(&instance, row, &message);
                        effects.events.extend(money.events);
                        effects.payments.extend(money.payments);
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
        is_late: false,
    };
    carrier.change()
}

fn status_event(
    instance: &InstanceRow,
    row: &MessageRow,
    status: MessageStatus,
    by: Option<&(v1::Party, SystemTime)>,
) -> NewEvent {
    // A group is told by its name alone, whatever the message holds: every member has a say of each.
    let chat = match row.chat.parse::<Jid>() {
        Ok(jid) if jid.is_group() => Some(ids::chat(&jid, None, "")),
        _ => v1::Message::decode(row.body.clone())
            .ok()
            .and_then(|message| message.chat),
    };
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
        Some(code) => (MessageStatus::Error, refusals::reason(code)),
    };
    let limit = ack.error.as_deref().and_then(Limit::of);
    Some(Told {
        read: 1,
        status,
        reason,
        by: None,
        time: SystemTime::now(),
        message_ids: vec![ack.id.clone()],
        limit,
    })
}
