//! Connections to where a URL points, past the guard.
//!
//! Owns the look-up of names: what is judged is the very address that is dialled, so a name that
//! answers differently the next time gains nothing. Knows nothing of requests.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::guard::Guard;

/// How long a connection may take, handshake included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the host's name has no address: {0}")]
    Unknown(#[source] io::Error),
    #[error("the host is at an address that must not be called")]
    Blocked,
    #[error("can't connect: {0}")]
    Unreachable(#[source] io::Error),
    #[error("no trusted TLS: {0}")]
    Tls(#[source] io::Error),
    #[error("connecting took too long")]
    Slow,
}

/// Dials; clones share their settings.
#[derive(Clone)]
pub struct Connector {
    guard: Arc<Guard>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// One that dials what the guard permits and trusts the public certificate authorities.
    pub fn new(guard: Guard) -> Self {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            // The provider is compiled in with both versions that it is asked for.
            .map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
        let tls = match tls {
            Ok(tls) => tls,
            Err(error) => unreachable!("ring speaks TLS 1.2 and 1.3: {error}"),
        };
        Self {
            guard: Arc::new(guard),
            tls: Arc::new(tls),
        }
    }

    async fn connect(self, uri: Uri) -> Result<Wire, ConnectError> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let found = lookup_host((host, port))
            .await
            .map_err(ConnectError::Unknown)?;
        let stream = self.dial(found.collect()).await?;
        if !secure {
            return Ok(Wire::Plain(TokioIo::new(stream)));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        let stream = TlsConnector::from(self.tls).connect(name, stream).await;
        let stream = stream.map_err(ConnectError::Tls)?;
        Ok(Wire::Tls(TokioIo::new(Box::new(stream))))
    }

    /// The first of these addresses that is permitted and answers.
    async fn dial(&self, found: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
        let mut error = ConnectError::Blocked;
        for address in found {
            if !self.guard.permits(address.ip()) {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(refused) => error = ConnectError::Unreachable(refused),
            }
        }
        Err(error)
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Wire;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Wire, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            match timeout(PATIENCE, connector.connect(uri)).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectError::Slow),
            }
        })
    }
}

/// A connection, encrypted or not.
pub enum Wire {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<TlsStream<TcpStream>>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
