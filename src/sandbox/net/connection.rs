//! One connection: handshake, login, then stanzas both ways until either side ends it.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::WebSocket;
use tokio::sync::mpsc;
use wacore_binary::{Node, OwnedNodeRef};
use waproto::{buffa::Message as _, whatsapp::ClientPayload};

use super::{
    frames::{FrameError, Frames},
    noise::{self, Admitted, Ciphers, Greeted},
};
use crate::sandbox::network::{ConnectionId, Line, Network, Outgoing, Role};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Clients ping every half minute; one that is silent for this long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(180);

/// After a last word the peer may close first: a client that sees the close before it has read the word would miss
/// it and just dial again.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("handshake: {0}")]
    Handshake(#[from] wacore_noise::HandshakeError),
    #[error("cipher: {0}")]
    Cipher(#[from] wacore_noise::NoiseError),
    #[error("stanza: {0}")]
    Stanza(#[from] wacore_binary::BinaryError),
    #[error("payload: {0}")]
    Payload(#[from] waproto::buffa::DecodeError),
    #[error("the handshake took too long")]
    SlowHandshake,
}

/// Serves a WebSocket to its end.
pub async fn serve(socket: WebSocket, network: Arc<Network>) {
    let mut connection = Frames::new(socket);
    let ended = tokio::select! {
        ended = run(&mut connection, &network) => ended,
        () = network.stop.cancelled() => Ok(End::Clean),
    };
    match ended {
        Ok(End::Clean) | Err(ConnectionError::Frame(FrameError::Closed)) => {
            connection.close().await
        }
        Ok(End::Farewell) => {
            let _ =
                tokio::time::timeout(FAREWELL, async { while connection.next().await.is_ok() {} })
                    .await;
            connection.close().await;
        }
        // Dropped as it is: the peer sees a broken connection, as it should.
        Ok(End::Cut) => {}
        Err(error) => {
            tracing::debug!(%error, "a connection to the sandbox failed");
            connection.close().await;
        }
    }
}

enum End {
    /// Nothing more to say.
    Clean,
    /// A last word was said.
    Farewell,
    /// As if the network were gone.
    Cut,
}

async fn run(frames: &mut Frames, network: &Arc<Network>) -> Result<End, ConnectionError> {
    let admitted = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(frames, network))
        .await
        .map_err(|_| ConnectionError::SlowHandshake)??;
    let mut ciphers = admitted.ciphers;
    let payload = ClientPayload::decode_from_slice(&admitted.payload)?;
    let (line, outgoing) = Line::new();
    let cut = line.cut.clone();
    let (connection, role) = match network.login(admitted.static_key, &payload, line) {
        Ok(admission) => admission,
        Err(failure) => {
            send(frames, &mut ciphers, &failure.stanza()).await?;
            return Ok(End::Farewell);
        }
    };
    let attached = Attached {
        network,
        connection,
        role,
    };
    tokio::select! {
        ended = converse(frames, &mut ciphers, outgoing, &attached) => ended,
        () = cut.cancelled() => Ok(End::Cut),
    }
}

/// Detaches when dropped, however the connection ends.
struct Attached<'n> {
    network: &'n Network,
    connection: ConnectionId,
    role: Role,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.network.detach(self.connection, self.role);
    }
}

async fn handshake(frames: &mut Frames, network: &Network) -> Result<Admitted, ConnectionError> {
    let hello = frames.next().await?;
    match noise::greet(&network.keys, &hello)? {
        Greeted::Resumed { reply, admitted } => {
            frames.send(&reply).await?;
            Ok(*admitted)
        }
        Greeted::Finishing { reply, finishing } => {
            frames.send(&reply).await?;
            let finish = frames.next().await?;
            Ok(finishing.finish(&finish)?)
        }
    }
}

async fn converse(
    frames: &mut Frames,
    ciphers: &mut Ciphers,
    mut outgoing: mpsc::Receiver<Outgoing>,
    attached: &Attached<'_>,
) -> Result<End, ConnectionError> {
    let idle = tokio::time::sleep(IDLE_TIMEOUT);
    tokio::pin!(idle);
    loop {
        tokio::select! {
            next = outgoing.recv() => match next {
                Some(Outgoing::Stanza(node)) => send(frames, ciphers, &node).await?,
                Some(Outgoing::Last(node)) => {
                    send(frames, ciphers, &node).await?;
                    return Ok(End::Farewell);
                }
                Some(Outgoing::Plain(bytes)) => {
                    frames.send(&ciphers.seal(bytes.to_vec())?).await?;
                }
                Some(Outgoing::Frame(bytes)) => frames.send(&bytes).await?,
                // Nobody holds the other end any more: the device was taken off the network.
                None => return Ok(End::Clean),
            },
            frame = frames.next() => {
                idle.as_mut().reset(tokio::time::Instant::now() + IDLE_TIMEOUT);
                let plain = wacore_binary::util::unpack_bytes(ciphers.open(frame?)?)?;
                let node = OwnedNodeRef::new(plain)?.to_owned_node();
                attached.network.receive(attached.connection, attached.role, node);
            }
            () = &mut idle => return Ok(End::Clean),
        }
    }
}

async fn send(
    frames: &mut Frames,
    ciphers: &mut Ciphers,
    node: &Node,
) -> Result<(), ConnectionError> {
    let sealed = ciphers.seal(wacore_binary::marshal(node)?)?;
    Ok(frames.send(&sealed).await?)
}
