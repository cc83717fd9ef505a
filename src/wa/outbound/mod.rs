//! Messages on their way out of one instance.
//!
//! Owns the promise that a send happens once: the id is chosen and committed before the socket is
//! touched, and whatever is tried again is tried under that id. [`composing`] finds out what to
//! send, [`tending`] lets what has to wait leave when it is due, [`sender`] hands stored messages to the library,
//! [`status`] stores what became of them, [`refusals`] says why, [`unconfirmed`] shows what is under way,
//! [`holding`] keeps WhatsApp's limits on writing to strangers.
//! Never sends what is not stored.

mod composing;
mod files;
mod holding;
mod kept;
mod leaving;
mod marking;
mod paying;
mod previewing;
mod refusals;
mod sender;
mod status;
mod tending;
mod timing;
mod unconfirmed;
mod waiting;

use std::{sync::Arc, time::SystemTime};

use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::Client;

pub(in crate::wa) use self::timing::{SAY_AGAIN, seem};
use self::{
    composing::Composed, files::Filed, leaving::Leaving, tending::Tending, waiting::Waiting,
};
pub(super) use self::{
    holding::{Hold, Holds},
    refusals::is_limit,
};
pub use self::{
    paying::{PaymentDemand, PaymentReply},
    timing::{Activity, Timing},
    unconfirmed::{OutboxPlace, Unconfirmed},
    waiting::{Patience, Progress},
};
use super::{
    addresses::Addresses,
    contacts::{self, Contacts},
    convert::{context, ids, inbound, outbound, words},
    error::WaError,
    groups::{Groups, Mentions},
    hook::account,
    media::Uploads,
};
use crate::{
    domain::recipient::Recipient,
    events::timestamp,
    preview::Previews,
    proto::v1::{self, MessageStatus, message_content::Content},
    storage::{AcceptOutcome, InstanceRow, MessageRow, RequestMark, Storage, queue::ItemMark},
};

/// Calls of one instance that may be storing a message at once; more wait their turn.
const ACCEPTED_AT_ONCE: usize = 64;

/// Rows read or written at once where there may be many.
const PAGE: usize = 500;

/// What a caller wants to say, or to do to a stored message.
#[derive(Clone, Debug)]
pub enum Say {
    /// This.
    Content(Box<Content>),
    /// Give it another text or caption.
    Edit(String),
    /// Delete it for everybody.
    Revoke,
    /// Pin it for so many seconds; 0 unpins it.
    Pin(u32),
    /// Vote for the options with these names.
    Vote(Vec<String>),
    /// Pass it on.
    Forward,
    /// Ask for money.
    RequestPayment(Box<PaymentDemand>),
    /// Answer a request for money.
    AnswerPayment(PaymentReply),
}

/// What a caller wants sent.
pub struct Outgoing {
    /// To whom; `None` goes to the chat of the message that it is about.
    pub recipient: Option<Recipient>,
    /// What.
    pub say: Say,
    /// The stored message that it is about.
    pub about: Option<MessageRow>,
    /// When it disappears; `None` as the chat has it.
    pub ephemeral_seconds: Option<u32>,
    /// It is marked as forwarded.
    pub forwarded: bool,
    /// It can be opened only once.
    pub view_once: bool,
    /// WhatsApp's id of the message that it answers; empty is none.
    pub quoted: String,
    /// WhatsApp's id of the head of its album; empty is none.
    pub album: String,
    /// It is a text whose link's preview is looked for.
    pub fetch_preview: bool,
    /// Whom it mentions, if it goes to a group.
    pub mentions: Mentions,
    /// The caller's request id, if it gave one.
    pub request: Option<RequestMark>,
    /// The recipient of a mailing list whose turn it is.
    pub item: Option<ItemMark>,
    /// How long the caller waits, and for what.
    pub patience: Patience,
    /// When it is to leave.
    pub timing: Timing,
}

/// The outgoing side of one instance.
pub(super) struct Outbox {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    stop: CancellationToken,
    /// The client, while the session is open.
    client: watch::Sender<Option<Arc<Client>>>,
    places: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    contacts: Contacts,
    groups: Arc<Groups>,
    uploads: Arc<Uploads>,
    previews: Arc<Previews>,
    /// Stored messages on their way to the sender.
    accepted: mpsc::Sender<Box<MessageRow>>,
    waiting: Waiting,
    leaving: Leaving,
    tending: Tending,
    holds: Arc<Holds>,
}

/// What the outgoing side of an instance is made of.
pub(super) struct Parts {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) instance: watch::Receiver<InstanceRow>,
    pub(super) client: watch::Sender<Option<Arc<Client>>>,
    pub(super) addresses: Arc<Addresses>,
    pub(super) contacts: Contacts,
    pub(super) groups: Arc<Groups>,
    pub(super) uploads: Arc<Uploads>,
    pub(super) previews: Arc<Previews>,
    pub(super) stop: CancellationToken,
}

/// What is committed with a message.
struct Marks {
    request: Option<RequestMark>,
    item: Option<ItemMark>,
    expire_time: Option<SystemTime>,
}

/// A message that is in the database.
enum Stored {
    /// Now, with who tells what becomes of it if somebody wants to know.
    New(MessageRow, Option<oneshot::Receiver<MessageRow>>),
    /// By the same request before.
    Before(MessageRow),
}

impl Outbox {
    /// The outgoing side and its sender, which ends with the token.
    pub(super) fn spawn(parts: Parts) -> Arc<Self> {
        let Parts {
            storage,
            instance,
            client,
            addresses,
            contacts,
            groups,
            uploads,
            previews,
            stop,
        } = parts;
        let (accepted, queue) = mpsc::channel(ACCEPTED_AT_ONCE);
        let holds = Holds::new(storage.clone(), instance.clone(), client.subscribe());
        let outbox = Arc::new(Self {
            storage,
            instance,
            stop,
            client,
            places: Arc::new(Semaphore::new(ACCEPTED_AT_ONCE)),
            addresses,
            contacts,
            groups,
            uploads,
            previews,
            accepted,
            waiting: Waiting::default(),
            leaving: Leaving::default(),
            tending: Tending::default(),
            holds,
        });
        tokio::spawn(sender::run(outbox.clone(), queue));
        tokio::spawn(tending::run(outbox.clone()));
        outbox
    }

    /// The session is open: what was accepted and never confirmed goes out first.
    pub(super) fn open(&self, client: Arc<Client>) {
        self.client.send_replace(Some(client));
    }

    /// The session is no longer open.
    pub(super) fn close(&self) {
        self.client.send_replace(None);
    }

    /// The account is no longer ours: what waits to be sent must not leave from another one.
    pub(super) async fn abandon(&self, reason: &str) -> Result<(), WaError> {
        let number = self.row().number;
        let pending = MessageStatus::Pending as i32;
        self.fail_all(reason).await?;
        // It was that account which was limited.
        self.holds.forget().await;
        loop {
            let rows = self.storage.list_outbound(number, pending, None, PAGE);
            let rows = rows.await?;
            if rows.is_empty() {
                return Ok(());
            }
            let ids: Vec<String> = rows.into_iter().map(|row| row.message_id).collect();
            for message_id in &ids {
                self.leaving.forget(message_id);
            }
            self.raise(ids, MessageStatus::Error, reason.to_owned(), None)
                .await?;
        }
    }

    /// WhatsApp's limits on writing to strangers.
    pub(super) fn holds(&self) -> &Arc<Holds> {
        &self.holds
    }

    pub(super) fn row(&self) -> InstanceRow {
        self.instance.borrow().clone()
    }

    /// Stores a message and waits for what becomes of it, as long as its caller does. A caller that
    /// leaves before it is stored has sent nothing; later, it is sent all the same.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut outgoing: Outgoing,
    ) -> Result<MessageRow, WaError> {
        let number = self.row().number;
        let (patience, begun) = (outgoing.patience, Instant::now());
        if let Some(request) = &outgoing.request
            && let Some(seen) = self.storage.lookup_request(number, request).await?
        {
            return self.confirmed(self.seen_before(seen)?, patience).await;
        }
        // A mailing list sees to its own turns.
        if outgoing.item.is_none() && self.has_to_wait(&outgoing).await? {
            return self.wait(outgoing).await;
        }
        let client = self.open_client()?;
        // Before a place is taken: a large file, or a slow page, must not keep short texts waiting.
        let file = self.file(&client, &mut outgoing).await?;
        self.preview(&client, &mut outgoing).await?;
        let patience = patience.after(begun.elapsed());
        let place = self.places.clone().acquire_owned();
        let place = place.await.map_err(|_| WaError::ShuttingDown)?;
        let marks = Marks {
            request: outgoing.request.clone(),
            item: outgoing.item.take(),
            expire_time: outgoing.timing.expire_time,
        };
        let composed = self.compose(&client, outgoing, file).await?;
        self.holds.check(&composed.to).await?;
        let to = composed.to.clone();
        let progress = patience.until;
        let storing = self.clone().store(client, composed, marks, progress, place);
        let stored = tokio::spawn(storing)
            .await
            .unwrap_or(Err(WaError::ShuttingDown))?;
        match stored {
            Stored::New(row, risen) => {
                let met = contacts::of_recipient(&to.to, to.other.as_ref());
                self.contacts.see(vec![met]).await;
                Ok(self.settled(row, risen, patience).await)
            }
            Stored::Before(row) => self.confirmed(row, patience).await,
        }
    }

    /// Commits the message under its id, then hands it to the sender.
    async fn store(
        self: Arc<Self>,
        client: Arc<Client>,
        composed: Composed,
        marks: Marks,
        progress: Progress,
        _place: OwnedSemaphorePermit,
    ) -> Result<Stored, WaError> {
        let raw = outbound::encode(&composed.message);
        let (file, shared) = (composed.file, composed.shared);
        let person = composed.to.person();
        let row = self.row_of(&client, composed, raw, client.generate_message_id());
        // First, so that no message has a file that goes before its time.
        if let Some(file) = file {
            let media = self.uploads.media();
            let kept = media.keep(row.instance, file, &row.chat, &row.message_id);
            kept.await.map_err(WaError::Media)?;
        }
        // It goes out whether or not its bytes are here.
        if let Some(shared) = shared {
            let media = self.uploads.media();
            let kept = media.keep(row.instance, shared, &row.chat, &row.message_id);
            kept.await.ok();
        }
        let pending = self.status_event(&row, MessageStatus::Pending);
        // Before it can have risen: then nobody has to look whether it did.
        let risen = self.waiting.until(&row.message_id, progress);
        self.leaving.hold(&row.message_id, marks.expire_time);
        let events = vec![pending];
        let accepted = match marks.item {
            Some(item) => {
                let item = ItemMark { person, ..item };
                self.storage.accept_item(row.clone(), item, events).await
            }
            None => {
                let accepted = self
                    .storage
                    .accept_message(row.clone(), marks.request, events);
                accepted.await
            }
        };
        if !matches!(accepted, Ok(AcceptOutcome::Accepted)) {
            drop(risen);
            self.waiting.forget();
            self.leaving.forget(&row.message_id);
            return self.seen_before(accepted?).map(Stored::Before);
        }
        if marks.expire_time.is_some() {
            self.tending.look_again();
        }
        crate::crash_points::CrashPoint::SendAccepted.pass();
        // If the sender is gone, so is the session: the next one sends it.
        self.accepted.send(Box::new(row.clone())).await.ok();
        Ok(Stored::New(row, risen))
    }

    /// Waits until the message has come as far as the caller wants.
    async fn confirmed(&self, row: MessageRow, patience: Patience) -> Result<MessageRow, WaError> {
        if patience.until.is_reached(row.status) {
            return Ok(row);
        }
        let risen = self.waiting.until(&row.message_id, patience.until);
        // It may have risen before anybody waited.
        match self.now(&row).await? {
            None => Err(WaError::InstanceNotFound),
            Some(now) if patience.until.is_reached(now.status) => Ok(now),
            Some(now) => Ok(self.settled(now, risen, patience).await),
        }
    }

    /// The message once it has come as far as the caller wants, or as it is when that takes too long.
    async fn settled(
        &self,
        row: MessageRow,
        risen: Option<oneshot::Receiver<MessageRow>>,
        patience: Patience,
    ) -> MessageRow {
        let Some(risen) = risen else { return row };
        let told = tokio::select! {
            risen = risen => risen.ok(),
            // The log tells the rest.
            () = sleep(patience.time) => None,
            () = self.stop.cancelled() => None,
        };
        if let Some(told) = told {
            return told;
        }
        self.waiting.forget();
        // It may have come a part of the way.
        self.now(&row).await.ok().flatten().unwrap_or(row)
    }

    /// A message as it is stored now.
    async fn now(&self, row: &MessageRow) -> Result<Option<MessageRow>, WaError> {
        // One that has to wait may come to lie in another chat.
        self.sent_as(&row.message_id).await
    }

    /// Waits until another client has taken the place of this one.
    async fn superseded(&self, client: &Client) {
        let mut open = self.client.subscribe();
        let other = |now: &Option<Arc<Client>>| {
            now.as_ref()
                .is_some_and(|now| !std::ptr::eq(Arc::as_ptr(now), client))
        };
        if open.wait_for(other).await.is_err() {
            std::future::pending().await
        }
    }

    pub(super) fn open_client(&self) -> Result<Arc<Client>, WaError> {
        let client = self.client.borrow().clone();
        client.ok_or_else(|| WaError::not_open(self.row()))
    }

    /// The message that a caller's request made before, if this is the same.
    fn seen_before(&self, outcome: AcceptOutcome) -> Result<MessageRow, WaError> {
        match outcome {
            AcceptOutcome::Replayed(row) => Ok(*row),
            AcceptOutcome::Waits(send) => Ok(kept::pending(&self.row(), &send)),
            AcceptOutcome::Full => Err(WaError::OutboxFull),
            AcceptOutcome::Withdrawn => Err(WaError::TurnIsOver),
            AcceptOutcome::Twice => Err(WaError::TurnComesTwice),
            AcceptOutcome::Reused(fields) => Err(WaError::RequestReused(fields)),
            // A request that is new was not seen before; nothing to return is the same as a clash.
            AcceptOutcome::Accepted => Err(WaError::RequestReused(Vec::new())),
        }
    }

    fn row_of(
        &self,
        client: &Client,
        composed: Composed,
        raw: Vec<u8>,
        message_id: String,
    ) -> MessageRow {
        let row = self.instance.borrow();
        let time = SystemTime::now();
        let to = composed.to;
        let quote = composed.around.quote.as_ref();
        let target = words::target(&composed.content).map(str::to_owned);
        let listed = words::stands_alone(&composed.content);
        let words = words::words(&composed.content);
        let peeled = inbound::peel(&composed.message);
        let around = context::around(peeled.message);
        let message = v1::Message {
            id: message_id.clone(),
            instance: row.id.to_string(),
            chat: Some(ids::chat(&to.to, to.other.as_ref(), "")),
            sender: Some(account(client).party()),
            from_me: true,
            message_time: Some(timestamp(time)),
            status: MessageStatus::Pending.into(),
            status_reason: String::new(),
            content: Some(v1::MessageContent {
                content: Some(composed.content),
            }),
            quoted: quote.map(|quote| Box::new(quote.shown(&to.to))),
            mentions: composed.around.shown_mentions(),
            ephemeral_seconds: around
                .and_then(|around| around.expiration)
                .unwrap_or_default(),
            forwarded: around.is_some_and(|around| around.is_forwarded == Some(true)),
            forwarding_score: around
                .and_then(|around| around.forwarding_score)
                .unwrap_or_default(),
            view_once: peeled.view_once,
            album_message_id: peeled.album().unwrap_or_default().to_owned(),
            ..Default::default()
        };
        MessageRow {
            instance: row.number,
            chat: to.to.to_string(),
            sender: composed.sender,
            message_id,
            from_me: true,
            outbound: true,
            time,
            status: MessageStatus::Pending.into(),
            previous_status: MessageStatus::Pending.into(),
            status_reason: String::new(),
            body: message.encode_to_vec().into(),
            raw: raw.into(),
            listed,
            target: target.unwrap_or_default(),
            words,
            starred: false,
            hidden: false,
        }
    }
}
