//! Calls that wait for what becomes of a message.
//!
//! Owns who waits for which message to come how far. Looks nothing up: whoever asks for a message that was
//! stored earlier looks afterwards whether it has come so far already.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{proto::v1::MessageStatus, storage::MessageRow};

/// How far a message has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is stored here.
    Accepted,
    /// WhatsApp confirmed it.
    Sent,
    /// A device of the recipient confirmed it.
    Delivered,
}

impl Progress {
    /// Whether a message with this status has come so far, or will never.
    pub(super) fn is_reached(self, status: i32) -> bool {
        let least = match self {
            Self::Accepted => MessageStatus::Pending,
            Self::Sent => MessageStatus::Sent,
            Self::Delivered => MessageStatus::Received,
        };
        status >= least as i32 || status == MessageStatus::Error as i32
    }
}

/// How long a caller waits, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How far it wants the message to come before it is answered.
    pub until: Progress,
    /// When it is answered anyway.
    pub time: Duration,
}

impl Patience {
    /// What is left of it after so long.
    pub(super) fn after(self, elapsed: Duration) -> Self {
        Self {
            time: self.time.saturating_sub(elapsed),
            ..self
        }
    }
}

/// A call that waits.
struct Waiter {
    until: Progress,
    told: oneshot::Sender<MessageRow>,
}

/// Who waits, by WhatsApp's id of the message.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, Vec<Waiter>>>);

impl Waiting {
    /// Is told once the message has come so far; `None` where it has as soon as it is stored.
    pub(super) fn until(
        &self,
        message_id: &str,
        until: Progress,
    ) -> Option<oneshot::Receiver<MessageRow>> {
        if until == Progress::Accepted {
            return None;
        }
        let (told, risen) = oneshot::channel();
        let waiter = Waiter { until, told };
        self.locked()
            .entry(message_id.to_owned())
            .or_default()
            .push(waiter);
        Some(risen)
    }

    /// Wakes the calls that waited for messages to come as far as they have come.
    pub(super) fn tell(&self, rows: &[MessageRow]) {
        let mut waiting = self.locked();
        for row in rows {
            let Some(waiters) = waiting.get_mut(&row.message_id) else {
                continue;
            };
            for waiter in waiters.extract_if(.., |one| one.until.is_reached(row.status)) {
                waiter.told.send(row.clone()).ok();
            }
            if waiters.is_empty() {
                waiting.remove(&row.message_id);
            }
        }
    }

    /// Forgets the calls that wait no longer.
    pub(super) fn forget(&self) {
        self.locked().retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.told.is_closed());
            !waiters.is_empty()
        });
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiter>>> {
        // What is inside is whole after every statement, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_failed_keeps_nobody_waiting() {
        let reached = |progress: Progress| {
            let every = [1, 2, 3, 4, 5, 6];
            every.map(|status| progress.is_reached(status))
        };
        assert_eq!(reached(Progress::Accepted), [true; 6]);
        assert_eq!(
            reached(Progress::Sent),
            [false, true, true, true, true, true]
        );
        assert_eq!(
            reached(Progress::Delivered),
            [false, true, false, true, true, true]
        );
    }
}
