//! A loopback WhatsApp network with simulated phones.
//!
//! It speaks the server's side of WhatsApp's wire protocol on a local port: Noise, pairing, Signal prekeys,
//! groups, routing, offline queues. Accounts, groups, keys and queues live in a folder or in memory. Phones are driven by
//! [`Sandbox`], or over gRPC by [`Sandbox::service`], which is a thin layer over it. Names none of the other rooms
//! and never talks to the real network.

mod address;
mod app_state;
mod audience;
mod calls;
mod control;
mod error;
mod faults;
mod files;
mod group;
mod groups;
mod hostile;
mod iq;
mod keys;
mod manner;
mod media;
mod messages;
mod model;
mod net;
mod network;
mod pairing;
mod payments;
mod phone;
mod phones;
mod queue;
mod router;
mod status;
mod store;
mod strangers;
mod typing;
mod wire;
mod wire_log;

#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::Stream;
use tokio::net::TcpListener;

pub use address::{DeviceAddress, InvalidNumber, Lid, Number};
pub use control::ControlService;
pub use error::SandboxError;
pub use faults::{ActiveRule, Direction, FaultAction, FaultMatch, FaultRule, Refusal};
pub use files::{Document, FileKind, LeftFile};
pub use group::{Group, GroupId, InvalidGroupId, Member, Rank};
pub use groups::GroupText;
pub use manner::Manner;
pub use media::{MediaFault, MediaFaultAction};
pub use messages::{Chat, PhonePoll};
pub use model::GroupAdds;
pub use payments::{MoneyMessage, PhonePayment};
pub use phone::app_state::MessageMark;
pub use phone::calls::{CallProgress, Callee, PhoneCall};
pub use phone::groups::{GroupSetting, Invitation, Joined, MemberChange, MemberOutcome, NewGroup};
pub use phone::{PhoneOptions, inbox::InboxMessage, send::SentText};
pub use phones::{CompanionInfo, PhoneInfo};
pub use typing::{SeenTyping, Typing};
pub use wacore_binary::{Jid, Node, builder::NodeBuilder};
pub use wire::LoginFailure;
pub use wire_log::WireEntry;

use media::MediaHost;
use net::incoming::Incoming;
use network::Network;
use store::Store;

/// Longest id of a message that a caller chooses.
const MAX_ID: usize = 64;

/// How long shutdown waits for connections to say goodbye.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// Where a sandbox listens and keeps its state.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The address of the WhatsApp side; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder of its state; `None` keeps nothing.
    pub data_dir: Option<PathBuf>,
}

/// A running network, until [`Sandbox::shutdown`]. Clones drive the same one.
#[derive(Clone)]
pub struct Sandbox {
    network: Arc<Network>,
    address: SocketAddr,
}

impl Sandbox {
    /// Restores what the data folder holds, opens the listener, switches the phones on.
    pub async fn start(config: SandboxConfig) -> Result<Self, SandboxError> {
        let (store, records) = Store::open(config.data_dir.as_deref())?;
        let media = MediaHost::open(config.data_dir.as_deref())?;
        let network = Network::restore(store, media, &records)?;
        drop(records);
        let tls = net::incoming::tls(config.data_dir.as_deref())?;
        let listen = |source| SandboxError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        network.media.found_at(reachable(address).to_string());
        network.lock().host = reachable(address).to_string();
        let listener = Incoming::new(listener, tls).map_err(listen)?;
        let phones: Vec<_> = network.lock().phones.values().cloned().collect();
        for phone in phones {
            phone.start().await;
        }
        let serving = net::listener::serve(listener, network.clone());
        network.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the sandbox's listener failed");
            }
        });
        Ok(Self { network, address })
    }

    /// The address of the WhatsApp side.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws/chat", self.address)
    }

    /// The public Noise key; clients that resume by IK pin it.
    pub fn static_key(&self) -> [u8; 32] {
        self.network.keys.static_public()
    }

    /// The public root of the certificate chain, for clients whose root can be set.
    pub fn root_key(&self) -> [u8; 32] {
        self.network.keys.root_public
    }

    /// A login by this number asks to pair.
    pub fn placeholder_number(&self) -> Number {
        Number::PLACEHOLDER
    }

    /// Creates an account and its phone.
    pub async fn create_phone(&self, options: PhoneOptions) -> Result<PhoneInfo, SandboxError> {
        let phone = self.network.create_phone(options).await?;
        self.phone(phone.number)
    }

    /// One phone.
    pub fn phone(&self, number: Number) -> Result<PhoneInfo, SandboxError> {
        let state = self.network.lock();
        state
            .phone_info(number)
            .ok_or(SandboxError::NoSuchPhone(number))
    }

    /// All phones, by number.
    pub fn phones(&self) -> Vec<PhoneInfo> {
        self.network.lock().phone_infos()
    }

    /// The number of a user named by number, `+number`, number JID or LID JID.
    pub fn resolve(&self, user: &str) -> Result<Number, SandboxError> {
        self.network.lock().resolve(user)
    }

    /// A phone scans a QR code; returns when the device is linked.
    pub async fn scan_qr(&self, phone: Number, qr: &str) -> Result<DeviceAddress, SandboxError> {
        self.network.scan_qr(phone, qr).await
    }

    /// A phone enters a pairing code; returns when the device is linked.
    pub async fn enter_code(
        &self,
        phone: Number,
        code: &str,
    ) -> Result<DeviceAddress, SandboxError> {
        self.network.enter_code(phone, code).await
    }

    /// A phone sends a text to a user; returns when the network has it.
    pub async fn send_text(
        &self,
        phone: Number,
        to: Number,
        text: &str,
    ) -> Result<SentText, SandboxError> {
        self.network.find_phone(phone)?.send_text(to, text).await
    }

    /// The same under an id that the caller chooses: as if the phone said once more what a companion has said.
    pub async fn send_text_as(
        &self,
        phone: Number,
        to: Number,
        text: &str,
        id: String,
    ) -> Result<SentText, SandboxError> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(SandboxError::invalid("id", "must have 1 to 64 bytes"));
        }
        let phone = self.network.find_phone(phone)?;
        phone.send_text_as(to, text, id).await
    }

    /// The messages a phone has seen after a sequence number (0: all it still has), then every new one.
    pub fn inbox(
        &self,
        phone: Number,
        after: u64,
    ) -> Result<impl Stream<Item = InboxMessage> + Send + use<>, SandboxError> {
        Ok(self.network.find_phone(phone)?.inbox.clone().follow(after))
    }

    /// A phone unlinks one of its devices.
    pub fn unlink_device(&self, device: DeviceAddress) -> Result<(), SandboxError> {
        let farewell = wire::stream_error(Some(401), Some("device_removed"));
        self.network.lock().unlink(device, Some(farewell))
    }

    /// Switches a phone off, or on again; answers when it is. A new run of the network has all of them on.
    pub async fn switch_phone(&self, number: Number, on: bool) -> Result<(), SandboxError> {
        let phone = self.network.find_phone(number)?;
        if on {
            phone.switch_on().await;
        } else {
            phone.switch_off();
        }
        Ok(())
    }

    /// Installs WhatsApp anew on a phone: it gets other keys, loses its sessions and its linked devices, and those
    /// who talk with it are told. What it has seen stays.
    pub async fn reinstall_phone(&self, number: Number) -> Result<(), SandboxError> {
        self.network.find_phone(number)?.reinstall().await
    }

    /// Lets an account write only to those it has exchanged messages with, for so long; zero ends it.
    pub fn limit_strangers(
        &self,
        number: Number,
        length: Duration,
    ) -> Result<SystemTime, SandboxError> {
        let end = self.network.lock().limit_strangers(number, length)?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(end))
    }

    /// Cuts the connection of a device, as a dead network would.
    pub fn drop_connection(&self, device: DeviceAddress) -> Result<(), SandboxError> {
        let mut state = self.network.lock();
        state
            .device(device)
            .ok_or(SandboxError::NoSuchDevice(device))?;
        state
            .cut(device)
            .then_some(())
            .ok_or(SandboxError::NotConnected(device))
    }

    /// Refuses the next login of a device, of any device of a number, or of anybody.
    pub fn fail_next_login(
        &self,
        number: Option<Number>,
        device: Option<u16>,
        failure: LoginFailure,
    ) -> Result<(), SandboxError> {
        self.network.lock().plan_failure(number, device, failure)
    }

    /// Ends the connection of a device with a stream error.
    pub fn send_stream_error(
        &self,
        device: DeviceAddress,
        code: Option<u16>,
        conflict: Option<&str>,
    ) -> Result<(), SandboxError> {
        let mut state = self.network.lock();
        state
            .device(device)
            .ok_or(SandboxError::NoSuchDevice(device))?;
        let sent = state.end(device, wire::stream_error(code, conflict));
        sent.then_some(()).ok_or(SandboxError::NotConnected(device))
    }

    /// Adds a fault rule and says its id.
    pub fn add_fault(&self, rule: FaultRule) -> Result<u64, SandboxError> {
        self.network.lock().faults.add(rule)
    }

    /// The fault rules.
    pub fn faults(&self) -> Vec<ActiveRule> {
        self.network.lock().faults.list()
    }

    /// Removes the fault rules with these ids, or all; says how many.
    pub fn clear_faults(&self, ids: &[u64]) -> usize {
        self.network.lock().faults.clear(ids)
    }

    /// The latest stanzas of a device after a sequence number; connections not paired yet share
    /// [`DeviceAddress::UNREGISTERED`].
    pub fn wire_log(&self, device: DeviceAddress, after: u64) -> Vec<WireEntry> {
        self.network.lock().wire_log.read(device, after)
    }

    /// Adds a fault of the media host.
    pub fn add_media_fault(&self, fault: MediaFault) -> Result<(), SandboxError> {
        self.network.media.add_fault(fault)
    }

    /// Removes all faults of the media host.
    pub fn clear_media_faults(&self) {
        self.network.media.clear_faults();
    }

    /// Lets the media host forget every file, as WhatsApp's does after some weeks. Phones still have theirs.
    pub fn expire_media(&self) -> Result<(), SandboxError> {
        Ok(self.network.media.expire()?)
    }

    /// Lets phones lose the files that the media host has forgotten.
    pub fn lose_media(&self) -> Result<(), SandboxError> {
        Ok(self.network.media.lose()?)
    }

    /// The gRPC service that drives this network.
    pub fn service(&self) -> ControlService {
        ControlService::new(self.clone())
    }

    /// Closes the listener and every connection, and leaves the data folder to others.
    pub async fn shutdown(&self) {
        self.network.stop.cancel();
        self.network.tasks.close();
        if tokio::time::timeout(SHUTDOWN_PATIENCE, self.network.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some connections to the sandbox did not end in time");
        }
        if let Err(error) = self.network.store.close() {
            tracing::warn!(%error, "the sandbox's data folder stays locked");
        }
    }
}

/// An address that leads to a listener on this one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
