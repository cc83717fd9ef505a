//! What was accepted and is not confirmed: shown to callers, and taken back for them while that is possible.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Outbox, kept};
use crate::{
    proto::v1::{MessageStatus, OutboxState},
    storage::{
        MessageRecord, MessageRow,
        send::{SendQuery, SendRow},
    },
    wa::error::WaError,
};

/// Why a send ends that a caller took back.
const CANCELLED: &str = "it was cancelled";

/// Messages with one id that are looked through. Ids are random: two are rare.
const SAME_ID: usize = 16;

/// A send that is not confirmed.
pub struct Unconfirmed {
    /// The message.
    pub row: MessageRow,
    /// How far it has come.
    pub state: OutboxState,
    /// To whom; empty where only the chat is known.
    pub recipient: String,
    /// When it is to leave, if it waits.
    pub due_time: Option<SystemTime>,
    /// When it ends if it has not left.
    pub expire_time: Option<SystemTime>,
    /// When it was accepted.
    pub create_time: SystemTime,
    /// Where it stands.
    pub place: OutboxPlace,
}

/// Where an unconfirmed send stands among all of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxPlace {
    /// Among the stored messages, which come first.
    Message(SystemTime, String),
    /// Among those that wait.
    Send(i64),
}

impl OutboxPlace {
    /// As a text.
    pub fn key(&self) -> String {
        match self {
            Self::Message(time, id) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                format!("m/{}/{id}", since.as_micros())
            }
            Self::Send(number) => format!("s/{number}"),
        }
    }

    /// The place in a text.
    pub fn parse(key: &str) -> Option<Self> {
        let (kind, rest) = key.split_once('/')?;
        match kind {
            "m" => {
                let (micros, id) = rest.split_once('/')?;
                let since = Duration::from_micros(micros.parse().ok()?);
                let time = UNIX_EPOCH.checked_add(since)?;
                Some(Self::Message(time, id.to_owned()))
            }
            "s" => rest.parse().ok().map(Self::Send),
            _ => None,
        }
    }
}

impl Outbox {
    /// What is not confirmed, after a place: messages on their way, then sends that wait.
    pub(in crate::wa) async fn unconfirmed(
        &self,
        after: Option<OutboxPlace>,
        limit: usize,
    ) -> Result<Vec<Unconfirmed>, WaError> {
        let number = self.row().number;
        let pending = MessageStatus::Pending as i32;
        let (mut found, after) = match after {
            Some(OutboxPlace::Send(number)) => (Vec::new(), number),
            after => {
                let after = after.and_then(|place| match place {
                    OutboxPlace::Message(time, id) => Some((time, id)),
                    OutboxPlace::Send(_) => None,
                });
                let rows = self.storage.list_outbound(number, pending, after, limit);
                let rows = rows.await?.into_iter();
                (rows.map(|row| self.on_its_way(row)).collect(), 0)
            }
        };
        let room = limit.saturating_sub(found.len());
        if room > 0 {
            let query = SendQuery::After(after);
            let sends = self.storage.list_sends(number, query, room).await?;
            found.extend(sends.into_iter().map(|send| self.as_it_waits(&send)));
        }
        Ok(found)
    }

    fn on_its_way(&self, row: MessageRow) -> Unconfirmed {
        let state = match self.leaving.has(&row.message_id) {
            true => OutboxState::Sending,
            false => OutboxState::Unknown,
        };
        Unconfirmed {
            state,
            recipient: String::new(),
            due_time: None,
            expire_time: self.leaving.expire_time(&row.message_id),
            create_time: row.time,
            place: OutboxPlace::Message(row.time, row.message_id.clone()),
            row,
        }
    }

    fn as_it_waits(&self, send: &SendRow) -> Unconfirmed {
        Unconfirmed {
            row: kept::pending(&self.row(), send),
            state: OutboxState::Accepted,
            recipient: send.recipient.clone(),
            due_time: Some(send.due_time),
            expire_time: Some(send.expire_time),
            create_time: send.create_time,
            place: OutboxPlace::Send(send.number),
        }
    }

    /// The message with this id that a caller sent, whether it waits or not.
    pub(in crate::wa) async fn sent_as(
        &self,
        message_id: &str,
    ) -> Result<Option<MessageRow>, WaError> {
        let number = self.row().number;
        // It may leave in between: then it is a message at the second look.
        for _ in 0..2 {
            let rows = self.storage.list_messages(number, message_id, SAME_ID);
            if let Some(row) = rows.await?.into_iter().find(|row| row.outbound) {
                return Ok(Some(row));
            }
            if let Some(send) = self.storage.lookup_send(number, message_id).await? {
                return Ok(Some(kept::pending(&self.row(), &send)));
            }
        }
        Ok(None)
    }

    /// Takes back what has not left.
    pub(in crate::wa) async fn cancel(&self, message_id: &str) -> Result<MessageRow, WaError> {
        let number = self.row().number;
        if let Some(send) = self.storage.lookup_send(number, message_id).await?
            && let Some(row) = self.fail(&send, CANCELLED).await?
        {
            return Ok(row);
        }
        let missing = || WaError::NoSuchMessage("message_id");
        let row = self.sent_as(message_id).await?.ok_or_else(missing)?;
        if row.status == MessageStatus::Error as i32 && row.status_reason == CANCELLED {
            return Ok(row);
        }
        if row.status != MessageStatus::Pending as i32 {
            return Err(WaError::SendLeft(row.status));
        }
        let expire_time = self.leaving.expire_time(message_id);
        if !self.leaving.take_back(message_id) {
            return Err(WaError::SendMayHaveLeft);
        }
        let (ids, reason) = (vec![message_id.to_owned()], CANCELLED.to_owned());
        let raised = self.raise(ids, MessageStatus::Error, reason, None).await;
        if let Err(error) = raised {
            self.leaving.hold(message_id, expire_time);
            return Err(error);
        }
        self.sent_as(message_id).await?.ok_or_else(missing)
    }

    /// Takes out what was sent from here and comes back from another device of the account: it is stored, and
    /// WhatsApp has it, whatever became of the ack. Answers with the ids.
    pub(in crate::wa) async fn take_echoes(&self, records: &mut Vec<MessageRecord>) -> Vec<String> {
        let mut echoes = Vec::new();
        for record in records.iter().filter(|record| record.row.from_me) {
            let row = &record.row;
            let known = self
                .storage
                .list_messages(row.instance, &row.message_id, SAME_ID);
            let known = known.await.unwrap_or_default();
            if known.iter().any(|known| known.outbound) {
                echoes.push(row.message_id.clone());
            }
        }
        if echoes.is_empty() {
            return echoes;
        }
        records.retain(|record| !echoes.contains(&record.row.message_id));
        let told = self.raise(echoes.clone(), MessageStatus::Sent, String::new(), None);
        if let Err(error) = told.await {
            // An ack or a receipt says the same, and the next login brings one.
            tracing::warn!(%error, "an echo is not stored");
        }
        echoes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_out_as_it_went_in() {
        let time = UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
        for place in [
            OutboxPlace::Message(time, "3EB0A/B".to_owned()),
            OutboxPlace::Send(7),
        ] {
            assert_eq!(OutboxPlace::parse(&place.key()), Some(place));
        }
        for wrong in ["", "m/1", "m/x/A", "s/", "s/x", "x/1"] {
            assert_eq!(OutboxPlace::parse(wrong), None, "{wrong}");
        }
    }
}
