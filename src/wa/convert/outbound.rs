//! A caller's message, in WhatsApp's words.

use whatsapp_rust::waproto::{codec, whatsapp as wa};

use crate::proto::v1::message_content::Content;

/// WhatsApp's form of what a caller may say; `None` for what only arrives.
pub fn convert(content: &Content) -> Option<wa::Message> {
    match content {
        Content::Text(text) => Some(wa::Message {
            conversation: Some(text.text.clone()),
            ..Default::default()
        }),
        Content::Unsupported(_) => None,
    }
}

/// The stored form of a message, to be sent again under its id.
pub fn encode(message: &wa::Message) -> Vec<u8> {
    codec::message_to_vec(message)
}

/// The message in a stored form.
pub fn decode(raw: &[u8]) -> anyhow::Result<wa::Message> {
    codec::message_decode(raw).map_err(|error| anyhow::anyhow!("{error}"))
}
