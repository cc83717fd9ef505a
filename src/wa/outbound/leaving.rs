//! Which stored messages have surely not been handed to WhatsApp yet.
//!
//! Owns the moment at which a message can be taken back no more: whoever comes first, the sender or the caller who
//! cancels it, has it. Knows only what this process has stored: of all others nobody knows. A message is in
//! here as long as it is in the sender's hand or its instance is offline, which is bounded by what is accepted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// What becomes of a message that is about to be handed to WhatsApp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It goes.
    Free,
    /// It was cancelled, which is stored or being stored.
    TakenBack,
    /// It is too late for it.
    Expired,
}

/// A message that has not left.
#[derive(Clone, Copy)]
enum Held {
    /// It may until then.
    Until(Option<SystemTime>),
    /// It may not.
    TakenBack,
}

/// See the module. By WhatsApp's ids.
#[derive(Default)]
pub(super) struct Leaving(Mutex<HashMap<String, Held>>);

impl Leaving {
    /// A message is about to be stored. If that fails, `forget` it.
    pub(super) fn hold(&self, message_id: &str, expire_time: Option<SystemTime>) {
        self.held()
            .insert(message_id.to_owned(), Held::Until(expire_time));
    }

    /// Whether it has surely not left.
    pub(super) fn has(&self, message_id: &str) -> bool {
        self.held().contains_key(message_id)
    }

    /// When it expires.
    pub(super) fn expire_time(&self, message_id: &str) -> Option<SystemTime> {
        match self.held().get(message_id)? {
            Held::Until(expire_time) => *expire_time,
            Held::TakenBack => None,
        }
    }

    /// Keeps a message from leaving; false where it has left or may have.
    pub(super) fn take_back(&self, message_id: &str) -> bool {
        match self.held().get_mut(message_id) {
            Some(held) => {
                *held = Held::TakenBack;
                true
            }
            None => false,
        }
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&self, message_id: &str) {
        self.held().remove(message_id);
    }

    /// It is about to be handed to WhatsApp: from now on it may have left, if it goes.
    pub(super) fn let_go(&self, message_id: &str, now: SystemTime) -> Way {
        match self.held().remove(message_id) {
            Some(Held::TakenBack) => Way::TakenBack,
            Some(Held::Until(Some(end))) if end <= now => Way::Expired,
            Some(Held::Until(_)) | None => Way::Free,
        }
    }

    /// Takes back what has expired, and says which these are.
    pub(super) fn expire(&self, now: SystemTime) -> Vec<String> {
        let mut expired = Vec::new();
        for (message_id, held) in self.held().iter_mut() {
            if matches!(held, Held::Until(Some(end)) if *end <= now) {
                *held = Held::TakenBack;
                expired.push(message_id.clone());
            }
        }
        expired
    }

    /// When the next of them expires.
    pub(super) fn next_expiry(&self) -> Option<SystemTime> {
        let held = self.held();
        let ends = held.values().filter_map(|held| match held {
            Held::Until(end) => *end,
            Held::TakenBack => None,
        });
        ends.min()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        // What is inside is whole after every statement, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_message_leaves_or_is_taken_back_never_both() {
        let leaving = Leaving::default();
        leaving.hold("A", None);
        leaving.hold("B", None);
        assert!(leaving.take_back("A") && leaving.has("A"));
        assert_eq!(leaving.let_go("A", UNIX_EPOCH), Way::TakenBack);
        assert_eq!(leaving.let_go("B", UNIX_EPOCH), Way::Free);
        assert!(!leaving.take_back("B"));
        // One of an earlier run may have left.
        assert!(!leaving.take_back("C"));
        assert_eq!(leaving.let_go("C", UNIX_EPOCH), Way::Free);
    }

    #[test]
    fn what_has_expired_does_not_leave() {
        let leaving = Leaving::default();
        let end = UNIX_EPOCH + Duration::from_secs(1);
        for id in ["A", "B"] {
            leaving.hold(id, Some(end));
        }
        leaving.hold("C", None);
        assert_eq!(leaving.next_expiry(), Some(end));
        assert!(leaving.expire(UNIX_EPOCH).is_empty());
        assert_eq!(leaving.let_go("A", end), Way::Expired);
        assert_eq!(leaving.expire(end), ["B"]);
        assert!(leaving.expire(end).is_empty());
        assert_eq!(leaving.next_expiry(), None);
        assert_eq!(leaving.let_go("B", end), Way::TakenBack);
        assert_eq!(leaving.let_go("C", end), Way::Free);
    }
}
