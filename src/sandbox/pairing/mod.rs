//! Pairing: a connection without a device shows a QR code or a pairing code, a phone signs it in.
//!
//! Owns the connections that wait for it and the moment a device becomes part of an account, or stops to be.
//! The crypto of the phone's side is in [`adv`] and [`code`].

pub mod adv;
pub mod code;
mod qr;

use std::time::Duration;

use tokio::sync::oneshot;
use wacore_binary::{Node, builder::NodeBuilder};
use waproto::{
    buffa::Message as _,
    whatsapp::{ADVSignedDeviceIdentity, ClientPairingProps},
};

use super::{
    address::{DeviceAddress, Namespace, Number},
    error::SandboxError,
    iq::usync::key_index_list,
    keys::{public_bytes, random_bytes},
    model::Device,
    network::{ConnectionId, Line, Network, Outgoing, State},
    phone::Phone,
    store::Batch,
    wire::{self, WireError},
};
use code::CodeRequest;
use qr::QrCode;

/// QR references per connection, as the real server gives.
const REFERENCES: usize = 6;

/// Connections that may wait for pairing at once; the oldest gives way.
const MAX_PAIRINGS: usize = 512;

/// A client drops its next login when told to come back within the same millisecond.
const RESTART_DELAY: Duration = Duration::from_millis(250);

/// How long a device may take to answer a step of the pairing.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Tells the client to log in again.
const RESTART_REQUIRED: u16 = 515;

/// A connection that waits for pairing.
pub struct Pairing {
    line: Line,
    noise_key: [u8; 32],
    push_name: Option<String>,
    references: Vec<String>,
    code: Option<CodeRequest>,
    signing: Option<Signing>,
}

/// The phone has signed; the device's own signature is awaited.
struct Signing {
    request: String,
    address: DeviceAddress,
    identity: [u8; 32],
    account_key: [u8; 32],
    key_index: u32,
    done: oneshot::Sender<Result<DeviceAddress, SandboxError>>,
}

/// What a phone has learned of the device it links.
struct Companion {
    connection: ConnectionId,
    identity: [u8; 32],
    adv_secret: [u8; 32],
}

impl Network {
    /// A phone scans the QR code of a waiting connection. Returns when the device is linked.
    pub async fn scan_qr(&self, number: Number, text: &str) -> Result<DeviceAddress, SandboxError> {
        let qr = QrCode::parse(text)?;
        let connection = self.lock().find_qr(&qr)?;
        let companion = Companion {
            connection,
            identity: qr.identity,
            adv_secret: qr.adv_secret,
        };
        self.link(number, companion).await
    }

    /// The push name the connection behind a QR code registered with.
    pub fn push_name_of_qr(&self, text: &str) -> Result<Option<String>, SandboxError> {
        let qr = QrCode::parse(text)?;
        let state = self.lock();
        let connection = state.find_qr(&qr)?;
        Ok(state
            .pairings
            .get(&connection)
            .and_then(|pairing| pairing.push_name.clone()))
    }

    /// A phone enters the code a waiting connection shows. Returns when the device is linked.
    pub async fn enter_code(
        &self,
        number: Number,
        code: &str,
    ) -> Result<DeviceAddress, SandboxError> {
        let companion = self.exchange_code(number, code).await?;
        self.link(number, companion).await
    }

    async fn link(
        &self,
        number: Number,
        companion: Companion,
    ) -> Result<DeviceAddress, SandboxError> {
        let done = {
            let mut state = self.lock();
            let phone = state.phones.get(&number).cloned();
            let phone = phone.ok_or(SandboxError::NoSuchPhone(number))?;
            state.sign_in(&phone, &companion)?
        };
        answered(done).await?
    }
}

/// Waits for a device's part of a step.
async fn answered<T>(reply: oneshot::Receiver<T>) -> Result<T, SandboxError> {
    match tokio::time::timeout(STEP_TIMEOUT, reply).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err(SandboxError::Refused("it disconnected".to_owned())),
        Err(_) => Err(SandboxError::TimedOut),
    }
}

impl State {
    /// Admits a connection that has no device yet and gives it references for its QR codes.
    pub(super) fn start_pairing(
        &mut self,
        noise_key: [u8; 32],
        push_name: Option<String>,
        line: Line,
    ) -> ConnectionId {
        if self.pairings.len() >= MAX_PAIRINGS
            && let Some(oldest) = self.pairings.keys().min().copied()
            && let Some(pairing) = self.pairings.remove(&oldest)
        {
            pairing.line.cut.cancel();
        }
        let references: Vec<String> = (0..REFERENCES)
            .map(|_| format!("2@{}", hex::encode(random_bytes::<32>())))
            .collect();
        let children = references
            .iter()
            .map(|text| wire::leaf("ref", text.as_bytes()));
        let pair_device = NodeBuilder::new("pair-device").children(children).build();
        let request = wire::iq_set(&self.fresh_id(), "md", pair_device);
        self.transmit(&line, DeviceAddress::UNREGISTERED, request);
        let connection = self.fresh_connection();
        let pairing = Pairing {
            line,
            noise_key,
            push_name: push_name.filter(|name| !name.is_empty()),
            references,
            code: None,
            signing: None,
        };
        self.pairings.insert(connection, pairing);
        connection
    }

    fn find_qr(&self, qr: &QrCode) -> Result<ConnectionId, SandboxError> {
        self.pairings
            .iter()
            .find(|(_, pairing)| {
                pairing.references.contains(&qr.reference) && pairing.noise_key == qr.noise_key
            })
            .map(|(connection, _)| *connection)
            .ok_or(SandboxError::NothingToPair { field: "qr" })
    }

    /// The phone's signature over the device, on its way to the device.
    fn sign_in(
        &mut self,
        phone: &Phone,
        companion: &Companion,
    ) -> Result<oneshot::Receiver<Result<DeviceAddress, SandboxError>>, SandboxError> {
        let request = self.fresh_id();
        let pairing = self
            .pairings
            .get_mut(&companion.connection)
            .ok_or(SandboxError::NothingToPair { field: "qr" })?;
        if pairing.signing.is_some() {
            return Err(SandboxError::NothingToPair { field: "qr" });
        }
        let account = self
            .accounts
            .get_mut(&phone.number)
            .ok_or(SandboxError::NoSuchPhone(phone.number))?;
        if account.devices.len() > adv::MAX_COMPANIONS {
            return Err(SandboxError::Exhausted(
                "the account has 4 linked devices already; unlink one",
            ));
        }
        let address = account.number.device(account.next_device);
        let key_index = account.next_key_index;
        account.next_device += 1;
        account.next_key_index += 1;

        let container = adv::sign_device(
            &phone.identity(),
            account.adv_raw_id,
            key_index,
            &companion.identity,
            &companion.adv_secret,
        )?;
        let props = ClientPairingProps {
            is_chat_db_lid_migrated: Some(account.lid_addressed),
            ..Default::default()
        };
        let success = NodeBuilder::new("pair-success").children([
            wire::leaf("device-identity", container),
            NodeBuilder::new("biz")
                .attr("name", account.push_name.as_str())
                .build(),
            NodeBuilder::new("platform").attr("name", "android").build(),
            NodeBuilder::new("device")
                .attr("jid", account.device_jid(Namespace::Number, address.device))
                .attr("lid", account.device_jid(Namespace::Lid, address.device))
                .build(),
            wire::leaf("client-props", props.encode_to_vec()),
        ]);
        let (done, waiting) = oneshot::channel();
        pairing.signing = Some(Signing {
            request: request.clone(),
            address,
            identity: companion.identity,
            account_key: public_bytes(&phone.identity().public_key),
            key_index,
            done,
        });
        let line = pairing.line.clone();
        let success = wire::iq_set(&request, "md", success.build());
        self.transmit(&line, DeviceAddress::UNREGISTERED, success);
        Ok(waiting)
    }

    /// A stanza of a connection that is not paired.
    pub(super) fn handle_unregistered(&mut self, connection: ConnectionId, node: &Node) {
        let (Some(id), Some(kind)) = (wire::text(node, "id"), wire::text(node, "type")) else {
            return;
        };
        if node.tag != "iq" {
            return;
        }
        let Some(pairing) = self.pairings.get_mut(&connection) else {
            return;
        };
        if matches!(kind.as_str(), "result" | "error") {
            if let Some(signing) = pairing.signing.take_if(|signing| signing.request == id) {
                self.conclude(connection, signing, node);
            }
            return;
        }
        let line = pairing.line.clone();
        let xmlns = wire::text(node, "xmlns").unwrap_or_default();
        let answer = match (
            xmlns.as_str(),
            node.get_optional_child("link_code_companion_reg"),
        ) {
            ("md", Some(request)) => self.handle_code_request(connection, request),
            ("w:p" | "urn:xmpp:ping", _) => Ok(Vec::new()),
            _ => Err(WireError::NOT_IMPLEMENTED),
        };
        let reply = match answer {
            Ok(children) => wire::iq_result(&id, wire::server(), children),
            Err(error) => wire::iq_error(&id, wire::server(), error),
        };
        self.transmit(&line, DeviceAddress::UNREGISTERED, reply);
    }

    /// The device has answered the phone's signature with its own, or refused.
    fn conclude(&mut self, connection: ConnectionId, signing: Signing, node: &Node) {
        let outcome = self.admit(connection, &signing, node);
        if outcome.is_ok()
            && let Some(pairing) = self.pairings.get(&connection)
        {
            let line = pairing.line.clone();
            self.later(RESTART_DELAY, move || {
                let restart = wire::stream_error(Some(RESTART_REQUIRED), None);
                line.send(Outgoing::Last(restart.into()));
            });
        }
        // Nobody waiting means the caller gave up; the device is linked all the same.
        let _ = signing.done.send(outcome);
    }

    fn admit(
        &mut self,
        connection: ConnectionId,
        signing: &Signing,
        node: &Node,
    ) -> Result<DeviceAddress, SandboxError> {
        let refused = |why: &str| SandboxError::Refused(why.to_owned());
        if let Some(error) = node.get_optional_child("error") {
            let text = wire::text(error, "text").unwrap_or_default();
            return Err(refused(&text));
        }
        let signed = node
            .get_optional_child_by_tag(&["pair-device-sign", "device-identity"])
            .and_then(wire::bytes)
            .and_then(|bytes| ADVSignedDeviceIdentity::decode_from_slice(bytes).ok())
            .ok_or_else(|| refused("its answer carries no device identity"))?;
        let device_identity = adv::verify_device(signed, &signing.identity, &signing.account_key)
            .ok_or_else(|| refused("its signature does not verify"))?;
        let noise_key = self
            .pairings
            .get(&connection)
            .map(|pairing| pairing.noise_key);
        let noise_key = noise_key.ok_or(SandboxError::Closed)?;
        let number = signing.address.number;
        if let Some(account) = self.accounts.get_mut(&number) {
            account.devices.insert(
                signing.address.device,
                Device {
                    identity: signing.identity,
                    noise_key: noise_key.to_vec(),
                    key_index: signing.key_index,
                    device_identity,
                    keys: None,
                    key_shared: false,
                },
            );
        }
        self.prekeys.entry(signing.address).or_default();
        self.queues.entry(signing.address).or_default();
        self.devices_changed(signing.address, "add", signing.key_index, Batch::default())?;
        Ok(signing.address)
    }

    /// Takes a device off its account; a connected one hears the farewell and is closed.
    pub(super) fn unlink(
        &mut self,
        address: DeviceAddress,
        farewell: Option<Node>,
    ) -> Result<(), SandboxError> {
        if address.is_phone() {
            return Err(SandboxError::invalid(
                "device",
                "0 is the phone itself, which cannot be unlinked",
            ));
        }
        let account = self.accounts.get_mut(&address.number);
        let device = account.and_then(|account| account.devices.remove(&address.device));
        let device = device.ok_or(SandboxError::NoSuchDevice(address))?;
        let mut batch = Batch::default();
        if let Some(mut pool) = self.prekeys.remove(&address) {
            pool.clear(address, &mut batch);
        }
        if let Some(mut queue) = self.queues.remove(&address) {
            queue.clear(address, &mut batch);
        }
        self.devices_changed(address, "remove", device.key_index, batch)?;
        match farewell {
            Some(farewell) => self.end(address, farewell),
            // It asked for this itself and closes on its own.
            None => self.links.remove(&address).is_some(),
        };
        Ok(())
    }

    /// Ends what an account's phone has begun to sign.
    pub(super) fn abort_pairings(&mut self, number: Number) {
        for pairing in self.pairings.values_mut() {
            pairing
                .signing
                .take_if(|signing| signing.address.number == number);
        }
    }

    /// Every device of an account, of those it has exchanged messages with, and of those it is in a group with.
    pub(super) fn circle(&self, number: Number) -> impl Iterator<Item = DeviceAddress> {
        let peers = self
            .accounts
            .get(&number)
            .map(|account| account.peers.clone());
        let mut circle = peers.unwrap_or_default();
        circle.insert(number);
        circle.extend(self.fellow_members(number));
        circle
            .into_iter()
            .filter_map(|number| self.accounts.get(&number))
            .flat_map(|account| account.addresses())
    }

    /// Signs the new list of devices and tells everybody who keeps a copy of it.
    fn devices_changed(
        &mut self,
        changed: DeviceAddress,
        how: &'static str,
        key_index: u32,
        mut batch: Batch,
    ) -> Result<(), SandboxError> {
        let phone = self.phones.get(&changed.number).cloned();
        let phone = phone.ok_or(SandboxError::NoSuchPhone(changed.number))?;
        let account = self
            .accounts
            .get_mut(&changed.number)
            .ok_or(SandboxError::NoSuchPhone(changed.number))?;
        // Lists are told apart by their time, so it never stands still.
        account.key_index_time = wire::now().max(account.key_index_time + 1);
        account.key_index_list = adv::sign_key_indexes(&phone.identity(), account)?;
        account.save(&mut batch);

        let device = NodeBuilder::new("device")
            .attr("jid", account.device_jid(Namespace::Number, changed.device))
            .attr("lid", account.device_jid(Namespace::Lid, changed.device))
            .attr("key-index", key_index)
            .build();
        let change = NodeBuilder::new(how)
            .children([device, key_index_list(account)])
            .build();
        let (number_jid, lid_jid) = (account.number.jid(), account.lid.jid());
        let listeners: Vec<DeviceAddress> = self
            .circle(changed.number)
            .filter(|address| *address != changed && !address.is_phone())
            .collect();
        let id = self.fresh_id();
        let notification = wire::notification("devices", number_jid, &id, vec![change])
            .attr("lid", lid_jid)
            .build();
        let notification = std::sync::Arc::new(notification);
        let deliveries = listeners
            .into_iter()
            .map(|address| (address, notification.clone()))
            .collect();
        self.enqueue(deliveries, batch)
            .map_err(|_| SandboxError::Storage(std::io::Error::other("the change was not stored")))
    }
}
