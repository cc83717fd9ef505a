//! The way to a server: address, key, encryption.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::failure::Failure;
use crate::proto::{
    sandbox_v1::sandbox_service_client::SandboxServiceClient,
    v1::{
        api_key_service_client::ApiKeyServiceClient, event_service_client::EventServiceClient,
        instance_service_client::InstanceServiceClient,
        message_service_client::MessageServiceClient,
    },
};

const USER_AGENT: &str = concat!("wagate-cli/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is gone without a word is noticed after both.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where systems keep the authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which server, and who asks.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Target {
    /// The server: http://… or, with TLS, https://….
    #[arg(
        long,
        global = true,
        env = "WAGATE_ENDPOINT",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    endpoint: String,
    /// API key. Better by the variable: arguments can be seen by other users of the machine.
    #[arg(
        long,
        global = true,
        env = "WAGATE_API_KEY",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    api_key: Option<String>,
    /// PEM file of the authority that signed the server's certificate. Default: the system's.
    #[arg(
        long,
        global = true,
        env = "WAGATE_CA_CERTIFICATE",
        value_name = "FILE"
    )]
    ca_certificate: Option<PathBuf>,
}

// By hand: the key must not show.
impl std::fmt::Debug for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Target")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A channel that shows the key on every call.
pub type Connection = InterceptedService<Channel, Credentials>;

/// Puts the key on a call.
#[derive(Clone)]
pub struct Credentials(Option<MetadataValue<Ascii>>);

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A server that was reached.
pub struct Gateway {
    connection: Connection,
}

impl Target {
    /// The server at this address, asked with this key.
    pub fn new(endpoint: &str, api_key: Option<&str>) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            api_key: api_key.map(str::to_owned),
            ca_certificate: None,
        }
    }

    /// Reaches the server.
    pub async fn connect(&self) -> Result<Gateway, Failure> {
        let credentials = Credentials(self.authorization()?);
        let channel = self
            .endpoint()?
            .connect()
            .await
            .map_err(|error| Failure::unreachable(&self.endpoint, &error))?;
        Ok(Gateway {
            connection: InterceptedService::new(channel, credentials),
        })
    }

    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let Some(key) = self.api_key.as_deref().map(str::trim) else {
            return Ok(None);
        };
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}")
            .parse()
            .map_err(|_| Failure::Usage("the API key holds characters that no key has".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let wrong = |why: &str| {
            Failure::Usage(format!(
                "--endpoint {}: {why}; write http://HOST:PORT or https://HOST:PORT",
                self.endpoint
            ))
        };
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| wrong("is not an address"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .user_agent(USER_AGENT)
            .map_err(|_| wrong("is not an address"))?;
        match endpoint.uri().scheme_str() {
            Some("http") => Ok(endpoint),
            Some("https") => {
                let tls = ClientTlsConfig::new().ca_certificate(self.authorities()?);
                endpoint
                    .tls_config(tls)
                    .map_err(|error| Failure::unreachable(&self.endpoint, &error))
            }
            _ => Err(wrong("has no scheme that is known")),
        }
    }

    fn authorities(&self) -> Result<Certificate, Failure> {
        if let Some(path) = &self.ca_certificate {
            let pem = fs::read(path).map_err(|error| {
                Failure::Usage(format!("--ca-certificate {}: {error}", path.display()))
            })?;
            return Ok(Certificate::from_pem(pem));
        }
        SYSTEM_AUTHORITIES
            .iter()
            .find_map(|path| fs::read(path).ok())
            .map(Certificate::from_pem)
            .ok_or_else(|| {
                Failure::Usage(
                    "this system keeps no list of certificate authorities where they usually are; \
                     name one with --ca-certificate"
                        .into(),
                )
            })
    }
}

impl Gateway {
    /// InstanceService.
    pub fn instances(&self) -> InstanceServiceClient<Connection> {
        InstanceServiceClient::new(self.connection.clone())
    }

    /// EventService.
    pub fn events(&self) -> EventServiceClient<Connection> {
        // The server's frames stay under 3 MiB, but for one event that alone is larger.
        EventServiceClient::new(self.connection.clone()).max_decoding_message_size(64 << 20)
    }

    /// MessageService.
    pub fn messages(&self) -> MessageServiceClient<Connection> {
        MessageServiceClient::new(self.connection.clone())
    }

    /// SandboxService, which only `wagate sandbox` serves.
    pub fn sandbox(&self) -> SandboxServiceClient<Connection> {
        SandboxServiceClient::new(self.connection.clone())
    }

    /// ApiKeyService.
    pub fn api_keys(&self) -> ApiKeyServiceClient<Connection> {
        ApiKeyServiceClient::new(self.connection.clone())
    }
}
