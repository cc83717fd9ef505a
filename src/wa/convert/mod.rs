//! WhatsApp's types in, ours out, and back.
//!
//! Owns what a message of WhatsApp means in our words. Never looks anything up, stores, or holds a client.

pub mod call;
pub mod context;
pub mod group;
pub mod ids;
pub mod inbound;
pub mod outbound;
pub mod rows;
pub mod secrets;
pub mod words;

use std::borrow::Cow;

/// Longest id of a message and longest JID, in bytes: several times what WhatsApp uses.
pub const NAME_BYTES: usize = 256;

/// Longest display name and longest explanation that is taken from WhatsApp, in characters.
pub const LABEL_CHARS: usize = 512;

/// A text that WhatsApp limits, cut where no honest client writes that much.
pub fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// What WhatsApp calls something, cut where no honest name is that long.
pub fn label(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LABEL_CHARS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}
