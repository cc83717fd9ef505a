//! A simulated phone: device 0 of an account, with a real identity, real Signal sessions and an inbox.
//!
//! It is on the network like any other device: by a link, through the same routing, queue and faults. What it
//! needs before a message (who has which devices, their bundles) it asks the network directly.

pub mod app_state;
mod ask;
pub mod calls;
mod forge;
mod group_send;
pub mod groups;
pub mod inbox;
mod peer;
mod receive;
mod reinstall;
mod retry;
mod reupload;
pub mod send;
mod sender_keys;
mod signal;

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, Weak},
    time::SystemTime,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use wacore_binary::{Node, builder::NodeBuilder};
use wacore_libsignal::protocol::{
    GenericSignedPreKey as _, KeyPair, SignedPreKeyRecord, Timestamp,
};

use super::{
    address::{DeviceAddress, Lid, Number},
    error::SandboxError,
    keys::{StoredKey, public_bytes, random, random_bytes},
    model::{Account, Device, DeviceKeys, GroupAdds},
    network::{ConnectionId, Line, Network, Outgoing, Role},
    pairing::adv,
    store::{Batch, Records, base64_bytes},
    typing::Shown,
    wire,
};
use app_state::Mirror;
use ask::Replies;
use calls::Calls;
use inbox::Inbox;
use sender_keys::SenderKeys;
use signal::SignalState;

/// One-time prekeys per upload.
const PREKEYS: u32 = 50;

/// Messages to own devices that no screen shows, kept for a device that asks for one again.
const OUTBOX: usize = 200;

const SIGNED_PREKEY_ID: u32 = 1;

/// What a phone stores of itself, apart from its sessions, prekeys and messages.
#[derive(Serialize, Deserialize)]
struct StoredPhone {
    identity: StoredKey,
    registration: u32,
    signed_prekey: StoredKey,
    #[serde(with = "base64_bytes")]
    signed_prekey_signature: [u8; 64],
    #[serde(with = "base64_bytes")]
    app_state_key_id: [u8; 6],
    #[serde(with = "base64_bytes")]
    app_state_key: [u8; 32],
    created: u64,
}

/// What a phone is known by: other keys with every installation of WhatsApp.
struct PhoneKeys {
    identity: KeyPair,
    signed_prekey: KeyPair,
    stored: StoredPhone,
}

/// A phone.
pub struct Phone {
    /// Its account.
    pub number: Number,
    /// The messages it has seen.
    pub inbox: Arc<Inbox>,
    keys: std::sync::Mutex<Arc<PhoneKeys>>,
    network: Weak<Network>,
    mind: Mutex<Mind>,
    replies: Replies,
    /// Whether it is to be on the network.
    on: watch::Sender<bool>,
    /// Whether it is.
    present: watch::Sender<bool>,
    calls: Calls,
    mirror: Mutex<Mirror>,
    /// What it was shown of others who write.
    pub(super) typing: Shown,
}

/// What changes as a phone talks.
struct Mind {
    signal: SignalState,
    sender_keys: SenderKeys,
    outbox: VecDeque<(String, Bytes)>,
    next_prekey: u32,
}

/// What a new phone is to be.
#[derive(Debug, Clone, Default)]
pub struct PhoneOptions {
    /// Its number; a free one is chosen when not set.
    pub number: Option<Number>,
    /// The name it shows.
    pub push_name: String,
    /// Direct messages of the account go by LID instead of by number.
    pub lid_addressed: bool,
    /// It reads nothing and sends no delivery receipts, like a phone that is switched off.
    pub dormant: bool,
    /// Who may add the account to groups.
    pub group_adds: GroupAdds,
}

impl Network {
    /// Creates an account with its phone and switches it on.
    pub async fn create_phone(
        self: &Arc<Self>,
        options: PhoneOptions,
    ) -> Result<Arc<Phone>, SandboxError> {
        let phone = {
            let mut state = self.lock();
            let (number, lid) = state.free_names(options.number)?;
            let (account, stored) = new_account(number, lid, options)?;
            let mut batch = Batch::default();
            account.save(&mut batch);
            batch.put(format!("phone/{number}"), &stored);
            state.commit(&batch)?;
            state.insert_account(account);
            let phone = Arc::new(Phone::new(self, number, stored, &Records::default())?);
            state.phones.insert(number, phone.clone());
            phone
        };
        phone.clone().start().await;
        Ok(phone)
    }
}

fn new_account(
    number: Number,
    lid: Lid,
    options: PhoneOptions,
) -> Result<(Account, StoredPhone), SandboxError> {
    let keys = PhoneKeys::new(StoredPhone::generate()?)?;
    let mut account = Account {
        number,
        lid,
        push_name: match options.push_name {
            name if name.is_empty() => format!("Phone {number}"),
            name => name,
        },
        lid_addressed: options.lid_addressed,
        live: !options.dormant,
        adv_raw_id: rand::random(),
        next_device: 1,
        next_key_index: 1,
        key_index_list: Vec::new(),
        key_index_time: wire::now(),
        devices: [(0, keys.device())].into(),
        peers: Default::default(),
        group_adds: options.group_adds,
    };
    account.key_index_list = adv::sign_key_indexes(&keys.identity, &account)?;
    Ok((account, keys.stored))
}

impl StoredPhone {
    /// A fresh installation.
    fn generate() -> Result<Self, SandboxError> {
        let mut random = random();
        let identity = KeyPair::generate(&mut random);
        let signed = KeyPair::generate(&mut random);
        let signature = identity
            .private_key
            .calculate_signature(&signed.public_key.serialize(), &mut random)
            .map_err(SandboxError::crypto)?;
        Ok(Self {
            identity: StoredKey::of(&identity),
            // 14 bits and never zero, as Signal wants it.
            registration: u32::from(rand::random::<u16>() & 0x3fff).max(1),
            signed_prekey: StoredKey::of(&signed),
            signed_prekey_signature: signature[..].try_into().map_err(SandboxError::crypto)?,
            // Device 0, first epoch.
            app_state_key_id: [0, 0, 0, 0, 0, 1],
            app_state_key: random_bytes(),
            created: wire::now(),
        })
    }
}

impl PhoneKeys {
    fn new(stored: StoredPhone) -> Result<Self, SandboxError> {
        Ok(Self {
            identity: stored.identity.pair()?,
            signed_prekey: stored.signed_prekey.pair()?,
            stored,
        })
    }

    /// The phone as the server knows it.
    fn device(&self) -> Device {
        Device {
            identity: public_bytes(&self.identity.public_key),
            noise_key: Vec::new(),
            key_index: 0,
            device_identity: Vec::new(),
            keys: Some(DeviceKeys {
                registration: self.stored.registration,
                signed_id: SIGNED_PREKEY_ID,
                signed_public: public_bytes(&self.signed_prekey.public_key),
                signature: self.stored.signed_prekey_signature,
            }),
            key_shared: true,
        }
    }

    /// The phone's sessions and prekeys, as far as they are stored.
    fn signal_state(&self, number: Number, records: &Records) -> Result<SignalState, SandboxError> {
        let signed = SignedPreKeyRecord::new(
            SIGNED_PREKEY_ID.into(),
            Timestamp::from_epoch_millis(self.stored.created * 1000),
            &self.signed_prekey,
            &self.stored.signed_prekey_signature,
        );
        SignalState::load(
            number,
            &self.identity,
            self.stored.registration,
            signed,
            records,
        )
    }
}

impl Phone {
    /// A stored phone.
    pub fn load(
        network: &Arc<Network>,
        number: Number,
        records: &Records,
    ) -> Result<Self, SandboxError> {
        let stored = records.get::<StoredPhone>(&format!("phone/{number}"))?;
        let stored = stored.ok_or_else(|| {
            SandboxError::crypto("an account is stored without the keys of its phone")
        })?;
        Self::new(network, number, stored, records)
    }

    fn new(
        network: &Arc<Network>,
        number: Number,
        stored: StoredPhone,
        records: &Records,
    ) -> Result<Self, SandboxError> {
        let keys = PhoneKeys::new(stored)?;
        let next_prekey = records.get(&format!("prekeys/{number}"))?.unwrap_or(1);
        Ok(Self {
            number,
            inbox: Arc::new(Inbox::load(number, records)?),
            network: Arc::downgrade(network),
            mind: Mutex::new(Mind {
                signal: keys.signal_state(number, records)?,
                sender_keys: SenderKeys::load(number, records)?,
                outbox: VecDeque::new(),
                next_prekey,
            }),
            replies: Replies::default(),
            on: watch::Sender::new(true),
            present: watch::Sender::new(false),
            calls: Calls::default(),
            mirror: Mutex::default(),
            typing: Shown::default(),
            keys: std::sync::Mutex::new(Arc::new(keys)),
        })
    }

    /// The account's identity key, as of now.
    pub fn identity(&self) -> KeyPair {
        self.keys().identity.clone()
    }

    fn keys(&self) -> Arc<PhoneKeys> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    fn replace_keys(&self, keys: Arc<PhoneKeys>) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Its address on the network.
    pub fn address(&self) -> DeviceAddress {
        self.number.device(0)
    }

    /// Takes the phone off the network: what is sent to it waits for it.
    pub fn switch_off(&self) {
        self.on.send_replace(false);
        self.present.send_replace(false);
        if let Some(network) = self.network.upgrade() {
            network.lock().cut(self.address());
        }
    }

    /// Puts it back.
    pub async fn switch_on(&self) {
        self.on.send_replace(true);
        // The phone outlives this borrow, so the sender does too.
        self.present.subscribe().wait_for(|there| *there).await.ok();
    }

    /// Whether it is on the network, or soon will be.
    pub fn is_on(&self) -> bool {
        *self.on.borrow()
    }

    /// Puts the phone on the network, for as long as the network runs.
    pub async fn start(self: Arc<Self>) {
        let Some(network) = self.network.upgrade() else {
            return;
        };
        let (line, outgoing) = Line::new();
        let connection = network.lock().attach(self.address(), line.clone());
        self.upload_prekeys_when_low(&network, connection).await;
        network.receive(connection, self.role(), active(&network));
        self.present.send_replace(true);
        let (stop, tasks) = (network.stop.clone(), network.tasks.clone());
        drop(network);
        tasks.spawn(async move {
            tokio::select! {
                () = self.live(connection, line, outgoing) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    fn role(&self) -> Role {
        Role::Device(self.address())
    }

    /// Handles stanzas until the end; comes back at once when it was disconnected or fell too far behind, and when
    /// it is switched on again.
    async fn live(
        self: Arc<Self>,
        mut connection: ConnectionId,
        mut line: Line,
        mut outgoing: tokio::sync::mpsc::Receiver<Outgoing>,
    ) {
        let mut on = self.on.subscribe();
        loop {
            let next = tokio::select! {
                next = outgoing.recv() => next,
                () = line.cut.cancelled() => None,
                _ = on.wait_for(|on| !on) => None,
            };
            let Some(network) = self.network.upgrade() else {
                return;
            };
            if let Some(Outgoing::Stanza(node)) = next {
                self.handle(&network, connection, &node).await;
                continue;
            }
            network.detach(connection, self.role());
            drop(network);
            // Not in a tight loop, should somebody cut it again and again.
            tokio::task::yield_now().await;
            if on.wait_for(|on| *on).await.is_err() {
                return;
            }
            let Some(network) = self.network.upgrade() else {
                return;
            };
            (line, outgoing) = Line::new();
            connection = network.lock().attach(self.address(), line.clone());
            network.receive(connection, self.role(), active(&network));
            self.present.send_replace(true);
        }
    }

    async fn upload_prekeys_when_low(&self, network: &Network, connection: ConnectionId) {
        let available = network
            .lock()
            .prekeys
            .get(&self.address())
            .map_or(0, |pool| pool.available().count());
        if available < PREKEYS as usize / 2 {
            self.upload_prekeys(network, connection).await;
        }
    }

    /// New one-time prekeys, stored here before the network can hand them out.
    async fn upload_prekeys(&self, network: &Network, connection: ConnectionId) {
        let mut mind = self.mind.lock().await;
        let Some(keys) = self.new_prekeys(network, &mut mind, PREKEYS) else {
            return;
        };
        let own = self.keys();
        let upload = wacore::prekeys::PreKeyUtils::build_upload_prekeys_request(
            own.stored.registration,
            &public_bytes(&own.identity.public_key),
            SIGNED_PREKEY_ID,
            &public_bytes(&own.signed_prekey.public_key),
            &own.stored.signed_prekey_signature,
            keys.iter().map(|(id, key)| (*id, key.as_slice())),
        );
        let request = request(network, "encrypt", upload);
        network.receive(connection, self.role(), request);
    }

    /// One-time prekeys that nobody has been given, by their ids; none if they can't be stored.
    fn new_prekeys(
        &self,
        network: &Network,
        mind: &mut Mind,
        count: u32,
    ) -> Option<Vec<(u32, [u8; 32])>> {
        let mut batch = Batch::default();
        let first = mind.next_prekey;
        mind.next_prekey += count;
        batch.put(format!("prekeys/{}", self.number), &mind.next_prekey);
        let made = mind
            .signal
            .generate_prekeys(first..first + count, &mut batch);
        if let Err(error) = network.store.commit(&batch) {
            tracing::error!(%error, "a phone cannot store its prekeys");
            return None;
        }
        let public = made.iter().map(|(id, key)| (*id, public_bytes(key)));
        Some(public.collect())
    }
}

fn request(network: &Network, xmlns: &str, children: Vec<Node>) -> Node {
    NodeBuilder::new("iq")
        .attr("to", wire::server())
        .attr("type", "set")
        .attr("id", network.lock().fresh_id())
        .attr("xmlns", xmlns.to_owned())
        .children(children)
        .build()
}

fn active(network: &Network) -> Node {
    request(network, "passive", vec![wire::empty("active")])
}

fn since_epoch(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}
