//! One stream of Subscribe: a reader of the log, a frame in the making, a frame on its way.
//!
//! Owns the order of frames. Everything a client sees is made by one task from one place in the log,
//! so a heartbeat can't overtake an event. Beside it waits what ends a stream early: the client
//! leaves, the server drains, the deadline passes, the key is revoked.
//! Never holds more than two frames, and decodes no event.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    auth::Keys,
    crash_points::CrashPoint,
    domain::{
        cursor::{Cursor, Position},
        event_type::EventType,
        ids::{ApiKeyId, InstanceId, InstanceNumber},
    },
    events::{Batch, Log, Opening, ReadError, Reader, Wanted, timestamp},
    grpc::{
        codec::Pieces,
        filter::{self, Filter},
        status::{self, Reason, refuse},
    },
    lifecycle::Shutdown,
    proto::v1::{self, subscribe_response::Frame},
};

/// Field of the batch in SubscribeResponse.
const BATCH_FIELD: u32 = 4;
/// What a slow reader is told to wait before it comes back.
const SLOW_RETRY: Duration = Duration::from_secs(5);
/// How long a drain frame may take on its way.
const DRAIN_SEND: Duration = Duration::from_secs(1);

/// The numbers of streams.
#[derive(Clone, Debug)]
pub struct StreamLimits {
    /// Shortest heartbeat interval.
    pub heartbeat_min: Duration,
    /// Heartbeat interval if none is asked for.
    pub heartbeat_default: Duration,
    /// Longest heartbeat interval.
    pub heartbeat_max: Duration,
    /// How long a reader may take nothing.
    pub stall: Duration,
    /// Most streams of one key.
    pub per_key: usize,
    /// Longest time a client is told to wait before it connects again after a drain.
    pub reconnect_max: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            heartbeat_min: Duration::from_secs(5),
            heartbeat_default: Duration::from_secs(15),
            heartbeat_max: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            per_key: 100,
            reconnect_max: Duration::from_secs(10),
        }
    }
}

/// How many streams each key has open.
#[derive(Clone, Default)]
pub(super) struct Slots(Arc<Mutex<HashMap<ApiKeyId, usize>>>);

/// One of them; free again when dropped.
pub(super) struct Slot {
    slots: Slots,
    key: ApiKeyId,
}

impl Slots {
    /// One more stream for this key.
    pub fn take(&self, key: &ApiKeyId, limit: usize) -> Result<Slot, Status> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key.clone()).or_default();
        if *count >= limit {
            return Err(refuse(
                Reason::StreamLimit,
                format!("the API key has {limit} streams open, and may have no more"),
            )
            .with("limit", limit)
            .into());
        }
        *count += 1;
        Ok(Slot {
            slots: self.clone(),
            key: key.clone(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

/// A stream as it was asked for, everything checked.
pub(super) struct Subscription {
    pub log: Log,
    pub keys: Keys,
    pub shutdown: Shutdown,
    pub limits: StreamLimits,
    pub slot: Slot,
    pub key: ApiKeyId,
    pub filter: Filter,
    pub opening: Opening,
    pub skips_gaps: bool,
    /// Ends after this place.
    pub until: Option<Position>,
    pub batching: Batching,
    pub heartbeat: Duration,
    pub deadline: Option<Instant>,
}

/// How events are put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batching {
    pub max_events: usize,
    pub max_bytes: usize,
    pub max_delay: Duration,
}

impl Subscription {
    /// Starts the stream: encoded frames, and at most one error at its end.
    pub fn start(self) -> impl Stream<Item = Result<Pieces, Status>> + Send + 'static {
        // One frame here and one in the making: a slow reader costs no more.
        let (sender, frames) = mpsc::channel(1);
        let (ended, end) = oneshot::channel();
        let task = async move {
            // Nobody is left to tell where the receiver is gone.
            let _ = ended.send(self.run(sender).await);
        };
        tokio::spawn(tracing::Instrument::in_current_span(task));
        // The error waits beside the frames: a reader that takes nothing can't hold the task up.
        let end = end.map(|end| match end {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(_) => {
                tracing::error!("the task of a stream panicked");
                Some(Err(status::internal()))
            }
        });
        let end = stream::once(end).filter_map(std::future::ready);
        ReceiverStream::new(frames).map(Ok).chain(end)
    }

    async fn run(self, frames: mpsc::Sender<Pieces>) -> Result<(), Status> {
        let _slot = self.slot;
        let mut pump = Pump {
            reader: self.log.reader(self.opening.position),
            wanted: self.filter.with_deletions(),
            remaining: self.filter.named.clone(),
            pending: Batch::new(),
            pending_since: Instant::now(),
            sent: self.log.cursor(self.opening.position),
            delivered: 0,
            heartbeat_at: Instant::now() + self.heartbeat,
            frames: frames.clone(),
            stall: self.limits.stall,
            log: self.log,
            filter: self.filter,
            opening: self.opening,
            skips_gaps: self.skips_gaps,
            until: self.until,
            batching: self.batching,
            heartbeat: self.heartbeat,
        };
        // An empty channel takes it at once, so it is the first frame whatever ends the stream.
        pump.say_opened().await?;
        tokio::select! {
            biased;
            () = frames.closed() => Ok(()),
            () = self.shutdown.begun() => {
                let wait = self.limits.reconnect_max.mul_f64(rand::random());
                pump.say_drain(wait).await;
                Err(status::draining(wait))
            }
            () = passed(self.deadline) => Err(status::deadline()),
            revoked = self.keys.revoked(&self.key) => Err(status::revoked(revoked)),
            ended = pump.run() => ended,
        }
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Moves events from the log into frames.
struct Pump {
    log: Log,
    reader: Reader,
    wanted: Wanted,
    filter: Filter,
    /// Named instances that are not deleted yet.
    remaining: Vec<(InstanceNumber, InstanceId)>,
    opening: Opening,
    skips_gaps: bool,
    until: Option<Position>,
    batching: Batching,
    heartbeat: Duration,
    stall: Duration,
    /// Events of the next frame; all between `sent` and the reader's place that pass the filter.
    pending: Batch,
    pending_since: Instant,
    /// The cursor of the newest frame.
    sent: Cursor,
    delivered: u64,
    heartbeat_at: Instant,
    frames: mpsc::Sender<Pieces>,
}

impl Pump {
    async fn run(&mut self) -> Result<(), Status> {
        if let Some(gap) = self.opening.gap {
            let told = filter::told(&self.log, &gap);
            self.say_gap(told, gap.earliest).await?;
        }
        loop {
            let gone = if self.is_finished() {
                None
            } else {
                self.read().await?
            };
            let finished = self.is_finished();
            if gone.is_some() || finished || Instant::now() >= self.flush_at() {
                self.flush(self.reader.position()).await?;
            }
            if let Some(instance) = gone {
                return Err(refuse(
                    Reason::InstanceGone,
                    "the only instance of the stream's filter was deleted",
                )
                .with("instance", instance)
                .into());
            }
            if finished {
                return Ok(());
            }
            if Instant::now() >= self.heartbeat_at {
                self.flush(self.reader.position()).await?;
                self.say_heartbeat().await?;
            }
            if self.reader.is_behind() {
                continue;
            }
            let wake_at = match self.pending.is_empty() {
                true => self.heartbeat_at,
                false => self.heartbeat_at.min(self.flush_at()),
            };
            tokio::select! {
                () = self.reader.wait() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.until
            .is_some_and(|until| self.reader.position() >= until)
    }

    /// Takes a page into the frame in the making, sending it whenever it is full. Returns the
    /// last named instance if that is gone now.
    async fn read(&mut self) -> Result<Option<InstanceId>, Status> {
        if self.pending.count() >= self.batching.max_events {
            self.flush(self.reader.position()).await?;
        }
        let room = self.batching.max_events - self.pending.count();
        let before = self.reader.position();
        let events = match self
            .reader
            .read(&self.wanted, self.until, room, self.batching.max_bytes)
            .await
        {
            Ok(events) => events,
            Err(ReadError::Storage(error)) => return Err(error.into()),
            Err(ReadError::Gap(gap)) => {
                self.flush(before).await?;
                if !self.skips_gaps {
                    return Err(filter::gap_refused(&self.log, &gap));
                }
                self.reader.skip_to(gap.earliest);
                self.say_gap(filter::told(&self.log, &gap), gap.earliest)
                    .await?;
                return Ok(None);
            }
        };
        let mut gone = None;
        let mut taken = before;
        for event in events.iter() {
            if self.filter.passes(event.event_type()) {
                if self.pending.is_empty() {
                    self.pending_since = Instant::now();
                }
                if !self.pending.push(event, self.batching.max_bytes) {
                    self.flush(taken).await?;
                    self.pending_since = Instant::now();
                    // An empty batch takes any event.
                    let _taken = self.pending.push(event, self.batching.max_bytes);
                }
            }
            taken = event.position();
            if event.event_type() == EventType::InstanceDeleted
                && let Some(index) = self
                    .remaining
                    .iter()
                    .position(|(number, _)| *number == event.instance())
            {
                let (_, id) = self.remaining.remove(index);
                if self.remaining.is_empty() {
                    gone = Some(id);
                }
            }
        }
        Ok(gone)
    }

    /// When the frame in the making goes out, full or not.
    fn flush_at(&self) -> Instant {
        if self.pending.count() >= self.batching.max_events {
            return self.pending_since;
        }
        self.pending_since + self.batching.max_delay
    }

    /// Sends the frame in the making; everything up to `position` is in it or before it.
    async fn flush(&mut self, position: Position) -> Result<(), Status> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let permit = self.permit().await?;
        let count = self.pending.count() as u64;
        let cursor = self.log.cursor(position);
        let size = self.pending.size();
        let frame = batch_frame(
            &cursor,
            self.pending.take(),
            size,
            &v1::EventBatch {
                events: Vec::new(),
                delivery_sequence_first: self.delivered + 1,
                lag_events: self.reader.lag_after(position),
            },
        );
        permit.send(frame);
        CrashPoint::FrameHandedOver.pass();
        self.delivered += count;
        self.frame_sent(cursor);
        Ok(())
    }

    async fn say_opened(&mut self) -> Result<(), Status> {
        let opening = self.opening;
        let opened = v1::StreamOpened {
            log_epoch: self.log.epoch().to_string(),
            earliest_cursor: self.log.cursor(opening.earliest).to_string(),
            head_cursor: self.log.cursor(opening.head).to_string(),
            heartbeat_interval: Some(self.heartbeat.into()),
            batch: Some(v1::BatchOptions {
                max_events: self.batching.max_events as i32,
                max_bytes: self.batching.max_bytes as i32,
                max_delay: Some(self.batching.max_delay.into()),
            }),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        // Until the gap is told, its near side is the place to resume at: the gap is told again.
        let cursor = match opening.gap {
            Some(gap) => gap.from,
            None => self.log.cursor(opening.position),
        };
        self.say(cursor, Frame::Opened(opened)).await
    }

    async fn say_gap(&mut self, gap: v1::Gap, after: Position) -> Result<(), Status> {
        self.say(self.log.cursor(after), Frame::Gap(gap)).await
    }

    async fn say_heartbeat(&mut self) -> Result<(), Status> {
        let position = self.reader.position();
        let lag_events = self.reader.lag_after(position);
        let heartbeat = v1::Heartbeat {
            caught_up: lag_events == 0,
            lag_events,
        };
        self.say(self.log.cursor(position), Frame::Heartbeat(heartbeat))
            .await
    }

    /// Tells that the server leaves, if the client takes it soon. What is pending is left to the
    /// stream that resumes here.
    async fn say_drain(&mut self, reconnect_after: Duration) {
        let drain = v1::Drain {
            reconnect_after: Some(reconnect_after.into()),
        };
        let said = timeout(DRAIN_SEND, self.say(self.sent, Frame::Drain(drain))).await;
        if !matches!(said, Ok(Ok(()))) {
            tracing::debug!("a reader too slow for the drain frame is cut off");
        }
    }

    async fn say(&mut self, cursor: Cursor, frame: Frame) -> Result<(), Status> {
        let permit = self.permit().await?;
        let response = v1::SubscribeResponse {
            cursor: cursor.to_string(),
            server_time: Some(timestamp(SystemTime::now())),
            frame: Some(frame),
        };
        permit.send(vec![response.encode_to_vec().into()]);
        self.frame_sent(cursor);
        Ok(())
    }

    /// Room for one frame. Nothing of it is lost if the caller is dropped while waiting.
    async fn permit(&self) -> Result<mpsc::OwnedPermit<Pieces>, Status> {
        match timeout(self.stall, self.frames.clone().reserve_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The client left, so nobody reads this.
            Ok(Err(_)) => Err(status::internal()),
            Err(_) => Err(refuse(
                Reason::SlowConsumer,
                format!("the reader took nothing for {} s", self.stall.as_secs()),
            )
            .with("last_sent_cursor", self.sent)
            .retry_after(SLOW_RETRY)
            .into()),
        }
    }

    fn frame_sent(&mut self, cursor: Cursor) {
        self.sent = cursor;
        self.heartbeat_at = Instant::now() + self.heartbeat;
    }
}

/// A SubscribeResponse around events that are encoded already and take this many bytes.
fn batch_frame(cursor: &Cursor, events: Vec<Bytes>, size: usize, rest: &v1::EventBatch) -> Pieces {
    let head = v1::SubscribeResponse {
        cursor: cursor.to_string(),
        server_time: Some(timestamp(SystemTime::now())),
        frame: None,
    };
    let length = size + rest.encoded_len();
    // Key and length take at most 11 bytes.
    let mut before = BytesMut::with_capacity(head.encoded_len() + 11);
    head.encode_raw(&mut before);
    encode_key(BATCH_FIELD, WireType::LengthDelimited, &mut before);
    encode_varint(length as u64, &mut before);
    let mut frame = Pieces::with_capacity(events.len() + 2);
    frame.push(before.freeze());
    frame.extend(events);
    frame.push(rest.encode_to_vec().into());
    frame
}
