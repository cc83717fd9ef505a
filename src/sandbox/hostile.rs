//! What an honest network never does: stanzas, bytes and frames of the caller's choice for a device.
//!
//! For tests of clients against a hostile network. It goes to the connection that the device has now, past
//! routing, queues and faults, and nothing here looks at what it is.

use bytes::Bytes;
use wacore::messages::MessageUtils;
use wacore_binary::Node;

use super::{
    Sandbox, address::DeviceAddress, address::Number, error::SandboxError, network::Outgoing,
};

impl Sandbox {
    /// Sends a device any stanza.
    pub fn inject(&self, device: DeviceAddress, stanza: Node) -> Result<(), SandboxError> {
        self.inject_outgoing(device, Outgoing::Stanza(stanza.into()))
    }

    /// Sends a device a frame that holds these bytes where a stanza belongs: first the byte that says whether the
    /// rest is compressed, then the rest.
    pub fn inject_bytes(
        &self,
        device: DeviceAddress,
        bytes: impl Into<Bytes>,
    ) -> Result<(), SandboxError> {
        self.inject_outgoing(device, Outgoing::Plain(bytes.into()))
    }

    /// Sends a device a frame that its cipher cannot open.
    pub fn inject_frame(
        &self,
        device: DeviceAddress,
        frame: impl Into<Bytes>,
    ) -> Result<(), SandboxError> {
        self.inject_outgoing(device, Outgoing::Frame(frame.into()))
    }

    fn inject_outgoing(
        &self,
        device: DeviceAddress,
        outgoing: Outgoing,
    ) -> Result<(), SandboxError> {
        if device.is_phone() {
            return Err(SandboxError::invalid(
                "device",
                "is a phone of this network, which has no connection to attack",
            ));
        }
        let state = self.network.lock();
        state
            .device(device)
            .ok_or(SandboxError::NoSuchDevice(device))?;
        let link = state.links.get(&device);
        let link = link.ok_or(SandboxError::NotConnected(device))?;
        link.line.send(outgoing);
        Ok(())
    }

    /// A phone sends a user these bytes where the protobuf of a message belongs, padded and encrypted as ever.
    /// Returns the id: the one given, or a fresh one.
    pub async fn send_protobuf(
        &self,
        phone: Number,
        to: Number,
        id: Option<String>,
        protobuf: Vec<u8>,
    ) -> Result<String, SandboxError> {
        let padded = MessageUtils::pad_message_v2(protobuf);
        self.send_plaintext(phone, to, id, &padded).await
    }

    /// A phone sends a user these bytes as the whole plaintext of a message, without padding.
    pub async fn send_plaintext(
        &self,
        phone: Number,
        to: Number,
        id: Option<String>,
        plaintext: &[u8],
    ) -> Result<String, SandboxError> {
        let phone = self.network.find_phone(phone)?;
        phone.send_forged(to, id, plaintext).await
    }
}
