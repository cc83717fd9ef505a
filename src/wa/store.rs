//! The library's storage on ours: one backend per device, all in one database.
//!
//! Owns how the library's types become bytes. Every method returns after its commit, every batch is
//! one transaction. Never keeps anything in memory and never merges by reading first: what must be
//! atomic is one statement below.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use wacore::{
    appstate::{hash::HashState, processor::AppStateMutationMAC},
    stats::StorageResourceReport,
    store::{
        Device,
        error::{Result, StoreError},
        traits::{
            AppStateSyncKey, AppSyncStore, DeviceListRecord, DeviceStore, LidPnMappingEntry,
            MsgSecretEntry, MsgSecretStore, PendingInboundKey, PendingInboundRow, ProtocolStore,
            SignalStore, TcTokenEntry,
        },
    },
};

use crate::{
    domain::ids::InstanceNumber,
    storage::{
        Storage, StorageError,
        device::{
            DeviceStorage, KEY_SEPARATOR, LidMapping, MessageSecret, RecordChange, RecordKind,
            TrustToken,
        },
    },
};

/// The key of a kind of which a device has only one.
const ONLY: &str = "";

/// The library's `Backend` for the device of one instance.
#[derive(Clone)]
pub struct DeviceBackend {
    instance: InstanceNumber,
    rows: Arc<dyn DeviceStorage>,
}

impl DeviceBackend {
    /// The backend of this instance's device.
    pub fn new(storage: &dyn Storage, instance: InstanceNumber) -> Self {
        Self {
            instance,
            rows: storage.device(instance),
        }
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

/// Numbers as text that sorts like them.
fn number_key(number: u32) -> String {
    format!("{number:010}")
}

fn number_of(key: &str) -> Result<u32> {
    key.parse()
        .map_err(|_| StoreError::Validation("a prekey's number is no number".to_owned()))
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

fn mac_key(name: &str, index_mac: &[u8]) -> String {
    let mut key = joined(&[name, ""]);
    for byte in index_mac {
        // Writing to a string can't fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

fn count(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
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
        self.change(changes.collect()).await
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

#[async_trait]
impl AppSyncStore for DeviceBackend {
    async fn get_sync_key(&self, key_id: &[u8]) -> Result<Option<AppStateSyncKey>> {
        let key = self.get(RecordKind::SyncKey, &hex::encode(key_id)).await?;
        key.map(|bytes| decode(&bytes)).transpose()
    }

    async fn set_sync_key(&self, key_id: &[u8], key: AppStateSyncKey) -> Result<()> {
        self.change(vec![
            put(RecordKind::SyncKey, hex::encode(key_id), encode(&key)?),
            put(
                RecordKind::LatestSyncKey,
                ONLY,
                Bytes::copy_from_slice(key_id),
            ),
        ])
        .await
    }

    async fn get_version(&self, name: &str) -> Result<HashState> {
        match self.get(RecordKind::SyncVersion, name).await? {
            Some(bytes) => decode(&bytes),
            None => Ok(HashState::default()),
        }
    }

    async fn set_version(&self, name: &str, state: HashState) -> Result<()> {
        self.put(RecordKind::SyncVersion, name, &encode(&state)?)
            .await
    }

    async fn put_mutation_macs(
        &self,
        name: &str,
        _version: u64,
        mutations: &[AppStateMutationMAC],
    ) -> Result<()> {
        let changes = mutations.iter().map(|mac| {
            put(
                RecordKind::MutationMac,
                mac_key(name, &mac.index_mac),
                Bytes::copy_from_slice(&mac.value_mac),
            )
        });
        self.change(changes.collect()).await
    }

    async fn get_mutation_mac(&self, name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>> {
        let mac = self
            .get(RecordKind::MutationMac, &mac_key(name, index_mac))
            .await?;
        Ok(mac.map(Vec::from))
    }

    async fn get_mutation_macs(
        &self,
        name: &str,
        index_macs: &[[u8; 32]],
    ) -> Result<HashMap<[u8; 32], Vec<u8>>> {
        let keys: Vec<_> = index_macs.iter().map(|mac| mac_key(name, mac)).collect();
        let found = self
            .rows
            .records(RecordKind::MutationMac, &keys)
            .await
            .map_err(failed)?;
        let mut values: HashMap<String, Bytes> = found.into_iter().collect();
        Ok(index_macs
            .iter()
            .zip(&keys)
            .filter_map(|(mac, key)| Some((*mac, values.remove(key)?.into())))
            .collect())
    }

    async fn delete_mutation_macs(&self, name: &str, index_macs: &[Vec<u8>]) -> Result<()> {
        let changes = index_macs
            .iter()
            .map(|mac| delete(RecordKind::MutationMac, mac_key(name, mac)));
        self.change(changes.collect()).await
    }

    async fn clear_mutation_macs(&self, name: &str) -> Result<()> {
        self.rows
            .delete_records(RecordKind::MutationMac, &joined(&[name, ""]))
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn get_latest_sync_key_id(&self) -> Result<Option<Vec<u8>>> {
        let id = self.get(RecordKind::LatestSyncKey, ONLY).await?;
        Ok(id.map(Vec::from))
    }
}

#[async_trait]
impl ProtocolStore for DeviceBackend {
    async fn get_sender_key_devices(&self, group_jid: &str) -> Result<Vec<(String, bool)>> {
        self.rows
            .sender_key_holders(group_jid)
            .await
            .map_err(failed)
    }

    async fn set_sender_key_status(&self, group_jid: &str, entries: &[(&str, bool)]) -> Result<()> {
        let holders = entries
            .iter()
            .map(|(device, has_key)| ((*device).to_owned(), *has_key))
            .collect();
        self.rows
            .set_sender_key_holders(group_jid, holders)
            .await
            .map_err(failed)
    }

    async fn clear_sender_key_devices(&self, group_jid: &str) -> Result<()> {
        self.rows
            .clear_sender_key_holders(Some(group_jid))
            .await
            .map_err(failed)
    }

    async fn delete_sender_key_device_rows(&self, device_jids: &[&str]) -> Result<()> {
        let devices = device_jids.iter().map(|jid| (*jid).to_owned()).collect();
        self.rows
            .delete_sender_key_holders(devices)
            .await
            .map_err(failed)
    }

    async fn clear_all_sender_key_devices(&self) -> Result<()> {
        self.rows
            .clear_sender_key_holders(None)
            .await
            .map_err(failed)
    }

    async fn get_lid_mapping(&self, lid: &str) -> Result<Option<LidPnMappingEntry>> {
        let mapping = self.rows.mapping_of_lid(lid).await.map_err(failed)?;
        Ok(mapping.map(entry_of))
    }

    async fn get_pn_mapping(&self, phone: &str) -> Result<Option<LidPnMappingEntry>> {
        let mapping = self.rows.mapping_of_number(phone).await.map_err(failed)?;
        Ok(mapping.map(entry_of))
    }

    async fn put_lid_mapping(&self, entry: &LidPnMappingEntry) -> Result<()> {
        self.put_lid_mappings(std::slice::from_ref(entry)).await
    }

    async fn put_lid_mappings(&self, entries: &[LidPnMappingEntry]) -> Result<()> {
        let mappings = entries.iter().map(mapping_of).collect();
        self.rows.put_mappings(mappings).await.map_err(failed)
    }

    async fn get_all_lid_mappings(&self) -> Result<Vec<LidPnMappingEntry>> {
        let mappings = self.rows.list_mappings().await.map_err(failed)?;
        Ok(mappings.into_iter().map(entry_of).collect())
    }

    async fn save_base_key(&self, address: &str, message_id: &str, base_key: &[u8]) -> Result<()> {
        self.put(
            RecordKind::BaseKey,
            joined(&[address, message_id]),
            base_key,
        )
        .await
    }

    async fn has_same_base_key(
        &self,
        address: &str,
        message_id: &str,
        current_base_key: &[u8],
    ) -> Result<bool> {
        let saved = self
            .get(RecordKind::BaseKey, &joined(&[address, message_id]))
            .await?;
        Ok(saved.is_some_and(|saved| saved == current_base_key))
    }

    async fn delete_base_key(&self, address: &str, message_id: &str) -> Result<()> {
        self.delete(RecordKind::BaseKey, joined(&[address, message_id]))
            .await
    }

    async fn update_device_list(&self, record: DeviceListRecord) -> Result<()> {
        self.update_device_lists(vec![record]).await
    }

    async fn update_device_lists(&self, records: Vec<DeviceListRecord>) -> Result<()> {
        let changes = records
            .iter()
            .map(|record| {
                let value = encode(record)?;
                Ok(put(RecordKind::DeviceList, &*record.user, value))
            })
            .collect::<Result<_>>()?;
        self.change(changes).await
    }

    async fn get_devices(&self, user: &str) -> Result<Option<DeviceListRecord>> {
        let record = self.get(RecordKind::DeviceList, user).await?;
        record.map(|bytes| decode(&bytes)).transpose()
    }

    async fn delete_devices(&self, user: &str) -> Result<()> {
        self.delete(RecordKind::DeviceList, user).await
    }

    async fn get_group_metadata(&self, group_jid: &str) -> Result<Option<Vec<u8>>> {
        let blob = self.get(RecordKind::GroupMetadata, group_jid).await?;
        Ok(blob.map(Vec::from))
    }

    async fn put_group_metadata(&self, group_jid: &str, blob: &[u8]) -> Result<()> {
        self.put(RecordKind::GroupMetadata, group_jid, blob).await
    }

    async fn delete_group_metadata(&self, group_jid: &str) -> Result<()> {
        self.delete(RecordKind::GroupMetadata, group_jid).await
    }

    async fn get_tc_token(&self, jid: &str) -> Result<Option<TcTokenEntry>> {
        let token = self.rows.trust_token(jid).await.map_err(failed)?;
        Ok(token.map(|token| TcTokenEntry {
            token: token.token,
            token_timestamp: token.token_time,
            sender_timestamp: token.sender_time,
        }))
    }

    async fn put_tc_token(&self, jid: &str, entry: &TcTokenEntry) -> Result<()> {
        let token = TrustToken {
            token: entry.token.clone(),
            token_time: entry.token_timestamp,
            sender_time: entry.sender_timestamp,
        };
        self.rows.put_trust_token(jid, token).await.map_err(failed)
    }

    async fn delete_tc_token(&self, jid: &str) -> Result<()> {
        self.rows.delete_trust_token(jid).await.map_err(failed)
    }

    async fn get_all_tc_token_jids(&self) -> Result<Vec<String>> {
        self.rows.list_trust_token_jids().await.map_err(failed)
    }

    async fn delete_expired_tc_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
        let gone = self
            .rows
            .expire_trust_tokens(token_cutoff, sender_cutoff)
            .await
            .map_err(failed)?;
        Ok(count(gone))
    }

    async fn touch_tc_token_sender_timestamp(
        &self,
        jid: &str,
        sender_timestamp: i64,
    ) -> Result<()> {
        self.rows
            .touch_trust_token(jid, sender_timestamp)
            .await
            .map_err(failed)
    }

    async fn store_received_tc_token(
        &self,
        jid: &str,
        token: &[u8],
        token_timestamp: i64,
    ) -> Result<()> {
        self.rows
            .receive_trust_token(jid, token, token_timestamp)
            .await
            .map_err(failed)
    }

    async fn store_sent_message(
        &self,
        chat_jid: &str,
        message_id: &str,
        payload: &[u8],
    ) -> Result<()> {
        self.put(
            RecordKind::SentMessage,
            joined(&[chat_jid, message_id]),
            payload,
        )
        .await
    }

    async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
        let payload = self
            .rows
            .take_record(RecordKind::SentMessage, &joined(&[chat_jid, message_id]))
            .await
            .map_err(failed)?;
        Ok(payload.map(Vec::from))
    }

    async fn delete_expired_sent_messages(&self, cutoff_timestamp: i64) -> Result<u32> {
        let gone = self
            .rows
            .expire_records(RecordKind::SentMessage, cutoff_timestamp)
            .await
            .map_err(failed)?;
        Ok(count(gone))
    }

    async fn store_pending_inbound(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
        message: &[u8],
    ) -> Result<()> {
        self.put(
            RecordKind::PendingInbound,
            joined(&[chat, sender, id]),
            message,
        )
        .await
    }

    async fn get_pending_inbound(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>> {
        let message = self
            .get(RecordKind::PendingInbound, &joined(&[chat, sender, id]))
            .await?;
        Ok(message.map(Vec::from))
    }

    async fn delete_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<()> {
        self.delete(RecordKind::PendingInbound, joined(&[chat, sender, id]))
            .await
    }

    async fn delete_expired_pending_inbound(&self, cutoff_timestamp: i64) -> Result<u32> {
        let gone = self
            .rows
            .expire_records(RecordKind::PendingInbound, cutoff_timestamp)
            .await
            .map_err(failed)?;
        Ok(count(gone))
    }

    async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
        let changes = rows
            .iter()
            .map(|row| {
                put(
                    RecordKind::PendingInbound,
                    joined(&[row.chat, row.sender, row.id]),
                    Bytes::copy_from_slice(row.message),
                )
            })
            .collect();
        self.change(changes).await
    }

    async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
        let changes = keys
            .iter()
            .map(|key| {
                delete(
                    RecordKind::PendingInbound,
                    joined(&[key.chat, key.sender, key.id]),
                )
            })
            .collect();
        self.change(changes).await
    }
}

fn entry_of(mapping: LidMapping) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: mapping.lid,
        phone_number: mapping.phone_number,
        created_at: mapping.created_at,
        updated_at: mapping.updated_at,
        learning_source: mapping.learning_source,
    }
}

fn mapping_of(entry: &LidPnMappingEntry) -> LidMapping {
    LidMapping {
        lid: entry.lid.clone(),
        phone_number: entry.phone_number.clone(),
        created_at: entry.created_at,
        updated_at: entry.updated_at,
        learning_source: entry.learning_source.clone(),
    }
}

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

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
