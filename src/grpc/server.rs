//! The server: which services there are, the layers around them, health, reflection and the drain.
//!
//! Owns the end of every connection. tonic's own graceful shutdown waits for ever for open streams
//! and silent peers, so the drain here is bounded: health says NOT_SERVING, streams are told and end,
//! calls in flight finish, and what is left after that is cut.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    auth::Keys,
    events::Log,
    grpc::{
        StreamLimits,
        api_keys::ApiKeys,
        events::Events,
        incoming::{self, ConnectionLimits},
        layers::{self, InFlight},
        rates::{self, RateLimit, Rates},
        requests::Requests,
        subscribe::Slots,
        tls::{Tls, TlsFiles},
    },
    lifecycle::Shutdown,
    proto::{DESCRIPTOR_SET, v1::api_key_service_server::ApiKeyServiceServer},
    storage::Storage,
};

const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const HEADER_LIST: u32 = 16 << 10;
/// How long a peer has to leave once nothing of its is in flight.
const GOODBYE: Duration = Duration::from_millis(300);

/// The numbers of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Speaks TLS with these.
    pub tls: Option<TlsFiles>,
    /// The numbers of Subscribe.
    pub streams: StreamLimits,
    /// How long a drain may take.
    pub drain: Duration,
    /// How long an answer may take to begin.
    pub answer: Duration,
    /// The numbers of connections.
    pub connections: ConnectionLimits,
    /// Most calls and streams at a time on one connection.
    pub streams_per_connection: u32,
    /// How often a key may call; `None` is as often as it likes.
    pub rate: Option<RateLimit>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            tls: None,
            streams: StreamLimits::default(),
            drain: Duration::from_secs(30),
            answer: Duration::from_secs(90),
            connections: ConnectionLimits::default(),
            streams_per_connection: 256,
            rate: None,
        }
    }
}

/// Services from elsewhere that are served, advertised and counted healthy like ours.
#[derive(Clone, Debug, Default)]
pub struct Services {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
}

impl Services {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add<S>(&mut self, service: S) -> &mut Self
    where
        S: tower::Service<http::Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }
}

/// What a server is made of.
pub struct Parts {
    /// The store.
    pub storage: Arc<dyn Storage>,
    /// Its log.
    pub log: Log,
    /// Its keys.
    pub keys: Keys,
    /// Services beside EventService and ApiKeyService.
    pub services: Services,
    /// The numbers.
    pub config: ServerConfig,
}

/// Serves until the shutdown begins and everything in flight has ended, or patience is over.
pub async fn serve(parts: Parts, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = parts.config.clone();
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(config.streams_per_connection)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADER_LIST);
    let tls = match config.tls {
        Some(files) => {
            let (tls, reload) = Tls::load(files).await?;
            Some((tls, AbortOnDropHandle::new(tokio::spawn(reload))))
        }
        None => None,
    };
    let (tls, _reload) = tls.unzip();
    let in_flight = InFlight::default();
    let (routes, health) = routes(parts, in_flight.clone(), shutdown.clone()).await?;
    let _health = AbortOnDropHandle::new(tokio::spawn(health));

    let cut = CancellationToken::new();
    // Whatever ends this future also ends the connections, which are tasks of their own.
    let _cut = cut.clone().drop_guard();
    let incoming = incoming::connections(listener, config.connections, tls, cut.clone());
    let stop_accepting = shutdown.clone();
    let serving = server
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move { stop_accepting.begun().await });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = drained(&shutdown, &in_flight, config.drain) => cut.cancel(),
    }
    Ok(serving.await?)
}

/// Waits for the shutdown, then until nobody is left to wait for.
async fn drained(shutdown: &Shutdown, in_flight: &InFlight, most: Duration) {
    shutdown.begun().await;
    tokio::select! {
        () = async {
            in_flight.none().await;
            sleep(GOODBYE).await;
        } => {}
        () = sleep(most) => tracing::warn!("calls that did not end in time are cut off"),
        () = shutdown.forced() => tracing::warn!("calls in flight are cut off"),
    }
}

/// All services with the layers around them, and the task that keeps their health true.
async fn routes(
    parts: Parts,
    in_flight: InFlight,
    shutdown: Shutdown,
) -> anyhow::Result<(Routes, impl Future<Output = ()> + Send + 'static)> {
    let mut services = parts.services;
    services
        .add(Events {
            storage: parts.storage.clone(),
            log: parts.log,
            keys: parts.keys.clone(),
            shutdown: shutdown.clone(),
            limits: Arc::new(parts.config.streams),
            slots: Slots::default(),
        })
        .add(
            ApiKeyServiceServer::new(ApiKeys {
                requests: Requests::new(parts.storage.clone()),
                storage: parts.storage.clone(),
                keys: parts.keys.clone(),
            })
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip),
        );
    let (reporter, health) = tonic_health::server::health_reporter();
    let follow = Health {
        reporter,
        names: services.names.clone(),
    };
    let mut writable = parts.storage.writable();
    let now = *writable.borrow_and_update();
    follow.report(now && !shutdown.has_begun()).await;

    let mut routes = services.routes.routes().add_service(health);
    let (v1, v1alpha) = (
        reflection(&services.names).build_v1(),
        reflection(&services.names).build_v1alpha(),
    );
    routes = routes
        .add_service(v1.context("the descriptor set can't be served")?)
        .add_service(v1alpha.context("the descriptor set can't be served")?);

    // The last layer is the outermost.
    let router = routes
        .into_axum_router()
        .layer(from_fn_with_state(
            Rates::new(parts.config.rate),
            rates::limit,
        ))
        .layer(from_fn_with_state(parts.keys, layers::authenticate))
        .layer(from_fn_with_state(
            parts.config.answer,
            layers::keep_deadline,
        ))
        .layer(from_fn(layers::catch_panic))
        .layer(from_fn(layers::explain))
        .layer(from_fn(layers::name))
        .layer(from_fn_with_state(in_flight, layers::count));
    let routes = RoutesBuilder::from(router).routes();
    Ok((routes, follow.run(writable, shutdown)))
}

/// Reflection over everything, listing only what callers are meant to find.
fn reflection(names: &[&'static str]) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection")
        .with_service_name("grpc.reflection.v1alpha.ServerReflection");
    names
        .iter()
        .fold(builder, |builder, name| builder.with_service_name(*name))
}

/// Health of the whole and of every service: whether the database takes writes, and no more once the
/// server leaves.
struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

impl Health {
    async fn report(&self, serving: bool) {
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for name in self.names.iter().copied().chain([""]) {
            self.reporter.set_service_status(name, status).await;
        }
    }

    async fn run(self, mut writable: tokio::sync::watch::Receiver<bool>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return self.report(false).await,
                changed = writable.changed() => {
                    if changed.is_err() {
                        return self.report(false).await;
                    }
                    let writable = *writable.borrow_and_update();
                    self.report(writable).await;
                }
            }
        }
    }
}
