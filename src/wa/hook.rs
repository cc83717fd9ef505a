//! The door by which messages enter: they are committed here before WhatsApp hears that we have them.
//!
//! Owns the one transaction that stores a message and its event. Never sends, fetches or waits for
//! the same chat: the library holds the sender's lock meanwhile.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;
use whatsapp_rust::{Client, InboundDurabilityHook, Jid, types::events::InboundMessage};

use super::{
    addresses::other_names,
    contacts::{self, Contacts},
    convert::{context, ids::Account, inbound, label},
};
use crate::{
    crash_points::CrashPoint,
    events,
    storage::{InstanceRow, MessageRow, NewEvent, Storage},
};

/// Pauses between the tries to store a batch; after the last the session starts over, so that
/// WhatsApp delivers the batch again.
const RETRY_AFTER: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// Stores the messages of one instance.
#[derive(Clone)]
pub(super) struct Intake {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) instance: watch::Receiver<InstanceRow>,
    pub(super) contacts: Contacts,
}

impl Intake {
    /// Stores what is new of these, with its events; returns after the commit.
    pub(super) async fn record(
        &self,
        client: &Client,
        batch: &[InboundMessage],
    ) -> anyhow::Result<()> {
        let rows = self.convert(client, batch).await;
        if rows.is_empty() {
            return Ok(());
        }
        // First, so that whoever hears of the message finds its sender.
        let people = batch.iter().flat_map(|one| contacts::of_message(&one.info));
        self.contacts.see(people.collect()).await;
        let mut pauses = RETRY_AFTER.into_iter();
        loop {
            let Err(error) = self.storage.record_messages(rows.clone()).await else {
                return Ok(());
            };
            let Some(pause) = pauses.next() else {
                return Err(error.into());
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn convert(
        &self,
        client: &Client,
        batch: &[InboundMessage],
    ) -> Vec<(MessageRow, Vec<NewEvent>)> {
        let account = account(client);
        let instance = self.instance.borrow().clone();
        let mut rows = Vec::with_capacity(batch.len());
        for one in batch {
            if !inbound::is_named(&one.info) {
                tracing::warn!(
                    instance = %instance.number,
                    "a message without a usable id or sender is not taken"
                );
                continue;
            }
            let quoted = self.quoted(&instance, one).await;
            let known = inbound::Known {
                names: other_names(client, unpaired(one)).await,
                quoted: quoted.as_ref(),
            };
            let converted = inbound::convert(
                instance.number,
                instance.id,
                &account,
                &one.info,
                &one.message,
                &known,
            );
            if let Some(inbound) = converted {
                let event = events::compose(
                    &instance,
                    inbound.payload,
                    inbound.time,
                    &inbound.dedupe_key,
                );
                rows.push((inbound.row, vec![event]));
            }
        }
        rows
    }

    /// The message that this one answers, if it is stored. To look in vain loses nothing but its text.
    async fn quoted(&self, instance: &InstanceRow, one: &InboundMessage) -> Option<MessageRow> {
        let id = context::quoted_id(&one.message)?;
        let chat = one.info.source.chat.to_non_ad().to_string();
        let found = self
            .storage
            .lookup_message(instance.number, id, Some(&chat));
        found.await.ok().flatten()
    }
}

/// Who is in a message by one name only.
fn unpaired(one: &InboundMessage) -> Vec<Jid> {
    let source = &one.info.source;
    let mut people = context::people(&one.message);
    if source.sender_alt.is_none() {
        people.push(source.sender.to_non_ad());
    }
    if source.is_from_me && source.recipient_alt.is_none() && !source.is_group {
        people.push(source.chat.to_non_ad());
    }
    people
}

/// Who the client is, by its device.
pub(super) fn account(client: &Client) -> Account {
    let device = client.persistence_manager().get_device_snapshot();
    Account {
        number: device.pn.as_ref().map(|jid| jid.to_non_ad()),
        lid: device.lid.as_ref().map(|jid| jid.to_non_ad()),
        push_name: label(&device.push_name).into_owned(),
    }
}

#[async_trait]
impl InboundDurabilityHook for Intake {
    async fn on_messages(
        &self,
        client: Arc<Client>,
        batch: &[InboundMessage],
    ) -> anyhow::Result<()> {
        CrashPoint::HookBeforeCommit.pass();
        let stored = self.record(&client, batch).await;
        CrashPoint::HookAfterCommit.pass();
        if let Err(error) = &stored {
            tracing::error!(
                instance = %self.instance.borrow().number,
                messages = batch.len(),
                %error,
                "messages can't be stored; WhatsApp keeps them and the session starts over"
            );
            // The library asks for them again only after a new login.
            tokio::spawn(async move { client.reconnect().await });
        }
        stored
    }
}
