//! One client of the library: how it is built, dialled and stopped.
//!
//! Owns the settings that keep a client small and the pinning of the sandbox. Never decides whether
//! a client should run: that is the session's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use whatsapp_rust::{
    CacheConfig, CacheEntryConfig, Client, InboundDurabilityHook, IqError, Jid, OwnedNodeRef,
    RawNodeLease, async_channel,
    bot::{Bot, BotHandle},
    pair_code::PairCodeOptions,
    store::DeviceStore as _,
    transport::{TokioWebSocketTransportFactory, Transport, TransportEvent, TransportFactory},
    types::events::{Event, EventHandler, EventInterest, EventKind},
    wacore::{
        iq::{keepalive::KeepaliveSpec, spec::IqSpec as _},
        store::{
            Device,
            device::{CachedNoiseCert, CachedServerCertChain},
        },
    },
    wacore_binary::NodeRef,
};

use super::{
    networks::{Endpoint, Networks, SandboxPeer},
    store::DeviceBackend,
    supervision::{Watch, Watched},
};
use crate::storage::Network;

/// Events of the library that may wait for the session; more are counted as lost.
const EVENTS_WAITING: usize = 4_096;

/// Most events that the session takes at once.
const EVENTS_AT_ONCE: usize = 256;

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
    EventKind::GroupUpdate,
    EventKind::PictureUpdate,
    EventKind::DirtyState,
    EventKind::IncomingCall,
    EventKind::MissedCall,
    EventKind::RawNode,
    EventKind::StarUpdate,
    EventKind::DeleteMessageForMeUpdate,
    EventKind::AppStateSyncFailed,
];

/// Frames that may come in a row of which nothing is heard, before somebody asks.
const FRAMES_UNHEARD: u64 = 8;

/// How long the answer to a question takes at most on a connection that works.
const PROBE_TIME: Duration = Duration::from_secs(10);

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
    _hang_up: AbortOnDropHandle<()>,
    /// While this is held the stanzas themselves are told. Of calls that waited for the account the library
    /// says only that there were some, not what kind of call it was.
    _stanzas: RawNodeLease,
    watch: Watch,
    /// How many frames had come when something was last heard.
    heard_at: Arc<AtomicU64>,
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
        // Before the client runs: within it, its own time-out for a dial would count the wait.
        sleep(plan.first_delay).await;
        let http = networks.http(&endpoint);
        let dialer = Arc::new(Dialer::new(
            endpoint,
            networks.handshakes(),
            plan.backend.failed(),
        ));
        dialer.take_place().await?;
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let lost = Arc::new(AtomicU32::new(0));
        let watch = Watch::default();

        let redelivery = plan.backend.redelivery().clone();
        let mut builder = Bot::builder()
            .with_runtime(Watched(watch.clone()))
            .with_backend(plan.backend)
            .with_transport_factory(SharedDialer(dialer.clone()))
            .with_http_client(http)
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
        let hang_up = hang_up(dialer.store_failed.clone(), Arc::downgrade(&bot.client()));
        redelivery.serve(Arc::downgrade(&bot.client()));
        Ok(Self {
            _hang_up: AbortOnDropHandle::new(tokio::spawn(hang_up)),
            _stanzas: bot.client().acquire_raw_node_forwarding(),
            handle: bot.spawn(),
            events,
            lost,
            dialer,
            watch,
            heard_at: Arc::default(),
        })
    }

    /// The client.
    pub(super) fn client(&self) -> Arc<Client> {
        self.handle.client()
    }

    /// The next events, all that wait; empty once the client is gone or one of its tasks has panicked.
    pub(super) async fn events(&mut self) -> Vec<Arc<Event>> {
        let mut events = Vec::new();
        tokio::select! {
            biased;
            _ = self.events.recv_many(&mut events, EVENTS_AT_ONCE) => {}
            () = self.watch.panicked() => {}
            () = &mut self.handle => {}
        }
        // What it said before it fell still counts, also what came between the looks of one poll: a client's last
        // word may be that its account is banned, and it stops at once.
        while events.len() < EVENTS_AT_ONCE
            && let Ok(event) = self.events.try_recv()
        {
            events.push(event);
        }
        if !events.is_empty() {
            let frames = self.client().stats().frames_received;
            self.heard_at.store(frames, Ordering::Relaxed);
        }
        events
    }

    /// Whether a task of the client has panicked.
    pub(super) fn has_panicked(&self) -> bool {
        self.watch.has_panicked()
    }

    /// How many events were lost since the last call.
    pub(super) fn take_lost(&self) -> u32 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Pulled once the device's state can't be stored: this client must not go on.
    pub(super) fn store_failed(&self) -> CancellationToken {
        self.dialer.store_failed.clone()
    }

    /// The client can't come back by itself: the sandbox's pinned key was dropped after a broken handshake.
    pub(super) fn is_stuck(&self) -> bool {
        self.dialer.unpinned()
    }

    /// Asks WhatsApp for a sign of life if frames come and nothing is heard, and dials again if there is none.
    ///
    /// One frame that the cipher can't open makes all that follow unreadable. The library drops them without a word
    /// and takes each for a proof that the connection is well, so a busy one would be deaf for ever.
    pub(super) fn check_hearing(&self) {
        let client = self.client();
        let frames = client.stats().frames_received;
        if frames.saturating_sub(self.heard_at.load(Ordering::Relaxed)) < FRAMES_UNHEARD {
            return;
        }
        let heard_at = self.heard_at.clone();
        tokio::spawn(async move {
            let question = KeepaliveSpec::with_timeout(PROBE_TIME).build_iq();
            match client.send_iq(question).await {
                Err(IqError::Timeout) => {
                    tracing::warn!("nothing that WhatsApp says can be understood; dialling again");
                    client.reconnect().await;
                }
                // Any answer was understood, and what failed otherwise is noticed by the library.
                _ => heard_at.store(frames, Ordering::Relaxed),
            }
        });
    }

    /// Stops it, with everything flushed; returns what it said until then.
    pub(super) async fn shutdown(mut self) -> Vec<Arc<Event>> {
        self.dialer.close();
        self.handle.shutdown().await;
        let mut rest = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            rest.push(event);
        }
        rest
    }
}

/// Ends the connection once the device's state can't be stored. The client's memory is ahead of the
/// database then: should WhatsApp deliver again what was not stored, the client would take it for a
/// duplicate and confirm it. One that begins from the database reads it anew.
async fn hang_up(store_failed: CancellationToken, client: Weak<Client>) {
    store_failed.cancelled().await;
    if let Some(client) = client.upgrade() {
        // Boxed: every open instance waits here, and hardly any gets any further.
        Box::pin(client.disconnect()).await;
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

/// Whether the client is linked to a phone by now, stored or not.
pub(super) fn is_linked(client: &Client) -> bool {
    let device = client.persistence_manager().get_device_snapshot();
    device.account.is_some()
}

/// How long a message can be sent again to a device that could not read it: as long as WhatsApp keeps
/// messages for a device that is away.
const KEEP_SENT: Duration = Duration::from_secs(30 * 86_400);

/// The library's defaults fit one busy account; a gateway holds thousands of mostly idle ones.
fn small_caches() -> CacheConfig {
    let hour = Some(Duration::from_secs(3_600));
    CacheConfig {
        group_cache: CacheEntryConfig::new(hour, 50),
        device_registry_cache: CacheEntryConfig::new(hour, 1_200),
        session_locks_capacity: 1_000,
        chat_lanes_capacity: 500,
        sent_message_ttl_secs: KEEP_SENT.as_secs(),
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
        match &*event {
            Event::Connected(_) | Event::PairingQrCode(_) => self.dialer.release(),
            Event::RawNode(node) if !is_call_that_waited(node) => return,
            // They came by the hook; here they would only push others out.
            Event::Messages(batch) if batch.hook_committed => return,
            _ => {}
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(INTEREST)
    }
}

/// An offer of a call: all else of calls the library tells in full.
fn is_call_that_waited(node: &OwnedNodeRef) -> bool {
    let node = node.get();
    let offer = |child: &NodeRef<'_>| matches!(child.tag.as_ref(), "offer" | "offer_notice");
    node.tag == "call"
        && node.get_attr("offline").is_some()
        && node.children().is_some_and(|all| all.iter().any(offer))
}

/// Dials for one client, within the number of handshakes that all clients share.
struct Dialer {
    endpoint: Endpoint,
    handshakes: Arc<Semaphore>,
    place: Mutex<Option<Place>>,
    dials: AtomicU64,
    client: OnceLock<Weak<Client>>,
    closed: CancellationToken,
    store_failed: CancellationToken,
}

/// A place among the handshakes, and the dial it is for.
struct Place {
    dial: u64,
    _permit: OwnedSemaphorePermit,
}

impl Dialer {
    fn new(
        endpoint: Endpoint,
        handshakes: Arc<Semaphore>,
        store_failed: CancellationToken,
    ) -> Self {
        Self {
            endpoint,
            handshakes,
            place: Mutex::default(),
            dials: AtomicU64::new(0),
            client: OnceLock::new(),
            closed: CancellationToken::new(),
            store_failed,
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self) {
        self.place().take();
    }

    /// Dials no more, and ends the dial that waits.
    fn close(&self) {
        self.closed.cancel();
        self.release();
    }

    /// Waits for a place for the next dial, unless it has one.
    async fn take_place(&self) -> anyhow::Result<u64> {
        let next = self.dials.load(Ordering::Relaxed) + 1;
        if self
            .place()
            .as_ref()
            .is_some_and(|place| place.dial == next)
        {
            return Ok(next);
        }
        self.release();
        let permit = self.handshakes.clone().acquire_owned().await?;
        *self.place() = Some(Place {
            dial: next,
            _permit: permit,
        });
        Ok(next)
    }

    async fn dial(
        self: &Arc<Self>,
    ) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        if self.store_failed.is_cancelled() {
            anyhow::bail!("the device's state can't be stored");
        }
        if self.unpinned() {
            anyhow::bail!("the sandbox's key is no longer pinned");
        }
        let dial = self.take_place().await?;
        self.dials.store(dial, Ordering::Relaxed);
        // A handshake that never ends must not keep the others waiting.
        let held = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep(LOGIN_TIME).await;
            if let Some(dialer) = held.upgrade() {
                let mut place = dialer.place();
                if place.as_ref().is_some_and(|place| place.dial == dial) {
                    place.take();
                }
            }
        });
        let dialled = match &self.endpoint {
            Endpoint::WhatsApp(factory) => factory.create_transport().await,
            Endpoint::Sandbox(peer) => {
                TokioWebSocketTransportFactory::new()
                    .with_url(&peer.url)
                    .create_transport()
                    .await
            }
        };
        if dialled.is_err() {
            self.release();
        }
        dialled
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
        tokio::select! {
            biased;
            () = dialer.closed.cancelled() => anyhow::bail!("the client is being stopped"),
            dialled = dialer.dial() => dialled,
        }
    }
}
