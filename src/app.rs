//! The one place where the parts are put together.
//!
//! Owns the order in which they start and stop. Holds no logic of its own.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    task::{JoinError, JoinHandle},
    time::{sleep, timeout},
};
use tonic::{codec::CompressionEncoding, service::interceptor::InterceptedService};

use crate::{
    auth::Keys,
    config::{self, Config},
    domain::permission::Permission,
    egress::{Egress, Guard},
    events::{Log, Retention},
    grpc::{
        ConnectionLimits, RateLimit, StreamLimits, TlsFiles, access,
        calls::Calls,
        contacts::Contacts,
        ending::Ending,
        groups::GroupCalls,
        instances::{self, Instances},
        media::MediaFiles,
        messages::Messages,
        payments::Payments,
        queues::Queues,
        server::{self, Parts, ServerConfig, Services},
    },
    lifecycle::Shutdown,
    media::{self, Bucket, Media, MediaConfig, Place, SizeLimits, links::Links},
    preview::Previews,
    private_files,
    proto::sandbox_v1::sandbox_service_server::SandboxServiceServer,
    sandbox::{Sandbox, SandboxConfig},
    storage::{Network, Storage, sqlite::SqliteStorage},
    wa::{Fetcher, NetworksConfig, Passage, Registry, SandboxPeer, Uploads, fetch_media},
};

/// The database's file within the data folder.
const DATABASE: &str = "wagate.db";

/// The folder of media within the data folder, unless another is set.
const MEDIA: &str = "media";

/// The folder within the data folder that files pass through on their way from and to WhatsApp.
const PASSAGE: &str = "passage";

/// The file within the data folder that keeps the key of links to media.
const LINK_KEY_FILE: &str = "media-link-key";

/// The file within the data folder that keeps a sandbox's key.
const KEY_FILE: &str = "api-key";

/// The sandbox's folder within the data folder.
const NETWORK: &str = "network";

/// The sandbox's stream that has no end of its own.
const INBOX: &str = "/wagate.sandbox.v1.SandboxService/StreamInbox";

/// How long sessions may take to end beyond what the settings give the streams. A connection to
/// WhatsApp takes up to twelve seconds to say goodbye; together it stays under the thirty that
/// supervisors wait before they kill.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// How long the process itself may take beyond that.
const LAST_BREATH: Duration = Duration::from_secs(3);

/// When a process that was told to end must be gone, whatever hangs.
pub fn end_after(config: &Config) -> Duration {
    config.sessions.shutdown_timeout + LAST_WORDS + LAST_BREATH
}

/// How long all of it may take once somebody insists.
const FORCED: Duration = Duration::from_secs(1);

/// How the server's task ended.
type Served = Result<anyhow::Result<()>, JoinError>;

/// A running gateway.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where links to media are served, if they are.
    pub link_address: Option<SocketAddr>,
    /// The secret of the first API key, if this start created it. Nobody can tell it again.
    pub first_key: Option<String>,
    storage: Arc<dyn Storage>,
    keys: Keys,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    server: JoinHandle<anyhow::Result<()>>,
    retention: JoinHandle<()>,
    sweep: JoinHandle<()>,
    fetcher: JoinHandle<()>,
    link_server: Option<JoinHandle<io::Result<()>>>,
    /// How long all of them may take to end.
    patience: Duration,
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

        let egress = Egress::new(Guard::new(config.egress.allowed()?));
        let media = Media::open(storage.clone(), egress.clone(), media_config(config))?;
        let passage = config.storage.data_dir.join(PASSAGE);
        let passage =
            Passage::open(&passage).with_context(|| format!("can't use {}", passage.display()))?;
        let links = match config.media.link_address()? {
            Some(listen) => Some(open_links(config, listen).await?),
            None => None,
        };

        let networks = NetworksConfig {
            sandbox: peer,
            default_network: match config.sessions.default_network {
                config::Network::Whatsapp => Network::WhatsApp,
                config::Network::Sandbox => Network::Sandbox,
            },
            max_handshakes: config.sessions.max_handshakes,
        };
        let uploads = Uploads::new(media.clone(), passage.clone());
        let previews = Previews::new(egress, media.clone());
        let registry =
            Registry::start(storage.clone(), log.clone(), uploads, previews, networks).await?;
        // Last of all that can fail: a start that fails must not take the secret with it.
        let first = match keys.create_first("first key").await {
            Ok(first) => first,
            Err(error) => {
                registry.shutdown().await;
                return Err(error.into());
            }
        };
        let retention = tokio::spawn(log.clone().keep_small(shutdown.clone()));
        let sweep = tokio::spawn(media.clone().keep_small(shutdown.clone()));
        let fetcher = Fetcher {
            storage: storage.clone(),
            media: media.clone(),
            registry: registry.clone(),
            passage,
        };
        let fetcher = tokio::spawn(fetch_media(fetcher, shutdown.clone()));
        let link_address = links.as_ref().map(|(_, _, address)| *address);
        let (link_server, links) = match links {
            Some((links, listener, _)) => {
                let (media, shutdown) = (media.clone(), shutdown.clone());
                let serving = media::serve_links(listener, media, links.clone(), shutdown);
                (Some(tokio::spawn(serving)), Some(links))
            }
            None => (None, None),
        };
        let mut services = Services::new();
        services
            .add(Ending::when_revoked(
                Instances::server(storage.clone(), registry.clone()),
                instances::PAIR,
                keys.clone(),
            ))
            .add(Contacts::server(storage.clone()))
            .add(MediaFiles::server(storage.clone(), media, links))
            .add(Messages::server(storage.clone(), registry.clone()))
            .add(GroupCalls::server(storage.clone(), registry.clone()))
            .add(Calls::server(storage.clone(), registry.clone()))
            .add(Payments::server(storage.clone(), registry.clone()))
            .add(Queues::server(storage.clone(), registry.clone()));
        if let Some(sandbox) = sandbox {
            let control = SandboxServiceServer::new(sandbox.service())
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip);
            let control = InterceptedService::new(control, |request| {
                access::permit(&request, Permission::SandboxWrite).map(|_| request)
            });
            let control = Ending::when_revoked(control, INBOX, keys.clone());
            services.add(control.or_drained(shutdown.clone()));
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
            link_address,
            first_key: first.map(|secret| secret.reveal()),
            storage,
            keys,
            registry,
            shutdown,
            server,
            retention,
            sweep,
            fetcher,
            link_server,
            patience: config.sessions.shutdown_timeout + LAST_WORDS,
        })
    }

    /// Runs until somebody asks for the end or the server fails, then stops everything, flushed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let failed = tokio::select! {
            ended = &mut self.server => Some(ended),
            () = self.shutdown.begun() => None,
        };
        self.shutdown.begin();
        let shutdown = self.shutdown.clone();
        tokio::select! {
            ended = timeout(self.patience, self.end(failed)) => match ended {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!("what did not end in time is cut off");
                    Ok(())
                }
            },
            () = async {
                shutdown.forced().await;
                sleep(FORCED).await;
            } => Ok(()),
        }
    }

    /// Ends every part.
    async fn end(self, failed: Option<Served>) -> anyhow::Result<()> {
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
        self.sweep.await.ok();
        self.fetcher.await.ok();
        if let Some(link_server) = self.link_server {
            link_server.await.ok();
        }
        self.storage.close().await;
        ended.context("the server's task failed")?
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
        private_files::create_folder(&folder)
            .with_context(|| format!("can't use {}", folder.display()))?;
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
        let first = gateway.first_key.as_deref();
        let key = gateway.keys.kept(&key_file, first).await?;
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
    shutdown.obey_signals(end_after(&config))?;
    let peer = external_sandbox(&config)?;
    let gateway = Gateway::start(&config, peer, None, shutdown).await?;
    if let Err(error) = announce(&gateway) {
        // Whoever closed stdout does not want to read it; a lost key is another matter.
        tracing::warn!(%error, "what was to be printed at the start can't be");
        if gateway.first_key.is_some() {
            gateway.stop().await?;
            return Err(error).context(
                "the first API key can't be printed: delete the data folder and start again",
            );
        }
    }
    gateway.run().await
}

/// Tells where the gateway listens, and its first key.
fn announce(gateway: &Gateway) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "wagate {version} listens on {}", gateway.address)?;
    if let Some(key) = &gateway.first_key {
        writeln!(
            out,
            "\nThe first API key, shown only this once:\n\n  {key}\n"
        )?;
    }
    out.flush()
}

/// The sandbox that runs elsewhere, if the settings name one.
fn external_sandbox(config: &Config) -> anyhow::Result<Option<SandboxPeer>> {
    let peer = config.sandbox.external()?;
    Ok(peer.map(|peer| SandboxPeer {
        url: peer.url,
        static_key: peer.static_key,
    }))
}

fn media_config(config: &Config) -> MediaConfig {
    let set = &config.media;
    let place = match set.store {
        config::MediaStore::Folder if set.folder.as_os_str().is_empty() => {
            Place::Folder(config.storage.data_dir.join(MEDIA))
        }
        config::MediaStore::Folder => Place::Folder(set.folder.clone()),
        config::MediaStore::S3 => Place::Bucket(Bucket {
            name: set.s3_bucket.clone(),
            endpoint: set.s3_endpoint.clone(),
            region: set.s3_region.clone(),
            access_key: set.s3_access_key.clone(),
            secret_key: set.s3_secret_key.reveal().to_owned(),
        }),
    };
    MediaConfig {
        place,
        limits: SizeLimits {
            image: set.image_limit,
            video: set.video_limit,
            audio: set.audio_limit,
            document: set.document_limit,
            sticker: set.sticker_limit,
        },
        upload_age: set.upload_age,
        retention_age: set.retention_age,
        transfers: set.transfers,
        url_timeout: set.url_timeout,
        stall_timeout: set.stall_timeout,
    }
}

/// Binds the listener of links and opens their key.
async fn open_links(
    config: &Config,
    listen: SocketAddr,
) -> anyhow::Result<(Arc<Links>, TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("can't listen on {listen}"))?;
    let address = listener.local_addr()?;
    let base = match config.media.link_base.is_empty() {
        true => format!("http://{address}"),
        false => config.media.link_base.clone(),
    };
    let key_file = config.storage.data_dir.join(LINK_KEY_FILE);
    let links = Links::open(&key_file, &base, config.media.link_age)
        .with_context(|| format!("can't use {}", key_file.display()))?;
    Ok((Arc::new(links), listener, address))
}

fn server_config(config: &Config) -> ServerConfig {
    let server = &config.server;
    let set = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
    let tls = set(&server.tls_certificate).map(|certificate| TlsFiles {
        certificate,
        key: server.tls_key.clone(),
        client_ca: set(&server.tls_client_ca),
        reload: server.tls_reload_interval,
    });
    let rate = NonZeroU32::new(server.calls_per_second)
        .zip(NonZeroU32::new(server.calls_burst))
        .map(|(per_second, burst)| RateLimit { per_second, burst });
    ServerConfig {
        tls,
        streams: StreamLimits {
            stall: config.events.slow_consumer_timeout,
            per_key: config.events.streams_per_key,
            ..Default::default()
        },
        drain: config.sessions.shutdown_timeout,
        connections: ConnectionLimits {
            all: server.connections,
            per_address: server.connections_per_address,
            opening: server.opening_timeout,
        },
        streams_per_connection: server.streams_per_connection,
        rate,
        ..Default::default()
    }
}

async fn open_storage(folder: &Path) -> anyhow::Result<Arc<SqliteStorage>> {
    private_files::create_folder(folder)
        .with_context(|| format!("can't use {}", folder.display()))?;
    let path = folder.join(DATABASE);
    SqliteStorage::open(&path, Default::default())
        .await
        .with_context(|| format!("can't open {}", path.display()))
}
