//! The file of a message: found or taken in, looked at, and left at WhatsApp's media hosts before the message
//! is stored.
//!
//! Owns what a file must be for WhatsApp to show it as what the caller says. Stores no message and sends none.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::stream;
use uuid::Uuid;
use whatsapp_rust::{Client, upload::UploadResponse};

use super::{Outbox, Outgoing, Say};
use crate::{
    domain::{
        ids::MediaId,
        media::{MediaKind, MediaState},
    },
    media::{Format, Media, MediaError, NewMedia, resource},
    proto::v1::{self, media_source::Source, message_content::Content},
    storage::{
        InstanceRow,
        media::{MediaKeep, MediaRow},
    },
    wa::{error::WaError, media::NotLeft},
};

/// How long the file of a send that has ended is kept, so that its end comes first.
const AFTERWARDS: Duration = Duration::from_secs(60 * 60);

/// A file that lies at WhatsApp, for a message that is to have it.
pub(super) struct Filed {
    /// Our handle.
    pub(super) id: MediaId,
    /// Where it lies, and under which key.
    pub(super) left: UploadResponse,
}

impl Outbox {
    /// Takes in the file of a send that has to wait, if it has one, and keeps it until the send has ended. What
    /// is wrong with it is told now.
    pub(super) async fn keep_file(
        &self,
        outgoing: &mut Outgoing,
        message_id: &str,
        until: SystemTime,
    ) -> Result<(), WaError> {
        let Say::Content(content) = &mut outgoing.say else {
            return Ok(());
        };
        let Some((kind, source)) = take_source(content) else {
            return Ok(());
        };
        let instance = self.row();
        let row = self.shown_file(&instance, content, kind, &source).await?;
        let keep = MediaKeep {
            chat: String::new(),
            message_id: message_id.to_owned(),
            expire_time: until.checked_add(AFTERWARDS),
        };
        let kept = self.storage.keep_media(instance.number, row.id, keep);
        if !kept.await? {
            return Err(wrong(kind, MediaError::NotFound));
        }
        give_source(content, &row, source);
        Ok(())
    }

    /// Gives the content its file, if it has one. Who is not there is found out first.
    pub(super) async fn file(
        &self,
        client: &Arc<Client>,
        outgoing: &mut Outgoing,
    ) -> Result<Option<Filed>, WaError> {
        let Say::Content(content) = &mut outgoing.say else {
            return Ok(None);
        };
        let Some((kind, source)) = take_source(content) else {
            return Ok(None);
        };
        if let Some(recipient) = &outgoing.recipient {
            self.addresses.resolve(client, recipient).await?;
        }
        let instance = self.row();
        let row = self.shown_file(&instance, content, kind, &source).await?;
        let left = self.uploads.leave(client, &row, kind).await;
        let left = left.map_err(|NotLeft { status, cause }| WaError::NotLeft { status, cause })?;
        Ok(Some(Filed { id: row.id, left }))
    }

    /// Takes the file of a content in, if it has one, so that it can be sent many times.
    pub(in crate::wa) async fn take_in(&self, content: &mut Content) -> Result<(), WaError> {
        let mut taken = content.clone();
        let Some((kind, source)) = take_source(&mut taken) else {
            return Ok(());
        };
        let row = self.fitting(&self.row(), kind, &source).await;
        let row = row.map_err(|error| wrong(kind, error))?;
        give_source(content, &row, source);
        Ok(())
    }

    /// The file of a content of this kind, and the content shows what it is like.
    async fn shown_file(
        &self,
        instance: &InstanceRow,
        content: &mut Content,
        kind: MediaKind,
        source: &v1::MediaSource,
    ) -> Result<MediaRow, WaError> {
        let showing = async {
            let row = self.fitting(instance, kind, source).await?;
            let format = self.uploads.media().format(&row).await?;
            let shown = shown(&row, instance, kind, source, &format);
            show(content, shown, &format)?;
            Ok(row)
        };
        showing.await.map_err(|error| wrong(kind, error))
    }

    /// The media that is meant, if a content of this kind can have it.
    async fn fitting(
        &self,
        instance: &InstanceRow,
        kind: MediaKind,
        source: &v1::MediaSource,
    ) -> Result<MediaRow, MediaError> {
        let media = self.uploads.media();
        let row = find(media, instance, kind, source).await?;
        fits(media, kind, &row)?;
        Ok(row)
    }
}

/// Where the bytes of a content are, which nobody is told again.
pub(super) fn take_source(content: &mut Content) -> Option<(MediaKind, v1::MediaSource)> {
    let (kind, source) = match content {
        Content::Image(image) => (MediaKind::Image, &mut image.source),
        Content::Video(video) => (MediaKind::Video, &mut video.source),
        Content::Audio(audio) => (MediaKind::Audio, &mut audio.source),
        Content::Document(document) => (MediaKind::Document, &mut document.source),
        Content::Sticker(sticker) => (MediaKind::Sticker, &mut sticker.source),
        _ => return None,
    };
    Some((kind, source.take()?))
}

/// What is wrong with the file of a content of this kind.
fn wrong(kind: MediaKind, error: MediaError) -> WaError {
    WaError::File {
        kind: kind.as_str(),
        error,
    }
}

/// Says that the bytes of a content are here, under their handle.
fn give_source(content: &mut Content, row: &MediaRow, source: v1::MediaSource) {
    let place = match content {
        Content::Image(image) => &mut image.source,
        Content::Video(video) => &mut video.source,
        Content::Audio(audio) => &mut audio.source,
        Content::Document(document) => &mut document.source,
        Content::Sticker(sticker) => &mut sticker.source,
        _ => return,
    };
    *place = Some(v1::MediaSource {
        source: Some(Source::MediaId(row.id.to_string())),
        ..source
    });
}

/// The media that is meant, taken in if it is not here yet.
async fn find(
    media: &Media,
    instance: &InstanceRow,
    kind: MediaKind,
    source: &v1::MediaSource,
) -> Result<MediaRow, MediaError> {
    let new = NewMedia {
        instance: instance.number,
        kind: Some(kind),
        mime_type: source.mime_type.clone(),
        only_hint: false,
        file_name: source.file_name.clone(),
        size: None,
        sha256: None,
    };
    match source.source.as_ref().ok_or(MediaError::Empty)? {
        Source::MediaId(id) => {
            let id = Uuid::try_parse(id).map_err(|_| MediaError::NotFound)?;
            media.find(instance.number, MediaId(id)).await
        }
        Source::Data(bytes) => {
            let size = Some(bytes.len() as u64);
            let bytes = stream::iter([Ok::<Bytes, MediaError>(bytes.clone())]);
            media.take(NewMedia { size, ..new }, bytes).await
        }
        Source::Url(url) => media.fetch(new, url).await,
    }
}

/// Whether a media can be sent as this kind. What came in as another one was checked by other rules.
fn fits(media: &Media, kind: MediaKind, row: &MediaRow) -> Result<(), MediaError> {
    if row.state != MediaState::Ready {
        return Err(MediaError::NotReady(row.state));
    }
    let limit = media.limits().of(kind);
    if row.size > limit {
        return Err(MediaError::TooLarge { kind, limit });
    }
    let is_webp = row.mime_type == "image/webp";
    let fits = match kind {
        MediaKind::Document => true,
        MediaKind::Sticker => row.kind == kind || (row.kind == MediaKind::Image && is_webp),
        MediaKind::Image => matches!(row.kind, MediaKind::Image | MediaKind::Sticker),
        MediaKind::Video | MediaKind::Audio => row.kind == kind,
    };
    match fits {
        true => Ok(()),
        false => Err(MediaError::TypeMismatch {
            declared: kind.as_str().to_owned(),
            found: format!("{} of type {}", row.kind.as_str(), row.mime_type),
        }),
    }
}

/// The media as the message shows it: what the caller says of it goes before what its bytes say.
fn shown(
    row: &MediaRow,
    instance: &InstanceRow,
    kind: MediaKind,
    source: &v1::MediaSource,
    format: &Format,
) -> v1::Media {
    let first =
        |told: u32, known: u32, seen: u32| [told, known, seen].into_iter().find(|one| *one > 0);
    let known = resource(row, instance.id, None);
    let thumbnail = match source.thumbnail.is_empty() {
        true => known.thumbnail,
        false => source.thumbnail.clone(),
    };
    let file_name = match source.file_name.is_empty() {
        true => known.file_name,
        false => source.file_name.clone(),
    };
    v1::Media {
        kind: kind as i32,
        width: first(source.width, known.width, format.width).unwrap_or_default(),
        height: first(source.height, known.height, format.height).unwrap_or_default(),
        duration_seconds: first(
            source.duration_seconds,
            known.duration_seconds,
            format.duration,
        )
        .unwrap_or_default(),
        thumbnail,
        file_name,
        ..known
    }
}

/// Puts the media into its content.
fn show(content: &mut Content, mut media: v1::Media, format: &Format) -> Result<(), MediaError> {
    match content {
        Content::Image(image) => image.media = Some(media),
        Content::Video(video) => video.media = Some(media),
        Content::Audio(audio) => {
            if audio.voice_note {
                if !format.is_opus {
                    return Err(MediaError::TypeMismatch {
                        declared: "voice note".to_owned(),
                        found: format!("{}, and a voice note is Opus in Ogg", media.mime_type),
                    });
                }
                // Phones play it as a voice note by this very type.
                "audio/ogg; codecs=opus".clone_into(&mut media.mime_type);
            }
            audio.media = Some(media);
        }
        Content::Document(document) => document.media = Some(media),
        Content::Sticker(sticker) => {
            sticker.animated = format.is_animated;
            sticker.media = Some(media);
        }
        _ => {}
    }
    Ok(())
}
