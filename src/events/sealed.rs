//! Events as readers get them: complete, encoded, and encoded once however many readers there are.
//!
//! Owns what the commit adds to an event's bytes and how events become the answer to a call. A run
//! is a stretch of the log in one buffer; what a reader wants of it is a list of slices, and nothing
//! is copied before the socket.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};

use super::timestamp;
use crate::{
    domain::{
        cursor::{Cursor, LogEpoch, Position},
        event_type::EventType,
        ids::InstanceNumber,
    },
    proto::v1,
    storage::StoredEvent,
};

/// Field of the events in EventBatch, ListEventsResponse and GetEventResponse alike.
const EVENTS_FIELD: u32 = 1;

/// Room for what the commit adds to a body and for the field around it.
const ADDED: usize = 96;

/// What only the commit decides.
fn tail(epoch: LogEpoch, event: &StoredEvent) -> v1::Event {
    v1::Event {
        cursor: Cursor {
            epoch,
            position: event.position,
        }
        .to_string(),
        instance_sequence: event.instance_sequence,
        record_time: Some(timestamp(event.record_time)),
        ..Default::default()
    }
}

/// Events one after the other in one buffer, in the order of the log.
#[derive(Debug)]
pub struct Run {
    bytes: Bytes,
    events: Vec<Placed>,
}

/// Where an event is in its run, and what filters look at.
#[derive(Clone, Copy, Debug)]
struct Placed {
    position: Position,
    instance: InstanceNumber,
    event_type: EventType,
    begin: usize,
    end: usize,
}

/// An event of a run.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'run> {
    bytes: &'run Bytes,
    placed: &'run Placed,
}

impl Run {
    /// Completes and encodes these events.
    pub fn seal(epoch: LogEpoch, events: &[StoredEvent]) -> Self {
        let room = events.iter().map(|event| event.body.len() + ADDED).sum();
        let mut bytes = BytesMut::with_capacity(room);
        let mut placed = Vec::with_capacity(events.len());
        for event in events {
            let tail = tail(epoch, event);
            let length = event.body.len() + tail.encoded_len();
            let begin = bytes.len();
            encode_key(EVENTS_FIELD, WireType::LengthDelimited, &mut bytes);
            encode_varint(length as u64, &mut bytes);
            bytes.extend_from_slice(&event.body);
            tail.encode_raw(&mut bytes);
            placed.push(Placed {
                position: event.position,
                instance: event.instance,
                event_type: event.event_type,
                begin,
                end: bytes.len(),
            });
        }
        Self {
            bytes: bytes.freeze(),
            events: placed,
        }
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded events.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The last event's place.
    pub fn last(&self) -> Option<Position> {
        self.events.last().map(|placed| placed.position)
    }

    /// How many events are at or before this place.
    pub fn count_up_to(&self, position: Position) -> usize {
        self.events
            .partition_point(|placed| placed.position <= position)
    }

    /// The event with this index.
    pub fn get(&self, index: usize) -> Option<Sealed<'_>> {
        Some(Sealed {
            bytes: &self.bytes,
            placed: self.events.get(index)?,
        })
    }
}

impl Sealed<'_> {
    /// Its place.
    pub fn position(&self) -> Position {
        self.placed.position
    }

    /// Whose it is.
    pub fn instance(&self) -> InstanceNumber {
        self.placed.instance
    }

    /// What it is.
    pub fn event_type(&self) -> EventType {
        self.placed.event_type
    }

    /// How many bytes it is as a field.
    pub fn size(&self) -> usize {
        self.placed.end - self.placed.begin
    }
}

/// Events that a reader got at once, in the order of the log.
#[derive(Debug, Default)]
pub struct Page {
    picked: Vec<(Arc<Run>, Vec<usize>)>,
}

impl Page {
    /// All events of a run.
    pub fn whole(run: Run) -> Self {
        let all = (0..run.len()).collect();
        Self {
            picked: vec![(Arc::new(run), all)],
        }
    }

    /// Adds events of a run by their indexes.
    pub(super) fn pick(&mut self, run: &Arc<Run>, indexes: Vec<usize>) {
        if !indexes.is_empty() {
            self.picked.push((run.clone(), indexes));
        }
    }

    /// The events.
    pub fn iter(&self) -> impl Iterator<Item = Sealed<'_>> {
        self.picked
            .iter()
            .flat_map(|(run, indexes)| indexes.iter().filter_map(|index| run.get(*index)))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.picked.iter().map(|(_, indexes)| indexes.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.picked.iter().all(|(_, indexes)| indexes.is_empty())
    }
}

/// Events put together for one answer: the encoded `events` of an EventBatch or ListEventsResponse,
/// or, if there is one only, the `event` of a GetEventResponse.
#[derive(Debug, Default)]
pub struct Batch {
    pieces: Vec<Piece>,
    size: usize,
    count: usize,
}

/// A stretch of a run's buffer.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    begin: usize,
    end: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event, unless the batch would grow beyond `max_bytes`; the first is taken whatever
    /// its size. Says whether it was added.
    #[must_use]
    pub fn push(&mut self, event: Sealed<'_>, max_bytes: usize) -> bool {
        if self.count > 0 && self.size + event.size() > max_bytes {
            return false;
        }
        let Placed { begin, end, .. } = *event.placed;
        match self.pieces.last_mut() {
            // Neighbours travel as one.
            Some(last) if last.end == begin && last.bytes.as_ptr() == event.bytes.as_ptr() => {
                last.end = end;
            }
            _ => self.pieces.push(Piece {
                bytes: event.bytes.clone(),
                begin,
                end,
            }),
        }
        self.size += event.size();
        self.count += 1;
        true
    }

    /// How many events.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded events, in pieces, and an empty batch again.
    pub fn take(&mut self) -> Vec<Bytes> {
        let taken = std::mem::take(self);
        let slice = |piece: Piece| piece.bytes.slice(piece.begin..piece.end);
        taken.pieces.into_iter().map(slice).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{events::compose, grpc::fake};
    use v1::event::Payload;

    const EPOCH: LogEpoch = LogEpoch(9);

    fn stored(position: u64) -> StoredEvent {
        let payload = Payload::ConnectionPairing(v1::ConnectionPairing {
            qr_text: "text".to_owned(),
            ..Default::default()
        });
        let new = compose(
            &fake::instance(InstanceNumber(4)),
            payload,
            UNIX_EPOCH,
            "a/b/c",
        );
        StoredEvent {
            position: Position(position),
            instance: new.instance,
            instance_sequence: 3,
            event_type: new.event_type,
            record_time: UNIX_EPOCH + Duration::from_secs(20),
            body: new.body,
        }
    }

    fn joined(batch: &mut Batch) -> Bytes {
        batch.take().concat().into()
    }

    #[test]
    fn a_delivered_event_is_complete() {
        let run = Run::seal(EPOCH, &[stored(7)]);
        let mut batch = Batch::new();
        assert!(batch.push(run.get(0).unwrap(), 0));
        let answer = v1::GetEventResponse::decode(joined(&mut batch)).unwrap();
        let event = answer.event.unwrap();
        let cursor = Cursor::parse(&event.cursor).unwrap();
        assert_eq!((cursor.epoch, cursor.position), (EPOCH, Position(7)));
        assert_eq!(event.r#type, "connection.pairing");
        assert_eq!(event.instance_number, 4);
        assert_eq!(event.instance_sequence, 3);
        assert_eq!(event.dedupe_key, "a/b/c");
        assert_eq!(event.record_time.unwrap().seconds, 20);
    }

    #[test]
    fn a_batch_is_what_the_contract_says() {
        let events = [stored(1), stored(2), stored(3), stored(4)];
        let run = Run::seal(EPOCH, &events);
        let other = Run::seal(EPOCH, &[stored(5)]);
        let mut batch = Batch::new();
        assert!(batch.push(run.get(0).unwrap(), 1), "the first has no limit");
        assert!(!batch.push(run.get(1).unwrap(), 100));
        for index in [1, 3] {
            assert!(batch.push(run.get(index).unwrap(), 10_000));
        }
        assert!(batch.push(other.get(0).unwrap(), 10_000));
        assert_eq!(batch.count(), 4);
        let size = batch.size();
        let pieces = batch.take();
        // Two neighbours, one after a hole, one of another run.
        assert_eq!(pieces.len(), 3);
        let bytes = pieces.concat();
        assert_eq!(bytes.len(), size);
        let decoded = v1::EventBatch::decode(&bytes[..]).unwrap();
        let places = decoded.events.iter().map(|event| {
            let cursor = Cursor::parse(&event.cursor).unwrap();
            cursor.position.0
        });
        assert_eq!(places.collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert!(batch.is_empty());
        assert_eq!(batch.size(), 0);
    }

    #[test]
    fn a_run_knows_its_places() {
        let run = Run::seal(EPOCH, &[stored(3), stored(5)]);
        assert_eq!(run.last(), Some(Position(5)));
        let counts = [2, 3, 4, 5, 6].map(|at| run.count_up_to(Position(at)));
        assert_eq!(counts, [0, 1, 1, 2, 2]);
        assert!(run.get(2).is_none());
    }
}
