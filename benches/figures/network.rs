//! The network of the run: the built-in one, in a process of its own.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use wagate::sandbox::{NewGroup, Number, PhoneOptions, Sandbox, SandboxConfig};

use super::{child, load};

pub async fn play() -> anyhow::Result<()> {
    let network = Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: None,
    })
    .await?;
    let ready = json!({
        "url": network.ws_url(),
        "static_key": hex::encode(network.static_key()),
    });
    child::obey(ready, async |command| answer(&network, command).await).await
}

async fn answer(network: &Sandbox, command: Value) -> anyhow::Result<Value> {
    match child::text(&command, "do")? {
        "phones" => {
            let mut phones = Vec::new();
            for _ in 0..child::count(&command, "count")? {
                // Dormant: receipts of simulated readers are no part of what is measured.
                let options = PhoneOptions {
                    dormant: true,
                    ..Default::default()
                };
                phones.push(network.create_phone(options).await?.number.to_string());
            }
            Ok(json!({ "phones": phones }))
        }
        "scan" => {
            let phones = child::texts(&command, "phones")?;
            let codes = child::texts(&command, "codes")?;
            for (phone, code) in phones.iter().zip(&codes) {
                network.scan_qr(phone.parse()?, code).await?;
            }
            Ok(json!({}))
        }
        "off" => {
            for phone in child::texts(&command, "phones")? {
                network.switch_phone(phone.parse()?, false).await?;
            }
            Ok(json!({}))
        }
        "flood" => {
            let (from, to) = parties(&command)?;
            let count = child::count(&command, "count")?;
            let senders: Vec<_> = (0..from.len())
                .map(|at| {
                    let (network, from, to) = (network.clone(), from.clone(), to.clone());
                    tokio::spawn(async move {
                        for turn in (at..count).step_by(from.len()) {
                            let to = to[turn / from.len() % to.len()];
                            network
                                .send_text(from[at], to, &load::text_of_now())
                                .await?;
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            for sender in senders {
                sender.await??;
            }
            Ok(json!({}))
        }
        "group" => {
            let members = child::texts(&command, "members")?;
            let by: Number = child::text(&command, "by")?.parse()?;
            let members: Result<Vec<Number>, _> = members.iter().map(|one| one.parse()).collect();
            let new = NewGroup {
                subject: "Figures".to_owned(),
                members: members?.into_iter().filter(|one| *one != by).collect(),
                number_addressed: false,
            };
            let (group, _) = network.create_group(by, new).await?;
            Ok(json!({ "group": format!("{group}@g.us") }))
        }
        "pace" => {
            let (from, to) = parties(&command)?;
            let mut tick = tokio::time::interval(Duration::from_micros(2_000));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for turn in 0..child::count(&command, "count")? {
                tick.tick().await;
                let (from, to) = (from[turn % from.len()], to[turn % to.len()]);
                network.send_text(from, to, &load::text_of_now()).await?;
            }
            Ok(json!({}))
        }
        other => bail!("there is no {other:?}"),
    }
}

type Numbers = Arc<[Number]>;

fn parties(command: &Value) -> anyhow::Result<(Numbers, Numbers)> {
    let numbers = |name| -> anyhow::Result<Numbers> {
        let texts = child::texts(command, name)?;
        let numbers = texts.iter().map(|text| Ok(text.parse()?));
        numbers.collect()
    };
    Ok((numbers("from")?, numbers("to")?))
}
