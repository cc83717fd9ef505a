//! Everything that is kept: the event log, instances, messages, API keys, remembered requests and
//! the state of WhatsApp devices, behind one trait.
//!
//! Owns durability: a write is answered after its commit, never before, unless its words say "soon",
//! and all writes of one call are one transaction. Owns the order of the log: order of commit is order of position.
//! Never decides, retries or converts: event payloads and message contents are bytes to it.
//! sqlx is named only below this module.

pub mod contact;
pub mod device;
pub mod media;
pub mod payment;
pub mod queue;
pub mod request;
pub mod send;
pub mod sqlite;

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub use self::request::RequestMark;
use self::{
    contact::{ContactKey, ContactNews, ContactRow, Sighting},
    media::{MediaKeep, MediaRow},
    payment::{PaymentQuery, PaymentRow, PaymentStep},
    send::{NewSend, SendQuery, SendRow},
};
use crate::domain::{
    cursor::{LogEpoch, Position},
    event_type::EventType,
    ids::{ApiKeyId, ContactId, EventId, InstanceId, InstanceName, InstanceNumber, MediaId},
    media::MediaState,
    permission::Permission,
    session::SessionState,
};

/// What can go wrong below.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database can't be used now: full disk, locked, or closing. The write did not happen.
    #[error("the database can't be used now: {0}")]
    Unavailable(#[source] anyhow::Error),
    /// The database is damaged, of a newer version, or holds what this program never wrote.
    #[error("the database can't be understood: {0}")]
    Corrupt(#[source] anyhow::Error),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, StorageError>;

/// An event on its way into the log.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub instance: InstanceNumber,
    /// What it is.
    pub event_type: EventType,
    /// The encoded event but for cursor, instance_sequence and record_time, which the commit decides.
    pub body: Bytes,
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place.
    pub position: Position,
    /// Whose it is.
    pub instance: InstanceNumber,
    /// Its number among the events of the instance, from 1, without a hole.
    pub instance_sequence: u64,
    /// What it is.
    pub event_type: EventType,
    /// When it was committed.
    pub record_time: SystemTime,
    /// As in `NewEvent`.
    pub body: Bytes,
}

/// Which events a reader wants.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Only after this place.
    pub after: Position,
    /// Only up to this place; `None` is the head.
    pub up_to: Option<Position>,
    /// Only of these instances; `None` is all, an empty list is none.
    pub instances: Option<Arc<[InstanceNumber]>>,
    /// Only of these types; `None` is all, an empty list is none.
    pub event_types: Option<Arc<[EventType]>>,
    /// Most events.
    pub limit: usize,
    /// Stop once the bodies add up to this many bytes; the first event is returned whatever its size.
    pub max_bytes: usize,
}

/// A page of events.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// In the order of the log.
    pub events: Vec<StoredEvent>,
    /// Everything up to here was looked at: the last event's place, or, where no more match, the
    /// head (or `up_to`) as of the read.
    pub looked_at: Position,
}

/// The newest events, as far as they are in memory.
#[derive(Clone, Debug)]
pub struct RecentEvents {
    /// What `log_rewrites` said of these.
    pub rewrites: u64,
    /// In the order of the log, without a hole.
    pub events: Vec<StoredEvent>,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Events of full retention at and before this place were removed by age or size: a reader
    /// whose place is before it has missed something.
    pub compacted: Position,
    /// The newest event, or the newest there ever was.
    pub head: Position,
    /// When the earliest kept event was committed.
    pub earliest_time: Option<SystemTime>,
    /// When the newest kept event was committed.
    pub head_time: Option<SystemTime>,
    /// How many are kept.
    pub count: u64,
    /// How many bytes their bodies take.
    pub bytes: u64,
}

/// How much of the log to keep.
#[derive(Clone, Copy, Debug)]
pub struct RetentionPolicy {
    /// Events of full retention committed before this time go.
    pub full_before: SystemTime,
    /// Events of short retention committed before this time go.
    pub short_before: SystemTime,
    /// Then the oldest go until the bodies take no more than this.
    pub max_bytes: u64,
}

/// Which WhatsApp an instance lives in. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Network {
    /// WhatsApp itself.
    WhatsApp = 1,
    /// The sandbox.
    Sandbox = 2,
}

/// An instance as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// Key of all its rows.
    pub number: InstanceNumber,
    /// Public id.
    pub id: InstanceId,
    /// Public name.
    pub name: InstanceName,
    /// For life.
    pub network: Network,
    /// What it was doing when last told.
    pub state: SessionState,
    /// Why.
    pub state_reason: String,
    /// Since when.
    pub state_time: SystemTime,
    /// Until when it is banned.
    pub banned_until: Option<SystemTime>,
    /// Digits of its number; empty if unknown.
    pub phone_number: String,
    /// `…@lid`; empty if unknown.
    pub lid: String,
    /// Its own display name; empty if unknown.
    pub push_name: String,
    /// Setting: show as online.
    pub show_online: bool,
    /// Setting: reject every call.
    pub reject_calls: bool,
    /// Setting: what to write to those who are rejected because of it; empty is nothing.
    pub reject_calls_text: String,
    /// When it was created.
    pub create_time: SystemTime,
    /// When name, settings or identity last changed.
    pub update_time: SystemTime,
}

/// What a new instance begins with.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Public id.
    pub id: InstanceId,
    /// Public name; `None` takes `instance-<number>`, or the first free of `instance-<number>-2`, …
    pub name: Option<InstanceName>,
    /// For life.
    pub network: Network,
    /// Setting: show as online.
    pub show_online: bool,
    /// Now.
    pub create_time: SystemTime,
}

/// A change of an instance: what is `Some` is written.
#[derive(Clone, Debug, Default)]
pub struct InstanceChange {
    /// New state with its reason and time; also sets or clears `banned_until`.
    pub state: Option<StateChange>,
    /// New name.
    pub name: Option<InstanceName>,
    /// New setting.
    pub show_online: Option<bool>,
    /// New setting.
    pub reject_calls: Option<bool>,
    /// New setting.
    pub reject_calls_text: Option<String>,
    /// New identity: digits of the number.
    pub phone_number: Option<String>,
    /// New identity: `…@lid`.
    pub lid: Option<String>,
    /// New display name.
    pub push_name: Option<String>,
    /// Becomes `update_time` if anything but the state is changed.
    pub time: Option<SystemTime>,
}

/// A new state of an instance.
#[derive(Clone, Debug)]
pub struct StateChange {
    /// The state.
    pub state: SessionState,
    /// Why.
    pub reason: String,
    /// When.
    pub time: SystemTime,
    /// Until when it is banned.
    pub banned_until: Option<SystemTime>,
}

/// Makes the events of a change from the row as it is after it, inside the transaction. May be
/// called more than once; only the result of the last call is committed.
pub type EventsOf<Row> = Box<dyn Fn(&Row) -> Vec<NewEvent> + Send + Sync>;

/// Makes a new body of a stored one; `None` leaves it as it is.
pub type BodyRewrite = fn(&[u8]) -> Option<Vec<u8>>;

/// What came of creating or renaming an instance.
#[derive(Clone, Debug)]
pub enum NameOutcome {
    /// Done.
    Done(Box<InstanceRow>),
    /// Another instance has the name.
    Taken(InstanceName),
    /// There is no such instance (any more).
    Missing,
    /// The request id was used before: with the same body for this subject, …
    Replayed(String),
    /// … or with another body, which differs in these fields.
    Reused(Vec<String>),
}

/// A message as it is kept. Its key is (instance, chat, sender, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// The chat's JID as WhatsApp addressed it.
    pub chat: String,
    /// The writer's JID as WhatsApp addressed it, without a device.
    pub sender: String,
    /// WhatsApp's id.
    pub message_id: String,
    /// Written by the account.
    pub from_me: bool,
    /// Handed to us by a caller and to be sent by us.
    pub outbound: bool,
    /// When it was written.
    pub time: SystemTime,
    /// Number of `wagate.v1.MessageStatus`; 0 stands in for a message that can't be read yet.
    pub status: i32,
    /// The status before the last rise; the same as `status` where it has not risen.
    pub previous_status: i32,
    /// WhatsApp's reason for an error.
    pub status_reason: String,
    /// The encoded `wagate.v1.Message`; its status is that of this row, not that in the bytes.
    pub body: Bytes,
    /// WhatsApp's own encoding of the content, for quoting, forwarding and sending again.
    pub raw: Bytes,
    /// WhatsApp's id of the message that it does something to; empty if it stands for itself.
    pub target: String,
    /// Stands for itself in a list of messages.
    pub listed: bool,
    /// What it can be found by.
    pub words: String,
    /// The account has starred it.
    pub starred: bool,
    /// The account has deleted it for itself: nobody is shown it, and it does not come back.
    pub hidden: bool,
}

/// What comes of storing a message.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// What the log says of it.
    pub events: Vec<NewEvent>,
    /// What it changes.
    pub changes: Vec<MessageChange>,
    /// What it does to requests for money.
    pub payments: Vec<PaymentStep>,
}

/// A message to be stored, with what comes of it.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// The message.
    pub row: MessageRow,
    /// What comes of it where it is new.
    pub effects: Effects,
    /// What messages that were stored before it do to it.
    pub late: Option<Late>,
}

impl MessageRecord {
    /// A message that changes no other one.
    pub fn new(row: MessageRow, events: Vec<NewEvent>) -> Self {
        let effects = Effects {
            events,
            ..Effects::default()
        };
        Self {
            row,
            effects,
            late: None,
        }
    }
}

/// See [`Late`].
pub type ChangeOf = dyn Fn(&MessageRow) -> Option<MessageChange> + Send + Sync;

/// What a message, stored before the one that it does something to, does now that this has come; `None`
/// if it does nothing. May be called more than once.
#[derive(Clone)]
pub struct Late(pub Arc<ChangeOf>);

impl std::fmt::Debug for Late {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Late")
    }
}

/// Makes a change of a message as it is now; `None` where it is not stored.
pub type Apply = Arc<dyn Fn(Option<&MessageRow>) -> Changed + Send + Sync>;

/// A change of a stored message by another one, in the same transaction.
#[derive(Clone)]
pub struct MessageChange {
    /// WhatsApp's id of the message to change.
    pub message_id: String,
    /// The chats that it may lie in: one by several names.
    pub chats: Vec<String>,
    /// Makes the change of the message as it is now: called with each that has this id, until one
    /// changes; with `None` if there is none. May be called more than once.
    pub apply: Apply,
}

impl std::fmt::Debug for MessageChange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MessageChange")
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

/// What came of applying a change.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// The message as it is afterwards: same key; `None` leaves it.
    pub row: Option<MessageRow>,
    /// What the log says of it.
    pub events: Vec<NewEvent>,
    /// The media that it no longer has: its bytes go, unless another message has had it too.
    pub released: Option<MediaId>,
}

/// Makes what comes of a message's new status from the row as it is after it, inside the
/// transaction. May be called more than once; only the result of the last call is committed.
pub type EffectsOf = Box<dyn Fn(&MessageRow) -> Effects + Send + Sync>;

/// Where a message stands among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePlace {
    /// When it was written.
    pub time: SystemTime,
    /// The order in which it was stored.
    pub number: i64,
}

/// Which messages a caller wants.
#[derive(Clone, Debug)]
pub struct MessageQuery {
    /// Whose.
    pub instance: InstanceNumber,
    /// Only of a chat, by all its names.
    pub chats: Option<Vec<String>>,
    /// Only with all of these words.
    pub words: Option<String>,
    /// Also those that only do something to others.
    pub actions: bool,
    /// Only those that are starred.
    pub starred: bool,
    /// Only older than this.
    pub before: Option<MessagePlace>,
    /// Most rows.
    pub limit: usize,
}

/// What was told of messages that the account wrote.
#[derive(Clone, Debug)]
pub struct StatusRise {
    /// WhatsApp's ids of the messages.
    pub message_ids: Vec<String>,
    /// Number of `wagate.v1.MessageStatus`.
    pub status: i32,
    /// WhatsApp's reason for an error.
    pub reason: String,
    /// The JID of the one whose receipt it is.
    pub party: Option<String>,
}

/// What came of accepting a message to send.
#[derive(Clone, Debug)]
pub enum AcceptOutcome {
    /// Stored; to be sent.
    Accepted,
    /// The request id was used before with the same body: this is its message.
    Replayed(Box<MessageRow>),
    /// The same, and this is its send, which still waits.
    Waits(Box<SendRow>),
    /// Too many wait already: nothing is stored.
    Full,
    /// The request id was used before with another body, which differs in these fields.
    Reused(Vec<String>),
    /// It is that of a recipient of a mailing list whose turn it is not: paused, deleted, or done before.
    Withdrawn,
    /// It is that of a recipient of a mailing list who has another turn under another name.
    Twice,
}

/// A group as it is kept. Its key is (instance, jid).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// `…@g.us`.
    pub jid: String,
    /// The account is in it.
    pub member: bool,
    /// The encoded `wagate.v1.Group`.
    pub body: Bytes,
}

/// What is new about groups.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// As they are now.
    pub groups: Vec<GroupRow>,
    /// From now on all groups of the account are known.
    pub complete: bool,
    /// What the log says of it.
    pub events: Vec<NewEvent>,
}

/// A call as it is kept. Its key is (instance, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// WhatsApp's id.
    pub call_id: String,
    /// JID of whoever sent it, as WhatsApp addressed them: whom an answer goes to.
    pub peer: String,
    /// JID of the device that calls, as WhatsApp addressed it.
    pub creator: String,
    /// When it was first heard of.
    pub time: SystemTime,
    /// Its end is still to be told.
    pub open: bool,
    /// Number of the `wagate.v1.CallState` to be told if nothing else is heard; 0 where none is known.
    pub verdict: i32,
    /// Text still to be sent to the caller; empty is none.
    pub answer: String,
    /// The encoded `wagate.v1.Call`.
    pub body: Bytes,
}

/// Which calls are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallQuery {
    /// Those whose end is still to be told.
    Open,
    /// Those whose caller is still to be sent a text.
    Unanswered,
}

/// What came of claiming a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// It is new and claimed.
    New,
    /// It was claimed at this time with the same body, and never answered.
    Unanswered(SystemTime),
    /// It was answered with this.
    Answered(Bytes),
    /// It was claimed with another body, which differs in these fields.
    Reused(Vec<String>),
}

/// An API key as it is kept. The secret is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Public id.
    pub id: ApiKeyId,
    /// SHA-256 of the secret.
    pub secret_digest: [u8; 32],
    /// For people.
    pub display_name: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Instances it is bound to; empty is all.
    pub instances: Vec<InstanceNumber>,
    /// When it was created.
    pub create_time: SystemTime,
    /// When it was revoked.
    pub revoke_time: Option<SystemTime>,
}

/// What came of revoking a key.
#[derive(Clone, Debug)]
pub enum RevokeOutcome {
    /// Revoked now or before.
    Revoked(ApiKeyRow),
    /// No such key.
    Missing,
    /// It is the last good key that may manage keys.
    LastAdmin,
}

/// The store. One process, one database; any number of readers, one order of writes.
#[async_trait]
pub trait Storage: queue::QueueStorage + Send + Sync + 'static {
    // The database itself.

    /// Whether writes go through, as of the last one tried; a probe write is tried every few
    /// seconds while they do not.
    fn writable(&self) -> watch::Receiver<bool>;
    /// Waits for what was handed in, then closes. Later calls answer `Unavailable`.
    async fn close(&self);

    // The log.

    /// Which log this is.
    fn log_epoch(&self) -> LogEpoch;
    /// The newest place; moves after the commit, never before.
    fn log_head(&self) -> watch::Receiver<Position>;
    /// Appends in order, in one transaction.
    async fn append_events(&self, events: Vec<NewEvent>) -> Result<()>;
    /// The first events after this place, without asking the database; `None` if one of them may no
    /// longer be in memory. Holds what is committed as soon as `log_head` tells of it.
    fn recent_events(&self, after: Position, limit: usize) -> Option<RecentEvents>;
    /// How often a commit has changed or removed events. Whoever keeps copies of events asks before
    /// each use, and throws them away when this has moved.
    fn log_rewrites(&self) -> u64;
    /// Reads after a place.
    async fn read_events(&self, query: EventQuery) -> Result<EventPage>;
    /// Finds one event.
    async fn lookup_event(&self, id: EventId) -> Result<Option<StoredEvent>>;
    /// The place right before the first event committed at or after this time; the head if none.
    async fn position_before(&self, time: SystemTime) -> Result<Position>;
    /// Where the log begins and ends.
    async fn log_bounds(&self) -> Result<LogBounds>;
    /// The newest instance_sequence of each of these instances that has one; `None` is all.
    async fn instance_heads(
        &self,
        instances: Option<Vec<InstanceNumber>>,
    ) -> Result<Vec<(InstanceNumber, u64)>>;
    /// Removes what the policy does not keep, in bites that leave room for other writes. Says how many.
    async fn apply_retention(&self, policy: RetentionPolicy) -> Result<u64>;
    /// Replaces the bodies of the instance's events of this type by what the function makes of
    /// them; `None` leaves one as it is.
    async fn rewrite_events(
        &self,
        instance: InstanceNumber,
        event_type: EventType,
        rewrite: BodyRewrite,
    ) -> Result<()>;

    // Instances.

    /// Creates one with its events. Never answers `Missing`.
    async fn create_instance(
        &self,
        new: NewInstance,
        request: Option<RequestMark>,
        events: EventsOf<InstanceRow>,
    ) -> Result<NameOutcome>;
    /// Changes one with its events. Never answers `Replayed` or `Reused`.
    async fn change_instance(
        &self,
        number: InstanceNumber,
        change: InstanceChange,
        events: EventsOf<InstanceRow>,
    ) -> Result<NameOutcome>;
    /// Removes every row of it, its device and events included, and appends what is left to say.
    /// False where there is none.
    async fn delete_instance(
        &self,
        number: InstanceNumber,
        events: EventsOf<InstanceRow>,
    ) -> Result<bool>;
    /// Finds one by the text of its id or by its name.
    async fn lookup_instance(&self, id_or_name: &str) -> Result<Option<InstanceRow>>;
    /// Lists them in the order of their numbers, after one, only some.
    async fn list_instances(
        &self,
        after: Option<InstanceNumber>,
        only: Option<Vec<InstanceNumber>>,
        limit: usize,
    ) -> Result<Vec<InstanceRow>>;

    // Contacts.

    /// Enters sightings of people into the ledger, with the events of what that makes of the contacts.
    /// One transaction.
    async fn learn_contacts(
        &self,
        instance: InstanceNumber,
        sightings: Vec<Sighting>,
        events: EventsOf<ContactNews>,
    ) -> Result<()>;
    /// Finds one.
    async fn lookup_contact(
        &self,
        instance: InstanceNumber,
        key: ContactKey,
    ) -> Result<Option<ContactRow>>;
    /// Lists them in the order of their ids, after one.
    async fn list_contacts(
        &self,
        instance: InstanceNumber,
        after: Option<ContactId>,
        limit: usize,
    ) -> Result<Vec<ContactRow>>;

    // Messages.

    /// Stores what is new of these with its events; says for each whether it was. A message is new, too,
    /// where only something that stands in for it is stored. One transaction.
    async fn record_messages(&self, messages: Vec<MessageRecord>) -> Result<Vec<bool>>;
    /// Stores a message to send with its events, unless its request was seen before.
    async fn accept_message(
        &self,
        message: MessageRow,
        request: Option<RequestMark>,
        events: Vec<NewEvent>,
    ) -> Result<AcceptOutcome>;
    /// Raises the status of the account's own message in every chat that holds this id (WhatsApp's
    /// receipts name the chat unreliably), with its events. A status that is not higher changes
    /// nothing; in a group it still has its events if it is higher for this party. Returns the rows
    /// that changed.
    async fn raise_status(
        &self,
        instance: InstanceNumber,
        rise: StatusRise,
        effects: EffectsOf,
    ) -> Result<Vec<MessageRow>>;
    /// Changes a stored message, or does what is done where it is not stored. Says whether it changed.
    async fn change_message(&self, instance: InstanceNumber, change: MessageChange)
    -> Result<bool>;
    /// Finds a message by WhatsApp's id, newest first where several chats hold it. Like all that read messages, it
    /// passes over those that are hidden.
    async fn lookup_message(
        &self,
        instance: InstanceNumber,
        message_id: &str,
        chat: Option<&str>,
    ) -> Result<Option<MessageRow>>;
    /// All messages with WhatsApp's id, whatever their chat, newest first.
    async fn list_messages(
        &self,
        instance: InstanceNumber,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<MessageRow>>;
    /// Messages of a chat or with some words, newest first, each with its place.
    async fn query_messages(&self, query: MessageQuery) -> Result<Vec<(MessagePlace, MessageRow)>>;
    /// What does something to the message with this id, in the order in which it was stored, after
    /// a number, each with its own.
    async fn list_targeting(
        &self,
        instance: InstanceNumber,
        target: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, MessageRow)>>;
    /// Outbound messages with this status, oldest first, after one with this time and id.
    async fn list_outbound(
        &self,
        instance: InstanceNumber,
        status: i32,
        after: Option<(SystemTime, String)>,
        limit: usize,
    ) -> Result<Vec<MessageRow>>;
    /// The message that a request made, or `Reused`; `None` where the request is new. For answering
    /// a retry before anything else is looked at.
    async fn lookup_request(
        &self,
        instance: InstanceNumber,
        request: &RequestMark,
    ) -> Result<Option<AcceptOutcome>>;
    /// Claims a request that makes neither a message nor an instance.
    async fn claim_request(
        &self,
        instance: InstanceNumber,
        request: RequestMark,
    ) -> Result<ClaimOutcome>;
    /// Keeps what a claimed request was answered.
    async fn answer_request(&self, request: RequestMark, answer: Bytes) -> Result<()>;
    /// Forgets a claimed request that changed nothing: it may be made anew, with another body too.
    async fn release_request(&self, request: RequestMark) -> Result<()>;
    /// Forgets requests from before this time.
    async fn forget_requests(&self, before: SystemTime) -> Result<u64>;

    // Sends that wait.

    /// Stores a send with its events, behind those of its recipient, unless its request was seen before.
    async fn accept_send(
        &self,
        send: NewSend,
        request: Option<RequestMark>,
        events: Vec<NewEvent>,
    ) -> Result<AcceptOutcome>;
    /// Stores the message that a send has become, with its events, in place of the send with its id.
    /// False, and nothing done, where none waits (any more).
    async fn finish_send(&self, message: MessageRow, events: Vec<NewEvent>) -> Result<bool>;
    /// Lets none of the sends to a recipient be due before a time. Their order stays.
    async fn postpone_sends(
        &self,
        instance: InstanceNumber,
        recipient: &str,
        until: SystemTime,
    ) -> Result<()>;
    /// Finds a send by WhatsApp's id.
    async fn lookup_send(
        &self,
        instance: InstanceNumber,
        message_id: &str,
    ) -> Result<Option<SendRow>>;
    /// Sends that wait.
    async fn list_sends(
        &self,
        instance: InstanceNumber,
        query: SendQuery,
        limit: usize,
    ) -> Result<Vec<SendRow>>;
    /// When next after this time a send begins, as `SendQuery::Begun` means it, is due, or ends; `None` where nothing will.
    async fn next_send_time(
        &self,
        instance: InstanceNumber,
        after: SystemTime,
    ) -> Result<Option<SystemTime>>;
    /// Whether a new send to this recipient comes behind another one.
    async fn is_send_before(
        &self,
        instance: InstanceNumber,
        recipient: &str,
        now: SystemTime,
    ) -> Result<bool>;

    // Media.

    /// Stores one, unless it is stored already. False where its instance was deleted.
    async fn create_media(&self, media: MediaRow) -> Result<bool>;
    /// Replaces one that is still in this state, with the events of the change. False where it is
    /// in another, or there is none.
    async fn replace_media(
        &self,
        media: MediaRow,
        from: MediaState,
        events: Vec<NewEvent>,
    ) -> Result<bool>;
    /// Finds one.
    async fn lookup_media(&self, instance: InstanceNumber, id: MediaId)
    -> Result<Option<MediaRow>>;
    /// Says that a message has it, and until when it is kept. False where there is none.
    async fn keep_media(
        &self,
        instance: InstanceNumber,
        id: MediaId,
        keep: MediaKeep,
    ) -> Result<bool>;
    /// Those that are to be fetched or asked for now, the longest due first.
    async fn list_due_media(&self, now: SystemTime, limit: usize) -> Result<Vec<MediaRow>>;
    /// Those whose time is over, the oldest first.
    async fn list_expired_media(&self, now: SystemTime, limit: usize) -> Result<Vec<MediaRow>>;
    /// Forgets one.
    async fn remove_media(&self, instance: InstanceNumber, id: MediaId) -> Result<()>;

    // Groups.

    /// Stores what is new about groups of an instance, in one transaction.
    async fn change_groups(&self, instance: InstanceNumber, change: GroupChange) -> Result<()>;
    /// Finds a group.
    async fn lookup_group(&self, instance: InstanceNumber, jid: &str) -> Result<Option<GroupRow>>;
    /// Lists the groups that the account is in by JID, after one.
    async fn list_groups(
        &self,
        instance: InstanceNumber,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<GroupRow>>;
    /// Whether all groups of the account have been known once.
    async fn groups_complete(&self, instance: InstanceNumber) -> Result<bool>;

    // Calls.

    /// Stores a call as it is now, with its events. Only the latest thousand of an instance are kept.
    async fn change_call(&self, call: CallRow, events: Vec<NewEvent>) -> Result<()>;
    /// Finds a call.
    async fn lookup_call(&self, instance: InstanceNumber, call_id: &str)
    -> Result<Option<CallRow>>;
    /// Lists calls, oldest first.
    async fn list_calls(
        &self,
        instance: InstanceNumber,
        query: CallQuery,
        limit: usize,
    ) -> Result<Vec<CallRow>>;

    // Payments.

    /// All requests for money with WhatsApp's id, whatever their chat, newest first.
    async fn find_payments(
        &self,
        instance: InstanceNumber,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<PaymentRow>>;
    /// Requests for money, newest first, each with its place.
    async fn query_payments(&self, query: PaymentQuery) -> Result<Vec<(MessagePlace, PaymentRow)>>;

    // API keys.

    /// Stores a new key.
    async fn create_api_key(&self, key: ApiKeyRow) -> Result<()>;
    /// Finds a key.
    async fn lookup_api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKeyRow>>;
    /// Lists keys by creation, after one.
    async fn list_api_keys(&self, after: Option<ApiKeyId>, limit: usize) -> Result<Vec<ApiKeyRow>>;
    /// Revokes a key, unless nobody could manage keys afterwards.
    async fn revoke_api_key(&self, id: &ApiKeyId, time: SystemTime) -> Result<RevokeOutcome>;

    // Devices.

    /// A new handle on the Signal state and credentials of an instance's device.
    fn device(&self, instance: InstanceNumber) -> Arc<dyn device::DeviceStorage>;
}
