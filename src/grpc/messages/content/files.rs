//! Files and albums, before a byte of them is fetched.

use tonic::Status;
use uuid::Uuid;

use super::{most, small};
use crate::{
    domain::limits,
    grpc::{
        media::file_name,
        status::{self, Reason, refuse},
    },
    media::is_mime_type,
    proto::v1::{self, media_source::Source, message_content::Content},
};

/// Longest title of a document, in characters.
const TITLE_CHARS: usize = 512;

/// Longest side of a video, in pixels, and longest duration, in seconds, that a caller may claim.
const MOST_SIDE: u32 = 65_535;
const MOST_SECONDS: u32 = 7 * 24 * 60 * 60;

/// Where the bytes are, if that can be so. `kind` names the content's field.
fn source(kind: &str, source: Option<v1::MediaSource>) -> Result<Option<v1::MediaSource>, Status> {
    let field = |name: &str| format!("{kind}.source{name}");
    let invalid = |name: &str, why: &str| status::field_invalid(&field(name), why);
    let missing = || invalid("", "must say where the bytes are");
    let source = source.ok_or_else(missing)?;
    match source.source.as_ref().ok_or_else(missing)? {
        Source::MediaId(id) => {
            if Uuid::try_parse(id).is_err() {
                return Err(invalid(".media_id", "must be the id of a media"));
            }
        }
        Source::Data(bytes) if bytes.is_empty() => {
            return Err(refuse(Reason::MediaEmpty, "the media is empty")
                .field(field(".data"), "must not be empty")
                .into());
        }
        Source::Url(url) if url.is_empty() => {
            return Err(invalid(".url", "must not be empty"));
        }
        Source::Data(_) | Source::Url(_) => {}
    }
    if !source.mime_type.is_empty() && !is_mime_type(&source.mime_type) {
        return Err(invalid(".mime_type", "must look like image/jpeg"));
    }
    file_name(&field(".file_name"), &source.file_name)?;
    small(
        &field(".thumbnail"),
        &source.thumbnail,
        limits::THUMBNAIL_BYTES,
    )?;
    if !source.thumbnail.is_empty() && !source.thumbnail.starts_with(b"\xff\xd8\xff") {
        return Err(invalid(".thumbnail", "must be a JPEG"));
    }
    for (name, value, limit) in [
        (".duration_seconds", source.duration_seconds, MOST_SECONDS),
        (".width", source.width, MOST_SIDE),
        (".height", source.height, MOST_SIDE),
    ] {
        if value > limit {
            return Err(invalid(name, &format!("must be at most {limit}")));
        }
    }
    Ok(Some(source))
}

pub(super) fn image(image: v1::ImageContent) -> Result<v1::ImageContent, Status> {
    most("image.caption", &image.caption, limits::CAPTION_CHARS)?;
    Ok(v1::ImageContent {
        source: source("image", image.source)?,
        media: None,
        ..image
    })
}

pub(super) fn video(video: v1::VideoContent) -> Result<v1::VideoContent, Status> {
    most("video.caption", &video.caption, limits::CAPTION_CHARS)?;
    if video.round && video.gif {
        return Err(status::field_invalid("video.round", "goes without gif"));
    }
    if video.round && !video.caption.is_empty() {
        let why = "must be empty: a round video has none";
        return Err(status::field_invalid("video.caption", why));
    }
    Ok(v1::VideoContent {
        source: source("video", video.source)?,
        media: None,
        ..video
    })
}

pub(super) fn audio(audio: v1::AudioContent) -> Result<v1::AudioContent, Status> {
    let waveform = "audio.waveform";
    small(waveform, &audio.waveform, limits::WAVEFORM_BYTES)?;
    if audio.waveform.iter().any(|step| *step > 100) {
        let why = "must have steps of 0 to 100";
        return Err(status::field_invalid(waveform, why));
    }
    if !audio.voice_note && !audio.waveform.is_empty() {
        let why = "must be empty: only a voice note has one";
        return Err(status::field_invalid(waveform, why));
    }
    Ok(v1::AudioContent {
        source: source("audio", audio.source)?,
        media: None,
        ..audio
    })
}

pub(super) fn document(document: v1::DocumentContent) -> Result<v1::DocumentContent, Status> {
    let caption = &document.caption;
    most("document.caption", caption, limits::CAPTION_CHARS)?;
    most("document.title", &document.title, TITLE_CHARS)?;
    Ok(v1::DocumentContent {
        source: source("document", document.source)?,
        media: None,
        ..document
    })
}

pub(super) fn sticker(sticker: v1::StickerContent) -> Result<v1::StickerContent, Status> {
    if sticker.lottie {
        let why = "must be false: such stickers can't be sent";
        return Err(status::field_invalid("sticker.lottie", why));
    }
    Ok(v1::StickerContent {
        source: source("sticker", sticker.source)?,
        media: None,
        animated: false,
        ..sticker
    })
}

pub(super) fn album(album: v1::AlbumContent) -> Result<v1::AlbumContent, Status> {
    let count = album.image_count.saturating_add(album.video_count);
    let counts = limits::ALBUM;
    if !counts.contains(&count) {
        let (least, most) = (counts.start(), counts.end());
        return Err(status::field_invalid(
            "album.image_count",
            format!("and video_count must be {least} to {most} together"),
        ));
    }
    Ok(album)
}

/// Whether a content may be opened only once, which images, videos and voice notes may.
pub(in crate::grpc::messages) fn once(
    content: &Content,
    view_once: bool,
    album: &str,
) -> Result<(), Status> {
    if !view_once {
        return Ok(());
    }
    let may = match content {
        Content::Image(_) => true,
        Content::Video(video) => !video.gif && !video.round,
        Content::Audio(audio) => audio.voice_note,
        _ => false,
    };
    let why = match may {
        false => "must be false: only an image, a video or a voice note is opened once",
        true if !album.is_empty() => "must be false: what is opened once is in no album",
        true => return Ok(()),
    };
    Err(status::field_invalid("view_once", why))
}

/// The id of an album's head, which images and videos have.
pub(in crate::grpc::messages) fn in_album(
    content: &Content,
    message_id: &str,
) -> Result<(), Status> {
    const FIELD: &str = "album_message_id";
    if message_id.is_empty() {
        return Ok(());
    }
    if !matches!(content, Content::Image(_))
        && !matches!(content, Content::Video(video) if !video.round)
    {
        let why = "must be empty: only images and videos are in albums";
        return Err(status::field_invalid(FIELD, why));
    }
    super::message_id(FIELD, message_id)
}
