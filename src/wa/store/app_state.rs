//! App state: keys, versions, MACs.

use std::{collections::HashMap, fmt::Write as _};

use async_trait::async_trait;
use bytes::Bytes;
use wacore::{
    appstate::{hash::HashState, processor::AppStateMutationMAC},
    store::{
        error::Result,
        traits::{AppStateSyncKey, AppSyncStore},
    },
};

use super::{DeviceBackend, ONLY, decode, delete, encode, failed, joined, put};
use crate::storage::device::RecordKind;

fn mac_key(name: &str, index_mac: &[u8]) -> String {
    let mut key = joined(&[name, ""]);
    for byte in index_mac {
        // Writing to a string can't fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
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
