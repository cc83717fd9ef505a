//! The networks that instances can live in, and what is shared by all clients of one.
//!
//! Owns the addresses, the protocol version (fetched once per process, not per device), the TLS
//! settings and the number of logins at once.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};
use whatsapp_rust::{
    http::{HttpClient, UreqHttpClient},
    transport::{TokioWebSocketTransportFactory, TransportFactory, default_tls_connector},
};

use super::{error::WaError, http::Http};
use crate::storage::Network;

/// A protocol version of WhatsApp Web.
pub(super) type Version = (u32, u32, u32);

/// The sandbox takes any version, so there is nothing to fetch.
const SANDBOX_VERSION: Version = (2, 3000, 1_042_742_319);

/// A fetched version is good this long.
const VERSION_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Most bytes of an answer: the largest file that WhatsApp takes, 2 GiB, and what sealing adds to it. The library cuts
/// answers off at 2 GiB, and what is cut off looks damaged.
const MOST_BODY: u64 = (2 << 30) + (64 << 10);

/// Where a sandbox listens, and the key that proves it is the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxPeer {
    /// `ws://…/ws/chat`
    pub url: String,
    /// Its static Noise key. Clients trust this key and no other.
    pub static_key: [u8; 32],
}

/// What the rooms above set.
#[derive(Clone, Debug)]
pub struct NetworksConfig {
    /// The sandbox, if this server has one.
    pub sandbox: Option<SandboxPeer>,
    /// Network of instances whose creator names none.
    pub default_network: Network,
    /// Most handshakes at once.
    pub max_handshakes: usize,
}

/// Everything that clients share.
pub(super) struct Networks {
    config: NetworksConfig,
    whatsapp: Arc<dyn TransportFactory>,
    http: UreqHttpClient,
    version: Mutex<Known>,
    handshakes: Arc<Semaphore>,
}

/// What is known of the version.
#[derive(Default)]
struct Known {
    version: Option<(Version, Instant)>,
    /// When it last could not be fetched.
    failed: Option<Instant>,
}

/// How to reach one network.
pub(super) enum Endpoint {
    /// WhatsApp, verified by its certificates.
    WhatsApp(Arc<dyn TransportFactory>),
    /// The sandbox, verified by its key.
    Sandbox(SandboxPeer),
}

impl Networks {
    pub(super) fn new(config: NetworksConfig) -> Self {
        let factory = TokioWebSocketTransportFactory::new().with_connector(default_tls_connector());
        Self {
            whatsapp: Arc::new(factory),
            http: UreqHttpClient::new().with_max_body_bytes(MOST_BODY),
            version: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(config.max_handshakes.max(1))),
            config,
        }
    }

    /// The network to use where the caller names this one or none.
    pub(super) fn choose(&self, wanted: Option<Network>) -> Result<Network, WaError> {
        let network = wanted.unwrap_or(self.config.default_network);
        self.endpoint(network).map(|_| network)
    }

    pub(super) fn endpoint(&self, network: Network) -> Result<Endpoint, WaError> {
        match network {
            Network::WhatsApp => Ok(Endpoint::WhatsApp(self.whatsapp.clone())),
            Network::Sandbox => {
                let missing = WaError::NetworkNotConfigured("sandbox");
                let peer = self.config.sandbox.clone().ok_or(missing)?;
                Ok(Endpoint::Sandbox(peer))
            }
        }
    }

    /// The HTTP client of instances of this network.
    pub(super) fn http(&self, endpoint: &Endpoint) -> Http {
        match endpoint {
            Endpoint::WhatsApp(_) => Http::whatsapp(self.http.clone()),
            Endpoint::Sandbox(peer) => Http::sandbox(self.http.clone(), &peer.url),
        }
    }

    pub(super) fn handshakes(&self) -> Arc<Semaphore> {
        self.handshakes.clone()
    }

    /// The version to log in with; fetched if the one known is old.
    pub(super) async fn version(&self, network: Network) -> anyhow::Result<Version> {
        if network == Network::Sandbox {
            return Ok(SANDBOX_VERSION);
        }
        let asked = Instant::now();
        // Held while fetching, so that a thousand starting sessions ask once …
        let mut known = self.version.lock().await;
        if let Some((version, since)) = known.version
            && since.elapsed() < VERSION_AGE
        {
            return Ok(version);
        }
        // … and once when it fails: whoever waited for this answer does not ask again in turn.
        if known.failed.is_some_and(|failed| failed > asked) {
            anyhow::bail!("WhatsApp's current protocol version could not be fetched");
        }
        let http: Arc<dyn HttpClient> = Arc::new(self.http.clone());
        let version = whatsapp_rust::version::fetch_latest_app_version(&http)
            .await
            .inspect_err(|_| known.failed = Some(Instant::now()))
            .context("WhatsApp's current protocol version can't be fetched")?;
        known.version = Some((version, Instant::now()));
        Ok(version)
    }

    /// WhatsApp refused the version: the next login asks for the current one.
    pub(super) async fn forget_version(&self) {
        self.version.lock().await.version = None;
    }
}
