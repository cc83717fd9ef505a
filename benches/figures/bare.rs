//! The limit of everything that speaks WhatsApp: the library alone with its store in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::sync::watch;
use wacore::store::{
    Device, InMemoryBackend,
    device::{CachedNoiseCert, CachedServerCertChain},
    traits::DeviceStore as _,
};
use waproto::whatsapp::Message;
use whatsapp_rust::{
    Jid,
    bot::{Bot, BotHandle},
    transport::TokioWebSocketTransportFactory,
    types::events::{Event, EventHandler, EventInterest, EventKind},
};

use super::{
    child,
    load::{self, within},
    table::percentile,
};

/// The number that the network takes for "not paired yet".
const PLACEHOLDER: &str = "10000000000";

/// Key of a valid window that never ends: 2100-01-01.
const KEY_END: i64 = 4_102_444_800;

/// What all clients have told.
#[derive(Default)]
struct Told {
    codes: BTreeMap<usize, String>,
    connected: BTreeSet<usize>,
}

/// Received messages: when each came, and how long after it was sent, in microseconds.
type Received = Vec<(Instant, Option<f64>)>;

#[derive(Clone, Default)]
struct Ears {
    told: Arc<watch::Sender<Told>>,
    received: Arc<Mutex<Received>>,
    count: Arc<watch::Sender<usize>>,
}

impl Ears {
    fn received(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ear at one client.
struct Ear {
    client: usize,
    ears: Ears,
}

impl EventHandler for Ear {
    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::PairingQrCode(code) => self.ears.told.send_modify(|told| {
                told.codes.insert(self.client, code.code.clone());
            }),
            Event::Connected(_) => self.ears.told.send_modify(|told| {
                told.connected.insert(self.client);
            }),
            Event::Messages(batch) => {
                let (now, time) = (Instant::now(), SystemTime::now());
                let took = batch.messages.iter().map(|one| {
                    let sent = load::time_of(one.message.conversation.as_deref()?)?;
                    Some(time.duration_since(sent).ok()?.as_secs_f64() * 1e6)
                });
                let count = {
                    let mut received = self.ears.received();
                    received.extend(took.map(|took| (now, took)));
                    received.len()
                };
                self.ears.count.send_replace(count);
            }
            _ => {}
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::PairingQrCode,
            EventKind::Connected,
            EventKind::Messages,
        ])
    }
}

struct One {
    backend: Arc<InMemoryBackend>,
    handle: BotHandle,
}

struct Clients {
    url: String,
    static_key: [u8; 32],
    ears: Ears,
    all: Vec<One>,
    /// Of those that have left.
    away: Vec<Arc<InMemoryBackend>>,
}

pub async fn play(with: Value) -> anyhow::Result<()> {
    let mut static_key = [0; 32];
    hex::decode_to_slice(child::text(&with, "static_key")?, &mut static_key)?;
    let mut clients = Clients {
        url: child::text(&with, "url")?.to_owned(),
        static_key,
        ears: Ears::default(),
        all: Vec::new(),
        away: Vec::new(),
    };
    child::obey(json!({}), async |command| clients.answer(command).await).await
}

impl Clients {
    async fn answer(&mut self, command: Value) -> anyhow::Result<Value> {
        match child::text(&command, "do")? {
            "open" => self.open(child::count(&command, "count")?).await,
            "connected" => self.connected().await,
            "save" => self.save(child::text(&command, "file")?).await,
            "load" => self.load(child::text(&command, "file")?).await,
            "again" => self.again().await,
            "leave" => self.leave().await,
            "forget" => {
                self.ears.received().clear();
                self.ears.count.send_replace(0);
                Ok(json!({}))
            }
            "expect" => {
                let skipped = command["skipped"].as_u64().unwrap_or(0);
                let count = child::count(&command, "count")?;
                self.expect(skipped as usize, count).await
            }
            "send" => self.send(&command).await,
            other => bail!("there is no {other:?}"),
        }
    }

    async fn start(&self, client: usize, backend: Arc<InMemoryBackend>) -> anyhow::Result<One> {
        let bot = Bot::builder()
            .with_backend_arc(backend.clone())
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(&self.url))
            .with_version((2, 3000, 1_042_742_319))
            .with_wanted_pre_key_count(100)
            .with_event_handler(Ear {
                client,
                ears: self.ears.clone(),
            })
            .skip_history_sync()
            .build()
            .await
            .context("the client can't be built")?;
        Ok(One {
            backend,
            handle: bot.spawn(),
        })
    }

    /// New clients; answers with the code that each shows.
    async fn open(&mut self, count: usize) -> anyhow::Result<Value> {
        let first = self.all.len();
        for client in first..first + count {
            let backend = Arc::new(InMemoryBackend::new());
            let certificate = CachedNoiseCert {
                key: self.static_key,
                not_before: 0,
                not_after: KEY_END,
            };
            let mut device = Device::new();
            device.pn = Some(Jid::pn(PLACEHOLDER));
            device.server_cert_chain = Some(CachedServerCertChain {
                intermediate: certificate.clone(),
                leaf: certificate,
            });
            backend.create().await?;
            backend.save(&device).await?;
            let one = self.start(client, backend).await?;
            self.all.push(one);
        }
        let mut told = self.ears.told.subscribe();
        let wanted = first..first + count;
        let shown = told.wait_for(|told| wanted.clone().all(|at| told.codes.contains_key(&at)));
        let told = within("codes", shown).await??;
        let codes: Vec<&String> = wanted.clone().map(|at| &told.codes[&at]).collect();
        Ok(json!({ "codes": codes }))
    }

    /// Waits until all are connected.
    async fn connected(&self) -> anyhow::Result<Value> {
        let mut told = self.ears.told.subscribe();
        let all = told.wait_for(|told| told.connected.len() >= self.all.len());
        within("logins", all).await??;
        Ok(json!({}))
    }

    async fn save(&self, file: &str) -> anyhow::Result<Value> {
        let mut devices = Vec::new();
        for one in &self.all {
            devices.push(one.backend.load().await?.context("no device")?);
        }
        std::fs::write(file, serde_json::to_vec(&devices)?)?;
        Ok(json!({}))
    }

    async fn load(&mut self, file: &str) -> anyhow::Result<Value> {
        let devices: Vec<Device> = serde_json::from_slice(&std::fs::read(file)?)?;
        for (client, mut device) in devices.into_iter().enumerate() {
            // These are not part of what is kept.
            let fresh = Device::new();
            device.device_props = fresh.device_props;
            device.client_profile = fresh.client_profile;
            let backend = Arc::new(InMemoryBackend::new());
            backend.create().await?;
            backend.save(&device).await?;
            let one = self.start(client, backend).await?;
            self.all.push(one);
        }
        self.connected().await
    }

    /// All disconnect and keep what they know.
    async fn leave(&mut self) -> anyhow::Result<Value> {
        for one in self.all.drain(..) {
            one.handle.shutdown().await;
            self.away.push(one.backend);
        }
        self.ears.told.send_modify(|told| told.connected.clear());
        Ok(json!({}))
    }

    /// Those that have left come again.
    async fn again(&mut self) -> anyhow::Result<Value> {
        for (client, backend) in std::mem::take(&mut self.away).into_iter().enumerate() {
            let one = self.start(client, backend).await?;
            self.all.push(one);
        }
        Ok(json!({}))
    }

    /// Waits for so many messages; the first so many of them are not timed.
    async fn expect(&self, skipped: usize, count: usize) -> anyhow::Result<Value> {
        let mut seen = self.ears.count.subscribe();
        within("messages", seen.wait_for(|seen| *seen >= count)).await??;
        let received = self.ears.received();
        let (first, last) = match (received.get(skipped), received.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => bail!("no message was wanted"),
        };
        let mut took: Vec<f64> = received.iter().filter_map(|one| one.1).collect();
        took.sort_by(f64::total_cmp);
        Ok(json!({
            "micros": (last - first).as_secs_f64() * 1e6,
            "counted": received.len() - skipped - 1,
            "p50": percentile(&took, 0.5),
            "p99": percentile(&took, 0.99),
        }))
    }

    /// Sends so many texts, so many at a time, from all clients in turn.
    async fn send(&self, command: &Value) -> anyhow::Result<Value> {
        let count = child::count(command, "count")?;
        let at_once = child::count(command, "at_once")?;
        let to: Arc<[Jid]> = child::texts(command, "to")?
            .iter()
            .map(|to| match to.contains('@') {
                true => Ok(to.parse()?),
                false => Ok(Jid::pn(to.as_str())),
            })
            .collect::<anyhow::Result<_>>()?;
        let clients: Arc<[_]> = self.all.iter().map(|one| one.handle.client()).collect();
        let begun = Instant::now();
        let senders: Vec<_> = (0..at_once)
            .map(|sender| {
                let (clients, to) = (clients.clone(), to.clone());
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    for turn in (sender..count).step_by(at_once) {
                        let message = Message {
                            conversation: Some(
                                "a text of the usual length, give or take a few".to_owned(),
                            ),
                            ..Default::default()
                        };
                        let client = &clients[turn % clients.len()];
                        let to = to[(turn / clients.len()) % to.len()].clone();
                        let begun = Instant::now();
                        client.send_message(to, message).await?;
                        took.push(begun.elapsed());
                    }
                    anyhow::Ok(took)
                })
            })
            .collect();
        let mut took: Vec<Duration> = Vec::with_capacity(count);
        for sender in senders {
            took.extend(sender.await??);
        }
        took.sort();
        let took: Vec<f64> = took.iter().map(|one| one.as_secs_f64() * 1e6).collect();
        Ok(json!({
            "micros": begun.elapsed().as_secs_f64() * 1e6,
            "p50": percentile(&took, 0.5),
            "p99": percentile(&took, 0.99),
        }))
    }
}
