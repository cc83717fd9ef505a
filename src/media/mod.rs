//! Media: bytes in and out, under a handle.
//!
//! Owns the bytes (in `blobs`) together with what is known of them (in `storage`): the row is there before
//! the bytes and goes after them, and nobody is shown a media that is not whole and checked. Owns the limits,
//! the age at which bytes go, and links. Never holds a whole file in memory, save a picture while its
//! thumbnail is made. Never talks to WhatsApp: whoever does hands the bytes in and out here.

mod blobs;
mod error;
mod format;
mod http;
mod intake;
pub mod links;
mod listener;
pub mod picture;
mod resource;
mod sniff;
mod sweep;
#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::Semaphore;

pub use blobs::{Bucket, Place};
pub use error::MediaError;
pub use format::Format;
pub use http::serve as serve_links;
pub use intake::NewMedia;
pub use resource::resource;
pub use sniff::is_mime_type;

use blobs::Blobs;

use crate::{
    domain::{
        ids::{InstanceNumber, MediaId},
        media::{MediaKind, MediaState},
    },
    egress::{Bounds, Egress},
    storage::{
        Storage,
        media::{MediaKeep, MediaRow},
    },
};

/// Pictures that are looked into at once: each may take a good part of the memory.
const PICTURES: usize = 1;

/// Most bytes of each kind.
#[derive(Clone, Copy, Debug)]
pub struct SizeLimits {
    /// Of an image.
    pub image: u64,
    /// Of a video.
    pub video: u64,
    /// Of an audio.
    pub audio: u64,
    /// Of a document.
    pub document: u64,
    /// Of a sticker.
    pub sticker: u64,
}

impl SizeLimits {
    /// The limit of a kind.
    pub fn of(&self, kind: MediaKind) -> u64 {
        match kind {
            MediaKind::Image => self.image,
            MediaKind::Video => self.video,
            MediaKind::Audio => self.audio,
            MediaKind::Document => self.document,
            MediaKind::Sticker => self.sticker,
        }
    }
}

/// What the operator sets.
#[derive(Clone)]
pub struct MediaConfig {
    /// Where the bytes lie.
    pub place: Place,
    /// Most bytes of each kind.
    pub limits: SizeLimits,
    /// How long what is uploaded is kept until a message has it.
    pub upload_age: Duration,
    /// How long what a message has is kept.
    pub retention_age: Duration,
    /// Most transfers in at a time; more wait.
    pub transfers: usize,
    /// How long a URL may take to give its bytes.
    pub url_timeout: Duration,
    /// How long a transfer in may stand still.
    pub stall_timeout: Duration,
}

/// Bytes on their way out.
pub type Bytestream = BoxStream<'static, Result<Bytes, MediaError>>;

/// The media of all instances.
pub struct Media {
    storage: Arc<dyn Storage>,
    blobs: Blobs,
    egress: Egress,
    config: MediaConfig,
    transfers: Semaphore,
    pictures: Semaphore,
}

impl Media {
    /// Opens the object store.
    pub fn open(
        storage: Arc<dyn Storage>,
        egress: Egress,
        config: MediaConfig,
    ) -> anyhow::Result<Arc<Self>> {
        let blobs = Blobs::open(config.place.clone())?;
        Ok(Arc::new(Self {
            storage,
            blobs,
            egress,
            transfers: Semaphore::new(config.transfers.max(1)),
            pictures: Semaphore::new(PICTURES),
            config,
        }))
    }

    /// Most bytes of each kind.
    pub fn limits(&self) -> &SizeLimits {
        &self.config.limits
    }

    /// How long a transfer in may stand still.
    pub fn stall_timeout(&self) -> Duration {
        self.config.stall_timeout
    }

    /// What is known of a media.
    pub async fn find(
        &self,
        instance: InstanceNumber,
        id: MediaId,
    ) -> Result<MediaRow, MediaError> {
        let found = self.storage.lookup_media(instance, id).await?;
        found
            .filter(|row| row.state != MediaState::Writing)
            .ok_or(MediaError::NotFound)
    }

    /// The bytes of a media that is here; `range` must lie within them.
    pub async fn read(&self, row: &MediaRow, range: Range<u64>) -> Result<Bytestream, MediaError> {
        if row.state != MediaState::Ready {
            return Err(MediaError::NotReady(row.state));
        }
        if range.start > range.end || range.end > row.size {
            return Err(MediaError::Range { size: row.size });
        }
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        match self.blobs.read(row.instance, row.id, range).await {
            Ok(bytes) => Ok(bytes.map(|chunk| chunk.map_err(MediaError::Blobs)).boxed()),
            // Somebody removed them behind our back.
            Err(object_store::Error::NotFound { .. }) => {
                tracing::warn!(media = %row.id, "the bytes of a media are missing");
                Err(MediaError::NotReady(MediaState::Gone))
            }
            Err(error) => Err(MediaError::Blobs(error.into())),
        }
    }

    /// Takes what a caller's URL leads to.
    pub async fn fetch(&self, new: NewMedia, url: &str) -> Result<MediaRow, MediaError> {
        let limits = &self.config.limits;
        let most = match new.kind {
            Some(kind) => limits.of(kind),
            None => MediaKind::EVERY
                .map(|kind| limits.of(kind))
                .into_iter()
                .max()
                .unwrap_or(0),
        };
        let bounds = Bounds {
            bytes: most,
            time: self.config.url_timeout,
            redirects: 3,
        };
        let fetched = self.egress.fetch(url, bounds).await?;
        let mut new = new;
        if new.mime_type.is_empty() {
            let told = fetched.content_type.clone().unwrap_or_default();
            new.only_hint = true;
            new.mime_type = match sniff::is_mime_type(&told) {
                true => told,
                false => String::new(),
            };
        }
        let bytes = fetched
            .into_stream()
            .map(|chunk| chunk.map_err(MediaError::from));
        self.take(new, bytes).await
    }

    /// A small JPEG of a picture that is no media; empty where none can be made.
    pub async fn thumbnail(&self, bytes: Bytes) -> Bytes {
        let Ok(_permit) = self.pictures.acquire().await else {
            return Bytes::new();
        };
        let seen = tokio::task::spawn_blocking(move || picture::inspect(&bytes)).await;
        let seen = seen.ok().flatten();
        seen.map(|picture| picture.thumbnail).unwrap_or_default()
    }

    /// Says that a message has a media, which is then kept as long as messages are.
    pub async fn keep(
        &self,
        instance: InstanceNumber,
        id: MediaId,
        chat: &str,
        message_id: &str,
    ) -> Result<(), MediaError> {
        let keep = MediaKeep {
            chat: chat.to_owned(),
            message_id: message_id.to_owned(),
            expire_time: std::time::SystemTime::now().checked_add(self.config.retention_age),
        };
        match self.storage.keep_media(instance, id, keep).await? {
            true => Ok(()),
            false => Err(MediaError::NotFound),
        }
    }
}
