//! The device itself and the secrets of messages.

use async_trait::async_trait;
use wacore::{
    stats::StorageResourceReport,
    store::{
        Device,
        error::{Result, StoreError},
        traits::{DeviceStore, MsgSecretEntry, MsgSecretStore},
    },
};

use super::{DeviceBackend, ONLY, count, decode, encode, failed};
use crate::storage::device::{MessageSecret, RecordKind};

#[async_trait]
impl DeviceStore for DeviceBackend {
    async fn save(&self, device: &Device) -> Result<()> {
        self.put(RecordKind::Device, ONLY, &encode(device)?).await
    }

    async fn load(&self) -> Result<Option<Device>> {
        let Some(bytes) = self.get(RecordKind::Device, ONLY).await? else {
            return Ok(None);
        };
        let mut device: Device = decode(&bytes)?;
        // These are not part of what is kept; without them a device would introduce itself with
        // nothing instead of the defaults of a new one.
        let fresh = Device::new();
        device.device_props = fresh.device_props;
        device.client_profile = fresh.client_profile;
        Ok(Some(device))
    }

    async fn exists(&self) -> Result<bool> {
        Ok(self.get(RecordKind::Device, ONLY).await?.is_some())
    }

    async fn create(&self) -> Result<i32> {
        if !self.exists().await? {
            self.save(&Device::new()).await?;
        }
        i32::try_from(self.instance.0)
            .map_err(|_| StoreError::Validation("the device's number is too great".to_owned()))
    }

    /// Copying everybody's database is no answer to one device's trouble, so this does nothing.
    async fn snapshot_db(&self, _name: &str, _extra_content: Option<&[u8]>) -> Result<()> {
        Ok(())
    }

    async fn resource_report(&self) -> StorageResourceReport {
        // Connections and their caches are shared by all devices: none is this one's.
        StorageResourceReport {
            memory_bytes: Some(0),
            ..Default::default()
        }
    }
}

#[async_trait]
impl MsgSecretStore for DeviceBackend {
    async fn put_msg_secret(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
        secret: &[u8; 32],
    ) -> Result<()> {
        let secret = MessageSecret {
            chat: chat.into(),
            sender: sender.into(),
            message_id: msg_id.into(),
            secret: *secret,
            expires_at: 0,
            message_time: 0,
        };
        self.rows
            .put_message_secrets(vec![secret])
            .await
            .map_err(failed)
    }

    async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> Result<usize> {
        let stored = entries.len();
        let secrets = entries
            .into_iter()
            .map(|entry| MessageSecret {
                chat: entry.chat,
                sender: entry.sender,
                message_id: entry.msg_id,
                secret: entry.secret,
                expires_at: entry.expires_at,
                message_time: entry.message_ts,
            })
            .collect();
        self.rows
            .put_message_secrets(secrets)
            .await
            .map_err(failed)?;
        Ok(stored)
    }

    async fn get_msg_secret(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
    ) -> Result<Option<Vec<u8>>> {
        let found = self.get_msg_secret_with_ts(chat, sender, msg_id).await?;
        Ok(found.map(|(secret, _)| secret))
    }

    async fn get_msg_secret_with_ts(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
    ) -> Result<Option<(Vec<u8>, i64)>> {
        let found = self
            .rows
            .message_secret(chat, sender, msg_id)
            .await
            .map_err(failed)?;
        Ok(found.map(|found| (found.secret.to_vec(), found.message_time)))
    }

    async fn delete_expired_msg_secrets(&self, cutoff_timestamp: i64) -> Result<u32> {
        let gone = self
            .rows
            .expire_message_secrets(cutoff_timestamp)
            .await
            .map_err(failed)?;
        Ok(count(gone))
    }
}
