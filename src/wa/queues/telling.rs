//! Mailing lists as callers see them, and what the log says of them.

use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::Plan;
use crate::{
    domain::session::SessionState,
    events::{self, timestamp},
    proto::v1::{self, event::Payload},
    storage::{
        EventsOf, InstanceRow, NewEvent, StorageError,
        queue::{ItemCounts, ItemRow, ItemState, NewItem, QueueRow, QueueState, QueueStep},
    },
};

/// A list for callers, as it is at this time; with what it says, if that is wanted.
pub fn queue(
    instance: &InstanceRow,
    row: &QueueRow,
    now: SystemTime,
    with_message: bool,
) -> v1::Queue {
    let plan = v1::Queue::decode(row.body.clone())
        .inspect_err(|error| tracing::error!(%error, "a stored mailing list can't be read"))
        .unwrap_or_default();
    let held_until = row
        .held_until
        .filter(|until| row.state == QueueState::Running && *until > now);
    let state = match (row.state, held_until) {
        (QueueState::Running, Some(_)) => v1::QueueState::Held,
        (QueueState::Running, None) => v1::QueueState::Running,
        (QueueState::Paused, _) => v1::QueueState::Paused,
        (QueueState::Completed, _) => v1::QueueState::Completed,
    };
    let state_reason = match state {
        v1::QueueState::Running => waits_for(instance, &plan, now),
        _ => row.state_reason.clone(),
    };
    v1::Queue {
        id: row.id.to_string(),
        instance: instance.id.to_string(),
        name: row.name.clone(),
        state: state.into(),
        state_reason,
        held_until: held_until.map(timestamp),
        counts: Some(counts(&row.counts)),
        progress: row.counts.progress(),
        pacing: plan.pacing,
        message: plan.message.filter(|_| with_message),
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
        complete_time: row.complete_time.map(timestamp),
    }
}

/// What a list that runs waits for; empty if it goes on.
fn waits_for(instance: &InstanceRow, shown: &v1::Queue, now: SystemTime) -> String {
    if instance.state != SessionState::Open {
        return format!("the instance is {}", instance.state);
    }
    let window = Plan::window(shown.pacing.as_ref());
    match window.map(|window| window.opens_in(now)) {
        None | Some(Duration::ZERO) => String::new(),
        Some(_) => "it is outside of its window".to_owned(),
    }
}

fn counts(counts: &ItemCounts) -> v1::QueueCounts {
    v1::QueueCounts {
        recipients: counts.all(),
        waiting: counts.waiting,
        sending: counts.sending,
        sent: counts.sent,
        failed: counts.failed,
        invalid: counts.invalid,
        duplicate: counts.duplicate,
    }
}

/// A recipient for callers.
pub fn item(row: &ItemRow) -> Result<v1::QueueItem, StorageError> {
    let given = v1::QueueRecipient::decode(row.variables.clone())
        .map_err(|error| StorageError::Corrupt(anyhow::Error::new(error)))?;
    Ok(v1::QueueItem {
        position: row.position,
        recipient: row.recipient.clone(),
        variables: given.variables,
        state: row.state as i32,
        message_id: row.message_id.clone(),
        reason: row.reason.clone(),
        update_time: Some(timestamp(row.time)),
    })
}

/// The same of a list that is just created.
pub fn new_item(position: usize, item: &NewItem, time: SystemTime) -> v1::QueueItem {
    let given = v1::QueueRecipient::decode(item.variables.clone()).unwrap_or_default();
    v1::QueueItem {
        position: u32::try_from(position).unwrap_or(u32::MAX),
        recipient: item.recipient.clone(),
        variables: given.variables,
        state: item.state as i32,
        message_id: String::new(),
        reason: item.reason.clone(),
        update_time: Some(timestamp(time)),
    }
}

fn event(instance: &InstanceRow, payload: Payload, time: SystemTime, key: String) -> NewEvent {
    events::compose(instance, payload, time, &key)
}

fn shown(instance: &InstanceRow, row: &QueueRow) -> Option<v1::Queue> {
    Some(queue(instance, row, row.update_time, false))
}

/// That a list begins, whom it can't reach, and that it is done if it reaches nobody.
pub(super) fn created(instance: InstanceRow, wrong: Vec<v1::QueueItem>) -> EventsOf<QueueRow> {
    Box::new(move |row| {
        let (id, time) = (row.id, row.update_time);
        let mut told = vec![event(
            &instance,
            Payload::SendStarted(v1::SendStarted {
                queue: shown(&instance, row),
            }),
            time,
            format!("{id}/started"),
        )];
        let wrong = wrong.iter().cloned();
        told.extend(wrong.map(|item| failed(&instance, row, item)));
        if row.state == QueueState::Completed {
            told.push(completed(&instance, row));
        }
        told
    })
}

/// What is told of a recipient that became something else.
pub(super) fn stepped(instance: InstanceRow) -> EventsOf<QueueStep> {
    Box::new(move |step| {
        let (row, mut told) = (&step.after, Vec::new());
        let item = match item(&step.item) {
            Ok(item) => item,
            Err(error) => {
                tracing::error!(%error, "a stored recipient can't be read");
                v1::QueueItem {
                    position: step.item.position,
                    ..Default::default()
                }
            }
        };
        if step.item.state == ItemState::Failed {
            told.push(failed(&instance, row, item.clone()));
        }
        let progress = row.counts.progress();
        if progress > step.before.counts.progress() {
            let payload = Payload::SendProgress(v1::SendProgress {
                queue_id: row.id.to_string(),
                progress,
                counts: Some(counts(&row.counts)),
                item: Some(item),
            });
            let key = format!("{}/progress/{progress}", row.id);
            told.push(event(&instance, payload, row.update_time, key));
        }
        if row.state == QueueState::Completed && step.before.state != row.state {
            told.push(completed(&instance, row));
        }
        told
    })
}

fn failed(instance: &InstanceRow, row: &QueueRow, item: v1::QueueItem) -> NewEvent {
    let key = format!("{}/failed/{}", row.id, item.position);
    let payload = Payload::SendFailed(v1::SendFailed {
        queue_id: row.id.to_string(),
        item: Some(item),
    });
    event(instance, payload, row.update_time, key)
}

fn completed(instance: &InstanceRow, row: &QueueRow) -> NewEvent {
    let payload = Payload::SendCompleted(v1::SendCompleted {
        queue: shown(instance, row),
    });
    let key = format!("{}/completed", row.id);
    event(instance, payload, row.update_time, key)
}

/// That a list was paused.
pub(super) fn paused(instance: &InstanceRow, row: &QueueRow) -> NewEvent {
    let payload = Payload::QueuePaused(v1::QueuePaused {
        queue: shown(instance, row),
    });
    event(instance, payload, row.update_time, String::new())
}

/// That a list goes on.
pub(super) fn resumed(instance: &InstanceRow, row: &QueueRow) -> NewEvent {
    let payload = Payload::QueueResumed(v1::QueueResumed {
        queue: shown(instance, row),
    });
    event(instance, payload, row.update_time, String::new())
}

/// That WhatsApp's limits hold a list, or no longer do.
pub(super) fn updated(instance: &InstanceRow, before: &QueueRow, row: &QueueRow) -> NewEvent {
    let payload = Payload::QueueUpdated(v1::QueueUpdated {
        queue: shown(instance, row),
        previous_state: match before.held_until {
            Some(_) => v1::QueueState::Held,
            None => v1::QueueState::Running,
        }
        .into(),
    });
    event(instance, payload, row.update_time, String::new())
}

/// That a list is gone.
pub(super) fn deleted(instance: InstanceRow) -> EventsOf<QueueRow> {
    Box::new(move |row| {
        let now = SystemTime::now();
        let payload = Payload::QueueDeleted(v1::QueueDeleted {
            queue: Some(queue(&instance, row, now, false)),
        });
        vec![event(
            &instance,
            payload,
            now,
            format!("{}/deleted", row.id),
        )]
    })
}
