//! The end of the log in memory, sealed once and shared by all readers there.
//!
//! Most readers are at the end most of the time, and then an event costs each of them a slice of a
//! shared buffer. Owns that buffer, its bound, and when it is thrown away: whenever committed events
//! were changed or removed. A reader that is further behind asks the store instead, so nothing here
//! is needed for anything but speed, and no reader is waited for.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    log::Wanted,
    sealed::{Page, Run, Sealed},
};
use crate::{domain::cursor::Position, storage::Storage};

/// Most events that are kept here, …
const EVENTS: usize = 8_192;

/// … and most bytes of them.
const BYTES: usize = 8 << 20;

/// Most events that are looked at, or sealed, at once under the lock.
const LOOK: usize = 1_024;

/// See the module.
#[derive(Default)]
pub(super) struct Tail(RwLock<Runs>);

#[derive(Default)]
struct Runs {
    /// The state of the store that these are of.
    rewrites: u64,
    /// All events after this place, …
    after: Position,
    /// … up to this one, are here.
    up_to: Position,
    runs: VecDeque<Arc<Run>>,
    events: usize,
    bytes: usize,
}

/// What a reader asks for.
#[derive(Clone, Copy)]
pub(super) struct Query<'asked> {
    pub(super) after: Position,
    pub(super) up_to: Option<Position>,
    pub(super) wanted: &'asked Wanted,
    pub(super) limit: usize,
    pub(super) max_bytes: usize,
}

impl Tail {
    /// The next events and the place up to which they were looked for; `None` if the reader is
    /// further behind than what is kept here.
    pub(super) fn read(&self, storage: &dyn Storage, query: Query<'_>) -> Option<(Page, Position)> {
        let rewrites = storage.log_rewrites();
        {
            let runs = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if runs.rewrites == rewrites && (runs.after..runs.up_to).contains(&query.after) {
                return Some(runs.page(query));
            }
        }
        // Whoever comes first fetches and seals for all.
        let mut runs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if runs.rewrites != rewrites {
            *runs = Runs {
                rewrites,
                ..Runs::default()
            };
        }
        if query.after < runs.after {
            return None;
        }
        if query.after >= runs.up_to {
            let recent = storage.recent_events(query.after, LOOK)?;
            if recent.rewrites != runs.rewrites {
                // Changed this very moment: the next read begins anew.
                return None;
            }
            if query.after > runs.up_to {
                // Nobody was here for a while.
                *runs = Runs {
                    rewrites,
                    after: query.after,
                    up_to: query.after,
                    ..Runs::default()
                };
            }
            runs.push(Run::seal(storage.log_epoch(), &recent.events));
        }
        Some(runs.page(query))
    }
}

impl Runs {
    fn push(&mut self, run: Run) {
        let Some(last) = run.last() else { return };
        self.up_to = last;
        self.events += run.len();
        self.bytes += run.size();
        self.runs.push_back(Arc::new(run));
        while self.events > EVENTS || self.bytes > BYTES {
            // The newest stays, whatever its size: it is what everybody waits for.
            if self.runs.len() == 1 {
                return;
            }
            let Some(oldest) = self.runs.pop_front() else {
                return;
            };
            self.events -= oldest.len();
            self.bytes -= oldest.size();
            self.after = oldest.last().unwrap_or(self.after);
        }
    }

    /// What is wanted of what comes after a place that is covered.
    fn page(&self, query: Query<'_>) -> (Page, Position) {
        let end = query
            .up_to
            .map_or(self.up_to, |up_to| up_to.min(self.up_to));
        let mut page = Page::default();
        let mut looked_at = query.after;
        let (mut looked, mut count, mut bytes) = (0, 0, 0);
        let first = self
            .runs
            .partition_point(|run| run.last() <= Some(query.after));
        for run in self.runs.range(first..) {
            let mut picked = Vec::new();
            let mut full = false;
            for index in run.count_up_to(query.after)..run.count_up_to(end) {
                let Some(event) = run.get(index) else { break };
                let wanted = query.wanted.holds(&event);
                if looked >= LOOK || (wanted && count >= query.limit) {
                    full = true;
                    break;
                }
                if wanted {
                    bytes += event.size();
                    if bytes > query.max_bytes && count > 0 {
                        full = true;
                        break;
                    }
                    picked.push(index);
                    count += 1;
                }
                looked += 1;
                looked_at = event.position();
            }
            page.pick(run, picked);
            if full {
                return (page, looked_at);
            }
        }
        // What lies between the last event here and the end holds nothing.
        if query.limit > 0 {
            looked_at = looked_at.max(end);
        }
        (page, looked_at)
    }
}

impl Wanted {
    /// Whether this event is among them.
    fn holds(&self, event: &Sealed<'_>) -> bool {
        self.instances
            .as_ref()
            .is_none_or(|instances| instances.contains(&event.instance()))
            && self
                .event_types
                .as_ref()
                .is_none_or(|types| types.contains(&event.event_type()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        domain::{event_type::EventType, ids::InstanceNumber},
        events::compose,
        grpc::fake::{self, Fake},
        proto::v1::{self, event::Payload},
        storage::EventQuery,
    };

    async fn append(store: &Fake, instance: u32, count: usize) {
        let payload = || {
            Payload::ConnectionPairing(v1::ConnectionPairing {
                qr_text: "text".to_owned(),
                ..Default::default()
            })
        };
        let row = fake::instance(InstanceNumber(instance));
        let event = || compose(&row, payload(), SystemTime::now(), "");
        let events = (0..count).map(|_| event()).collect();
        store.append_events(events).await.unwrap();
    }

    fn read(tail: &Tail, store: &Fake, query: Query<'_>) -> Option<(Vec<u64>, u64)> {
        let (page, looked_at) = tail.read(store, query)?;
        let places = page.iter().map(|event| event.position().0).collect();
        Some((places, looked_at.0))
    }

    fn after(position: u64, wanted: &Wanted) -> Query<'_> {
        Query {
            after: Position(position),
            up_to: None,
            wanted,
            limit: 100,
            max_bytes: usize::MAX,
        }
    }

    #[tokio::test]
    async fn readers_at_the_end_share_what_one_of_them_sealed() {
        let (tail, store, all) = (Tail::default(), Fake::new(&[]), Wanted::default());
        append(&store, 1, 3).await;
        let query = after(0, &all);
        let (page, _) = tail.read(&store, query).unwrap();
        let (again, _) = tail.read(&store, query).unwrap();
        let start = |page: &Page| {
            let mut batch = crate::events::Batch::new();
            page.iter()
                .for_each(|event| assert!(batch.push(event, usize::MAX)));
            let pieces = batch.take();
            assert_eq!(pieces.len(), 1);
            pieces[0].as_ptr()
        };
        assert_eq!(start(&page), start(&again));
        append(&store, 2, 2).await;
        assert_eq!(
            read(&tail, &store, query),
            Some((vec![1, 2, 3], 3)),
            "a page ends where it was sealed"
        );
        assert_eq!(read(&tail, &store, after(3, &all)), Some((vec![4, 5], 5)));
        assert_eq!(
            read(&tail, &store, query),
            Some((vec![1, 2, 3, 4, 5], 5)),
            "and goes over all that was"
        );
        assert_eq!(read(&tail, &store, after(5, &all)), Some((vec![], 5)));
    }

    #[tokio::test]
    async fn a_page_is_what_was_asked_for() {
        let (tail, store, all) = (Tail::default(), Fake::new(&[]), Wanted::default());
        append(&store, 1, 2).await;
        append(&store, 2, 2).await;
        append(&store, 1, 2).await;
        let second = Wanted {
            instances: Some([InstanceNumber(2)].into()),
            ..Wanted::default()
        };
        let other = Wanted {
            event_types: Some([EventType::MessageSent].into()),
            ..Wanted::default()
        };
        let limit = |query, limit| Query { limit, ..query };
        let up_to = |query, up_to| Query {
            up_to: Some(Position(up_to)),
            ..query
        };
        let cases = [
            (after(0, &second), vec![3, 4], 6),
            (limit(after(0, &second), 1), vec![3], 3),
            (limit(after(3, &second), 1), vec![4], 6),
            (after(0, &other), vec![], 6),
            (up_to(after(0, &all), 4), vec![1, 2, 3, 4], 4),
            (up_to(after(4, &all), 4), vec![], 4),
            (limit(after(2, &all), 0), vec![], 2),
            (limit(after(1, &all), 3), vec![2, 3, 4], 4),
        ];
        for (query, places, looked_at) in cases {
            assert_eq!(read(&tail, &store, query), Some((places, looked_at)));
        }
        let one = Query {
            max_bytes: 1,
            ..after(0, &all)
        };
        assert_eq!(read(&tail, &store, one), Some((vec![1], 1)));
    }

    #[tokio::test]
    async fn nothing_outlives_a_rewrite() {
        let (tail, store, all) = (Tail::default(), Fake::new(&[]), Wanted::default());
        append(&store, 1, 3).await;
        assert!(read(&tail, &store, after(0, &all)).is_some());
        let blank = crate::events::blanked;
        store
            .rewrite_events(InstanceNumber(1), EventType::ConnectionPairing, blank)
            .await
            .unwrap();
        assert_eq!(read(&tail, &store, after(0, &all)), None);
        assert_eq!(read(&tail, &store, after(2, &all)), None);
        append(&store, 1, 1).await;
        assert_eq!(read(&tail, &store, after(3, &all)), Some((vec![4], 4)));
        assert_eq!(read(&tail, &store, after(0, &all)), None);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_the_store_has_the_rest() {
        let (tail, store, all) = (Tail::default(), Fake::new(&[]), Wanted::default());
        let mut position = 0;
        for _ in 0..12 {
            append(&store, 1, 1_000).await;
            let mut query = after(position, &all);
            query.limit = usize::MAX;
            let (page, looked_at) = tail.read(&store, query).unwrap();
            assert_eq!(page.len(), 1_000);
            position = looked_at.0;
        }
        assert!(tail.0.read().unwrap().events <= EVENTS);
        // The fake's memory holds everything, the tail does not.
        assert_eq!(read(&tail, &store, after(0, &all)), None);
        let rest = store.read_events(EventQuery {
            limit: 1,
            max_bytes: 1,
            ..EventQuery::default()
        });
        assert_eq!(rest.await.unwrap().events.len(), 1);
        assert!(read(&tail, &store, after(position - 1, &all)).is_some());
        // A reader that was away begins the tail anew.
        append(&store, 1, 10).await;
        let away = after(position + 5, &all);
        assert_eq!(read(&tail, &store, away).unwrap().0.len(), 5);
        assert_eq!(read(&tail, &store, after(position, &all)), None);
    }
}
