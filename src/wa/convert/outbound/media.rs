//! Messages with a file, and the heads of albums.

use whatsapp_rust::{
    buffa::MessageField,
    upload::UploadResponse,
    waproto::whatsapp::{self as wa, message},
};

use super::kinds::{bytes, some};
use crate::proto::v1::{self, message_content::Content};

/// WhatsApp's form of a content whose file lies there; `None` for what has no file.
pub fn convert(content: &Content, left: UploadResponse) -> Option<wa::Message> {
    Some(match content {
        Content::Image(image) => self::image(image, left),
        Content::Video(video) => self::video(video, left),
        Content::Audio(audio) => self::audio(audio, left),
        Content::Document(document) => self::document(document, left),
        Content::Sticker(sticker) => self::sticker(sticker, left),
        _ => return None,
    })
}

/// A number that is known.
fn known(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number > 0)
}

/// Puts in what every message with a file says of it, under the same names.
macro_rules! with_file {
    ($message:ident, $media:expr, $left:expr, $($more:tt)*) => {
        message::$message {
            url: Some($left.url),
            direct_path: Some($left.direct_path),
            media_key: Some($left.media_key.to_vec()),
            media_key_timestamp: Some($left.media_key_timestamp),
            file_sha256: Some($left.file_sha256.to_vec()),
            file_enc_sha256: Some($left.file_enc_sha256.to_vec()),
            file_length: Some($left.file_length),
            mimetype: Some($media.mime_type),
            $($more)*
        }
    };
}

fn image(image: &v1::ImageContent, left: UploadResponse) -> wa::Message {
    let media = image.media.clone().unwrap_or_default();
    let image = with_file!(ImageMessage, media, left,
        width: known(media.width),
        height: known(media.height),
        jpeg_thumbnail: bytes(&media.thumbnail),
        caption: some(&image.caption),
        ..Default::default()
    );
    wa::Message {
        image_message: MessageField::some(image),
        ..Default::default()
    }
}

fn video(video: &v1::VideoContent, left: UploadResponse) -> wa::Message {
    let media = video.media.clone().unwrap_or_default();
    let round = video.round;
    let video = with_file!(VideoMessage, media, left,
        streaming_sidecar: left.streaming_sidecar,
        width: known(media.width),
        height: known(media.height),
        seconds: known(media.duration_seconds),
        jpeg_thumbnail: bytes(&media.thumbnail),
        caption: some(&video.caption),
        gif_playback: video.gif.then_some(true),
        ..Default::default()
    );
    let video = MessageField::some(video);
    if round {
        wa::Message {
            ptv_message: video,
            ..Default::default()
        }
    } else {
        wa::Message {
            video_message: video,
            ..Default::default()
        }
    }
}

fn audio(audio: &v1::AudioContent, left: UploadResponse) -> wa::Message {
    let media = audio.media.clone().unwrap_or_default();
    let audio = with_file!(AudioMessage, media, left,
        streaming_sidecar: left.streaming_sidecar,
        seconds: known(media.duration_seconds),
        ptt: Some(audio.voice_note),
        waveform: bytes(&audio.waveform),
        ..Default::default()
    );
    wa::Message {
        audio_message: MessageField::some(audio),
        ..Default::default()
    }
}

fn document(document: &v1::DocumentContent, left: UploadResponse) -> wa::Message {
    let media = document.media.clone().unwrap_or_default();
    let title = [&document.title, &media.file_name];
    let title = title.into_iter().find(|title| !title.is_empty()).cloned();
    let inner = with_file!(DocumentMessage, media, left,
        title,
        file_name: some(&media.file_name),
        page_count: known(document.page_count),
        jpeg_thumbnail: bytes(&media.thumbnail),
        caption: some(&document.caption),
        ..Default::default()
    );
    wa::Message {
        document_message: MessageField::some(inner),
        ..Default::default()
    }
}

fn sticker(sticker: &v1::StickerContent, left: UploadResponse) -> wa::Message {
    let media = sticker.media.clone().unwrap_or_default();
    let sticker = with_file!(StickerMessage, media, left,
        width: known(media.width),
        height: known(media.height),
        is_animated: Some(sticker.animated),
        ..Default::default()
    );
    wa::Message {
        sticker_message: MessageField::some(sticker),
        ..Default::default()
    }
}

/// The message as one that can be opened only once: it says so itself, and lies in the envelope that phones look
/// for, which is another one for sound.
pub fn once(mut message: wa::Message) -> wa::Message {
    let is_sound = message.audio_message.is_set();
    if let Some(image) = message.image_message.as_option_mut() {
        image.view_once = Some(true);
    } else if let Some(video) = message.video_message.as_option_mut() {
        video.view_once = Some(true);
    } else if let Some(audio) = message.audio_message.as_option_mut() {
        audio.view_once = Some(true);
    }
    let envelope = MessageField::some(message::FutureProofMessage {
        message: MessageField::some(message),
    });
    if is_sound {
        wa::Message {
            view_once_message_v2_extension: envelope,
            ..Default::default()
        }
    } else {
        wa::Message {
            view_once_message_v2: envelope,
            ..Default::default()
        }
    }
}

/// The head of an album.
pub fn album(album: &v1::AlbumContent) -> wa::Message {
    wa::Message {
        album_message: MessageField::some(message::AlbumMessage {
            expected_image_count: Some(album.image_count),
            expected_video_count: Some(album.video_count),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Puts a message into the album with this head.
pub fn into_album(message: &mut wa::Message, head: wa::MessageKey) {
    use wa::message_association::AssociationType;
    let beside = wa::MessageContextInfo {
        message_association: MessageField::some(wa::MessageAssociation {
            association_type: Some(AssociationType::MEDIA_ALBUM),
            parent_message_key: MessageField::some(head),
            ..Default::default()
        }),
        ..Default::default()
    };
    message.message_context_info = MessageField::some(beside);
}
