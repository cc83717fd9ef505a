//! One instance at work: its task, its state, its client.
//!
//! Owns the client and every move of the state; each move is committed with its event before anybody
//! is told. Leaves reconnecting to the library and watches it. Never restarts what WhatsApp ended.

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
use whatsapp_rust::{
    Client,
    types::events::{ConnectFailureReason, Event},
};

use super::{
    contacts::Contacts,
    convert::label,
    error::WaError,
    hook::{Intake, account},
    link::{self, Link, Plan},
    networks::Networks,
    outbound::Outbox,
    pairing::{PairStep, Pairing, PairingMethod, RefusedReason},
    store::DeviceBackend,
};
use crate::{
    domain::{ids::InstanceNumber, session::SessionState},
    events::{self, Log, timestamp},
    proto::v1,
    storage::{
        InstanceChange, InstanceRow, NameOutcome, NewEvent, StateChange, Storage, StorageError,
    },
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
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) outbox: Arc<Outbox>,
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
    let outbox = Outbox::spawn(shared.storage.clone(), seen, stop.clone());
    let session = Session {
        shared,
        instance,
        outbox: outbox.clone(),
        contacts,
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
        task: tokio::spawn(session.run(first_delay)),
    }
}

struct Session {
    shared: Arc<Shared>,
    instance: watch::Sender<InstanceRow>,
    outbox: Arc<Outbox>,
    contacts: Contacts,
    inbox: mpsc::Receiver<Command>,
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
    async fn run(mut self, first_delay: Duration) {
        self.resume(first_delay).await;
        loop {
            match self.wait().await {
                Woken::Stop => break,
                Woken::Command(None) => break,
                Woken::Command(Some(Command::Delete(answer))) => {
                    let deleted = self.delete().await;
                    let ended = deleted.is_ok();
                    answer.send(deleted).ok();
                    if ended {
                        return;
                    }
                }
                Woken::Command(Some(command)) => self.obey(command).await,
                Woken::Started(link) => self.link = link,
                Woken::Events(events) if events.is_empty() => {
                    self.client_is_gone("the client stopped").await;
                }
                Woken::StoreFailed => {
                    self.client_is_gone("the database could not be written")
                        .await;
                }
                Woken::Events(events) => self.observe(events).await,
                Woken::PairingEnds => self.pairing_ends().await,
                Woken::Look => self.look().await,
            }
        }
        self.leave().await;
    }

    async fn wait(&mut self) -> Woken {
        let pairing_ends = self.pairing.as_ref().map(Pairing::ends);
        let store_failed = self.link.as_ref().map(Link::store_failed);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Woken::Stop,
            command = self.inbox.recv() => Woken::Command(command),
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
            let told = self.outbox.statuses(rest);
            rest = &rest[told.read.max(1)..];
            self.outbox.settle(told).await;
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

    // Pairing.

    async fn pair(
        &mut self,
        method: PairingMethod,
        steps: mpsc::Sender<PairStep>,
    ) -> Result<InstanceRow, WaError> {
        let state = self.state();
        if self.pairing.is_some() {
            return Err(WaError::PairingInProgress);
        }
        if state.is_paired() {
            return Err(WaError::AlreadyPaired);
        }
        self.shared
            .networks
            .choose(Some(self.instance.borrow().network))?;
        // Nothing of an earlier account may leak into this one.
        let number = self.number();
        self.shared.storage.device(number).clear().await?;
        self.outbox.abandon(LEFT_BEHIND).await?;
        if state != SessionState::Pairing {
            let row = self.row();
            // Who it was before is no longer true.
            let cleared = |known: &str| (!known.is_empty()).then(String::new);
            let change = InstanceChange {
                phone_number: cleared(&row.phone_number),
                lid: cleared(&row.lid),
                push_name: cleared(&row.push_name),
                ..self.state_change(SessionState::Pairing, "", &Details::default())
            };
            self.store_surely(change).await;
        }
        let phone_number = method.phone_number();
        self.pairing = Some(Pairing::new(method, steps));
        self.start(phone_number, Duration::ZERO);
        Ok(self.row())
    }

    /// Codes that were used or expired are nobody's business any more.
    async fn blank_codes(&self) {
        if let Err(error) = self.shared.log.blank_pairing(self.number()).await {
            tracing::warn!(instance = %self.number(), %error, "old pairing codes stay in the log for their hour");
        }
    }

    /// Something to show the phone's owner.
    async fn show_code(&mut self, step: PairStep) {
        self.blank_codes().await;
        let event = {
            let row = self.instance.borrow();
            step.event()
                .map(|payload| events::compose(&row, payload, SystemTime::now(), ""))
        };
        if let Some(event) = event {
            self.append(vec![event]).await;
        }
        if let Some(pairing) = &mut self.pairing {
            pairing.shown(step);
        }
    }

    /// The time of the pairing is over, or its caller is gone.
    async fn pairing_ends(&mut self) {
        let Some(pairing) = &self.pairing else { return };
        if pairing.is_accepted() {
            // The phone said yes; the session opens on its own and nobody need wait for it.
            let row = self.row();
            self.finish_pairing(PairStep::Paired(Box::new(row)));
            return;
        }
        let step = pairing.verdict();
        if matches!(step, PairStep::Expired) {
            let event = {
                let row = self.instance.borrow();
                let payload = Payload::ConnectionPairingTimeout(v1::ConnectionPairingTimeout {});
                events::compose(&row, payload, SystemTime::now(), "")
            };
            self.append(vec![event]).await;
        }
        self.end_pairing(step).await;
    }

    /// Ends a pairing that did not succeed.
    async fn end_pairing(&mut self, step: PairStep) {
        if self.pairing.is_none() {
            return;
        }
        let linked = |link: &Link| link::is_linked(&link.client());
        if self.pairing.as_ref().is_some_and(Pairing::is_accepted)
            || self.link.as_ref().is_some_and(linked)
        {
            // The phone said yes already: what comes now happens to a paired instance.
            self.paired().await;
            let row = self.row();
            self.finish_pairing(PairStep::Paired(Box::new(row)));
            return;
        }
        let reason = step.reason();
        // Told first: to stop the client may take a while.
        self.finish_pairing(step);
        if self.state() == SessionState::Pairing {
            self.stop_client().await;
            self.blank_codes().await;
            self.forget_device().await;
            self.enter(SessionState::Unpaired, &reason, Details::default())
                .await;
        }
    }

    fn finish_pairing(&mut self, step: PairStep) {
        if let Some(pairing) = self.pairing.take() {
            pairing.finish(step);
        }
    }

    // What the client tells.

    async fn observe(&mut self, events: Vec<Arc<Event>>) {
        let mut rest = events.as_slice();
        while let Some((first, others)) = rest.split_first() {
            // Acks and receipts come in floods: a run of them is one transaction.
            let told = self.outbox.statuses(rest);
            if told.read > 0 {
                rest = &rest[told.read..];
                self.outbox.settle(told).await;
                continue;
            }
            rest = others;
            self.observe_one(first).await;
        }
        let lost = self.link.as_ref().map_or(0, Link::take_lost);
        if lost > 0 {
            self.report(
                "events_lost",
                "notifications of WhatsApp came faster than they could be stored",
                lost,
            )
            .await;
        }
    }

    async fn observe_one(&mut self, event: &Event) {
        match event {
            Event::Connected(_) => self.opened().await,
            Event::Disconnected(event) => {
                self.outbox.close();
                if self.state() == SessionState::Open {
                    let reason = event.reason.to_string();
                    self.enter(SessionState::Connecting, &reason, Details::default())
                        .await;
                }
            }
            Event::PairingQrCode(code) if self.pairing.as_ref().is_some_and(Pairing::wants_qr) => {
                let step = PairStep::Qr {
                    text: code.code.clone(),
                    expire_time: SystemTime::now() + code.timeout,
                };
                self.show_code(step).await;
            }
            Event::PairingCode(code) => {
                let step = PairStep::Code {
                    code: code.code.clone(),
                    expire_time: SystemTime::now() + code.timeout,
                };
                self.show_code(step).await;
            }
            // With a code outstanding the connection stays, and so does the pairing.
            Event::PairingQrCodesExhausted(event) if event.disconnected => {
                if let Some(pairing) = &mut self.pairing {
                    pairing.expire();
                }
            }
            Event::PairingCodeRefresh(_) => {
                if let Some(pairing) = &mut self.pairing {
                    pairing.expire();
                }
            }
            Event::PairingCodeError(error) => {
                let reason = RefusedReason::of_code(error.rejection.as_ref());
                self.end_pairing(PairStep::Refused(reason, error.error.clone()))
                    .await;
            }
            Event::PairPasskeyRequest(_) | Event::PairPasskeyError(_) => {
                self.end_pairing(PairStep::Refused(
                    RefusedReason::PasskeyRequired,
                    "WhatsApp demands a passkey for this account".to_owned(),
                ))
                .await;
            }
            Event::PairError(error) => {
                self.end_pairing(PairStep::Refused(
                    RefusedReason::Rejected,
                    error.error.clone(),
                ))
                .await;
            }
            Event::PairSuccess(_) => self.paired().await,
            Event::SelfPushNameUpdated(_) => self.learn_identity().await,
            Event::LoggedOut(event) => {
                let details = Details {
                    code: event.reason.code(),
                    ..Default::default()
                };
                self.ended(
                    SessionState::LoggedOut,
                    "WhatsApp ended the session",
                    details,
                )
                .await;
            }
            Event::StreamReplaced(_) => {
                self.ended(
                    SessionState::Replaced,
                    "another program logged in with the same credentials",
                    Details::default(),
                )
                .await;
            }
            Event::ClientOutdated(_) => {
                self.shared.networks.forget_version().await;
                let details = Details {
                    code: ConnectFailureReason::ClientOutdated.code(),
                    ..Default::default()
                };
                self.ended(
                    SessionState::Outdated,
                    "WhatsApp refuses this protocol version",
                    details,
                )
                .await;
            }
            Event::TemporaryBan(ban) => {
                let length = ban.expire.to_std().unwrap_or_default();
                let details = Details {
                    code: ban.code.code(),
                    banned_until: Some(SystemTime::now() + length),
                };
                self.ended(SessionState::Banned, &ban.code.to_string(), details)
                    .await;
            }
            Event::ConnectFailure(failure) if !failure.reason.should_reconnect() => {
                let details = Details {
                    code: failure.reason.code(),
                    ..Default::default()
                };
                let state = match failure.reason {
                    ConnectFailureReason::TempBanned => SessionState::Banned,
                    _ => SessionState::Refused,
                };
                let told = failure.message.as_deref().unwrap_or_default();
                let reason = format!("WhatsApp refused the login with {} {told}", details.code);
                self.ended(state, reason.trim_end(), details).await;
            }
            Event::Messages(batch) if !batch.hook_committed => {
                let Some(link) = &self.link else { return };
                if let Err(error) = self.intake().record(&link.client(), &batch.messages).await {
                    tracing::error!(%error, "messages outside the durable path are lost");
                }
            }
            Event::UndecryptableMessage(message) => {
                let event = {
                    let row = self.instance.borrow();
                    let payload = Payload::Unmapped(v1::Unmapped {
                        name: "undecryptable_message".to_owned(),
                        raw: label(&message.info.id).into_owned().into_bytes().into(),
                    });
                    events::compose(
                        &row,
                        payload,
                        message.info.timestamp.into(),
                        &label(&message.info.id),
                    )
                };
                self.append(vec![event]).await;
            }
            _ => {}
        }
    }

    async fn paired(&mut self) {
        self.blank_codes().await;
        self.learn_identity().await;
        if let Some(pairing) = &mut self.pairing {
            pairing.accepted();
        }
        if self.state() == SessionState::Pairing {
            self.enter(SessionState::Connecting, "paired", Details::default())
                .await;
        }
    }

    async fn opened(&mut self) {
        let Some(client) = self.link.as_ref().map(Link::client) else {
            return;
        };
        self.learn_identity().await;
        // Before anybody can read that it is open.
        self.outbox.open(client.clone());
        if self.state() != SessionState::Open {
            self.enter(SessionState::Open, "", Details::default()).await;
        }
        show(client, self.instance.borrow().show_online);
        let row = self.row();
        self.finish_pairing(PairStep::Paired(Box::new(row)));
    }

    /// Stores who the account is, where that is news.
    async fn learn_identity(&mut self) {
        let Some(link) = &self.link else { return };
        let known = account(&link.client());
        let row = self.row();
        let number = known.number.map(|jid| jid.user.to_string());
        let lid = known.lid.map(|jid| jid.to_string());
        let change = InstanceChange {
            phone_number: number.filter(|number| *number != row.phone_number),
            lid: lid.filter(|lid| *lid != row.lid),
            push_name: Some(known.push_name)
                .filter(|name| !name.is_empty() && *name != row.push_name),
            ..Default::default()
        };
        if change.phone_number.is_some() || change.lid.is_some() || change.push_name.is_some() {
            self.store_surely(change).await;
        }
    }

    /// WhatsApp ended it.
    async fn ended(&mut self, state: SessionState, reason: &str, details: Details) {
        self.stop_client().await;
        if state == SessionState::LoggedOut {
            self.forget_device().await;
            if let Err(error) = self.outbox.abandon(LEFT_BEHIND).await {
                // The next pairing does it, or is refused.
                tracing::warn!(instance = %self.number(), %error, "unsent messages stay pending");
            }
        }
        if self.pairing.is_some() && self.state() == SessionState::Pairing {
            let refused = match state {
                SessionState::Outdated => RefusedReason::Outdated,
                _ => RefusedReason::Rejected,
            };
            self.end_pairing(PairStep::Refused(refused, reason.to_owned()))
                .await;
            return;
        }
        self.enter(state, reason, details).await;
        self.finish_pairing(PairStep::Refused(
            RefusedReason::Rejected,
            reason.to_owned(),
        ));
    }

    /// The client ended without a word, or can't go on: build a new one.
    async fn client_is_gone(&mut self, reason: &str) {
        let pause = match &self.link {
            Some(link) if link.has_panicked() => {
                let pause = self.panics.next_pause(Instant::now());
                tracing::error!(
                    instance = %self.number(),
                    retry_seconds = pause.as_secs(),
                    "the WhatsApp library panicked; the session starts over"
                );
                self.report(
                    "client_panicked",
                    "the WhatsApp library failed on something that it received; the session starts over",
                    0,
                )
                .await;
                pause
            }
            _ => STORE_AGAIN,
        };
        self.stop_client().await;
        if self.state() == SessionState::Pairing {
            if let Some(pairing) = &mut self.pairing {
                pairing.expire();
            }
            return;
        }
        if self.state() == SessionState::Open {
            self.enter(SessionState::Connecting, reason, Details::default())
                .await;
        }
        if self.state() == SessionState::Connecting {
            self.start(None, pause);
        }
    }

    /// Looks whether the client is what it said last: one of its words may have been lost.
    async fn look(&mut self) {
        let Some(link) = &self.link else { return };
        if link.is_stuck() {
            self.stop_client().await;
            let phone_number = None;
            self.start(phone_number, Duration::ZERO);
            return;
        }
        let client = link.client();
        if self.state() == SessionState::Connecting && client.is_logged_in() {
            self.opened().await;
        } else if self.state() == SessionState::Open && !client.is_connected() {
            self.outbox.close();
            self.enter(
                SessionState::Connecting,
                "the connection was lost",
                Details::default(),
            )
            .await;
        } else if self.state() == SessionState::Open
            && let Some(link) = &self.link
        {
            link.check_hearing();
        }
    }

    // Writing.

    async fn report(&self, reason: &str, detail: &str, lost: u32) {
        let event = {
            let row = self.instance.borrow();
            let payload = Payload::ErrorReported(v1::ErrorReported {
                reason: reason.to_owned(),
                detail: detail.to_owned(),
                lost,
            });
            events::compose(&row, payload, SystemTime::now(), "")
        };
        self.append(vec![event]).await;
    }

    async fn append(&self, events: Vec<NewEvent>) {
        loop {
            let Err(error) = self.shared.storage.append_events(events.clone()).await else {
                return;
            };
            tracing::warn!(%error, "an event waits for the database");
            if self.give_up().await {
                return;
            }
        }
    }

    fn state_change(&self, state: SessionState, reason: &str, details: &Details) -> InstanceChange {
        InstanceChange {
            state: Some(StateChange {
                state,
                reason: label(reason).into_owned(),
                time: SystemTime::now(),
                banned_until: details.banned_until,
            }),
            ..Default::default()
        }
    }

    /// Enters a state, with its event; illegal moves are bugs and change nothing.
    async fn enter(&mut self, state: SessionState, reason: &str, details: Details) {
        let from = self.state();
        if !from.may_become(state) {
            tracing::error!(instance = %self.number(), %from, to = %state, "illegal move");
            return;
        }
        tracing::info!(instance = %self.number(), %from, to = %state, reason, "state");
        let change = self.state_change(state, reason, &details);
        self.store_with(change, details.code, true).await;
    }

    async fn store_surely(&mut self, change: InstanceChange) {
        self.store_with(change, 0, true).await;
    }

    async fn store(&mut self, change: InstanceChange) -> Result<NameOutcome, StorageError> {
        match self.store_with(change, 0, false).await {
            Some(outcome) => outcome,
            None => Ok(NameOutcome::Missing),
        }
    }

    /// Commits a change with its events and shows it; `surely` tries until it works or wagate stops.
    async fn store_with(
        &mut self,
        mut change: InstanceChange,
        code: i32,
        surely: bool,
    ) -> Option<Result<NameOutcome, StorageError>> {
        let number = self.number();
        let previous = self.state();
        change.time = Some(SystemTime::now());
        loop {
            let events = change_events(&change, previous, code);
            match self
                .shared
                .storage
                .change_instance(number, change.clone(), events)
                .await
            {
                Ok(outcome) => {
                    if let NameOutcome::Done(row) = &outcome {
                        self.instance.send_replace(row.clone());
                    }
                    return Some(Ok(outcome));
                }
                Err(error) if surely => {
                    tracing::warn!(instance = %number, %error, "a change of state waits for the database");
                    if self.give_up().await {
                        return None;
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits before the next try; true if wagate stops.
    async fn give_up(&self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => true,
            () = sleep(STORE_AGAIN) => false,
        }
    }
}

/// More about a state.
#[derive(Clone, Copy, Debug, Default)]
struct Details {
    code: i32,
    banned_until: Option<SystemTime>,
}

/// The events of a change: one of the connection for a state, one of the instance for all else.
fn change_events(
    change: &InstanceChange,
    previous: SessionState,
    code: i32,
) -> crate::storage::EventsOf<InstanceRow> {
    let state_changes = change.state.is_some();
    let else_changes = change.name.is_some()
        || change.show_online.is_some()
        || change.phone_number.is_some()
        || change.lid.is_some()
        || change.push_name.is_some();
    Box::new(move |row| {
        let mut events = Vec::new();
        if else_changes {
            let payload = Payload::InstanceUpdated(v1::InstanceUpdated {
                instance: Some(super::convert::rows::instance(row)),
            });
            events.push(events::compose(row, payload, row.update_time, ""));
        }
        if state_changes {
            let payload = Payload::ConnectionUpdated(v1::ConnectionUpdated {
                state: row.state as i32,
                previous_state: previous as i32,
                reason: row.state_reason.clone(),
                code,
                banned_until: row.banned_until.map(timestamp),
                phone_number: row.phone_number.clone(),
                push_name: row.push_name.clone(),
            });
            events.push(events::compose(row, payload, row.state_time, ""));
        }
        events
    })
}

/// Shows the account as online or not. The library says online at every login, which would stop the
/// phone's notifications.
fn show(client: Arc<Client>, online: bool) {
    tokio::spawn(async move {
        let shown = if online {
            client.presence().set_available().await
        } else {
            client.presence().set_unavailable().await
        };
        if let Err(error) = shown {
            // Refused while the account's name is unknown, when nothing was shown either.
            tracing::debug!(%error, "presence is not set");
        }
    });
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
