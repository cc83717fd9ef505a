//! `[server]`: where callers reach us.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    ConfigError,
    quantity::{self, parse_with},
};

/// Where callers reach us.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where the gRPC server listens.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// PEM file of the certificate chain; empty without TLS.
    pub tls_certificate: PathBuf,
    /// PEM file of the private key; empty without TLS.
    pub tls_key: PathBuf,
    /// PEM file of the authorities that sign callers' certificates; empty asks for none.
    pub tls_client_ca: PathBuf,
    /// How often to look whether a TLS file has changed.
    #[serde(deserialize_with = "quantity::duration")]
    pub tls_reload_interval: Duration,
    /// Take callers from other machines without TLS.
    pub allow_plaintext_remote: bool,
    /// Most connections at a time.
    pub connections: usize,
    /// Most connections at a time of one address.
    pub connections_per_address: usize,
    /// How long a peer may take to begin.
    #[serde(deserialize_with = "quantity::duration")]
    pub opening_timeout: Duration,
    /// Most calls and streams at a time on one connection.
    pub streams_per_connection: u32,
    /// Calls a second of one key; 0 is no limit.
    pub calls_per_second: u32,
    /// Calls at once of one key after a rest.
    pub calls_burst: u32,
}

/// What a TLS server shows and keeps.
#[derive(Clone)]
pub struct TlsPair {
    /// Certificate chain, PEM.
    pub certificate: String,
    /// Private key, PEM.
    pub key: String,
    /// Authorities of callers' certificates, PEM.
    pub client_ca: Option<String>,
}

impl Server {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let tls = self.tls()?;
        if tls.is_none() && !self.listen.ip().is_loopback() && !self.allow_plaintext_remote {
            return Err(ConfigError::section(
                "server",
                format!(
                    "listen = \"{}\" can be reached from other machines, and API keys and messages would cross \
                     the network unencrypted. Set tls_certificate and tls_key; or, if something in front \
                     encrypts, set allow_plaintext_remote = true",
                    self.listen
                ),
            ));
        }
        let check = |good: bool, why: &str| match good {
            true => Ok(()),
            false => Err(ConfigError::section("server", why)),
        };
        let second = Duration::from_secs(1);
        let moments = Duration::from_millis(100)..=600 * second;
        check(
            moments.contains(&self.opening_timeout),
            "opening_timeout must be 100ms to 10m",
        )?;
        check(
            (Duration::from_millis(100)..=86_400 * second).contains(&self.tls_reload_interval),
            "tls_reload_interval must be 100ms to 1d",
        )?;
        check(
            (1..=1_000_000).contains(&self.connections),
            "connections must be 1 to 1000000",
        )?;
        check(
            (1..=1_000_000).contains(&self.connections_per_address),
            "connections_per_address must be 1 to 1000000",
        )?;
        check(
            (1..=100_000).contains(&self.streams_per_connection),
            "streams_per_connection must be 1 to 100000",
        )?;
        check(
            self.calls_per_second <= 1_000_000,
            "calls_per_second must be 0 (no limit) to 1000000",
        )?;
        check(
            (1..=1_000_000).contains(&self.calls_burst),
            "calls_burst must be 1 to 1000000",
        )
    }

    /// The files of `tls_certificate`, `tls_key` and `tls_client_ca`, if they are set.
    pub fn tls(&self) -> Result<Option<TlsPair>, ConfigError> {
        let unset = |path: &PathBuf| path.as_os_str().is_empty();
        match (unset(&self.tls_certificate), unset(&self.tls_key)) {
            (true, true) if !unset(&self.tls_client_ca) => Err(ConfigError::section(
                "server",
                "tls_client_ca needs tls_certificate and tls_key: without TLS nobody shows a certificate",
            )),
            (true, true) => Ok(None),
            (false, false) => Ok(Some(TlsPair {
                certificate: pem("tls_certificate", &self.tls_certificate, "CERTIFICATE-----")?,
                key: pem("tls_key", &self.tls_key, "PRIVATE KEY-----")?,
                client_ca: match unset(&self.tls_client_ca) {
                    true => None,
                    false => Some(pem(
                        "tls_client_ca",
                        &self.tls_client_ca,
                        "CERTIFICATE-----",
                    )?),
                },
            })),
            _ => Err(ConfigError::section(
                "server",
                "tls_certificate and tls_key go together: set both or none",
            )),
        }
    }
}

fn pem(key: &str, path: &PathBuf, mark: &str) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| {
        ConfigError::section(
            "server",
            format!("{key}: can't read {}: {error}", path.display()),
        )
    })?;
    if !text.contains("-----BEGIN ") || !text.contains(mark) {
        return Err(ConfigError::section(
            "server",
            format!(
                "{key}: {} holds no PEM block that ends in {mark}",
                path.display()
            ),
        ));
    }
    Ok(text)
}

pub(super) fn address<'de, D: serde::Deserializer<'de>>(source: D) -> Result<SocketAddr, D::Error> {
    parse_with(source, |text| {
        text.parse::<SocketAddr>().map_err(|_| {
            format!(
                "`{text}` is not an address with a port, such as 127.0.0.1:50051 or [::1]:50051"
            )
        })
    })
}
