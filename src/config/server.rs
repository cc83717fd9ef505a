//! `[server]`: where callers reach us.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{ConfigError, quantity::parse_with};

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
    /// Take callers from other machines without TLS.
    pub allow_plaintext_remote: bool,
}

/// What a TLS server shows and keeps.
#[derive(Clone)]
pub struct TlsPair {
    /// Certificate chain, PEM.
    pub certificate: String,
    /// Private key, PEM.
    pub key: String,
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
        Ok(())
    }

    /// The files of `tls_certificate` and `tls_key`, if they are set.
    pub fn tls(&self) -> Result<Option<TlsPair>, ConfigError> {
        let unset = |path: &PathBuf| path.as_os_str().is_empty();
        match (unset(&self.tls_certificate), unset(&self.tls_key)) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(TlsPair {
                certificate: pem("tls_certificate", &self.tls_certificate, "CERTIFICATE-----")?,
                key: pem("tls_key", &self.tls_key, "PRIVATE KEY-----")?,
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
