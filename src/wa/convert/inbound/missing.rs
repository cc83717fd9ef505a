//! Messages that arrived and can't be read: what stands in for them.

use bytes::Bytes;
use prost::Message as _;
use whatsapp_rust::types::events::{DecryptFailMode, UnavailableType, UndecryptableMessage};

use super::{Inbound, unsupported};
use crate::{
    events::Told,
    proto::v1,
    storage::{InstanceRow, NewEvent},
};

/// Why a message can't be read.
pub struct Missing {
    original_type: &'static str,
    reason: &'static str,
    /// Nobody will send it again.
    is_final: bool,
    /// Its writer means it to be seen.
    is_shown: bool,
    view_once: bool,
}

/// Why this message can't be read.
pub fn missing(message: &UndecryptableMessage) -> Missing {
    let (original_type, reason) = match message.unavailable_type {
        _ if !message.is_unavailable => (
            "undecryptable",
            "it could not be decrypted; its sender is asked for it again",
        ),
        UnavailableType::ViewOnce => ("view_once", "it can be opened on the phone only"),
        UnavailableType::Hosted => ("hosted", "WhatsApp gives it to phones only"),
        UnavailableType::Bot => ("bot", "WhatsApp gives it to phones only"),
        UnavailableType::Unknown => (
            "unavailable",
            "this device was not given it; the phone is asked for it",
        ),
    };
    let kind = message.unavailable_type;
    Missing {
        original_type,
        reason,
        is_final: message.is_unavailable && kind.is_unrecoverable_fanout(),
        is_shown: message.decrypt_fail_mode == DecryptFailMode::Show,
        view_once: message.is_unavailable && kind == UnavailableType::ViewOnce,
    }
}

impl Missing {
    /// What stands in for the message: as it is for good, or until it comes.
    pub fn stand_in(&self, empty: Inbound) -> Inbound {
        let Inbound {
            mut row,
            mut message,
            dedupe_key,
        } = empty;
        message.content = Some(v1::MessageContent {
            content: Some(unsupported(self.original_type.to_owned(), self.reason)),
        });
        message.view_once = self.view_once;
        if !self.is_final {
            message.status = v1::MessageStatus::Unspecified.into();
        }
        row.status = message.status;
        row.previous_status = message.status;
        row.listed = self.is_shown;
        row.raw = Bytes::new();
        row.body = message.encode_to_vec().into();
        Inbound {
            row,
            message,
            dedupe_key,
        }
    }

    /// What the log says of what stands in for it.
    pub fn event(&self, instance: &InstanceRow, stand_in: &Inbound) -> NewEvent {
        if self.is_final {
            stand_in.event(instance)
        } else {
            stand_in.told(instance, Told::Undecryptable)
        }
    }
}
