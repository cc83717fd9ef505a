//! Accounts, their devices and the public keys devices leave with the server.
//!
//! Plain data with its own rules; knows how it is stored, never who is connected.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wacore_binary::Jid;

use super::{
    address::{DeviceAddress, Lid, Namespace, Number},
    error::SandboxError,
    store::{Batch, Records, base64_bytes},
};

/// A companion or the phone itself, as the server knows it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Device {
    /// Its Signal identity.
    #[serde(with = "base64_bytes")]
    pub identity: [u8; 32],
    /// Its Noise key, checked at every login. Empty for a phone, which does not log in by socket.
    #[serde(with = "base64_bytes")]
    pub noise_key: Vec<u8>,
    /// Its place in the account's signed list of devices.
    pub key_index: u32,
    /// The `ADVSignedDeviceIdentity` with both signatures. Empty for a phone.
    #[serde(with = "base64_bytes")]
    pub device_identity: Vec<u8>,
    /// What it uploaded with its prekeys.
    pub keys: Option<DeviceKeys>,
    /// True once the phone has sent its app-state keys.
    #[serde(default)]
    pub key_shared: bool,
}

/// The lasting part of a prekey upload.
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceKeys {
    /// Registration id.
    pub registration: u32,
    /// Signed prekey id.
    pub signed_id: u32,
    /// Signed prekey.
    #[serde(with = "base64_bytes")]
    pub signed_public: [u8; 32],
    /// Its signature by the identity.
    #[serde(with = "base64_bytes")]
    pub signature: [u8; 64],
}

/// One WhatsApp account.
#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    /// Its number.
    pub number: Number,
    /// Its hidden identity.
    pub lid: Lid,
    /// The name it shows to others.
    pub push_name: String,
    /// Direct messages of this account go by LID instead of by number.
    pub lid_addressed: bool,
    /// The phone answers with delivery receipts.
    pub live: bool,
    /// Names the account in its signed device list.
    pub adv_raw_id: u32,
    /// The next device number; never used twice.
    pub next_device: u16,
    /// The next key index; never used twice.
    pub next_key_index: u32,
    /// The signed list of valid key indexes.
    #[serde(with = "base64_bytes")]
    pub key_index_list: Vec<u8>,
    /// When that list was signed.
    pub key_index_time: u64,
    /// Its devices, the phone as 0.
    pub devices: BTreeMap<u16, Device>,
    /// Accounts it has exchanged messages with: they are told when its devices change, and count as its contacts.
    #[serde(default)]
    pub peers: BTreeSet<Number>,
    /// Who may add it to a group.
    #[serde(default)]
    pub group_adds: GroupAdds,
}

/// Who may add an account to groups. Everybody else may only invite it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupAdds {
    /// Everybody.
    #[default]
    Everyone,
    /// Accounts it has exchanged messages with.
    Contacts,
    /// Nobody.
    Nobody,
}

impl GroupAdds {
    /// WhatsApp's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Everyone => "all",
            Self::Contacts => "contacts",
            Self::Nobody => "none",
        }
    }

    /// What a word of WhatsApp means.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Everyone, Self::Contacts, Self::Nobody]
            .into_iter()
            .find(|adds| adds.word() == word)
    }
}

impl Account {
    /// The user in one namespace.
    pub fn jid(&self, namespace: Namespace) -> Jid {
        match namespace {
            Namespace::Number => self.number.jid(),
            Namespace::Lid => self.lid.jid(),
        }
    }

    /// A device in one namespace.
    pub fn device_jid(&self, namespace: Namespace, device: u16) -> Jid {
        self.jid(namespace).with_device(device)
    }

    /// The namespace its phone addresses direct messages in.
    pub fn namespace(&self) -> Namespace {
        if self.lid_addressed {
            Namespace::Lid
        } else {
            Namespace::Number
        }
    }

    /// Every device with its address.
    pub fn addresses(&self) -> impl Iterator<Item = DeviceAddress> {
        self.devices
            .keys()
            .map(|device| self.number.device(*device))
    }

    /// Stores the account.
    pub fn save(&self, batch: &mut Batch) {
        batch.put(format!("account/{}", self.number), self);
    }

    /// All stored accounts.
    pub fn load(records: &Records) -> Result<BTreeMap<Number, Account>, SandboxError> {
        records
            .scan::<Account>("account/")
            .map(|record| record.map(|(_, account)| (account.number, account)))
            .collect()
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct OneTimeKey {
    #[serde(with = "base64_bytes")]
    public: [u8; 32],
    /// Handed out already. Kept so that a repeated upload does not bring it back.
    #[serde(default)]
    spent: bool,
}

/// The one-time prekeys of one device. A key leaves it once.
#[derive(Default)]
pub struct PreKeyPool {
    keys: BTreeMap<u32, OneTimeKey>,
}

/// The most one-time keys kept for a device, spent ones included.
pub const MAX_PREKEYS: usize = 5_000;

impl PreKeyPool {
    /// Adds uploaded keys; those handed out before stay out.
    pub fn add(&mut self, device: DeviceAddress, keys: Vec<(u32, [u8; 32])>, batch: &mut Batch) {
        for (id, public) in keys {
            if self
                .keys
                .get(&id)
                .is_some_and(|known| known.public == public)
            {
                continue;
            }
            let key = OneTimeKey {
                public,
                spent: false,
            };
            batch.put(record(device, id), &key);
            self.keys.insert(id, key);
        }
        while self.keys.len() > MAX_PREKEYS {
            let oldest = self
                .keys
                .iter()
                .find(|(_, key)| key.spent)
                .or(self.keys.iter().next());
            let Some(id) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.keys.remove(&id);
            batch.delete(record(device, id));
        }
    }

    /// Takes the key with the lowest id.
    pub fn take(&mut self, device: DeviceAddress, batch: &mut Batch) -> Option<(u32, [u8; 32])> {
        let (id, key) = self.keys.iter_mut().find(|(_, key)| !key.spent)?;
        key.spent = true;
        batch.put(record(device, *id), key);
        Some((*id, key.public))
    }

    /// The keys not handed out, in id order.
    pub fn available(&self) -> impl Iterator<Item = (u32, [u8; 32])> {
        self.keys
            .iter()
            .filter(|(_, key)| !key.spent)
            .map(|(id, key)| (*id, key.public))
    }

    /// Forgets all keys of a device.
    pub fn clear(&mut self, device: DeviceAddress, batch: &mut Batch) {
        for id in std::mem::take(&mut self.keys).into_keys() {
            batch.delete(record(device, id));
        }
    }

    /// The stored keys of a device.
    pub fn load(records: &Records, device: DeviceAddress) -> Result<Self, SandboxError> {
        let mut pool = Self::default();
        for record in records.scan::<OneTimeKey>(&format!("prekey/{device}/")) {
            let (id, key) = record?;
            if let Ok(id) = id.parse() {
                pool.keys.insert(id, key);
            }
        }
        Ok(pool)
    }
}

fn record(device: DeviceAddress, id: u32) -> String {
    format!("prekey/{device}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// Whatever is uploaded and however often, no key is handed out twice.
        #[test]
        fn no_key_is_handed_out_twice(steps in prop::collection::vec((any::<bool>(), 0u32..20), 1..100)) {
            let device = Number::PLACEHOLDER.device(1);
            let (mut pool, mut batch, mut seen) = (PreKeyPool::default(), Batch::default(), HashSet::new());
            for (upload, id) in steps {
                if upload {
                    pool.add(device, vec![(id, [id as u8; 32])], &mut batch);
                } else if let Some((id, _)) = pool.take(device, &mut batch) {
                    prop_assert!(seen.insert(id));
                }
            }
        }
    }
}
