//! What the storage promises, tried on SQLite.

mod calls;
mod contacts;
mod devices;
mod groups;
mod instances;
mod log;
mod marks;
mod media;
mod messages;
mod payments;
mod queues;
mod sends;
mod writer;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tempfile::TempDir;

use super::{Options, SqliteStorage};
use crate::{
    domain::{
        cursor::Position,
        event_type::EventType,
        ids::{ApiKeyId, EventId, InstanceId, InstanceName, InstanceNumber},
    },
    storage::{
        EventQuery, EventsOf, InstanceRow, MessageRow, NameOutcome, Network, NewEvent, NewInstance,
        RequestMark, Storage, StoredEvent, request::FieldDigests,
    },
};

/// A database in a folder that goes with it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("wagate.db")
    }

    async fn open(&self) -> Arc<SqliteStorage> {
        SqliteStorage::open(self.file(), Options::default())
            .await
            .unwrap()
    }
}

fn event(instance: u32, event_type: EventType, body: &str) -> NewEvent {
    NewEvent {
        id: EventId::generate(),
        instance: InstanceNumber(instance),
        event_type,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn received(instance: u32, body: &str) -> NewEvent {
    event(instance, EventType::MessageReceived, body)
}

fn everything() -> EventQuery {
    EventQuery {
        limit: 10_000,
        max_bytes: usize::MAX,
        ..EventQuery::default()
    }
}

async fn all(storage: &SqliteStorage) -> Vec<StoredEvent> {
    storage.read_events(everything()).await.unwrap().events
}

fn bodies(events: &[StoredEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|event| std::str::from_utf8(&event.body).unwrap())
        .collect()
}

fn new_instance(name: Option<&str>) -> NewInstance {
    NewInstance {
        id: InstanceId::generate(),
        name: name.map(|name| InstanceName::parse(name).unwrap()),
        network: Network::Sandbox,
        show_online: false,
        create_time: SystemTime::now(),
    }
}

/// Makes one event that says the instance's name.
fn telling(event_type: EventType) -> EventsOf<InstanceRow> {
    Box::new(move |row| vec![event(row.number.0, event_type, row.name.as_str())])
}

fn quiet<Row>() -> EventsOf<Row> {
    Box::new(|_| Vec::new())
}

async fn created(storage: &SqliteStorage, name: &str) -> InstanceRow {
    let outcome = storage
        .create_instance(
            new_instance(Some(name)),
            None,
            telling(EventType::InstanceCreated),
        )
        .await
        .unwrap();
    match outcome {
        NameOutcome::Done(row) => *row,
        other => panic!("{other:?}"),
    }
}

fn message(instance: InstanceNumber, chat: &str, id: &str) -> MessageRow {
    MessageRow {
        instance,
        chat: chat.to_owned(),
        sender: "15550001111@s.whatsapp.net".to_owned(),
        message_id: id.to_owned(),
        from_me: true,
        outbound: true,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        status: 1,
        previous_status: 1,
        status_reason: String::new(),
        body: Bytes::from_static(b"body"),
        raw: Bytes::from_static(b"raw"),
        target: String::new(),
        listed: true,
        words: String::new(),
        starred: false,
        hidden: false,
    }
}

fn request(id: &str, digest: u8) -> RequestMark {
    RequestMark {
        api_key: ApiKeyId::parse("0123456789abcdef").unwrap(),
        method: "SendMessage",
        request_id: id.to_owned(),
        body_digest: [digest; 32],
        fields: FieldDigests::default(),
        time: SystemTime::now(),
    }
}

const AFTER_ALL: Position = Position(u64::MAX);
