//! The newest events as they were committed: a reader at the end of the log needs no statement.
//!
//! Owns a bounded copy. What is changed or removed in the database is not mended here: the copy is
//! thrown away and begins anew with the next commit.

use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock},
};

use crate::{
    domain::cursor::Position,
    storage::{RecentEvents, StoredEvent},
};

/// Most events, …
const EVENTS: usize = 4_096;

/// … and most bytes of their bodies.
const BYTES: usize = 4 << 20;

/// See the module.
pub(super) struct Recent(RwLock<Kept>);

struct Kept {
    rewrites: u64,
    /// All events after this place are here.
    after: Position,
    events: VecDeque<StoredEvent>,
    bytes: usize,
}

impl Recent {
    /// Of a log that ends here.
    pub(super) fn new(head: Position) -> Self {
        Self(RwLock::new(Kept {
            rewrites: 0,
            after: head,
            events: VecDeque::new(),
            bytes: 0,
        }))
    }

    /// What a commit appended, in order. Before anybody is told that the log has grown.
    pub(super) fn append(&self, events: Vec<StoredEvent>) {
        if events.is_empty() {
            return;
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            kept.bytes += event.body.len();
            kept.events.push_back(event);
        }
        while kept.events.len() > EVENTS || kept.bytes > BYTES {
            let Some(oldest) = kept.events.pop_front() else {
                break;
            };
            kept.bytes -= oldest.body.len();
            kept.after = oldest.position;
        }
    }

    /// A commit changed or removed events; the log ends here now.
    pub(super) fn forget(&self, head: Position) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Kept {
            rewrites: kept.rewrites + 1,
            after: head,
            events: VecDeque::new(),
            bytes: 0,
        };
    }

    /// How often events were changed or removed.
    pub(super) fn rewrites(&self) -> u64 {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.rewrites
    }

    /// The first events after a place; `None` if one of them may be missing here.
    pub(super) fn after(&self, position: Position, limit: usize) -> Option<RecentEvents> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if position < kept.after {
            return None;
        }
        let first = kept
            .events
            .partition_point(|event| event.position <= position);
        Some(RecentEvents {
            rewrites: kept.rewrites,
            events: kept.events.range(first..).take(limit).cloned().collect(),
        })
    }
}
