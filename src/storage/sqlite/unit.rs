//! The unit of work: one transaction with what is still to be written in it.
//!
//! Owns the counters of the log. Rows that many jobs write (events, messages to send, records of
//! devices) are collected here and written together right before the commit; whoever must see them
//! earlier calls `flush`. After a rollback everything in memory is read again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use sqlx::{Row as _, SqliteConnection};

use super::{error, messages, requests, rows::Script, time, transaction::Transaction};
use crate::{
    domain::{
        cursor::{LogEpoch, Position},
        event_type::Retention,
        ids::InstanceNumber,
    },
    storage::{
        MessageRow, NewEvent, Result, StoredEvent,
        device::{RecordChange, RecordKind},
    },
};

/// What `log_state`, `event_sequence` and `instance` say, kept in memory.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) epoch: LogEpoch,
    pub(super) head: u64,
    pub(super) compacted: u64,
    pub(super) event_count: u64,
    pub(super) event_bytes: u64,
    last_record_time: i64,
    pub(super) last_instance: u32,
    sequences: HashMap<InstanceNumber, u64>,
    pub(super) instances: HashSet<InstanceNumber>,
}

impl Counters {
    pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Self> {
        let state = sqlx::query(
            "SELECT epoch, head, compacted, event_count, event_bytes, last_record_time, last_instance \
             FROM log_state",
        )
        .fetch_one(&mut *connection)
        .await?;
        let mut sequences = HashMap::new();
        for row in sqlx::query("SELECT instance, last FROM event_sequence")
            .fetch_all(&mut *connection)
            .await?
        {
            sequences.insert(
                InstanceNumber(row.try_get(0)?),
                row.try_get::<i64, _>(1)? as u64,
            );
        }
        let instances = sqlx::query_scalar("SELECT number FROM instance")
            .fetch_all(connection)
            .await?
            .into_iter()
            .map(InstanceNumber)
            .collect();
        Ok(Self {
            epoch: LogEpoch(state.try_get::<i64, _>(0)? as u64),
            head: state.try_get::<i64, _>(1)? as u64,
            compacted: state.try_get::<i64, _>(2)? as u64,
            event_count: state.try_get::<i64, _>(3)? as u64,
            event_bytes: state.try_get::<i64, _>(4)? as u64,
            last_record_time: state.try_get(5)?,
            last_instance: state.try_get(6)?,
            sequences,
            instances,
        })
    }
}

struct EventRow {
    position: u64,
    sequence: u64,
    record_time: i64,
    event: NewEvent,
}

impl EventRow {
    /// As it will be read.
    fn stored(self) -> StoredEvent {
        StoredEvent {
            position: Position(self.position),
            instance: self.event.instance,
            instance_sequence: self.sequence,
            event_type: self.event.event_type,
            record_time: time::from_micros(self.record_time),
            body: self.event.body,
        }
    }
}

/// What a commit did to the log.
pub(super) struct Committed {
    /// Whether there was anything to commit.
    pub(super) wrote: bool,
    /// Where the log ends now.
    pub(super) head: Position,
    /// What was appended.
    pub(super) events: Vec<StoredEvent>,
    /// Whether events were changed or removed.
    pub(super) rewrote: bool,
}

/// A record's key, its device's included.
pub(super) type RecordKey = (InstanceNumber, RecordKind, Arc<str>);

/// See the module.
pub(super) struct Unit {
    pub(super) transaction: Transaction,
    /// `None` after a rollback, until they are read again.
    counters: Option<Counters>,
    changed: bool,
    events: Vec<EventRow>,
    /// Events that are written but not committed yet.
    written: Vec<StoredEvent>,
    /// Whether events in the database were changed or removed.
    rewrote: bool,
    touched: BTreeSet<InstanceNumber>,
    outbound: Vec<MessageRow>,
    /// The last word on each record; `None` removes it.
    records: HashMap<RecordKey, Option<Bytes>>,
    /// Keys of messages and requests that this transaction was the first to store and that no job
    /// has claimed yet.
    pub(super) new_messages: HashSet<messages::Key>,
    pub(super) new_requests: HashSet<requests::Key>,
    /// Messages whose status this transaction has raised, by instance and id, and that no job has
    /// claimed yet.
    pub(super) raised: HashMap<messages::RaisedKey, Vec<MessageRow>>,
}

impl Unit {
    pub(super) fn new(connection: SqliteConnection, counters: Counters) -> Self {
        Self {
            transaction: Transaction::new(connection),
            counters: Some(counters),
            changed: false,
            events: Vec::new(),
            written: Vec::new(),
            rewrote: false,
            touched: BTreeSet::new(),
            outbound: Vec::new(),
            records: HashMap::new(),
            new_messages: HashSet::new(),
            new_requests: HashSet::new(),
            raised: HashMap::new(),
        }
    }

    pub(super) async fn begin(&mut self) -> Result<()> {
        if self.counters.is_none() {
            self.counters = Some(Counters::load(self.transaction.connection().await?).await?);
        }
        Ok(())
    }

    /// For a statement of this transaction.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.transaction.connection().await
    }

    /// Writes what is left and commits.
    pub(super) async fn commit(&mut self) -> Result<Committed> {
        self.write(true).await?;
        let wrote = self.transaction.end();
        self.new_messages.clear();
        self.new_requests.clear();
        self.raised.clear();
        Ok(Committed {
            wrote,
            head: Position(self.counters()?.head),
            events: std::mem::take(&mut self.written),
            rewrote: std::mem::take(&mut self.rewrote),
        })
    }

    /// Events in the database are about to be changed or removed.
    pub(super) fn rewrites_events(&mut self) {
        self.rewrote = true;
    }

    pub(super) async fn roll_back(&mut self) {
        self.transaction.roll_back().await;
        self.counters = None;
        self.changed = false;
        self.events.clear();
        self.written.clear();
        self.rewrote = false;
        self.touched.clear();
        self.outbound.clear();
        self.records.clear();
        self.new_messages.clear();
        self.new_requests.clear();
        self.raised.clear();
    }

    pub(super) fn counters(&mut self) -> Result<&Counters> {
        self.counters.as_ref().ok_or_else(error::closed)
    }

    /// For changing; written at the flush.
    pub(super) fn counters_mut(&mut self) -> Result<&mut Counters> {
        self.changed = true;
        self.counters.as_mut().ok_or_else(error::closed)
    }

    /// Whether this instance existed and doesn't any more. Numbers are given from 1 and never
    /// reused, so one that was given and is not there was deleted.
    pub(super) fn is_deleted(&mut self, instance: InstanceNumber) -> Result<bool> {
        let counters = self.counters()?;
        let given = (1..=counters.last_instance).contains(&instance.0);
        Ok(given && !counters.instances.contains(&instance))
    }

    /// Gives events their places. After its tombstone an instance has nothing more to say: late
    /// events of a deleted one are dropped.
    pub(super) fn append(&mut self, events: impl IntoIterator<Item = NewEvent>) -> Result<()> {
        for event in events {
            if !self.is_deleted(event.instance)? {
                self.append_last(event)?;
            }
        }
        Ok(())
    }

    /// Gives an event its place, whether its instance is there or not.
    pub(super) fn append_last(&mut self, event: NewEvent) -> Result<()> {
        let now = time::micros(SystemTime::now());
        let counters = self.counters_mut()?;
        counters.head += 1;
        counters.event_count += 1;
        counters.event_bytes += event.body.len() as u64;
        // The clock may go back; the log's never does.
        counters.last_record_time = counters.last_record_time.max(now);
        let sequence = counters.sequences.entry(event.instance).or_default();
        *sequence += 1;
        let row = EventRow {
            position: counters.head,
            sequence: *sequence,
            record_time: counters.last_record_time,
            event,
        };
        self.touched.insert(row.event.instance);
        self.events.push(row);
        Ok(())
    }

    pub(super) fn insert_outbound(&mut self, message: MessageRow) {
        self.outbound.push(message);
    }

    /// Whether one of these messages is collected but not written yet.
    pub(super) fn holds_outbound(&self, instance: InstanceNumber, ids: &[String]) -> bool {
        self.outbound
            .iter()
            .any(|row| row.instance == instance && ids.contains(&row.message_id))
    }

    pub(super) fn change_record(&mut self, instance: InstanceNumber, change: RecordChange) {
        match change {
            RecordChange::Put { kind, key, value } => {
                self.records.insert((instance, kind, key), Some(value));
            }
            RecordChange::Delete { kind, key } => {
                self.records.insert((instance, kind, key), None);
            }
        }
    }

    /// Writes everything that was collected.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.write(false).await
    }

    /// Writes everything that was collected and then, if so wished, commits what was written.
    async fn write(&mut self, commits: bool) -> Result<()> {
        let counters = self.counters.as_ref().ok_or_else(error::closed)?;
        let mut script = Script::new(&mut self.transaction);
        let outbound = std::mem::take(&mut self.outbound);
        script
            .values(messages::INSERT, &outbound, "", messages::push_values)
            .await?;
        write_records(&mut script, &mut self.records).await?;
        write_events(&mut script, &self.events).await?;
        let sequences: Vec<_> = std::mem::take(&mut self.touched)
            .into_iter()
            .map(|instance| (instance, counters.sequences.get(&instance).copied()))
            .collect();
        script
            .values(
                "INSERT INTO event_sequence (instance, last)",
                &sequences,
                "ON CONFLICT (instance) DO UPDATE SET last = excluded.last",
                |mut row, (instance, last)| {
                    row.push_bind(instance.0)
                        .push_bind(last.unwrap_or_default() as i64);
                },
            )
            .await?;
        if std::mem::take(&mut self.changed) {
            write_state(&mut script, counters).await?;
        }
        if commits {
            script.commit().await?;
        } else {
            script.run().await?;
        }
        self.written
            .extend(self.events.drain(..).map(EventRow::stored));
        Ok(())
    }
}

async fn write_records(
    script: &mut Script<'_>,
    records: &mut HashMap<RecordKey, Option<Bytes>>,
) -> Result<()> {
    let mut put = Vec::new();
    let mut gone = Vec::new();
    for (key, value) in records.drain() {
        match value {
            Some(value) => put.push((key, value)),
            None => gone.push(key),
        }
    }
    let now = time::micros(SystemTime::now()) / 1_000_000;
    script
        .values(
            "INSERT INTO device_record (instance, kind, key, value, time)",
            &put,
            "ON CONFLICT (instance, kind, key) DO UPDATE SET value = excluded.value, time = excluded.time",
            |mut row, ((instance, kind, key), value)| {
                row.push_bind(instance.0)
                    .push_bind(*kind as i16)
                    .push_bind(&**key)
                    .push_bind(&value[..])
                    .push_bind(now);
            },
        )
        .await?;
    script
        .delete_keys(
            "DELETE FROM device_record WHERE (instance, kind, key)",
            &gone,
            |mut row, (instance, kind, key)| {
                row.push_bind(instance.0)
                    .push_bind(*kind as i16)
                    .push_bind(&**key);
            },
        )
        .await
}

async fn write_events(script: &mut Script<'_>, events: &[EventRow]) -> Result<()> {
    script
        .values(
            "INSERT INTO event \
             (position, id, instance, instance_sequence, event_type, short, record_time, body)",
            events,
            "",
            |mut row, event| {
                let kind = event.event.event_type;
                row.push_bind(event.position as i64)
                    .push_bind(&event.event.id.0.as_bytes()[..])
                    .push_bind(event.event.instance.0)
                    .push_bind(event.sequence as i64)
                    .push_bind(kind.as_str())
                    .push_bind(kind.retention() == Retention::Short)
                    .push_bind(event.record_time)
                    .push_bind(&event.event.body[..]);
            },
        )
        .await
}

async fn write_state(script: &mut Script<'_>, counters: &Counters) -> Result<()> {
    let statement = script.next(1).await?;
    let mut set = |column: &str, value: i64| {
        statement.push(column).push(" = ").push_bind(value);
    };
    set("UPDATE log_state SET head", counters.head as i64);
    set(", compacted", counters.compacted as i64);
    set(", event_count", counters.event_count as i64);
    set(", event_bytes", counters.event_bytes as i64);
    set(", last_record_time", counters.last_record_time);
    set(", last_instance", counters.last_instance.into());
    Ok(())
}
