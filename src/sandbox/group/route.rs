//! Messages and receipts through a group: each device of each member gets its own part of what was sent. Statuses are
//! split in the same way.
//!
//! Never decrypts anything; refuses what the group's rules forbid.

use std::{collections::HashMap, sync::Arc};

use wacore::messages::MessageUtils;
use wacore_binary::{Jid, Node, NodeContent};

use super::{
    Group, GroupId,
    stanza::{mode, other_name},
};
use crate::sandbox::{
    address::{DeviceAddress, Namespace},
    network::State,
    queue::Delivery,
    wire::{self, WireError},
};

/// What becomes of a message to a group.
pub struct GroupFanOut {
    /// Who gets what.
    pub deliveries: Vec<Delivery>,
    /// The hash of all devices, where the sender counted others.
    pub phash: Option<String>,
}

impl State {
    /// Splits a message to a group. `envelope` has what all recipients see, `extras` what stands beside the
    /// ciphertexts.
    pub(in crate::sandbox) fn fan_out_to_group(
        &self,
        from: DeviceAddress,
        id: GroupId,
        node: &Node,
        mut envelope: Node,
        extras: &[Node],
    ) -> Result<GroupFanOut, WireError> {
        let group = self.groups.get(&id).ok_or(WireError::NOT_FOUND)?;
        group.check_speaker(from.number)?;
        if node.attrs.get("addressing_mode").is_some()
            && !wire::is(node, "addressing_mode", mode(group))
        {
            return Err(WireError::STALE_ADDRESSING);
        }
        let sender = self
            .accounts
            .get(&from.number)
            .ok_or(WireError::FORBIDDEN)?;
        let namespace = group.namespace();
        let (key, other) = other_name(sender, namespace);
        let attrs = &mut envelope.attrs;
        attrs.insert("from", group.id.jid());
        attrs.insert("participant", sender.device_jid(namespace, from.device));
        attrs.insert(key, other);
        attrs.insert("addressing_mode", mode(group));
        if recipients(node).any(|item| item.get_optional_child("enc").is_none()) {
            return Err(WireError::BAD_REQUEST);
        }
        // Who has left meanwhile gets nothing; the sender learns by the hash.
        let member = |jid: &Jid| self.member_device(group, jid);
        let devices = self.group_devices(group).filter(|device| *device != from);
        Ok(GroupFanOut {
            deliveries: split(node, &envelope, extras, member, devices)?,
            phash: wire::text(node, "phash")
                .filter(|_| wire::jid(node, "participant").is_none())
                .and_then(|told| self.group_hash(group).filter(|hash| *hash != told)),
        })
    }

    /// Every device of every member.
    pub(in crate::sandbox) fn group_devices<'s>(
        &'s self,
        group: &'s Group,
    ) -> impl Iterator<Item = DeviceAddress> + 's {
        group
            .members
            .keys()
            .filter_map(|number| self.accounts.get(number))
            .flat_map(|account| account.addresses())
    }

    /// The hash by which a sender sees whether it knows all devices of a group.
    pub(in crate::sandbox) fn group_hash(&self, group: &Group) -> Option<String> {
        let devices: Vec<Jid> = group
            .members
            .keys()
            .filter_map(|number| self.accounts.get(number))
            .flat_map(|account| {
                account
                    .devices
                    .keys()
                    .map(|device| account.device_jid(group.namespace(), *device))
            })
            .collect();
        MessageUtils::participant_list_hash(&devices).ok()
    }

    /// The device a JID names, if it is one of a member.
    fn member_device(&self, group: &Group, jid: &Jid) -> Option<DeviceAddress> {
        let (account, _) = self.account_of(jid)?;
        let member = group.members.contains_key(&account.number);
        let known = account.devices.contains_key(&jid.device);
        (member && known).then(|| account.number.device(jid.device))
    }

    /// Who gets a receipt for messages in a group.
    pub(in crate::sandbox) fn group_receipt_deliveries(
        &self,
        from: DeviceAddress,
        id: GroupId,
        kind: &str,
        retry: bool,
        node: &Node,
    ) -> Vec<Delivery> {
        let Some(group) = self.groups.get(&id) else {
            return Vec::new();
        };
        let named = (group.id.jid(), Some(group.namespace()));
        self.many_receipt_deliveries(from, named, kind, retry, node)
    }

    /// Who gets a receipt for messages to many: in a chat with this name, in which people have these names, or those
    /// by which the receipt calls its author.
    pub(in crate::sandbox) fn many_receipt_deliveries(
        &self,
        from: DeviceAddress,
        (chat, namespace): (Jid, Option<Namespace>),
        kind: &str,
        retry: bool,
        node: &Node,
    ) -> Vec<Delivery> {
        let author = wire::jid(node, "participant");
        let (Some(reader), Some(author)) = (self.accounts.get(&from.number), author) else {
            return Vec::new();
        };
        let Some((account, called)) = self.account_of(&author) else {
            return Vec::new();
        };
        let own_business = matches!(kind, "read-self" | "played-self" | "sender");
        let targets: Vec<DeviceAddress> = if retry {
            vec![account.number.device(author.device)]
        } else if own_business {
            reader.addresses().collect()
        } else {
            account.addresses().collect()
        };
        let namespace = namespace.unwrap_or(called);
        let mut receipt = node.clone();
        receipt
            .attrs
            .0
            .retain(|(key, _)| !matches!(&**key, "to" | "participant" | "recipient"));
        let (key, other) = other_name(reader, namespace);
        let attrs = &mut receipt.attrs;
        attrs.insert("from", chat);
        attrs.insert("participant", reader.device_jid(namespace, from.device));
        attrs.insert(key, other);
        attrs.insert("t", wire::now());
        if own_business {
            attrs.insert("recipient", account.jid(namespace));
        }
        let receipt = Arc::new(receipt);
        targets
            .into_iter()
            .filter(|target| *target != from && self.device(*target).is_some())
            .map(|target| (target, receipt.clone()))
            .collect()
    }
}

/// Whom a message to many names.
pub(in crate::sandbox) fn recipients(node: &Node) -> impl Iterator<Item = &Node> {
    node.get_optional_child("participants")
        .into_iter()
        .flat_map(|participants| participants.get_children_by_tag("to"))
}

/// Each device's part of a message to many: what is for all, and what is for it alone. `device_of` says which of the
/// devices a JID names.
pub(in crate::sandbox) fn split(
    node: &Node,
    envelope: &Node,
    extras: &[Node],
    device_of: impl Fn(&Jid) -> Option<DeviceAddress>,
    devices: impl Iterator<Item = DeviceAddress>,
) -> Result<Vec<Delivery>, WireError> {
    let with = |children: Vec<&Node>| {
        let mut copy = envelope.clone();
        let children = children.into_iter().chain(extras).cloned().collect();
        copy.content = Some(NodeContent::Nodes(children));
        Arc::new(copy)
    };
    let shared = node.get_optional_child("enc");
    // Once more for one device that could not read it.
    if let Some(target) = wire::jid(node, "participant") {
        let enc = shared.ok_or(WireError::BAD_REQUEST)?;
        let target = device_of(&target).ok_or(WireError::NOT_FOUND)?;
        return Ok(vec![(target, with(vec![enc]))]);
    }
    let mut keys: HashMap<DeviceAddress, &Node> = HashMap::new();
    for item in recipients(node) {
        let jid = wire::jid(item, "jid").ok_or(WireError::BAD_REQUEST)?;
        if let (Some(enc), Some(device)) = (item.get_optional_child("enc"), device_of(&jid)) {
            keys.insert(device, enc);
        }
    }
    if shared.is_none() && keys.is_empty() {
        return Err(WireError::BAD_REQUEST);
    }
    // One for all who have the key already.
    let plain = shared.map(|shared| with(vec![shared]));
    let mut deliveries = Vec::new();
    for device in devices {
        match keys.get(&device) {
            Some(enc) => {
                let children = std::iter::once(*enc).chain(shared).collect();
                deliveries.push((device, with(children)));
            }
            None => deliveries.extend(plain.clone().map(|plain| (device, plain))),
        }
    }
    Ok(deliveries)
}
