//! What is accepted and not confirmed, page by page.

use tonic::Status;

use crate::{
    events::timestamp,
    grpc::{page, status},
    proto::v1,
    storage::InstanceRow,
    wa::{OutboxPlace, Registry, Unconfirmed, message_resource},
};

const LIST: &str = "ListOutbox";

/// A page of an instance's outbox, and the token of the next.
pub(super) async fn list(
    registry: &Registry,
    instance: &InstanceRow,
    page_size: i32,
    page_token: &str,
) -> Result<v1::ListOutboxResponse, Status> {
    let size = page::size(page_size)?;
    let after = page::after(LIST, page_token)?
        .map(|key| OutboxPlace::parse(&key).ok_or_else(status::page_token_invalid))
        .transpose()?;
    // One more than asked for tells whether there is a next page.
    let found = registry.unconfirmed(instance.number, after, size + 1);
    let (found, next_page_token) = page::cut(LIST, found.await?, size, |last| last.place.key());
    let entries = found.into_iter().map(entry);
    Ok(v1::ListOutboxResponse {
        entries: entries.collect::<Result<_, _>>()?,
        next_page_token,
    })
}

fn entry(one: Unconfirmed) -> Result<v1::OutboxEntry, Status> {
    Ok(v1::OutboxEntry {
        message: Some(message_resource(&one.row)?),
        state: one.state.into(),
        recipient: one.recipient,
        due_time: one.due_time.map(timestamp),
        expire_time: one.expire_time.map(timestamp),
        create_time: Some(timestamp(one.create_time)),
    })
}
