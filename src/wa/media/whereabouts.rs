//! Where the file of a message is and how it is read, by the message's own word.
//!
//! Pure: a message in, a row of media out.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wacore::download::MediaType;
use whatsapp_rust::{
    download::DownloadParams, types::message::MessageInfo, waproto::whatsapp as wa,
};

use crate::{
    domain::{
        ids::{InstanceNumber, MediaId},
        media::{MediaKind, MediaState},
    },
    storage::media::MediaRow,
    wa::convert::inbound,
};

/// Longest type, name and path that are kept.
const TEXT_BYTES: usize = 1_024;

/// Largest thumbnail that is kept.
const THUMBNAIL_BYTES: usize = 64 << 10;

/// Kept with a media until its bytes are here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Whereabouts {
    direct_path: String,
    media_key: Vec<u8>,
    file_sha256: Vec<u8>,
    file_enc_sha256: Vec<u8>,
    file_length: u64,
    kind: Sealed,
    /// The chat, as WhatsApp addressed it.
    pub(super) chat: String,
    /// The writer, in a group.
    pub(super) participant: Option<String>,
    pub(super) from_me: bool,
    /// What lay there was not what the message says.
    #[serde(default)]
    damaged: bool,
    /// The phone has left it again.
    #[serde(default)]
    left_again: bool,
}

/// Under which keys a file is sealed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Sealed {
    Image,
    Video,
    Audio,
    Document,
}

impl Whereabouts {
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The same file at another path; `None` if it is no path.
    pub(super) fn moved_to(self, direct_path: String) -> Option<Self> {
        let fits = direct_path.starts_with('/') && direct_path.len() <= TEXT_BYTES;
        fits.then_some(Self {
            direct_path,
            left_again: true,
            ..self
        })
    }

    /// The same, where what lay there was found wrong.
    pub(super) fn found_damaged(self) -> Self {
        Self {
            damaged: true,
            ..self
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    pub(super) fn is_left_again(&self) -> bool {
        self.left_again
    }

    pub(super) fn media_key(&self) -> &[u8] {
        &self.media_key
    }

    /// What the library fetches by: a path at WhatsApp's own hosts, never a URL that the sender chose.
    pub(super) fn params(&self) -> DownloadParams {
        let kind = match self.kind {
            Sealed::Image => MediaType::Image,
            Sealed::Video => MediaType::Video,
            Sealed::Audio => MediaType::Audio,
            Sealed::Document => MediaType::Document,
        };
        DownloadParams::encrypted(
            &*self.direct_path,
            &self.media_key,
            &self.file_sha256,
            &self.file_enc_sha256,
            self.file_length,
            kind,
        )
    }
}

/// What the kinds of messages have in common.
#[derive(Default)]
struct Told<'m> {
    direct_path: Option<&'m String>,
    media_key: Option<&'m Vec<u8>>,
    file_sha256: Option<&'m Vec<u8>>,
    file_enc_sha256: Option<&'m Vec<u8>>,
    file_length: Option<u64>,
    mime_type: Option<&'m String>,
    file_name: Option<&'m String>,
    size: (Option<u32>, Option<u32>),
    seconds: Option<u32>,
    thumbnail: Option<&'m Vec<u8>>,
}

/// Takes the fields that every kind has under the same names.
macro_rules! told {
    ($message:expr, $($more:tt)*) => {
        Told {
            direct_path: $message.direct_path.as_ref(),
            media_key: $message.media_key.as_ref(),
            file_sha256: $message.file_sha256.as_ref(),
            file_enc_sha256: $message.file_enc_sha256.as_ref(),
            file_length: $message.file_length,
            mime_type: $message.mimetype.as_ref(),
            $($more)*
        }
    };
}

/// The media of a message that has one and tells where it is.
pub(in crate::wa) fn row_of(
    instance: InstanceNumber,
    info: &MessageInfo,
    message: &wa::Message,
) -> Option<MediaRow> {
    let (kind, sealed, told) = file(inbound::peel(message).message)?;
    let text = |text: Option<&String>| {
        let text = text.map(String::as_str).unwrap_or_default();
        match text.len() <= TEXT_BYTES {
            true => text.to_owned(),
            false => String::new(),
        }
    };
    let direct_path = text(told.direct_path);
    let media_key = told.media_key.filter(|key| key.len() == 32)?.clone();
    let digest = |digest: Option<&Vec<u8>>| digest.filter(|one| one.len() == 32).cloned();
    let file_sha256 = digest(told.file_sha256)?;
    // A path, so that nobody can smuggle another host into the URL that is made of it.
    if !direct_path.starts_with('/') {
        return None;
    }
    let source = &info.source;
    let (chat, sender) = (source.chat.to_non_ad(), source.sender.to_non_ad());
    let whereabouts = Whereabouts {
        direct_path,
        media_key,
        file_sha256: file_sha256.clone(),
        file_enc_sha256: digest(told.file_enc_sha256)?,
        file_length: told.file_length.unwrap_or_default(),
        kind: sealed,
        chat: chat.to_string(),
        participant: source.is_group.then(|| sender.to_string()),
        from_me: source.is_from_me,
        damaged: false,
        left_again: false,
    };
    let now = SystemTime::now();
    let thumbnail = told
        .thumbnail
        .filter(|picture| picture.len() <= THUMBNAIL_BYTES);
    Some(MediaRow {
        instance,
        id: MediaId::of_message(instance, &chat.to_string(), &sender.to_string(), &info.id),
        kind,
        state: MediaState::Pending,
        mime_type: text(told.mime_type),
        file_name: text(told.file_name),
        size: told.file_length.unwrap_or_default(),
        sha256: file_sha256.into(),
        width: told.size.0.unwrap_or_default(),
        height: told.size.1.unwrap_or_default(),
        duration: told.seconds.unwrap_or_default(),
        thumbnail: thumbnail.cloned().unwrap_or_default().into(),
        source: whereabouts.encode(),
        chat: chat.to_string(),
        message_id: info.id.to_string(),
        create_time: now,
        update_time: now,
        expire_time: None,
        attempts: 0,
        attempt_time: Some(now),
    })
}

fn file(message: &wa::Message) -> Option<(MediaKind, Sealed, Told<'_>)> {
    if let Some(image) = message.image_message.as_option() {
        let told = told!(image,
            size: (image.width, image.height),
            thumbnail: image.jpeg_thumbnail.as_ref(),
            ..Told::default()
        );
        return Some((MediaKind::Image, Sealed::Image, told));
    }
    let video = message.video_message.as_option();
    if let Some(video) = video.or(message.ptv_message.as_option()) {
        let told = told!(video,
            size: (video.width, video.height),
            seconds: video.seconds,
            thumbnail: video.jpeg_thumbnail.as_ref(),
            ..Told::default()
        );
        return Some((MediaKind::Video, Sealed::Video, told));
    }
    if let Some(audio) = message.audio_message.as_option() {
        let told = told!(audio, seconds: audio.seconds, ..Told::default());
        return Some((MediaKind::Audio, Sealed::Audio, told));
    }
    if let Some(document) = message.document_message.as_option() {
        let told = told!(document,
            file_name: document.file_name.as_ref(),
            thumbnail: document.jpeg_thumbnail.as_ref(),
            ..Told::default()
        );
        return Some((MediaKind::Document, Sealed::Document, told));
    }
    if let Some(sticker) = message.sticker_message.as_option() {
        let told = told!(sticker,
            size: (sticker.width, sticker.height),
            thumbnail: sticker.png_thumbnail.as_ref(),
            ..Told::default()
        );
        return Some((MediaKind::Sticker, Sealed::Image, told));
    }
    None
}
