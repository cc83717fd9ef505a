//! A way into the converter for the figures, which measure it alone.
//!
//! No part of what this room offers: hidden, and used by no other room.

use whatsapp_rust::{Jid, types::message::MessageInfo, waproto::whatsapp as wa};

use super::convert::{
    ids::Account,
    inbound::{self, Known},
    outbound,
};
use crate::storage::{InstanceRow, NewEvent};

/// A message that was decrypted, and what the gateway knows beside it.
pub struct Decrypted {
    instance: InstanceRow,
    account: Account,
    info: MessageInfo,
    message: wa::Message,
}

impl Decrypted {
    /// A plaintext that a person of this number and hidden identity sent to the instance; `None` if it is no
    /// message.
    pub fn of(instance: InstanceRow, plaintext: &[u8], number: &str, lid: &str) -> Option<Self> {
        let mut info = MessageInfo {
            id: "3EB0A9253FA64269E11C9D".into(),
            push_name: "A name of usual length".to_owned(),
            timestamp: std::time::SystemTime::now().into(),
            ..Default::default()
        };
        info.source.chat = Jid::lid(lid);
        info.source.sender = Jid::lid(lid);
        info.source.sender_alt = Some(Jid::pn(number));
        Some(Self {
            account: Account {
                number: Some(Jid::pn("15550009999")),
                lid: Some(Jid::lid("100000000009999")),
                push_name: "Own".to_owned(),
            },
            instance,
            info,
            message: outbound::decode(plaintext).ok()?,
        })
    }

    /// All that becomes of it before the commit: its row and its event, encoded.
    pub fn converted(&self) -> Option<NewEvent> {
        let inbound = inbound::convert(
            self.instance.number,
            self.instance.id,
            &self.account,
            &self.info,
            &self.message,
            &Known::default(),
        )?;
        let event = inbound.event(&self.instance);
        std::hint::black_box(&inbound);
        Some(event)
    }
}
