//! What Subscribe promises, as nine properties over what subscribers saw, each against the log as it
//! is in the end. The names are etcd's, whose watch was tested so first.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;
use wagate::{
    domain::cursor::Cursor,
    proto::v1::{self, InstanceState, event::Payload},
};

use crate::subscribers::{Beginning, Delivered, Filter, History, Session};

/// The nine.
pub const PROPERTIES: [&str; 9] = [
    "ordered",
    "unique",
    "atomic",
    "reliable",
    "resumable",
    "bookmarkable",
    "previous",
    "created",
    "filtered",
];

/// A property that did not hold.
#[derive(Debug)]
pub struct Broken {
    pub property: &'static str,
    pub how: String,
}

/// The log of a round, read in one go after everything was over.
pub struct Log {
    events: Vec<(u64, Uuid, v1::Event)>,
    /// Position of the last event of the round before.
    begin: u64,
}

impl Log {
    pub fn new(events: Vec<v1::Event>, begin: u64) -> anyhow::Result<Self> {
        let events = events
            .into_iter()
            .map(|event| {
                let cursor = Cursor::parse(&event.cursor)
                    .ok_or_else(|| anyhow::anyhow!("an event without a cursor"))?;
                Ok((cursor.position.0, event.id.parse()?, event))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { events, begin })
    }

    pub fn events(&self) -> impl Iterator<Item = &v1::Event> {
        self.events.iter().map(|(_, _, event)| event)
    }

    pub fn head(&self) -> u64 {
        self.events.last().map_or(self.begin, |(at, _, _)| *at)
    }

    /// What a subscriber should have seen after one place, up to another.
    fn wanted(&self, filter: &Filter, after: u64, up_to: u64) -> Vec<(u64, Uuid)> {
        let first = self.events.partition_point(|(at, _, _)| *at <= after);
        self.events[first..]
            .iter()
            .take_while(|(at, _, _)| *at <= up_to)
            .filter(|(_, _, event)| filter.passes(&event.instance, &event.r#type))
            .map(|(at, id, _)| (*at, *id))
            .collect()
    }
}

/// What holds of the log itself, whoever reads it. `states` are the instances' states at the end of
/// the round before, and are brought up to date.
pub fn check_log(log: &Log, states: &mut HashMap<String, i32>, broken: &mut Vec<Broken>) {
    let mut ids = HashSet::new();
    let mut next_of: HashMap<&str, &v1::Event> = HashMap::new();
    for (at, id, event) in log.events.iter().rev() {
        if !ids.insert(id) {
            broken.push(Broken {
                property: "unique",
                how: format!("the log holds the event {id} twice, again at {at}"),
            });
        }
        // One commit tells that a message was sent and its status, side by side.
        if let Some(Payload::MessageSent(sent)) = &event.payload {
            let id = sent.message.as_ref().map(|message| &message.id);
            let follows = match next_of.get(&*event.instance).map(|next| &next.payload) {
                Some(Some(Payload::MessageStatus(status))) => Some(&status.message_id) == id,
                _ => false,
            };
            if !follows {
                broken.push(Broken {
                    property: "atomic",
                    how: format!("{id:?} was told as sent at {at} without its status"),
                });
            }
        }
        next_of.insert(&event.instance, event);
    }
    for (at, _, event) in &log.events {
        match &event.payload {
            Some(Payload::ConnectionUpdated(update)) => {
                let before = states.insert(event.instance.clone(), update.state);
                let before = before.unwrap_or(InstanceState::Unpaired.into());
                if update.previous_state != before {
                    broken.push(Broken {
                        property: "previous",
                        how: format!(
                            "the event at {at} says the state was {:?}; the log says {:?}",
                            update.previous_state(),
                            InstanceState::try_from(before)
                        ),
                    });
                }
            }
            Some(Payload::InstanceCreated(_)) if event.instance_sequence != 1 => {
                broken.push(Broken {
                    property: "created",
                    how: format!("the creation at {at} is not the first of its instance"),
                });
            }
            None => broken.push(Broken {
                property: "filtered",
                how: format!("the event at {at} has no payload"),
            }),
            _ => {}
        }
    }
}

/// What holds of what one subscriber saw.
pub fn check_history(history: &History, log: &Log, broken: &mut Vec<Broken>) {
    let mut reached = None;
    for (number, session) in history.sessions.iter().enumerate() {
        let mut add = |property, how: String| {
            broken.push(Broken {
                property,
                how: format!("subscriber {}, stream {number}: {how}", history.name),
            });
        };
        check_start(session, log, &mut add);
        check_frames(session, history, log, &mut add);
        // What was processed before a place that was passed over is lost to this subscriber.
        if let Some(reached) = reached
            && session.opened_at > reached
        {
            add(
                "resumable",
                format!("began at {}, {reached} was reached", session.opened_at),
            );
        }
        let end = session
            .frames
            .last()
            .map_or(session.opened_at, |frame| frame.bookmark);
        reached = Some(reached.unwrap_or(0).max(end));
    }
    if reached < Some(log.head()) {
        broken.push(Broken {
            property: "reliable",
            how: format!(
                "subscriber {} ended at {reached:?} of {}",
                history.name,
                log.head()
            ),
        });
    }
}

/// Where a stream begins is where it was told to.
fn check_start(session: &Session, log: &Log, add: &mut impl FnMut(&'static str, String)) {
    if let Some(cursor) = session.resumed_from {
        if cursor != session.opened_at {
            add(
                "resumable",
                format!("resumed at {cursor}, opened at {}", session.opened_at),
            );
        }
        return;
    }
    match &session.beginning {
        Beginning::Earliest if session.opened_at != 0 => {
            add(
                "resumable",
                format!("the earliest is {}", session.opened_at),
            );
        }
        Beginning::Since(time) => {
            for (at, _, event) in &log.events {
                let Some(recorded) = &event.record_time else {
                    continue;
                };
                let before = (recorded.seconds, recorded.nanos) < (time.seconds, time.nanos);
                // The log's clock never goes back, so one place parts the two.
                if before != (*at <= session.opened_at) {
                    add(
                        "resumable",
                        format!(
                            "began after {}; {at} is on the wrong side",
                            session.opened_at
                        ),
                    );
                    return;
                }
            }
        }
        _ => {}
    }
}

fn check_frames(
    session: &Session,
    history: &History,
    log: &Log,
    add: &mut impl FnMut(&'static str, String),
) {
    let mut newest: Option<Delivered> = None;
    let mut sequences: HashMap<u32, u64> = HashMap::new();
    let mut ids = HashSet::new();
    let mut count = 0;
    let mut bookmark = session.opened_at;
    for frame in &session.frames {
        if let Some(first) = frame.first
            && first != count + 1
        {
            add(
                "reliable",
                format!("event {} is counted as {first}", count + 1),
            );
        }
        count += frame.events.len() as u64;
        for event in &frame.events {
            if newest.is_some_and(|newest| newest.position >= event.position) {
                add(
                    "ordered",
                    format!("{} came after {newest:?}", event.position),
                );
            }
            let sequence = sequences.entry(event.instance).or_default();
            if *sequence >= event.sequence {
                add(
                    "ordered",
                    format!("{} of its instance came after {sequence}", event.sequence),
                );
            }
            *sequence = event.sequence;
            if !ids.insert(event.id) {
                add("unique", format!("{} came twice", event.id));
            }
            if !event.wanted {
                add("filtered", format!("{} was not asked for", event.position));
            }
            newest = Some(*event);
        }
        if frame.bookmark < bookmark {
            add(
                "bookmarkable",
                format!("{} came after {bookmark}", frame.bookmark),
            );
        }
        // A frame's cursor says: all up to here, and nothing beyond.
        let told: Vec<(u64, Uuid)> = frame
            .events
            .iter()
            .map(|event| (event.position, event.id))
            .collect();
        let wanted = log.wanted(&history.filter, bookmark, frame.bookmark);
        if told != wanted {
            let missing = wanted.iter().find(|one| !told.contains(one));
            let extra = told.iter().find(|one| !wanted.contains(one));
            let property = match (missing, frame.events.is_empty()) {
                (Some(_), true) => "bookmarkable",
                (Some(_), false) => "reliable",
                (None, _) => "unique",
            };
            add(
                property,
                format!(
                    "between {bookmark} and {}: missing {missing:?}, too many {extra:?}",
                    frame.bookmark
                ),
            );
        }
        bookmark = bookmark.max(frame.bookmark);
    }
}
