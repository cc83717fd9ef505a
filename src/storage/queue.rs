//! Mailing lists as they are kept: a row each, a row per recipient, and since when WhatsApp limits an account.
//!
//! A recipient's row is marked in the transaction that stores its message, so nobody's turn comes twice. The
//! counts of a list always are those of its rows.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::{AcceptOutcome, EventsOf, MessageRow, NewEvent, RequestMark, Result};
use crate::domain::ids::{InstanceNumber, QueueId};

/// What a mailing list does. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum QueueState {
    /// It sends.
    Running = 1,
    /// It sends nothing until it is resumed.
    Paused = 2,
    /// Every recipient is done.
    Completed = 4,
}

/// What became of a recipient. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ItemState {
    /// Its turn is still to come.
    Waiting = 1,
    /// Its message is stored.
    Sending = 2,
    /// WhatsApp confirmed its message.
    Sent = 3,
    /// Its message was refused, or could not be made.
    Failed = 4,
    /// Found wrong when the list was created.
    Invalid = 5,
    /// Another one is the same.
    Duplicate = 6,
}

impl ItemState {
    /// The state with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        [
            Self::Waiting,
            Self::Sending,
            Self::Sent,
            Self::Failed,
            Self::Invalid,
            Self::Duplicate,
        ]
        .into_iter()
        .find(|one| *one as i32 == number)
    }
}

/// The recipients of a list, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// See [`ItemState::Waiting`].
    pub waiting: u32,
    /// See [`ItemState::Sending`].
    pub sending: u32,
    /// See [`ItemState::Sent`].
    pub sent: u32,
    /// See [`ItemState::Failed`].
    pub failed: u32,
    /// See [`ItemState::Invalid`].
    pub invalid: u32,
    /// See [`ItemState::Duplicate`].
    pub duplicate: u32,
}

impl ItemCounts {
    /// The count of a state.
    pub fn of(&mut self, state: ItemState) -> &mut u32 {
        match state {
            ItemState::Waiting => &mut self.waiting,
            ItemState::Sending => &mut self.sending,
            ItemState::Sent => &mut self.sent,
            ItemState::Failed => &mut self.failed,
            ItemState::Invalid => &mut self.invalid,
            ItemState::Duplicate => &mut self.duplicate,
        }
    }

    /// One recipient's state is another one now.
    pub fn shift(&mut self, from: ItemState, to: ItemState) {
        let count = self.of(from);
        *count = count.saturating_sub(1);
        *self.of(to) += 1;
    }

    /// All of them.
    pub fn all(&self) -> u32 {
        self.waiting + self.sending + self.sent + self.failed + self.invalid + self.duplicate
    }

    /// How many of those that can be written to are done, in percent.
    pub fn progress(&self) -> u32 {
        let done = u64::from(self.sent) + u64::from(self.failed);
        let all = done + u64::from(self.waiting) + u64::from(self.sending);
        match all {
            0 => 100,
            all => u32::try_from(done * 100 / all).unwrap_or(100),
        }
    }

    /// Whether nobody's turn is still to come or to end.
    pub fn is_done(&self) -> bool {
        self.waiting == 0 && self.sending == 0
    }
}

/// A mailing list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    /// Whose it is.
    pub instance: InstanceNumber,
    /// Its id.
    pub id: QueueId,
    /// For people.
    pub name: String,
    /// What it does.
    pub state: QueueState,
    /// Why it is paused or held; may be empty.
    pub state_reason: String,
    /// Until when WhatsApp's limits hold it.
    pub held_until: Option<SystemTime>,
    /// Digits of the number that sends it: a list never leaves from another account by itself.
    pub account: String,
    /// The encoded `wagate.v1.Queue` with what it says and how fast.
    pub body: Bytes,
    /// Its recipients.
    pub counts: ItemCounts,
    /// When it was created.
    pub create_time: SystemTime,
    /// When anything of it last changed.
    pub update_time: SystemTime,
    /// When its latest message was stored.
    pub sent_time: Option<SystemTime>,
    /// When it was completed.
    pub complete_time: Option<SystemTime>,
}

/// A recipient of a new list.
#[derive(Clone, Debug)]
pub struct NewItem {
    /// As it was given.
    pub recipient: String,
    /// The encoded variables.
    pub variables: Bytes,
    /// Waiting, or found wrong.
    pub state: ItemState,
    /// What is wrong with it.
    pub reason: String,
}

/// A recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRow {
    /// Its place, from 0.
    pub position: u32,
    /// As it was given.
    pub recipient: String,
    /// The encoded variables.
    pub variables: Bytes,
    /// What became of it.
    pub state: ItemState,
    /// WhatsApp's id of its message; empty if it has none.
    pub message_id: String,
    /// Chat of that message.
    pub chat: String,
    /// Why it is as it is.
    pub reason: String,
    /// How often WhatsApp's limits have put it off.
    pub attempts: u32,
    /// When it last changed.
    pub time: SystemTime,
}

/// That a message is that of a recipient whose turn it is.
#[derive(Clone, Debug)]
pub struct ItemMark {
    /// Which list.
    pub queue: QueueId,
    /// Which recipient.
    pub position: u32,
    /// Who it turned out to be: the same for two ways to name somebody.
    pub person: String,
}

/// A recipient becomes something else.
#[derive(Clone, Debug)]
pub struct ItemChange {
    /// Which list.
    pub queue: QueueId,
    /// Which recipient.
    pub position: u32,
    /// What it has to be; else nothing happens.
    pub from: ItemState,
    /// What it becomes. One that waits again was put off once more.
    pub to: ItemState,
    /// Why.
    pub reason: String,
    /// Now.
    pub time: SystemTime,
}

/// What came of a recipient becoming something else.
#[derive(Clone, Debug)]
pub struct QueueStep {
    /// The list as it was.
    pub before: QueueRow,
    /// The list as it is: completed, if this was the last.
    pub after: QueueRow,
    /// The recipient as it is.
    pub item: ItemRow,
}

/// A new list.
pub struct NewQueue {
    /// The list; it counts its recipients itself.
    pub row: QueueRow,
    /// Its recipients, in their order.
    pub items: Vec<NewItem>,
    /// The caller's request id, if it gave one.
    pub request: Option<RequestMark>,
    /// Most lists that are not done; one more is refused.
    pub most_open: usize,
    /// Lists that are done and kept; the oldest others go.
    pub keep_done: usize,
}

/// What came of creating a list.
#[derive(Clone, Debug)]
pub enum CreateQueueOutcome {
    /// Done.
    Created(Box<QueueRow>),
    /// The request id was used before with the same body: this is its list.
    Replayed(Box<QueueRow>),
    /// The request id was used before with another body, which differs in these fields.
    Reused(Vec<String>),
    /// There are too many already.
    TooMany,
}

/// Makes of a list what it is to be, with what the log says of it; `None` leaves it. May be called more than once.
pub type QueueApply = Box<dyn Fn(&QueueRow) -> Option<(QueueRow, Vec<NewEvent>)> + Send + Sync>;

/// Which recipients are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ItemQuery {
    /// Only in this state.
    pub state: Option<ItemState>,
    /// Only after this place.
    pub after: Option<u32>,
    /// Most rows.
    pub limit: usize,
}

/// Since WhatsApp said so, an account may not write to strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRow {
    /// Until when.
    pub until: SystemTime,
    /// Why, with WhatsApp's code.
    pub reason: String,
    /// How many came one after the other: where WhatsApp names no time, each is longer.
    pub strikes: u32,
}

/// What the store does for mailing lists.
#[async_trait]
pub trait QueueStorage: Send + Sync {
    /// Stores a list with its recipients and events, in one transaction.
    async fn create_queue(
        &self,
        new: NewQueue,
        events: EventsOf<QueueRow>,
    ) -> Result<CreateQueueOutcome>;
    /// Finds one.
    async fn lookup_queue(&self, instance: InstanceNumber, id: QueueId)
    -> Result<Option<QueueRow>>;
    /// Lists them, newest first, after one.
    async fn list_queues(
        &self,
        instance: InstanceNumber,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<QueueRow>>;
    /// Lists those that run, and those that are paused with a message still on its way.
    async fn list_running_queues(&self, instance: InstanceNumber) -> Result<Vec<QueueId>>;
    /// Changes one, with its events, and returns it as it is then; `None` where there is none.
    async fn change_queue(
        &self,
        instance: InstanceNumber,
        id: QueueId,
        apply: QueueApply,
    ) -> Result<Option<QueueRow>>;
    /// Removes one with its recipients; false where there is none.
    async fn delete_queue(
        &self,
        instance: InstanceNumber,
        id: QueueId,
        events: EventsOf<QueueRow>,
    ) -> Result<bool>;
    /// Lists recipients in the order of their list; none where there is no such list.
    async fn list_items(
        &self,
        instance: InstanceNumber,
        id: QueueId,
        query: ItemQuery,
    ) -> Result<Vec<ItemRow>>;
    /// Stores the message of a recipient whose turn it is, with its events, as `accept_message` does. Answers
    /// `Withdrawn` where its turn is no longer, `Twice` where the same person has another turn.
    async fn accept_item(
        &self,
        message: MessageRow,
        item: ItemMark,
        events: Vec<NewEvent>,
    ) -> Result<AcceptOutcome>;
    /// Lets a recipient become something else, with its events; completes the list with its last one. Returns the
    /// list as it is then; `None` where there is none.
    async fn change_item(
        &self,
        instance: InstanceNumber,
        change: ItemChange,
        events: EventsOf<QueueStep>,
    ) -> Result<Option<QueueRow>>;
    /// Whether anybody wrote to the account in one of these chats.
    async fn has_received(&self, instance: InstanceNumber, chats: Vec<String>) -> Result<bool>;
    /// Since when and until when WhatsApp limits the account, as it was stored last.
    async fn lookup_hold(&self, instance: InstanceNumber) -> Result<Option<HoldRow>>;
    /// Stores it.
    async fn store_hold(&self, instance: InstanceNumber, hold: HoldRow) -> Result<()>;
}
