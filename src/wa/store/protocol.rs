//! What the protocol remembers: who has which key, who is who, what was sent and what is not yet
//! committed.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wacore::store::{
    error::{Result, StoreError},
    traits::{
        DeviceListRecord, LidPnMappingEntry, PendingInboundKey, PendingInboundRow, ProtocolStore,
        TcTokenEntry,
    },
};

use super::{DeviceBackend, MessageKey, count, decode, delete, encode, failed, joined, put};
use crate::storage::device::{LidMapping, RecordKind, TrustToken};
use crate::wa::contacts;

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
        self.rows.put_mappings(mappings).await.map_err(failed)?;
        if let Some(contacts) = &self.contacts {
            let pairs = entries.iter().map(|entry| {
                let source = &entry.learning_source;
                contacts::of_pair(&entry.lid, &entry.phone_number, source, entry.updated_at)
            });
            contacts.see(pairs.collect()).await;
        }
        Ok(())
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
        // Only whoever has received the message asks for it, and the message itself is stored.
        self.change_soon(vec![put(
            RecordKind::SentMessage,
            joined(&[chat_jid, message_id]),
            Bytes::copy_from_slice(payload),
        )])
        .await
    }

    async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
        // The library puts it back after taking it. A crash in between would leave whoever asked for it
        // without an answer for ever, so it stays until it expires.
        let payload = self
            .get_newest(RecordKind::SentMessage, &joined(&[chat_jid, message_id]))
            .await?;
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
        let key = joined(&[chat, sender, id]);
        if let Some(message) = self.get_newest(RecordKind::PendingInbound, &key).await? {
            return Ok(Some(message.into()));
        }
        // The library asks when a message comes that counts as read. Without one kept it would
        // acknowledge it, which is right only if the hook has had it.
        let settled = self.get(RecordKind::SettledInbound, &key).await?.is_some();
        if settled || !self.redelivery.serves() {
            return Ok(None);
        }
        let message = MessageKey {
            chat: chat.to_owned(),
            sender: sender.to_owned(),
            id: id.to_owned(),
        };
        self.redelivery.ask_later(self.clone(), message);
        Err(StoreError::Validation(
            "the message was read and never handed over; its sender is asked for it again"
                .to_owned(),
        ))
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
        // Nothing is delivered again after so long.
        self.rows
            .expire_records(RecordKind::SettledInbound, cutoff_timestamp)
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
        // It must not come after the session that decrypted it nor after the hook's commit, and both
        // are handed in later.
        self.change_soon(changes).await
    }

    async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
        // The library does this for what the hook has taken.
        let changes = keys
            .iter()
            .flat_map(|key| {
                let key: Arc<str> = joined(&[key.chat, key.sender, key.id]).into();
                [
                    delete(RecordKind::PendingInbound, key.clone()),
                    put(RecordKind::SettledInbound, key, Bytes::new()),
                ]
            })
            .collect();
        // Until it is there the hook would be asked again, and knows what it has had.
        self.change_soon(changes).await
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
