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

/// Whether a text has more characters than this.
pub fn is_longer(text: &str, chars: usize) -> bool {
    // A character has a byte at least, so hardly any text needs counting.
    text.len() > chars && text.chars().nth(chars).is_some()
}

/// A text that WhatsApp limits, cut where no honest client writes that much.
pub fn cut(text: &str, chars: usize) -> String {
    if is_longer(text, chars) {
        text.chars().take(chars).collect()
    } else {
        text.to_owned()
    }
}

/// What WhatsApp calls something, cut where no honest name is that long.
pub fn label(text: &str) -> Cow<'_, str> {
    if is_longer(text, LABEL_CHARS) {
        Cow::Owned(format!("{}…", cut(text, LABEL_CHARS)))
    } else {
        Cow::Borrowed(text)
    }
}
