//! Reading the log and keeping it small.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Mutex, watch},
    time::MissedTickBehavior,
};

use crate::{
    domain::{
        cursor::{Cursor, LogEpoch, Position},
        event_type::EventType,
        ids::InstanceNumber,
        limits,
    },
    events::{
        Page, Run, blanked,
        tail::{self, Tail},
    },
    lifecycle::Shutdown,
    storage::{EventQuery, LogBounds, NewEvent, Result, RetentionPolicy, Storage, StorageError},
};

/// How much of the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long events are kept.
    pub age: Duration,
    /// How long events of the short class are kept.
    pub short_age: Duration,
    /// How many bytes of bodies are kept.
    pub max_bytes: u64,
    /// How often what is too much is removed.
    pub interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(7 * 24 * 60 * 60),
            short_age: Duration::from_secs(60 * 60),
            max_bytes: 2 << 30,
            interval: Duration::from_secs(60),
        }
    }
}

/// Where a reader starts.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// With what comes next.
    Latest,
    /// With the earliest that is kept.
    Earliest,
    /// Right after a cursor.
    After(Cursor),
    /// With the first committed at or after a time.
    Since(SystemTime),
}

/// Why a reader can't go on where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Events after its place were removed by retention.
    Compacted,
    /// Its cursor is of another log.
    EpochMismatch,
    /// Its cursor is newer than the log, as after a restored backup.
    AheadOfLog,
}

/// Events that a reader should have had are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The last place before it.
    pub from: Cursor,
    /// Right before the earliest event that is kept.
    pub earliest: Position,
    /// The newest event.
    pub head: Position,
}

/// A start, found.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Where reading begins: after a gap, at the earliest.
    pub position: Position,
    /// What was lost before it.
    pub gap: Option<Gap>,
    /// Right before the earliest event that is kept.
    pub earliest: Position,
    /// The newest event.
    pub head: Position,
}

/// Which events a reader wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of these instances; `None` is all.
    pub instances: Option<Arc<[InstanceNumber]>>,
    /// Of these types; `None` is all.
    pub event_types: Option<Arc<[EventType]>>,
}

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention overtook the reader.
    #[error("events after the reader's place are gone")]
    Gap(Gap),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    storage: Arc<dyn Storage>,
    tail: Arc<Tail>,
    retention: Retention,
    /// Raised before and after every removal, so odd while one runs: readers ask the store for its
    /// bounds only when this moved.
    removals: Arc<AtomicU64>,
    one_removal: Arc<Mutex<()>>,
}

impl Log {
    /// The log of this store.
    pub fn new(storage: Arc<dyn Storage>, retention: Retention) -> Self {
        Self {
            storage,
            tail: Arc::default(),
            retention,
            removals: Arc::default(),
            one_removal: Arc::default(),
        }
    }

    /// Which log this is.
    pub fn epoch(&self) -> LogEpoch {
        self.storage.log_epoch()
    }

    /// How much is kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// The cursor of a place.
    pub fn cursor(&self, position: Position) -> Cursor {
        Cursor {
            epoch: self.epoch(),
            position,
        }
    }

    /// The newest place.
    pub fn head(&self) -> Position {
        *self.storage.log_head().borrow()
    }

    /// Where the log begins and ends.
    pub async fn bounds(&self) -> Result<LogBounds> {
        self.storage.log_bounds().await
    }

    /// Appends events that belong to no other change.
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<()> {
        self.storage.append_events(events).await
    }

    /// Finds where a start is. A gap is reported, and whoever asked decides whether to go on.
    pub async fn open(&self, start: Start) -> Result<Opening> {
        let bounds = self.bounds().await?;
        // The watch may trail the store by a moment, never the other way round for long.
        let head = bounds.head.max(self.head());
        let earliest = bounds.compacted;
        let gap = |reason, from| {
            Some(Gap {
                reason,
                from,
                earliest,
                head,
            })
        };
        let (position, gap) = match start {
            Start::Latest => (head, None),
            Start::Earliest => (earliest, None),
            Start::Since(time) => {
                let before = self.storage.position_before(time).await?;
                (before.max(earliest), None)
            }
            Start::After(cursor) if cursor.epoch != self.epoch() => {
                (earliest, gap(GapReason::EpochMismatch, cursor))
            }
            Start::After(cursor) if cursor.position > head => {
                (earliest, gap(GapReason::AheadOfLog, cursor))
            }
            Start::After(cursor) if cursor.position < earliest => {
                (earliest, gap(GapReason::Compacted, cursor))
            }
            Start::After(cursor) => (cursor.position, None),
        };
        Ok(Opening {
            position,
            gap,
            earliest,
            head,
        })
    }

    /// A reader at a place.
    pub fn reader(&self, position: Position) -> Reader {
        Reader {
            // Taken before anything is read, so that no commit falls between looking and sleeping.
            head: self.storage.log_head(),
            log: self.clone(),
            position,
            removals_seen: None,
        }
    }

    /// Takes out of the instance's `connection.pairing` events what a phone could be linked with.
    pub async fn blank_pairing(&self, instance: InstanceNumber) -> Result<()> {
        self.storage
            .rewrite_events(instance, EventType::ConnectionPairing, blanked)
            .await
    }

    /// Removes what is too old or too much as of now. Says how many events.
    pub async fn apply_retention(&self, now: SystemTime) -> Result<u64> {
        let policy = RetentionPolicy {
            full_before: now.checked_sub(self.retention.age).unwrap_or(UNIX_EPOCH),
            short_before: now
                .checked_sub(self.retention.short_age)
                .unwrap_or(UNIX_EPOCH),
            max_bytes: self.retention.max_bytes,
        };
        let _alone = self.one_removal.lock().await;
        self.removals.fetch_add(1, Ordering::SeqCst);
        // Readers must come back to even numbers also when this future is dropped half-way.
        let _done = Raise(&self.removals);
        self.storage.apply_retention(policy).await
    }

    /// Keeps the log, and the memory of request ids, small until the shutdown begins.
    pub async fn keep_small(self, shutdown: Shutdown) {
        let mut tick = tokio::time::interval(self.retention.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                _ = tick.tick() => {}
            }
            let now = SystemTime::now();
            match self.apply_retention(now).await {
                Ok(0) => {}
                Ok(removed) => tracing::debug!(removed, "retention removed events"),
                Err(error) => tracing::warn!(%error, "retention failed and will be tried again"),
            }
            let forget = now
                .checked_sub(limits::REQUEST_MEMORY)
                .unwrap_or(UNIX_EPOCH);
            if let Err(error) = self.storage.forget_requests(forget).await {
                tracing::warn!(%error, "old request ids could not be forgotten yet");
            }
        }
    }
}

/// Raises a counter when dropped.
struct Raise<'a>(&'a AtomicU64);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One reader: a place, and nothing else in memory.
pub struct Reader {
    log: Log,
    head: watch::Receiver<Position>,
    position: Position,
    /// The even count of removals at which the place was last known to be good.
    removals_seen: Option<u64>,
}

impl Reader {
    /// Everything up to here was read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many places the reader at this one is behind.
    pub fn lag_after(&self, position: Position) -> u64 {
        self.head.borrow().0.saturating_sub(position.0)
    }

    /// Whether there is something to look at.
    pub fn is_behind(&self) -> bool {
        self.lag_after(self.position) > 0
    }

    /// Goes on elsewhere, as after a gap.
    pub fn skip_to(&mut self, position: Position) {
        self.position = position;
    }

    /// The next events, possibly none, and moves past them. Never passes over one that is wanted.
    pub async fn read(
        &mut self,
        wanted: &Wanted,
        up_to: Option<Position>,
        limit: usize,
        max_bytes: usize,
    ) -> std::result::Result<Page, ReadError> {
        let shared = tail::Query {
            after: self.position,
            up_to,
            wanted,
            limit,
            max_bytes,
        };
        // What the tail has it has without a hole, so nothing there can have been removed unseen.
        if let Some((page, looked_at)) = self.log.tail.read(&*self.log.storage, shared) {
            self.position = self.position.max(looked_at);
            return Ok(page);
        }
        let page = self
            .log
            .storage
            .read_events(EventQuery {
                after: self.position,
                up_to,
                instances: wanted.instances.clone(),
                event_types: wanted.event_types.clone(),
                limit,
                max_bytes,
            })
            .await?;
        self.check_nothing_removed().await?;
        self.position = self.position.max(page.looked_at);
        Ok(Page::whole(Run::seal(self.log.epoch(), &page.events)))
    }

    /// Asked after the read: what was there then can't have been removed before it.
    async fn check_nothing_removed(&mut self) -> std::result::Result<(), ReadError> {
        let removals = self.log.removals.load(Ordering::SeqCst);
        if self.removals_seen == Some(removals) {
            return Ok(());
        }
        let bounds = self.log.bounds().await?;
        if bounds.compacted > self.position {
            return Err(ReadError::Gap(Gap {
                reason: GapReason::Compacted,
                from: self.log.cursor(self.position),
                earliest: bounds.compacted,
                head: bounds.head,
            }));
        }
        self.removals_seen = removals.is_multiple_of(2).then_some(removals);
        Ok(())
    }

    /// Waits until there is something to look at.
    pub async fn wait(&mut self) {
        let position = self.position;
        if self.head.wait_for(|head| *head > position).await.is_err() {
            // The store is gone: nothing will come, and whoever waits has other reasons to stop.
            std::future::pending::<()>().await;
        }
    }
}
