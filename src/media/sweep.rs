//! The end of media: bytes whose time is over go, and what nobody needs to know of them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};

use super::{Media, MediaError};
use crate::{domain::media::MediaState, lifecycle::Shutdown, storage::media::MediaRow};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(60);
/// Most media of one look into the database.
const BITE: usize = 100;

impl Media {
    /// Removes what is over, until the shutdown.
    pub async fn keep_small(self: Arc<Self>, shutdown: Shutdown) {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                _ = looks.tick() => {}
            }
            tokio::select! {
                () = shutdown.begun() => return,
                swept = self.sweep(SystemTime::now()) => match swept {
                    Ok(0) => {}
                    Ok(count) => tracing::debug!(count, "old media were removed"),
                    Err(error) => tracing::warn!(%error, "old media can't be removed yet"),
                },
            }
        }
    }

    /// Removes what is over at this time; says how many.
    pub(super) async fn sweep(&self, now: SystemTime) -> Result<usize, MediaError> {
        let mut count = 0;
        loop {
            let over = self.storage.list_expired_media(now, BITE).await?;
            if over.is_empty() {
                return Ok(count);
            }
            for row in over {
                self.blobs
                    .remove(row.instance, row.id)
                    .await
                    .map_err(|error| MediaError::Blobs(error.into()))?;
                // A message tells of it for ever, so what it points to must have an answer.
                match row.message_id.is_empty() {
                    true => self.storage.remove_media(row.instance, row.id).await?,
                    false => self.bury(row).await?,
                }
                count += 1;
            }
        }
    }

    async fn bury(&self, row: MediaRow) -> Result<(), MediaError> {
        let from = row.state;
        let gone = MediaRow {
            state: MediaState::Gone,
            update_time: SystemTime::now(),
            expire_time: None,
            attempt_time: None,
            source: Bytes::new(),
            ..row
        };
        // One that changed meanwhile is looked at again.
        self.storage.replace_media(gone, from, Vec::new()).await?;
        Ok(())
    }
}
