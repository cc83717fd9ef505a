//! Stored rows as the contract shows them.

use prost::Message as _;

use crate::{
    events::timestamp,
    proto::v1,
    storage::{InstanceRow, MessageRow, StorageError, contact::ContactRow},
};

/// An instance for callers.
pub fn instance(row: &InstanceRow) -> v1::Instance {
    v1::Instance {
        id: row.id.to_string(),
        name: row.name.to_string(),
        number: row.number.0,
        network: row.network as i32,
        state: row.state as i32,
        state_reason: row.state_reason.clone(),
        state_time: Some(timestamp(row.state_time)),
        banned_until: row.banned_until.map(timestamp),
        phone_number: row.phone_number.clone(),
        lid: row.lid.clone(),
        push_name: row.push_name.clone(),
        show_online: row.show_online,
        reject_calls: row.reject_calls,
        reject_calls_text: row.reject_calls_text.clone(),
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
    }
}

/// The account of an instance, by the names that are known of it.
pub fn account(row: &InstanceRow) -> v1::Party {
    let number = &row.phone_number;
    v1::Party {
        jid: if number.is_empty() {
            String::new()
        } else {
            format!("{number}@s.whatsapp.net")
        },
        lid: row.lid.clone(),
        phone_number: number.clone(),
        name: row.push_name.clone(),
    }
}

/// A contact for callers.
pub fn contact(instance: &InstanceRow, row: &ContactRow) -> v1::Contact {
    let jid = |user: &str, server: &str| match user {
        "" => String::new(),
        user => format!("{user}@{server}"),
    };
    v1::Contact {
        id: row.id.to_string(),
        instance: instance.id.to_string(),
        jid: jid(&row.phone_number, "s.whatsapp.net"),
        lid: jid(&row.lid, "lid"),
        phone_number: row.phone_number.clone(),
        name: row.name.clone(),
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
    }
}

/// A message for callers, with its status and star of now.
pub fn message(row: &MessageRow) -> Result<v1::Message, StorageError> {
    let mut message = v1::Message::decode(row.body.clone())
        .map_err(|error| StorageError::Corrupt(anyhow::Error::new(error)))?;
    message.status = row.status;
    message.status_reason.clone_from(&row.status_reason);
    message.starred = row.starred;
    Ok(message)
}
