//! Messages in and out: wagate, with everything durable, beside the bare library with its store in
//! memory, on one network.

use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};
use tonic::transport::Channel;
use wagate::proto::v1::{
    self, instance_service_client::InstanceServiceClient, pair_instance_response::Step,
};

use super::{
    Plan,
    child::{self, Child},
    load::{self, Server, within},
    table::{Goal, Row, Table, micros, per_second, percentile},
};

/// Accounts that pair at once.
const PAIRINGS: usize = 25;

/// The network sends the first few of what waited at once and the rest when it is asked or after a
/// while; that while is no part of the rate.
const UNASKED: usize = 100;

/// Phones that write to, or are written to by, what is measured.
const FRIENDS: usize = 16;

/// A network with a gateway and bare clients on it.
pub struct Stage {
    pub network: Child,
    pub gateway: Child,
    pub bare: Child,
    pub server: Server,
    /// The gateway's instances and their numbers.
    pub instances: Vec<String>,
    pub numbers: Vec<String>,
    /// Numbers of the bare clients.
    pub bare_numbers: Vec<String>,
    /// What the parts were started with.
    pub gateway_with: Value,
    pub peer: Value,
    pub key: String,
}

impl Stage {
    /// Pairs so many accounts with each.
    pub async fn new(plan: &Plan, name: &str, accounts: usize) -> anyhow::Result<Self> {
        let (network, peer) = Child::start("network", Value::Null).await?;
        let mut gateway_with = peer.clone();
        gateway_with["folder"] = json!(plan.folder.join(name));
        let (gateway, ready) = Child::start("gateway", gateway_with.clone()).await?;
        let (bare, _) = Child::start("bare", peer.clone()).await?;
        let mut stage = Self {
            network,
            gateway,
            bare,
            server: Server::of(&ready)?,
            instances: Vec::new(),
            numbers: Vec::new(),
            bare_numbers: Vec::new(),
            gateway_with,
            peer,
            key: child::text(&ready, "key")?.to_owned(),
        };
        let channel = stage.server.connect().await?;
        while stage.instances.len() < accounts {
            let some = PAIRINGS.min(accounts - stage.instances.len());
            stage.pair_bare(some).await?;
            stage.pair_instances(&channel, some).await?;
        }
        stage.bare.ask(json!({ "do": "connected" })).await?;
        Ok(stage)
    }

    /// New phones.
    pub async fn phones(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let command = json!({ "do": "phones", "count": count });
        child::texts(&self.network.ask(command).await?, "phones")
    }

    async fn scan(&mut self, phones: &[String], codes: &[String]) -> anyhow::Result<()> {
        let command = json!({ "do": "scan", "phones": phones, "codes": codes });
        self.network.ask(command).await.map(drop)
    }

    async fn pair_bare(&mut self, count: usize) -> anyhow::Result<()> {
        let phones = self.phones(count).await?;
        let opened = self
            .bare
            .ask(json!({ "do": "open", "count": count }))
            .await?;
        self.scan(&phones, &child::texts(&opened, "codes")?).await?;
        self.bare_numbers.extend(phones);
        Ok(())
    }

    async fn pair_instances(&mut self, channel: &Channel, count: usize) -> anyhow::Result<()> {
        let phones = self.phones(count).await?;
        let mut client = InstanceServiceClient::new(channel.clone());
        let (mut pairings, mut codes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let name = format!("figure-{}", self.instances.len());
            let request = v1::CreateInstanceRequest {
                name: name.clone(),
                ..Default::default()
            };
            client.create_instance(self.server.request(request)).await?;
            let request = v1::PairInstanceRequest {
                instance: name.clone(),
                ..Default::default()
            };
            let pairing = client.pair_instance(self.server.request(request)).await?;
            pairings.push(pairing.into_inner());
            self.instances.push(name);
        }
        for pairing in &mut pairings {
            loop {
                let step = within("a code", pairing.message()).await??;
                if let Some(Step::QrCode(code)) = step.context("no code")?.step {
                    codes.push(code.text);
                    break;
                }
            }
        }
        self.scan(&phones, &codes).await?;
        for pairing in &mut pairings {
            while let Some(step) = within("the pairing", pairing.message()).await?? {
                if let Some(Step::Refused(refused)) = step.step {
                    anyhow::bail!("a pairing was refused: {refused:?}");
                }
            }
        }
        for name in &self.instances[self.instances.len() - count..] {
            self.until_open(channel, name).await?;
        }
        self.numbers.extend(phones);
        Ok(())
    }

    /// Waits until an instance is open.
    async fn until_open(&self, channel: &Channel, instance: &str) -> anyhow::Result<()> {
        let mut client = InstanceServiceClient::new(channel.clone());
        within("an open instance", async {
            loop {
                let request = v1::GetInstanceRequest {
                    instance: instance.to_owned(),
                };
                let answer = client.get_instance(self.server.request(request)).await?;
                let found = answer.into_inner().instance.unwrap_or_default();
                if found.state() == v1::InstanceState::Open {
                    return Ok(());
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await?
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop().await?;
        self.bare.stop().await?;
        self.network.stop().await
    }

    async fn flood(&mut self, from: &[String], to: &[String], count: usize) -> anyhow::Result<()> {
        let flood = json!({ "do": "flood", "from": from, "to": to, "count": count });
        self.network.ask(flood).await.map(drop)
    }
}

pub async fn inbound(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let mut stage = Stage::new(plan, "inbound", 1).await?;
    let friends = stage.phones(FRIENDS).await?;
    let channel = stage.server.connect().await?;
    // The first message of a pair costs a key agreement; it is not counted.
    warm_up(&mut stage, &channel, &friends).await?;
    waiting(plan, table, &mut stage, &channel, &friends).await?;
    flooded(plan, table, &mut stage, &channel, &friends).await?;
    paced(plan, table, &mut stage, &channel, &friends).await?;
    stage.stop().await
}

async fn warm_up(stage: &mut Stage, channel: &Channel, friends: &[String]) -> anyhow::Result<()> {
    let mut stream = stage
        .server
        .subscribe(channel.clone(), load::received_from_now())
        .await?;
    stage.bare.ask(json!({ "do": "forget" })).await?;
    let (to, bare_to) = (stage.numbers.clone(), stage.bare_numbers.clone());
    stage.flood(friends, &to, friends.len()).await?;
    load::read_events(&mut stream, friends.len()).await?;
    stage.flood(friends, &bare_to, friends.len()).await?;
    let expect = json!({ "do": "expect", "count": friends.len() });
    stage.bare.ask(expect).await.map(drop)
}

/// What waited while the device was away, so that making the messages costs nothing while it is timed.
async fn waiting(
    plan: &Plan,
    table: &mut Table,
    stage: &mut Stage,
    channel: &Channel,
    friends: &[String],
) -> anyhow::Result<()> {
    let count = plan.count(4_000);
    let (to, bare_to) = (stage.numbers.clone(), stage.bare_numbers.clone());
    let (mut rates, mut network_cpu) = (vec![], vec![]);
    let mut client = InstanceServiceClient::new(channel.clone());
    for _ in 0..plan.rounds {
        let instance = stage.instances[0].clone();
        let request = v1::DisconnectInstanceRequest {
            instance: instance.clone(),
            ..Default::default()
        };
        client
            .disconnect_instance(stage.server.request(request))
            .await?;
        stage.flood(friends, &to, count).await?;
        let mut stream = stage
            .server
            .subscribe(channel.clone(), load::received_from_now())
            .await?;
        let cpu = stage.network.cpu()?;
        let request = v1::ConnectInstanceRequest {
            instance,
            ..Default::default()
        };
        client
            .connect_instance(stage.server.request(request))
            .await?;
        let (first, last, counted) = load::read_events_after(&mut stream, UNASKED, count).await?;
        let wall = (last - first).as_secs_f64();
        network_cpu.push((stage.network.cpu()? - cpu).as_secs_f64() / wall);
        let ours = counted as f64 / wall;

        stage.bare.ask(json!({ "do": "leave" })).await?;
        stage.flood(friends, &bare_to, count).await?;
        stage.bare.ask(json!({ "do": "forget" })).await?;
        let cpu = stage.network.cpu()?;
        stage.bare.ask(json!({ "do": "again" })).await?;
        let expect = json!({ "do": "expect", "count": count, "skipped": UNASKED });
        let answer = stage.bare.ask(expect).await?;
        let wall = child::number(&answer, "micros")? / 1e6;
        network_cpu.push((stage.network.cpu()? - cpu).as_secs_f64() / wall);
        rates.push((ours, child::number(&answer, "counted")? / wall));
    }
    table.push(Row::ratio(
        "inbound, what waited, durable, network → subscriber ÷ bare library → event",
        &rates,
        per_second,
        Goal::least(0.8, 0.95),
    ));
    busy(table, "inbound, what waited", &network_cpu);
    Ok(())
}

/// Says how busy the network was, in turn for the gateway and for the bare library.
fn busy(table: &mut Table, what: &str, cores: &[f64]) {
    let part = |at: usize| {
        let part: Vec<f64> = cores.iter().skip(at).step_by(2).copied().collect();
        super::table::median(part)
    };
    table.note(format!(
        "{what}: the network used {:.2} cores while wagate was measured, {:.2} while the library was.",
        part(0),
        part(1)
    ));
}

async fn flooded(
    plan: &Plan,
    table: &mut Table,
    stage: &mut Stage,
    channel: &Channel,
    friends: &[String],
) -> anyhow::Result<()> {
    let count = plan.count(8_000);
    let (to, bare_to) = (stage.numbers.clone(), stage.bare_numbers.clone());
    let (mut rates, mut costs, mut network_cpu) = (vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        let mut stream = stage
            .server
            .subscribe(channel.clone(), load::received_from_now())
            .await?;
        let (cpu, net) = (stage.gateway.cpu()?, stage.network.cpu()?);
        let (_, (first, last)) = tokio::try_join!(
            stage.flood(friends, &to, count),
            load::read_events(&mut stream, count)
        )?;
        let wall = (last - first).as_secs_f64();
        let (ours, cost) = (
            count as f64 / wall,
            (stage.gateway.cpu()? - cpu).as_secs_f64(),
        );
        network_cpu.push((stage.network.cpu()? - net).as_secs_f64() / wall);
        drop(stream);

        stage.bare.ask(json!({ "do": "forget" })).await?;
        let (cpu, net) = (stage.bare.cpu()?, stage.network.cpu()?);
        stage.flood(friends, &bare_to, count).await?;
        let expect = json!({ "do": "expect", "count": count });
        let answer = stage.bare.ask(expect).await?;
        let wall = child::number(&answer, "micros")? / 1e6;
        network_cpu.push((stage.network.cpu()? - net).as_secs_f64() / wall);
        let bare_cost = (stage.bare.cpu()? - cpu).as_secs_f64();
        rates.push((ours, count as f64 / wall));
        let each = 1e6 / count as f64;
        costs.push((cost * each, bare_cost * each));
    }
    table.push(Row::ratio(
        "inbound, as fast as the network writes, messages",
        &rates,
        per_second,
        Goal::NONE,
    ));
    table.push(Row::ratio(
        "the same, CPU per message",
        &costs,
        micros,
        Goal::NONE,
    ));
    busy(
        table,
        "inbound, as fast as the network writes",
        &network_cpu,
    );
    Ok(())
}

async fn paced(
    plan: &Plan,
    table: &mut Table,
    stage: &mut Stage,
    channel: &Channel,
    friends: &[String],
) -> anyhow::Result<()> {
    let count = plan.count(2_500);
    let (mut p50, mut p99, mut costs) = (vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        let mut stream = stage
            .server
            .subscribe(channel.clone(), load::received_from_now())
            .await?;
        let pace =
            |to: &[String]| json!({ "do": "pace", "from": friends, "to": to, "count": count });
        let cpu = stage.gateway.cpu()?;
        let (_, took) = tokio::try_join!(
            stage.network.ask(pace(&stage.numbers)),
            load::latencies(&mut stream, count, load::told_time),
        )?;
        let cost = (stage.gateway.cpu()? - cpu).as_secs_f64();
        drop(stream);

        stage.bare.ask(json!({ "do": "forget" })).await?;
        let cpu = stage.bare.cpu()?;
        stage.network.ask(pace(&stage.bare_numbers)).await?;
        let expect = json!({ "do": "expect", "count": count });
        let answer = stage.bare.ask(expect).await?;
        let bare_cost = (stage.bare.cpu()? - cpu).as_secs_f64();
        p50.push((percentile(&took, 0.5), child::number(&answer, "p50")?));
        p99.push((percentile(&took, 0.99), child::number(&answer, "p99")?));
        let each = 1e6 / count as f64;
        costs.push((cost * each, bare_cost * each));
    }
    table.push(Row::ratio(
        "inbound at 500/s, durable, phone → subscriber ÷ phone → bare library's event, p50",
        &p50,
        micros,
        Goal::most(3.5, 2.2),
    ));
    table.push(Row::ratio(
        "the same, p99",
        &p99,
        micros,
        Goal::most(8.0, 4.0),
    ));
    table.push(Row::ratio(
        "the same, CPU per message",
        &costs,
        micros,
        Goal::most(2.5, 1.5),
    ));
    Ok(())
}

pub async fn outbound(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    send(plan, table, 1).await?;
    send(plan, table, if plan.quick { 5 } else { 50 }).await
}

async fn send(plan: &Plan, table: &mut Table, accounts: usize) -> anyhow::Result<()> {
    let mut stage = Stage::new(plan, &format!("outbound-{accounts}"), accounts).await?;
    let friends = stage.phones(FRIENDS).await?;
    let pairs = accounts * friends.len();
    let bare_send = |count: usize| json!({ "do": "send", "to": friends, "count": count, "at_once": 16.max(accounts) });
    load::send(&stage.server, &stage.instances, &friends, pairs, 16).await?;
    stage.bare.ask(bare_send(pairs)).await?;
    let count = plan.count(6_000);
    let (mut rates, mut costs, mut p99, mut network_cpu) = (vec![], vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        let (cpu, net, begun) = (stage.gateway.cpu()?, stage.network.cpu()?, Instant::now());
        let took = load::send(&stage.server, &stage.instances, &friends, count, 128).await?;
        let wall = begun.elapsed().as_secs_f64();
        let cost = (stage.gateway.cpu()? - cpu).as_secs_f64();
        network_cpu.push((stage.network.cpu()? - net).as_secs_f64() / wall);

        let (cpu, net) = (stage.bare.cpu()?, stage.network.cpu()?);
        let answer = stage.bare.ask(bare_send(count)).await?;
        let bare_wall = child::number(&answer, "micros")? / 1e6;
        let bare_cost = (stage.bare.cpu()? - cpu).as_secs_f64();
        network_cpu.push((stage.network.cpu()? - net).as_secs_f64() / bare_wall);
        rates.push((count as f64 / wall, count as f64 / bare_wall));
        p99.push((percentile(&took, 0.99), child::number(&answer, "p99")?));
        let each = 1e6 / count as f64;
        costs.push((cost * each, bare_cost * each));
    }
    let who = match accounts {
        1 => "1 instance".to_owned(),
        many => format!("{many} instances"),
    };
    table.push(Row::ratio(
        format!("outbound, {who}, 128 calls at once, confirmed and durable ÷ bare library, written, in memory"),
        &rates,
        per_second,
        if accounts == 1 { Goal::least(0.4, 0.48) } else { Goal::least(0.35, 0.6) },
    ));
    table.push(Row::ratio(
        "the same, CPU per message",
        &costs,
        micros,
        Goal::most(2.5, 1.6),
    ));
    table.push(Row::ratio(
        "the same, p99",
        &p99,
        micros,
        if accounts == 1 {
            Goal::NONE
        } else {
            Goal::most(5.0, 3.0)
        },
    ));
    busy(table, &format!("outbound, {who}"), &network_cpu);
    stage.stop().await
}
