//! A phone that writes to many at once, in a group or as its status: with a sender key. And reading what others do.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use wacore_binary::{Jid, Node, builder::NodeBuilder};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::Message,
};

use super::{
    Mind, Phone,
    send::{SentText, kind, message_id},
    sender_keys::telling,
    since_epoch,
};
use crate::sandbox::{
    address::DeviceAddress,
    audience::Audience,
    error::SandboxError,
    group::GroupId,
    network::{Network, State},
    phone::inbox::{InboxMessage, text_of},
    store::Batch,
    wire,
};

/// Where a message to many goes and under which names.
struct ManyRoute {
    devices: Vec<(DeviceAddress, Jid)>,
    by_lid: bool,
    /// How a group names its members.
    mode: Option<&'static str>,
    hash: Option<String>,
    push_name: String,
}

impl Phone {
    /// Sends a message to a group; returns when the network has it. Devices that are `withheld` do not get the key
    /// it is encrypted with and have to ask for it.
    pub async fn send_to_group(
        &self,
        group: GroupId,
        message: Message,
        withheld: &[DeviceAddress],
    ) -> Result<SentText, SandboxError> {
        self.send_to_many(group.into(), message, withheld).await
    }

    /// Posts a status for everybody whom the account has exchanged messages with; returns when the network has it.
    pub async fn post_status(&self, message: Message) -> Result<SentText, SandboxError> {
        self.send_to_many(Audience::Status, message, &[]).await
    }

    async fn send_to_many(
        &self,
        audience: Audience,
        message: Message,
        withheld: &[DeviceAddress],
    ) -> Result<SentText, SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let id = message_id();
        let expected = self.replies.expect(id.clone());
        let (time, encoded) = (wire::now(), Bytes::from(message.encode_to_vec()));
        let (push_name, by_lid) = {
            let mut mind = self.mind.lock().await;
            let (route, connection) = {
                let state = network.lock();
                let link = state.links.get(&self.address());
                let link = link.ok_or(SandboxError::NotConnected(self.address()))?;
                let route = match audience {
                    Audience::Group(group) => self.group_route(&state, group)?,
                    Audience::Status => self.status_route(&state)?,
                };
                (route, link.connection)
            };
            let mut batch = Batch::default();
            let keys = self
                .hand_out_keys(&network, &mut mind, audience, &route, withheld, &mut batch)
                .await?;
            let sealed = mind
                .sender_keys
                .encrypt(audience, &message, &mut batch)
                .await
                .map_err(SandboxError::crypto)?;
            // A chain that has moved must be stored before what it encrypted can be seen.
            network.store.commit(&batch)?;
            mind.remember(id.clone(), encoded.clone());
            let mut stanza = kind(NodeBuilder::new("message"), &message)
                .attr("to", audience.jid())
                .attr("id", id.as_str());
            if let Some(mode) = route.mode {
                stanza = stanza.attr("addressing_mode", mode);
            }
            if let Some(hash) = &route.hash {
                stanza = stanza.attr("phash", hash.as_str());
            }
            let mut named = keys;
            let mut children = Vec::new();
            if audience == Audience::Status {
                // The server does not know otherwise who may see it.
                named.extend(route.readers_beside(&named));
                if !message.protocol_message.is_set() {
                    let meta = NodeBuilder::new("meta").attr("status_setting", "contacts");
                    children.push(meta.build());
                }
            }
            if !named.is_empty() {
                children.push(NodeBuilder::new("participants").children(named).build());
            }
            children.push(sealed.node());
            let stanza = stanza.children(children).build();
            network.receive(connection, self.role(), stanza);
            (route.push_name, route.by_lid)
        };
        expected.reply().await?;
        let mut batch = Batch::default();
        let seen = self.inbox.stage(
            InboxMessage {
                sequence: 0,
                id: id.clone(),
                chat: self.number,
                group: audience.group(),
                status: audience == Audience::Status,
                sender: self.address(),
                by_lid,
                push_name,
                time: since_epoch(time),
                text: text_of(&message),
                message: encoded,
            },
            &mut batch,
        );
        network.store.commit(&batch)?;
        self.inbox.publish(seen);
        Ok(SentText {
            id,
            time: since_epoch(time),
        })
    }

    fn group_route(&self, state: &State, group: GroupId) -> Result<ManyRoute, SandboxError> {
        let own = state.accounts.get(&self.number);
        let own = own.ok_or(SandboxError::NoSuchPhone(self.number))?;
        let group = state
            .groups
            .get(&group)
            .ok_or(SandboxError::NoSuchGroup(group))?;
        let namespace = group.namespace();
        let named = |device: DeviceAddress| {
            let account = state.accounts.get(&device.number)?;
            Some((device, account.device_jid(namespace, device.device)))
        };
        let mode = crate::sandbox::group::mode(group);
        Ok(ManyRoute {
            devices: state
                .group_devices(group)
                .filter(|device| *device != self.address())
                .filter_map(named)
                .collect(),
            by_lid: mode == "lid",
            mode: Some(mode),
            hash: state.group_hash(group),
            push_name: own.push_name.clone(),
        })
    }

    /// Everybody whom the account has exchanged messages with, and its own companions.
    fn status_route(&self, state: &State) -> Result<ManyRoute, SandboxError> {
        let own = state.accounts.get(&self.number);
        let own = own.ok_or(SandboxError::NoSuchPhone(self.number))?;
        let namespace = own.namespace();
        let readers = own.peers.iter().chain([&own.number]);
        let devices = readers
            .filter_map(|number| state.accounts.get(number))
            .flat_map(|account| {
                account.addresses().map(move |device| {
                    let jid = account.device_jid(namespace, device.device);
                    (device, jid)
                })
            });
        Ok(ManyRoute {
            devices: devices
                .filter(|(device, _)| *device != self.address())
                .collect(),
            by_lid: own.lid_addressed,
            mode: None,
            hash: None,
            push_name: own.push_name.clone(),
        })
    }

    /// The own key of the group for every device that does not have it, after a change if somebody has left.
    async fn hand_out_keys(
        &self,
        network: &Network,
        mind: &mut Mind,
        audience: Audience,
        route: &ManyRoute,
        withheld: &[DeviceAddress],
        batch: &mut Batch,
    ) -> Result<Vec<Node>, SandboxError> {
        let devices: BTreeSet<DeviceAddress> =
            route.devices.iter().map(|(device, _)| *device).collect();
        mind.sender_keys.rotate_when_left(audience, &devices, batch);
        let key = mind.sender_keys.distribution(audience, batch).await;
        let telling = telling(key.map_err(SandboxError::crypto)?);
        let (mut nodes, mut told) = (Vec::new(), Vec::new());
        for (device, jid) in &route.devices {
            if withheld.contains(device) || mind.sender_keys.has_reached(audience, *device) {
                continue;
            }
            // One without keys yet will ask.
            if let Some(enc) = self.seal(network, mind, *device, &telling, batch).await {
                nodes.push(
                    NodeBuilder::new("to")
                        .attr("jid", jid)
                        .children([enc])
                        .build(),
                );
                told.push(*device);
            }
        }
        if !told.is_empty() {
            mind.sender_keys.note_reached(audience, told, batch);
        }
        Ok(nodes)
    }

    /// Puts the own key for an audience into a message for a device that lacks it.
    pub(super) async fn enclose_key(
        &self,
        mind: &mut Mind,
        audience: Audience,
        device: DeviceAddress,
        message: &mut Message,
        batch: &mut Batch,
    ) -> Option<()> {
        let key = mind.sender_keys.distribution(audience, batch).await.ok()?;
        message.sender_key_distribution_message = MessageField::some(key);
        mind.sender_keys.note_reached(audience, [device], batch);
        Some(())
    }

    /// Reads a message to many into the inbox. False when this phone lacks what it takes.
    pub(super) async fn read_as_one_of_many(
        &self,
        network: &Network,
        audience: Audience,
        device: DeviceAddress,
        id: String,
        node: &Node,
    ) -> Result<bool, SandboxError> {
        let mut mind = self.mind.lock().await;
        let mut batch = Batch::default();
        // Beside what is for all, what is for this device is only the key.
        let shared = node
            .get_children_by_tag("enc")
            .any(|enc| wire::is(enc, "type", "skmsg"));
        let mut message = None;
        for enc in node.get_children_by_tag("enc") {
            let kind = wire::text(enc, "type").unwrap_or_default();
            let bytes = wire::bytes(enc).unwrap_or_default();
            let for_all = kind == "skmsg";
            let opened = if for_all {
                let keys = &mut mind.sender_keys;
                keys.decrypt(audience, device, bytes, &mut batch).await
            } else {
                let signal = &mut mind.signal;
                signal.decrypt(device, &kind, bytes, &mut batch).await
            };
            let mut opened = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::debug!(%error, "a phone cannot read a part of a group's message");
                    continue;
                }
            };
            if let Some(key) = opened.sender_key_distribution_message.take()
                && let Some(bytes) = key.axolotl_sender_key_distribution_message
            {
                let learnt = mind
                    .sender_keys
                    .learn(audience, device, &bytes, &mut batch)
                    .await;
                learnt.map_err(SandboxError::crypto)?;
            }
            if for_all == shared {
                message = Some(opened);
            }
        }
        if self.inbox.has(device.number, &id) {
            network.store.commit(&batch)?;
            return Ok(true);
        }
        let Some(message) = message else {
            network.store.commit(&batch)?;
            return Ok(false);
        };
        let message = InboxMessage {
            group: audience.group(),
            status: audience == Audience::Status,
            by_lid: wire::jid(node, "participant").is_some_and(|jid| jid.is_lid()),
            ..self.entry(id, device, node, message)
        };
        let seen = self.inbox.stage(message, &mut batch);
        network.store.commit(&batch)?;
        self.inbox.publish(seen);
        Ok(true)
    }

    /// Loses the key of a device.
    pub async fn forget_sender_key(
        &self,
        group: GroupId,
        device: DeviceAddress,
    ) -> Result<(), SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let mut batch = Batch::default();
        self.mind
            .lock()
            .await
            .sender_keys
            .forget(group.into(), device, &mut batch);
        Ok(network.store.commit(&batch)?)
    }
}

impl ManyRoute {
    /// The people whom no node names yet, as nodes.
    fn readers_beside(&self, named: &[Node]) -> Vec<Node> {
        let known: HashSet<Jid> = named
            .iter()
            .filter_map(|node| Some(wire::jid(node, "jid")?.to_non_ad()))
            .collect();
        let people = self.devices.iter().filter(|(device, _)| device.is_phone());
        people
            .map(|(_, jid)| jid.to_non_ad())
            .filter(|jid| !known.contains(jid))
            .map(|jid| NodeBuilder::new("to").attr("jid", jid).build())
            .collect()
    }
}
