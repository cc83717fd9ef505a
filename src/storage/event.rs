//! Events as they are kept, and which of them are wanted.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;

use crate::domain::{
    cursor::Position,
    event_type::EventType,
    ids::{EventId, InstanceNumber},
};

/// An event on its way into the log.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub instance: InstanceNumber,
    /// What it is.
    pub event_type: EventType,
    /// The encoded event but for cursor, instance_sequence and record_time, which the commit decides.
    pub body: Bytes,
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place.
    pub position: Position,
    /// Whose it is.
    pub instance: InstanceNumber,
    /// Its number among the events of the instance, from 1, without a hole.
    pub instance_sequence: u64,
    /// What it is.
    pub event_type: EventType,
    /// When it was committed.
    pub record_time: SystemTime,
    /// As in `NewEvent`.
    pub body: Bytes,
}

/// Which events a reader wants.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Only after this place.
    pub after: Position,
    /// Only up to this place; `None` is the head.
    pub up_to: Option<Position>,
    /// Only of these instances; `None` is all, an empty list is none.
    pub instances: Option<Arc<[InstanceNumber]>>,
    /// Only of these types; `None` is all, an empty list is none.
    pub event_types: Option<Arc<[EventType]>>,
    /// Most events.
    pub limit: usize,
    /// Stop once the bodies add up to this many bytes; the first event is returned whatever its size.
    pub max_bytes: usize,
}

/// A page of events.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// In the order of the log.
    pub events: Vec<StoredEvent>,
    /// Everything up to here was looked at: the last event's place, or, where no more match, the
    /// head (or `up_to`) as of the read.
    pub looked_at: Position,
}

/// The newest events, as far as they are in memory.
#[derive(Clone, Debug)]
pub struct RecentEvents {
    /// What `log_rewrites` said of these.
    pub rewrites: u64,
    /// In the order of the log, without a hole.
    pub events: Vec<StoredEvent>,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Events of full retention at and before this place were removed by age or size: a reader
    /// whose place is before it has missed something.
    pub compacted: Position,
    /// The newest event, or the newest there ever was.
    pub head: Position,
    /// When the earliest kept event was committed.
    pub earliest_time: Option<SystemTime>,
    /// When the newest kept event was committed.
    pub head_time: Option<SystemTime>,
    /// How many are kept.
    pub count: u64,
    /// How many bytes their bodies take.
    pub bytes: u64,
}

/// How much of the log to keep.
#[derive(Clone, Copy, Debug)]
pub struct RetentionPolicy {
    /// Events of full retention committed before this time go.
    pub full_before: SystemTime,
    /// Events of short retention committed before this time go.
    pub short_before: SystemTime,
    /// Then the oldest go until the bodies take no more than this.
    pub max_bytes: u64,
}

/// Makes the events of a change from the row as it is after it, inside the transaction. May be
/// called more than once; only the result of the last call is committed.
pub type EventsOf<Row> = Box<dyn Fn(&Row) -> Vec<NewEvent> + Send + Sync>;

/// Makes a new body of a stored one; `None` leaves it as it is.
pub type BodyRewrite = fn(&[u8]) -> Option<Vec<u8>>;
