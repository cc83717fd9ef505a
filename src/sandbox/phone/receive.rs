//! What a phone hears: messages into its inbox, copies of what its companions sent, requests for keys and retries.

use bytes::Bytes;
use wacore_binary::{Node, builder::NodeBuilder};
use waproto::{buffa::Message as _, whatsapp::Message};

use super::{Phone, since_epoch};
use crate::sandbox::{
    address::{DeviceAddress, Number},
    audience::Audience,
    error::SandboxError,
    network::{ConnectionId, Network},
    phone::inbox::{InboxMessage, text_of},
    store::Batch,
    wire,
};

/// Offline stanzas asked for at once.
const PULL: usize = 100;

impl Phone {
    /// A stanza from the network.
    pub(super) async fn handle(&self, network: &Network, connection: ConnectionId, node: &Node) {
        match &*node.tag {
            "message" => self.handle_message(network, connection, node).await,
            "receipt" => {
                if wire::is(node, "type", "server-error")
                    && let Some(device) = sender(network, node)
                {
                    self.leave_again(network, device, node);
                }
                if wire::is(node, "type", "retry")
                    && let Some(device) = sender(network, node)
                    && self
                        .send_again(network, connection, device, node)
                        .await
                        .is_none()
                {
                    tracing::debug!("a phone has nothing to send again");
                }
                self.hear_offer_receipt(node);
                self.acknowledge(network, connection, node);
            }
            "call" => {
                self.acknowledge(network, connection, node);
                self.hear_call(network, node);
            }
            "chatstate" => {
                if let Some(device) = sender(network, node) {
                    self.typing.show(device, node);
                }
            }
            "iq" => self.replies.deliver(node),
            // Receipts are acknowledged under the same ids as messages.
            "ack" if wire::is(node, "class", "message") => self.replies.deliver(node),
            "notification" => {
                if wire::is(node, "type", "encrypt") {
                    match (node.get_optional_child("identity"), sender(network, node)) {
                        (Some(_), Some(device)) => self.hear_of_reinstall(network, device).await,
                        _ => self.upload_prekeys(network, connection).await,
                    }
                }
                if wire::is(node, "type", "server_sync") {
                    self.hear_of_patches(network, node);
                }
                self.acknowledge(network, connection, node);
            }
            "ib" if node.get_optional_child("offline_preview").is_some() => {
                self.pull(network, connection)
            }
            _ => {}
        }
        let sent: Option<usize> = wire::number(node, "offline");
        if sent.is_some_and(|sent| sent % PULL == PULL - 1) {
            self.pull(network, connection);
        }
    }

    fn pull(&self, network: &Network, connection: ConnectionId) {
        let batch = NodeBuilder::new("offline_batch")
            .attr("count", PULL)
            .build();
        let pull = NodeBuilder::new("ib").children([batch]).build();
        network.receive(connection, self.role(), pull);
    }

    async fn handle_message(&self, network: &Network, connection: ConnectionId, node: &Node) {
        match self.read(network, connection, node).await {
            Ok(Some(companion)) => {
                self.acknowledge(network, connection, node);
                if let Err(error) = self.share_keys(companion).await {
                    tracing::warn!(%error, "a phone did not share its keys");
                }
            }
            Ok(None) => self.confirm(network, connection, node),
            Err(error) => {
                tracing::warn!(%error, "a phone cannot read a message");
                self.acknowledge(network, connection, node);
            }
        }
    }

    /// Decrypts a message into the inbox. Answers with the device that asked for keys, if that is what it was.
    async fn read(
        &self,
        network: &Network,
        connection: ConnectionId,
        node: &Node,
    ) -> Result<Option<DeviceAddress>, SandboxError> {
        let malformed = || SandboxError::crypto("a message without id, sender or ciphertext");
        let id = wire::text(node, "id").ok_or_else(malformed)?;
        let from = wire::jid(node, "from").ok_or_else(malformed)?;
        let device = sender(network, node).ok_or_else(malformed)?;
        if let Some(audience) = Audience::of(&from) {
            let read = self
                .read_as_one_of_many(network, audience, device, id, node)
                .await?;
            if !read {
                self.ask_again(network, connection, node).await;
                return Err(SandboxError::crypto("a key is missing; asked for it"));
            }
            return Ok(None);
        }
        if self.inbox.has(device.number, &id) {
            return Ok(None);
        }
        let enc = node.get_optional_child("enc").ok_or_else(malformed)?;
        let kind = wire::text(enc, "type").ok_or_else(malformed)?;
        let bytes = wire::bytes(enc).ok_or_else(malformed)?;
        let mut mind = self.mind.lock().await;
        let mut batch = Batch::default();
        let opened = mind.signal.decrypt(device, &kind, bytes, &mut batch).await;
        let message = match opened {
            Ok(message) => message,
            Err(error) => {
                drop(mind);
                self.ask_again(network, connection, node).await;
                return Err(error);
            }
        };
        let own = device.number == self.number;
        let asks_for_keys = own
            && message
                .protocol_message
                .as_option()
                .is_some_and(|protocol| protocol.app_state_sync_key_request.as_option().is_some());
        let peer = wire::is(node, "category", "peer");
        if asks_for_keys || peer {
            network.store.commit(&batch)?;
            return Ok(asks_for_keys.then_some(device));
        }
        let chat = if own {
            recipient(network, node, &message)
        } else {
            Some(device.number)
        };
        let message = InboxMessage {
            chat: chat.unwrap_or(self.number),
            by_lid: from.is_lid(),
            ..self.entry(id, device, node, message)
        };
        let seen = self.inbox.stage(message, &mut batch);
        // Stored before the network hears that it arrived.
        network.store.commit(&batch)?;
        self.inbox.publish(seen);
        Ok(None)
    }

    /// What the inbox shows of a message: what another own device wrote comes in an envelope.
    pub(super) fn entry(
        &self,
        id: String,
        device: DeviceAddress,
        node: &Node,
        message: Message,
    ) -> InboxMessage {
        let own = device.number == self.number;
        let message = match message.device_sent_message.into_option() {
            Some(copy) if own => copy.message.into_option().unwrap_or_default(),
            copy => Message {
                device_sent_message: copy.into(),
                ..message
            },
        };
        InboxMessage {
            sequence: 0,
            id,
            chat: device.number,
            group: None,
            status: false,
            sender: device,
            by_lid: false,
            push_name: wire::text(node, "notify").unwrap_or_default(),
            time: since_epoch(wire::number(node, "t").unwrap_or_else(wire::now)),
            text: text_of(&message),
            message: Bytes::from(message.encode_to_vec()),
        }
    }

    /// A switched-on phone says that a message arrived; a dormant one only takes it off the network's hands.
    fn confirm(&self, network: &Network, connection: ConnectionId, node: &Node) {
        let from_other = sender(network, node).is_some_and(|device| device.number != self.number);
        let live = network
            .lock()
            .accounts
            .get(&self.number)
            .is_some_and(|account| account.live);
        match (wire::text(node, "id"), wire::jid(node, "from")) {
            (Some(id), Some(from)) if live && from_other => {
                let receipt = NodeBuilder::new("receipt").attr("to", from).attr("id", id);
                let receipt = with_participant(receipt, node).build();
                network.receive(connection, self.role(), receipt);
            }
            _ => self.acknowledge(network, connection, node),
        }
    }

    fn acknowledge(&self, network: &Network, connection: ConnectionId, node: &Node) {
        if let (Some(id), Some(from)) = (wire::text(node, "id"), wire::jid(node, "from")) {
            let ack = NodeBuilder::new("ack")
                .attr("class", node.tag.as_ref())
                .attr("id", id)
                .attr("to", from);
            let ack = with_participant(ack, node).build();
            network.receive(connection, self.role(), ack);
        }
    }
}

/// In a group it takes both names to say what an answer is about.
fn with_participant(answer: NodeBuilder, node: &Node) -> NodeBuilder {
    match wire::jid(node, "participant") {
        Some(participant) => answer.attr("participant", participant),
        None => answer,
    }
}

/// The device a stanza comes from.
fn sender(network: &Network, node: &Node) -> Option<DeviceAddress> {
    let from = wire::jid(node, "from")?;
    let from = match Audience::of(&from) {
        Some(_) => wire::jid(node, "participant")?,
        None => from,
    };
    let state = network.lock();
    let (account, _) = state.account_of(&from)?;
    Some(account.number.device(from.device))
}

/// The other side of a chat in which an own companion wrote.
fn recipient(network: &Network, node: &Node, message: &Message) -> Option<Number> {
    let named = message
        .device_sent_message
        .as_option()
        .and_then(|copy| copy.destination_jid.as_deref()?.parse().ok());
    let chat = named.or_else(|| wire::jid(node, "recipient"))?;
    let state = network.lock();
    Some(state.account_of(&chat)?.0.number)
}
