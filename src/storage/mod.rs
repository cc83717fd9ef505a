//! Everything that is kept: the event log, instances, messages, API keys, remembered requests and
//! the state of WhatsApp devices, behind one trait.
//!
//! Owns durability: a write is answered after its commit, never before, unless its words say "soon",
//! and all writes of one call are one transaction. Owns the order of the log: order of commit is order of position.
//! Never decides, retries or converts: event payloads and message contents are bytes to it.
//! sqlx is named only below this module.

mod api_key;
mod call;
pub mod contact;
pub mod device;
mod event;
mod group;
mod instance;
pub mod media;
mod message;
pub mod payment;
pub mod queue;
pub mod request;
pub mod send;
pub mod sqlite;

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub use self::{
    api_key::{ApiKeyRow, RevokeOutcome},
    call::{CallQuery, CallRow},
    event::{
        BodyRewrite, EventPage, EventQuery, EventsOf, LogBounds, NewEvent, RecentEvents,
        RetentionPolicy, StoredEvent,
    },
    group::{GroupChange, GroupRow},
    instance::{InstanceChange, InstanceRow, NameOutcome, Network, NewInstance, StateChange},
    message::{
        AcceptOutcome, Apply, ChangeOf, Changed, Effects, EffectsOf, Late, MessageChange,
        MessagePlace, MessageQuery, MessageRecord, MessageRow, StatusRise,
    },
    request::{ClaimOutcome, RequestMark},
};
use self::{
    contact::{ContactKey, ContactNews, ContactRow, Sighting},
    media::{MediaKeep, MediaRow},
    payment::{PaymentQuery, PaymentRow},
    send::{NewSend, SendQuery, SendRow},
};
use crate::domain::{
    cursor::{LogEpoch, Position},
    event_type::EventType,
    ids::{ApiKeyId, ContactId, EventId, InstanceNumber, MediaId},
    media::MediaState,
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

    /// Stores a send with its events, behind those to the same person, unless its request was seen before.
    async fn accept_send(
        &self,
        send: NewSend,
        request: Option<RequestMark>,
        events: Vec<NewEvent>,
    ) -> Result<AcceptOutcome>;
    /// Stores the message that a send has become, with its events, in place of the send with its id.
    /// False, and nothing done, where none waits (any more).
    async fn finish_send(&self, message: MessageRow, events: Vec<NewEvent>) -> Result<bool>;
    /// Lets none of the sends to a person, as `SendRow::person` has them, be due before a time. Their order stays.
    async fn postpone_sends(
        &self,
        instance: InstanceNumber,
        person: &str,
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
    /// Whether a new send to this recipient comes behind another one, by whichever name that goes.
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
