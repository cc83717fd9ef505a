//! The sender keys of a phone: its own of each group and of its statuses, and those that others have given it.
//!
//! Lives in memory, follows every change into the store. Also knows which devices have the own key of a group, and
//! so who still has to get it, and when it has to be replaced.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use wacore::messages::MessageUtils;
use wacore_libsignal::protocol::{
    SenderKeyDistributionMessage, SenderKeyName, SenderKeyRecord, SenderKeyStore,
    create_sender_key_distribution_message, error::Result, group_decrypt, group_encrypt,
    process_sender_key_distribution_message,
};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{Message, message},
};

use super::signal::{Ciphertext, PADDING};
use crate::sandbox::{
    address::{DeviceAddress, Number},
    audience::Audience,
    error::SandboxError,
    keys::random,
    store::{Batch, Records},
};

/// All sender keys of one phone.
pub struct SenderKeys {
    number: Number,
    keys: Keys,
    reached: HashMap<Audience, BTreeSet<DeviceAddress>>,
}

#[derive(Default)]
struct Keys {
    records: HashMap<String, SenderKeyRecord>,
}

impl SenderKeys {
    /// What was stored of them.
    pub fn load(number: Number, records: &Records) -> std::result::Result<Self, SandboxError> {
        let mut keys = Keys::default();
        for record in records.scan::<String>(&format!("senderkey/{number}/")) {
            let (name, text) = record?;
            let record = BASE64_STANDARD.decode(text).map_err(SandboxError::crypto)?;
            let record = SenderKeyRecord::deserialize(&record).map_err(SandboxError::crypto)?;
            keys.records.insert(name.to_owned(), record);
        }
        let mut reached = HashMap::new();
        for record in records.scan::<BTreeSet<DeviceAddress>>(&format!("reached/{number}/")) {
            let (audience, devices) = record?;
            if let Ok(audience) = audience.parse() {
                reached.insert(audience, devices);
            }
        }
        Ok(Self {
            number,
            keys,
            reached,
        })
    }

    /// Takes everything of it out of the store.
    pub fn delete(&self, batch: &mut Batch) {
        for name in self.keys.records.keys() {
            batch.delete(format!("senderkey/{}/{name}", self.number));
        }
        for audience in self.reached.keys() {
            batch.delete(self.reached_record(*audience));
        }
    }

    /// A device has lost the keys that it was given.
    pub fn lose_reader(&mut self, device: DeviceAddress, batch: &mut Batch) {
        for (audience, reached) in &mut self.reached {
            if reached.remove(&device) {
                batch.put(format!("reached/{}/{audience}", self.number), reached);
            }
        }
    }

    /// Throws the own key of a group away if one of the devices that have it is not in the group any more.
    pub fn rotate_when_left(
        &mut self,
        audience: Audience,
        devices: &BTreeSet<DeviceAddress>,
        batch: &mut Batch,
    ) {
        let reached = self.reached.get(&audience);
        if reached.is_some_and(|reached| !reached.is_subset(devices)) {
            self.reached.remove(&audience);
            batch.delete(self.reached_record(audience));
            self.forget(audience, self.number.device(0), batch);
        }
    }

    /// Forgets the key of a device.
    pub fn forget(&mut self, audience: Audience, device: DeviceAddress, batch: &mut Batch) {
        let name = name(audience, device);
        self.keys.records.remove(name.cache_key());
        batch.delete(self.record(&name));
    }

    /// True when a device has the own key of a group.
    pub fn has_reached(&self, audience: Audience, device: DeviceAddress) -> bool {
        let reached = self.reached.get(&audience);
        reached.is_some_and(|reached| reached.contains(&device))
    }

    /// Notes who has got the own key of a group.
    pub fn note_reached(
        &mut self,
        audience: Audience,
        devices: impl IntoIterator<Item = DeviceAddress>,
        batch: &mut Batch,
    ) {
        let record = self.reached_record(audience);
        let reached = self.reached.entry(audience).or_default();
        reached.extend(devices);
        batch.put(record, reached);
    }

    /// The own key of a group, to be told to a device; made when there is none.
    pub async fn distribution(
        &mut self,
        audience: Audience,
        batch: &mut Batch,
    ) -> Result<message::SenderKeyDistributionMessage> {
        let own = name(audience, self.number.device(0));
        let key =
            create_sender_key_distribution_message(&own, &mut self.keys, &mut random()).await?;
        self.save(&own, batch)?;
        Ok(message::SenderKeyDistributionMessage {
            group_id: Some(audience.jid().to_string()),
            axolotl_sender_key_distribution_message: Some(key.as_ref().to_vec()),
        })
    }

    /// Learns the key of a device.
    pub async fn learn(
        &mut self,
        audience: Audience,
        device: DeviceAddress,
        key: &[u8],
        batch: &mut Batch,
    ) -> Result<()> {
        let name = name(audience, device);
        let key = SenderKeyDistributionMessage::try_from(key)?;
        process_sender_key_distribution_message(&name, &key, &mut self.keys).await?;
        self.save(&name, batch)
    }

    /// Encrypts a message for all of a group at once; the own key must have been made.
    pub async fn encrypt(
        &mut self,
        audience: Audience,
        message: &Message,
        batch: &mut Batch,
    ) -> Result<Ciphertext> {
        let own = name(audience, self.number.device(0));
        let padded = MessageUtils::pad_message_v2(message.encode_to_vec());
        let sealed = group_encrypt(&mut self.keys, &own, &padded, &mut random()).await?;
        self.save(&own, batch)?;
        Ok(Ciphertext {
            kind: "skmsg",
            bytes: sealed.as_ref().to_vec(),
        })
    }

    /// Decrypts a message that a device wrote for all of a group.
    pub async fn decrypt(
        &mut self,
        audience: Audience,
        device: DeviceAddress,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> std::result::Result<Message, SandboxError> {
        let name = name(audience, device);
        let padded = group_decrypt(bytes, &mut self.keys, &name)
            .await
            .map_err(SandboxError::crypto)?;
        self.save(&name, batch).map_err(SandboxError::crypto)?;
        let plain =
            MessageUtils::unpad_message_ref(&padded, PADDING).map_err(SandboxError::crypto)?;
        Message::decode_from_slice(plain).map_err(SandboxError::crypto)
    }

    fn save(&self, name: &SenderKeyName, batch: &mut Batch) -> Result<()> {
        if let Some(record) = self.keys.records.get(name.cache_key()) {
            let record = BASE64_STANDARD.encode(record.serialize()?);
            batch.put(self.record(name), &record);
        }
        Ok(())
    }

    fn record(&self, name: &SenderKeyName) -> String {
        format!("senderkey/{}/{}", self.number, name.cache_key())
    }

    fn reached_record(&self, audience: Audience) -> String {
        format!("reached/{}/{audience}", self.number)
    }
}

/// The message that tells a device the key.
pub fn telling(key: message::SenderKeyDistributionMessage) -> Message {
    Message {
        sender_key_distribution_message: MessageField::some(key),
        ..Default::default()
    }
}

fn name(audience: Audience, device: DeviceAddress) -> SenderKeyName {
    SenderKeyName::from_parts(&audience.to_string(), &device.to_string())
}

#[async_trait]
impl SenderKeyStore for Keys {
    async fn store_sender_key(
        &mut self,
        name: &SenderKeyName,
        record: SenderKeyRecord,
    ) -> Result<()> {
        self.records.insert(name.cache_key().to_owned(), record);
        Ok(())
    }

    async fn load_sender_key(&self, name: &SenderKeyName) -> Result<Option<SenderKeyRecord>> {
        Ok(self.records.get(name.cache_key()).cloned())
    }
}
