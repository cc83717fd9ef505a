//! Sends that wait, and the one task of an instance that lets them leave when they are due.
//!
//! Owns the order among the sends to one person: one of them is in hand at a time, and people do not wait
//! for each other. What has left is a message, under the id that it was accepted with, stored in the transaction
//! that takes the send away; what can't leave is one too, with status ERROR. Never hands anything to WhatsApp.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use prost::Message as _;
use tokio::{
    sync::{Notify, Semaphore},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::Client;

use super::{Outbox, Outgoing, PAGE, Say, kept, kept::Kept};
use crate::{
    crash_points::CrashPoint,
    domain::{limits, recipient::Recipient, session::SessionState},
    media::MediaError,
    proto::v1::MessageStatus,
    storage::{
        AcceptOutcome, MessageRow,
        send::{NewSend, SendQuery, SendRow},
    },
    wa::{
        contacts,
        convert::outbound,
        error::WaError,
        groups::{GroupFault, GroupRefusal},
    },
};

/// Due sends in hand at once, of as many recipients, …
const DUE_AT_ONCE: usize = 64;

/// … and those that are not due yet, whose chats are shown something.
const SHOWN_AT_ONCE: usize = 256;

/// Messages that are composed at once: WhatsApp is asked who their recipients are.
const COMPOSED_AT_ONCE: usize = 8;

/// Pause before a send that could not leave for a passing reason is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// How often what waits is looked at anyway: the clock of the machine may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// When there is nothing to look for.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a send ends that did not leave in time.
pub(super) const EXPIRED: &str = "it expired before it could be sent";

/// Why one ends that says what nobody can read.
const UNREADABLE: &str = "its stored form can't be read";

/// What callers and the task share.
pub(super) struct Tending {
    /// Something new waits, or something is over.
    news: Notify,
    /// 0 where nothing waits; else how often something was said to wait, unknown at first.
    some: AtomicU64,
    composing: Semaphore,
    /// What stops those in hand, by WhatsApp's ids.
    in_hand: Mutex<HashMap<String, CancellationToken>>,
}

impl Default for Tending {
    fn default() -> Self {
        Self {
            news: Notify::new(),
            some: AtomicU64::new(1),
            composing: Semaphore::new(COMPOSED_AT_ONCE),
            in_hand: Mutex::default(),
        }
    }
}

impl Tending {
    /// Something new waits.
    pub(super) fn wake(&self) {
        let next = |known: u64| Some(known.wrapping_add(1).max(1));
        self.some
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .ok();
        self.news.notify_one();
    }

    /// Something has changed about what waits or is on its way.
    pub(super) fn look_again(&self) {
        self.news.notify_one();
    }

    fn may_have_some(&self) -> bool {
        self.some.load(Ordering::Acquire) != 0
    }

    /// A send is over: whoever has it in hand puts it down.
    fn stop(&self, message_id: &str) {
        if let Some(stop) = self.in_hand().get(message_id) {
            stop.cancel();
        }
    }

    fn in_hand(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        // What is inside is whole after every statement, so a panic elsewhere does not spoil it.
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets sends leave until the outbox stops.
pub(super) async fn run(outbox: Arc<Outbox>) {
    let mut open = outbox.client.subscribe();
    let mut hand = Hand::default();
    loop {
        let client = open.borrow_and_update().clone();
        // Boxed: most of the time nothing waits, and this does in every instance.
        let next = Box::pin(hand.look(&outbox, client)).await;
        tokio::select! {
            biased;
            () = outbox.stop.cancelled() => return,
            changed = open.changed() => if changed.is_err() { return },
            () = outbox.tending.news.notified() => {}
            Some(done) = hand.under_way.join_next() => {
                hand.put_down(done);
                while let Some(done) = hand.under_way.try_join_next() {
                    hand.put_down(done);
                }
            }
            () = sleep_until(next) => {}
        }
    }
}

/// What is in hand.
#[derive(Default)]
struct Hand {
    /// By person; whether it was due when it was taken.
    people: HashMap<String, bool>,
    under_way: JoinSet<String>,
}

impl Hand {
    /// Ends what has expired and takes what may begin; answers with when to look again.
    async fn look(&mut self, outbox: &Arc<Outbox>, client: Option<Arc<Client>>) -> Instant {
        match self.try_look(outbox, client).await {
            Ok(next) => Instant::now() + next,
            Err(error) => {
                tracing::warn!(
                    instance = %outbox.row().number, %error,
                    "sends that wait can't be looked at yet"
                );
                Instant::now() + TRY_AGAIN
            }
        }
    }

    async fn try_look(
        &mut self,
        outbox: &Arc<Outbox>,
        client: Option<Arc<Client>>,
    ) -> Result<Duration, WaError> {
        let number = outbox.row().number;
        let now = SystemTime::now();
        outbox.end_expired_messages(now).await?;
        let mut next = outbox.leaving.next_expiry();
        // Asked before the database is: what comes later changes it.
        let some = outbox.tending.some.load(Ordering::Acquire);
        if some != 0 {
            outbox.end_expired_sends(now).await?;
            if let Some(client) = client {
                self.take(outbox, &client, now).await?;
            }
            // Every one ends some time.
            let change = outbox.storage.next_send_time(number, now).await?;
            if change.is_none() {
                outbox
                    .tending
                    .some
                    .compare_exchange(some, 0, Ordering::AcqRel, Ordering::Acquire)
                    .ok();
            }
            next = next.into_iter().chain(change).min();
        }
        Ok(match next {
            None => NEVER,
            Some(next) => {
                let left = next.duration_since(now).unwrap_or_default();
                // Not before it: a timer counts whole milliseconds.
                (left + Duration::from_millis(1)).min(LOOK_AGAIN)
            }
        })
    }

    /// Takes the first of each person whose turn it is.
    async fn take(
        &mut self,
        outbox: &Arc<Outbox>,
        client: &Arc<Client>,
        now: SystemTime,
    ) -> Result<(), WaError> {
        let number = outbox.row().number;
        let most = DUE_AT_ONCE + SHOWN_AT_ONCE + self.people.len();
        let query = SendQuery::Begun(now);
        for send in outbox.storage.list_sends(number, query, most).await? {
            let is_due = send.due_time <= now;
            let limit = if is_due { DUE_AT_ONCE } else { SHOWN_AT_ONCE };
            let like = self.people.values().filter(|due| **due == is_due);
            // Its person may have got another name since it was taken.
            let taken = self.people.contains_key(&send.person)
                || outbox.tending.in_hand().contains_key(&send.message_id);
            if taken || like.count() >= limit {
                continue;
            }
            self.people.insert(send.person.clone(), is_due);
            let stop = outbox.stop.child_token();
            let id = send.message_id.clone();
            outbox.tending.in_hand().insert(id, stop.clone());
            let (outbox, client) = (outbox.clone(), client.clone());
            self.under_way.spawn(async move {
                // What panics below must not stay in hand, nor its person shut. No send leaves twice.
                let leaving = AssertUnwindSafe(outbox.leave(&client, &send, &stop));
                if leaving.catch_unwind().await.is_err() {
                    tracing::error!("a send that waited ended without an answer");
                }
                outbox.tending.in_hand().remove(&send.message_id);
                send.person
            });
        }
        Ok(())
    }

    fn put_down(&mut self, done: Result<String, JoinError>) {
        if let Ok(person) = done {
            self.people.remove(&person);
        }
    }
}

impl Outbox {
    /// Whether what a caller wants sent has to wait, and may.
    pub(super) async fn has_to_wait(&self, outgoing: &Outgoing) -> Result<bool, WaError> {
        let (Say::Content(_), Some(recipient)) = (&outgoing.say, &outgoing.recipient) else {
            return Ok(false);
        };
        let (timing, now) = (&outgoing.timing, SystemTime::now());
        if self.client.borrow().is_none() {
            let state = self.instance.borrow().state;
            return Ok(timing.may_wait && comes_back(state));
        }
        if !timing.delay.is_zero() || timing.send_time.is_some_and(|time| time > now) {
            return Ok(true);
        }
        if !self.tending.may_have_some() {
            return Ok(false);
        }
        let (number, recipient) = (self.row().number, recipient.to_string());
        let storage = &self.storage;
        Ok(storage.is_send_before(number, &recipient, now).await?)
    }

    /// Stores a send that has to wait, and waits for what becomes of it, as long as its caller does.
    pub(super) async fn wait(
        self: &Arc<Self>,
        mut outgoing: Outgoing,
    ) -> Result<MessageRow, WaError> {
        let begun = Instant::now();
        let row = self.row();
        let message_id = kept::message_id();
        let timing = outgoing.timing;
        let now = SystemTime::now();
        let send_time = timing.send_time.filter(|time| *time > now);
        let begin = send_time.unwrap_or(now);
        let due = begin.checked_add(timing.delay).unwrap_or(begin);
        let expire_time = timing.expire_time;
        let expire_time = expire_time.unwrap_or_else(|| kept::default_expiry(due));
        self.keep_file(&mut outgoing, &message_id, expire_time)
            .await?;
        let patience = outgoing.patience.after(begun.elapsed());
        // A large file must not keep short texts waiting, so this comes after it.
        let place = self.places.clone().acquire_owned();
        let place = place.await.map_err(|_| WaError::ShuttingDown)?;
        let recipient = outgoing.recipient.as_ref().map(ToString::to_string);
        let send = NewSend {
            instance: row.number,
            message_id,
            recipient: recipient.unwrap_or_default(),
            not_before: begin,
            delay: timing.delay,
            shown: match timing.activity {
                Some(_) => timing.delay,
                None => Duration::ZERO,
            },
            scheduled: send_time.is_some(),
            expire_time,
            create_time: now,
            body: Kept::of(&outgoing).encode_to_vec().into(),
            most: limits::WAITING_SENDS,
        };
        let told = kept::pending(&row, &send.as_it_waits());
        let events = vec![self.status_event(&told, MessageStatus::Pending)];
        // Before it can have risen: then nobody has to look whether it did.
        let risen = self.waiting.until(&told.message_id, patience.until);
        let outbox = self.clone();
        // A caller that leaves meanwhile has sent it or not, but has not left it lying.
        let storing = tokio::spawn(async move {
            let accepted = outbox.storage.accept_send(send, outgoing.request, events);
            let accepted = accepted.await;
            drop(place);
            if matches!(accepted, Ok(AcceptOutcome::Accepted)) {
                CrashPoint::SendAccepted.pass();
                outbox.tending.wake();
            }
            accepted
        });
        let accepted = storing.await.map_err(|_| WaError::ShuttingDown)??;
        if matches!(accepted, AcceptOutcome::Accepted) {
            return Ok(self.settled(told, risen, patience).await);
        }
        drop(risen);
        self.waiting.forget();
        let before = self.seen_before(accepted)?;
        self.confirmed(before, patience).await
    }

    /// Ends a send that waits, as a message that failed; `None` where it does not wait any more.
    pub(super) async fn fail(
        &self,
        send: &SendRow,
        reason: &str,
    ) -> Result<Option<MessageRow>, WaError> {
        let row = kept::failed(&self.row(), send, reason);
        let events = vec![self.status_event(&row, MessageStatus::Error)];
        if !self.storage.finish_send(row.clone(), events).await? {
            return Ok(None);
        }
        self.waiting.tell(std::slice::from_ref(&row));
        self.tending.stop(&send.message_id);
        self.tending.look_again();
        Ok(Some(row))
    }

    /// Ends every send that waits.
    pub(super) async fn fail_all(&self, reason: &str) -> Result<(), WaError> {
        let number = self.row().number;
        loop {
            let query = SendQuery::After(0);
            let sends = self.storage.list_sends(number, query, PAGE).await?;
            if sends.is_empty() {
                return Ok(());
            }
            for send in sends {
                self.fail(&send, reason).await?;
            }
        }
    }

    async fn end_expired_sends(&self, now: SystemTime) -> Result<(), WaError> {
        let number = self.row().number;
        loop {
            let query = SendQuery::Expired(now);
            let sends = self.storage.list_sends(number, query, PAGE).await?;
            let last = sends.len() < PAGE;
            for send in sends {
                self.fail(&send, EXPIRED).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Ends the stored messages that have not left in time.
    async fn end_expired_messages(&self, now: SystemTime) -> Result<(), WaError> {
        let expired = self.leaving.expire(now);
        if expired.is_empty() {
            return Ok(());
        }
        let ended = self
            .raise(
                expired.clone(),
                MessageStatus::Error,
                EXPIRED.to_owned(),
                None,
            )
            .await;
        if ended.is_err() {
            for message_id in expired {
                self.leaving.hold(&message_id, Some(now));
            }
        }
        ended
    }

    /// Waits until a send is due, and makes it a message. What it can't be for a passing reason it still is
    /// not afterwards; then it is taken in hand again.
    async fn leave(
        self: &Arc<Self>,
        client: &Arc<Client>,
        send: &SendRow,
        stop: &CancellationToken,
    ) {
        let number = send.instance;
        let left = match self.try_leave(client, send, stop).await {
            // What is held must not take the place of what may leave.
            Err(WaError::NewChatsHeld { until, .. }) => {
                let storage = &self.storage;
                let postponed = storage.postpone_sends(number, &send.person, until);
                postponed.await.map_err(WaError::Storage)
            }
            left => left,
        };
        match left {
            Ok(()) => return,
            Err(error) if is_passing(&error) => {
                tracing::warn!(instance = %number, %error, "a send that waits can't leave yet");
            }
            Err(error) => match self.fail(send, &error.to_string()).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(instance = %number, %error, "a failed send waits for the database");
                }
            },
        }
        tokio::select! {
            () = sleep(TRY_AGAIN) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn try_leave(
        self: &Arc<Self>,
        client: &Arc<Client>,
        send: &SendRow,
        stop: &CancellationToken,
    ) -> Result<(), WaError> {
        let read = Kept::read(send).zip(Recipient::parse(&send.recipient).ok());
        let Some((kept, recipient)) = read else {
            self.fail(send, UNREADABLE).await?;
            return Ok(());
        };
        if let Some(activity) = kept.shows()
            && send.due_time > SystemTime::now()
            && let Ok(chat) = self.addresses.resolve(client, &recipient).await
        {
            super::seem(client, &chat.to, activity, send.due_time, stop).await;
        }
        let left = send.due_time.duration_since(SystemTime::now());
        tokio::select! {
            () = sleep(left.unwrap_or_default()) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let place = self.tending.composing.acquire().await;
        let _place = place.map_err(|_| WaError::ShuttingDown)?;
        let connected = self.client.borrow().is_some();
        if stop.is_cancelled() || !connected {
            return Ok(());
        }
        let Some(mut outgoing) = kept.outgoing(recipient) else {
            self.fail(send, UNREADABLE).await?;
            return Ok(());
        };
        let composing = async {
            let file = self.file(client, &mut outgoing).await?;
            self.preview(client, &mut outgoing).await?;
            self.compose(client, outgoing, file).await
        };
        let composed = tokio::select! {
            composed = composing => composed?,
            // A client that was shut down may take its time to say so.
            () = self.superseded(client) => return Ok(()),
        };
        self.holds.check(&composed.to).await?;
        let raw = outbound::encode(&composed.message);
        let (file, to) = (composed.file, composed.to.clone());
        let row = self.row_of(client, composed, raw, send.message_id.clone());
        if let Some(file) = file {
            let media = self.uploads.media();
            let kept = media.keep(row.instance, file, &row.chat, &row.message_id);
            kept.await.map_err(WaError::Media)?;
        }
        self.leaving.hold(&row.message_id, Some(send.expire_time));
        let finished = self.storage.finish_send(row.clone(), Vec::new()).await;
        if !matches!(finished, Ok(true)) {
            self.leaving.forget(&row.message_id);
            // Cancelled, expired or left behind meanwhile.
            return finished.map(drop).map_err(WaError::Storage);
        }
        CrashPoint::SendAccepted.pass();
        // If the sender is gone, so is the session: the next one sends it.
        self.accepted.send(Box::new(row)).await.ok();
        let met = contacts::of_recipient(&to.to, to.other.as_ref());
        self.contacts.see(vec![met]).await;
        Ok(())
    }
}

/// Whether an instance in this state will be open again without being paired, and nobody forbids it to write.
fn comes_back(state: SessionState) -> bool {
    matches!(
        state,
        SessionState::Open | SessionState::Connecting | SessionState::Disconnected
    )
}

/// Whether the same may work a little later.
fn is_passing(error: &WaError) -> bool {
    match error {
        WaError::NotOpen(_) | WaError::NotLeft { .. } => true,
        WaError::File { error, .. } | WaError::Media(error) => {
            matches!(error, MediaError::Storage(_) | MediaError::Blobs(_))
        }
        WaError::Group(GroupRefusal { fault, .. }) => matches!(fault, GroupFault::RateLimited(_)),
        error => error.is_undecided(),
    }
}
