//! The one task of an instance that hands messages to the library.
//!
//! Owns the order within a chat, which a person has one of by whichever name: a chat has one message under way,
//! and chats do not wait for each other. Reads what is unconfirmed at every login, so nothing is forgotten, and
//! knows what this login has had, so nothing goes out twice beside itself.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use whatsapp_rust::{Client, IqError, Jid, SendError, SendOptions};

use super::{Outbox, PAGE, leaving::Way, tending::EXPIRED};
use crate::{
    crash_points::CrashPoint,
    proto::v1::MessageStatus,
    storage::MessageRow,
    wa::{
        convert::{outbound, rows},
        error::WaError,
    },
};

/// Messages under way at once.
const SENDS_AT_ONCE: usize = 64;

/// Messages in hand; more stay in the database or with their callers.
const IN_HAND: usize = 1_024;

/// Ids remembered after a login has read the database: far more than can be in the queue meanwhile.
const REMEMBERED: usize = 4 * IN_HAND;

/// Pause before a message that was not taken is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Tries of a message that the library refuses for a reason of its own.
const TRIES: u32 = 5;

/// Sends until the outbox stops.
pub(super) async fn run(outbox: Arc<Outbox>, mut queue: mpsc::Receiver<Box<MessageRow>>) {
    let mut open = outbox.client.subscribe();
    let mut lanes = Lanes::default();
    loop {
        let client = open.borrow_and_update().clone();
        match &client {
            None => lanes.put_back(),
            Some(client) => {
                if lanes.unread && lanes.room() > 0 {
                    lanes.read_unconfirmed(&outbox).await;
                }
                lanes.start(&outbox, client);
            }
        }
        tokio::select! {
            biased;
            () = outbox.stop.cancelled() => return,
            changed = open.changed() => match changed {
                Ok(()) => lanes.new_login(),
                Err(_) => return,
            },
            Some(done) = lanes.under_way.join_next() => lanes.finish(done),
            // Once there is room, the rest of what the database has.
            () = std::future::ready(()), if client.is_some() && lanes.unread && lanes.room() > 0 => {}
            row = queue.recv(), if lanes.room() > 0 => match row {
                // Without a connection it waits in the database.
                Some(row) if client.is_some() => lanes.push(*row),
                Some(_) => {}
                None => return,
            },
        }
    }
}

/// A message on its way.
struct InHand {
    /// Whom it goes to, by the same name whichever its caller used.
    chat: String,
    row: MessageRow,
    login: u64,
    tries: u32,
}

/// What a try to send came to.
enum Tried {
    /// The library has it, or never will.
    Done,
    /// Not taken; to be tried again.
    Failed,
}

/// What is in hand, by chat, and what this login has had.
#[derive(Default)]
struct Lanes {
    login: u64,
    /// The database may hold unconfirmed messages that this login has not had.
    unread: bool,
    waiting: HashMap<String, VecDeque<InHand>>,
    count: usize,
    /// The id under way in each busy chat.
    busy: HashMap<String, String>,
    had: HashSet<String>,
    had_in_order: VecDeque<String>,
    under_way: JoinSet<(InHand, Tried)>,
}

impl Lanes {
    fn room(&self) -> usize {
        IN_HAND.saturating_sub(self.count)
    }

    /// Whatever was not confirmed on the connection before goes out on this one.
    fn new_login(&mut self) {
        self.put_back();
        self.login += 1;
        self.unread = true;
        self.had = self.busy.values().cloned().collect();
        self.had_in_order = self.had.iter().cloned().collect();
    }

    /// Leaves what has not begun to the database.
    fn put_back(&mut self) {
        for one in self.waiting.drain().flat_map(|(_, waiting)| waiting) {
            self.had.remove(&one.row.message_id);
        }
        self.count = 0;
    }

    fn push(&mut self, row: MessageRow) {
        if !self.had.insert(row.message_id.clone()) {
            return;
        }
        self.had_in_order.push_back(row.message_id.clone());
        if !self.unread
            && self.had_in_order.len() > REMEMBERED
            && let Some(oldest) = self.had_in_order.pop_front()
        {
            self.had.remove(&oldest);
        }
        self.count += 1;
        let chat = chat(&row);
        let lane = self.waiting.entry(chat.clone()).or_default();
        lane.push_back(InHand {
            chat,
            row,
            login: self.login,
            tries: 0,
        });
    }

    /// Takes the oldest that the database has and this login has not had.
    async fn read_unconfirmed(&mut self, outbox: &Outbox) {
        let number = outbox.row().number;
        let limit = PAGE + self.had.len();
        let pending = MessageStatus::Pending as i32;
        let rows = outbox.storage.list_outbound(number, pending, None, limit);
        match rows.await {
            Ok(rows) => {
                let all = rows.len() < limit;
                rows.into_iter().for_each(|row| self.push(row));
                self.unread = !all;
            }
            Err(error) => {
                tracing::warn!(instance = %number, %error, "unconfirmed messages can't be read yet");
                sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Begins what may begin.
    fn start(&mut self, outbox: &Arc<Outbox>, client: &Arc<Client>) {
        let free = SENDS_AT_ONCE.saturating_sub(self.under_way.len());
        let idle = self
            .waiting
            .keys()
            .filter(|chat| !self.busy.contains_key(*chat));
        let ready: Vec<String> = idle.take(free).cloned().collect();
        for chat in ready {
            let Some(lane) = self.waiting.get_mut(&chat) else {
                continue;
            };
            let next = lane.pop_front();
            if lane.is_empty() {
                self.waiting.remove(&chat);
            }
            let Some(next) = next else { continue };
            self.count -= 1;
            self.busy.insert(chat, next.row.message_id.clone());
            let (outbox, client) = (outbox.clone(), client.clone());
            self.under_way.spawn(async move {
                let tried = transmit(&outbox, &client, &next).await;
                (next, tried)
            });
        }
    }

    fn finish(&mut self, done: Result<(InHand, Tried), tokio::task::JoinError>) {
        let (mut one, tried) = match done {
            Ok(done) => done,
            Err(error) => {
                // A panic below took the message along; its chat must not stay shut.
                tracing::error!(%error, "a send ended without an answer");
                self.busy.clear();
                self.unread = true;
                return;
            }
        };
        self.busy.remove(&one.chat);
        // One that began before this login may have gone out on a connection that is gone.
        let stale = one.login != self.login;
        if stale || matches!(tried, Tried::Failed) {
            one.tries += 1;
            one.login = self.login;
            self.count += 1;
            let lane = self.waiting.entry(one.chat.clone()).or_default();
            lane.push_front(one);
        }
    }
}

/// The chat as callers are shown it: by the person's number where that is known, though the message goes to the
/// name that its caller used.
fn chat(row: &MessageRow) -> String {
    let chat = rows::message(row).ok().and_then(|message| message.chat);
    chat.map(|chat| chat.id)
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| row.chat.clone())
}

/// Hands a stored message to the library. What it will never take is marked so; all else stays
/// pending and goes out under the same id.
async fn transmit(outbox: &Outbox, client: &Client, one: &InHand) -> Tried {
    let row = &one.row;
    let refused = match outbox.leaving.let_go(&row.message_id, SystemTime::now()) {
        Way::TakenBack => return Tried::Done,
        Way::Expired => Some(EXPIRED.to_owned()),
        Way::Free => None,
    };
    let refused = match (refused, row.chat.parse::<Jid>(), outbound::decode(&row.raw)) {
        (Some(refused), ..) => refused,
        (None, Ok(to), Ok(message)) => {
            let options = SendOptions::default().with_message_id(&row.message_id);
            let sending = client.send_message_with_options(to, message, options);
            let sent = tokio::select! {
                sent = sending => sent,
                // A client that was shut down may never answer, and its chat must not stay shut.
                () = outbox.superseded(client) => return Tried::Failed,
            };
            match sent {
                Ok(_) => {
                    CrashPoint::SendWritten.pass();
                    return Tried::Done;
                }
                Err(SendError::InvalidRequest(reason)) => reason,
                Err(SendError::Iq(IqError::ServerError { code, .. }))
                    if row.chat.ends_with("@g.us") && is_final(code) =>
                {
                    outbox.groups.suspect(&row.chat);
                    format!("the group can't be written to ({code})")
                }
                Err(SendError::Internal(_)) if one.tries + 1 >= TRIES => {
                    "it could not be encrypted for its recipient".to_owned()
                }
                Err(error) => {
                    tracing::warn!(
                        instance = %row.instance,
                        error = %kind(&error),
                        "a message was not taken; it stays pending"
                    );
                    sleep(TRY_AGAIN).await;
                    return Tried::Failed;
                }
            }
        }
        _ => "its stored form can't be read".to_owned(),
    };
    match mark_refused(outbox, row, refused).await {
        Ok(()) => Tried::Done,
        Err(error) => {
            tracing::warn!(instance = %row.instance, %error, "a refusal waits for the database");
            sleep(TRY_AGAIN).await;
            Tried::Failed
        }
    }
}

async fn mark_refused(outbox: &Outbox, row: &MessageRow, reason: String) -> Result<(), WaError> {
    let ids = vec![row.message_id.clone()];
    outbox.raise(ids, MessageStatus::Error, reason, None).await
}

/// Whether WhatsApp will say the same of a group however often it is asked: the account is not in it,
/// or it is gone.
fn is_final(code: u16) -> bool {
    matches!(code, 401 | 403 | 404 | 405 | 406 | 410)
}

/// What failed, without what the library says of whom.
fn kind(error: &SendError) -> &'static str {
    match error {
        SendError::Client(_) => "the connection failed",
        SendError::NotLoggedIn => "not logged in",
        SendError::Iq(_) => "WhatsApp refused or did not answer a question",
        SendError::InvalidRequest(_) => "the request is not valid",
        SendError::Internal(_) => "it could not be encrypted",
        _ => "unknown",
    }
}
