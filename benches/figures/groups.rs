//! A text to a group of the largest size: the first one, which hands the key to everybody, and those after it,
//! beside the bare library in the same group.

use std::time::Duration;

use serde_json::json;

use super::{
    Plan,
    child::{self, Child},
    load,
    messages::Stage,
    table::{Goal, Row, Table, median, micros},
};

/// As many as WhatsApp lets into a group, wagate's account and the library's among them.
const MEMBERS: usize = 1_024;

/// Texts of which the middle one is told.
const WARM: usize = 20;

pub async fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let mut stage = Stage::new(plan, "groups", 1).await?;
    let size = plan.count(MEMBERS);
    let phones = stage.phones(size - 2).await?;
    let mut members = phones.clone();
    members.extend([stage.numbers[0].clone(), stage.bare_numbers[0].clone()]);
    // What they would do with a text is no part of what is measured.
    let off = json!({ "do": "off", "phones": &phones[1..] });
    stage.network.ask(off).await?;
    // Sessions with everybody are made once in a lifetime.
    let first = create(&mut stage.network, &phones[0], &members).await?;
    let strangers = [(
        wagate(&stage, &first, 1).await?,
        bare(&mut stage, &first, 1).await?,
    )];
    let (mut cold, mut warm, mut cost) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let group = create(&mut stage.network, &phones[0], &members).await?;
        cold.push((
            wagate(&stage, &group, 1).await?,
            bare(&mut stage, &group, 1).await?,
        ));
        let before = (stage.gateway.fine_cpu()?, stage.bare.fine_cpu()?);
        warm.push((
            wagate(&stage, &group, WARM).await?,
            bare(&mut stage, &group, WARM).await?,
        ));
        let after = (stage.gateway.fine_cpu()?, stage.bare.fine_cpu()?);
        let each =
            |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / WARM as f64;
        cost.push((each(before.0, after.0), each(before.1, after.1)));
    }
    for (name, rounds) in [
        ("the first text to a group of strangers", &strangers[..]),
        ("the first text to a group of people it knows", &cold),
        ("a text to a group that has the key", &warm),
    ] {
        let name = format!(
            "{size} members: {name}, confirmed and durable ÷ bare library, written, in memory"
        );
        table.push(Row::ratio(name, rounds, micros, Goal::NONE));
    }
    let name = "the same, CPU per message";
    table.push(Row::ratio(name, &cost, micros, Goal::NONE));
    stage.stop().await
}

async fn create(network: &mut Child, by: &str, members: &[String]) -> anyhow::Result<String> {
    let command = json!({ "do": "group", "by": by, "members": members });
    let created = network.ask(command).await?;
    Ok(child::text(&created, "group")?.to_owned())
}

/// What a text takes, one after the other, in microseconds.
async fn wagate(stage: &Stage, group: &str, count: usize) -> anyhow::Result<f64> {
    let to = [group.to_owned()];
    let took = load::send(&stage.server, &stage.instances, &to, count, 1).await?;
    Ok(median(took))
}

async fn bare(stage: &mut Stage, group: &str, count: usize) -> anyhow::Result<f64> {
    let command = json!({ "do": "send", "to": [group], "count": count, "at_once": 1 });
    child::number(&stage.bare.ask(command).await?, "p50")
}
