//! Files of phones: sealed and left at the media host, fetched and opened, as WhatsApp's clients do both.
//!
//! Whole files are held in memory: phones are for tests.

use wacore::{
    download::{DownloadUtils, Downloadable, MediaType},
    upload::encrypt_media,
};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{Message, message::DocumentMessage},
};

use super::{Number, Sandbox, SandboxError, manner::seen_once};

/// A file that a phone sends.
#[derive(Debug, Clone, Copy)]
pub struct Document<'f> {
    /// Its bytes.
    pub bytes: &'f [u8],
    /// Its type.
    pub mime_type: &'f str,
    /// Its name.
    pub file_name: &'f str,
}

/// Under which keys a file is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Of images and stickers.
    Image,
    /// Of videos.
    Video,
    /// Of sound.
    Audio,
    /// Of documents.
    Document,
}

impl FileKind {
    fn media_type(self) -> MediaType {
        match self {
            Self::Image => MediaType::Image,
            Self::Video => MediaType::Video,
            Self::Audio => MediaType::Audio,
            Self::Document => MediaType::Document,
        }
    }
}

/// A file that lies at the media host: what a message must say of it.
#[derive(Debug, Clone)]
pub struct LeftFile {
    /// Where it lies.
    pub direct_path: String,
    /// What opens it.
    pub media_key: Vec<u8>,
    /// SHA-256 of what lies there.
    pub file_enc_sha256: Vec<u8>,
    /// SHA-256 of what is in it.
    pub file_sha256: Vec<u8>,
    /// How many bytes are in it.
    pub file_length: u64,
}

impl Sandbox {
    /// Seals a file and leaves it at the media host.
    pub fn leave_file(&self, bytes: &[u8], kind: FileKind) -> Result<LeftFile, SandboxError> {
        let sealed = encrypt_media(bytes, kind.media_type()).map_err(SandboxError::crypto)?;
        let direct_path = self.network.media.leave(&sealed.data_to_upload)?;
        Ok(LeftFile {
            direct_path,
            media_key: sealed.media_key.to_vec(),
            file_enc_sha256: sealed.file_enc_sha256.to_vec(),
            file_sha256: sealed.file_sha256.to_vec(),
            file_length: bytes.len() as u64,
        })
    }

    /// Fetches the file of an encoded message and opens it. A path that leads elsewhere, wrong keys, another
    /// length or another hash than the message tells is an error.
    pub fn open_file(&self, message: &[u8]) -> Result<Vec<u8>, SandboxError> {
        let wrong = |what: &str| SandboxError::invalid("message", what);
        let message = Message::decode_from_slice(message).map_err(SandboxError::crypto)?;
        let file = file_of(&message).ok_or_else(|| wrong("has no file"))?;
        let sealed = file.file_enc_sha256().unwrap_or_default();
        let sealed = self.network.media.fetch(sealed, file.direct_path())?;
        let key = file.media_key().unwrap_or_default();
        let bytes = DownloadUtils::verify_and_decrypt(&sealed, key, file.app_info())
            .map_err(SandboxError::crypto)?;
        if file.file_length() != Some(bytes.len() as u64) {
            return Err(wrong("tells another length"));
        }
        let hash = file.file_sha256().unwrap_or_default();
        DownloadUtils::validate_plaintext_sha256(&bytes, hash).map_err(SandboxError::crypto)?;
        Ok(bytes)
    }

    /// A phone leaves a file at the media host and sends it as a document; returns the message's id.
    pub async fn send_document(
        &self,
        phone: Number,
        to: Number,
        file: Document<'_>,
    ) -> Result<String, SandboxError> {
        let left = self.leave_file(file.bytes, FileKind::Document)?;
        let document = DocumentMessage {
            direct_path: Some(left.direct_path),
            media_key: Some(left.media_key),
            file_enc_sha256: Some(left.file_enc_sha256),
            file_sha256: Some(left.file_sha256),
            file_length: Some(left.file_length),
            mimetype: Some(file.mime_type.to_owned()),
            file_name: Some(file.file_name.to_owned()),
            ..Default::default()
        };
        let message = Message {
            document_message: MessageField::some(document),
            ..Default::default()
        };
        self.send_protobuf(phone, to, None, message.encode_to_vec())
            .await
    }
}

/// The file that a message has, if it lies in no envelope but that of what can be seen once.
pub(super) fn file_of(message: &Message) -> Option<&dyn Downloadable> {
    let message = seen_once(message).unwrap_or(message);
    macro_rules! first_of {
        ($($field:ident),+ $(,)?) => {
            $(if let Some(file) = message.$field.as_option() {
                return Some(file);
            })+
        };
    }
    first_of!(
        image_message,
        video_message,
        ptv_message,
        audio_message,
        document_message,
        sticker_message,
    );
    None
}
