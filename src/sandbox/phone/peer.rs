//! What a phone tells its own companions and nobody else: the keys of the account's app state, and its history.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};
use wacore_binary::builder::NodeBuilder;
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{
        HistorySync, Message, PhoneNumberToLIDMapping, history_sync,
        message::{self, ProtocolMessage, protocol_message},
    },
};

use super::{Phone, send::message_id};
use crate::sandbox::{
    address::{DeviceAddress, Namespace},
    error::SandboxError,
    network::State,
    store::Batch,
};

impl Phone {
    /// Sends a companion the keys of the account's app state.
    pub async fn share_keys(&self, companion: DeviceAddress) -> Result<(), SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let raw_id = {
            let state = network.lock();
            let account = state.accounts.get(&self.number);
            account
                .ok_or(SandboxError::NoSuchPhone(self.number))?
                .adv_raw_id
        };
        let own = self.keys();
        let key = message::AppStateSyncKey {
            key_id: MessageField::some(message::AppStateSyncKeyId {
                key_id: Some(own.stored.app_state_key_id.to_vec()),
            }),
            key_data: MessageField::some(message::AppStateSyncKeyData {
                key_data: Some(own.stored.app_state_key.to_vec()),
                fingerprint: MessageField::some(message::AppStateSyncKeyFingerprint {
                    raw_id: Some(raw_id),
                    current_index: Some(0),
                    device_indexes: vec![0],
                }),
                timestamp: i64::try_from(own.stored.created).ok(),
            }),
        };
        let share = ProtocolMessage {
            r#type: Some(protocol_message::Type::APP_STATE_SYNC_KEY_SHARE),
            app_state_sync_key_share: MessageField::some(message::AppStateSyncKeyShare {
                keys: vec![key],
            }),
            ..Default::default()
        };
        self.tell(companion, share).await
    }

    /// Sends a new companion the history: no conversations, but who is who. Some clients hold back every event until
    /// they have it.
    pub async fn share_history(&self, companion: DeviceAddress) -> Result<(), SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let known = {
            let state = network.lock();
            let own = state.accounts.get(&self.number);
            let own = own.ok_or(SandboxError::NoSuchPhone(self.number))?;
            let peers = own.peers.iter().filter_map(|peer| state.accounts.get(peer));
            peers
                .chain([own])
                .map(|account| PhoneNumberToLIDMapping {
                    pn_jid: Some(account.number.jid().to_string()),
                    lid_jid: Some(account.lid.jid().to_string()),
                })
                .collect()
        };
        let history = HistorySync {
            sync_type: history_sync::HistorySyncType::INITIAL_BOOTSTRAP,
            chunk_order: Some(1),
            progress: Some(100),
            phone_number_to_lid_mappings: known,
            ..Default::default()
        };
        let mut compressed = ZlibEncoder::new(Vec::new(), Compression::default());
        compressed.write_all(&history.encode_to_vec())?;
        let notification = message::HistorySyncNotification {
            sync_type: Some(message::HistorySyncType::INITIAL_BOOTSTRAP),
            chunk_order: history.chunk_order,
            progress: history.progress,
            initial_hist_bootstrap_inline_payload: Some(compressed.finish()?),
            ..Default::default()
        };
        let notify = ProtocolMessage {
            r#type: Some(protocol_message::Type::HISTORY_SYNC_NOTIFICATION),
            history_sync_notification: MessageField::some(notification),
            ..Default::default()
        };
        self.tell(companion, notify).await
    }

    /// By LID, so that the companion's session with its own phone is a LID session from the start.
    async fn tell(
        &self,
        companion: DeviceAddress,
        what: ProtocolMessage,
    ) -> Result<(), SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let mut mind = self.mind.lock().await;
        let (connection, jid) = {
            let state = network.lock();
            let account = state.accounts.get(&self.number);
            let account = account.ok_or(SandboxError::NoSuchPhone(self.number))?;
            let link = state.links.get(&self.address());
            let link = link.ok_or(SandboxError::NotConnected(self.address()))?;
            (
                link.connection,
                account.device_jid(Namespace::Lid, companion.device),
            )
        };
        let message = Message {
            protocol_message: MessageField::some(what),
            ..Default::default()
        };
        let mut batch = Batch::default();
        let enc = self
            .seal(&network, &mut mind, companion, &message, &mut batch)
            .await;
        let enc = enc.ok_or(SandboxError::NoSuchDevice(companion))?;
        network.store.commit(&batch)?;
        let id = message_id();
        mind.remember(id.clone(), message.encode_to_vec().into());
        let stanza = NodeBuilder::new("message")
            .attr("to", jid)
            .attr("id", id)
            .attr("type", "text")
            .attr("category", "peer")
            .attr("push_priority", "high")
            .children([
                enc,
                NodeBuilder::new("meta").attr("appdata", "default").build(),
            ])
            .build();
        network.receive(connection, self.role(), stanza);
        Ok(())
    }
}

impl State {
    /// Has the phone greet a companion that has uploaded prekeys: first the keys of the app state, then the history.
    pub(in crate::sandbox) fn greet_when_due(&mut self, companion: DeviceAddress) {
        let due = self
            .device(companion)
            .is_some_and(|device| !device.key_shared && device.keys.is_some());
        let Some(phone) = self.phones.get(&companion.number).cloned().filter(|_| due) else {
            return;
        };
        self.mark_shared(companion, true);
        let network = self.network.clone();
        self.tasks.spawn(async move {
            let greeted = match phone.share_keys(companion).await {
                Ok(()) => phone.share_history(companion).await,
                Err(error) => Err(error),
            };
            if let Err(error) = greeted {
                tracing::warn!(%error, "a phone did not share its keys or history");
                if let Some(network) = network.upgrade() {
                    network.lock().mark_shared(companion, false);
                }
            }
        });
    }

    fn mark_shared(&mut self, companion: DeviceAddress, shared: bool) {
        let Some(account) = self.accounts.get_mut(&companion.number) else {
            return;
        };
        if let Some(device) = account.devices.get_mut(&companion.device) {
            device.key_shared = shared;
            let mut batch = Batch::default();
            account.save(&mut batch);
            let _ = self.commit(&batch);
        }
    }
}
