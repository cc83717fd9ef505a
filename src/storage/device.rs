//! The state of WhatsApp devices: Signal state, credentials and what the protocol remembers.
//!
//! Owns the shape of these rows. Most are records, a key and bytes that mean nothing here; what has
//! rules of its own (merging, a second key) has its own words. Every write is answered after its
//! commit. Never names a type of WhatsApp's library.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Result;

/// Parts the keys of records that are made of several words. No JID or collection name holds it.
pub const KEY_SEPARATOR: char = '\u{1f}';

/// What a record is. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum RecordKind {
    /// The device itself: credentials and counters.
    Device = 1,
    /// Identity keys by address.
    Identity = 2,
    /// Signal sessions by address.
    Session = 3,
    /// One-time prekeys by number.
    PreKey = 4,
    /// Signed prekeys by number.
    SignedPreKey = 5,
    /// Sender keys of groups by name.
    SenderKey = 6,
    /// App state keys by id.
    SyncKey = 7,
    /// The id of the app state key that was stored last.
    LatestSyncKey = 8,
    /// App state versions by collection.
    SyncVersion = 9,
    /// App state MACs by collection and index.
    MutationMac = 10,
    /// Base keys of retried messages by address and message.
    BaseKey = 11,
    /// The devices of a user.
    DeviceList = 12,
    /// Group metadata by group.
    GroupMetadata = 13,
    /// Sent messages, for answering retries, by chat and message.
    SentMessage = 14,
    /// Decrypted messages that are not committed yet, by chat, sender and message.
    PendingInbound = 15,
    /// Messages of which nothing more is to be expected, by the same.
    SettledInbound = 16,
}

/// One change of a record.
#[derive(Clone, Debug)]
pub enum RecordChange {
    /// Writes it, whether it was there or not.
    Put {
        /// What it is.
        kind: RecordKind,
        /// Its key.
        key: Arc<str>,
        /// What it holds.
        value: Bytes,
    },
    /// Removes it if it is there.
    Delete {
        /// What it is.
        kind: RecordKind,
        /// Its key.
        key: Arc<str>,
    },
}

/// Which hidden identity and phone number are one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LidMapping {
    /// User part of the hidden identity; the key.
    pub lid: String,
    /// User part of the number.
    pub phone_number: String,
    /// Unix seconds when it was learned.
    pub created_at: i64,
    /// Unix seconds when it was last told.
    pub updated_at: i64,
    /// Where it was learned.
    pub learning_source: String,
}

/// A contact's privacy token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustToken {
    /// The token; empty where only the sender's side is known.
    pub token: Vec<u8>,
    /// Unix seconds of the token.
    pub token_time: i64,
    /// Unix seconds when ours was last issued to the contact.
    pub sender_time: Option<i64>,
}

/// The secret of a message, for decrypting votes, reactions and edits that refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSecret {
    /// The chat's JID.
    pub chat: Arc<str>,
    /// The sender's JID.
    pub sender: Arc<str>,
    /// The message's id.
    pub message_id: Arc<str>,
    /// The secret.
    pub secret: [u8; 32],
    /// Unix seconds when it may be forgotten; 0 is never.
    pub expires_at: i64,
    /// Unix seconds of the message; 0 is unknown.
    pub message_time: i64,
}

/// One device's rows. Nothing here reaches another device's. Writes for a deleted instance fail.
///
/// The writes of one handle build on one another: a session that moved on is worth nothing without
/// the message that moved it. So the first write that fails is the last that is tried, and the rows
/// stay as a crash at that moment would have left them. Whoever wants to go on takes a new handle
/// and reads again.
#[async_trait]
pub trait DeviceStorage: Send + Sync + 'static {
    /// Pulled once a write of this handle has failed.
    fn failed(&self) -> CancellationToken;
    /// Removes all rows of the device: it is no longer anybody's.
    async fn clear(&self) -> Result<()>;

    // Records.

    /// One record.
    async fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>>;
    /// Those of these records that are there, in no order.
    async fn records(&self, kind: RecordKind, keys: &[String]) -> Result<Vec<(String, Bytes)>>;
    /// All records of a kind, in the order of their keys.
    async fn list_records(&self, kind: RecordKind) -> Result<Vec<(String, Bytes)>>;
    /// The greatest key of a kind.
    async fn last_record_key(&self, kind: RecordKind) -> Result<Option<String>>;
    /// Whether any key of these kinds starts with any of these prefixes.
    async fn any_record(&self, kinds: &[RecordKind], prefixes: &[String]) -> Result<bool>;
    /// Makes these changes in order, in one transaction.
    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<()>;
    /// The same, answered before the commit, which comes before that of anything that is written
    /// later, here or elsewhere in the store. Reads may not see it until `written`; a failure is told
    /// by `failed` alone. For what only has to be there once something later is.
    async fn change_records_soon(&self, changes: Vec<RecordChange>) -> Result<()>;
    /// Returns once everything that was handed in before is committed.
    async fn written(&self) -> Result<()>;
    /// Removes all records of a kind whose keys start so.
    async fn delete_records(&self, kind: RecordKind, prefix: &str) -> Result<u64>;
    /// Removes all records of a kind that were last written before this unix second.
    async fn expire_records(&self, kind: RecordKind, before: i64) -> Result<u64>;

    // Hidden identities.

    /// The mapping of a hidden identity.
    async fn mapping_of_lid(&self, lid: &str) -> Result<Option<LidMapping>>;
    /// The mapping of a number; the one told last where there are several.
    async fn mapping_of_number(&self, phone_number: &str) -> Result<Option<LidMapping>>;
    /// All mappings.
    async fn list_mappings(&self) -> Result<Vec<LidMapping>>;
    /// Writes mappings.
    async fn put_mappings(&self, mappings: Vec<LidMapping>) -> Result<()>;

    // Who has our sender key of a group.

    /// The devices of a group and whether each has the key.
    async fn sender_key_holders(&self, group: &str) -> Result<Vec<(String, bool)>>;
    /// Notes which devices have the key.
    async fn set_sender_key_holders(&self, group: &str, holders: Vec<(String, bool)>)
    -> Result<()>;
    /// Forgets a group, or all.
    async fn clear_sender_key_holders(&self, group: Option<&str>) -> Result<()>;
    /// Forgets these devices in every group.
    async fn delete_sender_key_holders(&self, devices: Vec<String>) -> Result<()>;

    // Privacy tokens.

    /// A contact's token.
    async fn trust_token(&self, jid: &str) -> Result<Option<TrustToken>>;
    /// The contacts that have one.
    async fn list_trust_token_jids(&self) -> Result<Vec<String>>;
    /// Writes a token as it is.
    async fn put_trust_token(&self, jid: &str, token: TrustToken) -> Result<()>;
    /// Moves the sender's time forward, never back, and keeps the token.
    async fn touch_trust_token(&self, jid: &str, sender_time: i64) -> Result<()>;
    /// Writes a token unless a newer one is there, and keeps the sender's time.
    async fn receive_trust_token(&self, jid: &str, token: &[u8], token_time: i64) -> Result<()>;
    /// Removes a token.
    async fn delete_trust_token(&self, jid: &str) -> Result<()>;
    /// Removes what is stale on both sides.
    async fn expire_trust_tokens(&self, token_before: i64, sender_before: i64) -> Result<u64>;

    // Message secrets.

    /// Writes secrets. Where one is there already the later times are kept, and "never" wins.
    async fn put_message_secrets(&self, secrets: Vec<MessageSecret>) -> Result<()>;
    /// A message's secret.
    async fn message_secret(
        &self,
        chat: &str,
        sender: &str,
        message_id: &str,
    ) -> Result<Option<MessageSecret>>;
    /// Removes secrets that expired at or before this unix second.
    async fn expire_message_secrets(&self, now: i64) -> Result<u64>;
}
