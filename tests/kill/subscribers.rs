//! Readers of the log with habits: each has a filter, a batch size, a place to start, and its own way
//! of being cut off. All of them resume from the cursor of what they processed last.
//!
//! They only write down what they saw; `watch` says whether it was right.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use rand::{RngExt as _, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::Streaming;
use uuid::Uuid;
use wagate::{
    domain::cursor::Cursor,
    proto::v1::{self, StartPosition, subscribe_request::Start, subscribe_response::Frame as Told},
};

use crate::{
    api::{Api, passes_by_itself},
    gateway::Door,
    people::Account,
};

/// Filters by type that subscribers choose from; none is all.
const TYPES: [&[&str]; 7] = [
    &[],
    &["message.*"],
    &["message.received"],
    &["message.sent", "message.status"],
    &["connection.*"],
    &["message.received", "connection.updated"],
    &["instance.*", "connection.*", "message.sent"],
];

/// Pause before a stream that failed is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(30);

/// How long a stream may be silent. Its heartbeat comes every five seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// Which events a subscriber asked for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Ids of instances; none is all.
    pub instances: BTreeSet<String>,
    pub types: &'static [&'static str],
}

impl Filter {
    /// Whether an event passes, by the words of the contract.
    pub fn passes(&self, instance: &str, event_type: &str) -> bool {
        let typed = |wanted: &&str| match wanted.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix),
            None => event_type == *wanted,
        };
        (self.instances.is_empty() || self.instances.contains(instance))
            && (self.types.is_empty() || self.types.iter().any(typed))
    }
}

/// What was asked for when there was no cursor yet.
#[derive(Clone, Debug)]
pub enum Beginning {
    Earliest,
    Latest,
    Since(pbjson_types::Timestamp),
    /// At the end of the round before.
    After(String),
}

/// One event as it was delivered.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    pub position: u64,
    pub id: Uuid,
    pub instance: u32,
    pub sequence: u64,
    pub wanted: bool,
}

/// One frame as far as it was processed.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Everything up to here is processed.
    pub bookmark: u64,
    /// Number of the first event by the server's count; none in frames without events.
    pub first: Option<u64>,
    pub events: Vec<Delivered>,
}

/// One stream, from its opening to its end.
#[derive(Clone, Debug)]
pub struct Session {
    /// Position of the cursor it resumed from.
    pub resumed_from: Option<u64>,
    pub beginning: Beginning,
    /// Position that the server said it begins after.
    pub opened_at: u64,
    pub frames: Vec<Frame>,
}

/// All that one subscriber did and saw.
#[derive(Clone, Debug)]
pub struct History {
    pub name: usize,
    pub filter: Filter,
    pub sessions: Vec<Session>,
    /// Position up to which everything is processed.
    pub reached: u64,
}

/// What subscribers have to know about the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Gateways die, streams break.
    Wild,
    /// All is said; the log ends here.
    Last { head: u64 },
}

pub struct Subscriber {
    history: History,
    batch: v1::BatchOptions,
    beginning: Beginning,
    chance: StdRng,
    /// The cursor on disk, as it were: what survives this subscriber's own crash.
    stored: Option<String>,
    /// Frames between two writes of that cursor.
    store_every: u32,
    /// How it ends: by a heartbeat at the head, or by asking for no more than there is.
    waits_for_heartbeat: bool,
}

impl Subscriber {
    /// A subscriber of a round that begins after a cursor, or with the log.
    pub fn new(name: usize, accounts: &[Account], after: Option<&str>, mut chance: StdRng) -> Self {
        let instances = match chance.random_range(0..3) {
            0 => accounts
                .iter()
                .filter(|_| chance.random_bool(0.5))
                .map(|account| account.id.clone())
                .collect(),
            _ => BTreeSet::new(),
        };
        Self {
            history: History {
                name,
                filter: Filter {
                    instances,
                    types: TYPES[chance.random_range(0..TYPES.len())],
                },
                sessions: Vec::new(),
                reached: 0,
            },
            batch: v1::BatchOptions {
                max_events: [1, 2, 7, 30, 0, 500][chance.random_range(0..6)],
                max_bytes: [0, 0, 400, 3_000][chance.random_range(0..4)],
                max_delay: chance.random_bool(0.3).then(|| pbjson_types::Duration {
                    seconds: 0,
                    nanos: chance.random_range(1..60) * 1_000_000,
                }),
            },
            beginning: after.map_or(Beginning::Earliest, |cursor| {
                Beginning::After(cursor.to_owned())
            }),
            stored: None,
            store_every: [1, 1, 1, 5][chance.random_range(0..4)],
            waits_for_heartbeat: chance.random_bool(0.4),
            chance,
        }
    }

    /// Reads until the head of the last phase, through every outage.
    pub async fn run(
        mut self,
        mut door: watch::Receiver<Option<Door>>,
        mut phase: watch::Receiver<Phase>,
    ) -> anyhow::Result<History> {
        // Some join late, and want only what comes then or has come for a while.
        let joined = SystemTime::now();
        let late = match self.chance.random_range(0..4) {
            late @ (0 | 1) => {
                let delay = Duration::from_millis(self.chance.random_range(0..5_000));
                tokio::select! {
                    () = sleep(delay) => {}
                    _ = phase.changed() => {}
                }
                late
            }
            _ => 2,
        };
        match late {
            0 => self.beginning = Beginning::Latest,
            1 => {
                let age = joined.elapsed().unwrap_or_default();
                let since = joined + age.mul_f64(self.chance.random());
                self.beginning = Beginning::Since(whole_milliseconds(since));
            }
            _ => {}
        }
        loop {
            let api = Api::ready(&mut door).await?;
            let last = *phase.borrow_and_update();
            let stops = last != Phase::Wild && !self.waits_for_heartbeat;
            let request = v1::SubscribeRequest {
                start: Some(self.start()),
                instances: self.history.filter.instances.iter().cloned().collect(),
                event_types: self
                    .history
                    .filter
                    .types
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                batch: Some(self.batch.clone()),
                heartbeat_interval: Some(pbjson_types::Duration {
                    seconds: 5,
                    nanos: 0,
                }),
                stop_when_caught_up: stops,
                client_id: format!("subscriber {}", self.history.name),
                ..Default::default()
            };
            let mut events = api.events();
            let stream = tokio::select! {
                opened = timeout(SILENCE, events.subscribe(request)) => opened,
                _ = phase.changed() => continue,
            };
            match stream.context("Subscribe is not answered")? {
                Ok(stream) => {
                    let done = self.read(stream.into_inner(), &mut phase).await?;
                    if done {
                        return Ok(self.history);
                    }
                }
                Err(status) if passes_by_itself(&status) => sleep(RETRY_PAUSE).await,
                Err(status) => bail!("Subscribe was refused: {status:?}"),
            }
        }
    }

    /// A stream that was to stop at the head and ended well has said: all up to there.
    fn end_at(&mut self, phase: Phase) {
        if let Phase::Last { head } = phase
            && let Some(session) = self.history.sessions.last_mut()
        {
            session.frames.push(Frame {
                bookmark: head.max(self.history.reached),
                first: None,
                events: Vec::new(),
            });
        }
    }

    fn start(&self) -> Start {
        match (&self.stored, &self.beginning) {
            (Some(cursor), _) | (None, Beginning::After(cursor)) => {
                Start::AfterCursor(cursor.clone())
            }
            (None, Beginning::Earliest) => Start::Position(StartPosition::Earliest.into()),
            (None, Beginning::Latest) => Start::Position(StartPosition::Latest.into()),
            (None, Beginning::Since(time)) => Start::AfterTime(time.clone()),
        }
    }

    /// Reads one stream to its end, somebody's death, or this subscriber's own. True if that was all.
    async fn read(
        &mut self,
        mut stream: Streaming<v1::SubscribeResponse>,
        phase: &mut watch::Receiver<Phase>,
    ) -> anyhow::Result<bool> {
        let resumed_from = match (&self.stored, &self.beginning) {
            (Some(cursor), _) | (None, Beginning::After(cursor)) => Some(position(cursor)?),
            _ => None,
        };
        // Own deaths: after some frames, and maybe in the middle of the last one.
        let mut frames_left = match self.chance.random_range(0..10) {
            0..4 => Some(self.chance.random_range(1..40)),
            _ => None,
        };
        let mut since_stored = 0;
        let mut opened = false;
        loop {
            let now = *phase.borrow_and_update();
            let stops = matches!(now, Phase::Last { .. }) && !self.waits_for_heartbeat;
            if now != Phase::Wild {
                frames_left = None;
            }
            let next = tokio::select! {
                next = timeout(SILENCE, stream.message()) => next.context("a stream went silent")?,
                // A stream that is to stop at the head has to ask for it anew.
                _ = phase.changed() => {
                    if self.waits_for_heartbeat { continue } else { return Ok(false) }
                }
            };
            let response = match next {
                Ok(Some(response)) => response,
                Ok(None) if stops && opened => {
                    self.end_at(now);
                    return Ok(true);
                }
                Ok(None) => bail!("a stream ended without being asked to"),
                Err(status) if passes_by_itself(&status) => return Ok(false),
                Err(status) => bail!("a stream failed: {status:?}"),
            };
            let mut bookmark = response.cursor;
            let mut frame = Frame {
                bookmark: 0,
                first: None,
                events: Vec::new(),
            };
            let mut dies_now = false;
            let mut at_head = false;
            match response.frame.context("a frame without content")? {
                Told::Opened(_) => {
                    anyhow::ensure!(!opened, "a stream was opened twice");
                    opened = true;
                    self.history.sessions.push(Session {
                        resumed_from,
                        beginning: self.beginning.clone(),
                        opened_at: position(&bookmark)?,
                        frames: Vec::new(),
                    });
                    self.stored = Some(bookmark);
                    continue;
                }
                Told::Batch(mut batch) => {
                    if let Some(left) = &mut frames_left {
                        *left -= 1;
                        if *left <= 0 {
                            dies_now = true;
                            let processed = self.chance.random_range(1..=batch.events.len());
                            if processed < batch.events.len() {
                                batch.events.truncate(processed);
                                bookmark.clone_from(&batch.events[processed - 1].cursor);
                            }
                        }
                    }
                    frame.first = Some(batch.delivery_sequence_first);
                    for event in &batch.events {
                        frame.events.push(Delivered {
                            position: position(&event.cursor)?,
                            id: event.id.parse()?,
                            instance: event.instance_number,
                            sequence: event.instance_sequence,
                            wanted: self.history.filter.passes(&event.instance, &event.r#type),
                        });
                    }
                }
                Told::Heartbeat(heartbeat) => at_head = heartbeat.caught_up,
                Told::Gap(gap) => bail!("a gap was told: {gap:?}"),
                Told::Drain(_) => {}
            }
            frame.bookmark = position(&bookmark)?;
            self.history.reached = self.history.reached.max(frame.bookmark);
            let session = self.history.sessions.last_mut();
            session
                .context("a frame before the opening")?
                .frames
                .push(frame);
            since_stored += 1;
            if since_stored >= self.store_every || dies_now {
                self.stored = Some(bookmark);
                since_stored = 0;
            }
            if dies_now {
                return Ok(false);
            }
            if let Phase::Last { head } = now
                && self.waits_for_heartbeat
                && at_head
                && self.history.reached >= head
            {
                return Ok(true);
            }
        }
    }
}

/// Finer times than the log's own would blur what "at or after" means.
fn whole_milliseconds(time: SystemTime) -> pbjson_types::Timestamp {
    let mut stamp = wagate::events::timestamp(time);
    stamp.nanos -= stamp.nanos % 1_000_000;
    stamp
}

fn position(cursor: &str) -> anyhow::Result<u64> {
    let parsed = Cursor::parse(cursor).with_context(|| format!("{cursor} is no cursor"))?;
    Ok(parsed.position.0)
}
