//! The app state of an account as the server keeps it: a log of sealed patches for each collection.
//!
//! Owns who comes first: a patch counts if it was made on top of the newest one; otherwise its maker is shown what it
//! missed. Folds old patches into a snapshot, which takes no key: records stay sealed, and what a patch says of the
//! state after it is what the snapshot of that state must say. Never opens a record, and never judges one.

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};
use wacore::{download::MediaType, upload::encrypt_media};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{
        ExternalBlobReference, KeyId, SyncdMutation, SyncdPatch, SyncdRecord, SyncdSnapshot,
        SyncdVersion, syncd_mutation::SyncdOperation,
    },
};

use super::{
    address::Number,
    error::SandboxError,
    media::MediaHost,
    store::{Batch, Records, base64_bytes},
};

/// Patches of a collection that are kept as they came; then the older half is folded into the snapshot.
const MOST_PATCHES: usize = 200;

/// The same in bytes.
const MOST_PATCH_BYTES: usize = 4 << 20;

/// Largest patch.
const MAX_PATCH: usize = 128 << 10;

/// Most records of a snapshot; with more, no patch is taken.
const MAX_RECORDS: usize = 20_000;

/// Patches shown at once.
const PAGE: usize = 50;

/// Length of every mac on the outside of a record or a patch.
const MAC: usize = 32;

/// A record's value is at least an initial vector and a mac.
const MIN_VALUE: usize = 16 + MAC;

/// The collections that WhatsApp divides the app state into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// What a client can't begin without.
    CriticalBlock,
    /// What it needs soon.
    CriticalUnblockLow,
    /// What is shown at once: stars and deletions among others.
    RegularHigh,
    /// All else, …
    Regular,
    /// … and what can wait.
    RegularLow,
}

impl Collection {
    /// All there are.
    pub const EVERY: [Self; 5] = [
        Self::CriticalBlock,
        Self::CriticalUnblockLow,
        Self::RegularHigh,
        Self::Regular,
        Self::RegularLow,
    ];

    /// WhatsApp's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CriticalBlock => "critical_block",
            Self::CriticalUnblockLow => "critical_unblock_low",
            Self::RegularHigh => "regular_high",
            Self::Regular => "regular",
            Self::RegularLow => "regular_low",
        }
    }

    /// The collection of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|one| one.name() == name)
    }
}

/// Why a patch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It was not made on top of the newest one.
    Behind,
    /// It is no patch that anybody could read.
    Malformed,
    /// The collection has no room.
    Full,
}

/// What has come since a version.
#[derive(Debug, Default)]
pub struct Missed {
    /// Everything up to the oldest patch that is kept, where that is needed: an encoded `ExternalBlobReference`.
    pub snapshot: Option<Vec<u8>>,
    /// The patches after it, encoded.
    pub patches: Vec<Vec<u8>>,
    /// There are more.
    pub more: bool,
}

/// Everything up to a version.
#[derive(Default)]
struct Base {
    version: u64,
    mac: Vec<u8>,
    key_id: Vec<u8>,
    records: BTreeMap<Vec<u8>, SyncdRecord>,
}

/// A snapshot that lies at the media host.
struct Left {
    version: u64,
    hash: Vec<u8>,
    reference: Vec<u8>,
}

/// One collection of one account.
#[derive(Default)]
pub struct PatchLog {
    base: Base,
    /// Those after it, in order.
    patches: VecDeque<Vec<u8>>,
    bytes: usize,
    left: Option<Left>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "base64_bytes")]
    bytes: Vec<u8>,
}

/// A patch that may be taken, once it is stored.
pub struct Taken {
    version: u64,
    patch: Vec<u8>,
}

impl PatchLog {
    /// The version of the newest patch.
    pub fn head(&self) -> u64 {
        self.base.version + self.patches.len() as u64
    }

    /// Looks whether a patch made on top of a version can be taken. What is stored of it goes into the batch.
    pub fn check(
        &self,
        place: Place,
        made_on: u64,
        patch: &[u8],
        batch: &mut Batch,
    ) -> Result<Taken, Rejected> {
        if patch.len() > MAX_PATCH {
            return Err(Rejected::Malformed);
        }
        let mut patch = SyncdPatch::decode_from_slice(patch).map_err(|_| Rejected::Malformed)?;
        if !is_whole(&patch) {
            return Err(Rejected::Malformed);
        }
        if made_on != self.head() {
            return Err(Rejected::Behind);
        }
        if self.base.records.len() >= MAX_RECORDS {
            return Err(Rejected::Full);
        }
        let version = made_on + 1;
        // Its maker does not say it; its readers want to know.
        patch.version = MessageField::some(SyncdVersion {
            version: Some(version),
        });
        let patch = patch.encode_to_vec();
        let stored = Stored {
            bytes: patch.clone(),
        };
        batch.put(place.patch(version), &stored);
        Ok(Taken { version, patch })
    }

    /// Takes a patch that is stored. Answers with its version.
    pub fn take(&mut self, taken: Taken) -> u64 {
        self.bytes += taken.patch.len();
        self.patches.push_back(taken.patch);
        taken.version
    }

    /// What has come since a version; everything if that is unknown here.
    pub fn since(&mut self, version: u64, media: &MediaHost) -> Result<Missed, SandboxError> {
        let (snapshot, known) = if version < self.base.version {
            (Some(self.snapshot(media)?), self.base.version)
        } else {
            (None, version)
        };
        let skipped = usize::try_from(known - self.base.version).unwrap_or(usize::MAX);
        let mut patches = self.patches.iter().skip(skipped);
        let page: Vec<Vec<u8>> = patches.by_ref().take(PAGE).cloned().collect();
        Ok(Missed {
            snapshot,
            patches: page,
            more: patches.next().is_some(),
        })
    }

    /// Where the snapshot lies, left there if it does not yet.
    fn snapshot(&mut self, media: &MediaHost) -> Result<Vec<u8>, SandboxError> {
        if let Some(left) = &self.left
            && left.version == self.base.version
            && media.bring_back(&left.hash)?.is_some()
        {
            return Ok(left.reference.clone());
        }
        let snapshot = self.base.encode();
        let sealed = encrypt_media(&snapshot, MediaType::AppState).map_err(SandboxError::crypto)?;
        let reference = ExternalBlobReference {
            media_key: Some(sealed.media_key.to_vec()),
            direct_path: Some(media.leave(&sealed.data_to_upload)?),
            file_size_bytes: Some(snapshot.len() as u64),
            file_sha256: Some(sealed.file_sha256.to_vec()),
            file_enc_sha256: Some(sealed.file_enc_sha256.to_vec()),
            ..Default::default()
        };
        let reference = reference.encode_to_vec();
        self.left = Some(Left {
            version: self.base.version,
            hash: sealed.file_enc_sha256.to_vec(),
            reference: reference.clone(),
        });
        Ok(reference)
    }

    /// Folds the older half once there are too many. What changes goes into the batch; nothing changes here before
    /// [`PatchLog::adopt`].
    pub fn fold(&self, place: Place, batch: &mut Batch) -> Option<Folded> {
        if self.patches.len() <= MOST_PATCHES && self.bytes <= MOST_PATCH_BYTES {
            return None;
        }
        let count = self.patches.len().div_ceil(2);
        let mut base = Base {
            version: self.base.version,
            mac: Vec::new(),
            key_id: Vec::new(),
            records: self.base.records.clone(),
        };
        for patch in self.patches.iter().take(count) {
            base.add(SyncdPatch::decode_from_slice(patch).ok()?);
            batch.delete(place.patch(base.version));
        }
        let bytes = base.encode();
        batch.put(place.base(), &Stored { bytes });
        Some(Folded { base, count })
    }

    /// Takes over what was folded, once that is stored.
    pub fn adopt(&mut self, folded: Folded) {
        for patch in self.patches.drain(..folded.count) {
            self.bytes -= patch.len();
        }
        self.base = folded.base;
    }

    /// Forgets everything. What is stored goes with the batch.
    pub fn clear(&self, place: Place, batch: &mut Batch) {
        batch.delete(place.base());
        for version in self.base.version + 1..=self.head() {
            batch.delete(place.patch(version));
        }
    }

    /// The stored log of a collection.
    pub fn load(records: &Records, place: Place) -> Result<Self, SandboxError> {
        let mut log = Self::default();
        if let Some(stored) = records.get::<Stored>(&place.base())? {
            log.base = Base::decode(&stored.bytes)?;
        }
        for record in records.scan::<Stored>(&place.patches()) {
            let (version, stored) = record?;
            // One that a fold has left behind is in the snapshot.
            if u64::from_str_radix(version, 16).is_ok_and(|version| version == log.head() + 1) {
                log.bytes += stored.bytes.len();
                log.patches.push_back(stored.bytes);
            }
        }
        Ok(log)
    }
}

/// The older patches, folded.
pub struct Folded {
    base: Base,
    count: usize,
}

impl Base {
    fn add(&mut self, patch: SyncdPatch) {
        self.version += 1;
        self.mac = patch.snapshot_mac.unwrap_or_default();
        self.key_id = patch.key_id.id.clone().unwrap_or_default();
        // What is set anew in the patch that removes it stays.
        let (gone, set): (Vec<_>, Vec<_>) = patch.mutations.into_iter().partition(is_removal);
        for mutation in gone {
            self.records.remove(index_of(&mutation));
        }
        for mutation in set {
            let index = index_of(&mutation).to_vec();
            if let Some(record) = mutation.record.into_option() {
                self.records.insert(index, record);
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let snapshot = SyncdSnapshot {
            version: MessageField::some(SyncdVersion {
                version: Some(self.version),
            }),
            records: self.records.values().cloned().collect(),
            mac: Some(self.mac.clone()),
            key_id: MessageField::some(KeyId {
                id: Some(self.key_id.clone()),
            }),
        };
        snapshot.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, SandboxError> {
        let snapshot = SyncdSnapshot::decode_from_slice(bytes).map_err(SandboxError::crypto)?;
        let indexed = |record: SyncdRecord| {
            let index = record.index.blob.clone().unwrap_or_default();
            (index, record)
        };
        Ok(Self {
            version: snapshot.version.version.unwrap_or_default(),
            mac: snapshot.mac.unwrap_or_default(),
            key_id: snapshot.key_id.id.clone().unwrap_or_default(),
            records: snapshot.records.into_iter().map(indexed).collect(),
        })
    }
}

/// Whose collection: where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The account.
    pub number: Number,
    /// The collection.
    pub collection: Collection,
}

impl Place {
    fn base(self) -> String {
        format!("syncd-base/{}/{}", self.number, self.collection.name())
    }

    fn patches(self) -> String {
        format!("syncd/{}/{}/", self.number, self.collection.name())
    }

    fn patch(self, version: u64) -> String {
        format!("{}{version:016x}", self.patches())
    }
}

fn is_removal(mutation: &SyncdMutation) -> bool {
    mutation.operation == Some(SyncdOperation::REMOVE.into())
}

fn index_of(mutation: &SyncdMutation) -> &[u8] {
    mutation.record.index.blob.as_deref().unwrap_or_default()
}

/// Whether a patch has on its outside all that its readers will want. Patches that leave their mutations elsewhere are
/// not taken: nobody makes them so small.
fn is_whole(patch: &SyncdPatch) -> bool {
    let is_mac = |mac: &Option<Vec<u8>>| mac.as_ref().is_some_and(|mac| mac.len() == MAC);
    let mut indexes = HashSet::new();
    for mutation in &patch.mutations {
        let record = &mutation.record;
        let operation = mutation.operation;
        let whole = operation.is_none_or(|operation| operation.as_known().is_some())
            && is_mac(&record.index.blob)
            && record
                .value
                .blob
                .as_ref()
                .is_some_and(|blob| blob.len() >= MIN_VALUE)
            && record.key_id.id.is_some();
        if !whole || !indexes.insert((is_removal(mutation), index_of(mutation))) {
            return false;
        }
    }
    is_mac(&patch.snapshot_mac)
        && is_mac(&patch.patch_mac)
        && patch.key_id.id.is_some()
        && !patch.external_mutations.is_set()
        && !indexes.is_empty()
}

#[cfg(test)]
mod tests;
