//! Media as they are kept: what is known of them. Their bytes lie in the object store.
//!
//! A row is there before its bytes and goes after them, so nothing lies about that no row tells of.

use std::time::SystemTime;

use bytes::Bytes;

use crate::domain::{
    ids::{InstanceNumber, MediaId},
    media::{MediaKind, MediaState},
};

/// One media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// Its id.
    pub id: MediaId,
    /// What it is to WhatsApp.
    pub kind: MediaKind,
    /// Where its bytes are.
    pub state: MediaState,
    /// Their type; empty if unknown.
    pub mime_type: String,
    /// Their name; empty if they have none.
    pub file_name: String,
    /// How many they are, or are said to be before they are here.
    pub size: u64,
    /// Their SHA-256; empty if unknown.
    pub sha256: Bytes,
    /// In pixels; 0 if unknown.
    pub width: u32,
    /// In pixels; 0 if unknown.
    pub height: u32,
    /// In seconds; 0 if unknown.
    pub duration: u32,
    /// A small picture; empty without one.
    pub thumbnail: Bytes,
    /// WhatsApp's message that tells where the bytes are and how to read them; empty for an upload.
    pub source: Bytes,
    /// The chat of the first message that had it.
    pub chat: String,
    /// The id of the first message that had it; empty while none has.
    pub message_id: String,
    /// When it was first known.
    pub create_time: SystemTime,
    /// When its state last changed.
    pub update_time: SystemTime,
    /// When its bytes go; `None` stays.
    pub expire_time: Option<SystemTime>,
    /// How often the bytes were tried to fetch, or asked for.
    pub attempts: u32,
    /// When the next try is due; `None` is never.
    pub attempt_time: Option<SystemTime>,
}

/// That a message has a media.
#[derive(Clone, Debug)]
pub struct MediaKeep {
    /// The message's chat.
    pub chat: String,
    /// The message's id.
    pub message_id: String,
    /// Until when it is kept now, unless it is kept longer already; `None` stays.
    pub expire_time: Option<SystemTime>,
}
