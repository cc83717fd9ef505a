//! Messages with a file: images, videos, sound, documents, stickers, albums.

use whatsapp_rust::waproto::whatsapp as wa;

use super::{long, short, thumbnail};
use crate::{
    proto::v1::{self, message_content::Content},
    wa::convert::LABEL_CHARS,
};

/// Longest waveform that is shown: WhatsApp's have 64 steps.
const WAVEFORM_BYTES: usize = 1_024;

/// A digest has 32 bytes; anything else is none.
const DIGEST_BYTES: usize = 32;

/// What all of them have.
fn media(
    mime_type: Option<&String>,
    size: Option<u64>,
    digest: Option<&Vec<u8>>,
    picture: Option<&Vec<u8>>,
) -> v1::Media {
    v1::Media {
        mime_type: short(mime_type, LABEL_CHARS),
        size_bytes: size.unwrap_or_default(),
        sha256: digest
            .filter(|digest| digest.len() == DIGEST_BYTES)
            .cloned()
            .unwrap_or_default()
            .into(),
        thumbnail: thumbnail(picture),
        state: v1::MediaState::Pending.into(),
        ..Default::default()
    }
}

/// The picture alone, as products have it.
pub fn picture(image: &wa::message::ImageMessage) -> v1::Media {
    v1::Media {
        width: image.width.unwrap_or_default(),
        height: image.height.unwrap_or_default(),
        ..media(
            image.mimetype.as_ref(),
            image.file_length,
            image.file_sha256.as_ref(),
            image.jpeg_thumbnail.as_ref(),
        )
    }
}

/// An image.
pub fn image(image: &wa::message::ImageMessage) -> Content {
    Content::Image(v1::ImageContent {
        media: Some(picture(image)),
        caption: long(image.caption.as_ref()),
    })
}

/// A video; `round` is how it is shown.
pub fn video(video: &wa::message::VideoMessage, round: bool) -> Content {
    let file = v1::Media {
        width: video.width.unwrap_or_default(),
        height: video.height.unwrap_or_default(),
        duration_seconds: video.seconds.unwrap_or_default(),
        ..media(
            video.mimetype.as_ref(),
            video.file_length,
            video.file_sha256.as_ref(),
            video.jpeg_thumbnail.as_ref(),
        )
    };
    Content::Video(v1::VideoContent {
        media: Some(file),
        caption: long(video.caption.as_ref()),
        gif: video.gif_playback == Some(true),
        round,
    })
}

/// Sound.
pub fn audio(audio: &wa::message::AudioMessage) -> Content {
    let file = v1::Media {
        duration_seconds: audio.seconds.unwrap_or_default(),
        ..media(
            audio.mimetype.as_ref(),
            audio.file_length,
            audio.file_sha256.as_ref(),
            None,
        )
    };
    let waveform = audio.waveform.as_ref();
    Content::Audio(v1::AudioContent {
        media: Some(file),
        voice_note: audio.ptt == Some(true),
        waveform: waveform
            .filter(|steps| steps.len() <= WAVEFORM_BYTES)
            .cloned()
            .unwrap_or_default()
            .into(),
    })
}

/// A file.
pub fn document(document: &wa::message::DocumentMessage) -> Content {
    let file = v1::Media {
        file_name: short(document.file_name.as_ref(), LABEL_CHARS),
        ..media(
            document.mimetype.as_ref(),
            document.file_length,
            document.file_sha256.as_ref(),
            document.jpeg_thumbnail.as_ref(),
        )
    };
    let title = short(document.title.as_ref(), LABEL_CHARS);
    Content::Document(v1::DocumentContent {
        title: if title == file.file_name {
            String::new()
        } else {
            title
        },
        media: Some(file),
        caption: long(document.caption.as_ref()),
        page_count: document.page_count.unwrap_or_default(),
    })
}

/// A sticker.
pub fn sticker(sticker: &wa::message::StickerMessage) -> Content {
    let file = v1::Media {
        width: sticker.width.unwrap_or_default(),
        height: sticker.height.unwrap_or_default(),
        ..media(
            sticker.mimetype.as_ref(),
            sticker.file_length,
            sticker.file_sha256.as_ref(),
            sticker.png_thumbnail.as_ref(),
        )
    };
    Content::Sticker(v1::StickerContent {
        media: Some(file),
        animated: sticker.is_animated == Some(true),
        lottie: sticker.is_lottie == Some(true),
    })
}

/// The head of an album.
pub fn album(album: &wa::message::AlbumMessage) -> Content {
    Content::Album(v1::AlbumContent {
        image_count: album.expected_image_count.unwrap_or_default(),
        video_count: album.expected_video_count.unwrap_or_default(),
    })
}
