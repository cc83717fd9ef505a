//! The log and its streams: latency and rate of one subscriber, many subscribers, the way through what is
//! on the disk.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tonic::{Request, Streaming, transport::Channel};
use wagate::proto::v1::StartPosition;

use super::{
    Plan,
    child::{self, Child},
    load::{self, Server, within},
    table::{Goal, Row, Table, micros, per_second, percentile},
};

/// Subscribers and the events each gets.
const FAN_OUT: [(usize, usize); 4] = [(1, 20_000), (10, 20_000), (100, 5_000), (1_000, 500)];

/// Most connections of all subscribers together.
const CONNECTIONS: usize = 100;

/// A log of its own.
async fn start_log(plan: &Plan, name: &str) -> anyhow::Result<(Child, Server)> {
    let folder = plan.folder.join(name);
    let (log, ready) = Child::start("log", json!({ "folder": folder })).await?;
    let server = Server::of(&ready)?;
    Ok((log, server))
}

fn rate(answer: &Value) -> anyhow::Result<f64> {
    Ok(child::number(answer, "count")? / child::number(answer, "micros")? * 1e6)
}

pub async fn append(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let (mut log, server) = start_log(plan, "append").await?;
    let (mut p50, mut p99, mut disk, mut slow_disk) = (vec![], vec![], vec![], vec![]);
    let count = plan.count(1_000);
    for _ in 0..plan.rounds {
        let mut stream = server
            .subscribe(server.connect().await?, load::from(StartPosition::Latest))
            .await?;
        let (_, took) = tokio::try_join!(
            log.ask(json!({ "do": "pace", "count": count })),
            load::latencies(&mut stream, count, load::occur_time),
        )?;
        drop(stream);
        let bare = log.ask(json!({ "do": "pace", "count": count })).await?;
        let sync = log.ask(json!({ "do": "disk", "count": count })).await?;
        let (bare50, bare99) = (child::number(&bare, "p50")?, child::number(&bare, "p99")?);
        p50.push((percentile(&took, 0.5), bare50));
        p99.push((percentile(&took, 0.99), bare99));
        disk.push((bare50, child::number(&sync, "p50")?));
        slow_disk.push((bare99, child::number(&sync, "p99")?));
    }
    table.push(Row::ratio(
        "append → subscriber, 500/s, p50 ÷ storage append alone",
        &p50,
        micros,
        Goal::NONE,
    ));
    table.push(Row::ratio("the same, p99", &p99, micros, Goal::NONE));
    table.push(Row::ratio(
        "storage append alone, 500/s, p50 ÷ 4 KiB write + fdatasync",
        &disk,
        micros,
        Goal::NONE,
    ));
    table.push(Row::ratio("the same, p99", &slow_disk, micros, Goal::NONE));

    let count = plan.count(25_600);
    let flood = json!({ "do": "flood", "count": count, "chunk": 1, "producers": 128 });
    let (mut watched, mut durable) = (vec![], vec![]);
    for _ in 0..plan.rounds {
        let mut stream = server
            .subscribe(server.connect().await?, load::from(StartPosition::Latest))
            .await?;
        let begun = Instant::now();
        let sent = count / 128 * 128;
        let (_, (_, last)) =
            tokio::try_join!(log.ask(flood.clone()), load::read_events(&mut stream, sent))?;
        drop(stream);
        let alone = rate(&log.ask(flood.clone()).await?)?;
        let bare = json!({ "do": "bare append", "count": count * 2 });
        let bare = rate(&log.ask(bare).await?)?;
        watched.push((sent as f64 / (last - begun).as_secs_f64(), alone));
        durable.push((alone, bare));
    }
    table.push(Row::ratio(
        "128 producers → subscriber ÷ storage append alone",
        &watched,
        per_second,
        Goal::NONE,
    ));
    table.push(Row::ratio(
        "durable ingest: 128 producers, acked ÷ bare SQLite, 512 rows a commit",
        &durable,
        per_second,
        Goal::least(0.3, 0.6),
    ));
    log.stop().await
}

async fn connections(
    count: usize,
    connect: impl AsyncFn() -> anyhow::Result<Channel>,
) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for _ in 0..count.min(CONNECTIONS) {
        channels.push(connect().await?);
    }
    Ok(channels)
}

/// Events per second over all subscribers, and the server's CPU time per event.
struct Delivered {
    rate: f64,
    cpu_micros: f64,
}

impl Delivered {
    fn of(deliveries: usize, wall: Duration, cpu: Duration) -> Self {
        let deliveries = deliveries as f64;
        Self {
            rate: deliveries / wall.as_secs_f64(),
            cpu_micros: cpu.as_secs_f64() * 1e6 / deliveries,
        }
    }
}

/// How a stream is read.
#[derive(Clone, Copy)]
enum Reading {
    /// Frames of ours, each with many events.
    Frames,
    /// An event per item.
    Items,
}

/// Reads every one of these streams to its end, side by side.
async fn read_all(
    streams: Vec<Streaming<Bytes>>,
    count: usize,
    reading: Reading,
) -> anyhow::Result<()> {
    let tasks = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            match reading {
                Reading::Frames => load::read_events(&mut stream, count).await.map(drop),
                Reading::Items => load::read_items(&mut stream, count).await,
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for ended in try_join_all(tasks).await? {
        ended?;
    }
    Ok(())
}

async fn raw_round(
    raw: &mut Child,
    address: &str,
    path: &'static str,
    subscribers: usize,
    events: usize,
) -> anyhow::Result<Delivered> {
    let channels = connections(subscribers, async || load::connect(address).await).await?;
    let mut streams = Vec::new();
    for number in 0..subscribers {
        let channel = channels[number % channels.len()].clone();
        streams.push(load::stream(channel, Request::new(Bytes::new()), path).await?);
    }
    let (cpu, begun) = (raw.cpu()?, Instant::now());
    let reading = read_all(streams, events, Reading::Items);
    tokio::try_join!(raw.ask(json!({ "count": events })), reading)?;
    let wall = begun.elapsed();
    Ok(Delivered::of(subscribers * events, wall, raw.cpu()? - cpu))
}

async fn log_round(
    log: &mut Child,
    server: &Server,
    subscribers: usize,
    events: usize,
) -> anyhow::Result<Delivered> {
    let channels = connections(subscribers, async || server.connect().await).await?;
    let mut streams = Vec::new();
    for number in 0..subscribers {
        let channel = channels[number % channels.len()].clone();
        let asked = load::from(StartPosition::Latest);
        streams.push(server.subscribe(channel, asked).await?);
    }
    let (cpu, begun) = (log.cpu()?, Instant::now());
    let flood = json!({ "do": "flood", "count": events, "chunk": events.min(500), "producers": 1 });
    let reading = read_all(streams, events, Reading::Frames);
    tokio::try_join!(log.ask(flood), reading)?;
    let wall = begun.elapsed();
    Ok(Delivered::of(subscribers * events, wall, log.cpu()? - cpu))
}

pub async fn fan_out(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let (mut log, server) = start_log(plan, "fan-out").await?;
    let (mut raw, ready) = Child::start("raw", Value::Null).await?;
    let address = child::text(&ready, "address")?.to_owned();
    for (subscribers, events) in FAN_OUT {
        let events = plan.count(events);
        let (mut rates, mut costs, mut typed) = (vec![], vec![], vec![]);
        for _ in 0..plan.rounds {
            let ours = log_round(&mut log, &server, subscribers, events).await?;
            let limit = raw_round(
                &mut raw,
                &address,
                "/figures.Raw/Bytes",
                subscribers,
                events,
            )
            .await?;
            rates.push((ours.rate, limit.rate));
            costs.push((ours.cpu_micros, limit.cpu_micros));
            if subscribers == 100 {
                let encoding = raw_round(
                    &mut raw,
                    &address,
                    "/figures.Raw/Typed",
                    subscribers,
                    events,
                )
                .await?;
                typed.push((ours.cpu_micros, encoding.cpu_micros));
            }
        }
        let goal = match subscribers {
            100.. => Goal::least(0.7, 0.85),
            _ => Goal::NONE,
        };
        table.push(Row::ratio(
            format!("fan-out to {subscribers}, events delivered ÷ raw tonic, encoded bytes"),
            &rates,
            per_second,
            goal,
        ));
        table.push(Row::ratio(
            "the same, server CPU per delivery",
            &costs,
            micros,
            Goal::NONE,
        ));
        if !typed.is_empty() {
            table.push(Row::ratio(
                "encode once: server CPU per delivery to 100 ÷ clone and encode for each",
                &typed,
                micros,
                Goal::most(0.65, 0.35),
            ));
        }
    }
    raw.stop().await?;
    log.stop().await
}

pub async fn replay(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let count = plan.count(100_000);
    let (mut log, _) = start_log(plan, "replay").await?;
    let fill = json!({ "do": "flood", "count": count, "chunk": 500, "producers": 1 });
    let count = child::count(&log.ask(fill).await?, "count")?;
    log.stop().await?;
    let mut rates = vec![];
    for _ in 0..plan.rounds {
        // Anew, so that nothing is in memory but what the kernel keeps of the file.
        let (mut log, server) = start_log(plan, "replay").await?;
        let begun = Instant::now();
        let mut stream = server
            .subscribe(server.connect().await?, load::from(StartPosition::Earliest))
            .await?;
        let (_, last) = within("the replay", load::read_events(&mut stream, count)).await??;
        let ours = count as f64 / (last - begun).as_secs_f64();
        drop(stream);
        let bare = json!({ "do": "bare read", "count": count });
        rates.push((ours, rate(&log.ask(bare).await?)?));
        log.stop().await?;
    }
    table.push(Row::ratio(
        "replay from disk to one subscriber ÷ sqlx read of the same rows",
        &rates,
        per_second,
        Goal::least(0.6, 2.0),
    ));
    Ok(())
}
