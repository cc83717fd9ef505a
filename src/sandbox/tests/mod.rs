//! The network against the real client library, over a real socket, with no feature of the library that weakens it:
//! the client pins the network's key as a gateway instance does.

mod app_state;
mod control;
mod faults;
mod groups;
mod groups_crowd;
mod groups_rules;
mod groups_talk;
mod hostile;
mod lifecycle;
mod media;
mod messages;
mod newcomer;
mod pairing;
mod typing;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use tokio::sync::Notify;
use wacore::{
    store::{
        Device, InMemoryBackend,
        device::{CachedNoiseCert, CachedServerCertChain},
        traits::DeviceStore,
    },
    types::events::{Event, EventHandler},
};
use waproto::whatsapp::Message;
use whatsapp_rust::{
    Client, Jid,
    bot::{Bot, BotHandle},
    pair_code::PairCodeOptions,
    transport::TokioWebSocketTransportFactory,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn sandbox() -> Sandbox {
    sandbox_in(None).await
}

async fn sandbox_in(folder: Option<&Path>) -> Sandbox {
    sandbox_at("127.0.0.1:0".parse().unwrap(), folder).await
}

async fn sandbox_at(listen: SocketAddr, folder: Option<&Path>) -> Sandbox {
    let config = SandboxConfig {
        listen,
        data_dir: folder.map(Path::to_owned),
    };
    Sandbox::start(config).await.unwrap()
}

async fn phone(sandbox: &Sandbox, name: &str) -> Number {
    let options = PhoneOptions {
        push_name: name.to_owned(),
        ..PhoneOptions::default()
    };
    sandbox.create_phone(options).await.unwrap().number
}

async fn lid_phone(sandbox: &Sandbox, name: &str) -> Number {
    let options = PhoneOptions {
        push_name: name.to_owned(),
        lid_addressed: true,
        ..PhoneOptions::default()
    };
    sandbox.create_phone(options).await.unwrap().number
}

/// The next message in a phone's inbox for which `wanted` holds.
async fn seen(
    sandbox: &Sandbox,
    phone: Number,
    wanted: impl Fn(&InboxMessage) -> bool,
) -> InboxMessage {
    let mut inbox = std::pin::pin!(sandbox.inbox(phone, 0).unwrap());
    let search = async {
        while let Some(message) = inbox.next().await {
            if wanted(&message) {
                return message;
            }
        }
        panic!("the inbox ended");
    };
    tokio::time::timeout(PATIENCE, search)
        .await
        .expect("the phone never saw it")
}

/// Waits for a condition without an event to wait for.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Events of a client, kept until a test asks for them.
#[derive(Default, Debug)]
struct Events {
    kept: Mutex<VecDeque<Arc<Event>>>,
    texts: Mutex<Vec<Received>>,
    arrived: Notify,
}

impl Events {
    /// Takes the first event that `pick` wants; earlier ones stay.
    async fn next<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        self.wait(what, || {
            let mut kept = self.kept.lock().unwrap();
            let found = kept
                .iter()
                .enumerate()
                .find_map(|(at, event)| Some((at, pick(event)?)));
            let (at, picked) = found?;
            kept.remove(at);
            Some(picked)
        })
        .await
    }

    async fn wait<T>(&self, what: &str, mut take: impl FnMut() -> Option<T>) -> T {
        let search = async {
            loop {
                let arrived = self.arrived.notified();
                match take() {
                    Some(taken) => return taken,
                    None => arrived.await,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(taken) => taken,
            Err(_) => panic!("never: {what}; kept: {self:?}"),
        }
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.kept
            .lock()
            .unwrap()
            .iter()
            .filter(|event| wanted(event))
            .count()
    }
}

struct Recorder(Arc<Events>);

impl EventHandler for Recorder {
    fn handle_event(&self, event: Arc<Event>) {
        if let Event::Messages(batch) = &*event {
            let texts = batch.messages.iter().filter_map(|inbound| {
                Some(Received {
                    id: inbound.info.id.to_string(),
                    text: phone::inbox::text_of(&inbound.message)?,
                    chat: inbound.info.source.chat.clone(),
                    sender: inbound.info.source.sender.clone(),
                    from_me: inbound.info.source.is_from_me,
                    offline: inbound.info.is_offline,
                })
            });
            self.0.texts.lock().unwrap().extend(texts);
        } else {
            self.0.kept.lock().unwrap().push_back(event);
        }
        self.0.arrived.notify_one();
    }
}

/// A linked device driven by the client library.
struct Gateway {
    backend: Arc<InMemoryBackend>,
    events: Arc<Events>,
    handle: BotHandle,
}

/// A message as the client decrypted it.
#[derive(Debug)]
struct Received {
    id: String,
    text: String,
    chat: Jid,
    sender: Jid,
    from_me: bool,
    offline: bool,
}

impl Gateway {
    /// A client without credentials, seeded with the pinned key.
    async fn fresh(sandbox: &Sandbox, code_for: Option<Number>) -> Self {
        let backend = Self::pinning(sandbox.static_key()).await;
        Self::over(sandbox, backend, code_for).await
    }

    /// What a client without credentials keeps, with a pinned key.
    async fn pinning(key: [u8; 32]) -> Arc<InMemoryBackend> {
        let backend = Arc::new(InMemoryBackend::new());
        let certificate = CachedNoiseCert {
            key,
            not_before: 0,
            not_after: 4_102_444_800,
        };
        let mut device = Device::new();
        device.pn = Some(Number::PLACEHOLDER.jid());
        device.server_cert_chain = Some(CachedServerCertChain {
            intermediate: certificate.clone(),
            leaf: certificate,
        });
        backend.create().await.unwrap();
        backend.save(&device).await.unwrap();
        backend
    }

    /// A client over a backend that exists.
    async fn over(
        sandbox: &Sandbox,
        backend: Arc<InMemoryBackend>,
        code_for: Option<Number>,
    ) -> Self {
        Self::dialling(sandbox.ws_url(), backend, code_for).await
    }

    async fn dialling(
        url: String,
        backend: Arc<InMemoryBackend>,
        code_for: Option<Number>,
    ) -> Self {
        let events = Arc::new(Events::default());
        let mut builder = Bot::builder()
            .with_backend_arc(backend.clone())
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(url))
            .with_version((2, 3000, 1_030_000_000))
            .with_wanted_pre_key_count(30)
            .with_event_handler(Recorder(events.clone()));
        if let Some(number) = code_for {
            builder = builder.with_pair_code(PairCodeOptions {
                phone_number: number.to_string(),
                ..Default::default()
            });
        }
        let handle = builder.build().await.unwrap().spawn();
        Self {
            backend,
            events,
            handle,
        }
    }

    /// A client linked to a phone and connected.
    async fn paired(sandbox: &Sandbox, phone: Number) -> (Self, DeviceAddress) {
        let gateway = Self::fresh(sandbox, None).await;
        let device = sandbox.scan_qr(phone, &gateway.qr().await).await.unwrap();
        gateway.connected().await;
        (gateway, device)
    }

    fn client(&self) -> Arc<Client> {
        self.handle.client()
    }

    async fn qr(&self) -> String {
        let pick = |event: &Event| match event {
            Event::PairingQrCode(qr) => Some(qr.code.clone()),
            _ => None,
        };
        self.events.next("a QR code", pick).await
    }

    async fn connected(&self) {
        let pick = |event: &Event| matches!(event, Event::Connected(_)).then_some(());
        self.events.next("connected", pick).await;
    }

    async fn received(&self, text: &str) -> Received {
        let take = || {
            let mut texts = self.events.texts.lock().unwrap();
            let at = texts.iter().position(|received| received.text == text)?;
            Some(texts.remove(at))
        };
        self.events
            .wait(&format!("the message {text:?}"), take)
            .await
    }

    /// Texts that arrived and were not asked for.
    fn unexpected(&self) -> Vec<String> {
        let texts = self.events.texts.lock().unwrap();
        texts.iter().map(|received| received.text.clone()).collect()
    }

    async fn send(&self, to: Jid, text: &str) -> String {
        let message = Message {
            conversation: Some(text.to_owned()),
            ..Default::default()
        };
        let sent = self.client().send_message(to, message).await.unwrap();
        sent.message_id.to_string()
    }

    async fn stop(self) -> Arc<InMemoryBackend> {
        self.handle.shutdown().await;
        self.backend
    }
}
