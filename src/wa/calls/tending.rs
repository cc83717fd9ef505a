//! What happens to calls without being told: ends that nobody tells, rejections that the settings ask for,
//! and the texts to those who were rejected so.
//!
//! A text is stored with the rejection and is sent by the outbox under one request for each call, so it goes
//! out once, however often this is tried.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use futures::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use whatsapp_rust::Client;

use super::{Calls, OPEN_CALLS, Open, RING_TIME, shown};
use crate::{
    domain::{ids::ApiKeyId, recipient::Recipient},
    proto::v1::{self, CallState, message_content::Content},
    storage::{CallQuery, CallRow, RequestMark, request::FieldDigests},
    wa::{
        error::WaError,
        groups::Mentions,
        outbound::{Outgoing, Patience, Progress, Say, Timing},
    },
};

/// Texts under way at once, …
const ANSWERS_AT_ONCE: usize = 4;

/// … and read at once.
const ANSWERS: usize = 64;

/// A text that could not be sent for this long is about a call that nobody remembers.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// Pause before texts that could not be sent are tried again.
const ANSWER_AGAIN: Duration = Duration::from_secs(5);

/// What a call that was open when wagate stopped is given for its end to be heard.
const COME_BACK: Duration = Duration::from_secs(30);

/// How a text's request is known.
const METHOD: &str = "Instance.reject_calls_text";

impl Calls {
    /// Tends the calls until the instance stops.
    pub(super) async fn tend(self: Arc<Self>) {
        let stop = self.stop.clone();
        let mut client = self.client.clone();
        let mut answering: Option<JoinHandle<bool>> = None;
        let mut answer_at = Instant::now();
        // Boxed: most of the time nobody calls, and this waits in every instance.
        Box::pin(self.load()).await;
        while !stop.is_cancelled() {
            let open = client.borrow_and_update().clone();
            let mut next = Box::pin(self.expire()).await;
            if let Some(open) = open {
                Box::pin(self.reject_all(&open)).await;
                if answering.is_none() && self.unanswered.load(Ordering::Acquire) {
                    if answer_at <= Instant::now() {
                        self.unanswered.store(false, Ordering::Release);
                        answering = Some(tokio::spawn(self.clone().answer_all()));
                    } else {
                        next = next.min(answer_at);
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.changed.notified() => {}
                changed = client.changed() => if changed.is_err() { return },
                again = done(&mut answering) => {
                    answering = None;
                    if again {
                        self.unanswered.store(true, Ordering::Release);
                        answer_at = Instant::now() + ANSWER_AGAIN;
                    }
                }
                () = sleep_until(next) => {}
            }
        }
    }

    /// Takes up the calls that were open when wagate stopped.
    pub(super) async fn load(&self) {
        let number = self.row().number;
        let mut open = self.open.lock().await;
        let known = self
            .surely(|| self.storage.list_calls(number, CallQuery::Open, OPEN_CALLS))
            .await;
        let now = SystemTime::now();
        for row in known.into_iter().flatten() {
            let rung = now.duration_since(row.time).unwrap_or_default();
            let until = Instant::now() + RING_TIME.saturating_sub(rung).max(COME_BACK);
            open.entry(row.call_id.clone()).or_insert(Open {
                row,
                until,
                tried: false,
            });
        }
    }

    /// Tells the ends that are due; answers with when to look again.
    pub(super) async fn expire(&self) -> Instant {
        let mut open = self.open.lock().await;
        let now = Instant::now();
        let due = open.values().filter(|one| one.until <= now);
        let due: Vec<CallRow> = due.map(|one| one.row.clone()).collect();
        for row in due {
            self.give_up_on(&mut open, row).await;
        }
        let next = open.values().map(|one| one.until).min();
        next.unwrap_or_else(|| Instant::now() + RING_TIME)
    }

    /// Rejects what is offered, if the settings say so. Each call is tried once: a call that could not be
    /// rejected is over soon.
    async fn reject_all(&self, client: &Client) {
        let (rejects, text) = {
            let row = self.instance.borrow();
            (row.reject_calls, row.reject_calls_text.clone())
        };
        if !rejects {
            return;
        }
        let offered: Vec<CallRow> = {
            let mut open = self.open.lock().await;
            let untried = open.values_mut().filter(|one| !one.tried);
            let offered = untried.filter(|one| {
                let state = shown(&one.row).map(|call| call.state());
                state == Some(CallState::Offer)
            });
            offered
                .map(|one| {
                    one.tried = true;
                    one.row.clone()
                })
                .collect()
        };
        for row in offered {
            if let Err(error) = self.turn_away(client, &row, &text).await {
                tracing::warn!(instance = %row.instance, %error, "a call can't be rejected");
            }
        }
    }

    /// Sends the texts that are still to be sent; true if some could not be.
    async fn answer_all(self: Arc<Self>) -> bool {
        loop {
            let number = self.row().number;
            let query = self
                .storage
                .list_calls(number, CallQuery::Unanswered, ANSWERS);
            let rows = match query.await {
                Ok(rows) if rows.is_empty() => return false,
                Ok(rows) => rows,
                Err(error) => {
                    tracing::warn!(instance = %number, %error, "texts to callers wait for the database");
                    return true;
                }
            };
            let answers: Vec<_> = rows.into_iter().map(|row| self.answer(row)).collect();
            let later = stream::iter(answers)
                .buffer_unordered(ANSWERS_AT_ONCE)
                .fold(false, |some, later| async move { some || later });
            if later.await {
                return true;
            }
        }
    }

    /// Sends the text to one caller; true if that is to be tried again.
    async fn answer(&self, row: CallRow) -> bool {
        let number = row.instance;
        let age = SystemTime::now().duration_since(row.time);
        let to = shown(&row).and_then(|call| recipient(call.caller.as_ref()?));
        match to {
            Some(to) if age.unwrap_or_default() <= ANSWER_WITHIN => {
                let sent = self.outbox.send(outgoing(&row, to)).await;
                match sent {
                    Ok(_) => {}
                    Err(WaError::NotOpen(_)) => return true,
                    Err(error) if error.is_undecided() => return true,
                    Err(error) => {
                        tracing::warn!(instance = %number, %error, "a caller can't be sent a text");
                    }
                }
            }
            _ => tracing::warn!(instance = %number, "a caller is not sent a text any more"),
        }
        let answered = CallRow {
            answer: String::new(),
            ..row
        };
        self.store_surely(&answered, Vec::new()).await;
        self.stop.is_cancelled()
    }
}

async fn done(task: &mut Option<JoinHandle<bool>>) -> bool {
    match task {
        // One that panicked is not tried again at once, but with the next call.
        Some(task) => task.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

/// The caller as somebody to write to.
fn recipient(caller: &v1::Party) -> Option<Recipient> {
    match &*caller.phone_number {
        "" => Recipient::parse(&caller.lid).ok(),
        number => Recipient::parse(number).ok(),
    }
}

fn outgoing(row: &CallRow, recipient: Recipient) -> Outgoing {
    let text = v1::TextContent {
        text: row.answer.clone(),
        ..Default::default()
    };
    Outgoing {
        recipient: Some(recipient),
        say: Say::Content(Box::new(Content::Text(text))),
        about: None,
        ephemeral_seconds: None,
        forwarded: false,
        view_once: false,
        quoted: String::new(),
        album: String::new(),
        fetch_preview: false,
        mentions: Mentions::default(),
        item: None,
        request: Some(RequestMark {
            api_key: ApiKeyId::of_wagate(),
            method: METHOD,
            request_id: format!("{}/{}", row.instance, row.call_id),
            body_digest: Sha256::digest(&row.answer).into(),
            fields: FieldDigests::default(),
            time: SystemTime::now(),
        }),
        // Once it is stored, the outbox sends it whatever happens here.
        patience: Patience {
            until: Progress::Accepted,
            time: Duration::ZERO,
        },
        timing: Timing::default(),
    }
}
