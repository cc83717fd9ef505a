//! The worker that brings the files of messages here.
//!
//! Owns what becomes of a media that is not here yet: it is tried again with longer and longer pauses; one that
//! WhatsApp no longer has, or not as the message says, is asked of the phone; one that cannot be had is gone. The
//! rows say what is due, so a restart loses nothing. Every move of a state is committed with its event.

use std::{
    collections::HashSet,
    fs::File,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tokio::{io::AsyncReadExt as _, sync::Semaphore, time::sleep};
use tokio_util::task::TaskTracker;
use whatsapp_rust::{
    Client, Jid,
    features::{MediaRetryResult, MediaReuploadRequest},
    http::HttpStatusError,
};

use super::{Passage, passage::TooLarge, whereabouts::Whereabouts};
use crate::{
    domain::{ids::MediaId, media::MediaState},
    events,
    lifecycle::Shutdown,
    media::{Media, MediaError, resource},
    proto::v1::{self, event::Payload},
    storage::{InstanceRow, NewEvent, Storage, StorageError, media::MediaRow},
    wa::Registry,
};

/// Files that are fetched at once. Each keeps a thread busy.
const AT_ONCE: usize = 4;

/// Phones that are asked at once. Most of the time is waiting for those that do not answer, so that has
/// places of its own: what can be fetched does not wait behind it.
const ASKED_AT_ONCE: usize = 32;

/// How often is looked for what is due.
const LOOK: Duration = Duration::from_millis(500);

/// When one whose instance is not connected is looked at again.
const AWAY: Duration = Duration::from_secs(60);

/// Bytes that are read at once.
const BITE: usize = 256 << 10;

/// The first pause after a failure, …
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// … and the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// How long is tried at all.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What the worker needs.
pub struct Fetcher {
    /// Rows and events.
    pub storage: Arc<dyn Storage>,
    /// Where the bytes go.
    pub media: Arc<Media>,
    /// Whose clients fetch.
    pub registry: Arc<Registry>,
    /// What they pass through.
    pub passage: Passage,
}

/// What became of bytes that came.
enum Kept {
    /// They are here, or never will be, or are tried again.
    Over,
    /// They are others than the message says.
    Damaged,
}

/// Fetches what is due, until the shutdown.
pub async fn fetch_all(fetcher: Fetcher, shutdown: Shutdown) {
    let fetcher = Arc::new(fetcher);
    let free = Arc::new(Semaphore::new(AT_ONCE));
    let asking = Arc::new(Semaphore::new(ASKED_AT_ONCE));
    let busy: Arc<Mutex<HashSet<MediaId>>> = Arc::default();
    let tasks = TaskTracker::new();
    loop {
        let due = tokio::select! {
            () = shutdown.begun() => break,
            due = fetcher.storage.list_due_media(SystemTime::now(), 2 * AT_ONCE) => due,
        };
        let due = due.unwrap_or_else(|error| {
            tracing::warn!(%error, "it can't be told which media are due");
            Vec::new()
        });
        let mut started = false;
        for row in due {
            let id = row.id;
            if !busy
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id)
            {
                continue;
            }
            let permit = match row.state {
                MediaState::ExpiredAsked => asking.clone().try_acquire_owned().ok(),
                _ => free.clone().acquire_owned().await.ok(),
            };
            started = true;
            let (fetcher, busy) = (fetcher.clone(), busy.clone());
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                let instance = row.instance;
                let tended = async {
                    match &permit {
                        Some(_) => fetcher.tend(row).await,
                        None => fetcher.postpone(row, AWAY).await,
                    }
                };
                tokio::select! {
                    tended = tended => if let Err(error) = tended {
                        tracing::warn!(%instance, %error, "what became of a media can't be stored");
                    },
                    // It is due again after the start.
                    () = shutdown.begun() => {}
                }
                busy.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&id);
                drop(permit);
            });
        }
        if !started {
            tokio::select! {
                () = shutdown.begun() => break,
                () = sleep(LOOK) => {}
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

impl Fetcher {
    /// Does what is due: fetches a file, or asks for it.
    async fn tend(&self, row: MediaRow) -> Result<(), StorageError> {
        // Its rows are going too.
        let Some((instance, client)) = self.registry.at_work(row.instance) else {
            return self.postpone(row, AWAY).await;
        };
        let Some(whereabouts) = Whereabouts::decode(&row.source) else {
            return self.settle(&instance, row, MediaState::Gone).await;
        };
        let over = row.create_time.elapsed().is_ok_and(|age| age > PATIENCE);
        let too_large = row.size > self.media.limits().of(row.kind);
        if over || too_large {
            return self.settle(&instance, row, MediaState::Gone).await;
        }
        let Some(client) = client else {
            return self.postpone(row, AWAY).await;
        };
        if row.state == MediaState::ExpiredAsked {
            // Not due while it is being asked for, so that it is in nobody's way.
            self.postpone(row.clone(), AWAY).await?;
            return self.ask(&instance, &client, row, whereabouts).await;
        }
        match self.download(&client, &row, &whereabouts).await {
            Ok(file) => match self.keep(&instance, &row, file).await? {
                Kept::Over => Ok(()),
                Kept::Damaged => self.doubt(&instance, row, whereabouts).await,
            },
            Err(error) if is_damaged(&error) => self.doubt(&instance, row, whereabouts).await,
            Err(error) if is_expired(&error) => self.ask_for(&instance, row, whereabouts).await,
            Err(error) if error.chain().any(|cause| cause.is::<TooLarge>()) => {
                self.settle(&instance, row, MediaState::Gone).await
            }
            Err(error) => {
                tracing::debug!(instance = %row.instance, error = format!("{error:#}"), "a media can't be fetched yet");
                let pause = pause(row.attempts);
                let row = MediaRow {
                    attempts: row.attempts.saturating_add(1),
                    ..row
                };
                self.postpone(row, pause).await
            }
        }
    }

    async fn download(
        &self,
        client: &Client,
        row: &MediaRow,
        whereabouts: &Whereabouts,
    ) -> anyhow::Result<File> {
        let limit = self.media.limits().of(row.kind);
        let file = self.passage.unnamed(limit).context("no room for a file")?;
        let params = whereabouts.params();
        let file = client.download_from_params_to_writer(&params, file).await?;
        Ok(file.into_file()?)
    }

    /// The bytes are here: they become a media like any other.
    async fn keep(
        &self,
        instance: &InstanceRow,
        row: &MediaRow,
        file: File,
    ) -> Result<Kept, StorageError> {
        let bytes = contents(file);
        let previous = row.state;
        let events = |row: &MediaRow| vec![updated(instance, row, previous)];
        match self.media.fill(row.clone(), bytes, events).await {
            // Not found: the instance was deleted, or somebody else was faster.
            Ok(_) | Err(MediaError::NotFound) => {}
            Err(MediaError::HashMismatch) => return Ok(Kept::Damaged),
            Err(MediaError::Storage(error)) => return Err(error),
            Err(MediaError::Blobs(error)) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the object store can't be used now"
                );
                self.postpone(row.clone(), pause(row.attempts)).await?;
            }
            // Too large: it will not get smaller.
            Err(error) => {
                tracing::debug!(instance = %row.instance, %error, "a media is not what it should be");
                self.settle(instance, row.clone(), MediaState::Gone).await?;
            }
        }
        Ok(Kept::Over)
    }

    /// What lies there is not what the message says. The phone may have it right; what the phone has left
    /// is all there is.
    async fn doubt(
        &self,
        instance: &InstanceRow,
        row: MediaRow,
        whereabouts: Whereabouts,
    ) -> Result<(), StorageError> {
        tracing::debug!(instance = %row.instance, "a media is not what its message says");
        if whereabouts.is_left_again() {
            return self.settle(instance, row, MediaState::Gone).await;
        }
        self.ask_for(instance, row, whereabouts.found_damaged())
            .await
    }

    /// Tells that the phone is asked, which is due at once, or later, if it was asked before and that was of no use.
    async fn ask_for(
        &self,
        instance: &InstanceRow,
        row: MediaRow,
        whereabouts: Whereabouts,
    ) -> Result<(), StorageError> {
        let row = MediaRow {
            source: whereabouts.encode(),
            ..row
        };
        self.settle(instance, row.clone(), MediaState::ExpiredAsked)
            .await?;
        if !whereabouts.is_left_again() {
            return Ok(());
        }
        let pause = pause(row.attempts);
        let asked = MediaRow {
            state: MediaState::ExpiredAsked,
            attempts: row.attempts.saturating_add(1),
            ..row
        };
        self.postpone(asked, pause).await
    }

    /// Asks the phone to upload the file once more.
    async fn ask(
        &self,
        instance: &InstanceRow,
        client: &Client,
        row: MediaRow,
        whereabouts: Whereabouts,
    ) -> Result<(), StorageError> {
        let parse = |text: &str| text.parse::<Jid>().ok();
        let Some(chat) = parse(&whereabouts.chat) else {
            return self.settle(instance, row, MediaState::Gone).await;
        };
        let participant = whereabouts.participant.as_deref().and_then(parse);
        let answered = client
            .media_reupload()
            .request(&MediaReuploadRequest {
                msg_id: &row.message_id,
                chat_jid: &chat,
                media_key: whereabouts.media_key(),
                is_from_me: whereabouts.from_me,
                participant: participant.as_ref(),
            })
            .await;
        match answered {
            Ok(MediaRetryResult::Success { direct_path }) => {
                let Some(source) = whereabouts.moved_to(direct_path) else {
                    return self.settle(instance, row, MediaState::Gone).await;
                };
                let found = MediaRow {
                    source: source.encode(),
                    ..row
                };
                self.settle(instance, found, MediaState::Pending).await
            }
            Ok(MediaRetryResult::NotFound) => self.settle(instance, row, MediaState::Gone).await,
            // Nobody can make anything of it.
            Ok(_) if whereabouts.is_damaged() => self.settle(instance, row, MediaState::Gone).await,
            // The phone is off, or does not understand: asked again later.
            answered => {
                tracing::debug!(instance = %row.instance, ?answered, "no phone has uploaded a media again");
                let pause = LONGEST_PAUSE;
                let row = MediaRow {
                    attempts: row.attempts.saturating_add(1),
                    ..row
                };
                self.postpone(row, pause).await
            }
        }
    }

    /// Tries again later.
    async fn postpone(&self, row: MediaRow, pause: Duration) -> Result<(), StorageError> {
        let from = row.state;
        let later = MediaRow {
            attempt_time: SystemTime::now().checked_add(pause),
            ..row
        };
        self.storage.replace_media(later, from, Vec::new()).await?;
        Ok(())
    }

    /// Enters a state.
    async fn settle(
        &self,
        instance: &InstanceRow,
        row: MediaRow,
        state: MediaState,
    ) -> Result<(), StorageError> {
        let from = row.state;
        let now = SystemTime::now();
        let next = match state {
            MediaState::Pending | MediaState::ExpiredAsked => Some(now),
            MediaState::Writing | MediaState::Ready | MediaState::Gone => None,
        };
        let settled = MediaRow {
            state,
            update_time: now,
            attempt_time: next,
            ..row
        };
        let event = updated(instance, &settled, from);
        self.storage
            .replace_media(settled, from, vec![event])
            .await?;
        Ok(())
    }
}

/// The bytes of a file, bite by bite.
fn contents(file: File) -> impl Stream<Item = Result<Bytes, MediaError>> + Send {
    let file = tokio::fs::File::from_std(file);
    stream::try_unfold(file, |mut file| async move {
        let mut bite = BytesMut::with_capacity(BITE);
        let read = file.read_buf(&mut bite).await;
        match read.map_err(|error| MediaError::Blobs(error.into()))? {
            0 => Ok(None),
            _ => Ok(Some((bite.freeze(), file))),
        }
    })
}

/// Whether WhatsApp's hosts no longer have it, rather than not now.
fn is_expired(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    let status = causes.find_map(|cause| cause.downcast_ref::<HttpStatusError>());
    status.is_some_and(|refused| matches!(refused.status, 403 | 404 | 410))
}

/// Whether all of it came and is not what was sealed with the key of the message. The library says so in words
/// only; a test holds it to them.
fn is_damaged(error: &anyhow::Error) -> bool {
    const WORDS: [&str; 5] = [
        "MAC mismatch",
        "Invalid final media size",
        "Empty plaintext after decrypt",
        "Invalid PKCS7 padding",
        "Bad PKCS7 padding bytes",
    ];
    WORDS.contains(&&*error.root_cause().to_string())
}

fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << attempts.min(16))
        .min(LONGEST_PAUSE)
}

fn updated(instance: &InstanceRow, row: &MediaRow, previous: MediaState) -> NewEvent {
    let payload = Payload::MediaUpdated(v1::MediaUpdated {
        // Links are made for whoever asks.
        media: Some(resource(row, instance.id, None)),
        previous_state: previous as i32,
        chat: row.chat.clone(),
        message_id: row.message_id.clone(),
    });
    // A state may come back, and is other news then.
    let changed = row.update_time.duration_since(SystemTime::UNIX_EPOCH);
    let changed = changed.unwrap_or_default().as_micros();
    let key = format!("{}/{}/{changed}", row.id, row.state as i32);
    events::compose(instance, payload, row.update_time, &key)
}

#[cfg(test)]
mod tests {
    use wacore::{
        download::{DownloadUtils, MediaType},
        upload::encrypt_media,
    };

    use super::*;

    #[test]
    fn damage_is_told_from_trouble() {
        let sealed = encrypt_media(&[7; 100_000], MediaType::Document).unwrap();
        let opened = |bytes: &[u8], key: &[u8]| {
            let mut plain = Vec::new();
            DownloadUtils::decrypt_stream_to_writer(bytes, key, MediaType::Document, &mut plain)
        };
        let (bytes, key) = (&sealed.data_to_upload[..], &sealed.media_key[..]);
        assert!(opened(bytes, key).is_ok());
        let mut changed = bytes.to_vec();
        for at in [0, 50_000, bytes.len() - 1] {
            changed[at] ^= 1;
            let error = opened(&changed, key).unwrap_err();
            assert!(is_damaged(&error), "{error:#}");
            changed[at] ^= 1;
        }
        for (bytes, key) in [
            (bytes, &[0; 32][..]),
            (&bytes[..bytes.len() - 1], key),
            (&bytes[..bytes.len() - 16], key),
            (&bytes[..10], key),
            (&[], key),
        ] {
            let error = opened(bytes, key).unwrap_err();
            assert!(is_damaged(&error), "{error:#}");
        }
        let refused = anyhow::Error::new(HttpStatusError { status: 500 }).context("refused");
        let broken = anyhow::Error::from(std::io::Error::other("connection reset"));
        for trouble in [refused, broken] {
            assert!(!is_damaged(&trouble), "{trouble:#}");
        }
    }
}
