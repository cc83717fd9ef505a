//! Frames on a WebSocket: strips the intro of the first bytes, joins and splits messages, bounds memory.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::{Buf, BytesMut};
use wacore_binary::consts::WA_CONN_HEADER;
use wacore_noise::framing::{FRAME_LENGTH_SIZE, encode_frame};

/// The largest frame taken: far above any real stanza, far below what would hurt.
pub const MAX_FRAME: usize = 1 << 20;

/// The largest WebSocket message taken: a frame with its length and an intro.
pub const MAX_MESSAGE: usize = MAX_FRAME + (8 << 10);

/// Routing data of the edge-routing intro is opaque and tiny.
const MAX_EDGE_ROUTING: usize = 4 << 10;
const EDGE_ROUTING_INTRO: &[u8] = b"ED\0\x01";

/// A peer that does not take a frame for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed, or the socket broke.
    #[error("the connection is closed")]
    Closed,
    /// The first bytes are not WhatsApp's.
    #[error("the connection does not start with WhatsApp's header")]
    Header,
    /// A frame is over the bound.
    #[error("a frame is larger than {MAX_FRAME} bytes")]
    TooLarge,
    /// The peer does not read.
    #[error("the peer does not read")]
    Stalled,
}

/// A WebSocket that carries frames.
pub struct Frames {
    socket: WebSocket,
    buffer: BytesMut,
    header_seen: bool,
}

impl Frames {
    /// Takes over a fresh WebSocket.
    pub fn new(socket: WebSocket) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            header_seen: false,
        }
    }

    /// The next frame. Safe to cancel: nothing received is lost.
    pub async fn next(&mut self) -> Result<BytesMut, FrameError> {
        loop {
            if !self.header_seen {
                self.header_seen = strip_intro(&mut self.buffer)?;
            }
            if self.header_seen
                && let Some(frame) = split_frame(&mut self.buffer)?
            {
                return Ok(frame);
            }
            match self.socket.recv().await {
                Some(Ok(Message::Binary(data))) => self.buffer.extend_from_slice(&data),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(FrameError::Closed),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Sends one frame.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        let frame = encode_frame(payload, None).map_err(|_| FrameError::TooLarge)?;
        match tokio::time::timeout(
            WRITE_TIMEOUT,
            self.socket.send(Message::Binary(frame.into())),
        )
        .await
        {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(FrameError::Closed),
            Err(_) => Err(FrameError::Stalled),
        }
    }

    /// Says goodbye; the peer sees a clean end.
    pub async fn close(mut self) {
        let goodbye = self.socket.send(Message::Close(None));
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

/// Removes the optional edge-routing intro and the header; false while bytes are missing.
fn strip_intro(buffer: &mut BytesMut) -> Result<bool, FrameError> {
    let start = &buffer[..buffer.len().min(EDGE_ROUTING_INTRO.len())];
    let routed = EDGE_ROUTING_INTRO.starts_with(start) && !start.is_empty();
    if !routed && !WA_CONN_HEADER.starts_with(start) {
        return Err(FrameError::Header);
    }
    if start.len() < EDGE_ROUTING_INTRO.len() {
        return Ok(false);
    }
    let mut skip = 0;
    if routed {
        let Some(length) = length_at(buffer, EDGE_ROUTING_INTRO.len()) else {
            return Ok(false);
        };
        if length > MAX_EDGE_ROUTING {
            return Err(FrameError::Header);
        }
        skip = EDGE_ROUTING_INTRO.len() + FRAME_LENGTH_SIZE + length;
    }
    let Some(header) = buffer.get(skip..skip + WA_CONN_HEADER.len()) else {
        return Ok(false);
    };
    if header != WA_CONN_HEADER {
        return Err(FrameError::Header);
    }
    buffer.advance(skip + WA_CONN_HEADER.len());
    Ok(true)
}

fn split_frame(buffer: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
    let Some(length) = length_at(buffer, 0) else {
        return Ok(None);
    };
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge);
    }
    if buffer.len() < FRAME_LENGTH_SIZE + length {
        return Ok(None);
    }
    buffer.advance(FRAME_LENGTH_SIZE);
    Ok(Some(buffer.split_to(length)))
}

fn length_at(buffer: &[u8], at: usize) -> Option<usize> {
    let bytes = buffer.get(at..at + FRAME_LENGTH_SIZE)?;
    Some(
        bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intro_is_stripped_however_it_is_split() {
        let mut whole = wacore_noise::build_edge_routing_preintro(&[7; 12]).unwrap();
        whole.extend_from_slice(&WA_CONN_HEADER);
        for intro in [&whole[..], &WA_CONN_HEADER] {
            for split in 0..intro.len() {
                let mut buffer = BytesMut::from(&intro[..split]);
                assert!(!strip_intro(&mut buffer).unwrap(), "at {split}");
                buffer.extend_from_slice(&intro[split..]);
                buffer.extend_from_slice(b"rest");
                assert!(strip_intro(&mut buffer).unwrap());
                assert_eq!(&buffer[..], b"rest");
            }
        }
    }

    #[test]
    fn foreign_bytes_and_oversized_frames_are_refused() {
        assert!(strip_intro(&mut BytesMut::from(&b"GET / HTTP"[..])).is_err());
        assert!(strip_intro(&mut BytesMut::from(&b"ED\0\x01\xff\xff\xff"[..])).is_err());
        assert!(split_frame(&mut BytesMut::from(&[0xff, 0xff, 0xff][..])).is_err());
    }

    #[test]
    fn frames_are_joined_and_split() {
        let mut buffer = BytesMut::new();
        for payload in [&b"one"[..], b"", b"three"] {
            buffer.extend_from_slice(&encode_frame(payload, None).unwrap());
        }
        let cut = buffer.split_off(7);
        assert_eq!(
            split_frame(&mut buffer).unwrap().as_deref(),
            Some(&b"one"[..])
        );
        assert_eq!(split_frame(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(&cut);
        assert_eq!(split_frame(&mut buffer).unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(
            split_frame(&mut buffer).unwrap().as_deref(),
            Some(&b"three"[..])
        );
        assert_eq!(split_frame(&mut buffer).unwrap(), None);
    }
}
