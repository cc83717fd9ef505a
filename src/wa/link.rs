//! One client of the library: how it is built, dialled and stopped.
//!
//! Owns the settings that keep a client small and the pinning of the sandbox. Never decides whether
//! a client should run: that is the session's.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use whatsapp_rust::{
    CacheConfig, CacheEntryConfig, Client, InboundDurabilityHook, Jid, async_channel,
    bot::{Bot, BotHandle},
    pair_code::PairCodeOptions,
    store::DeviceStore as _,
    transport::{TokioWebSocketTransportFactory, Transport, TransportEvent, TransportFactory},
    types::events::{Event, EventHandler, EventInterest, EventKind},
    wacore::store::{
        Device,
        device::{CachedNoiseCert, CachedServerCertChain},
    },
};

use super::{
    networks::{Endpoint, Networks, SandboxPeer},
    store::DeviceBackend,
};
use crate::storage::Network;

/// Events of the library that may wait for the session; more are counted as lost.
const EVENTS_WAITING: usize = 4_096;

/// How long a login may keep its place among the handshakes.
const LOGIN_TIME: Duration = Duration::from_secs(10);

/// The number that a sandbox takes for "not paired yet".
const SANDBOX_PLACEHOLDER: &str = "10000000000";

/// Key of a valid window that never ends: 2100-01-01.
const SANDBOX_KEY_END: i64 = 4_102_444_800;

/// What the session wants to hear. Messages come by the durability hook; those here passed it by.
const INTEREST: &[EventKind] = &[
    EventKind::Connected,
    EventKind::Disconnected,
    EventKind::PairSuccess,
    EventKind::PairError,
    EventKind::LoggedOut,
    EventKind::PairingQrCode,
    EventKind::PairingCode,
    EventKind::PairingCodeRefresh,
    EventKind::PairingCodeError,
    EventKind::PairingQrCodesExhausted,
    EventKind::PairPasskeyRequest,
    EventKind::PairPasskeyError,
    EventKind::ClientOutdated,
    EventKind::StreamReplaced,
    EventKind::TemporaryBan,
    EventKind::ConnectFailure,
    EventKind::SelfPushNameUpdated,
    EventKind::Messages,
    EventKind::Receipt,
    EventKind::ServerAck,
    EventKind::UndecryptableMessage,
];

/// What a client is built from.
pub(super) struct Plan<Hook> {
    pub(super) network: Network,
    pub(super) backend: DeviceBackend,
    pub(super) hook: Hook,
    /// Pair by code with this phone number.
    pub(super) pair_with: Option<String>,
    /// Wait this long before the first dial.
    pub(super) first_delay: Duration,
}

/// A running client.
pub(super) struct Link {
    handle: BotHandle,
    events: mpsc::Receiver<Arc<Event>>,
    lost: Arc<AtomicU32>,
    dialer: Arc<Dialer>,
}

impl Link {
    /// Builds the client and lets it run: it dials, logs in and comes back by itself.
    pub(super) async fn start<Hook>(networks: &Networks, plan: Plan<Hook>) -> anyhow::Result<Self>
    where
        Hook: InboundDurabilityHook + 'static,
    {
        let version = networks.version(plan.network).await?;
        let endpoint = networks
            .endpoint(plan.network)
            .map_err(anyhow::Error::new)?;
        if let Endpoint::Sandbox(peer) = &endpoint {
            pin(&plan.backend, peer).await?;
        }
        let dialer = Arc::new(Dialer::new(
            endpoint,
            networks.handshakes(),
            plan.first_delay,
        ));
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let lost = Arc::new(AtomicU32::new(0));

        let redelivery = plan.backend.redelivery().clone();
        let mut builder = Bot::builder()
            .with_backend(plan.backend)
            .with_transport_factory(SharedDialer(dialer.clone()))
            .with_http_client(networks.http())
            .with_version(version)
            .with_cache_config(small_caches())
            .with_inbound_durability_hook(plan.hook)
            .with_event_handler(Listener {
                events: sender,
                lost: lost.clone(),
                dialer: dialer.clone(),
            })
            // Nothing here reads history yet, and an unread blob is memory and traffic for nothing.
            .skip_history_sync();
        if plan.network == Network::Sandbox {
            builder = builder.with_wanted_pre_key_count(100);
        }
        if let Some(phone_number) = plan.pair_with {
            builder = builder.with_pair_code(PairCodeOptions {
                phone_number,
                ..Default::default()
            });
        }
        let bot = builder.build().await.context("the client can't be built")?;
        dialer.client.set(Arc::downgrade(&bot.client())).ok();
        redelivery.serve(Arc::downgrade(&bot.client()));
        Ok(Self {
            handle: bot.spawn(),
            events,
            lost,
            dialer,
        })
    }

    /// The client.
    pub(super) fn client(&self) -> Arc<Client> {
        self.handle.client()
    }

    /// The next events, all that wait; empty once the client is gone.
    pub(super) async fn events(&mut self) -> Vec<Arc<Event>> {
        let mut events = Vec::new();
        self.events.recv_many(&mut events, 256).await;
        events
    }

    /// How many events were lost since the last call.
    pub(super) fn take_lost(&self) -> u32 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// The client can't come back by itself: the sandbox's pinned key was dropped after a broken handshake.
    pub(super) fn is_stuck(&self) -> bool {
        self.dialer.unpinned()
    }

    /// Stops it, with everything flushed.
    pub(super) async fn shutdown(self) {
        self.dialer.release();
        self.handle.shutdown().await;
    }
}

/// Makes the device trust the sandbox's key and nothing else: the library then resumes by Noise IK,
/// which only that key can answer, and never needs WhatsApp's certificate.
async fn pin(backend: &DeviceBackend, peer: &SandboxPeer) -> anyhow::Result<()> {
    let loaded = backend.load().await.context("the device can't be read")?;
    let mut device = loaded.unwrap_or_else(Device::new);
    let certificate = CachedNoiseCert {
        key: peer.static_key,
        not_before: 0,
        not_after: SANDBOX_KEY_END,
    };
    device.server_cert_chain = Some(CachedServerCertChain {
        intermediate: certificate.clone(),
        leaf: certificate,
    });
    device
        .pn
        .get_or_insert_with(|| Jid::pn(SANDBOX_PLACEHOLDER));
    backend
        .save(&device)
        .await
        .context("the device can't be written")
}

/// Whether a device row is that of a paired device, not of one that was on its way.
pub(super) async fn is_paired(backend: &DeviceBackend) -> anyhow::Result<bool> {
    let device = backend.load().await.context("the device can't be read")?;
    Ok(device.is_some_and(|device| device.account.is_some()))
}

/// The library's defaults fit one busy account; a gateway holds thousands of mostly idle ones.
fn small_caches() -> CacheConfig {
    let hour = Some(Duration::from_secs(3_600));
    CacheConfig {
        group_cache: CacheEntryConfig::new(hour, 50),
        device_registry_cache: CacheEntryConfig::new(hour, 1_200),
        session_locks_capacity: 1_000,
        chat_lanes_capacity: 500,
        ..Default::default()
    }
}

/// Hands the library's events to the session without ever blocking the library.
struct Listener {
    events: mpsc::Sender<Arc<Event>>,
    lost: Arc<AtomicU32>,
    dialer: Arc<Dialer>,
}

impl EventHandler for Listener {
    fn handle_event(&self, event: Arc<Event>) {
        if matches!(*event, Event::Connected(_) | Event::PairingQrCode(_)) {
            self.dialer.release();
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(INTEREST)
    }
}

/// Dials for one client, within the number of handshakes that all clients share.
struct Dialer {
    endpoint: Endpoint,
    handshakes: Arc<Semaphore>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
    first_delay: Mutex<Duration>,
    client: OnceLock<Weak<Client>>,
}

impl Dialer {
    fn new(endpoint: Endpoint, handshakes: Arc<Semaphore>, first_delay: Duration) -> Self {
        Self {
            endpoint,
            handshakes,
            place: Mutex::default(),
            first_delay: Mutex::new(first_delay),
            client: OnceLock::new(),
        }
    }

    fn release(&self) {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// The library dropped the pinned key, so it would try a handshake that the sandbox can't win.
    fn unpinned(&self) -> bool {
        let Endpoint::Sandbox(_) = self.endpoint else {
            return false;
        };
        let client = self.client.get().and_then(Weak::upgrade);
        client.is_some_and(|client| {
            let device = client.persistence_manager().get_device_snapshot();
            device.server_cert_chain.is_none()
        })
    }
}

/// The library wants to own its factory.
struct SharedDialer(Arc<Dialer>);

#[async_trait]
impl TransportFactory for SharedDialer {
    async fn create_transport(
        &self,
    ) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        let dialer = &self.0;
        dialer.release();
        let delay = std::mem::take(
            &mut *dialer
                .first_delay
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        tokio::time::sleep(delay).await;
        if dialer.unpinned() {
            anyhow::bail!("the sandbox's key is no longer pinned");
        }
        let place = dialer.handshakes.clone().acquire_owned().await?;
        let transport = match &dialer.endpoint {
            Endpoint::WhatsApp(factory) => factory.create_transport().await?,
            Endpoint::Sandbox(peer) => {
                TokioWebSocketTransportFactory::new()
                    .with_url(&peer.url)
                    .create_transport()
                    .await?
            }
        };
        *dialer.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        // A handshake that never ends must not keep the others waiting.
        let held = Arc::downgrade(dialer);
        tokio::spawn(async move {
            tokio::time::sleep(LOGIN_TIME).await;
            if let Some(dialer) = held.upgrade() {
                dialer.release();
            }
        });
        Ok(transport)
    }
}
