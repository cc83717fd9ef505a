//! Open instances that do nothing: what each keeps in memory, what each costs, and how long all take to
//! come back after a restart.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use prost::Message as _;
use serde_json::{Value, json};
use wagate::proto::v1::{
    self, StartPosition, SubscribeRequest, SubscribeResponse, event::Payload,
    subscribe_request::Start, subscribe_response::Frame,
};

use super::{
    Plan,
    child::Child,
    load::{self, Server, within},
    messages::Stage,
    table::{Goal, Row, Table, kibibytes, millis},
};

/// Restarts of each; each tells memory and time once.
const RESTARTS: usize = 3;

/// What a start still does once everybody is logged in is over after this.
const SETTLING: Duration = Duration::from_secs(10);

pub async fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    for accounts in &plan.instances {
        at(plan, table, *accounts).await?;
    }
    Ok(())
}

/// A restarted part, and how long all took to log in.
struct Started {
    child: Child,
    took: f64,
    cpu: f64,
}

async fn at(plan: &Plan, table: &mut Table, accounts: usize) -> anyhow::Result<()> {
    let mut stage = Stage::new(plan, &format!("idle-{accounts}"), accounts).await?;
    let file = plan.folder.join(format!("devices-{accounts}.json"));
    stage
        .bare
        .ask(json!({ "do": "save", "file": file }))
        .await?;
    let cursor = head(&stage.server).await?;
    let Stage {
        network,
        gateway,
        bare,
        gateway_with,
        peer,
        key,
        ..
    } = stage;
    gateway.stop().await?;
    bare.stop().await?;

    let mut empty_with = gateway_with.clone();
    empty_with["folder"] = json!(plan.folder.join(format!("empty-{accounts}")));
    let (empty, _) = Child::start("gateway", empty_with).await?;
    let gateway_base = empty.resident()?;
    empty.stop().await?;
    let (empty, _) = Child::start("bare", peer.clone()).await?;
    let bare_base = empty.resident()?;
    empty.stop().await?;

    let (mut memory, mut times, mut login_cpu) = (vec![], vec![], vec![]);
    let mut cursor = cursor;
    let mut cpu = None;
    for round in 0..RESTARTS {
        let gateway = start_gateway(&gateway_with, &key, &mut cursor, accounts).await?;
        let bare = start_bare(&peer, &file).await?;
        times.push((gateway.took, bare.took));
        let each = 1e3 / accounts as f64;
        login_cpu.push((gateway.cpu * each, bare.cpu * each));
        let settling = if plan.quick { SETTLING / 5 } else { SETTLING };
        tokio::time::sleep(settling).await;
        let each = |child: &Child, base: f64| -> anyhow::Result<f64> {
            Ok((child.resident()? - base) / accounts as f64)
        };
        memory.push((
            each(&gateway.child, gateway_base)?,
            each(&bare.child, bare_base)?,
        ));
        if round + 1 == RESTARTS {
            cpu = Some(watch(plan, &gateway.child, &bare.child, accounts).await?);
        }
        gateway.child.stop().await?;
        bare.child.stop().await?;
    }
    network.stop().await?;
    table.push(Row::ratio(
        format!("{accounts} idle instances, resident memory each ÷ bare library, in memory"),
        &memory,
        kibibytes,
        Goal::most(2.0, 1.4),
    ));
    let cpu: Vec<_> = cpu.into_iter().collect();
    table.push(Row::ratio(
        format!("{accounts} idle instances, CPU each per minute"),
        &cpu,
        millis,
        Goal::most(1.5, 1.15),
    ));
    table.push(Row::ratio(
        format!("restart: until {accounts} instances are logged in, process start included"),
        &times,
        millis,
        Goal::most(3.0, 1.8),
    ));
    table.push(Row::ratio(
        "the same, CPU per login",
        &login_cpu,
        millis,
        Goal::NONE,
    ));
    Ok(())
}

/// CPU milliseconds each per minute, of both in the same minute.
async fn watch(
    plan: &Plan,
    gateway: &Child,
    bare: &Child,
    accounts: usize,
) -> anyhow::Result<(f64, f64)> {
    let before = (gateway.fine_cpu()?, bare.fine_cpu()?);
    let window = Duration::from_secs(plan.watch);
    tokio::time::sleep(window).await;
    let after = (gateway.fine_cpu()?, bare.fine_cpu()?);
    let each = |before: Duration, after: Duration| {
        let minutes = window.as_secs_f64() / 60.0;
        after.saturating_sub(before).as_secs_f64() * 1e3 / minutes / accounts as f64
    };
    Ok((each(before.0, after.0), each(before.1, after.1)))
}

/// The cursor of the newest event.
async fn head(server: &Server) -> anyhow::Result<String> {
    let mut client = v1::event_service_client::EventServiceClient::new(server.connect().await?);
    let request = server.request(v1::GetEventLogInfoRequest {});
    let info = client.get_event_log_info(request).await?;
    Ok(info.into_inner().head_cursor)
}

async fn start_gateway(
    with: &Value,
    key: &str,
    cursor: &mut String,
    accounts: usize,
) -> anyhow::Result<Started> {
    let begun = Instant::now();
    let (child, ready) = Child::start("gateway", with.clone()).await?;
    let server = Server::with_key(&ready, key)?;
    let asked = SubscribeRequest {
        start: Some(Start::AfterCursor(cursor.clone())),
        event_types: vec!["connection.updated".to_owned()],
        ..load::from(StartPosition::Latest)
    };
    let mut stream = server.subscribe(server.connect().await?, asked).await?;
    let mut open = BTreeSet::new();
    while open.len() < accounts {
        let frame = within("logins", stream.message()).await??;
        let frame = SubscribeResponse::decode(frame.context("the stream has ended")?)?;
        cursor.clone_from(&frame.cursor);
        let Some(Frame::Batch(batch)) = frame.frame else {
            continue;
        };
        for event in batch.events {
            if let Some(Payload::ConnectionUpdated(update)) = &event.payload {
                match update.state() {
                    v1::InstanceState::Open => open.insert(event.instance_number),
                    _ => open.remove(&event.instance_number),
                };
            }
        }
    }
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let cpu = child.cpu()?.as_secs_f64();
    Ok(Started { child, took, cpu })
}

async fn start_bare(peer: &Value, file: &std::path::Path) -> anyhow::Result<Started> {
    let begun = Instant::now();
    let (mut child, _) = Child::start("bare", peer.clone()).await?;
    child.ask(json!({ "do": "load", "file": file })).await?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let cpu = child.cpu()?.as_secs_f64();
    Ok(Started { child, took, cpu })
}
