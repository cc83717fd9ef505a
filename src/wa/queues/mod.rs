//! The mailing lists of one instance.
//!
//! Owns what callers do to a list, each in one transaction with what the log says of it, and which lists run:
//! every one that does has a task ([`running`]) that takes its recipients one after the other. [`telling`] shows
//! lists, [`content`] fills in what they say. A message of a list is one like any other: it leaves by the outbox.

mod content;
mod running;
mod telling;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message as _;
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::Client;

pub use self::{
    content::{content_of, filled, has_places, listed},
    telling::{item as queue_item_resource, new_item, queue as queue_resource},
};
use super::{error::WaError, outbound::Outbox};
use crate::{
    domain::{ids::QueueId, limits, pace::Window},
    proto::v1,
    storage::{
        InstanceRow, RequestMark, Storage,
        queue::{
            CreateQueueOutcome, ItemCounts, ItemState, NewItem, NewQueue, QueueApply, QueueRow,
            QueueState,
        },
    },
};

/// Pause after the database could not be asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A list to be created. Its recipients and what it says were checked.
pub struct NewList {
    /// For people.
    pub name: String,
    /// What it says.
    pub message: v1::QueueMessage,
    /// How fast it goes.
    pub pacing: v1::QueuePacing,
    /// To whom.
    pub items: Vec<NewItem>,
    /// The caller's request id, if it gave one.
    pub request: Option<RequestMark>,
}

/// What a list says and how fast, as it is stored.
struct Plan;

impl Plan {
    fn encode(message: v1::QueueMessage, pacing: v1::QueuePacing) -> Vec<u8> {
        let plan = v1::Queue {
            message: Some(message),
            pacing: Some(pacing),
            ..Default::default()
        };
        plan.encode_to_vec()
    }

    fn window(pacing: Option<&v1::QueuePacing>) -> Option<Window> {
        let window = pacing?.window.as_ref()?;
        Some(Window {
            start_minute: window.start_minute,
            end_minute: window.end_minute,
            utc_offset_minutes: window.utc_offset_minutes,
        })
    }
}

/// The mailing lists of one instance.
pub(super) struct Queues {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    client: watch::Receiver<Option<Arc<Client>>>,
    outbox: Arc<Outbox>,
    stop: CancellationToken,
    /// Counts what callers have changed.
    changes: watch::Sender<u64>,
}

impl Queues {
    /// The lists, and the task that runs them, which ends with the token.
    pub(super) fn spawn(
        storage: Arc<dyn Storage>,
        instance: watch::Receiver<InstanceRow>,
        client: watch::Receiver<Option<Arc<Client>>>,
        outbox: Arc<Outbox>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let queues = Arc::new(Self {
            storage,
            instance,
            client,
            outbox,
            stop,
            changes: watch::Sender::new(0),
        });
        tokio::spawn(queues.clone().tend());
        queues
    }

    fn row(&self) -> InstanceRow {
        self.instance.borrow().clone()
    }

    /// Lets every list that is to run do so.
    async fn tend(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        let mut tasks = JoinSet::new();
        let mut running: HashMap<tokio::task::Id, QueueId> = HashMap::new();
        loop {
            changes.borrow_and_update();
            let number = self.row().number;
            let asked = self.storage.list_running_queues(number).await;
            let read = asked.is_ok();
            match asked {
                Ok(ids) => {
                    for id in ids {
                        if !running.values().any(|one| *one == id) {
                            let task = tasks.spawn(running::run(self.clone(), id));
                            running.insert(task.id(), id);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(instance = %number, %error, "mailing lists can't be read yet");
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(ended) = tasks.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => {
                            tracing::error!(instance = %number, %error, "a mailing list fell over");
                            sleep(ASK_AGAIN).await;
                            error.id()
                        }
                    };
                    running.remove(&id);
                }
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(ASK_AGAIN), if !read => {}
            }
        }
    }

    fn told_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Stores a list and begins it, or finds the one that the same request created.
    pub(super) async fn create(&self, new: NewList) -> Result<QueueRow, WaError> {
        let instance = self.row();
        let now = SystemTime::now();
        let mut message = new.message;
        let quoted = &message.quoted_message_id;
        if !quoted.is_empty() {
            let known = self.storage.lookup_message(instance.number, quoted, None);
            known.await?.ok_or(WaError::NothingToQuote)?;
        }
        if let Some(said) = message.content.take() {
            let mut content = content_of(said);
            self.outbox.take_in(&mut content).await?;
            message.content = listed(content);
        }
        let wrong = new.items.iter().enumerate();
        let wrong = wrong
            .filter(|(_, item)| item.state == ItemState::Invalid)
            .map(|(position, item)| new_item(position, item, now))
            .collect();
        let row = QueueRow {
            instance: instance.number,
            id: QueueId::generate(),
            name: new.name,
            state: QueueState::Running,
            state_reason: String::new(),
            held_until: None,
            account: instance.phone_number.clone(),
            body: Plan::encode(message, new.pacing).into(),
            counts: ItemCounts::default(),
            create_time: now,
            update_time: now,
            sent_time: None,
            complete_time: None,
        };
        let new = NewQueue {
            row,
            items: new.items,
            request: new.request,
            most_open: limits::QUEUES_OPEN,
            keep_done: limits::QUEUES_DONE,
        };
        let created = self
            .storage
            .create_queue(new, telling::created(instance, wrong));
        match created.await? {
            CreateQueueOutcome::Created(row) => {
                self.told_change();
                Ok(*row)
            }
            CreateQueueOutcome::Replayed(row) => Ok(*row),
            CreateQueueOutcome::Reused(fields) => Err(WaError::RequestReused(fields)),
            CreateQueueOutcome::TooMany => Err(WaError::TooManyQueues),
        }
    }

    /// Stops a list after the message that is on its way.
    pub(super) async fn pause(&self, id: QueueId) -> Result<QueueRow, WaError> {
        self.pause_for(id, "").await
    }

    async fn pause_for(&self, id: QueueId, reason: &str) -> Result<QueueRow, WaError> {
        let (instance, reason) = (self.row(), reason.to_owned());
        self.change(
            id,
            Box::new(move |row| {
                let paused = QueueRow {
                    state: QueueState::Paused,
                    state_reason: reason.clone(),
                    held_until: None,
                    update_time: SystemTime::now(),
                    ..row.clone()
                };
                let told = telling::paused(&instance, &paused);
                (row.state == QueueState::Running).then(|| (paused, vec![told]))
            }),
        )
        .await
    }

    /// Lets a list go on, from the account that the instance has now.
    pub(super) async fn resume(&self, id: QueueId) -> Result<QueueRow, WaError> {
        let instance = self.row();
        self.change(
            id,
            Box::new(move |row| {
                let resumed = QueueRow {
                    state: QueueState::Running,
                    state_reason: String::new(),
                    account: instance.phone_number.clone(),
                    update_time: SystemTime::now(),
                    ..row.clone()
                };
                let told = telling::resumed(&instance, &resumed);
                (row.state == QueueState::Paused).then(|| (resumed, vec![told]))
            }),
        )
        .await
    }

    async fn change(&self, id: QueueId, apply: QueueApply) -> Result<QueueRow, WaError> {
        let number = self.row().number;
        let row = self.storage.change_queue(number, id, apply).await?;
        let row = row.ok_or(WaError::QueueNotFound)?;
        self.told_change();
        match row.state {
            QueueState::Completed => Err(WaError::QueueCompleted),
            _ => Ok(row),
        }
    }

    /// Removes a list.
    pub(super) async fn delete(&self, id: QueueId) -> Result<(), WaError> {
        let instance = self.row();
        let number = instance.number;
        let deleted = self
            .storage
            .delete_queue(number, id, telling::deleted(instance));
        if !deleted.await? {
            return Err(WaError::QueueNotFound);
        }
        self.told_change();
        Ok(())
    }
}
