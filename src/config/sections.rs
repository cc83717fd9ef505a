//! The smaller sections: `[storage]`, `[events]`, `[sessions]`, `[sandbox]`, `[log]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::{ConfigError, quantity, server::address};

/// Where things are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Folder of the database.
    pub data_dir: PathBuf,
}

impl Storage {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::section(
                "storage",
                "data_dir must name a folder",
            ));
        }
        if self.data_dir.exists() && !self.data_dir.is_dir() {
            return Err(ConfigError::section(
                "storage",
                format!("data_dir: {} is not a folder", self.data_dir.display()),
            ));
        }
        Ok(())
    }
}

/// The event log and its readers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// How long events are kept at most.
    #[serde(deserialize_with = "quantity::duration")]
    pub retention_age: Duration,
    /// How many bytes of events are kept at most.
    #[serde(deserialize_with = "quantity::size")]
    pub retention_bytes: u64,
    /// How many streams one API key may have open.
    pub streams_per_key: usize,
    /// When a reader that takes nothing is cut off.
    #[serde(deserialize_with = "quantity::duration")]
    pub slow_consumer_timeout: Duration,
}

impl Events {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let check = |good: bool, why: &str| match good {
            true => Ok(()),
            false => Err(ConfigError::section("events", why)),
        };
        let day = 86_400;
        let ages = Duration::from_secs(60)..=Duration::from_secs(3_660 * day);
        check(
            ages.contains(&self.retention_age),
            "retention_age must be 1m to ten years (3660d)",
        )?;
        // The database counts in signed 64-bit numbers.
        check(
            (1 << 20..=1 << 50).contains(&self.retention_bytes),
            "retention_bytes must be 1MiB to 1024TiB",
        )?;
        check(
            (1..=100_000).contains(&self.streams_per_key),
            "streams_per_key must be 1 to 100000",
        )?;
        let patience = Duration::from_secs(1)..=Duration::from_secs(600);
        check(
            patience.contains(&self.slow_consumer_timeout),
            "slow_consumer_timeout must be 1s to 10m",
        )
    }
}

/// Which WhatsApp new instances live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// WhatsApp itself.
    Whatsapp,
    /// The sandbox.
    Sandbox,
}

/// The instances' connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// How many instances may be logging in at once.
    pub max_handshakes: usize,
    /// How long a shutdown waits for instances and streams.
    #[serde(deserialize_with = "quantity::duration")]
    pub shutdown_timeout: Duration,
    /// Network of an instance created without one.
    pub default_network: Network,
}

impl Sessions {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=1_000).contains(&self.max_handshakes) {
            return Err(ConfigError::section(
                "sessions",
                "max_handshakes must be 1 to 1000",
            ));
        }
        let patience = Duration::from_secs(1)..=Duration::from_secs(600);
        if !patience.contains(&self.shutdown_timeout) {
            return Err(ConfigError::section(
                "sessions",
                "shutdown_timeout must be 1s to 10m",
            ));
        }
        Ok(())
    }
}

/// The loopback network: ours in `wagate sandbox`, somebody else's in `wagate serve`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// Where the network of `wagate sandbox` listens.
    #[serde(deserialize_with = "address")]
    pub network_listen: SocketAddr,
    /// WebSocket address of an external sandbox; empty without one.
    pub url: String,
    /// Its static public key, 64 hexadecimal digits; empty without one.
    pub static_key: String,
}

/// An external sandbox, known by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalSandbox {
    /// WebSocket address.
    pub url: String,
    /// Static public key: only who holds its private half is talked to.
    pub static_key: [u8; 32],
}

impl Sandbox {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.external().map(drop)
    }

    /// The network lets in everybody who can reach it, as WhatsApp does.
    pub(super) fn validate_network(&self, allow_remote: bool) -> Result<(), ConfigError> {
        if self.network_listen.ip().is_loopback() || allow_remote {
            return Ok(());
        }
        Err(ConfigError::section(
            "sandbox",
            format!(
                "network_listen = \"{}\" can be reached from other machines, and the network asks nobody who they are. \
                 Listen on loopback; or, if only friends can reach it, set [server] allow_plaintext_remote = true",
                self.network_listen
            ),
        ))
    }

    /// The external sandbox, if one is set.
    pub fn external(&self) -> Result<Option<ExternalSandbox>, ConfigError> {
        let wrong = |why: &str| Err(ConfigError::section("sandbox", why));
        if self.url.is_empty() && self.static_key.is_empty() {
            return Ok(None);
        }
        if self.url.is_empty() || self.static_key.is_empty() {
            return wrong("url and static_key go together: set both or none");
        }
        let host = self.url.strip_prefix("ws://").unwrap_or_default();
        if host.is_empty() || host.starts_with('/') {
            return wrong("url must look like ws://127.0.0.1:50052/ws/chat");
        }
        let mut static_key = [0; 32];
        if hex::decode_to_slice(&self.static_key, &mut static_key).is_err() {
            return wrong("static_key must be 64 hexadecimal digits");
        }
        Ok(Some(ExternalSandbox {
            url: self.url.clone(),
            static_key,
        }))
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Directives in the language of `tracing`.
    pub filter: String,
    /// How log lines look.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        EnvFilter::try_new(&self.filter)
            .map(drop)
            .map_err(|error| ConfigError::section("log", format!("filter: {error}")))
    }
}
