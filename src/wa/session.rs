//! One instance at work: its task, its state, its client.
//!
//! Owns the client and every move of the state; each move is committed with its event before anybody
//! is told ([`writing`]). Leaves reconnecting to the library and watches it. Never restarts what WhatsApp ended.

mod observing;
mod pairing_steps;
mod writing;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::types::events::Event;

use self::{observing::show, writing::Details};
use super::{
    addresses::Addresses,
    app_state::AppState,
    calls::Calls,
    contacts::Contacts,
    error::WaError,
    groups::Groups,
    hook::Intake,
    link::{self, Link, Plan},
    media::Uploads,
    networks::Networks,
    outbound::{self, Outbox},
    pairing::{PairStep, Pairing, PairingMethod, RefusedReason},
    queues::Queues,
    store::DeviceBackend,
};
use crate::{
    domain::{ids::InstanceNumber, session::SessionState},
    events::{self, Log},
    preview::Previews,
    proto::v1,
    storage::{InstanceChange, InstanceRow, NameOutcome, Storage},
};
use v1::event::Payload;

/// Commands that may wait for a session.
const COMMANDS_WAITING: usize = 64;

/// How often a session looks whether its client is what it believes.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// How long a client may take to stop.
const STOP_TIME: Duration = Duration::from_secs(12);

/// Why messages of an account that is gone are not sent.
const LEFT_BEHIND: &str = "the account was logged out";

/// Pause after a write of the state failed.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// The longest pause after the library panicked again and again, …
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// … and how long it has not when the next counts as the first.
const PEACE: Duration = Duration::from_secs(3_600);

/// What all sessions share.
pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) log: Log,
    pub(super) uploads: Arc<Uploads>,
    pub(super) previews: Arc<Previews>,
    pub(super) networks: Networks,
}

/// What can be asked of a session.
pub(super) enum Command {
    Connect(Answer),
    Disconnect(Answer),
    Restart(Answer),
    Logout(Answer),
    Pair {
        method: PairingMethod,
        steps: mpsc::Sender<PairStep>,
        answer: Answer,
    },
    Change {
        change: InstanceChange,
        answer: oneshot::Sender<Result<NameOutcome, WaError>>,
    },
    /// Logs out if it can, removes every row and ends the task.
    Delete(oneshot::Sender<Result<(), WaError>>),
}

pub(super) type Answer = oneshot::Sender<Result<InstanceRow, WaError>>;

/// The way to a session.
pub(super) struct Handle {
    /// Boxed, because a channel keeps room for many.
    pub(super) commands: mpsc::Sender<Box<Command>>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) groups: Arc<Groups>,
    pub(super) calls: Arc<Calls>,
    pub(super) app_state: Arc<AppState>,
    pub(super) queues: Arc<Queues>,
    pub(super) task: JoinHandle<()>,
}

/// Starts the task of an instance; one that was running before goes on.
pub(super) fn spawn(
    shared: Arc<Shared>,
    row: InstanceRow,
    first_delay: Duration,
    stop: CancellationToken,
) -> Handle {
    let (commands, inbox) = mpsc::channel(COMMANDS_WAITING);
    let (instance, seen) = watch::channel(row);
    let contacts = Contacts::new(shared.storage.clone(), seen.clone());
    let (client, open) = watch::channel(None);
    let addresses = Arc::new(Addresses::default());
    let groups = Groups::new(
        shared.storage.clone(),
        seen.clone(),
        open.clone(),
        addresses.clone(),
        stop.clone(),
    );
    let outbox = Outbox::spawn(outbound::Parts {
        storage: shared.storage.clone(),
        instance: seen.clone(),
        client,
        addresses,
        contacts: contacts.clone(),
        groups: groups.clone(),
        uploads: shared.uploads.clone(),
        previews: shared.previews.clone(),
        stop: stop.clone(),
    });
    let app_state = AppState::new(
        shared.storage.clone(),
        seen.clone(),
        open.clone(),
        stop.clone(),
    );
    let queues = Queues::spawn(
        shared.storage.clone(),
        seen.clone(),
        open.clone(),
        outbox.clone(),
        stop.clone(),
    );
    let calls = Calls::spawn(
        shared.storage.clone(),
        seen,
        open,
        outbox.clone(),
        contacts.clone(),
        stop.clone(),
    );
    let session = Session {
        shared,
        instance,
        outbox: outbox.clone(),
        contacts,
        groups: groups.clone(),
        calls: calls.clone(),
        app_state: app_state.clone(),
        inbox,
        link: None,
        starting: None,
        pairing: None,
        panics: Panics::default(),
        stop,
    };
    Handle {
        commands,
        outbox,
        groups,
        calls,
        app_state,
        queues,
        task: tokio::spawn(session.run(first_delay)),
    }
}

struct Session {
    shared: Arc<Shared>,
    instance: watch::Sender<InstanceRow>,
    outbox: Arc<Outbox>,
    contacts: Contacts,
    groups: Arc<Groups>,
    calls: Arc<Calls>,
    app_state: Arc<AppState>,
    inbox: mpsc::Receiver<Box<Command>>,
    link: Option<Link>,
    starting: Option<JoinHandle<Link>>,
    pairing: Option<Pairing>,
    panics: Panics,
    stop: CancellationToken,
}

/// Panics of an instance's clients. WhatsApp delivers again what a client fell over, so the next may fall too.
#[derive(Default)]
struct Panics {
    last: Option<(Instant, Duration)>,
}

impl Panics {
    /// How long to wait after one more: longer each time, from the beginning after an hour of peace.
    fn next_pause(&mut self, now: Instant) -> Duration {
        let pause = match self.last {
            Some((at, pause)) if now - at < PEACE => (pause * 2).min(LONGEST_PAUSE),
            _ => STORE_AGAIN,
        };
        self.last = Some((now, pause));
        pause
    }
}

/// What woke the session.
enum Woken {
    Stop,
    Command(Option<Command>),
    Started(Option<Link>),
    Events(Vec<Arc<Event>>),
    PairingEnds,
    StoreFailed,
    Look,
}

impl Session {
    /// What is done is boxed, so that an instance that waits takes only the room of waiting.
    async fn run(mut self, first_delay: Duration) {
        Box::pin(self.resume(first_delay)).await;
        loop {
            match self.wait().await {
                Woken::Stop => break,
                Woken::Command(None) => break,
                Woken::Command(Some(Command::Delete(answer))) => {
                    let deleted = Box::pin(self.delete()).await;
                    let ended = deleted.is_ok();
                    answer.send(deleted).ok();
                    if ended {
                        // What works for the instance ends with it.
                        self.stop.cancel();
                        return;
                    }
                }
                Woken::Command(Some(command)) => Box::pin(self.obey(command)).await,
                Woken::Started(link) => self.link = link,
                Woken::Events(events) if events.is_empty() => {
                    Box::pin(self.client_is_gone("the client stopped")).await;
                }
                Woken::StoreFailed => {
                    Box::pin(self.client_is_gone("the database could not be written")).await;
                }
                Woken::Events(events) => Box::pin(self.observe(events)).await,
                Woken::PairingEnds => Box::pin(self.pairing_ends()).await,
                Woken::Look => Box::pin(self.look()).await,
            }
        }
        Box::pin(self.leave()).await;
    }

    async fn wait(&mut self) -> Woken {
        let pairing_ends = self.pairing.as_ref().map(Pairing::ends);
        let store_failed = self.link.as_ref().map(Link::store_failed);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Woken::Stop,
            command = self.inbox.recv() => Woken::Command(command.map(|command| *command)),
            Ok(link) = until_some(&mut self.starting) => {
                self.starting = None;
                Woken::Started(Some(link))
            }
            () = pulled(store_failed) => Woken::StoreFailed,
            events = next_events(&mut self.link) => Woken::Events(events),
            () = ends(pairing_ends) => Woken::PairingEnds,
            () = sleep(LOOK_AGAIN), if self.link.is_some() => Woken::Look,
        }
    }

    fn row(&self) -> InstanceRow {
        self.instance.borrow().clone()
    }

    fn number(&self) -> InstanceNumber {
        self.instance.borrow().number
    }

    fn state(&self) -> SessionState {
        self.instance.borrow().state
    }

    fn intake(&self) -> Intake {
        Intake {
            storage: self.shared.storage.clone(),
            instance: self.instance.subscribe(),
            contacts: self.contacts.clone(),
            outbox: self.outbox.clone(),
        }
    }

    fn backend(&self) -> DeviceBackend {
        DeviceBackend::new(self.shared.storage.as_ref(), self.number())
    }

    // Starting and stopping.

    /// Goes on where the last run of wagate ended.
    async fn resume(&mut self, first_delay: Duration) {
        match self.state() {
            SessionState::Open => {
                self.enter(
                    SessionState::Connecting,
                    "wagate was started",
                    Details::default(),
                )
                .await;
                self.start(None, first_delay);
            }
            SessionState::Connecting => self.start(None, first_delay),
            // The pairing may have ended well just before the crash.
            SessionState::Pairing => match link::is_paired(&self.backend()).await {
                Ok(true) => {
                    self.enter(SessionState::Connecting, "paired", Details::default())
                        .await;
                    self.start(None, first_delay);
                }
                Ok(false) => {
                    self.forget_device().await;
                    self.enter(
                        SessionState::Unpaired,
                        "the pairing was interrupted",
                        Details::default(),
                    )
                    .await;
                }
                Err(error) => tracing::error!(
                    instance = %self.number(), %error,
                    "the device can't be read"
                ),
            },
            _ => {}
        }
    }

    /// Lets a client start, trying again until it can be built.
    fn start(&mut self, pair_with: Option<String>, first_delay: Duration) {
        if let Some(starting) = self.starting.take() {
            starting.abort();
        }
        let shared = self.shared.clone();
        let row = self.row();
        let mut writable = shared.storage.writable();
        let hook = self.intake();
        let contacts = self.contacts.clone();
        self.starting = Some(tokio::spawn(async move {
            let mut pause = Duration::from_secs(1);
            loop {
                // A login writes, and a client that can't write does not live long.
                if writable.wait_for(|writable| *writable).await.is_err() {
                    // The database is closed for good.
                    std::future::pending::<()>().await;
                }
                let plan = Plan {
                    network: row.network,
                    // A new one each time: one that failed once writes no more.
                    backend: DeviceBackend::new(shared.storage.as_ref(), row.number)
                        .telling(contacts.clone()),
                    hook: hook.clone(),
                    pair_with: pair_with.clone(),
                    first_delay,
                };
                match Link::start(&shared.networks, plan).await {
                    Ok(link) => return link,
                    Err(error) => tracing::warn!(
                        instance = %row.number,
                        error = format!("{error:#}"),
                        retry_seconds = pause.as_secs(),
                        "the session can't start yet"
                    ),
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(60));
            }
        }));
    }

    async fn stop_starting(&mut self) {
        let Some(starting) = self.starting.take() else {
            return;
        };
        starting.abort();
        if let Ok(link) = starting.await {
            // It had just begun to run.
            link.shutdown().await;
        }
    }

    /// Stops the client, flushed; nothing of it runs afterwards.
    async fn stop_client(&mut self) {
        self.outbox.close();
        self.stop_starting().await;
        let Some(link) = self.link.take() else { return };
        let Ok(rest) = tokio::time::timeout(STOP_TIME, link.shutdown()).await else {
            tracing::warn!(
                instance = %self.number(),
                "the client took too long to stop and was cut off"
            );
            return;
        };
        // What WhatsApp confirmed meanwhile it will not say again.
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            let read = self.outbox.observe(rest).await;
            rest = &rest[read.max(1)..];
        }
    }

    /// wagate stops: the next run goes on from here.
    async fn leave(&mut self) {
        self.end_pairing(PairStep::Refused(
            RefusedReason::Cancelled,
            "the server is shutting down".to_owned(),
        ))
        .await;
        self.stop_client().await;
        if self.state() == SessionState::Open {
            let change = self.state_change(
                SessionState::Connecting,
                "wagate was stopped",
                &Details::default(),
            );
            // Tried once: whoever stops does not wait for a database that is gone.
            if let Err(error) = self.store(change).await {
                tracing::warn!(%error, "the state at shutdown can't be stored");
            }
        }
    }

    async fn delete(&mut self) -> Result<(), WaError> {
        if self.state().is_paired() {
            self.unlink().await;
        }
        self.end_pairing(PairStep::Refused(
            RefusedReason::Cancelled,
            "the instance was deleted".to_owned(),
        ))
        .await;
        self.stop_client().await;
        let row = self.row();
        let events = Box::new(|row: &InstanceRow| {
            let payload = Payload::InstanceDeleted(v1::InstanceDeleted {
                name: row.name.to_string(),
            });
            vec![events::compose(row, payload, SystemTime::now(), "")]
        });
        self.shared
            .storage
            .delete_instance(row.number, events)
            .await?;
        Ok(())
    }

    /// Tells WhatsApp that the device is gone, if the connection allows.
    async fn unlink(&mut self) {
        if let Some(link) = &self.link {
            let logout = link.client();
            if tokio::time::timeout(STOP_TIME, async move { logout.logout().await })
                .await
                .is_err()
            {
                tracing::warn!("WhatsApp did not confirm the logout in time");
            }
        }
    }

    async fn forget_device(&self) {
        let number = self.number();
        if let Err(error) = self.shared.storage.device(number).clear().await {
            tracing::error!(instance = %number, %error, "the device's rows can't be removed");
        }
    }

    // What callers ask.

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Connect(answer) => {
                let done = self.connect().await;
                answer.send(done).ok();
            }
            Command::Disconnect(answer) => {
                let done = self.disconnect("on request").await;
                answer.send(done).ok();
            }
            Command::Restart(answer) => {
                let done = match self.may_connect() {
                    Ok(()) => {
                        self.stop_client().await;
                        if self.state() == SessionState::Open {
                            self.enter(SessionState::Connecting, "restarted", Details::default())
                                .await;
                        }
                        self.connect().await
                    }
                    Err(error) => Err(error),
                };
                answer.send(done).ok();
            }
            Command::Logout(answer) => {
                let done = self.log_out().await;
                answer.send(done).ok();
            }
            Command::Pair {
                method,
                steps,
                answer,
            } => {
                let done = self.pair(method, steps).await;
                answer.send(done).ok();
            }
            Command::Change { change, answer } => {
                let done = self.change(change).await;
                answer.send(done).ok();
            }
            Command::Delete(answer) => {
                // `run` takes this one itself, because it ends with it.
                answer.send(Err(WaError::ShuttingDown)).ok();
            }
        }
    }

    fn not_open(&self) -> WaError {
        WaError::NotOpen(Box::new(self.row()))
    }

    fn may_connect(&self) -> Result<(), WaError> {
        let row = self.instance.borrow();
        self.shared.networks.choose(Some(row.network))?;
        let banned = row.state == SessionState::Banned
            && row
                .banned_until
                .is_some_and(|until| until > SystemTime::now());
        if !row.state.is_paired() || banned {
            return Err(WaError::NotOpen(Box::new(row.clone())));
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<InstanceRow, WaError> {
        self.may_connect()?;
        if self.link.is_none() && self.starting.is_none() {
            if self.state() != SessionState::Connecting {
                self.enter(SessionState::Connecting, "on request", Details::default())
                    .await;
            }
            self.start(None, Duration::ZERO);
        }
        Ok(self.row())
    }

    async fn disconnect(&mut self, reason: &str) -> Result<InstanceRow, WaError> {
        self.end_pairing(PairStep::Refused(
            RefusedReason::Cancelled,
            "the instance was disconnected".to_owned(),
        ))
        .await;
        self.stop_client().await;
        if self.state().is_running() {
            self.enter(SessionState::Disconnected, reason, Details::default())
                .await;
        }
        Ok(self.row())
    }

    async fn log_out(&mut self) -> Result<InstanceRow, WaError> {
        if !self.state().is_paired() {
            return Err(self.not_open());
        }
        self.unlink().await;
        self.ended(SessionState::LoggedOut, "on request", Details::default())
            .await;
        Ok(self.row())
    }

    async fn change(&mut self, change: InstanceChange) -> Result<NameOutcome, WaError> {
        let show_online = change.show_online;
        let outcome = self.store(change).await?;
        if let (NameOutcome::Done(row), Some(_), Some(link)) = (&outcome, show_online, &self.link)
            && row.state == SessionState::Open
        {
            show(link.client(), row.show_online);
        }
        Ok(outcome)
    }
}

async fn until_some<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn pulled(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn next_events(link: &mut Option<Link>) -> Vec<Arc<Event>> {
    match link {
        Some(link) => link.events().await,
        None => std::future::pending().await,
    }
}

async fn ends(pairing: Option<(Instant, mpsc::Sender<PairStep>)>) {
    match pairing {
        Some((at, steps)) => tokio::select! {
            () = sleep_until(at) => {}
            () = steps.closed() => {}
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_keeps_panicking_is_built_more_and_more_rarely() {
        let mut panics = Panics::default();
        let now = Instant::now();
        let pauses: Vec<u64> = (0..11).map(|_| panics.next_pause(now).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(panics.next_pause(now + PEACE), STORE_AGAIN);
    }
}
