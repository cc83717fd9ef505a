//! Leaving a file once more: a companion that came too late for a file asks its phone, which still has it.

use std::sync::Arc;

use wacore::{
    crypto::hkdf_sha256_into, download::Downloadable, media_retry::decrypt_media_retry_notification,
};
use wacore_binary::{Node, builder::NodeBuilder};
use wacore_libsignal::crypto::aes_256_gcm_encrypt;
use waproto::{
    buffa::Message as _,
    whatsapp::{MediaRetryNotification, Message, media_retry_notification::ResultType},
};

use super::Phone;
use crate::sandbox::{
    address::DeviceAddress, files::file_of, keys::random_bytes, network::Network, store::Batch,
    wire,
};

/// What the key of question and answer is derived for.
const PURPOSE: &[u8] = b"WhatsApp Media Retry Notification";

impl Phone {
    /// Answers a companion that asks for the file of a message. What can't be understood is not answered.
    pub(super) fn leave_again(&self, network: &Network, from: DeviceAddress, receipt: &Node) {
        let Some(id) = wire::text(receipt, "id") else {
            return;
        };
        let Some(answer) = self.answer(network, from, &id, receipt) else {
            tracing::debug!("a phone can't leave a file again");
            return;
        };
        let deliveries = vec![(from, Arc::new(answer))];
        let sent = network.lock().enqueue(deliveries, Batch::default());
        if let Err(error) = sent {
            tracing::warn!(error.code = error.0, "a phone's answer was not routed");
        }
    }

    fn answer(
        &self,
        network: &Network,
        from: DeviceAddress,
        id: &str,
        receipt: &Node,
    ) -> Option<Node> {
        let known = self.inbox.find(id)?;
        let message = Message::decode_from_slice(&known.message).ok()?;
        let file = file_of(&message)?;
        let key = file.media_key()?;
        let asked = receipt.get_optional_child("encrypt")?;
        let part = |name| wire::bytes(asked.get_optional_child(name)?);
        decrypt_media_retry_notification(key, id, part("enc_iv")?, part("enc_p")?).ok()?;

        let left = left_again(network, file);
        let answer = MediaRetryNotification {
            stanza_id: Some(id.to_owned()),
            result: Some(match left {
                Some(_) => ResultType::SUCCESS,
                None => ResultType::NOT_FOUND,
            }),
            direct_path: left,
            ..Default::default()
        };
        let iv: [u8; 12] = random_bytes();
        let mut derived = [0; 32];
        hkdf_sha256_into(key, None, PURPOSE, &mut derived).ok()?;
        let (mut sealed, answer) = (Vec::new(), answer.encode_to_vec());
        aes_256_gcm_encrypt(&derived, &iv, id.as_bytes(), &answer, &mut sealed).ok()?;
        let encrypt = NodeBuilder::new("encrypt")
            .children([wire::leaf("enc_p", sealed), wire::leaf("enc_iv", iv)])
            .build();
        let mut children = vec![encrypt];
        children.extend(receipt.get_optional_child("rmr").cloned());
        Some(
            NodeBuilder::new("notification")
                .attr("id", id)
                .attr("type", "mediaretry")
                .attr("from", from.number.jid())
                .attr("t", wire::now())
                .children(children)
                .build(),
        )
    }
}

/// Where the file lies again, unless the phone has lost it too.
fn left_again(network: &Network, file: &dyn Downloadable) -> Option<String> {
    network.media.bring_back(file.file_enc_sha256()?).ok()?
}
