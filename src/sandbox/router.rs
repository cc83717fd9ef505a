//! Routing: a message to every device it names, receipts back to its author, and what waited to a device that is back.
//!
//! A stanza for a device is stored before its sender gets the ack, sent when the device is there, and leaves the
//! queue only by the device's receipt or ack. Never decrypts anything.

use std::sync::Arc;

use wacore_binary::{Jid, Node, NodeContent, builder::NodeBuilder};

use super::{
    address::{DeviceAddress, Namespace, Number},
    audience::Audience,
    group::GroupId,
    model::Account,
    network::State,
    queue::{Delivery, Queue, Stored},
    store::Batch,
    wire::{self, WireError},
};

/// Sent unasked when a device comes back; the rest it pulls in batches.
const PRIMER: usize = 5;
const MAX_BATCH: usize = 200;

/// A device that never pulls gets the rest anyway after this.
const PULL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// How far a connected device is with its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has not said `active` yet.
    Waiting,
    /// It is getting what waited.
    Draining {
        /// The last queue position sent.
        after: u64,
        /// How many were sent.
        sent: usize,
        /// It has asked for a batch.
        pulled: bool,
    },
    /// It gets everything at once.
    Live,
}

/// Attributes of a message that its recipients see as they were sent.
const COPIED: [&str; 5] = [
    "type",
    "edit",
    "category",
    "push_priority",
    "addressing_mode",
];

impl State {
    /// Stores stanzas for their devices and sends them to those that are there.
    pub(super) fn enqueue(
        &mut self,
        deliveries: Vec<Delivery>,
        batch: Batch,
    ) -> Result<(), WireError> {
        let full = |(address, _): &Delivery| self.queues.get(address).is_some_and(Queue::is_full);
        if deliveries.iter().any(full) {
            return Err(WireError::UNAVAILABLE);
        }
        self.enqueue_unchecked(deliveries, batch)
    }

    /// The same for what can be missed and what many get: a device whose queue is full misses it, the others do not.
    pub(super) fn enqueue_where_room(
        &mut self,
        mut deliveries: Vec<Delivery>,
        batch: Batch,
    ) -> Result<(), WireError> {
        deliveries.retain(|(address, _)| {
            let room = !self.queues.get(address).is_some_and(Queue::is_full);
            if !room {
                tracing::warn!("a device whose queue is full misses a stanza");
            }
            room
        });
        self.enqueue_unchecked(deliveries, batch)
    }

    fn enqueue_unchecked(
        &mut self,
        deliveries: Vec<Delivery>,
        mut batch: Batch,
    ) -> Result<(), WireError> {
        let durable = self.store.is_durable();
        let mut encoded: Option<(Arc<Node>, Stored)> = None;
        for (address, node) in &deliveries {
            // A shared stanza is encoded once for all in a row.
            let fresh = match encoded.take_if(|(known, _)| Arc::ptr_eq(known, node)) {
                Some(known) => known,
                None => match Stored::of(node) {
                    Ok(stored) => (node.clone(), stored),
                    Err(error) => {
                        tracing::error!(%error, "a routed stanza does not encode");
                        continue;
                    }
                },
            };
            self.queues.entry(*address).or_default().append(
                *address,
                node.clone(),
                &fresh.1,
                durable.then_some(&mut batch),
            );
            encoded = Some(fresh);
        }
        self.commit(&batch).map_err(|_| WireError::INTERNAL)?;
        for (address, node) in deliveries {
            if self
                .links
                .get(&address)
                .is_some_and(|link| link.phase == Phase::Live)
            {
                self.push(address, node);
            }
        }
        Ok(())
    }

    /// `<message>` from a device.
    pub(super) fn handle_message(&mut self, from: DeviceAddress, node: &Node) {
        let (Some(id), Some(to)) = (wire::text(node, "id"), wire::jid(node, "to")) else {
            return;
        };
        let outcome = match Audience::of(&to) {
            Some(Audience::Group(group)) => self.route_to_group(from, &id, group, node),
            Some(Audience::Status) => self.route_status(from, &id, node).map(|()| None),
            None => self.route_to_user(from, &id, &to, node).map(|()| None),
        };
        let mut ack = NodeBuilder::new("ack")
            .attr("class", "message")
            .attr("id", id)
            .attr("from", to)
            .attr("t", wire::now());
        match outcome {
            Ok(None) => {}
            Ok(Some(phash)) => ack = ack.attr("phash", phash),
            Err(error) => ack = ack.attr("error", error.0),
        }
        self.push(from, ack.build());
    }

    /// Answers with the hash of the group's devices if the sender knows others.
    fn route_to_group(
        &mut self,
        from: DeviceAddress,
        id: &str,
        group: GroupId,
        node: &Node,
    ) -> Result<Option<String>, WireError> {
        let sender = self.accounts.get(&from.number);
        let sender = sender.ok_or(WireError::FORBIDDEN)?;
        let envelope = envelope(id, sender, node);
        let routed = self.fan_out_to_group(from, group, node, envelope, &extras(node))?;
        self.enqueue_where_room(routed.deliveries, Batch::default())?;
        Ok(routed.phash)
    }

    fn route_status(
        &mut self,
        from: DeviceAddress,
        id: &str,
        node: &Node,
    ) -> Result<(), WireError> {
        let sender = self.accounts.get(&from.number);
        let envelope = envelope(id, sender.ok_or(WireError::FORBIDDEN)?, node);
        let deliveries = self.fan_out_status(from, node, envelope, &extras(node))?;
        self.enqueue_where_room(deliveries, Batch::default())
    }

    fn route_to_user(
        &mut self,
        from: DeviceAddress,
        id: &str,
        to: &Jid,
        node: &Node,
    ) -> Result<(), WireError> {
        let sender = self
            .accounts
            .get(&from.number)
            .ok_or(WireError::FORBIDDEN)?;
        let (recipient, chat_namespace) = self.account_of(to).ok_or(WireError::NOT_FOUND)?;
        self.check_stranger(sender, recipient)?;
        let chat = recipient.jid(chat_namespace);
        let (envelope, extras) = (envelope(id, sender, node), extras(node));

        let mut deliveries = Vec::new();
        for (jid, enc) in ciphertexts(to, node) {
            let (account, namespace) = self.account_of(&jid).ok_or(WireError::BAD_REQUEST)?;
            let own = account.number == sender.number;
            if !own && account.number != recipient.number {
                return Err(WireError::BAD_REQUEST);
            }
            let address = account.number.device(jid.device);
            if address == from || !account.devices.contains_key(&jid.device) {
                continue;
            }
            let mut copy = envelope.clone();
            copy.attrs
                .insert("from", sender.device_jid(namespace, from.device));
            if !own {
                let (key, other) = other_name(sender, namespace);
                copy.attrs.insert(key, other);
            } else if recipient.number != sender.number {
                copy.attrs.insert("recipient", &chat);
                if chat_namespace == Namespace::Lid {
                    copy.attrs
                        .insert("peer_recipient_pn", recipient.number.jid());
                }
            }
            let content = std::iter::once(enc.clone())
                .chain(extras.iter().cloned())
                .collect();
            copy.content = Some(NodeContent::Nodes(content));
            deliveries.push((address, copy.into()));
        }
        let (one, other) = (sender.number, recipient.number);
        let mut batch = Batch::default();
        self.acquaint(one, other, &mut batch);
        self.acquaint(other, one, &mut batch);
        self.enqueue(deliveries, batch)
    }

    fn acquaint(&mut self, number: Number, peer: Number, batch: &mut Batch) {
        if number != peer
            && let Some(account) = self.accounts.get_mut(&number)
            && account.peers.insert(peer)
        {
            account.save(batch);
        }
    }

    /// `<receipt>` from a device: takes its messages out of the queue and goes on to who should know.
    pub(super) fn handle_receipt(&mut self, from: DeviceAddress, node: &Node) {
        let (Some(id), Some(to)) = (wire::text(node, "id"), wire::jid(node, "to")) else {
            return;
        };
        let kind = wire::text(node, "type").unwrap_or_default();
        let mut batch = Batch::default();
        let retry = matches!(kind.as_str(), "retry" | "enc_rekey_retry");
        let participant = wire::jid(node, "participant");
        if !retry {
            let more = node
                .get_optional_child("list")
                .into_iter()
                .flat_map(|list| list.get_children_by_tag("item"))
                .filter_map(|item| wire::text(item, "id"));
            for id in std::iter::once(id.clone()).chain(more) {
                let read = Confirmed {
                    tag: "message",
                    id: &id,
                    chat: &to,
                    participant: participant.as_ref(),
                };
                self.dequeue(from, &read, usize::MAX, &mut batch);
            }
        }
        let deliveries = match Audience::of(&to) {
            Some(Audience::Group(group)) => {
                self.group_receipt_deliveries(from, group, &kind, retry, node)
            }
            Some(Audience::Status) => self.status_receipt_deliveries(from, &kind, retry, node),
            None => self.receipt_deliveries(from, &to, &kind, retry, node),
        };
        // An author who does not come does not keep the readers' queues from emptying.
        if let Err(error) = self.enqueue_where_room(deliveries, batch) {
            tracing::warn!(error.code = error.0, "a receipt was not routed");
            return;
        }
        let mut ack = NodeBuilder::new("ack")
            .attr("class", "receipt")
            .attr("id", id)
            .attr("from", to)
            .attr("t", wire::now());
        if !kind.is_empty() {
            ack = ack.attr("type", kind);
        }
        if let Some(participant) = participant {
            ack = ack.attr("participant", participant);
        }
        self.push(from, ack.build());
    }

    fn receipt_deliveries(
        &self,
        from: DeviceAddress,
        to: &Jid,
        kind: &str,
        retry: bool,
        node: &Node,
    ) -> Vec<Delivery> {
        let (Some(reader), Some((author, namespace))) =
            (self.accounts.get(&from.number), self.account_of(to))
        else {
            return Vec::new();
        };
        let own_business = matches!(kind, "read-self" | "played-self" | "sender");
        let targets: Vec<DeviceAddress> = if retry || one_device(kind, node) {
            vec![author.number.device(to.device)]
        } else if own_business {
            reader.addresses().collect()
        } else {
            author.addresses().collect()
        };
        let mut receipt = node.clone();
        receipt.attrs.0.retain(|(key, _)| key != "to");
        receipt.attrs.insert("t", wire::now());
        receipt
            .attrs
            .insert("from", reader.device_jid(namespace, from.device));
        for key in ["participant", "recipient"] {
            // Some clients write JIDs as text; others take nothing but JIDs.
            if let Some(jid) = wire::jid(node, key) {
                receipt.attrs.insert(key, jid);
            }
        }
        if own_business {
            receipt.attrs.insert("recipient", author.jid(namespace));
        }
        let receipt = Arc::new(receipt);
        targets
            .into_iter()
            .filter(|target| *target != from && self.device(*target).is_some())
            .map(|target| (target, receipt.clone()))
            .collect()
    }

    /// `<ack>` from a device: what it names has arrived, even if the device could make nothing of it.
    pub(super) fn handle_ack(&mut self, from: DeviceAddress, node: &Node) {
        let (Some(id), Some(class)) = (wire::text(node, "id"), wire::text(node, "class")) else {
            return;
        };
        if let Some(error) = wire::text(node, "error") {
            tracing::debug!(error, class, "a device refused a stanza");
        }
        let to = wire::jid(node, "to").unwrap_or_else(wire::server);
        let mut batch = Batch::default();
        let participant = wire::jid(node, "participant");
        let arrived = Confirmed {
            tag: &class,
            id: &id,
            chat: &to,
            participant: participant.as_ref(),
        };
        // A retry may have queued the same id again behind the one this ack is for.
        self.dequeue(from, &arrived, 1, &mut batch);
        let _ = self.commit(&batch);
    }

    fn dequeue(
        &mut self,
        device: DeviceAddress,
        confirmed: &Confirmed<'_>,
        most: usize,
        batch: &mut Batch,
    ) {
        // Where many write, two may choose the same id.
        let in_group = Audience::of(confirmed.chat).is_some();
        let sender = if in_group {
            confirmed.participant
        } else {
            Some(confirmed.chat)
        };
        let sender = sender.and_then(|jid| self.account_of(jid).map(|(account, _)| account.number));
        let Some(queue) = self.queues.get(&device) else {
            return;
        };
        let found = queue.find(confirmed.tag, confirmed.id, |node| {
            let from = wire::jid(node, if in_group { "participant" } else { "from" })
                .and_then(|jid| self.account_of(&jid).map(|(account, _)| account.number));
            sender.is_some() && from == sender
        });
        if let Some(queue) = self.queues.get_mut(&device) {
            for position in found.into_iter().take(most) {
                queue.remove(device, position, batch);
            }
        }
    }

    /// `<ib>` from a device: pulls of the offline queue.
    pub(super) fn handle_ib(&mut self, from: DeviceAddress, node: &Node) {
        if let Some(pull) = node.get_optional_child("offline_batch") {
            let count = wire::number(pull, "count").unwrap_or(MAX_BATCH);
            if let Some(link) = self.links.get_mut(&from)
                && let Phase::Draining { pulled, .. } = &mut link.phase
            {
                *pulled = true;
                self.drain(from, count.min(MAX_BATCH));
            }
        }
    }

    /// The device is ready for what waited.
    pub(super) fn activate(&mut self, address: DeviceAddress) {
        let Some(link) = self.links.get_mut(&address) else {
            return;
        };
        if link.phase != Phase::Waiting {
            return;
        }
        link.phase = Phase::Draining {
            after: 0,
            sent: 0,
            pulled: false,
        };
        let connection = link.connection;
        let queue = self.queues.entry(address).or_default();
        let waiting = queue.len();
        if waiting > 0 {
            let preview = NodeBuilder::new("offline_preview")
                .attr("count", waiting)
                .attr("message", queue.count("message"))
                .attr("notification", queue.count("notification"))
                .attr("receipt", queue.count("receipt"))
                .attr("call", queue.count("call"))
                .build();
            self.push(address, wire::ib(preview));
        }
        self.drain(address, PRIMER);
        if waiting > PRIMER {
            let network = self.network.clone();
            self.later(PULL_PATIENCE, move || {
                if let Some(network) = network.upgrade() {
                    network.lock().drain_impatiently(address, connection);
                }
            });
        }
    }

    fn drain_impatiently(
        &mut self,
        address: DeviceAddress,
        connection: super::network::ConnectionId,
    ) {
        let waits = self.links.get(&address).is_some_and(|link| {
            link.connection == connection
                && matches!(link.phase, Phase::Draining { pulled: false, .. })
        });
        if waits {
            self.drain(address, usize::MAX);
        }
    }

    /// Sends the next of what waited; after the last, the end marker.
    fn drain(&mut self, address: DeviceAddress, count: usize) {
        let (Some(link), Some(queue)) = (self.links.get_mut(&address), self.queues.get(&address))
        else {
            return;
        };
        let Phase::Draining { after, sent, .. } = &mut link.phase else {
            return;
        };
        let next: Vec<Node> = queue
            .after(*after)
            .take(count)
            .map(|(position, waiting)| {
                let mut node = Node::clone(waiting);
                node.attrs.insert("offline", *sent);
                (*after, *sent) = (position, *sent + 1);
                node
            })
            .collect();
        let finished = queue.after(*after).next().is_none();
        let total = *sent;
        if finished {
            link.phase = Phase::Live;
        }
        for node in next {
            self.push(address, node);
        }
        if finished {
            let marker = NodeBuilder::new("offline").attr("count", total).build();
            self.push(address, wire::ib(marker));
        }
    }
}

/// What names a stanza that a device says it has.
struct Confirmed<'c> {
    tag: &'c str,
    id: &'c str,
    /// Where it came from: somebody, a group or the server.
    chat: &'c Jid,
    /// Who it came from in a group.
    participant: Option<&'c Jid>,
}

/// What all recipients of a message see of it.
fn envelope(id: &str, sender: &Account, node: &Node) -> Node {
    let mut envelope = NodeBuilder::new("message")
        .attr("id", id)
        .attr("t", wire::now());
    for key in COPIED {
        if let Some(value) = node.attrs.get(key) {
            envelope = envelope.attr(key, value.clone());
        }
    }
    envelope.attr("notify", sender.push_name.as_str()).build()
}

/// What stands beside the ciphertexts.
fn extras(node: &Node) -> Vec<Node> {
    node.children()
        .unwrap_or_default()
        .iter()
        .filter(|child| !matches!(&*child.tag, "participants" | "enc" | "tctoken" | "cstoken"))
        .cloned()
        .collect()
}

/// Whether a receipt is only for the device that it names: of what devices tell one another, and of the offer of a
/// call.
fn one_device(kind: &str, node: &Node) -> bool {
    matches!(kind, "peer_msg" | "hist_sync") || node.get_optional_child("offer").is_some()
}

/// Each ciphertext of a message with the device it is for.
fn ciphertexts<'n>(to: &Jid, node: &'n Node) -> Vec<(Jid, &'n Node)> {
    if let Some(enc) = node.get_optional_child("enc") {
        return vec![(to.clone(), enc)];
    }
    node.get_optional_child("participants")
        .into_iter()
        .flat_map(|participants| participants.get_children_by_tag("to"))
        .filter_map(|item| Some((wire::jid(item, "jid")?, item.get_optional_child("enc")?)))
        .collect()
}

/// The name of the sender in the other namespace, and the attribute it travels in.
fn other_name(sender: &Account, namespace: Namespace) -> (&'static str, Jid) {
    match namespace {
        Namespace::Number => ("sender_lid", sender.lid.jid()),
        Namespace::Lid => ("sender_pn", sender.number.jid()),
    }
}
