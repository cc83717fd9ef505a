//! The one place where the parts are put together.
//!
//! Owns the order in which they start and stop. Holds no logic of its own.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    auth::{Keys, NewKey},
    config::{self, Config},
    domain::permission::Permission,
    events::{Log, Retention},
    grpc::{
        StreamLimits, access,
        instances::Instances,
        messages::Messages,
        server::{self, Parts, ServerConfig, Services, TlsFiles},
    },
    lifecycle::Shutdown,
    proto::sandbox_v1::sandbox_service_server::SandboxServiceServer,
    sandbox::{Sandbox, SandboxConfig},
    storage::{Network, Storage, sqlite::SqliteStorage},
    wa::{NetworksConfig, Registry, SandboxPeer},
};

/// The database's file within the data folder.
const DATABASE: &str = "wagate.db";

/// The file within the data folder that keeps a sandbox's key.
const KEY_FILE: &str = "api-key";

/// The sandbox's folder within the data folder.
const NETWORK: &str = "network";

/// A running gateway.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// The secret of the first API key, if this start created it. Nobody can tell it again.
    pub first_key: Option<String>,
    storage: Arc<dyn Storage>,
    keys: Keys,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    server: JoinHandle<anyhow::Result<()>>,
    retention: JoinHandle<()>,
}

impl Gateway {
    /// Starts everything; serves when it returns. With a sandbox in the same process, its control
    /// service is served too.
    pub async fn start(
        config: &Config,
        peer: Option<SandboxPeer>,
        sandbox: Option<&Sandbox>,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let storage: Arc<dyn Storage> = open_storage(&config.storage.data_dir).await?;
        let keys = Keys::new(storage.clone());
        let first = keys.create_first("first key").await?;
        let log = Log::new(
            storage.clone(),
            Retention {
                age: config.events.retention_age,
                max_bytes: config.events.retention_bytes,
                ..Default::default()
            },
        );
        // Bound before anything dials, so that a taken port is the first thing to be heard of.
        let listener = TcpListener::bind(config.server.listen)
            .await
            .with_context(|| format!("can't listen on {}", config.server.listen))?;
        let address = listener.local_addr()?;

        let networks = NetworksConfig {
            sandbox: peer,
            default_network: match config.sessions.default_network {
                config::Network::Whatsapp => Network::WhatsApp,
                config::Network::Sandbox => Network::Sandbox,
            },
            max_handshakes: config.sessions.max_handshakes,
        };
        let registry = Registry::start(storage.clone(), log.clone(), networks).await?;
        let retention = tokio::spawn(log.clone().keep_small(shutdown.clone()));
        let mut services = Services::new();
        services
            .add(Instances::server(storage.clone(), registry.clone()))
            .add(Messages::server(storage.clone(), registry.clone()));
        if let Some(sandbox) = sandbox {
            services.add(SandboxServiceServer::with_interceptor(
                sandbox.service(),
                |request| access::permit(&request, Permission::SandboxWrite).map(|_| request),
            ));
        }
        let parts = Parts {
            storage: storage.clone(),
            log,
            keys: keys.clone(),
            services,
            config: server_config(config),
        };
        let server = tokio::spawn(server::serve(parts, listener, shutdown.clone()));
        Ok(Self {
            address,
            first_key: first.map(|secret| secret.reveal()),
            storage,
            keys,
            registry,
            shutdown,
            server,
            retention,
        })
    }

    /// Runs until somebody asks for the end or the server fails, then stops everything, flushed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let failed = tokio::select! {
            ended = &mut self.server => Some(ended),
            () = self.shutdown.begun() => None,
        };
        self.shutdown.begin();
        // Streams end while sessions do: neither waits for the other.
        tokio::select! {
            () = self.registry.shutdown() => {}
            // Asked twice: what is committed is safe, and the rest comes again.
            () = self.shutdown.forced() => {}
        }
        let ended = match failed {
            Some(ended) => ended,
            None => self.server.await,
        };
        self.retention.await.ok();
        self.storage.close().await;
        ended.context("the server's task failed")?
    }

    /// The key in a file; a new one where the file is missing or its key no good.
    async fn kept_key(&self, file: &Path) -> anyhow::Result<String> {
        let usable = |key: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("x-api-key", key.trim().parse().ok()?);
            Some(headers)
        };
        if let Ok(kept) = fs::read_to_string(file)
            && let Some(headers) = usable(&kept)
            && let Ok(caller) = self.keys.authenticate(&headers).await
            && caller.may(Permission::All)
        {
            return Ok(kept.trim().to_owned());
        }
        let key = match &self.first_key {
            Some(key) => key.clone(),
            None => {
                let new = NewKey {
                    display_name: "sandbox".to_owned(),
                    permissions: vec![Permission::All],
                    instances: Vec::new(),
                };
                self.keys.create(new).await?.1.reveal()
            }
        };
        private_file(file, &key).with_context(|| format!("can't write {}", file.display()))?;
        Ok(key)
    }

    /// Asks for the end and waits for it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        self.run().await
    }
}

/// A gateway and a network for it in one process.
pub struct SandboxGateway {
    /// The network.
    pub network: Sandbox,
    /// The gateway.
    pub gateway: Gateway,
    /// A key that may do everything. The network is a toy, so its key may lie beside it.
    pub key: String,
    /// Where that key is kept.
    pub key_file: PathBuf,
}

impl SandboxGateway {
    /// Starts both; both serve when it returns.
    pub async fn start(config: &Config, shutdown: Shutdown) -> anyhow::Result<Self> {
        let folder = config.storage.data_dir.join(NETWORK);
        private_folder(&folder).with_context(|| format!("can't use {}", folder.display()))?;
        let network = Sandbox::start(SandboxConfig {
            listen: config.sandbox.network_listen,
            data_dir: Some(folder),
        })
        .await?;
        let peer = SandboxPeer {
            url: network.ws_url(),
            static_key: network.static_key(),
        };
        let gateway = Gateway::start(config, Some(peer), Some(&network), shutdown).await?;
        let key_file = config.storage.data_dir.join(KEY_FILE);
        let key = gateway.kept_key(&key_file).await?;
        Ok(Self {
            network,
            gateway,
            key,
            key_file,
        })
    }

    /// Runs until somebody asks for the end, then stops the gateway before the network.
    pub async fn run(self) -> anyhow::Result<()> {
        let ended = self.gateway.run().await;
        self.network.shutdown().await;
        ended
    }
}

/// Runs the gateway until it is told to stop.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.obey_signals()?;
    let peer = external_sandbox(&config)?;
    let gateway = Gateway::start(&config, peer, None, shutdown).await?;
    println!(
        "wagate {} listens on {}",
        env!("CARGO_PKG_VERSION"),
        gateway.address
    );
    if let Some(key) = &gateway.first_key {
        println!("\nThe first API key, shown only this once:\n\n  {key}\n");
    }
    gateway.run().await
}

/// The sandbox that runs elsewhere, if the settings name one.
fn external_sandbox(config: &Config) -> anyhow::Result<Option<SandboxPeer>> {
    let peer = config.sandbox.external()?;
    Ok(peer.map(|peer| SandboxPeer {
        url: peer.url,
        static_key: peer.static_key,
    }))
}

fn server_config(config: &Config) -> ServerConfig {
    let unset = |path: &Path| path.as_os_str().is_empty();
    let tls = (!unset(&config.server.tls_certificate)).then(|| TlsFiles {
        certificate: config.server.tls_certificate.clone(),
        key: config.server.tls_key.clone(),
    });
    ServerConfig {
        tls,
        streams: StreamLimits {
            stall: config.events.slow_consumer_timeout,
            per_key: config.events.streams_per_key,
            ..Default::default()
        },
        drain: config.sessions.shutdown_timeout,
        ..Default::default()
    }
}

async fn open_storage(folder: &Path) -> anyhow::Result<Arc<SqliteStorage>> {
    private_folder(folder).with_context(|| format!("can't use {}", folder.display()))?;
    let path = folder.join(DATABASE);
    SqliteStorage::open(&path, Default::default())
        .await
        .with_context(|| format!("can't open {}", path.display()))
}

/// Creates the folder for its owner only: it holds the keys of WhatsApp accounts.
fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Writes a file that only its owner reads.
fn private_file(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    writeln!(options.open(path)?, "{content}")
}
