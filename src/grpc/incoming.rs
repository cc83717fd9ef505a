//! Connections as they come in: bounded in number and by origin, made to say something soon, cut at
//! the end.
//!
//! Owns what happens before HTTP/2. tonic serves whatever it is given for as long as the peer likes: a
//! peer that never completes the opening of HTTP/2 is never pinged, and holds up a graceful shutdown
//! for ever. A TLS handshake is a task of its own, so a slow one keeps nobody else waiting.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, Sleep, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::tls::Tls;

/// HTTP/2 opens with 24 bytes.
const OPENING_BYTES: usize = 24;
/// How long to leave a listener alone that can't accept, as when file descriptors ran out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The numbers of connections.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Most at a time; more wait in the queue of the operating system.
    pub all: usize,
    /// Most at a time of one address (IPv6: of one /64 network); more are hung up on.
    pub per_address: usize,
    /// How long a peer may take for the TLS handshake and the opening of HTTP/2.
    pub opening: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            all: 10_000,
            per_address: 1_000,
            opening: Duration::from_secs(10),
        }
    }
}

/// The connections of a listener that are ready to speak HTTP/2, within the limits and all ended by
/// `cut`.
pub(super) fn connections(
    listener: TcpListener,
    limits: ConnectionLimits,
    tls: Option<Tls>,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let door = Door {
        listener,
        room: Arc::new(Semaphore::new(limits.all)),
        origins: Origins::default(),
        limits,
        tls,
        cut,
        handshakes: JoinSet::new(),
    };
    stream::unfold(door, |mut door| async move {
        let connection = door.next().await?;
        Some((Ok(connection), door))
    })
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    room: Arc<Semaphore>,
    origins: Origins,
    limits: ConnectionLimits,
    tls: Option<Tls>,
    cut: CancellationToken,
    handshakes: JoinSet<Option<Connection>>,
}

impl Door {
    async fn next(&mut self) -> Option<Connection> {
        loop {
            tokio::select! {
                accepted = accept(&self.listener, &self.room) => {
                    let (stream, peer, permit) = accepted?;
                    let Some(origin) = self.origins.take(peer.ip(), self.limits.per_address) else {
                        tracing::debug!("an address has too many connections");
                        continue;
                    };
                    let place = Place { _permit: permit, _origin: origin };
                    if let Some(connection) = self.admit(stream, place) {
                        return Some(connection);
                    }
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return Some(connection);
                    }
                }
            }
        }
    }

    /// The connection, or later by `handshakes`.
    fn admit(&mut self, stream: TcpStream, place: Place) -> Option<Connection> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays slow to send small frames");
        }
        let opens_until = Instant::now() + self.limits.opening;
        let info = stream.connect_info();
        let cut = self.cut.clone();
        let Some(tls) = &self.tls else {
            return Some(Connection::new(
                Box::new(stream),
                info,
                place,
                opens_until,
                cut,
            ));
        };
        let handshake = tls.acceptor().accept(stream);
        self.handshakes.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => None,
                done = timeout_at(opens_until, handshake) => match done {
                    Ok(Ok(stream)) => {
                        Some(Connection::new(Box::new(stream), info, place, opens_until, cut))
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a TLS handshake failed");
                        None
                    }
                    Err(_) => {
                        tracing::debug!("a TLS handshake took too long");
                        None
                    }
                },
            }
        });
        None
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// How many connections each origin has.
#[derive(Clone, Default)]
struct Origins(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of an origin's connections; not counted any more when dropped.
struct Origin {
    origins: Origins,
    address: IpAddr,
}

impl Origins {
    fn take(&self, address: IpAddr, most: usize) -> Option<Origin> {
        let address = origin(address);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Origin {
            origins: self.clone(),
            address,
        })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let mut open = self
            .origins
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// One customer of a network provider has one IPv4 address, or 2^64 addresses of IPv6.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

/// A connection's share of the limits.
struct Place {
    _permit: OwnedSemaphorePermit,
    _origin: Origin,
}

/// Bytes in both directions, encrypted or not.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// One connection.
pub(super) struct Connection {
    stream: Box<dyn Bytes>,
    info: TcpConnectInfo,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the peer has said enough.
    opening: Option<(Pin<Box<Sleep>>, usize)>,
    _place: Place,
}

impl Connection {
    fn new(
        stream: Box<dyn Bytes>,
        info: TcpConnectInfo,
        place: Place,
        opens_until: Instant,
        cut: CancellationToken,
    ) -> Self {
        Self {
            stream,
            info,
            cut: Box::pin(cut.cancelled_owned()),
            opening: Some((Box::pin(sleep_until(opens_until)), 0)),
            _place: place,
        }
    }

    /// Reading is always polled while a connection lives, so this is where it can be ended.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        if let Some((patience, _)) = &mut self.opening
            && patience.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.poll_ended(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        if let Some((_, seen)) = &mut self.opening {
            *seen += read;
            if *seen >= OPENING_BYTES {
                self.opening = None;
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_so_many_connections_and_no_more_until_one_ends() {
        let origins = Origins::default();
        let take = |text: &str| origins.take(text.parse().unwrap(), 2);
        let first = take("192.0.2.1").unwrap();
        // The same address in the clothes of IPv6.
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        drop(first);
        assert!(take("192.0.2.1").is_some());

        let _near = (take("2001:db8::1").unwrap(), take("2001:db8::2:1").unwrap());
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::3").is_some());
    }
}
