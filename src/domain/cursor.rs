//! Cursors: opaque to callers, a checked pair of log epoch and position to us.
//!
//! Not a secret and not a permission: whoever resumes is asked for their key again.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "wgc1";
const CHECK_BYTES: usize = 4;

/// A place in the log: the number of the last event before it. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Which log this is: chosen at random when the log is created, so that a cursor from another
/// database is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogEpoch(pub u64);

impl fmt::Display for LogEpoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

/// A place in a certain log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The log.
    pub epoch: LogEpoch,
    /// The place.
    pub position: Position,
}

impl Cursor {
    /// The cursor in a caller's text, or `None` where it is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (body, check) = bytes.split_at_checked(16)?;
        if check != checksum(body) {
            return None;
        }
        let (epoch, position) = body.split_at(8);
        Some(Self {
            epoch: LogEpoch(u64::from_be_bytes(epoch.try_into().ok()?)),
            position: Position(u64::from_be_bytes(position.try_into().ok()?)),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 16 + CHECK_BYTES];
        bytes[..8].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.position.0.to_be_bytes());
        let check = checksum(&bytes[..16]);
        bytes[16..].copy_from_slice(&check);
        write!(out, "{PREFIX}{}", BASE64.encode(bytes))
    }
}

fn checksum(body: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::digest(body);
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(epoch: u64, position: u64) {
            let cursor = Cursor { epoch: LogEpoch(epoch), position: Position(position) };
            let text = cursor.to_string();
            prop_assert!(text.len() <= 128);
            prop_assert_eq!(Cursor::parse(&text), Some(cursor));
        }

        #[test]
        fn a_changed_cursor_is_refused(epoch: u64, position: u64, at in 4usize..31) {
            let mut text = Cursor { epoch: LogEpoch(epoch), position: Position(position) }
                .to_string()
                .into_bytes();
            // The last character carries spare bits, so it is left alone.
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(Cursor::parse(&text), None);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = Cursor::parse(&text);
        }
    }
}
