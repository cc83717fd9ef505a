//! The calls of one instance.
//!
//! Owns how far each call has come: every state is committed with its event, once, also over a restart.
//! What has to happen without being told ([`tending`]) is here, too: an end that nobody tells, the rejection
//! of calls that the settings ask for, and the text to their callers. Never places, answers or carries one.

mod tending;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use prost::Message as _;
use tokio::{
    sync::{Mutex, Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{Client, Jid, types::events::Event, wacore::stanza::call::parse_call_stanza};

use super::{
    addresses::other_name,
    contacts::{self, Contacts},
    convert::{
        call::{self, News, Offer, Told},
        ids,
    },
    error::WaError,
    hook::account,
    outbound::Outbox,
};
use crate::{
    events::{self, timestamp},
    proto::v1::{self, CallState, event::Payload},
    storage::{CallRow, InstanceRow, NewEvent, Storage, StorageError},
};

/// How long a call rings of which nothing more is heard. Phones give up after less.
const RING_TIME: Duration = Duration::from_secs(90);

/// How long an offer waits for its end, and an end for its offer, where they come in no order: from the queue of
/// what happened while the account was away.
const OTHER_HALF: Duration = Duration::from_secs(3);

/// Calls that are kept in mind at once; one more ends the oldest.
const OPEN_CALLS: usize = 256;

/// How long a word to WhatsApp may take on its way out.
const WORD_TIME: Duration = Duration::from_secs(10);

/// Pause before a call is stored again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// The calls of one instance.
pub(super) struct Calls {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    client: watch::Receiver<Option<Arc<Client>>>,
    outbox: Arc<Outbox>,
    contacts: Contacts,
    stop: CancellationToken,
    /// Calls whose end is still to be told, by id.
    open: Mutex<HashMap<String, Open>>,
    /// Something is to be done earlier than was known.
    changed: Notify,
    /// Somebody may still have to be sent a text.
    unanswered: AtomicBool,
}

/// A call whose end is still to be told.
#[derive(Clone)]
struct Open {
    row: CallRow,
    /// When its end is told without being heard.
    until: Instant,
    /// It was tried to reject it by itself.
    tried: bool,
}

impl Calls {
    /// The calls, and the task that tends them, which ends with the token.
    pub(super) fn spawn(
        storage: Arc<dyn Storage>,
        instance: watch::Receiver<InstanceRow>,
        client: watch::Receiver<Option<Arc<Client>>>,
        outbox: Arc<Outbox>,
        contacts: Contacts,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let calls = Arc::new(Self {
            storage,
            instance,
            client,
            outbox,
            contacts,
            stop,
            open: Mutex::default(),
            changed: Notify::new(),
            unanswered: AtomicBool::new(true),
        });
        tokio::spawn(calls.clone().tend());
        calls
    }

    fn row(&self) -> InstanceRow {
        self.instance.borrow().clone()
    }

    /// Writes down what WhatsApp told of a call.
    pub(super) async fn observe(&self, client: &Client, event: &Event) {
        let told = match event {
            Event::IncomingCall(heard) => call::told(heard),
            Event::MissedCall(heard) => call::missed(heard),
            Event::RawNode(node) => match parse_call_stanza(node.get()) {
                Ok(heard) => heard.as_ref().and_then(call::told),
                Err(error) => {
                    tracing::debug!(%error, "a call can't be read");
                    None
                }
            },
            _ => None,
        };
        // Of calls that the account places itself its other devices are told in part only.
        if let Some(told) = told.filter(|told| !account(client).is(&told.creator)) {
            self.hear(client, told).await;
        }
    }

    async fn hear(&self, client: &Client, told: Told) {
        let mut open = self.open.lock().await;
        let Some(known) = self.find_surely(&open, &told.call_id).await else {
            return;
        };
        let mut row = match known {
            Some(row) => row,
            None => self.first_heard(client, &told).await,
        };
        let Some(mut shown) = shown(&row) else { return };
        let offered = shown.offer_time.is_some();
        let mut steps = Vec::new();
        match &told.news {
            // A duplicate.
            News::Offer(_) if offered => return,
            News::Offer(offer) => {
                describe(&mut shown, offer, told.time);
                row.peer = told.peer.to_string();
                row.creator = told.creator.to_string();
                let decided = state_of(row.verdict);
                if !offer.waited {
                    steps.push(CallState::Offer);
                    if !self.instance.borrow().reject_calls {
                        steps.push(CallState::Ringing);
                    }
                }
                steps.extend(decided);
                if offer.waited && decided.is_none() {
                    row.verdict = CallState::Missed.into();
                }
            }
            News::Decided(state) if offered => steps.push(*state),
            News::Over(length) if offered => {
                if shown.state() == CallState::Accept {
                    shown.duration = talked(&shown, *length, told.time);
                    steps.push(CallState::Ended);
                } else {
                    steps.push(CallState::Missed);
                }
            }
            // What comes first knows more: a call that was answered may be over, too.
            News::Decided(_) | News::Over(_) if row.verdict != 0 => return,
            News::Decided(state) => row.verdict = (*state).into(),
            News::Over(_) => row.verdict = CallState::Missed.into(),
        }
        self.advance(&mut open, row, shown, &steps).await;
    }

    /// A call that nothing is known of yet.
    async fn first_heard(&self, client: &Client, told: &Told) -> CallRow {
        let caller = told.creator.to_non_ad();
        let other = match &told.number {
            Some(number) => Some(number.to_non_ad()),
            None => other_name(client, &caller).await,
        };
        let party = ids::party([Some(&caller), other.as_ref()], &told.name);
        self.contacts
            .see(vec![contacts::of_party(&party, "call", told.time)])
            .await;
        let instance = self.row();
        let shown = v1::Call {
            id: told.call_id.clone(),
            instance: instance.id.to_string(),
            caller: Some(party),
            ..Default::default()
        };
        CallRow {
            instance: instance.number,
            call_id: told.call_id.clone(),
            peer: told.peer.to_string(),
            creator: told.creator.to_string(),
            time: SystemTime::now(),
            open: true,
            verdict: 0,
            answer: String::new(),
            body: shown.encode_to_vec().into(),
        }
    }

    /// Lets a call enter these states, as far as it may, and commits that with what is told of it.
    async fn advance(
        &self,
        open: &mut HashMap<String, Open>,
        mut row: CallRow,
        mut shown: v1::Call,
        steps: &[CallState],
    ) -> v1::Call {
        let instance = self.row();
        let mut told = Vec::new();
        for step in steps {
            let before = shown.state();
            if !call::may_become(before, *step) {
                continue;
            }
            let now = SystemTime::now();
            shown.set_state(*step);
            shown.state_time = Some(timestamp(now));
            told.push(state_event(&instance, &shown, before, now));
        }
        if told.is_empty() && !steps.is_empty() {
            // Nothing new.
            return shown;
        }
        row.open = call::is_open(shown.state());
        row.body = shown.encode_to_vec().into();
        self.store_surely(&row, told).await;
        if row.open {
            self.keep_open(open, row, shown.state()).await;
        } else {
            if !row.answer.is_empty() {
                self.unanswered.store(true, Ordering::Release);
            }
            open.remove(&row.call_id);
        }
        self.changed.notify_one();
        shown
    }

    async fn keep_open(&self, open: &mut HashMap<String, Open>, row: CallRow, state: CallState) {
        if open.len() >= OPEN_CALLS && !open.contains_key(&row.call_id) {
            let oldest = open.values().min_by_key(|one| one.until).cloned();
            if let Some(oldest) = oldest {
                tracing::warn!(
                    instance = %row.instance,
                    "more calls at once than are kept in mind; the oldest is taken to be over"
                );
                Box::pin(self.give_up_on(open, oldest.row)).await;
            }
        }
        let patience = match state {
            CallState::Unspecified => OTHER_HALF,
            _ => RING_TIME,
        };
        let one = Open {
            until: Instant::now() + patience,
            tried: false,
            row,
        };
        open.insert(one.row.call_id.clone(), one);
    }

    /// Tells the end of a call that was not heard.
    async fn give_up_on(&self, open: &mut HashMap<String, Open>, row: CallRow) {
        let Some(shown) = shown(&row) else {
            open.remove(&row.call_id);
            return;
        };
        let end = state_of(row.verdict).unwrap_or(CallState::Timeout);
        self.advance(open, row, shown, &[end]).await;
    }

    /// Rejects a call that rings.
    pub(super) async fn reject(self: Arc<Self>, call_id: String) -> Result<v1::Call, WaError> {
        let row = match self.open.lock().await.get(&call_id) {
            Some(one) => Some(one.row.clone()),
            None => {
                let number = self.row().number;
                self.storage.lookup_call(number, &call_id).await?
            }
        };
        let row = row.ok_or(WaError::CallNotFound)?;
        let call = shown(&row).ok_or(WaError::CallNotFound)?;
        match call.state() {
            CallState::Offer | CallState::Ringing => {}
            CallState::Reject => return Ok(call),
            // Only its end was heard, and nobody has been told yet.
            CallState::Unspecified => return Err(WaError::CallEnded(CallState::Missed)),
            other => return Err(WaError::CallEnded(other)),
        }
        let client = self.client.borrow().clone();
        let client = client.ok_or_else(|| WaError::not_open(self.row()))?;
        // To its end also if the caller leaves: what was rejected must be known to be.
        let calls = self.clone();
        let rejecting = async move { calls.turn_away(&client, &row, "").await };
        let call = tokio::spawn(rejecting)
            .await
            .unwrap_or(Err(WaError::ShuttingDown))?;
        match call.state() {
            CallState::Reject => Ok(call),
            other => Err(WaError::CallEnded(other)),
        }
    }

    /// Tells WhatsApp that a call is rejected and writes it down, with the text still to be sent.
    async fn turn_away(
        &self,
        client: &Client,
        row: &CallRow,
        answer: &str,
    ) -> Result<v1::Call, WaError> {
        let jid = |text: &str| text.parse::<Jid>().map_err(|_| WaError::CallNotFound);
        let (peer, creator) = (jid(&row.peer)?, jid(&row.creator)?);
        let voip = client.voip();
        let word = voip.reject_call(&row.call_id, &peer, &creator);
        match timeout(WORD_TIME, word).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(WaError::Timeout(error.to_string())),
            Err(_) => return Err(WaError::Timeout("a rejection was not sent".to_owned())),
        }
        let mut open = self.open.lock().await;
        // It may have ended meanwhile.
        let known = self.find_surely(&open, &row.call_id).await;
        let mut row = known
            .ok_or(WaError::ShuttingDown)?
            .ok_or(WaError::CallNotFound)?;
        let call = shown(&row).ok_or(WaError::CallNotFound)?;
        if !call::may_become(call.state(), CallState::Reject) {
            return Ok(call);
        }
        answer.clone_into(&mut row.answer);
        Ok(self
            .advance(&mut open, row, call, &[CallState::Reject])
            .await)
    }

    /// A call, in mind or in the database; asks until it is answered. `None` once wagate stops.
    async fn find_surely(
        &self,
        open: &HashMap<String, Open>,
        call_id: &str,
    ) -> Option<Option<CallRow>> {
        if let Some(one) = open.get(call_id) {
            return Some(Some(one.row.clone()));
        }
        let number = self.row().number;
        self.surely(|| self.storage.lookup_call(number, call_id))
            .await
    }

    async fn store_surely(&self, row: &CallRow, told: Vec<NewEvent>) {
        self.surely(|| self.storage.change_call(row.clone(), told.clone()))
            .await;
    }

    /// Tries until it works; `None` once wagate stops.
    async fn surely<T, Work>(&self, work: impl Fn() -> Work + Send) -> Option<T>
    where
        Work: Future<Output = Result<T, StorageError>> + Send,
    {
        loop {
            let error = match work().await {
                Ok(done) => return Some(done),
                Err(error) => error,
            };
            tracing::warn!(instance = %self.row().number, %error, "a call waits for the database");
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep(STORE_AGAIN) => {}
            }
        }
    }
}

/// A call for callers.
fn shown(row: &CallRow) -> Option<v1::Call> {
    let decoded = v1::Call::decode(row.body.clone());
    decoded
        .inspect_err(|error| tracing::error!(%error, "a stored call can't be read"))
        .ok()
}

fn describe(shown: &mut v1::Call, offer: &Offer, time: SystemTime) {
    shown.video = offer.video;
    shown.group = offer.group;
    shown.group_id = offer
        .group_id
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    shown.offer_time = Some(timestamp(time));
}

/// How long an answered call was talked: as it is said, else since it was answered.
fn talked(
    shown: &v1::Call,
    said: Option<Duration>,
    end: SystemTime,
) -> Option<pbjson_types::Duration> {
    let answered = shown.state_time.as_ref().and_then(events::system_time);
    let length = said.or_else(|| end.duration_since(answered?).ok())?;
    Some(pbjson_types::Duration {
        seconds: length.as_secs().try_into().ok()?,
        nanos: 0,
    })
}

/// A stored state; `None` for none.
fn state_of(number: i32) -> Option<CallState> {
    let state = CallState::try_from(number).ok()?;
    (state != CallState::Unspecified).then_some(state)
}

fn state_event(
    instance: &InstanceRow,
    call: &v1::Call,
    before: CallState,
    time: SystemTime,
) -> NewEvent {
    let payload = Payload::CallUpdated(v1::CallUpdated {
        call: Some(call.clone()),
        previous_state: before.into(),
    });
    let state = call.state().as_str_name();
    let state = state.strip_prefix("CALL_STATE_").unwrap_or(state);
    let dedupe_key = format!("call/{}/{}", call.id, state.to_lowercase());
    events::compose(instance, payload, time, &dedupe_key)
}
