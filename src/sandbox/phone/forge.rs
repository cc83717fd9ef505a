//! What no honest phone sends: any bytes inside a real Signal message.
//!
//! For tests of clients. Nothing of it enters an inbox or can be asked for again.

use wacore_binary::builder::NodeBuilder;

use super::{
    Phone,
    send::{for_devices, message_id},
};
use crate::sandbox::{
    address::{DeviceAddress, Number},
    error::SandboxError,
    store::Batch,
};

impl Phone {
    /// Encrypts bytes for every device of a user, as the whole plaintext; the id is the sender's choice.
    pub async fn send_forged(
        &self,
        to: Number,
        id: Option<String>,
        plaintext: &[u8],
    ) -> Result<String, SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let mut mind = self.mind.lock().await;
        let (route, connection) = {
            let state = network.lock();
            let link = state.links.get(&self.address());
            let link = link.ok_or(SandboxError::NotConnected(self.address()))?;
            (self.route(&state, to)?, link.connection)
        };
        let mut batch = Batch::default();
        let mut participants = Vec::new();
        let is_theirs = |device: &DeviceAddress| device.number == to;
        for (device, jid) in route.devices.iter().filter(|(device, _)| is_theirs(device)) {
            if self.meet(&network, &mut mind, *device).await.is_none() {
                continue;
            }
            let sealed = mind
                .signal
                .encrypt_padded(*device, plaintext, &mut batch)
                .await
                .map_err(SandboxError::crypto)?;
            participants.push(
                NodeBuilder::new("to")
                    .attr("jid", jid)
                    .children([sealed.node()])
                    .build(),
            );
        }
        network.store.commit(&batch)?;
        let id = id.unwrap_or_else(message_id);
        let stanza = NodeBuilder::new("message").attr("type", "text");
        let stanza = for_devices(stanza, route.chat, &id, participants);
        network.receive(connection, self.role(), stanza);
        Ok(id)
    }
}
