//! A file of ours on its way to WhatsApp.

use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write as _};

use anyhow::Context as _;
use bytes::BytesMut;
use futures::StreamExt as _;
use tempfile::NamedTempFile;
use wacore::{
    download::MediaType,
    upload::{MediaEncryptor, UploadSource},
};
use whatsapp_rust::{Client, upload::UploadResponse};

use super::Passage;
use crate::{domain::media::MediaKind, media::Media, storage::media::MediaRow};

/// Bytes that are sealed at once.
const BITE: usize = 1 << 20;

/// Seals a media and leaves it at WhatsApp's media host; what comes back belongs into the message that has it.
#[expect(dead_code, reason = "for messages that have a file")]
pub(in crate::wa) async fn upload(
    client: &Client,
    media: &Media,
    passage: &Passage,
    row: &MediaRow,
) -> anyhow::Result<UploadResponse> {
    let kind = match row.kind {
        MediaKind::Image => MediaType::Image,
        MediaKind::Video => MediaType::Video,
        MediaKind::Audio => MediaType::Audio,
        MediaKind::Document => MediaType::Document,
        MediaKind::Sticker => MediaType::Sticker,
    };
    let file = passage.named().context("no room to seal a file")?;
    let mut sealing = Sealing {
        encryptor: MediaEncryptor::new(kind)?,
        sealed: BufWriter::new(file),
    };
    let mut bytes = media.read(row, 0..row.size).await?;
    let mut kept = BytesMut::new();
    loop {
        let more = bytes.next().await.transpose()?;
        let ended = more.is_none();
        kept.extend_from_slice(&more.unwrap_or_default());
        if kept.len() >= BITE || ended {
            let bite = kept.split();
            // Sealing is work, and the file is on a disk.
            sealing = tokio::task::spawn_blocking(move || sealing.take(&bite)).await??;
        }
        if ended {
            break;
        }
    }
    let (source, info) = tokio::task::spawn_blocking(move || sealing.finish()).await??;
    client.upload_stream(source, info, kind).await
}

struct Sealing {
    encryptor: MediaEncryptor,
    sealed: BufWriter<NamedTempFile>,
}

impl Sealing {
    fn take(mut self, bytes: &[u8]) -> anyhow::Result<Self> {
        self.encryptor.update_to_writer(bytes, &mut self.sealed)?;
        Ok(self)
    }

    fn finish(self) -> anyhow::Result<(Source, wacore::upload::EncryptedMediaInfo)> {
        let mut sealed = self.sealed;
        let info = self.encryptor.finalize_to_writer(&mut sealed)?;
        sealed.flush()?;
        let file = sealed
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let length = file.as_file().metadata()?.len();
        Ok((Source { file, length }, info))
    }
}

/// A sealed file, as often as an upload must begin again.
struct Source {
    file: NamedTempFile,
    length: u64,
}

impl UploadSource for Source {
    fn len(&self) -> u64 {
        self.length
    }

    fn reader_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.file.reopen()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}
