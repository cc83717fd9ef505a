//! Signal state: identities, sessions, prekeys, sender keys.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wacore::store::{
    error::{Result, StoreError},
    traits::SignalStore,
};

use super::{DeviceBackend, failed, put};
use crate::{crash_points::CrashPoint, storage::device::RecordKind};

/// Numbers as text that sorts like them.
fn number_key(number: u32) -> String {
    format!("{number:010}")
}

fn number_of(key: &str) -> Result<u32> {
    key.parse()
        .map_err(|_| StoreError::Validation("a prekey's number is no number".to_owned()))
}

#[async_trait]
impl SignalStore for DeviceBackend {
    async fn put_identity(&self, address: &str, key: [u8; 32]) -> Result<()> {
        self.put(RecordKind::Identity, address, &key).await
    }

    async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> Result<()> {
        let changes = identities.iter().map(|(address, key)| {
            put(
                RecordKind::Identity,
                address.clone(),
                Bytes::copy_from_slice(key),
            )
        });
        self.change(changes.collect()).await
    }

    async fn load_identity(&self, address: &str) -> Result<Option<[u8; 32]>> {
        let Some(key) = self.get(RecordKind::Identity, address).await? else {
            return Ok(None);
        };
        let key = key[..]
            .try_into()
            .map_err(|_| StoreError::Validation("an identity key has not 32 bytes".to_owned()))?;
        Ok(Some(key))
    }

    async fn delete_identity(&self, address: &str) -> Result<()> {
        self.delete(RecordKind::Identity, address).await
    }

    async fn get_session(&self, address: &str) -> Result<Option<Bytes>> {
        self.get(RecordKind::Session, address).await
    }

    async fn put_session(&self, address: &str, session: &[u8]) -> Result<()> {
        self.put(RecordKind::Session, address, session).await
    }

    async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
        let changes = sessions
            .iter()
            .map(|(address, session)| put(RecordKind::Session, address.clone(), session.clone()));
        self.change(changes.collect()).await?;
        CrashPoint::RatchetStored.pass();
        Ok(())
    }

    async fn delete_session(&self, address: &str) -> Result<()> {
        self.delete(RecordKind::Session, address).await
    }

    async fn has_session(&self, address: &str) -> Result<bool> {
        Ok(self.get_session(address).await?.is_some())
    }

    async fn has_signal_state_for_user(&self, user: &str) -> Result<bool> {
        self.rows
            .any_record(
                &[RecordKind::Session, RecordKind::Identity],
                &[format!("{user}@"), format!("{user}:")],
            )
            .await
            .map_err(failed)
    }

    // Nobody reads the mark `uploaded`: the library keeps its own watermark in the device.

    async fn store_prekey(&self, id: u32, record: &[u8], _uploaded: bool) -> Result<()> {
        self.put(RecordKind::PreKey, number_key(id), record).await
    }

    async fn store_prekeys_batch(&self, keys: &[(u32, Bytes)], _uploaded: bool) -> Result<()> {
        let changes = keys
            .iter()
            .map(|(id, record)| put(RecordKind::PreKey, number_key(*id), record.clone()));
        self.change(changes.collect()).await
    }

    async fn load_prekey(&self, id: u32) -> Result<Option<Bytes>> {
        self.get(RecordKind::PreKey, &number_key(id)).await
    }

    async fn load_prekeys_batch(&self, ids: &[u32]) -> Result<Vec<(u32, Bytes)>> {
        let keys: Vec<_> = ids.iter().copied().map(number_key).collect();
        let found = self
            .rows
            .records(RecordKind::PreKey, &keys)
            .await
            .map_err(failed)?;
        found
            .into_iter()
            .map(|(key, record)| Ok((number_of(&key)?, record)))
            .collect()
    }

    async fn mark_prekeys_uploaded(&self, _ids: &[u32]) -> Result<()> {
        Ok(())
    }

    async fn remove_prekey(&self, id: u32) -> Result<()> {
        self.delete(RecordKind::PreKey, number_key(id)).await
    }

    async fn get_max_prekey_id(&self) -> Result<u32> {
        let last = self
            .rows
            .last_record_key(RecordKind::PreKey)
            .await
            .map_err(failed)?;
        last.map_or(Ok(0), |key| number_of(&key))
    }

    async fn store_signed_prekey(&self, id: u32, record: &[u8]) -> Result<()> {
        self.put(RecordKind::SignedPreKey, number_key(id), record)
            .await
    }

    async fn load_signed_prekey(&self, id: u32) -> Result<Option<Vec<u8>>> {
        let record = self.get(RecordKind::SignedPreKey, &number_key(id)).await?;
        Ok(record.map(Vec::from))
    }

    async fn load_all_signed_prekeys(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let records = self
            .rows
            .list_records(RecordKind::SignedPreKey)
            .await
            .map_err(failed)?;
        records
            .into_iter()
            .map(|(key, record)| Ok((number_of(&key)?, record.into())))
            .collect()
    }

    async fn remove_signed_prekey(&self, id: u32) -> Result<()> {
        self.delete(RecordKind::SignedPreKey, number_key(id)).await
    }

    async fn put_sender_key(&self, address: &str, record: &[u8]) -> Result<()> {
        self.put(RecordKind::SenderKey, address, record).await
    }

    async fn put_sender_keys_batch(&self, sender_keys: &[(Arc<str>, Bytes)]) -> Result<()> {
        let changes = sender_keys
            .iter()
            .map(|(address, record)| put(RecordKind::SenderKey, address.clone(), record.clone()));
        self.change(changes.collect()).await
    }

    async fn get_sender_key(&self, address: &str) -> Result<Option<Vec<u8>>> {
        let record = self.get(RecordKind::SenderKey, address).await?;
        Ok(record.map(Vec::from))
    }

    async fn delete_sender_key(&self, address: &str) -> Result<()> {
        self.delete(RecordKind::SenderKey, address).await
    }
}
