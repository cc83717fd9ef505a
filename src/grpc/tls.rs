//! TLS: the certificate that the server shows, the authority it asks clients to be signed by, and
//! both read again when their files change.
//!
//! Owns the handshake's settings. A change that can't be used is told and ignored: half-written
//! files never take a running server away. Never decides what a client may do: that is its API key's.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch, time::sleep};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

/// A certificate, its key and whom to let in, as PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, followed by those that signed it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Clients must show a certificate signed by one of these.
    pub client_ca: Option<PathBuf>,
    /// How often to look whether a file has changed.
    pub reload: Duration,
}

/// What the files held.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The settings of the next handshake.
#[derive(Clone)]
pub(super) struct Tls(watch::Receiver<Arc<ServerConfig>>);

impl Tls {
    /// Reads the files; the future keeps reading them and must be driven.
    pub async fn load(
        files: TlsFiles,
    ) -> anyhow::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let contents = read(&files).await?;
        let (settings, current) = watch::channel(Arc::new(settings(&contents)?));
        Ok((Self(current), follow(files, contents, settings)))
    }

    /// For one handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.borrow().clone())
    }
}

async fn follow(files: TlsFiles, mut last: Contents, current: watch::Sender<Arc<ServerConfig>>) {
    loop {
        sleep(files.reload).await;
        let loaded = match read(&files).await {
            Ok(contents) if contents == last => continue,
            Ok(contents) => {
                let loaded = settings(&contents);
                // Tried once: the next try is worth it only when the files change again.
                last = contents;
                loaded
            }
            Err(error) => Err(error),
        };
        match loaded {
            Ok(settings) => {
                current.send_replace(Arc::new(settings));
                tracing::info!("the TLS files were read again");
            }
            Err(error) => tracing::warn!(
                error = format!("{error:#}"),
                "the TLS files changed and can't be used; those from before stay in use"
            ),
        }
    }
}

async fn read(files: &TlsFiles) -> anyhow::Result<Contents> {
    let bytes = async |path: &PathBuf| {
        tokio::fs::read(path)
            .await
            .with_context(|| format!("{} can't be read", path.display()))
    };
    Ok(Contents {
        certificate: bytes(&files.certificate).await?,
        key: bytes(&files.key).await?,
        client_ca: match &files.client_ca {
            Some(path) => Some(bytes(path).await?),
            None => None,
        },
    })
}

fn settings(contents: &Contents) -> anyhow::Result<ServerConfig> {
    let certificates = certificates(&contents.certificate)
        .context("the TLS certificate is no chain of PEM certificates")?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .context("the TLS key is no private key in PEM")?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS can't be set up")?;
    let builder = match &contents.client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in self::certificates(authorities)
                .context("the client CA file holds no PEM certificates")?
            {
                roots
                    .add(authority)
                    .context("a certificate of the client CA file can't be an authority")?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.context("the client CA can't be used")?)
        }
    };
    let mut settings = builder
        .with_single_cert(certificates, key)
        .context("the TLS certificate and its key can't be used together")?;
    settings.alpn_protocols = vec![b"h2".to_vec()];
    Ok(settings)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(!certificates.is_empty(), "there is none");
    Ok(certificates)
}
