//! One mailing list at work.
//!
//! Owns whose turn it is and when. All that it knows it reads from the database at every turn, so a restart goes
//! on where the last run ended: a recipient whose message is stored is never given another, and one whose is not
//! has got none. Looks at WhatsApp's limits before each turn: while they hold, only recipients who know the
//! account have theirs.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message as _;
use rand::RngExt as _;
use tokio::time::{Instant, sleep_until};
use whatsapp_rust::Client;

use super::{ASK_AGAIN, Plan, Queues, content, telling};
use crate::{
    domain::{
        ids::{InstanceNumber, QueueId},
        limits,
        pace::{self, Window},
        recipient::{Recipient, group_jid},
        template::Variables,
    },
    proto::v1::{self, MessageStatus, message_content::Content},
    storage::{
        InstanceRow, StorageError,
        contact::ContactKey,
        queue::{
            ItemChange, ItemMark, ItemQuery, ItemRow, ItemState, QueueApply, QueueRow, QueueState,
        },
    },
    wa::{
        error::WaError,
        groups::{GroupFault, GroupRefusal, Mentions, Somebody},
        outbound::{
            Activity, Hold, Outgoing, Patience, Progress, SAY_AGAIN, Say, Timing, is_limit,
        },
    },
};

/// Messages of one list that WhatsApp has not confirmed in time; with so many the next one waits.
const UNCONFIRMED: usize = 8;

/// How long the confirmation of one message is waited for before the next one goes.
const CONFIRMATION: Duration = Duration::from_secs(20);

/// How often it is looked whether an unconfirmed message was confirmed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Pause after WhatsApp did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How often a recipient is put off for WhatsApp's limits before it is given up.
const PUT_OFF: u32 = 3;

/// Recipients that are read at once to find one who knows the account.
const PAGE: usize = 256;

/// What a list says and how fast.
struct Order {
    content: Content,
    message: v1::QueueMessage,
    delay: (u32, u32),
    presence: Option<Activity>,
    interval: Duration,
    window: Option<Window>,
}

impl Order {
    fn of(row: &QueueRow) -> Option<Self> {
        let plan = v1::Queue::decode(row.body.clone()).ok()?;
        let pacing = plan.pacing.unwrap_or_default();
        let mut message = plan.message?;
        let content = content::content_of(message.content.take()?);
        let rate = pacing.messages_per_minute.unwrap_or(limits::QUEUE_RATE);
        Some(Self {
            content,
            message,
            delay: (
                pacing.delay_min_ms,
                pacing.delay_max_ms.max(pacing.delay_min_ms),
            ),
            presence: Activity::of(pacing.presence()),
            interval: pace::interval(rate),
            window: Plan::window(Some(&pacing)),
        })
    }

    fn draw_delay(&self) -> Duration {
        let (least, most) = self.delay;
        Duration::from_millis(rand::rng().random_range(least..=most).into())
    }
}

/// What is to be done after a step.
enum Next {
    /// Look again at once.
    Again,
    /// Look again after a while, or when anything changes; `None` is only then.
    After(Option<Duration>),
    /// The list does not run any more.
    End,
}

/// The recipient whose turn is prepared.
struct Turn {
    position: u32,
    /// When its pause is over.
    at: Instant,
    shown: Option<Instant>,
}

struct Run {
    queues: Arc<Queues>,
    id: QueueId,
    number: InstanceNumber,
    order: Option<Order>,
    turn: Option<Turn>,
    /// The hold that was looked through for recipients who know the account, and how far.
    looked: Option<(Hold, u32)>,
}

/// Runs a list until it is paused, done or gone, or wagate stops.
pub(super) async fn run(queues: Arc<Queues>, id: QueueId) {
    let mut changes = queues.changes.subscribe();
    let mut open = queues.client.clone();
    let mut instance = queues.instance.clone();
    let mut holds = queues.outbox.holds().watch();
    let stop = queues.stop.clone();
    let mut run = Run {
        number: queues.row().number,
        queues,
        id,
        order: None,
        turn: None,
        looked: None,
    };
    while !stop.is_cancelled() {
        changes.borrow_and_update();
        open.borrow_and_update();
        instance.borrow_and_update();
        holds.borrow_and_update();
        let wait = match Box::pin(run.step()).await {
            Ok(Next::Again) => continue,
            Ok(Next::End) => return,
            Ok(Next::After(wait)) => wait,
            Err(error) => {
                let instance = run.number;
                tracing::warn!(%instance, %error, "a mailing list waits for the database");
                Some(ASK_AGAIN)
            }
        };
        let until = wait.map(|wait| Instant::now() + wait);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Ok(()) = changes.changed() => {}
            Ok(()) = open.changed() => {}
            Ok(()) = instance.changed() => {}
            Ok(()) = holds.changed() => {}
            () = elapsed(until) => {}
        }
    }
}

async fn elapsed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Run {
    /// Does what is to be done now.
    async fn step(&mut self) -> Result<Next, StorageError> {
        let storage = self.queues.storage.clone();
        let row = storage.lookup_queue(self.number, self.id).await?;
        let Some(row) = row.filter(|row| row.state != QueueState::Completed) else {
            return Ok(Next::End);
        };
        let unconfirmed = self.settle().await?;
        if row.state == QueueState::Paused {
            return Ok(match unconfirmed {
                0 => Next::End,
                _ => Next::After(Some(LOOK_AGAIN)),
            });
        }
        let client = self.queues.client.borrow().clone();
        let Some(client) = client else {
            return Ok(Next::After((unconfirmed > 0).then_some(LOOK_AGAIN)));
        };
        let instance = self.queues.row();
        if row.account != instance.phone_number {
            return self.account_differs(&row, &instance).await;
        }
        let hold = match self.queues.outbox.holds().current().await {
            Ok(hold) => hold,
            Err(WaError::Storage(error)) => return Err(error),
            Err(_) => return Ok(Next::After(Some(TRY_AGAIN))),
        };
        if hold.as_ref().is_some_and(|hold| hold.asking) {
            // Soon it is known until when.
            return Ok(Next::After(None));
        }
        if unconfirmed >= UNCONFIRMED {
            return Ok(Next::After(Some(LOOK_AGAIN)));
        }
        let item = match &hold {
            None => self.first_waiting().await?,
            Some(hold) => self.first_known(hold).await?,
        };
        let nobody = item.is_none() && row.counts.waiting > 0;
        match &hold {
            Some(hold) if nobody && row.held_until != Some(hold.until) => {
                self.tell_hold(Some(hold)).await?;
            }
            None if row.held_until.is_some() => self.tell_hold(None).await?,
            _ => {}
        }
        let Some(item) = item else {
            return Ok(match hold {
                Some(hold) if nobody => {
                    let left = hold.until.duration_since(SystemTime::now());
                    Next::After(Some(left.unwrap_or_default()))
                }
                // What is under way is looked after, or it was the last one and the list is done.
                _ => Next::After(Some(LOOK_AGAIN)),
            });
        };
        self.take_turn(&client, &row, item).await
    }

    /// The list began at another account: it goes on from this one only if somebody wants that.
    async fn account_differs(
        &self,
        row: &QueueRow,
        instance: &InstanceRow,
    ) -> Result<Next, StorageError> {
        if instance.phone_number.is_empty() {
            // It is not known yet.
            return Ok(Next::After(Some(ASK_AGAIN)));
        }
        if row.account.is_empty() {
            let account = instance.phone_number.clone();
            let apply: QueueApply = Box::new(move |row| {
                let row = QueueRow {
                    account: account.clone(),
                    ..row.clone()
                };
                Some((row, Vec::new()))
            });
            let storage = &self.queues.storage;
            storage.change_queue(self.number, self.id, apply).await?;
            return Ok(Next::Again);
        }
        self.pause("the instance has another account than when it began")
            .await
    }

    /// Nothing can be sent until a caller mends it.
    async fn pause(&self, reason: &str) -> Result<Next, StorageError> {
        match self.queues.pause_for(self.id, reason).await {
            Err(WaError::Storage(error)) => Err(error),
            _ => Ok(Next::Again),
        }
    }

    /// Writes down that the list is held, or no longer.
    async fn tell_hold(&self, hold: Option<&Hold>) -> Result<(), StorageError> {
        let instance = self.queues.row();
        let until = hold.map(|hold| hold.until);
        let reason = hold.map_or(String::new(), |hold| hold.reason.clone());
        let apply: QueueApply = Box::new(move |row| {
            if row.state != QueueState::Running || row.held_until == until {
                return None;
            }
            let held = QueueRow {
                held_until: until,
                state_reason: reason.clone(),
                update_time: SystemTime::now(),
                ..row.clone()
            };
            let told = telling::updated(&instance, row, &held);
            Some((held, vec![told]))
        });
        let storage = &self.queues.storage;
        storage.change_queue(self.number, self.id, apply).await?;
        Ok(())
    }

    async fn items(&self, query: ItemQuery) -> Result<Vec<ItemRow>, StorageError> {
        let storage = &self.queues.storage;
        storage.list_items(self.number, self.id, query).await
    }

    async fn first_waiting(&mut self) -> Result<Option<ItemRow>, StorageError> {
        self.looked = None;
        let waiting = self.items(ItemQuery {
            state: Some(ItemState::Waiting),
            after: None,
            limit: 1,
        });
        Ok(waiting.await?.pop())
    }

    /// The first recipient whom WhatsApp's limits do not keep waiting. Each is looked at once in a hold.
    async fn first_known(&mut self, hold: &Hold) -> Result<Option<ItemRow>, StorageError> {
        let mut after = match &self.looked {
            Some((looked, after)) if looked == hold => Some(*after),
            _ => None,
        };
        loop {
            let page = self.items(ItemQuery {
                state: Some(ItemState::Waiting),
                after,
                limit: PAGE,
            });
            let page = page.await?;
            let Some(last) = page.last().map(|item| item.position) else {
                return Ok(None);
            };
            for item in page {
                // Who was refused in a hold waits for its end, stranger or not.
                if item.attempts == 0 && self.is_known(&item).await? {
                    let before = item.position.checked_sub(1);
                    self.looked = before.map(|before| (hold.clone(), before));
                    return Ok(Some(item));
                }
            }
            after = Some(last);
            self.looked = Some((hold.clone(), last));
        }
    }

    /// Whether a recipient is a group, or somebody who wrote to the account.
    async fn is_known(&self, item: &ItemRow) -> Result<bool, StorageError> {
        let number = |digits: &str| format!("{digits}@s.whatsapp.net");
        let hidden = |digits: &str| format!("{digits}@lid");
        let (mut chats, key) = match Recipient::parse(&item.recipient) {
            Ok(Recipient::Number(digits)) => (vec![number(&digits)], ContactKey::Number(digits)),
            Ok(Recipient::Lid(digits)) => (vec![hidden(&digits)], ContactKey::Lid(digits)),
            Ok(Recipient::Group(_)) | Err(_) => return Ok(true),
        };
        let storage = &self.queues.storage;
        if let Some(contact) = storage.lookup_contact(self.number, key).await? {
            let names = [
                (&contact.phone_number, number(&contact.phone_number)),
                (&contact.lid, hidden(&contact.lid)),
            ];
            let known = names.into_iter().filter(|(digits, _)| !digits.is_empty());
            chats.extend(known.map(|(_, chat)| chat));
        }
        storage.has_received(self.number, chats).await
    }

    /// Sends to a recipient once its time has come.
    async fn take_turn(
        &mut self,
        client: &Client,
        row: &QueueRow,
        item: ItemRow,
    ) -> Result<Next, StorageError> {
        if self.order.is_none() {
            self.order = Order::of(row);
        }
        let Some(order) = &self.order else {
            return self.pause("what it says can't be read").await;
        };
        let now = SystemTime::now();
        let closed = order.window.map(|window| window.opens_in(now));
        if let Some(wait) = closed.filter(|wait| !wait.is_zero()) {
            self.turn = None;
            return Ok(Next::After(Some(wait)));
        }
        let since = row.sent_time.map(|sent| now.duration_since(sent));
        let since = since.map(Result::unwrap_or_default);
        let wait = since.map_or(Duration::ZERO, |since| order.interval.saturating_sub(since));
        if !wait.is_zero() {
            return Ok(Next::After(Some(wait)));
        }
        let turn = match self.turn.take() {
            Some(turn) if turn.position == item.position => turn,
            _ => Turn {
                position: item.position,
                at: Instant::now() + order.draw_delay(),
                shown: None,
            },
        };
        let now = Instant::now();
        let left = turn.at.saturating_duration_since(now);
        if !left.is_zero() {
            let said = turn.shown.is_some_and(|at| now < at + SAY_AGAIN);
            let shown = if said { turn.shown } else { Some(now) };
            self.turn = Some(Turn { shown, ..turn });
            let Some(presence) = order.presence else {
                return Ok(Next::After(Some(left)));
            };
            if !said && let Ok(recipient) = Recipient::parse(&item.recipient) {
                self.queues.outbox.show(client, &recipient, presence).await;
                // That took a moment.
                return Ok(Next::Again);
            }
            return Ok(Next::After(Some(left.min(SAY_AGAIN))));
        }
        self.send(item).await
    }

    async fn send(&mut self, item: ItemRow) -> Result<Next, StorageError> {
        let Some(order) = &self.order else {
            return Ok(Next::Again);
        };
        let outgoing = match outgoing(self.id, order, &item) {
            Ok(outgoing) => outgoing,
            Err(reason) => return self.become_done(&item, ItemState::Failed, &reason).await,
        };
        let sent = self.queues.outbox.send(outgoing).await;
        match sent {
            Ok(message) => {
                let item = ItemRow {
                    state: ItemState::Sending,
                    ..item
                };
                self.settle_one(&item, message.status, &message.status_reason)
                    .await?;
                Ok(Next::Again)
            }
            Err(error) => self.not_sent(&item, error).await,
        }
    }

    /// What becomes of a recipient whose message could not be stored.
    async fn not_sent(&mut self, item: &ItemRow, error: WaError) -> Result<Next, StorageError> {
        match error {
            WaError::Storage(error) => Err(error),
            WaError::InstanceNotFound => Ok(Next::End),
            WaError::TurnIsOver => Ok(Next::After(Some(ASK_AGAIN))),
            WaError::TurnComesTwice => {
                let reason = "another recipient of the list is the same";
                self.become_done(item, ItemState::Duplicate, reason).await
            }
            WaError::NewChatsHeld { .. } => {
                // The limit has come just now, or somebody else than was thought is meant.
                let hold = self.queues.outbox.holds().current().await;
                if let Ok(Some(hold)) = hold {
                    self.looked = Some((hold, item.position));
                }
                Ok(Next::Again)
            }
            WaError::NotOpen(_)
            | WaError::ShuttingDown
            | WaError::Timeout(_)
            | WaError::NotLeft { .. } => Ok(Next::After(Some(TRY_AGAIN))),
            WaError::Group(GroupRefusal {
                fault: GroupFault::RateLimited(patience),
                ..
            }) => Ok(Next::After(Some(patience))),
            // They are the same for all that follow.
            WaError::File { .. } | WaError::Media(_) | WaError::NothingToQuote => {
                self.pause(&error.to_string()).await
            }
            other => {
                let reason = other.to_string();
                self.become_done(item, ItemState::Failed, &reason).await
            }
        }
    }

    /// Looks what became of the messages under way; says how many still are.
    async fn settle(&mut self) -> Result<usize, StorageError> {
        let sending = self.items(ItemQuery {
            state: Some(ItemState::Sending),
            after: None,
            limit: 4 * UNCONFIRMED,
        });
        let mut left = 0;
        for item in sending.await? {
            let storage = &self.queues.storage;
            let chat = Some(item.chat.as_str()).filter(|chat| !chat.is_empty());
            let message = storage.lookup_message(self.number, &item.message_id, chat);
            let settled = match message.await? {
                Some(row) => {
                    self.settle_one(&item, row.status, &row.status_reason)
                        .await?
                }
                None => {
                    let reason = "its message is gone";
                    self.become_done(&item, ItemState::Failed, reason).await?;
                    true
                }
            };
            left += usize::from(!settled);
        }
        Ok(left)
    }

    /// Writes down what became of a message, if that is known.
    async fn settle_one(
        &self,
        item: &ItemRow,
        status: i32,
        reason: &str,
    ) -> Result<bool, StorageError> {
        if status == MessageStatus::Pending as i32 {
            return Ok(false);
        }
        let to = match status == MessageStatus::Error as i32 {
            false => ItemState::Sent,
            true if is_limit(reason) && item.attempts + 1 < PUT_OFF => ItemState::Waiting,
            true => ItemState::Failed,
        };
        self.become_done(item, to, reason).await?;
        Ok(true)
    }

    async fn become_done(
        &self,
        item: &ItemRow,
        to: ItemState,
        reason: &str,
    ) -> Result<Next, StorageError> {
        let change = ItemChange {
            queue: self.id,
            position: item.position,
            from: item.state,
            to,
            reason: reason.to_owned(),
            time: SystemTime::now(),
        };
        let events = telling::stepped(self.queues.row());
        let storage = &self.queues.storage;
        storage.change_item(self.number, change, events).await?;
        Ok(Next::Again)
    }
}

/// The message of a recipient, or why there is none.
fn outgoing(queue: QueueId, order: &Order, item: &ItemRow) -> Result<Outgoing, String> {
    let recipient = Recipient::parse(&item.recipient).map_err(str::to_owned)?;
    let given = v1::QueueRecipient::decode(item.variables.clone());
    let variables: Variables = given.map_err(|error| error.to_string())?.variables;
    let content = content::filled(&order.content, &variables)
        .map_err(|name| format!("the variable {name} is missing"))?;
    let message = &order.message;
    let mentions = message.mentions.clone().unwrap_or_default();
    let mentioned = mentions.mentioned.into_iter().map(|text| {
        let recipient = Recipient::parse(&text)?;
        Ok(Somebody { text, recipient })
    });
    let mentioned = mentioned.collect::<Result<_, &str>>();
    // To people it goes without.
    let to_group = group_jid(&item.recipient).is_ok();
    Ok(Outgoing {
        recipient: Some(recipient),
        say: Say::Content(Box::new(content)),
        about: None,
        ephemeral_seconds: message.ephemeral_seconds,
        forwarded: message.forwarded,
        view_once: false,
        fetch_preview: false,
        timing: Timing::default(),
        quoted: message.quoted_message_id.clone(),
        album: String::new(),
        mentions: match to_group {
            true => Mentions {
                everyone: mentions.everyone,
                ghost: mentions.ghost,
                mentioned: mentioned?,
            },
            false => Mentions::default(),
        },
        request: None,
        item: Some(ItemMark {
            queue,
            position: item.position,
            person: String::new(),
        }),
        patience: Patience {
            until: Progress::Sent,
            time: CONFIRMATION,
        },
    })
}
