//! All instances of this process.
//!
//! Owns which sessions run. Never touches a client: it hands requests to the session that does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::Client;

use super::{
    app_state::AppState,
    error::WaError,
    groups::Groups,
    media::Uploads,
    networks::{Networks, NetworksConfig},
    outbound::{Outbox, OutboxPlace, Outgoing, Unconfirmed},
    pairing::{PairStep, PairingMethod},
    polls,
    queues::{NewList, Queues},
    session::{self, Answer, Command, Handle, Shared},
};
use crate::{
    domain::ids::{InstanceNumber, QueueId},
    events::{self, Log},
    preview::Previews,
    proto::v1::{self, event::Payload},
    storage::{
        InstanceChange, InstanceRow, MessageRow, NameOutcome, Network, NewInstance, RequestMark,
        Storage, StorageError, queue::QueueRow,
    },
};

/// Instances read at once while starting.
const START_PAGE: usize = 500;

/// WhatsApp sees the first dials after a start spread over this much per instance, …
const SPREAD_EACH: Duration = Duration::from_millis(5);

/// … but no longer than this.
const SPREAD_MOST: Duration = Duration::from_secs(10);

/// Steps of a pairing that may wait for its caller: more than a pairing has.
const STEPS_WAITING: usize = 64;

/// The sessions.
pub struct Registry {
    shared: Arc<Shared>,
    sessions: Mutex<HashMap<InstanceNumber, Handle>>,
    stop: CancellationToken,
}

impl Registry {
    /// Brings back every instance of the database; those that were running log in again.
    pub async fn start(
        storage: Arc<dyn Storage>,
        log: Log,
        uploads: Arc<Uploads>,
        previews: Arc<Previews>,
        config: NetworksConfig,
    ) -> Result<Arc<Self>, WaError> {
        let registry = Arc::new(Self {
            shared: Arc::new(Shared {
                storage: storage.clone(),
                log,
                uploads,
                previews,
                networks: Networks::new(config),
            }),
            sessions: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let mut rows = Vec::new();
        loop {
            let after = rows.last().map(|row: &InstanceRow| row.number);
            let page = storage.list_instances(after, None, START_PAGE).await?;
            let last = page.len() < START_PAGE;
            rows.extend(page);
            if last {
                break;
            }
        }
        let dials = |row: &InstanceRow| row.network == Network::WhatsApp && row.state.is_running();
        let dialling = rows.iter().filter(|row| dials(row)).count();
        let spread = (SPREAD_EACH * u32::try_from(dialling).unwrap_or(u32::MAX)).min(SPREAD_MOST);
        for row in rows {
            // The sandbox is ours and minds no crowd.
            let first_delay = match row.network {
                Network::WhatsApp => spread.mul_f64(rand::rng().random()),
                Network::Sandbox => Duration::ZERO,
            };
            registry.adopt(row, first_delay);
        }
        Ok(registry)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<InstanceNumber, Handle>> {
        // Every change is one insert or remove.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopt(&self, row: InstanceRow, first_delay: Duration) {
        let number = row.number;
        let mut sessions = self.sessions();
        sessions.entry(number).or_insert_with(|| {
            let stop = self.stop.child_token();
            session::spawn(self.shared.clone(), row, first_delay, stop)
        });
    }

    /// Creates an instance, or finds the one that the same request created.
    pub async fn create(
        &self,
        network: Option<Network>,
        mut new: NewInstance,
        request: Option<RequestMark>,
    ) -> Result<InstanceRow, WaError> {
        new.network = self.shared.networks.choose(network)?;
        let events = Box::new(|row: &InstanceRow| {
            let payload = Payload::InstanceCreated(v1::InstanceCreated {
                instance: Some(super::convert::rows::instance(row)),
            });
            vec![events::compose(row, payload, row.create_time, "")]
        });
        let storage = &self.shared.storage;
        let row = match storage.create_instance(new, request, events).await? {
            NameOutcome::Done(row) => *row,
            NameOutcome::Taken(name) => return Err(WaError::NameTaken(name)),
            NameOutcome::Missing => return Err(WaError::InstanceNotFound),
            NameOutcome::Reused(fields) => return Err(WaError::RequestReused(fields)),
            NameOutcome::Replayed(id) => storage
                .lookup_instance(&id)
                .await?
                .ok_or(WaError::InstanceNotFound)?,
        };
        self.adopt(row.clone(), Duration::ZERO);
        Ok(row)
    }

    /// Changes name or settings.
    pub async fn change(
        &self,
        number: InstanceNumber,
        change: InstanceChange,
    ) -> Result<InstanceRow, WaError> {
        let outcome = self
            .ask(number, |answer| Command::Change { change, answer })
            .await??;
        match outcome {
            NameOutcome::Done(row) => Ok(*row),
            NameOutcome::Taken(name) => Err(WaError::NameTaken(name)),
            NameOutcome::Missing | NameOutcome::Replayed(_) | NameOutcome::Reused(_) => {
                Err(WaError::InstanceNotFound)
            }
        }
    }

    /// Logs out if it can and removes the instance with all its rows.
    pub async fn delete(&self, number: InstanceNumber) -> Result<(), WaError> {
        self.ask(number, Command::Delete).await??;
        self.sessions().remove(&number);
        Ok(())
    }

    /// Starts the connection of a paired instance.
    pub async fn connect(&self, number: InstanceNumber) -> Result<InstanceRow, WaError> {
        self.ask(number, Command::Connect).await?
    }

    /// Closes the connection, keeps the credentials.
    pub async fn disconnect(&self, number: InstanceNumber) -> Result<InstanceRow, WaError> {
        self.ask(number, Command::Disconnect).await?
    }

    /// Closes the connection and starts it anew.
    pub async fn restart(&self, number: InstanceNumber) -> Result<InstanceRow, WaError> {
        self.ask(number, Command::Restart).await?
    }

    /// Unlinks the device and forgets the credentials.
    pub async fn logout(&self, number: InstanceNumber) -> Result<InstanceRow, WaError> {
        self.ask(number, Command::Logout).await?
    }

    /// Starts a pairing; its steps end after exactly one of Paired, Expired and Refused. Dropping
    /// the receiver ends the pairing.
    pub async fn pair(
        &self,
        number: InstanceNumber,
        method: PairingMethod,
    ) -> Result<mpsc::Receiver<PairStep>, WaError> {
        let (steps, receiver) = mpsc::channel(STEPS_WAITING);
        self.ask(number, |answer: Answer| Command::Pair {
            method,
            steps,
            answer,
        })
        .await??;
        Ok(receiver)
    }

    /// Stores a message and waits for its confirmation.
    pub async fn send(
        &self,
        number: InstanceNumber,
        outgoing: Outgoing,
    ) -> Result<MessageRow, WaError> {
        self.outbox(number)?.send(outgoing).await
    }

    /// What an instance has accepted and WhatsApp has not confirmed, after a place.
    pub async fn unconfirmed(
        &self,
        number: InstanceNumber,
        after: Option<OutboxPlace>,
        limit: usize,
    ) -> Result<Vec<Unconfirmed>, WaError> {
        self.outbox(number)?.unconfirmed(after, limit).await
    }

    /// The message with this id that a caller sent, whether it waits or not.
    pub async fn sent_as(
        &self,
        number: InstanceNumber,
        message_id: &str,
    ) -> Result<Option<MessageRow>, WaError> {
        self.outbox(number)?.sent_as(message_id).await
    }

    /// Takes back what has not left.
    pub async fn cancel_send(
        &self,
        number: InstanceNumber,
        message_id: &str,
    ) -> Result<MessageRow, WaError> {
        self.outbox(number)?.cancel(message_id).await
    }

    /// Tells the writers of these messages of one chat that they were read or played.
    pub async fn mark(
        &self,
        number: InstanceNumber,
        rows: Vec<MessageRow>,
        played: bool,
    ) -> Result<(), WaError> {
        self.outbox(number)?.mark(rows, played).await
    }

    /// The votes of a poll, counted; `None` where the message is none.
    pub async fn poll_results(
        &self,
        poll: &MessageRow,
    ) -> Result<Option<v1::PollResults>, WaError> {
        let storage = &*self.shared.storage;
        let votes = polls::votes(storage, poll.instance, &poll.message_id).await?;
        Ok(polls::tally(poll, &votes)?)
    }

    /// Stops all sessions side by side, flushed.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let sessions: Vec<Handle> = self.sessions().drain().map(|(_, handle)| handle).collect();
        for handle in sessions {
            handle.task.await.ok();
        }
    }

    /// An instance, with its client while it is open.
    pub(super) fn at_work(
        &self,
        number: InstanceNumber,
    ) -> Option<(InstanceRow, Option<Arc<Client>>)> {
        let outbox = self.outbox(number).ok()?;
        Some((outbox.row(), outbox.open_client().ok()))
    }

    /// The groups of an instance.
    pub fn groups(&self, number: InstanceNumber) -> Result<Arc<Groups>, WaError> {
        let sessions = self.sessions();
        let handle = sessions.get(&number).ok_or(WaError::InstanceNotFound)?;
        Ok(handle.groups.clone())
    }

    /// What the devices of an instance's account share.
    pub fn app_state(&self, number: InstanceNumber) -> Result<Arc<AppState>, WaError> {
        let sessions = self.sessions();
        let handle = sessions.get(&number).ok_or(WaError::InstanceNotFound)?;
        Ok(handle.app_state.clone())
    }

    /// Rejects a call that rings.
    pub async fn reject_call(
        &self,
        number: InstanceNumber,
        call_id: String,
    ) -> Result<v1::Call, WaError> {
        let calls = {
            let sessions = self.sessions();
            let handle = sessions.get(&number).ok_or(WaError::InstanceNotFound)?;
            handle.calls.clone()
        };
        calls.reject(call_id).await
    }

    /// Stores a mailing list and begins it.
    pub async fn create_queue(
        &self,
        number: InstanceNumber,
        new: NewList,
    ) -> Result<QueueRow, WaError> {
        self.queues(number)?.create(new).await
    }

    /// Stops a mailing list after the message that is on its way.
    pub async fn pause_queue(
        &self,
        number: InstanceNumber,
        id: QueueId,
    ) -> Result<QueueRow, WaError> {
        self.queues(number)?.pause(id).await
    }

    /// Lets a mailing list that was paused go on.
    pub async fn resume_queue(
        &self,
        number: InstanceNumber,
        id: QueueId,
    ) -> Result<QueueRow, WaError> {
        self.queues(number)?.resume(id).await
    }

    /// Removes a mailing list.
    pub async fn delete_queue(&self, number: InstanceNumber, id: QueueId) -> Result<(), WaError> {
        self.queues(number)?.delete(id).await
    }

    fn queues(&self, number: InstanceNumber) -> Result<Arc<Queues>, WaError> {
        let sessions = self.sessions();
        let handle = sessions.get(&number).ok_or(WaError::InstanceNotFound)?;
        Ok(handle.queues.clone())
    }

    fn outbox(&self, number: InstanceNumber) -> Result<Arc<Outbox>, WaError> {
        let sessions = self.sessions();
        let handle = sessions.get(&number).ok_or(WaError::InstanceNotFound)?;
        Ok(handle.outbox.clone())
    }

    async fn ask<T>(
        &self,
        number: InstanceNumber,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, WaError> {
        let commands = {
            let sessions = self.sessions();
            let handle = sessions.get(&number).ok_or(WaError::InstanceNotFound)?;
            handle.commands.clone()
        };
        // Whatever is asked of a session changes its state, and the session itself may be waiting
        // for the database right now.
        if !*self.shared.storage.writable().borrow() && !self.stop.is_cancelled() {
            return Err(WaError::Storage(StorageError::Unavailable(
                anyhow::anyhow!("it takes no writes"),
            )));
        }
        let (answer, answered) = oneshot::channel();
        let gone = || {
            if self.stop.is_cancelled() {
                WaError::ShuttingDown
            } else {
                WaError::InstanceNotFound
            }
        };
        commands
            .send(Box::new(command(answer)))
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}
