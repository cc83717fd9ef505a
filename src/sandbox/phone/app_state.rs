//! The app state as the phone knows it: opens and checks the patches of its companions, and seals its own.
//!
//! Owns the key and a mirror of each collection, from which it knows which messages are starred and which are deleted
//! for the account alone. Keeps the mirror in memory: the server has everything that it is made of. Trusts no patch
//! whose macs are wrong, and goes no further in a collection that has one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use wacore::{
    appstate::{
        AppStateError, ExpandedAppStateKeys, Mutation, encode_record, expand_app_state_keys,
        hash::{HashState, generate_patch_mac},
        patch_decode::{CollectionSyncError, PatchList, parse_patch_list},
        process_patch, process_snapshot,
        schemas::{self, Schema},
    },
    download::{DownloadUtils, MediaType},
};
use wacore_binary::{Node, builder::NodeBuilder};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{
        ExternalBlobReference, KeyId, MessageKey, SyncActionValue, SyncdMutation, SyncdPatch,
        SyncdSnapshot, sync_action_value, syncd_mutation::SyncdOperation,
    },
};

use super::Phone;
use crate::sandbox::{
    app_state::Collection, error::SandboxError, keys::random_bytes, media::MediaHost,
    network::Network, wire,
};

/// Stars and deletions, in the index of a record.
const STAR: &str = "star";
const DELETE_FOR_ME: &str = "deleteMessageForMe";

/// How often a patch is made anew because a companion was faster.
const ATTEMPTS: usize = 8;

/// What the account has marked a message with, for all its devices and nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageMark {
    /// JID of the chat, as the device called it that marked the message.
    pub chat: String,
    /// The message.
    pub message_id: String,
    /// The account wrote it.
    pub from_me: bool,
    /// Who wrote it, in a group; else empty.
    pub participant: String,
    /// It is starred.
    pub starred: bool,
    /// It is deleted for the account alone.
    pub deleted: bool,
}

/// What the phone makes of the account's app state.
#[derive(Default)]
pub(super) struct Mirror {
    collections: BTreeMap<Collection, Known>,
    /// By message, whichever of its names the chat has in a record.
    marks: BTreeMap<(String, bool), MessageMark>,
}

/// One collection.
#[derive(Default)]
struct Known {
    state: HashState,
    /// The mac of the value of every record, by that of its index.
    macs: HashMap<Vec<u8>, Vec<u8>>,
}

/// The key of the account's app state.
struct Key {
    id: Vec<u8>,
    keys: Arc<ExpandedAppStateKeys>,
}

impl Key {
    fn find(&self, id: &[u8]) -> Result<Arc<ExpandedAppStateKeys>, AppStateError> {
        match id == self.id {
            true => Ok(self.keys.clone()),
            false => Err(AppStateError::KeyNotFound),
        }
    }
}

impl Phone {
    /// Stars a message, or no longer.
    pub async fn star(&self, message: &MessageKey, starred: bool) -> Result<(), SandboxError> {
        let value = SyncActionValue {
            star_action: MessageField::some(sync_action_value::StarAction {
                starred: Some(starred),
            }),
            ..Default::default()
        };
        self.mark(&schemas::STAR, message, value).await
    }

    /// Deletes a message for the account alone.
    pub async fn delete_for_me(
        &self,
        message: &MessageKey,
        delete_media: bool,
        sent: SystemTime,
    ) -> Result<(), SandboxError> {
        let sent = sent.duration_since(UNIX_EPOCH).unwrap_or_default();
        let action = sync_action_value::DeleteMessageForMeAction {
            delete_media: Some(delete_media),
            message_timestamp: i64::try_from(sent.as_secs()).ok(),
        };
        let value = SyncActionValue {
            delete_message_for_me_action: MessageField::some(action),
            ..Default::default()
        };
        self.mark(&schemas::DELETE_MESSAGE_FOR_ME, message, value)
            .await
    }

    /// The marked messages, by id: as of now, or as of when it was last switched on.
    pub async fn marks(&self) -> Result<Vec<MessageMark>, SandboxError> {
        let mut mirror = self.mirror.lock().await;
        // Some clients leave stars where others leave what can wait.
        for collection in Collection::EVERY {
            match self.fetch(&mut mirror, collection).await {
                Ok(()) => {}
                Err(SandboxError::NotConnected(_)) => break,
                Err(error) => return Err(error),
            }
        }
        let marked = |mark: &&MessageMark| mark.starred || mark.deleted;
        Ok(mirror.marks.values().filter(marked).cloned().collect())
    }

    /// Loses what the server can tell again.
    #[cfg(test)]
    pub async fn forget_mirror(&self) {
        *self.mirror.lock().await = Mirror::default();
    }

    /// A companion has left a patch. Returns at once: what it asks for comes by the way that this came by.
    pub(super) fn hear_of_patches(&self, network: &Network, notification: &Node) {
        let phone = network.lock().phones.get(&self.number).cloned();
        let Some(phone) = phone else { return };
        let news = notification.get_children_by_tag("collection");
        let news: Vec<Collection> = news
            .filter_map(|one| Collection::of(&wire::text(one, "name")?))
            .collect();
        network.tasks.spawn(async move {
            let mut mirror = phone.mirror.lock().await;
            for collection in news {
                if let Err(error) = phone.fetch(&mut mirror, collection).await {
                    tracing::warn!(%error, "a phone can't follow the app state");
                }
            }
        });
    }

    async fn mark(
        &self,
        schema: &Schema,
        message: &MessageKey,
        mut value: SyncActionValue,
    ) -> Result<(), SandboxError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        value.timestamp = i64::try_from(now).ok();
        let own = if message.from_me == Some(true) {
            "1"
        } else {
            "0"
        };
        // Of an own message in a group, too, nobody is named.
        let participant = message.participant.as_deref().filter(|_| own == "0");
        let index = serde_json::to_vec(&[
            schema.name,
            message.remote_jid.as_deref().unwrap_or_default(),
            message.id.as_deref().unwrap_or_default(),
            own,
            participant.unwrap_or("0"),
        ])
        .map_err(SandboxError::crypto)?;
        let version = i32::try_from(schema.version).map_err(SandboxError::crypto)?;
        let mut mirror = self.mirror.lock().await;
        for _ in 0..ATTEMPTS {
            self.fetch(&mut mirror, Collection::RegularHigh).await?;
            let key = self.app_state_key();
            let (mutation, _) = encode_record(
                SyncdOperation::SET,
                &index,
                &value,
                &key.keys,
                &key.id,
                &random_bytes(),
                version,
            );
            if self.leave(&mut mirror, &key, mutation).await? {
                return self.fetch(&mut mirror, Collection::RegularHigh).await;
            }
        }
        Err(SandboxError::Exhausted(
            "the companions of the phone leave patches faster than it can",
        ))
    }

    /// Leaves a patch at the server. False when a companion was faster.
    async fn leave(
        &self,
        mirror: &mut Mirror,
        key: &Key,
        mutation: SyncdMutation,
    ) -> Result<bool, SandboxError> {
        let collection = Collection::RegularHigh;
        let known = mirror.collections.entry(collection).or_default();
        let version = known.state.version;
        let node = NodeBuilder::new("collection")
            .attr("name", collection.name())
            .attr("version", version)
            .attr("return_snapshot", "false")
            .children([wire::leaf(
                "patch",
                known.sealed(collection, key, mutation)?,
            )])
            .build();
        let list = self.ask_for(node).await?;
        match list.error {
            None => Ok(true),
            Some(CollectionSyncError::Conflict { .. }) => Ok(false),
            Some(
                CollectionSyncError::Fatal { code, text }
                | CollectionSyncError::Retry { code, text },
            ) => Err(SandboxError::Denied { code, text }),
        }
    }

    /// Fetches and opens what has come since it last did.
    async fn fetch(&self, mirror: &mut Mirror, collection: Collection) -> Result<(), SandboxError> {
        loop {
            let version = mirror.version(collection);
            let node = NodeBuilder::new("collection").attr("name", collection.name());
            let node = match version {
                0 => node.attr("return_snapshot", "true"),
                known => node.attr("version", known).attr("return_snapshot", "false"),
            };
            let list = self.ask_for(node.build()).await?;
            let more = list.has_more_patches;
            let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
            mirror.open(collection, list, &self.app_state_key(), &network.media)?;
            // A server that has more but shows nothing would be asked for ever.
            if !more || mirror.version(collection) == version {
                return Ok(());
            }
        }
    }

    async fn ask_for(&self, collection: Node) -> Result<PatchList, SandboxError> {
        let sync = NodeBuilder::new("sync").children([collection]).build();
        let reply = self.ask("set", "w:sync:app:state", wire::server(), sync);
        parse_patch_list(&reply.await?).map_err(SandboxError::crypto)
    }

    fn app_state_key(&self) -> Key {
        let own = self.keys();
        Key {
            id: own.stored.app_state_key_id.to_vec(),
            keys: Arc::new(expand_app_state_keys(&own.stored.app_state_key)),
        }
    }
}

impl Mirror {
    fn version(&self, collection: Collection) -> u64 {
        let known = self.collections.get(&collection);
        known.map_or(0, |known| known.state.version)
    }

    /// Opens what the server shows, in its order.
    fn open(
        &mut self,
        collection: Collection,
        list: PatchList,
        key: &Key,
        media: &MediaHost,
    ) -> Result<(), SandboxError> {
        if let Some(reference) = &list.snapshot_ref {
            let snapshot = snapshot_at(media, reference)?;
            let mut known = Known::default();
            let opened = process_snapshot(
                &snapshot,
                &mut known.state,
                |id| key.find(id),
                true,
                collection.name(),
            )
            .map_err(SandboxError::crypto)?;
            let macs = opened.mutation_macs.into_iter();
            known.macs = macs.map(|mac| (mac.index_mac, mac.value_mac)).collect();
            self.collections.insert(collection, known);
            let mut mutations = opened.mutations;
            // A snapshot has no order of its own.
            mutations.sort_by_key(|mutation| {
                let value = mutation.action_value.as_ref();
                value.and_then(|value| value.timestamp)
            });
            self.note(&mutations);
        }
        for patch in &list.patches {
            let known = self.collections.entry(collection).or_default();
            let mutations = known.open(collection, patch, key)?;
            self.note(&mutations);
        }
        Ok(())
    }

    fn note(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            let [kind, chat, id, from_me, participant] = mutation.index.as_slice() else {
                continue;
            };
            if kind != STAR && kind != DELETE_FOR_ME {
                continue;
            }
            let mark = self.marks.entry((id.clone(), from_me == "1"));
            let mark = mark.or_insert_with(|| MessageMark {
                chat: chat.clone(),
                message_id: id.clone(),
                from_me: from_me == "1",
                participant: participant
                    .strip_prefix('0')
                    .unwrap_or(participant)
                    .to_owned(),
                starred: false,
                deleted: false,
            });
            let set = mutation.operation == SyncdOperation::SET;
            let value = mutation.action_value.as_ref();
            if kind == STAR {
                let starred = value.and_then(|value| value.star_action.starred);
                mark.starred = set && starred == Some(true);
            } else {
                let deleted = value.map(|value| value.delete_message_for_me_action.is_set());
                mark.deleted = set && deleted == Some(true);
            }
        }
    }
}

impl Known {
    fn open(
        &mut self,
        collection: Collection,
        patch: &SyncdPatch,
        key: &Key,
    ) -> Result<Vec<Mutation>, SandboxError> {
        let mut state = self.state.clone();
        let opened = process_patch(
            patch,
            &mut state,
            |id| key.find(id),
            |index| Ok(self.macs.get(index).cloned()),
            true,
            collection.name(),
        )
        .map_err(SandboxError::crypto)?;
        if state.mac_mismatch_fatal {
            return Err(SandboxError::crypto(
                "a companion's patch was made of another state than this one",
            ));
        }
        self.state = state;
        for index in opened.removed_index_macs {
            self.macs.remove(&index);
        }
        let added = opened.added_macs.into_iter();
        self.macs
            .extend(added.map(|mac| (mac.index_mac, mac.value_mac)));
        Ok(opened.mutations)
    }

    /// A patch with one mutation on top of what is known.
    fn sealed(
        &self,
        collection: Collection,
        key: &Key,
        mutation: SyncdMutation,
    ) -> Result<Vec<u8>, SandboxError> {
        let mut state = self.state.clone();
        let mutations = vec![mutation];
        let (_, hashed) =
            state.update_hash(&mutations, |index, _| Ok(self.macs.get(index).cloned()));
        hashed.map_err(SandboxError::crypto)?;
        state.version += 1;
        let mut patch = SyncdPatch {
            mutations,
            snapshot_mac: Some(
                state.generate_snapshot_mac(collection.name(), &key.keys.snapshot_mac),
            ),
            key_id: MessageField::some(KeyId {
                id: Some(key.id.clone()),
            }),
            ..Default::default()
        };
        let mac = generate_patch_mac(
            &patch,
            collection.name(),
            &key.keys.patch_mac,
            state.version,
        );
        patch.patch_mac = Some(mac);
        Ok(patch.encode_to_vec())
    }
}

fn snapshot_at(
    media: &MediaHost,
    reference: &ExternalBlobReference,
) -> Result<SyncdSnapshot, SandboxError> {
    let hash = reference.file_enc_sha256.as_deref().unwrap_or_default();
    let sealed = media.fetch(hash, reference.direct_path.as_deref())?;
    let key = reference.media_key.as_deref().unwrap_or_default();
    let bytes = DownloadUtils::verify_and_decrypt(&sealed, key, MediaType::AppState)
        .map_err(SandboxError::crypto)?;
    SyncdSnapshot::decode_from_slice(&bytes).map_err(SandboxError::crypto)
}
