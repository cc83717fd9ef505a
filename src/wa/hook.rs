//! The door by which messages enter: they are committed here before WhatsApp hears that we have them.
//!
//! Owns the one transaction that stores a message and its event. Never sends, fetches or waits for
//! the same chat: the library holds the sender's lock meanwhile.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use prost::Message as _;
use tokio::sync::watch;
use whatsapp_rust::{
    Client, InboundDurabilityHook, Jid,
    types::{
        events::{InboundMessage, UndecryptableMessage},
        message::MessageSource,
    },
    wacore_binary::JidExt as _,
    waproto::whatsapp as wa,
};

use super::{
    addresses::other_names,
    amending::{Carrier, late},
    contacts::{self, Contacts},
    convert::{
        context,
        ids::{Account, Names, is_same},
        inbound::{self, Inbound},
        label,
        secrets::{self, Parent},
    },
    media,
    outbound::Outbox,
    payments, polls,
};
use crate::{
    crash_points::CrashPoint,
    proto::v1::{self, message_content::Content},
    storage::{self, Effects, InstanceRow, MessageRecord, MessageRow, Storage, media::MediaRow},
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
    pub(super) outbox: Arc<Outbox>,
}

impl Intake {
    /// Stores what is new of these, with its events; returns after the commit.
    pub(super) async fn record(
        &self,
        client: &Client,
        batch: &[InboundMessage],
    ) -> anyhow::Result<()> {
        let (mut rows, mut files) = self.convert(client, batch).await;
        let echoes = self.outbox.take_echoes(&mut rows).await;
        files.retain(|file| !echoes.contains(&file.message_id));
        if rows.is_empty() {
            return Ok(());
        }
        // First, so that whoever hears of the message finds its sender.
        let people = batch.iter().flat_map(|one| contacts::of_message(&one.info));
        self.contacts.see(people.collect()).await;
        let mut pauses = RETRY_AFTER.into_iter();
        loop {
            let Err(error) = self.store(&rows, &files).await else {
                return Ok(());
            };
            let Some(pause) = pauses.next() else {
                return Err(error.into());
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Files come first: whoever reads of a message finds what is known of its file. A file of a message
    /// that is not stored after all belongs to the same message when it comes again.
    async fn store(&self, rows: &[MessageRecord], files: &[MediaRow]) -> storage::Result<()> {
        for file in files {
            self.storage.create_media(file.clone()).await?;
        }
        self.storage.record_messages(rows.to_vec()).await?;
        Ok(())
    }

    /// The messages as they are stored, and what is known of their files.
    async fn convert(
        &self,
        client: &Client,
        batch: &[InboundMessage],
    ) -> (Vec<MessageRecord>, Vec<MediaRow>) {
        let account = account(client);
        let instance = self.instance.borrow().clone();
        let mut records: Vec<MessageRecord> = Vec::with_capacity(batch.len());
        let mut files = Vec::new();
        for one in batch {
            if !inbound::is_named(&one.info) {
                tracing::warn!(
                    instance = %instance.number,
                    "a message without a usable id or sender is not taken"
                );
                continue;
            }
            let names = other_names(client, unpaired(one)).await;
            let quoted = self.quoted(&instance, one, &names, &records).await;
            let (parent, earlier) = self.parent(&instance, one, &records).await;
            let file = media::row_of(instance.number, &one.info, &one.message);
            let known = inbound::Known {
                names,
                quoted: quoted.as_ref(),
                parent: parent.as_ref(),
                earlier,
                file: file.as_ref(),
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
                let record = self.record_of(&instance, one, inbound, &known.names);
                records.push(record.await);
                files.extend(file);
            }
        }
        (records, files)
    }

    /// What is stored of a message, and what comes of it: an event of its own, or a change of another one.
    async fn record_of(
        &self,
        instance: &InstanceRow,
        one: &InboundMessage,
        mut inbound: Inbound,
        names: &Names,
    ) -> MessageRecord {
        if inbound.is_change() {
            let by_admin = self.is_by_admin(instance, one, &inbound).await;
            if by_admin {
                inbound.note_admin();
            }
            let carrier = Carrier {
                instance: instance.clone(),
                chats: chats(one, names),
                time: inbound.row.time,
                by_admin,
                raw: inbound::edited(&one.message).cloned(),
                is_late: false,
                message: inbound.message,
            };
            return MessageRecord {
                row: inbound.row,
                effects: Effects {
                    changes: carrier.change().into_iter().collect(),
                    ..Effects::default()
                },
                late: None,
            };
        }
        let mut effects = payments::effects(instance, &inbound.row, &inbound.message);
        effects.events.insert(0, inbound.event(instance));
        let late = inbound.row.listed.then(|| late(instance, &inbound.row));
        MessageRecord {
            row: inbound.row,
            effects,
            late,
        }
    }

    /// Stores what stands in for a message that can't be read, unless the message is there.
    pub(super) async fn hold(
        &self,
        client: &Client,
        undecryptable: &UndecryptableMessage,
    ) -> anyhow::Result<()> {
        let info = &undecryptable.info;
        if !inbound::is_named(info) {
            return Ok(());
        }
        let instance = self.instance.borrow().clone();
        let known = inbound::Known {
            names: other_names(client, strangers(&info.source)).await,
            ..Default::default()
        };
        let empty = inbound::convert(
            instance.number,
            instance.id,
            &account(client),
            info,
            &wa::Message::default(),
            &known,
        );
        let Some(empty) = empty else { return Ok(()) };
        self.contacts.see(contacts::of_message(info)).await;
        let missing = inbound::missing(undecryptable);
        let inbound = missing.stand_in(empty);
        let event = missing.event(&instance, &inbound);
        let record = MessageRecord::new(inbound.row, vec![event]);
        self.storage.record_messages(vec![record]).await?;
        Ok(())
    }

    /// The message whose secret opens this one, and what its writer had chosen before. It may lie in the
    /// same batch.
    async fn parent(
        &self,
        instance: &InstanceRow,
        one: &InboundMessage,
        batch: &[MessageRecord],
    ) -> (Option<Parent>, Vec<v1::PollOption>) {
        let Some(id) = secrets::parent_id(&one.message) else {
            return (None, Vec::new());
        };
        let found = batch.iter().find(|record| record.row.message_id == id);
        let row = match found {
            Some(record) => Some(record.row.clone()),
            None => {
                let found = self.storage.lookup_message(instance.number, id, None).await;
                found.ok().flatten()
            }
        };
        let Some(parent) = row.as_ref().and_then(Parent::of) else {
            return (None, Vec::new());
        };
        let mut votes = polls::votes(&*self.storage, instance.number, id)
            .await
            .unwrap_or_default();
        let stored = batch.iter().filter(|record| record.row.target == id);
        votes.extend(stored.map(|record| record.row.clone()));
        let sender = one.info.source.sender.to_non_ad_string();
        let earlier = polls::latest_of(&votes, &sender, one.info.source.sender_alt.as_ref());
        (Some(parent), earlier)
    }

    /// Whether a deletion is by an admin of the group: only those delete what others wrote.
    async fn is_by_admin(
        &self,
        instance: &InstanceRow,
        one: &InboundMessage,
        inbound: &Inbound,
    ) -> bool {
        let source = &one.info.source;
        let content = inbound.message.content.as_ref();
        let content = content.and_then(|content| content.content.as_ref());
        let (Some(Content::Deleted(_)), true) = (content, source.chat.is_group()) else {
            return false;
        };
        let jid = source.chat.to_non_ad_string();
        let found = self.storage.lookup_group(instance.number, &jid).await;
        let group = found.ok().flatten();
        let group = group.and_then(|row| v1::Group::decode(row.body).ok());
        let (Some(group), Some(actor)) = (group, &inbound.message.sender) else {
            return false;
        };
        group.participants.iter().any(|one| {
            let admin = matches!(one.role(), v1::GroupRole::Admin | v1::GroupRole::Owner);
            admin
                && one
                    .party
                    .as_ref()
                    .is_some_and(|party| is_same(party, actor))
        })
    }

    /// The message that this one answers, if it is in the same chat, by whichever name that has: stored, or
    /// before it in the batch. To look in vain loses nothing but its text.
    async fn quoted(
        &self,
        instance: &InstanceRow,
        one: &InboundMessage,
        names: &Names,
        batch: &[MessageRecord],
    ) -> Option<MessageRow> {
        let id = context::quoted_id(&one.message)?;
        let chats = chats(one, names);
        let mut rows = batch.iter().map(|record| &record.row);
        if let Some(row) = rows.find(|row| row.message_id == id && chats.contains(&row.chat)) {
            return Some(row.clone());
        }
        for chat in &chats {
            let found = self
                .storage
                .lookup_message(instance.number, id, Some(chat))
                .await;
            if let Some(row) = found.ok().flatten() {
                return Some(row);
            }
        }
        None
    }
}

/// What WhatsApp calls the chat of a message, by all names that are known.
fn chats(one: &InboundMessage, names: &Names) -> Vec<String> {
    let source = &one.info.source;
    let chat = source.chat.to_non_ad();
    let others = [
        source.sender_alt.as_ref().filter(|_| !source.is_from_me),
        source.recipient_alt.as_ref(),
        names.other(&chat),
    ];
    let others = others.into_iter().flatten().filter(|_| !chat.is_group());
    std::iter::once(chat.to_string())
        .chain(others.map(|jid| jid.to_non_ad_string()))
        .collect()
}

/// Who is in a message by one name only.
fn unpaired(one: &InboundMessage) -> Vec<Jid> {
    let mut people = context::people(&one.message);
    people.extend(strangers(&one.info.source));
    people
}

/// Writer and reader of a message, where it gives one name only.
fn strangers(source: &MessageSource) -> Vec<Jid> {
    let mut people = Vec::new();
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
