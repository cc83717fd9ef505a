//! Asking again: a phone that cannot read a message asks the device that wrote it, as real ones do, and encloses keys
//! for a new session.

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Phone, SIGNED_PREKEY_ID, public_bytes};
use crate::sandbox::{
    network::{ConnectionId, Network},
    wire,
};

/// How often a phone asks for the same message.
const MAX_RETRIES: u32 = 3;

/// What libsignal puts before a public key: the only kind of curve there is.
const KEY_TYPE: u8 = 5;

impl Phone {
    /// Asks the author of a message for it.
    pub(super) async fn ask_again(&self, network: &Network, connection: ConnectionId, node: &Node) {
        let asked: u32 = node
            .get_children_by_tag("enc")
            .filter_map(|enc| wire::number(enc, "count"))
            .max()
            .unwrap_or(0);
        let (Some(id), Some(from)) = (wire::text(node, "id"), wire::jid(node, "from")) else {
            return;
        };
        if asked >= MAX_RETRIES {
            tracing::warn!("a phone gives up on a message");
            return;
        }
        let Some(keys) = self.fresh_keys(network).await else {
            return;
        };
        let retry = NodeBuilder::new("retry")
            .attr("count", asked + 1)
            .attr("id", id.as_str())
            .attr("t", wire::number(node, "t").unwrap_or_else(wire::now))
            .attr("v", "1")
            .build();
        let registration = wire::leaf(
            "registration",
            self.keys().stored.registration.to_be_bytes(),
        );
        let mut receipt = NodeBuilder::new("receipt")
            .attr("to", from)
            .attr("id", id)
            .attr("type", "retry");
        // A group's message names its author, one of an own device the chat.
        for key in ["participant", "recipient"] {
            if let Some(jid) = wire::jid(node, key) {
                receipt = receipt.attr(key, jid);
            }
        }
        let receipt = receipt.children([retry, registration, keys]).build();
        network.receive(connection, self.role(), receipt);
    }

    /// Keys that nobody else is given.
    async fn fresh_keys(&self, network: &Network) -> Option<Node> {
        let mut mind = self.mind.lock().await;
        let made = self.new_prekeys(network, &mut mind, 1)?;
        let (id, one_time) = made.into_iter().next()?;
        let own = self.keys();
        // Ids have three bytes on the wire.
        let id_bytes = |id: u32| id.to_be_bytes()[1..].to_vec();
        let one_time = NodeBuilder::new("key")
            .children([
                wire::leaf("id", id_bytes(id)),
                wire::leaf("value", one_time),
            ])
            .build();
        let signed = NodeBuilder::new("skey")
            .children([
                wire::leaf("id", id_bytes(SIGNED_PREKEY_ID)),
                wire::leaf("value", public_bytes(&own.signed_prekey.public_key)),
                wire::leaf("signature", own.stored.signed_prekey_signature),
            ])
            .build();
        Some(
            NodeBuilder::new("keys")
                .children([
                    wire::leaf("type", [KEY_TYPE]),
                    wire::leaf("identity", public_bytes(&own.identity.public_key)),
                    one_time,
                    signed,
                ])
                .build(),
        )
    }
}
