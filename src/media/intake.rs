//! The way in: from a stream of bytes to a media that is whole and checked, or to nothing at all.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::{runtime::Handle, time::timeout};

use super::{
    Media, MediaError,
    blobs::{Blobs, Writing},
    picture::{self, Picture},
    sniff,
};
use crate::{
    domain::{
        ids::{InstanceNumber, MediaId},
        media::{MediaKind, MediaState},
    },
    storage::{NewEvent, Storage, media::MediaRow},
};

/// What the sweep waits for before it takes a media for left behind: longer than any transfer.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest picture that is looked into.
const PICTURE_BYTES: u64 = 32 << 20;

/// What somebody says of bytes that are to come.
#[derive(Clone, Debug)]
pub struct NewMedia {
    /// For this instance.
    pub instance: InstanceNumber,
    /// What it is to be; `None` follows from the type.
    pub kind: Option<MediaKind>,
    /// The type; empty follows from the bytes.
    pub mime_type: String,
    /// The type is what a web server says: where the bytes say otherwise, they are believed.
    pub only_hint: bool,
    /// The name of the file, if it has one.
    pub file_name: String,
    /// How many bytes; `None` is unknown.
    pub size: Option<u64>,
    /// Their SHA-256; `None` is unknown.
    pub sha256: Option<[u8; 32]>,
}

impl Media {
    /// Takes bytes in. Whatever goes wrong, and if the future is dropped, nothing is left of them.
    pub async fn take(
        &self,
        new: NewMedia,
        bytes: impl Stream<Item = Result<Bytes, MediaError>> + Send,
    ) -> Result<MediaRow, MediaError> {
        let _permit = self
            .transfers
            .acquire()
            .await
            .map_err(|_| MediaError::BrokenOff)?;
        let mut bytes = std::pin::pin!(bytes);
        let patience = self.config.stall_timeout;
        let head = beginning(&mut bytes, patience).await?;
        let (kind, mime_type) = judge(&new, &head)?;
        let limit = self.config.limits.of(kind);
        let too_large = || MediaError::TooLarge { kind, limit };
        if new.size.is_some_and(|size| size > limit) {
            return Err(too_large());
        }

        let mut row = begun(&new, kind, mime_type);
        if !self.storage.create_media(row.clone()).await? {
            return Err(MediaError::NotFound);
        }
        let mut attempt = Attempt {
            storage: self.storage.clone(),
            blobs: self.blobs.clone(),
            instance: row.instance,
            id: row.id,
            writing: Some(self.blobs.write(row.instance, row.id)),
            over: false,
        };
        let mut hash = Sha256::new();
        let mut chunk = head;
        loop {
            row.size += chunk.len() as u64;
            if let Some(declared) = new.size.filter(|declared| row.size > *declared) {
                let received = row.size;
                return Err(MediaError::SizeMismatch { declared, received });
            }
            if row.size > limit {
                return Err(too_large());
            }
            hash.update(&chunk);
            attempt.put(chunk).await?;
            match next(&mut bytes, patience).await? {
                Some(more) => chunk = more,
                None => break,
            }
        }
        if let Some(declared) = new.size.filter(|declared| row.size != *declared) {
            let received = row.size;
            return Err(MediaError::SizeMismatch { declared, received });
        }
        let hash: [u8; 32] = hash.finalize().into();
        if new.sha256.is_some_and(|declared| declared != hash) {
            return Err(MediaError::HashMismatch);
        }
        row.sha256 = Bytes::copy_from_slice(&hash);
        attempt.finish().await?;
        if matches!(kind, MediaKind::Image | MediaKind::Sticker) && row.size <= PICTURE_BYTES {
            let picture = self.picture(&row).await?;
            row.width = picture.width;
            row.height = picture.height;
            row.thumbnail = picture.thumbnail;
        }
        row.state = MediaState::Ready;
        row.update_time = SystemTime::now();
        row.expire_time = row.update_time.checked_add(self.config.upload_age);
        let done = self
            .storage
            .replace_media(row.clone(), MediaState::Writing, Vec::new());
        if !done.await? {
            return Err(MediaError::NotFound);
        }
        attempt.over = true;
        Ok(row)
    }

    /// Takes the bytes of a media that is known already, with the events of its being here. Whatever goes
    /// wrong, the media stays as it is.
    pub async fn fill(
        &self,
        mut row: MediaRow,
        bytes: impl Stream<Item = Result<Bytes, MediaError>> + Send,
        events: impl FnOnce(&MediaRow) -> Vec<NewEvent>,
    ) -> Result<MediaRow, MediaError> {
        let from = row.state;
        let (kind, limit) = (row.kind, self.config.limits.of(row.kind));
        let mut bytes = std::pin::pin!(bytes);
        let mut writing = self.blobs.write(row.instance, row.id);
        let mut hash = Sha256::new();
        let mut size = 0;
        let patience = self.config.stall_timeout;
        let written = async {
            while let Some(chunk) = next(&mut bytes, patience).await? {
                size += chunk.len() as u64;
                if size > limit {
                    return Err(MediaError::TooLarge { kind, limit });
                }
                hash.update(&chunk);
                writing.put(chunk).await.map_err(MediaError::Blobs)?;
            }
            let digest = hash.finalize();
            if !row.sha256.is_empty() && digest[..] != row.sha256[..] {
                return Err(MediaError::HashMismatch);
            }
            row.sha256 = Bytes::copy_from_slice(&digest);
            writing.finish().await.map_err(MediaError::Blobs)
        };
        if let Err(error) = written.await {
            writing.abort().await;
            return Err(error);
        }
        row.size = size;
        if matches!(kind, MediaKind::Image | MediaKind::Sticker)
            && size <= PICTURE_BYTES
            // What somebody sent is what it is, also if it is broken.
            && let Ok(picture) = self.picture(&row).await
        {
            row.width = picture.width;
            row.height = picture.height;
            if row.thumbnail.is_empty() {
                row.thumbnail = picture.thumbnail;
            }
        }
        row.state = MediaState::Ready;
        row.update_time = SystemTime::now();
        row.expire_time = row.update_time.checked_add(self.config.retention_age);
        row.attempt_time = None;
        row.source = Bytes::new();
        let events = events(&row);
        match self
            .storage
            .replace_media(row.clone(), from, events)
            .await?
        {
            true => Ok(row),
            false => {
                // Its instance was deleted meanwhile, and the bytes would be nobody's. A row that is there has
                // them from somebody else.
                if self
                    .storage
                    .lookup_media(row.instance, row.id)
                    .await?
                    .is_none()
                {
                    let removed = self.blobs.remove(row.instance, row.id).await;
                    removed.map_err(|error| MediaError::Blobs(error.into()))?;
                }
                Err(MediaError::NotFound)
            }
        }
    }

    async fn picture(&self, row: &MediaRow) -> Result<Picture, MediaError> {
        let permit = self.pictures.acquire().await;
        let _permit = permit.map_err(|_| MediaError::BrokenOff)?;
        let parts = self.blobs.read(row.instance, row.id, 0..row.size).await;
        let parts = parts.map_err(|error| MediaError::Blobs(error.into()))?;
        let bytes: BytesMut = parts.try_collect().await.map_err(MediaError::Blobs)?;
        let seen = tokio::task::spawn_blocking(move || picture::inspect(&bytes)).await;
        let seen = seen.map_err(|error| MediaError::Blobs(error.into()))?;
        seen.ok_or_else(|| MediaError::TypeMismatch {
            declared: row.mime_type.clone(),
            found: "a broken picture".to_owned(),
        })
    }
}

/// An attempt that leaves nothing behind unless it succeeds.
struct Attempt {
    storage: Arc<dyn Storage>,
    blobs: Blobs,
    instance: InstanceNumber,
    id: MediaId,
    writing: Option<Writing>,
    over: bool,
}

impl Attempt {
    async fn put(&mut self, bytes: Bytes) -> Result<(), MediaError> {
        match &mut self.writing {
            Some(writing) => writing.put(bytes).await.map_err(MediaError::Blobs),
            None => Err(MediaError::BrokenOff),
        }
    }

    async fn finish(&mut self) -> Result<(), MediaError> {
        if let Some(writing) = &mut self.writing {
            writing.finish().await.map_err(MediaError::Blobs)?;
        }
        self.writing = None;
        Ok(())
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (storage, blobs) = (self.storage.clone(), self.blobs.clone());
        let (instance, id, writing) = (self.instance, self.id, self.writing.take());
        let clean = async move {
            if let Some(writing) = writing {
                writing.abort().await;
            }
            // What can't be removed now is found by the sweep: its row says so.
            if let Err(error) = blobs.remove(instance, id).await {
                tracing::warn!(%error, "what is left of a transfer can't be removed yet");
                return;
            }
            if let Err(error) = storage.remove_media(instance, id).await {
                tracing::debug!(%error, "what is left of a transfer can't be forgotten yet");
            }
        };
        // Without a runtime the process is ending, and the sweep of the next one finds it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(clean);
        }
    }
}

/// The first bytes: at least as many as tell a type, or all.
async fn beginning<S>(bytes: &mut S, patience: Duration) -> Result<Bytes, MediaError>
where
    S: Stream<Item = Result<Bytes, MediaError>> + Unpin,
{
    let mut head = BytesMut::new();
    while head.len() < sniff::NEEDED
        && let Some(chunk) = next(bytes, patience).await?
    {
        head.extend_from_slice(&chunk);
    }
    if head.is_empty() {
        return Err(MediaError::Empty);
    }
    Ok(head.freeze())
}

async fn next<S>(bytes: &mut S, patience: Duration) -> Result<Option<Bytes>, MediaError>
where
    S: Stream<Item = Result<Bytes, MediaError>> + Unpin,
{
    match timeout(patience, bytes.next()).await {
        Ok(chunk) => chunk.transpose(),
        Err(_) => Err(MediaError::Stalled),
    }
}

/// What it is, by its owner's word and its beginning; an error where the two can't both be true.
fn judge(new: &NewMedia, head: &[u8]) -> Result<(MediaKind, String), MediaError> {
    let found = sniff::sniff(head);
    let wrong = |declared: &str, found: Option<&str>| MediaError::TypeMismatch {
        declared: declared.to_owned(),
        found: found.unwrap_or("of no known type").to_owned(),
    };
    let contradicted =
        found.filter(|found| !new.mime_type.is_empty() && !sniff::agrees(&new.mime_type, found));
    // Sent as a document, a file is whatever its owner calls it.
    if contradicted.is_some() && !new.only_hint && new.kind != Some(MediaKind::Document) {
        return Err(wrong(&new.mime_type, contradicted));
    }
    let vague = new.mime_type.is_empty()
        || new.mime_type == "application/octet-stream"
        || (contradicted.is_some() && new.only_hint);
    let mime_type = match (vague, found) {
        (false, _) => new.mime_type.clone(),
        (true, Some(found)) => found.to_owned(),
        (true, None) => "application/octet-stream".to_owned(),
    };
    let kind = new.kind.unwrap_or_else(|| MediaKind::of(&mime_type));
    let essence = sniff::essence(&mime_type);
    let fits = match kind {
        // Only what can be shown everywhere, and only if the bytes say so themselves.
        MediaKind::Image => matches!(
            found,
            Some("image/jpeg" | "image/png" | "image/webp" | "image/gif")
        ),
        MediaKind::Sticker => found == Some("image/webp"),
        MediaKind::Video => essence.starts_with("video/"),
        // Sound may come in a container that is named after films.
        MediaKind::Audio => {
            essence.starts_with("audio/")
                || matches!(&*essence, "application/ogg" | "video/mp4" | "video/webm")
        }
        MediaKind::Document => true,
    };
    match fits {
        true => Ok((kind, mime_type)),
        false => Err(wrong(kind.as_str(), found.or(Some(&mime_type)))),
    }
}

fn begun(new: &NewMedia, kind: MediaKind, mime_type: String) -> MediaRow {
    let now = SystemTime::now();
    MediaRow {
        instance: new.instance,
        id: MediaId::generate(),
        kind,
        state: MediaState::Writing,
        mime_type,
        file_name: new.file_name.clone(),
        size: 0,
        sha256: Bytes::new(),
        width: 0,
        height: 0,
        duration: 0,
        thumbnail: Bytes::new(),
        source: Bytes::new(),
        chat: String::new(),
        message_id: String::new(),
        create_time: now,
        update_time: now,
        expire_time: now.checked_add(LEFT_BEHIND),
        attempts: 0,
        attempt_time: None,
    }
}
