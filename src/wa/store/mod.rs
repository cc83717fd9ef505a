//! The library's storage on ours: one backend per device, all in one database.
//!
//! Owns how the library's types become bytes. Every method returns after its commit, every batch is
//! one transaction; but what only has to be there once something later is committed is handed over in
//! order and not waited for. A backend whose write failed writes nothing any more, so that what is kept is what
//! a crash would have left; a new client gets a new one. Never keeps anything in memory and never merges by reading first: what must be
//! atomic is one statement below.

mod app_state;
mod device;
mod protocol;
mod signal;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;
use wacore::store::error::{Result, StoreError};

use super::{
    contacts::Contacts,
    redelivery::{MessageKey, Redelivery},
};
use crate::{
    domain::ids::InstanceNumber,
    storage::{
        Storage, StorageError,
        device::{DeviceStorage, KEY_SEPARATOR, RecordChange, RecordKind},
    },
};

/// The key of a kind of which a device has only one.
const ONLY: &str = "";

/// The library's `Backend` for the device of one instance.
#[derive(Clone)]
pub struct DeviceBackend {
    instance: InstanceNumber,
    rows: Arc<dyn DeviceStorage>,
    redelivery: Redelivery,
    contacts: Option<Contacts>,
}

impl DeviceBackend {
    /// The backend of this instance's device.
    pub fn new(storage: &dyn Storage, instance: InstanceNumber) -> Self {
        Self {
            instance,
            rows: storage.device(instance),
            redelivery: Redelivery::default(),
            contacts: None,
        }
    }

    /// The same, and what it learns of who is who goes there, too.
    pub(super) fn telling(mut self, contacts: Contacts) -> Self {
        self.contacts = Some(contacts);
        self
    }

    /// Pulled once a write has failed; from then on this backend writes nothing.
    pub(super) fn failed(&self) -> CancellationToken {
        self.rows.failed()
    }

    /// How messages that a crash swallowed are asked for; shared by clones.
    pub(super) fn redelivery(&self) -> &Redelivery {
        &self.redelivery
    }

    /// Whether a message is kept for the hook, or the hook has had it.
    pub(super) async fn is_known(&self, message: &MessageKey) -> Result<bool> {
        let key = inbound_key(message);
        Ok(self
            .get_newest(RecordKind::PendingInbound, &key)
            .await?
            .is_some()
            || self.get(RecordKind::SettledInbound, &key).await?.is_some())
    }

    async fn put(&self, kind: RecordKind, key: impl Into<Arc<str>>, value: &[u8]) -> Result<()> {
        self.change(vec![put(kind, key, Bytes::copy_from_slice(value))])
            .await
    }

    async fn delete(&self, kind: RecordKind, key: impl Into<Arc<str>>) -> Result<()> {
        self.change(vec![delete(kind, key)]).await
    }

    async fn change(&self, changes: Vec<RecordChange>) -> Result<()> {
        self.rows.change_records(changes).await.map_err(failed)
    }

    async fn change_soon(&self, changes: Vec<RecordChange>) -> Result<()> {
        self.rows.change_records_soon(changes).await.map_err(failed)
    }

    /// Also sees what was not waited for.
    async fn get_newest(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>> {
        self.rows.written().await.map_err(failed)?;
        self.get(kind, key).await
    }

    async fn get(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>> {
        self.rows.record(kind, key).await.map_err(failed)
    }
}

fn failed(error: StorageError) -> StoreError {
    StoreError::Database(Box::new(error))
}

fn put(kind: RecordKind, key: impl Into<Arc<str>>, value: Bytes) -> RecordChange {
    RecordChange::Put {
        kind,
        key: key.into(),
        value,
    }
}

fn delete(kind: RecordKind, key: impl Into<Arc<str>>) -> RecordChange {
    RecordChange::Delete {
        kind,
        key: key.into(),
    }
}

fn encode(value: &impl Serialize) -> Result<Bytes> {
    let bytes =
        serde_json::to_vec(value).map_err(|error| StoreError::Serialization(Box::new(error)))?;
    Ok(bytes.into())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Serialization(Box::new(error)))
}

fn joined(parts: &[&str]) -> String {
    let mut key = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            key.push(KEY_SEPARATOR);
        }
        key.push_str(part);
    }
    key
}

fn inbound_key(message: &MessageKey) -> String {
    joined(&[&message.chat, &message.sender, &message.id])
}

fn count(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
