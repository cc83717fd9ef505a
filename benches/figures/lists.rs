//! Mailing lists, beside the bare library; and what it costs that every send is on the disk.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use wagate::proto::v1::{self, queue_service_client::QueueServiceClient};

use super::{
    Plan, child,
    load::{self, within},
    messages::Stage,
    table::{Goal, Row, Table, per_second},
};

/// Recipients of a list.
const RECIPIENTS: usize = 1_000;

/// People who are written to by many callers at once.
const FRIENDS: usize = 16;

/// How often it is asked whether a list is done: a thousandth of what one takes.
const LOOK: Duration = Duration::from_millis(10);

/// A file system that is memory.
const MEMORY: &str = "/dev/shm";

/// A list to people who know the account, sent one after the other.
pub async fn lists(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let mut stage = Stage::new(plan, "lists", 1).await?;
    let phones = stage.phones(plan.count(RECIPIENTS)).await?;
    let bare = json!({ "do": "send", "to": phones, "count": phones.len(), "at_once": 1 });
    // The first message to somebody makes the session.
    list(&stage, &phones).await?;
    stage.bare.ask(bare.clone()).await?;
    let count = phones.len() as f64;
    let mut rates = Vec::new();
    for _ in 0..plan.rounds {
        let took = list(&stage, &phones).await?;
        let answer = stage.bare.ask(bare.clone()).await?;
        let bare_took = child::number(&answer, "micros")? / 1e6;
        rates.push((count / took.as_secs_f64(), count / bare_took));
    }
    let name = format!(
        "a list of {count}, one after the other, confirmed and durable ÷ bare library, written, in memory"
    );
    table.push(Row::ratio(name, &rates, per_second, Goal::NONE));
    stage.stop().await
}

/// From its creation until everybody is done.
async fn list(stage: &Stage, phones: &[String]) -> anyhow::Result<Duration> {
    let mut client = QueueServiceClient::new(stage.server.connect().await?);
    let instance = stage.instances[0].clone();
    let recipients = phones.iter().map(|phone| v1::QueueRecipient {
        recipient: phone.clone(),
        ..Default::default()
    });
    let text = v1::TextContent {
        text: "a text of the usual length, give or take a few".to_owned(),
        ..Default::default()
    };
    let request = v1::CreateQueueRequest {
        instance: instance.clone(),
        recipients: recipients.collect(),
        message: Some(v1::QueueMessage {
            content: Some(v1::queue_message::Content::Text(text)),
            ..Default::default()
        }),
        pacing: Some(v1::QueuePacing {
            messages_per_minute: Some(0),
            ..Default::default()
        }),
        ..Default::default()
    };
    let begun = Instant::now();
    let created = client.create_queue(stage.server.request(request)).await?;
    let queue = created.into_inner().queue.context("no list")?;
    let done = async {
        loop {
            let request = v1::GetQueueRequest {
                instance: instance.clone(),
                queue_id: queue.id.clone(),
            };
            let found = client.get_queue(stage.server.request(request)).await?;
            let found = found.into_inner().queue.context("no list")?;
            if found.state() == v1::QueueState::Completed {
                let counts = found.counts.unwrap_or_default();
                anyhow::ensure!(counts.sent as usize == phones.len(), "{counts:?}");
                return Ok(begun.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    within("a list", done).await?
}

/// The same gateway with its database on the disk and in memory.
pub async fn durability(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let memory = tempfile::Builder::new()
        .prefix("figures-")
        .tempdir_in(MEMORY)
        .with_context(|| format!("{MEMORY} is no place for a database"))?;
    let in_memory = Plan {
        folder: memory.path().to_owned(),
        ..plan.clone()
    };
    let mut stages = Vec::new();
    for plan in [plan, &in_memory] {
        let mut stage = Stage::new(plan, "durability", 1).await?;
        let friends = stage.phones(FRIENDS).await?;
        load::send(&stage.server, &stage.instances, &friends, FRIENDS, 16).await?;
        stages.push((stage, friends));
    }
    for (at_once, who) in [(1, "one call at a time"), (128, "128 calls at once")] {
        let count = plan.count(if at_once == 1 { 1_000 } else { 6_000 });
        let mut rates = Vec::new();
        for _ in 0..plan.rounds {
            let mut both = [0.0; 2];
            for (rate, (stage, friends)) in both.iter_mut().zip(&stages) {
                let begun = Instant::now();
                load::send(&stage.server, &stage.instances, friends, count, at_once).await?;
                *rate = count as f64 / begun.elapsed().as_secs_f64();
            }
            rates.push((both[0], both[1]));
        }
        let name = format!("outbound, {who}, database on the disk ÷ database in memory");
        table.push(Row::ratio(name, &rates, per_second, Goal::NONE));
    }
    for (stage, _) in stages {
        stage.stop().await?;
    }
    Ok(())
}
