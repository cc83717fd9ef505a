//! The log behind its server and nothing else: no instance runs here. Also what it stands on, bare:
//! the disk, SQLite.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use prost::Message as _;
use serde_json::{Value, json};
use sqlx::{
    ConnectOptions as _, Row as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{net::TcpListener, time::MissedTickBehavior};
use wagate::{
    auth::{Keys, NewKey},
    domain::{cursor::Position, ids::InstanceId, permission::Permission},
    events::{self, Log, Retention},
    grpc::{
        StreamLimits,
        server::{self, Parts, ServerConfig, Services},
    },
    lifecycle::Shutdown,
    proto::v1::{self, event::Payload, message_content::Content},
    storage::{
        InstanceRow, NameOutcome, Network, NewEvent, NewInstance, Storage, StoredEvent,
        sqlite::SqliteStorage,
    },
};

use super::{child, table::percentile};

/// Makes a sealed event take about 590 bytes.
const TEXT: usize = 200;

/// Rows of one statement of the bare append.
const ROWS: usize = 512;

/// A received text, as the gateway would tell it.
fn payload(instance: &str) -> Payload {
    let party = |user: &str| v1::Party {
        jid: format!("{user}@s.whatsapp.net"),
        phone_number: user.to_owned(),
        name: "A name of usual length".to_owned(),
        ..Default::default()
    };
    Payload::MessageReceived(v1::MessageReceived {
        message: Some(v1::Message {
            id: "3EB0000000000000000000".to_owned(),
            instance: instance.to_owned(),
            chat: Some(v1::Chat {
                id: "15550001111@s.whatsapp.net".to_owned(),
                kind: v1::ChatKind::Direct.into(),
                party: None,
            }),
            sender: Some(party("15550001111")),
            message_time: Some(events::timestamp(SystemTime::now())),
            status: v1::MessageStatus::Received.into(),
            content: Some(v1::MessageContent {
                content: Some(Content::Text(v1::TextContent {
                    text: "x".repeat(TEXT),
                    link_preview: None,
                })),
            }),
            ..Default::default()
        }),
    })
}

fn event(row: &InstanceRow, time: SystemTime) -> NewEvent {
    events::compose(
        row,
        payload(&row.id.to_string()),
        time,
        "in/15550001111@s.whatsapp.net/3EB0000000000000000000",
    )
}

/// An instance that nobody has.
pub fn instance(time: SystemTime) -> InstanceRow {
    InstanceRow {
        number: wagate::domain::ids::InstanceNumber(1),
        id: InstanceId::generate(),
        name: wagate::domain::ids::InstanceName::parse("figures").expect("a good name"),
        network: Network::Sandbox,
        state: wagate::domain::session::SessionState::Open,
        state_reason: String::new(),
        state_time: time,
        banned_until: None,
        phone_number: String::new(),
        lid: String::new(),
        push_name: String::new(),
        show_online: false,
        reject_calls: false,
        reject_calls_text: String::new(),
        create_time: time,
        update_time: time,
    }
}

/// An event with everything that only a commit adds.
pub fn sealed_event(time: SystemTime) -> v1::Event {
    let row = instance(time);
    let new = event(&row, time);
    let stored = StoredEvent {
        position: Position(1),
        instance: new.instance,
        instance_sequence: 1,
        event_type: new.event_type,
        record_time: time,
        body: new.body,
    };
    let run = events::Run::seal(wagate::domain::cursor::LogEpoch(1), &[stored]);
    let sealed = v1::EventBatch::decode(run.into_bytes()).expect("what was just encoded");
    sealed.events.into_iter().next().expect("one was put in")
}

/// What is played.
struct Stage {
    folder: PathBuf,
    storage: Arc<dyn Storage>,
    instance: InstanceRow,
}

pub async fn play(with: Value) -> anyhow::Result<()> {
    let folder = PathBuf::from(child::text(&with, "folder")?);
    std::fs::create_dir_all(&folder)?;
    let storage: Arc<dyn Storage> =
        SqliteStorage::open(folder.join("wagate.db"), Default::default()).await?;
    let keys = Keys::new(storage.clone());
    let (_, secret) = keys
        .create(NewKey {
            display_name: "figures".to_owned(),
            permissions: vec![Permission::All],
            instances: Vec::new(),
        })
        .await?;
    let new = NewInstance {
        id: InstanceId::generate(),
        name: None,
        network: Network::Sandbox,
        show_online: false,
        create_time: SystemTime::now(),
    };
    let created = storage
        .create_instance(new, None, Box::new(|_| Vec::new()))
        .await?;
    let NameOutcome::Done(instance) = created else {
        bail!("no instance: {created:?}");
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let parts = Parts {
        storage: storage.clone(),
        log: Log::new(storage.clone(), Retention::default()),
        keys,
        services: Services::new(),
        config: ServerConfig {
            streams: StreamLimits {
                per_key: 100_000,
                ..Default::default()
            },
            ..Default::default()
        },
    };
    tokio::spawn(server::serve(parts, listener, Shutdown::new()));
    let stage = Stage {
        folder,
        storage,
        instance: *instance,
    };
    let ready = json!({ "address": address.to_string(), "key": secret.reveal() });
    child::obey(ready, async |command| stage.answer(command).await).await
}

impl Stage {
    async fn answer(&self, command: Value) -> anyhow::Result<Value> {
        let count = child::count(&command, "count")?;
        match child::text(&command, "do")? {
            "pace" => {
                self.pace(count, Duration::from_micros(2_000), async || {
                    let new = event(&self.instance, SystemTime::now());
                    Ok(self.storage.append_events(vec![new]).await?)
                })
                .await
            }
            "disk" => {
                let mut file = File::create(self.folder.join("disk"))?;
                self.pace(count, Duration::from_micros(2_000), async || {
                    file.seek(SeekFrom::Start(0))?;
                    file.write_all(&[7; 4096])?;
                    Ok(file.sync_data()?)
                })
                .await
            }
            "flood" => {
                let chunk = child::count(&command, "chunk")?;
                let producers = child::count(&command, "producers")?;
                self.flood(count, chunk, producers).await
            }
            "bare append" => bare_append(&self.folder.join("bare.db"), count).await,
            "bare read" => bare_read(&self.folder.join("wagate.db"), count).await,
            other => bail!("there is no {other:?}"),
        }
    }

    /// Does it at a steady pace and says how long each took.
    async fn pace(
        &self,
        count: usize,
        every: Duration,
        mut step: impl AsyncFnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            tick.tick().await;
            let begun = Instant::now();
            step().await?;
            took.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        took.sort_by(f64::total_cmp);
        Ok(json!({ "p50": percentile(&took, 0.5), "p99": percentile(&took, 0.99) }))
    }

    /// Appends as fast as so many producers can that wait for their commit.
    async fn flood(&self, count: usize, chunk: usize, producers: usize) -> anyhow::Result<Value> {
        let each = count / chunk / producers;
        let time = SystemTime::now();
        // Made before the clock runs: what making an event costs is no matter of the log.
        let ready: Vec<Vec<Vec<NewEvent>>> = (0..producers)
            .map(|_| {
                (0..each)
                    .map(|_| (0..chunk).map(|_| event(&self.instance, time)).collect())
                    .collect()
            })
            .collect();
        let begun = Instant::now();
        let tasks: Vec<_> = ready
            .into_iter()
            .map(|chunks| {
                let storage = self.storage.clone();
                tokio::spawn(async move {
                    for events in chunks {
                        storage.append_events(events).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let count = each * chunk * producers;
        Ok(json!({ "count": count, "micros": begun.elapsed().as_secs_f64() * 1e6 }))
    }
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
}

/// The fastest durable append there is this way: one table without an index, many rows a statement, a
/// statement a commit.
async fn bare_append(file: &Path, count: usize) -> anyhow::Result<Value> {
    let mut connection = options(file).connect().await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS bare (position INTEGER PRIMARY KEY, instance INTEGER, \
         time INTEGER, kind INTEGER, body BLOB)",
    )
    .execute(&mut connection)
    .await?;
    let body = sealed_event(SystemTime::now()).encode_to_vec();
    let mut statement = "INSERT INTO bare (instance, time, kind, body) VALUES ".to_owned();
    statement.push_str(&vec!["(?, ?, ?, ?)"; ROWS].join(", "));
    let rounds = count.div_ceil(ROWS);
    let begun = Instant::now();
    for round in 0..rounds {
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.as_str()));
        for row in 0..ROWS {
            query = query
                .bind(1_i64)
                .bind((round * ROWS + row) as i64)
                .bind(3_i64)
                .bind(body.as_slice());
        }
        query.execute(&mut connection).await?;
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6;
    sqlx::Connection::close(connection).await?;
    Ok(json!({ "count": rounds * ROWS, "micros": micros }))
}

/// What a reader of the log's table needs at least.
async fn bare_read(file: &Path, count: usize) -> anyhow::Result<Value> {
    let mut connection = options(file).connect().await?;
    let (mut after, mut read) = (0_i64, 0);
    let begun = Instant::now();
    while read < count {
        let mut rows = sqlx::query(
            "SELECT position, body FROM event WHERE position > ? ORDER BY position LIMIT 512",
        )
        .bind(after)
        .fetch(&mut connection);
        let before = read;
        while let Some(row) = rows.try_next().await? {
            after = row.try_get(0)?;
            let body: &[u8] = row.try_get(1)?;
            std::hint::black_box(body.len());
            read += 1;
        }
        if read == before {
            break;
        }
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6;
    sqlx::Connection::close(connection)
        .await
        .context("the reader did not close")?;
    Ok(json!({ "count": read, "micros": micros }))
}
