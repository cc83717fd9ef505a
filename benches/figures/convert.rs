//! What it costs to make an event of a text, beside what it costs the library to decrypt that text: each alone, on
//! one thread, in CPU time. No network, no storage.
//!
//! The texts are of one chain, one after the other, which is the least that decrypting ever takes: no new key is agreed
//! upon, no key is looked up.

use std::{hint::black_box, sync::Mutex, time::SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use rand::{SeedableRng as _, rngs::StdRng};
use wacore::messages::MessageUtils;
use wacore_libsignal::protocol::{
    CiphertextMessage, Direction, GenericSignedPreKey as _, IdentityChange, IdentityKey,
    IdentityKeyPair, IdentityKeyStore, KeyPair, PreKeyBundle, PreKeyId, PreKeyRecord,
    PreKeySignalMessage, PreKeyStore, ProtocolAddress, SessionCheckoutKey, SessionRecord,
    SessionStore, SignalMessage, SignalProtocolError, SignedPreKeyId, SignedPreKeyRecord,
    SignedPreKeyStore, Timestamp, UsePQRatchet, error::Result, message_decrypt, message_encrypt,
    process_prekey_bundle,
};
use wagate::wa::bench::Decrypted;
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp as wa,
};

use super::{
    Plan, log,
    table::{Goal, Row, Table, micros},
};

/// Texts of a round: so many that the kernel's ticks, which CPU time is told in, do not show.
const TEXTS: usize = 100_000;

const NUMBER: &str = "15550001111";
const LID: &str = "100000000001111";

pub async fn measure(plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let texts = plan.count(TEXTS);
    let padded = MessageUtils::pad_message_v2(text().encode_to_vec());
    let mut pair = Pair::new().await?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let mut sealed = Vec::with_capacity(texts);
        for _ in 0..texts {
            sealed.push(pair.sender.seal(&padded).await?);
        }
        let begun = cpu_micros()?;
        for bytes in &sealed {
            black_box(pair.reader.open(bytes).await?);
        }
        let decrypting = cpu_micros()? - begun;

        let plaintext = text().encode_to_vec();
        let instance = log::instance(SystemTime::now());
        let arrived = Decrypted::of(instance, &plaintext, NUMBER, LID).context("no message")?;
        let begun = cpu_micros()?;
        for _ in 0..texts {
            black_box(black_box(&arrived).converted().context("no event")?);
        }
        let converting = cpu_micros()? - begun;
        rounds.push((converting / texts as f64, decrypting / texts as f64));
    }
    table.push(Row::ratio(
        "CPU of making an event of a text ÷ decrypting it",
        &rounds,
        micros,
        Goal::most(1.0, f64::NAN),
    ));
    Ok(())
}

/// As phones write it.
fn text() -> wa::Message {
    wa::Message {
        conversation: Some("Shall we meet at five, where we met the last time?".to_owned()),
        message_context_info: MessageField::some(wa::MessageContextInfo {
            message_secret: Some(vec![7; 32]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// CPU time of this thread.
fn cpu_micros() -> anyhow::Result<f64> {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = said.split(' ').next().context("no CPU time")?;
    Ok(nanos.parse::<f64>()? / 1e3)
}

/// Two devices in the middle of a conversation.
struct Pair {
    sender: Device,
    reader: Device,
}

impl Pair {
    async fn new() -> anyhow::Result<Self> {
        let (mut sender, mut reader) = (Device::new("reader")?, Device::new("sender")?);
        process_prekey_bundle(
            &sender.peer,
            &mut sender.session,
            &mut sender.identity,
            &reader.bundle()?,
            &mut StdRng::from_rng(&mut rand::rng()),
            UsePQRatchet::No,
        )
        .await?;
        let first = sender.seal(b"hello").await?;
        reader.open_first(&first).await?;
        let answer = reader.seal(b"hello yourself").await?;
        sender.open(&answer).await?;
        // Begins the chain that all others are of.
        let second = sender.seal(b"how are you?").await?;
        reader.open(&second).await?;
        Ok(Self { sender, reader })
    }
}

/// A device that knows one other.
struct Device {
    peer: ProtocolAddress,
    identity: Identity,
    session: Session,
    signed: Signed,
    none: NoPreKeys,
    random: StdRng,
}

impl Device {
    fn new(peer: &str) -> anyhow::Result<Self> {
        let mut random = StdRng::from_rng(&mut rand::rng());
        let identity = IdentityKeyPair::generate(&mut random);
        let pair = KeyPair::generate(&mut random);
        let signature = identity
            .private_key()
            .calculate_signature(&pair.public_key.serialize(), &mut random)?;
        let time = Timestamp::from_epoch_millis(0);
        let signed = SignedPreKeyRecord::new(1.into(), time, &pair, &signature);
        Ok(Self {
            peer: ProtocolAddress::new(peer, 0.into()),
            identity: Identity(identity),
            session: Session::default(),
            signed: Signed {
                record: signed,
                pair,
                signature: signature.to_vec(),
            },
            none: NoPreKeys,
            random,
        })
    }

    fn bundle(&self) -> Result<PreKeyBundle> {
        PreKeyBundle::new(
            1,
            0.into(),
            None,
            1.into(),
            self.signed.pair.public_key,
            self.signed.signature.clone(),
            *self.identity.0.identity_key(),
        )
    }

    async fn seal(&mut self, padded: &[u8]) -> Result<Vec<u8>> {
        let sealed = message_encrypt(padded, &self.peer, &mut self.session, &mut self.identity);
        Ok(sealed.await?.serialize().to_vec())
    }

    async fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let sealed = SignalMessage::try_from(bytes)?;
        self.opened(CiphertextMessage::SignalMessage(sealed)).await
    }

    async fn open_first(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let sealed = PreKeySignalMessage::try_from(bytes)?;
        self.opened(CiphertextMessage::PreKeySignalMessage(sealed))
            .await
    }

    async fn opened(&mut self, sealed: CiphertextMessage) -> Result<Vec<u8>> {
        let opened = message_decrypt(
            &sealed,
            &self.peer,
            &mut self.session,
            &mut self.identity,
            &mut self.none,
            &self.signed,
            &mut self.random,
            UsePQRatchet::No,
        );
        Ok(opened.await?.plaintext)
    }
}

struct Identity(IdentityKeyPair);

#[async_trait]
impl IdentityKeyStore for Identity {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.0.clone())
    }

    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(1)
    }

    async fn save_identity(
        &mut self,
        _: &ProtocolAddress,
        _: &IdentityKey,
    ) -> Result<IdentityChange> {
        Ok(IdentityChange::from_changed(false))
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

/// The only session. It is lent for a change, not copied, as the library's own store does.
#[derive(Default)]
struct Session(Mutex<Option<SessionRecord>>);

impl Session {
    fn record(&self) -> std::sync::MutexGuard<'_, Option<SessionRecord>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[async_trait]
impl SessionStore for Session {
    async fn load_session(&self, _: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.record().clone())
    }

    async fn load_session_for_update(
        &self,
        _: &ProtocolAddress,
    ) -> Result<(Option<SessionRecord>, Option<SessionCheckoutKey>)> {
        Ok((self.record().take(), None))
    }

    async fn has_session(&self, _: &ProtocolAddress) -> Result<bool> {
        Ok(self.record().is_some())
    }

    async fn store_session(&mut self, _: &ProtocolAddress, record: SessionRecord) -> Result<()> {
        *self.record() = Some(record);
        Ok(())
    }
}

struct NoPreKeys;

#[async_trait]
impl PreKeyStore for NoPreKeys {
    async fn get_pre_key(&self, _: PreKeyId) -> Result<PreKeyRecord> {
        Err(SignalProtocolError::InvalidPreKeyId)
    }

    async fn save_pre_key(&mut self, _: PreKeyId, _: &PreKeyRecord) -> Result<()> {
        Ok(())
    }

    async fn remove_pre_key(&mut self, _: PreKeyId) -> Result<()> {
        Ok(())
    }
}

struct Signed {
    record: SignedPreKeyRecord,
    pair: KeyPair,
    signature: Vec<u8>,
}

#[async_trait]
impl SignedPreKeyStore for Signed {
    async fn get_signed_pre_key(&self, _: SignedPreKeyId) -> Result<SignedPreKeyRecord> {
        Ok(self.record.clone())
    }

    async fn save_signed_pre_key(
        &mut self,
        _: SignedPreKeyId,
        _: &SignedPreKeyRecord,
    ) -> Result<()> {
        Ok(())
    }
}
