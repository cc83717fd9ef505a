//! Connections of the listener: plain, or TLS for clients that know no other, on the same port.
//!
//! Owns the certificate, which vouches for itself: clients are told to trust it, or to trust anybody.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};
use tokio_util::either::Either;

use crate::sandbox::error::SandboxError;

const CERTIFICATE: &str = "tls-certificate.pem";
const KEY: &str = "tls-key.pem";

/// How a TLS connection begins.
const HANDSHAKE_RECORD: u8 = 0x16;

/// How long a connection may take to begin.
const OPENING: Duration = Duration::from_secs(10);

/// Connections that may be beginning at once.
const BEGINNING: usize = 256;

/// A connection that has begun.
type Begun = (Either<TcpStream, Box<TlsStream<TcpStream>>>, SocketAddr);

/// The listener as the HTTP server sees it.
pub struct Incoming {
    begun: mpsc::Receiver<Begun>,
    address: SocketAddr,
}

impl Incoming {
    /// Takes connections from a listener until it is dropped.
    pub fn new(listener: TcpListener, tls: TlsAcceptor) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, begun) = mpsc::channel(BEGINNING);
        tokio::spawn(accept(listener, tls, sender));
        Ok(Self { begun, address })
    }
}

impl axum::serve::Listener for Incoming {
    type Io = Begin;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.begun.recv().await {
            Some(begun) => begun,
            // The task that sends ends only after this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// What is read from and written to.
pub type Begin = Either<TcpStream, Box<TlsStream<TcpStream>>>;

async fn accept(listener: TcpListener, tls: TlsAcceptor, begun: mpsc::Sender<Begun>) {
    let free = Arc::new(Semaphore::new(BEGINNING));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = begun.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection to the sandbox was not accepted");
                // Too many open files, mostly: a moment later there may be fewer.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, begun) = (tls.clone(), begun.clone());
        tokio::spawn(async move {
            let _permit = permit;
            match timeout(OPENING, begin(stream, tls)).await {
                Ok(Ok(stream)) => {
                    let _ = begun.send((stream, address)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a connection to the sandbox failed"),
                Err(_) => tracing::debug!("a connection to the sandbox did not begin"),
            }
        });
    }
}

async fn begin(stream: TcpStream, tls: TlsAcceptor) -> io::Result<Begin> {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0] != HANDSHAKE_RECORD {
        return Ok(Either::Left(stream));
    }
    Ok(Either::Right(Box::new(tls.accept(stream).await?)))
}

/// The certificate in the data folder, made if there is none; without a folder, one for this run.
pub fn tls(data_dir: Option<&Path>) -> Result<TlsAcceptor, SandboxError> {
    let files = data_dir.map(|folder| (folder.join(CERTIFICATE), folder.join(KEY)));
    let kept = files.as_ref().and_then(|(certificate, key)| {
        Some((
            std::fs::read_to_string(certificate).ok()?,
            std::fs::read_to_string(key).ok()?,
        ))
    });
    let (certificate, key) = match kept {
        Some(kept) => kept,
        None => {
            let made = make()?;
            if let Some((certificate, key)) = &files {
                std::fs::write(certificate, &made.0)?;
                std::fs::write(key, &made.1)?;
            }
            made
        }
    };
    let certificate =
        CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(SandboxError::crypto)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(SandboxError::crypto)?;
    let mut settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SandboxError::crypto)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(SandboxError::crypto)?;
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(settings)))
}

fn make() -> Result<(String, String), SandboxError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let parameters = CertificateParams::new(names).map_err(SandboxError::crypto)?;
    let key = KeyPair::generate().map_err(SandboxError::crypto)?;
    let certificate = parameters.self_signed(&key).map_err(SandboxError::crypto)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
