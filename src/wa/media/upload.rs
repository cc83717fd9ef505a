//! Files of ours on their way to WhatsApp.
//!
//! Owns which of them lie at WhatsApp's media hosts already: a file that goes to many people is sealed and left
//! there once. A transfer goes on when its caller leaves, so that who calls again finds it further. Memory of a
//! transfer is a few bites, whatever its size.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bytes::BytesMut;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
};
use tempfile::NamedTempFile;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use wacore::{
    download::MediaType,
    upload::{EncryptedMediaInfo, MediaEncryptor, UploadSource},
};
use whatsapp_rust::{Client, http::HttpStatusError, upload::UploadResponse};

use super::Passage;
use crate::{
    domain::{
        ids::{InstanceNumber, MediaId},
        media::MediaKind,
    },
    media::Media,
    storage::media::MediaRow,
};

/// Bytes that are sealed at once.
const BITE: usize = 1 << 20;

/// Transfers at a time; each keeps a thread busy. More wait.
const AT_ONCE: usize = 4;

/// Files that are known to lie at WhatsApp, or on their way there.
const KNOWN: usize = 512;

/// How long a file is sent again as it lies there. WhatsApp keeps them for weeks.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Pauses between the tries of one transfer.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// How long one try may take.
const TRY: Duration = Duration::from_secs(60 * 60);

/// A file, and as what it is sealed.
type Key = (InstanceNumber, MediaId, MediaKind);

/// A transfer that many may wait for.
type Transfer = Shared<BoxFuture<'static, Result<UploadResponse, NotLeft>>>;

/// Why a file does not lie at WhatsApp.
#[derive(Clone, Debug)]
pub(in crate::wa) struct NotLeft {
    /// What WhatsApp's host answered, if it did.
    pub(in crate::wa) status: Option<u16>,
    /// More, for our log.
    pub(in crate::wa) cause: String,
}

impl From<anyhow::Error> for NotLeft {
    fn from(error: anyhow::Error) -> Self {
        let refused = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<HttpStatusError>());
        Self {
            status: refused.map(|refused| refused.status),
            cause: format!("{error:#}"),
        }
    }
}

/// See the module.
pub struct Uploads {
    media: Arc<Media>,
    passage: Passage,
    free: Semaphore,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    transfers: HashMap<Key, (Transfer, Instant)>,
    in_order: VecDeque<Key>,
}

impl Uploads {
    /// Of these media, through this folder.
    pub fn new(media: Arc<Media>, passage: Passage) -> Arc<Self> {
        Arc::new(Self {
            media,
            passage,
            free: Semaphore::new(AT_ONCE),
            known: Mutex::default(),
        })
    }

    /// Of media of their own in a folder, for tests of what needs no media.
    #[cfg(test)]
    pub(in crate::wa) fn in_folder(
        storage: Arc<dyn crate::storage::Storage>,
        folder: &std::path::Path,
    ) -> Arc<Self> {
        use crate::{egress, media};
        let config = media::MediaConfig {
            place: media::Place::Folder(folder.join("media")),
            limits: media::SizeLimits {
                image: 0,
                video: 0,
                audio: 0,
                document: 0,
                sticker: 0,
            },
            upload_age: FRESH,
            retention_age: FRESH,
            transfers: 1,
            url_timeout: TRY,
            stall_timeout: TRY,
        };
        let egress = egress::Egress::new(egress::Guard::trusting());
        let media = Media::open(storage, egress, config).unwrap();
        Self::new(media, Passage::open(&folder.join("passage")).unwrap())
    }

    pub(in crate::wa) fn media(&self) -> &Arc<Media> {
        &self.media
    }

    /// Where a file lies at WhatsApp, sealed as this kind; leaves it there first unless it does already.
    pub(in crate::wa) async fn leave(
        self: &Arc<Self>,
        client: &Arc<Client>,
        row: &MediaRow,
        kind: MediaKind,
    ) -> Result<UploadResponse, NotLeft> {
        self.transfer(client, row, kind)?.await
    }

    fn transfer(
        self: &Arc<Self>,
        client: &Arc<Client>,
        row: &MediaRow,
        kind: MediaKind,
    ) -> Result<Transfer, NotLeft> {
        let key = (row.instance, row.id, kind);
        // What is inside is whole after every statement, so a panic elsewhere does not spoil it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((transfer, since)) = known.transfers.get(&key)
            && since.elapsed() < FRESH
            && !matches!(transfer.peek(), Some(Err(_)))
        {
            return Ok(transfer.clone());
        }
        known.make_room()?;
        let (this, client, row) = (self.clone(), client.clone(), row.clone());
        let task = tokio::spawn(async move { this.try_to_leave(&client, &row, kind).await });
        let ended = task.map(|ended| match ended {
            Ok(left) => left,
            Err(error) => Err(anyhow::Error::from(error).into()),
        });
        let transfer = ended.boxed().shared();
        known.remember(key, transfer.clone());
        Ok(transfer)
    }

    async fn try_to_leave(
        &self,
        client: &Client,
        row: &MediaRow,
        kind: MediaKind,
    ) -> Result<UploadResponse, NotLeft> {
        let _permit = self.free.acquire().await.context("the end is near")?;
        let kind = match kind {
            MediaKind::Image => MediaType::Image,
            MediaKind::Video => MediaType::Video,
            MediaKind::Audio => MediaType::Audio,
            MediaKind::Document => MediaType::Document,
            MediaKind::Sticker => MediaType::Sticker,
        };
        let sealed = self.seal(row, kind).await?;
        let mut pauses = RETRY_AFTER.into_iter();
        loop {
            let source = Source(sealed.clone());
            let left = client.upload_stream(source, sealed.info(), kind);
            let error = match timeout(TRY, left).await {
                Ok(Ok(left)) => return Ok(left),
                Ok(Err(error)) => error,
                Err(late) => late.into(),
            };
            let Some(pause) = pauses.next() else {
                return Err(error.into());
            };
            tracing::debug!(instance = %row.instance, "WhatsApp did not take a file yet");
            sleep(pause).await;
        }
    }

    async fn seal(&self, row: &MediaRow, kind: MediaType) -> anyhow::Result<Arc<Sealed>> {
        let file = self.passage.named().context("no room to seal a file")?;
        // With it phones play before they have all of it.
        let sidecar = matches!(kind, MediaType::Video | MediaType::Audio);
        let mut sealing = Sealing {
            encryptor: MediaEncryptor::new_with_sidecar(kind, sidecar)?,
            sealed: BufWriter::new(file),
        };
        let mut bytes = self.media.read(row, 0..row.size).await?;
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
        let sealed = tokio::task::spawn_blocking(move || sealing.finish()).await??;
        Ok(Arc::new(sealed))
    }
}

impl Known {
    /// Forgets the oldest, but none that is on its way.
    fn make_room(&mut self) -> Result<(), NotLeft> {
        if self.in_order.len() < KNOWN {
            return Ok(());
        }
        let transfers = &self.transfers;
        let ended = |key: &Key| match transfers.get(key) {
            Some((transfer, _)) => transfer.peek().is_some(),
            None => true,
        };
        let Some(at) = self.in_order.iter().position(ended) else {
            return Err(NotLeft {
                status: None,
                cause: "too many files are on their way".to_owned(),
            });
        };
        if let Some(oldest) = self.in_order.remove(at) {
            self.transfers.remove(&oldest);
        }
        Ok(())
    }

    fn remember(&mut self, key: Key, transfer: Transfer) {
        let before = self.transfers.insert(key, (transfer, Instant::now()));
        if before.is_some() {
            self.in_order.retain(|known| *known != key);
        }
        self.in_order.push_back(key);
    }
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

    fn finish(self) -> anyhow::Result<Sealed> {
        let mut sealed = self.sealed;
        let info = self.encryptor.finalize_to_writer(&mut sealed)?;
        sealed.flush()?;
        let file = sealed
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let length = file.as_file().metadata()?.len();
        Ok(Sealed { file, length, info })
    }
}

/// A sealed file; it goes with its handle.
struct Sealed {
    file: NamedTempFile,
    length: u64,
    info: EncryptedMediaInfo,
}

impl Sealed {
    /// What the library wants to know of it, for one more try.
    fn info(&self) -> EncryptedMediaInfo {
        EncryptedMediaInfo {
            media_key: self.info.media_key,
            file_sha256: self.info.file_sha256,
            file_enc_sha256: self.info.file_enc_sha256,
            file_length: self.info.file_length,
            streaming_sidecar: self.info.streaming_sidecar.clone(),
        }
    }
}

/// A sealed file, as often as an upload must begin again.
struct Source(Arc<Sealed>);

impl UploadSource for Source {
    fn len(&self) -> u64 {
        self.0.length
    }

    fn reader_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.0.file.reopen()?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}
