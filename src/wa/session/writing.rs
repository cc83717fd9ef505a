//! How a session writes: each move of its state in one transaction with the event that tells of it.

use std::time::SystemTime;

use tokio::time::sleep;

use super::{STORE_AGAIN, Session};
use crate::{
    domain::session::SessionState,
    events::{self, timestamp},
    proto::v1,
    storage::{
        EventsOf, InstanceChange, InstanceRow, NameOutcome, NewEvent, StateChange, StorageError,
    },
    wa::convert::{label, rows},
};
use v1::event::Payload;

impl Session {
    pub(super) async fn report(&self, reason: &str, detail: &str, lost: u32) {
        let event = {
            let row = self.instance.borrow();
            let payload = Payload::ErrorReported(v1::ErrorReported {
                reason: reason.to_owned(),
                detail: detail.to_owned(),
                lost,
            });
            events::compose(&row, payload, SystemTime::now(), "")
        };
        self.append(vec![event]).await;
    }

    pub(super) async fn append(&self, events: Vec<NewEvent>) {
        loop {
            let Err(error) = self.shared.storage.append_events(events.clone()).await else {
                return;
            };
            tracing::warn!(%error, "an event waits for the database");
            if self.give_up().await {
                return;
            }
        }
    }

    pub(super) fn state_change(
        &self,
        state: SessionState,
        reason: &str,
        details: &Details,
    ) -> InstanceChange {
        InstanceChange {
            state: Some(StateChange {
                state,
                reason: label(reason).into_owned(),
                time: SystemTime::now(),
                banned_until: details.banned_until,
            }),
            ..Default::default()
        }
    }

    /// Enters a state, with its event; illegal moves are bugs and change nothing.
    pub(super) async fn enter(&mut self, state: SessionState, reason: &str, details: Details) {
        let from = self.state();
        if !from.may_become(state) {
            tracing::error!(instance = %self.number(), %from, to = %state, "illegal move");
            return;
        }
        tracing::info!(instance = %self.number(), %from, to = %state, reason, "state");
        let change = self.state_change(state, reason, &details);
        self.store_with(change, details.code, true).await;
    }

    pub(super) async fn store_surely(&mut self, change: InstanceChange) {
        self.store_with(change, 0, true).await;
    }

    pub(super) async fn store(
        &mut self,
        change: InstanceChange,
    ) -> Result<NameOutcome, StorageError> {
        match self.store_with(change, 0, false).await {
            Some(outcome) => outcome,
            None => Ok(NameOutcome::Missing),
        }
    }

    /// Commits a change with its events and shows it; `surely` tries until it works or wagate stops.
    pub(super) async fn store_with(
        &mut self,
        mut change: InstanceChange,
        code: i32,
        surely: bool,
    ) -> Option<Result<NameOutcome, StorageError>> {
        let number = self.number();
        let previous = self.state();
        change.time = Some(SystemTime::now());
        loop {
            let events = change_events(&change, previous, code);
            match self
                .shared
                .storage
                .change_instance(number, change.clone(), events)
                .await
            {
                Ok(outcome) => {
                    if let NameOutcome::Done(row) = &outcome {
                        self.instance.send_replace(InstanceRow::clone(row));
                    }
                    return Some(Ok(outcome));
                }
                Err(error) if surely => {
                    tracing::warn!(instance = %number, %error, "a change of state waits for the database");
                    if self.give_up().await {
                        return None;
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits before the next try; true if wagate stops.
    pub(super) async fn give_up(&self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => true,
            () = sleep(STORE_AGAIN) => false,
        }
    }
}

/// More about a state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Details {
    pub(super) code: i32,
    pub(super) banned_until: Option<SystemTime>,
}

/// The events of a change: one of the connection for a state, one of the instance for all else.
fn change_events(
    change: &InstanceChange,
    previous: SessionState,
    code: i32,
) -> EventsOf<InstanceRow> {
    let state_changes = change.state.is_some();
    let else_changes = change.name.is_some()
        || change.show_online.is_some()
        || change.reject_calls.is_some()
        || change.reject_calls_text.is_some()
        || change.phone_number.is_some()
        || change.lid.is_some()
        || change.push_name.is_some();
    Box::new(move |row| {
        let mut events = Vec::new();
        if else_changes {
            let payload = Payload::InstanceUpdated(v1::InstanceUpdated {
                instance: Some(rows::instance(row)),
            });
            events.push(events::compose(row, payload, row.update_time, ""));
        }
        if state_changes {
            let payload = Payload::ConnectionUpdated(v1::ConnectionUpdated {
                state: row.state as i32,
                previous_state: previous as i32,
                reason: row.state_reason.clone(),
                code,
                banned_until: row.banned_until.map(timestamp),
                phone_number: row.phone_number.clone(),
                push_name: row.push_name.clone(),
            });
            events.push(events::compose(row, payload, row.state_time, ""));
        }
        events
    })
}
