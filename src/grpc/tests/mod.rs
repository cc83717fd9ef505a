//! The services as callers meet them: a real server and real clients on a loopback port.

mod edge;
mod guards;
mod keys;
mod reading;
mod streams;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Code, Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    auth::{Keys, NewKey},
    domain::{ids::InstanceNumber, permission::Permission},
    events::{Log, Retention, compose},
    grpc::{
        ConnectionLimits, StreamLimits,
        fake::{self, Fake},
        server::{Parts, ServerConfig, Services, serve},
    },
    lifecycle::Shutdown,
    proto::v1::{
        self, api_key_service_client::ApiKeyServiceClient, event::Payload,
        event_service_client::EventServiceClient,
    },
    storage::Storage as _,
};

/// Longer than anything here takes.
const BUDGET: Duration = Duration::from_secs(20);

/// Sends a key with every call.
#[derive(Clone)]
struct WithKey(String);

impl Interceptor for WithKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let key = self.0.parse().map_err(|_| Status::internal("no key"))?;
        request.metadata_mut().insert("apikey", key);
        Ok(request)
    }
}

type Keyed = InterceptedService<Channel, WithKey>;

/// A running server on a fake store.
struct Running {
    store: Arc<Fake>,
    log: Log,
    keys: Keys,
    shutdown: Shutdown,
    address: SocketAddr,
    task: JoinHandle<anyhow::Result<()>>,
    admin: String,
}

/// Short, so that nobody waits.
fn limits() -> StreamLimits {
    StreamLimits {
        heartbeat_min: Duration::from_millis(20),
        heartbeat_default: BUDGET,
        heartbeat_max: BUDGET,
        reconnect_max: Duration::from_secs(3),
        ..StreamLimits::default()
    }
}

fn config(streams: StreamLimits) -> ServerConfig {
    ServerConfig {
        streams,
        ..ServerConfig::default()
    }
}

async fn start() -> Running {
    start_with(config(limits()), Services::new()).await
}

async fn start_with(config: ServerConfig, services: Services) -> Running {
    let store = Arc::new(Fake::new(&[1, 2, 3]));
    let log = Log::new(store.clone(), Retention::default());
    let keys = Keys::new(store.clone());
    let admin = keys.create_first("test").await.unwrap().unwrap().reveal();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let parts = Parts {
        storage: store.clone(),
        log: log.clone(),
        keys: keys.clone(),
        services,
        config,
    };
    Running {
        store,
        log,
        keys,
        task: tokio::spawn(serve(parts, listener, shutdown.clone())),
        shutdown,
        address,
        admin,
    }
}

impl Running {
    async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.address);
        Channel::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    async fn events_as(&self, key: &str) -> EventServiceClient<Keyed> {
        EventServiceClient::with_interceptor(self.channel().await, WithKey(key.to_owned()))
    }

    async fn events(&self) -> EventServiceClient<Keyed> {
        self.events_as(&self.admin).await
    }

    async fn api_keys_as(&self, key: &str) -> ApiKeyServiceClient<Keyed> {
        ApiKeyServiceClient::with_interceptor(self.channel().await, WithKey(key.to_owned()))
    }

    /// A key with these permissions, bound to these instances.
    async fn key(&self, permissions: &[Permission], instances: &[u32]) -> (String, String) {
        let new = NewKey {
            display_name: "test".to_owned(),
            permissions: permissions.to_vec(),
            instances: instances.iter().copied().map(InstanceNumber).collect(),
        };
        let (row, secret) = self.keys.create(new).await.unwrap();
        (row.id.to_string(), secret.reveal())
    }

    /// Commits one event of an instance for each of these details.
    async fn emit(&self, instance: u32, details: impl IntoIterator<Item = String>) {
        let events = details
            .into_iter()
            .map(|detail| {
                let payload = Payload::ErrorReported(v1::ErrorReported {
                    detail,
                    ..Default::default()
                });
                self.composed(instance, payload)
            })
            .collect();
        self.store.append_events(events).await.unwrap();
    }

    async fn emit_payload(&self, instance: u32, payload: Payload) {
        let event = self.composed(instance, payload);
        self.store.append_events(vec![event]).await.unwrap();
    }

    fn composed(&self, instance: u32, payload: Payload) -> crate::storage::NewEvent {
        let row = fake::instance(InstanceNumber(instance));
        compose(&row, payload, SystemTime::now(), "")
    }

    /// Numbered events of instance 1.
    async fn emit_numbers(&self, numbers: std::ops::Range<u32>) {
        self.emit(1, numbers.map(|number| number.to_string())).await;
    }
}

fn detail(event: &v1::Event) -> &str {
    match &event.payload {
        Some(Payload::ErrorReported(error)) => &error.detail,
        _ => "",
    }
}

/// Asserts the code and the reason, and gives the rest.
#[track_caller]
fn refused<T>(outcome: Result<T, Status>, code: Code, reason: &str) -> ErrorDetails {
    let Err(status) = outcome else {
        panic!("expected {reason}");
    };
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(
        (status.code(), info.reason.as_str()),
        (code, reason),
        "{status:?}"
    );
    assert_eq!(info.domain, "wagate");
    details
}

/// Runs a test's future within the budget.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BUDGET, future)
        .await
        .expect("took too long")
}
