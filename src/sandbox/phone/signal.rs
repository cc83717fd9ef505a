//! The Signal state of a phone: its sessions with devices and its private prekeys.
//!
//! Lives in memory, follows every change into the store. A session belongs to a device of an account, whichever
//! of the account's two names a stanza used.

use std::collections::HashMap;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use wacore::messages::MessageUtils;
use wacore_binary::{Node, builder::NodeBuilder};
use wacore_libsignal::protocol::{
    CiphertextMessage, Direction, GenericSignedPreKey as _, IdentityChange, IdentityKey,
    IdentityKeyPair, IdentityKeyStore, KeyPair, PreKeyBundle, PreKeyId, PreKeyRecord,
    PreKeySignalMessage, PreKeyStore, ProtocolAddress, PublicKey, SessionRecord, SessionStore,
    SignalMessage, SignalProtocolError, SignedPreKeyId, SignedPreKeyRecord, SignedPreKeyStore,
    UsePQRatchet, error::Result, message_decrypt, message_encrypt, process_prekey_bundle,
};
use waproto::{buffa::Message as _, whatsapp::Message};

use crate::sandbox::{
    address::{DeviceAddress, Number},
    error::SandboxError,
    iq::encrypt::Bundle,
    keys::{StoredKey, random},
    store::{Batch, Records},
};

/// The version of the padding around every message.
pub const PADDING: u8 = 2;

/// A ciphertext and the `type` it travels under.
pub struct Ciphertext {
    /// `pkmsg` until the other side has answered, then `msg`.
    pub kind: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Ciphertext {
    /// As it travels.
    pub fn node(self) -> Node {
        NodeBuilder::new("enc")
            .attr("v", "2")
            .attr("type", self.kind)
            .bytes(self.bytes)
            .build()
    }
}

/// All Signal state of one phone.
pub struct SignalState {
    number: Number,
    identity: Identity,
    sessions: Sessions,
    prekeys: PreKeys,
    signed: SignedPreKey,
}

struct Identity {
    pair: IdentityKeyPair,
    registration: u32,
}

/// A phone has one signed prekey for life.
struct SignedPreKey(SignedPreKeyRecord);

#[derive(Default)]
struct Sessions {
    records: HashMap<ProtocolAddress, SessionRecord>,
}

#[derive(Default)]
struct PreKeys {
    records: HashMap<u32, PreKeyRecord>,
    used: Vec<u32>,
}

impl SignalState {
    /// A phone's state with what was stored of it.
    pub fn load(
        number: Number,
        identity: &KeyPair,
        registration: u32,
        signed: SignedPreKeyRecord,
        records: &Records,
    ) -> std::result::Result<Self, SandboxError> {
        let pair = IdentityKeyPair::new(
            IdentityKey::new(identity.public_key),
            identity.private_key.clone(),
        );
        let mut state = Self {
            number,
            identity: Identity { pair, registration },
            sessions: Sessions::default(),
            prekeys: PreKeys::default(),
            signed: SignedPreKey(signed),
        };
        for record in records.scan::<String>(&format!("session/{number}/")) {
            let (peer, text) = record?;
            let record = BASE64_STANDARD.decode(text).map_err(SandboxError::crypto)?;
            let record = SessionRecord::deserialize(&record).map_err(SandboxError::crypto)?;
            state
                .sessions
                .records
                .insert(ProtocolAddress::new(peer, 0.into()), record);
        }
        for record in records.scan::<StoredKey>(&format!("otk/{number}/")) {
            let (id, key) = record?;
            if let Ok(id) = id.parse::<u32>() {
                state
                    .prekeys
                    .records
                    .insert(id, PreKeyRecord::new(id.into(), &key.pair()?));
            }
        }
        Ok(state)
    }

    /// Takes everything of it out of the store.
    pub fn delete(&self, batch: &mut Batch) {
        for peer in self.sessions.records.keys() {
            batch.delete(format!("session/{}/{}", self.number, peer.name()));
        }
        for id in self.prekeys.records.keys() {
            batch.delete(format!("otk/{}/{id}", self.number));
        }
    }

    /// New one-time prekeys, their public halves to be uploaded.
    pub fn generate_prekeys(
        &mut self,
        ids: std::ops::Range<u32>,
        batch: &mut Batch,
    ) -> Vec<(u32, PublicKey)> {
        ids.map(|id| {
            let pair = KeyPair::generate(&mut random());
            batch.put(format!("otk/{}/{id}", self.number), &StoredKey::of(&pair));
            self.prekeys
                .records
                .insert(id, PreKeyRecord::new(id.into(), &pair));
            (id, pair.public_key)
        })
        .collect()
    }

    /// True when a message to this device needs no bundle.
    pub fn has_session(&self, device: DeviceAddress) -> bool {
        self.sessions.records.contains_key(&address(device))
    }

    /// Starts a session with a device.
    pub async fn start_session(&mut self, device: DeviceAddress, bundle: &Bundle) -> Result<()> {
        let key = |bytes: &[u8; 32]| PublicKey::from_djb_public_key_bytes(bytes);
        let one_time = match &bundle.one_time {
            Some((id, public)) => Some((PreKeyId::from(*id), key(public)?)),
            None => None,
        };
        let prekeys = PreKeyBundle::new(
            bundle.keys.registration,
            0.into(),
            one_time,
            bundle.keys.signed_id.into(),
            key(&bundle.keys.signed_public)?,
            bundle.keys.signature.to_vec(),
            IdentityKey::new(key(&bundle.identity)?),
        )?;
        process_prekey_bundle(
            &address(device),
            &mut self.sessions,
            &mut self.identity,
            &prekeys,
            &mut random(),
            UsePQRatchet::No,
        )
        .await?;
        Ok(())
    }

    /// Forgets the session with a device.
    pub fn end_session(&mut self, device: DeviceAddress, batch: &mut Batch) {
        self.sessions.records.remove(&address(device));
        batch.delete(format!("session/{}/{device}", self.number));
    }

    /// Encrypts a message for a device with which there is a session.
    pub async fn encrypt(
        &mut self,
        device: DeviceAddress,
        message: &Message,
        batch: &mut Batch,
    ) -> Result<Ciphertext> {
        let padded = MessageUtils::pad_message_v2(message.encode_to_vec());
        self.encrypt_padded(device, &padded, batch).await
    }

    /// Encrypts a message as it is, padding and all, whether or not it is one.
    pub async fn encrypt_padded(
        &mut self,
        device: DeviceAddress,
        padded: &[u8],
        batch: &mut Batch,
    ) -> Result<Ciphertext> {
        let sealed = message_encrypt(
            padded,
            &address(device),
            &mut self.sessions,
            &mut self.identity,
        )
        .await?;
        let kind = match sealed {
            CiphertextMessage::PreKeySignalMessage(_) => "pkmsg",
            _ => "msg",
        };
        self.save_session(device, batch)?;
        Ok(Ciphertext {
            kind,
            bytes: sealed.serialize().to_vec(),
        })
    }

    /// Decrypts a message of a device.
    pub async fn decrypt(
        &mut self,
        device: DeviceAddress,
        kind: &str,
        bytes: &[u8],
        batch: &mut Batch,
    ) -> std::result::Result<Message, SandboxError> {
        let sealed = match kind {
            "pkmsg" => {
                PreKeySignalMessage::try_from(bytes).map(CiphertextMessage::PreKeySignalMessage)
            }
            "msg" => SignalMessage::try_from(bytes).map(CiphertextMessage::SignalMessage),
            other => {
                return Err(SandboxError::crypto(format!(
                    "unknown ciphertext type {other}"
                )));
            }
        }
        .map_err(SandboxError::crypto)?;
        let opened = message_decrypt(
            &sealed,
            &address(device),
            &mut self.sessions,
            &mut self.identity,
            &mut self.prekeys,
            &self.signed,
            &mut random(),
            UsePQRatchet::No,
        )
        .await
        .map_err(SandboxError::crypto)?;
        self.save_session(device, batch)
            .map_err(SandboxError::crypto)?;
        for id in self.prekeys.used.drain(..) {
            batch.delete(format!("otk/{}/{id}", self.number));
        }
        let plain = MessageUtils::unpad_message_ref(&opened.plaintext, PADDING)
            .map_err(SandboxError::crypto)?;
        Message::decode_from_slice(plain).map_err(SandboxError::crypto)
    }

    fn save_session(&self, device: DeviceAddress, batch: &mut Batch) -> Result<()> {
        if let Some(record) = self.sessions.records.get(&address(device)) {
            let record = BASE64_STANDARD.encode(record.serialize()?);
            batch.put(format!("session/{}/{device}", self.number), &record);
        }
        Ok(())
    }
}

fn address(device: DeviceAddress) -> ProtocolAddress {
    ProtocolAddress::new(&device.to_string(), 0.into())
}

#[async_trait]
impl IdentityKeyStore for Identity {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.pair.clone())
    }

    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(self.registration)
    }

    /// Who a device is was settled when the network admitted it.
    async fn save_identity(
        &mut self,
        _: &ProtocolAddress,
        _: &IdentityKey,
    ) -> Result<IdentityChange> {
        Ok(IdentityChange::NewOrUnchanged)
    }

    async fn is_trusted_identity(
        &self,
        _: &ProtocolAddress,
        _: &IdentityKey,
        _: Direction,
    ) -> Result<bool> {
        Ok(true)
    }

    async fn get_identity(&self, _: &ProtocolAddress) -> Result<Option<IdentityKey>> {
        Ok(None)
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn load_session(&self, address: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.records.get(address).cloned())
    }

    async fn has_session(&self, address: &ProtocolAddress) -> Result<bool> {
        Ok(self.records.contains_key(address))
    }

    async fn store_session(
        &mut self,
        address: &ProtocolAddress,
        record: SessionRecord,
    ) -> Result<()> {
        self.records.insert(address.clone(), record);
        Ok(())
    }
}

#[async_trait]
impl PreKeyStore for PreKeys {
    async fn get_pre_key(&self, id: PreKeyId) -> Result<PreKeyRecord> {
        let record = self.records.get(&u32::from(id)).cloned();
        record.ok_or(SignalProtocolError::InvalidPreKeyId)
    }

    async fn save_pre_key(&mut self, id: PreKeyId, record: &PreKeyRecord) -> Result<()> {
        self.records.insert(id.into(), record.clone());
        Ok(())
    }

    async fn remove_pre_key(&mut self, id: PreKeyId) -> Result<()> {
        let id = u32::from(id);
        if self.records.remove(&id).is_some() {
            self.used.push(id);
        }
        Ok(())
    }
}

#[async_trait]
impl SignedPreKeyStore for SignedPreKey {
    async fn get_signed_pre_key(&self, id: SignedPreKeyId) -> Result<SignedPreKeyRecord> {
        if self.0.id()? == id {
            Ok(self.0.clone())
        } else {
            Err(SignalProtocolError::InvalidSignedPreKeyId)
        }
    }

    async fn save_signed_pre_key(
        &mut self,
        _: SignedPreKeyId,
        record: &SignedPreKeyRecord,
    ) -> Result<()> {
        self.0 = record.clone();
        Ok(())
    }
}
