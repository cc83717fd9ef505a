//! What a phone says: texts, copies of them for its own companions, and a message once more for a device that could
//! not read it.

use bytes::Bytes;
use wacore::{send::stanza_type_from_message, types::message::EditAttribute};
use wacore_binary::{Jid, Node, builder::NodeBuilder};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{Message, message},
};

use super::{Mind, OUTBOX, Phone, since_epoch};
use crate::sandbox::{
    address::{DeviceAddress, Number},
    audience::Audience,
    error::SandboxError,
    iq::encrypt::Bundle,
    keys::random_bytes,
    model::DeviceKeys,
    network::{ConnectionId, Network, State},
    phone::inbox::{InboxMessage, text_of},
    store::Batch,
    wire,
};

/// Longest text WhatsApp takes.
const MAX_TEXT: usize = 65_536;

/// A text on its way.
#[derive(Debug, Clone)]
pub struct SentText {
    /// The WhatsApp message id.
    pub id: String,
    /// When it was sent.
    pub time: std::time::SystemTime,
}

/// Where a message goes and under which names.
pub(super) struct Route {
    pub(super) chat: Jid,
    pub(super) devices: Vec<(DeviceAddress, Jid)>,
    push_name: String,
}

impl Phone {
    /// Sends a text to every device of a user and to the account's own companions.
    pub async fn send_text(&self, to: Number, text: &str) -> Result<SentText, SandboxError> {
        check_text(text)?;
        let message = Message {
            conversation: Some(text.to_owned()),
            ..Default::default()
        };
        self.send(to, message).await
    }

    /// The same under an id that the caller chooses, such as one that a companion has used.
    pub async fn send_text_as(
        &self,
        to: Number,
        text: &str,
        id: String,
    ) -> Result<SentText, SandboxError> {
        check_text(text)?;
        let message = Message {
            conversation: Some(text.to_owned()),
            ..Default::default()
        };
        self.send_as(to, message, id).await
    }

    /// Sends a message to every device of a user and to the account's own companions.
    pub async fn send(&self, to: Number, message: Message) -> Result<SentText, SandboxError> {
        self.send_as(to, message, message_id()).await
    }

    async fn send_as(
        &self,
        to: Number,
        message: Message,
        id: String,
    ) -> Result<SentText, SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let mut mind = self.mind.lock().await;
        let (route, connection) = {
            let state = network.lock();
            let link = state.links.get(&self.address());
            let connection = link.map(|link| link.connection);
            (
                self.route(&state, to)?,
                connection.ok_or(SandboxError::NotConnected(self.address()))?,
            )
        };
        let time = wire::now();
        let copy = own_copy(&route.chat, message.clone());
        let mut batch = Batch::default();
        let mut participants = Vec::new();
        for (device, jid) in &route.devices {
            let own = device.number == self.number && to != self.number;
            let body = if own { &copy } else { &message };
            if let Some(enc) = self
                .seal(&network, &mut mind, *device, body, &mut batch)
                .await
            {
                participants.push(
                    NodeBuilder::new("to")
                        .attr("jid", jid)
                        .children([enc])
                        .build(),
                );
            }
        }
        let seen = self.inbox.stage(
            InboxMessage {
                sequence: 0,
                id: id.clone(),
                chat: to,
                group: None,
                status: false,
                sender: self.address(),
                by_lid: route.chat.is_lid(),
                push_name: route.push_name,
                time: since_epoch(time),
                text: text_of(&message),
                message: Bytes::from(message.encode_to_vec()),
            },
            &mut batch,
        );
        // A ratchet that has moved must be stored before what it encrypted can be seen.
        network.store.commit(&batch)?;
        self.inbox.publish(seen);
        let stanza = kind(NodeBuilder::new("message"), &message);
        let stanza = for_devices(stanza, route.chat, &id, participants);
        network.receive(connection, self.role(), stanza);
        Ok(SentText {
            id,
            time: since_epoch(time),
        })
    }

    pub(super) fn route(&self, state: &State, to: Number) -> Result<Route, SandboxError> {
        let own = state.accounts.get(&self.number);
        let own = own.ok_or(SandboxError::NoSuchPhone(self.number))?;
        let peer = state.accounts.get(&to);
        let peer = peer.ok_or_else(|| SandboxError::NoSuchUser(to.to_string()))?;
        let namespace = own.namespace();
        let mut devices: Vec<(DeviceAddress, Jid)> = Vec::new();
        for account in [peer, own] {
            for address in account.addresses() {
                let known = devices.iter().any(|(device, _)| *device == address);
                if address != self.address() && !known {
                    devices.push((address, account.device_jid(namespace, address.device)));
                }
            }
        }
        Ok(Route {
            chat: peer.jid(namespace),
            devices,
            push_name: own.push_name.clone(),
        })
    }

    /// The ciphertext for a device; none for one that has no keys yet or cannot be encrypted to.
    pub(super) async fn seal(
        &self,
        network: &Network,
        mind: &mut Mind,
        device: DeviceAddress,
        message: &Message,
        batch: &mut Batch,
    ) -> Option<Node> {
        self.meet(network, mind, device).await?;
        let sealed = mind
            .signal
            .encrypt(device, message, batch)
            .await
            .inspect_err(|error| tracing::warn!(%error, "a phone cannot encrypt"))
            .ok()?;
        Some(sealed.node())
    }

    /// Sees that there is a session with a device; none with one that has no keys yet.
    pub(super) async fn meet(
        &self,
        network: &Network,
        mind: &mut Mind,
        device: DeviceAddress,
    ) -> Option<()> {
        if mind.signal.has_session(device) {
            return Some(());
        }
        let bundle = network.lock().take_bundle(device)?;
        mind.signal
            .start_session(device, &bundle)
            .await
            .inspect_err(|error| tracing::warn!(%error, "a phone cannot start a session"))
            .ok()
    }

    /// Encrypts a sent message anew for a device that could not read it.
    pub(super) async fn send_again(
        &self,
        network: &Network,
        connection: ConnectionId,
        device: DeviceAddress,
        receipt: &Node,
    ) -> Option<()> {
        let id = wire::text(receipt, "id")?;
        let to = wire::jid(receipt, "from")?;
        let count: u32 = wire::number(receipt.get_optional_child("retry")?, "count").unwrap_or(1);
        let mut mind = self.mind.lock().await;
        let mut message = self.sent_message(&mind, device, &id)?;
        let mut batch = Batch::default();
        let audience = Audience::of(&to);
        if let Some(audience) = audience {
            self.enclose_key(&mut mind, audience, device, &mut message, &mut batch)
                .await?;
        }
        mind.signal.end_session(device, &mut batch);
        if let Some(bundle) = enclosed_bundle(receipt) {
            mind.signal.start_session(device, &bundle).await.ok()?;
        }
        let mut enc = self
            .seal(network, &mut mind, device, &message, &mut batch)
            .await?;
        enc.attrs.insert("count", count);
        network.store.commit(&batch).ok()?;
        let stanza = kind(NodeBuilder::new("message"), &message)
            .attr("to", to)
            .attr("id", id)
            .children([enc]);
        let stanza = match wire::jid(receipt, "participant").filter(|_| audience.is_some()) {
            Some(device) => stanza.attr("participant", device).build(),
            None => stanza.build(),
        };
        network.receive(connection, self.role(), stanza);
        Some(())
    }

    /// A message as it was sent to a device.
    fn sent_message(&self, mind: &Mind, device: DeviceAddress, id: &str) -> Option<Message> {
        let said = self.inbox.said_by(self.number, id);
        let Some(said) = said else {
            let (_, unseen) = mind.outbox.iter().find(|(sent, _)| sent == id)?;
            return Message::decode_from_slice(unseen).ok();
        };
        let message = Message::decode_from_slice(&said.message).ok()?;
        if device.number != self.number || said.chat == self.number {
            return Some(message);
        }
        let network = self.network.upgrade()?;
        let state = network.lock();
        let namespace = state.accounts.get(&self.number)?.namespace();
        let chat = state.accounts.get(&said.chat)?.jid(namespace);
        Some(own_copy(&chat, message))
    }
}

/// What the account's other devices get of a message: the message and the chat it was written in.
fn own_copy(chat: &Jid, message: Message) -> Message {
    Message {
        device_sent_message: MessageField::some(message::DeviceSentMessage {
            destination_jid: Some(chat.to_string()),
            message: MessageField::some(message),
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Mind {
    /// Keeps what no screen shows, or not yet, for devices that ask for it again.
    pub(super) fn remember(&mut self, id: String, message: Bytes) {
        if self.outbox.len() == OUTBOX {
            self.outbox.pop_front();
        }
        self.outbox.push_back((id, message));
    }
}

/// The keys a device puts into its request, so that nobody has to ask the server.
fn enclosed_bundle(receipt: &Node) -> Option<Bundle> {
    let keys = receipt.get_optional_child("keys")?;
    let signed = keys.get_optional_child("skey")?;
    let one_time = keys
        .get_optional_child("key")
        .and_then(|key| Some((wire::child_be(key, "id")?, wire::child_array(key, "value")?)));
    Some(Bundle {
        identity: wire::child_array(keys, "identity")?,
        keys: DeviceKeys {
            registration: wire::child_be(receipt, "registration")?,
            signed_id: wire::child_be(signed, "id")?,
            signed_public: wire::child_array(signed, "value")?,
            signature: wire::child_array(signed, "signature")?,
        },
        one_time,
        device_identity: Vec::new(),
    })
}

/// Refuses what is no text to send.
pub fn check_text(text: &str) -> Result<(), SandboxError> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(SandboxError::invalid("text", "must have 1 to 65536 bytes"));
    }
    Ok(())
}

/// What a stanza says of the message that it carries: its kind, and whether it changes another one.
pub(super) fn kind(stanza: NodeBuilder, message: &Message) -> NodeBuilder {
    let stanza = stanza.attr("type", stanza_type_from_message(message));
    match EditAttribute::infer_from_message(message) {
        Some(edit) => stanza.attr("edit", edit.to_string_val()),
        None => stanza,
    }
}

/// A message to a person, begun with what it is, with a ciphertext for each device.
pub(super) fn for_devices(
    stanza: NodeBuilder,
    chat: Jid,
    id: &str,
    participants: Vec<Node>,
) -> Node {
    let participants = NodeBuilder::new("participants").children(participants);
    stanza
        .attr("to", chat)
        .attr("id", id)
        .children([participants.build()])
        .build()
}

/// An id as phones make them.
pub(super) fn message_id() -> String {
    hex::encode_upper(random_bytes::<16>())
}
