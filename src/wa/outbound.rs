//! Messages on their way out of one instance.
//!
//! Owns the promise that a send happens once: the id is chosen and committed before the socket is
//! touched, and whatever is tried again is tried under that id. Keeps the order within a chat.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use prost::Message as _;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{
    Client, Jid, SendError, SendOptions,
    types::{
        events::{Event, Receipt, ServerAck},
        presence::ReceiptType,
    },
};

use super::{
    convert::{NAME_BYTES, ids, label, outbound, rows},
    error::WaError,
    hook::account,
};
use crate::{
    domain::{limits::SEND_CONFIRMATION, recipient::Recipient, session::SessionState},
    events::{self, timestamp},
    proto::v1::{self, MessageStatus, event::Payload, message_content::Content},
    storage::{AcceptOutcome, EventsOf, InstanceRow, MessageRow, NewEvent, RequestMark, Storage},
};

/// Sends of one instance that may be under way at once; more wait.
const SENDS_AT_ONCE: usize = 64;

/// Resolved numbers that are remembered.
const NUMBERS_KNOWN: usize = 10_000;

/// What a caller wants sent.
pub struct Outgoing {
    /// To whom.
    pub recipient: Recipient,
    /// What.
    pub content: Content,
    /// The caller's request id, if it gave one.
    pub request: Option<RequestMark>,
}

/// The outgoing side of one instance.
pub(super) struct Outbox {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    stop: CancellationToken,
    client: watch::Sender<Option<Arc<Client>>>,
    places: Arc<Semaphore>,
    numbers: Mutex<HashMap<String, Address>>,
    chats: Mutex<HashMap<Jid, Arc<tokio::sync::Mutex<()>>>>,
    /// Ids being sent by a call, which a reopened session must not send again beside it.
    under_way: Mutex<HashSet<String>>,
    /// Tells waiting calls that the status of some message has risen.
    risen: watch::Sender<u64>,
}

/// Whom a recipient turned out to be.
#[derive(Clone, Debug)]
struct Address {
    to: Jid,
    other: Option<Jid>,
}

/// A run of acks or receipts that say the same of several messages.
pub(super) struct Told {
    /// How many events it took.
    pub(super) read: usize,
    status: MessageStatus,
    reason: String,
    by: Option<Jid>,
    time: SystemTime,
    message_ids: Vec<String>,
}

impl Outbox {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        instance: watch::Receiver<InstanceRow>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            storage,
            instance,
            stop,
            client: watch::channel(None).0,
            places: Arc::new(Semaphore::new(SENDS_AT_ONCE)),
            numbers: Mutex::default(),
            chats: Mutex::default(),
            under_way: Mutex::default(),
            risen: watch::channel(0).0,
        }
    }

    /// The session is open: sends what was accepted and never confirmed.
    pub(super) fn open(self: &Arc<Self>, client: Arc<Client>) {
        self.client.send_replace(Some(client.clone()));
        let outbox = self.clone();
        tokio::spawn(async move {
            if let Err(error) = outbox.send_unconfirmed(client).await {
                tracing::warn!(%error, "unconfirmed messages wait for the next login");
            }
        });
    }

    /// The session is no longer open.
    pub(super) fn close(&self) {
        self.client.send_replace(None);
    }

    fn row(&self) -> InstanceRow {
        self.instance.borrow().clone()
    }

    // Sending.

    /// Accepts a message, sends it and waits for WhatsApp to confirm it, within limits.
    pub(super) async fn send(self: Arc<Self>, outgoing: Outgoing) -> Result<MessageRow, WaError> {
        let number = self.row().number;
        if let Some(request) = &outgoing.request
            && let Some(seen) = self.storage.lookup_request(number, request).await?
        {
            return replayed(seen);
        }
        let client = self.open_client()?;
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| WaError::ShuttingDown)?;
        let address = self.resolve(&client, &outgoing.recipient).await?;
        let message = outbound::convert(&outgoing.content)
            .ok_or_else(|| WaError::MessageRefused("this kind can't be sent".to_owned()))?;

        // The order in which callers got here is the order in which the chat sees it.
        let chat = self.chat_lock(&address.to);
        let turn = chat.lock_owned().await;
        let row = self.compose(
            &client,
            &address,
            outgoing.content,
            outbound::encode(&message),
        );
        let under_way = UnderWay::new(&self.under_way, &row.message_id);
        let pending = self.status_event(&row, MessageStatus::Pending, None);
        let mut risen = self.risen.subscribe();
        let accepted = self
            .storage
            .accept_message(row.clone(), outgoing.request, vec![pending])
            .await?;
        if !matches!(accepted, AcceptOutcome::Accepted) {
            return replayed(accepted);
        }
        self.transmit(&client, &row, message).await?;
        drop(turn);
        drop(under_way);

        let confirmed = async {
            loop {
                let now = self
                    .storage
                    .lookup_message(row.instance, &row.message_id, Some(&row.chat))
                    .await?;
                match now {
                    Some(now) if now.status != MessageStatus::Pending as i32 => return Ok(now),
                    Some(_) => {}
                    None => return Err(WaError::InstanceNotFound),
                }
                if risen.changed().await.is_err() {
                    return Err(WaError::ShuttingDown);
                }
            }
        };
        tokio::select! {
            settled = confirmed => settled,
            // The log tells the rest.
            () = tokio::time::sleep(SEND_CONFIRMATION) => Ok(row),
            () = self.stop.cancelled() => Ok(row),
        }
    }

    fn open_client(&self) -> Result<Arc<Client>, WaError> {
        let client = self.client.borrow().clone();
        client.ok_or_else(|| {
            let mut row = self.row();
            if row.state == SessionState::Open {
                // The state follows the client by a moment.
                row.state = SessionState::Connecting;
            }
            WaError::NotOpen(Box::new(row))
        })
    }

    /// Hands a stored message to the library. What surely was not sent and never will be is marked so;
    /// all else stays pending and goes out under the same id at the next login.
    async fn transmit(
        &self,
        client: &Client,
        row: &MessageRow,
        message: whatsapp_rust::waproto::whatsapp::Message,
    ) -> Result<(), WaError> {
        let Ok(to) = row.chat.parse::<Jid>() else {
            return Err(WaError::MessageRefused(
                "the stored chat is no JID".to_owned(),
            ));
        };
        let options = SendOptions::default().with_message_id(&row.message_id);
        match client.send_message_with_options(to, message, options).await {
            Ok(_) => Ok(()),
            Err(SendError::InvalidRequest(reason)) => {
                self.raise(
                    row.instance,
                    vec![row.message_id.clone()],
                    MessageStatus::Error,
                    reason.clone(),
                    None,
                )
                .await?;
                Err(WaError::MessageRefused(reason))
            }
            Err(error) => {
                tracing::warn!(
                    instance = %row.instance,
                    %error,
                    "a message was not handed over; it stays pending"
                );
                Ok(())
            }
        }
    }

    async fn send_unconfirmed(&self, client: Arc<Client>) -> Result<(), WaError> {
        let row = self.row();
        // More than this many unconfirmed messages go out at the following login.
        let waiting = self
            .storage
            .list_outbound(row.number, MessageStatus::Pending as i32, 1_000)
            .await?;
        for row in waiting {
            if locked(&self.under_way).contains(&row.message_id) {
                continue;
            }
            match outbound::decode(&row.raw) {
                Ok(message) => {
                    self.transmit(&client, &row, message).await.ok();
                }
                Err(error) => tracing::error!(
                    instance = %row.instance, %error,
                    "a stored message can't be read and is not sent"
                ),
            }
        }
        Ok(())
    }

    /// Asks WhatsApp which account a number is; remembers the answer.
    async fn resolve(&self, client: &Client, recipient: &Recipient) -> Result<Address, WaError> {
        let number = match recipient {
            Recipient::Lid(user) => {
                return Ok(Address {
                    to: Jid::lid(user.as_str()),
                    other: None,
                });
            }
            Recipient::Number(number) => number,
        };
        if let Some(known) = locked(&self.numbers).get(number) {
            return Ok(known.clone());
        }
        let asked = client
            .contacts()
            .is_on_whatsapp(&[Jid::pn(number.as_str())])
            .await
            .map_err(|error| WaError::Timeout(error.to_string()))?;
        let found = asked
            .into_iter()
            .find(|one| one.is_registered)
            .ok_or(WaError::NotOnWhatsApp)?;
        let (to, other) = if found.jid.is_lid() {
            let number = found.pn_jid.unwrap_or_else(|| Jid::pn(number.as_str()));
            (number, Some(found.jid))
        } else {
            (found.jid, found.lid)
        };
        let address = Address {
            to: to.to_non_ad(),
            other: other.map(|jid| jid.to_non_ad()),
        };
        let mut numbers = locked(&self.numbers);
        if numbers.len() >= NUMBERS_KNOWN {
            numbers.clear();
        }
        numbers.insert(number.clone(), address.clone());
        Ok(address)
    }

    fn chat_lock(&self, chat: &Jid) -> Arc<tokio::sync::Mutex<()>> {
        let mut chats = locked(&self.chats);
        if chats.len() > SENDS_AT_ONCE * 2 {
            chats.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        chats.entry(chat.clone()).or_default().clone()
    }

    fn compose(
        &self,
        client: &Client,
        address: &Address,
        content: Content,
        raw: Vec<u8>,
    ) -> MessageRow {
        let row = self.instance.borrow();
        let account = account(client);
        let (time, message_id) = (SystemTime::now(), client.generate_message_id());
        let message = v1::Message {
            id: message_id.clone(),
            instance: row.id.to_string(),
            chat: Some(ids::chat(&address.to, address.other.as_ref(), "")),
            sender: Some(account.party()),
            from_me: true,
            message_time: Some(timestamp(time)),
            status: MessageStatus::Pending.into(),
            status_reason: String::new(),
            content: Some(v1::MessageContent {
                content: Some(content),
            }),
        };
        let sender = if address.to.is_lid() {
            account.lid.or(account.number)
        } else {
            account.number.or(account.lid)
        };
        MessageRow {
            instance: row.number,
            chat: address.to.to_string(),
            sender: sender.map(|jid| jid.to_string()).unwrap_or_default(),
            message_id,
            from_me: true,
            outbound: true,
            time,
            status: MessageStatus::Pending.into(),
            previous_status: MessageStatus::Pending.into(),
            status_reason: String::new(),
            body: message.encode_to_vec().into(),
            raw: raw.into(),
        }
    }

    // What became of it.

    /// The run of events at the front that tell the same status of messages; none if the first does not.
    pub(super) fn statuses(&self, events: &[Arc<Event>]) -> Told {
        let mut run = Told {
            read: 0,
            status: MessageStatus::Unspecified,
            reason: String::new(),
            by: None,
            time: SystemTime::now(),
            message_ids: Vec::new(),
        };
        for event in events {
            let next = match &**event {
                Event::ServerAck(ack) => of_ack(ack),
                Event::Receipt(receipt) => self.of_receipt(receipt),
                _ => break,
            };
            let Some(next) = next else {
                run.read += 1;
                continue;
            };
            let same = run.message_ids.is_empty()
                || (run.status == next.status && run.by == next.by && run.reason == next.reason);
            if !same {
                break;
            }
            run.message_ids.extend(next.message_ids);
            run = Told {
                read: run.read + 1,
                message_ids: run.message_ids,
                ..next
            };
        }
        run
    }

    fn of_receipt(&self, receipt: &Receipt) -> Option<Told> {
        let status = match receipt.r#type {
            // A device whose account is shown as offline confirms so.
            ReceiptType::Delivered | ReceiptType::Inactive => MessageStatus::Received,
            ReceiptType::Read => MessageStatus::Read,
            ReceiptType::Played => MessageStatus::Played,
            _ => return None,
        };
        let by = receipt.source.sender.to_non_ad();
        if by.user.len() > NAME_BYTES {
            return None;
        }
        // The account's own devices confirm what they got, which says nothing of the recipient.
        let row = self.instance.borrow();
        let own = (by.is_pn() && by.user == row.phone_number) || by.to_string() == row.lid;
        (!own).then(|| Told {
            read: 1,
            status,
            reason: String::new(),
            by: Some(by),
            time: receipt.timestamp.into(),
            message_ids: receipt
                .message_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }

    /// Stores what was told, with its events; tries until it works or wagate stops.
    pub(super) async fn settle(&self, told: Told) {
        if told.message_ids.is_empty() {
            return;
        }
        let instance = self.row().number;
        loop {
            let raised = self
                .raise(
                    instance,
                    told.message_ids.clone(),
                    told.status,
                    told.reason.clone(),
                    told.by.clone().map(|by| (by, told.time)),
                )
                .await;
            let Err(error) = raised else { return };
            tracing::warn!(%instance, %error, "a status waits for the database");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
    }

    async fn raise(
        &self,
        instance: crate::domain::ids::InstanceNumber,
        message_ids: Vec<String>,
        status: MessageStatus,
        reason: String,
        by: Option<(Jid, SystemTime)>,
    ) -> Result<(), WaError> {
        let events = self.events_of(status, by);
        let changed = self
            .storage
            .raise_status(instance, message_ids, status.into(), reason, events)
            .await?;
        if !changed.is_empty() {
            self.risen
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    fn events_of(
        &self,
        status: MessageStatus,
        by: Option<(Jid, SystemTime)>,
    ) -> EventsOf<MessageRow> {
        let instance = self.row();
        Box::new(move |row| {
            let mut told = Vec::new();
            // A receipt may come before the ack: whatever shows first that WhatsApp has it.
            let sent = MessageStatus::Sent as i32;
            if row.outbound
                && (row.previous_status < sent && row.status >= sent)
                && let Ok(message) = rows::message(row)
            {
                let payload = Payload::MessageSent(v1::MessageSent {
                    message: Some(message),
                });
                told.push(events::compose(
                    &instance,
                    payload,
                    row.time,
                    &dedupe_key(row),
                ));
            }
            told.push(status_event(&instance, row, status, by.as_ref()));
            told
        })
    }

    fn status_event(
        &self,
        row: &MessageRow,
        status: MessageStatus,
        by: Option<&(Jid, SystemTime)>,
    ) -> NewEvent {
        status_event(&self.instance.borrow(), row, status, by)
    }
}

fn status_event(
    instance: &InstanceRow,
    row: &MessageRow,
    status: MessageStatus,
    by: Option<&(Jid, SystemTime)>,
) -> NewEvent {
    let chat = v1::Message::decode(row.body.clone())
        .ok()
        .and_then(|message| message.chat);
    let payload = Payload::MessageStatus(v1::MessageStatusUpdated {
        message_id: row.message_id.clone(),
        chat,
        status: status.into(),
        reason: row.status_reason.clone(),
        party: by.map(|(jid, _)| ids::party([Some(jid), None], "")),
    });
    let time = by.map_or_else(SystemTime::now, |(_, time)| *time);
    events::compose(instance, payload, time, &dedupe_key(row))
}

fn dedupe_key(row: &MessageRow) -> String {
    format!("{}/{}/{}", row.chat, row.sender, row.message_id)
}

fn of_ack(ack: &ServerAck) -> Option<Told> {
    if ack.class.as_deref() != Some("message") {
        return None;
    }
    let (status, reason) = match &ack.error {
        None => (MessageStatus::Sent, String::new()),
        Some(code) => (MessageStatus::Error, label(code).into_owned()),
    };
    Some(Told {
        read: 1,
        status,
        reason,
        by: None,
        time: SystemTime::now(),
        message_ids: vec![ack.id.clone()],
    })
}

fn replayed(outcome: AcceptOutcome) -> Result<MessageRow, WaError> {
    match outcome {
        AcceptOutcome::Replayed(row) => Ok(*row),
        AcceptOutcome::Reused => Err(WaError::RequestReused),
        AcceptOutcome::Accepted => Err(WaError::Timeout("the request is being stored".to_owned())),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is whole after every statement, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks an id as being sent, until dropped.
struct UnderWay<'a> {
    ids: &'a Mutex<HashSet<String>>,
    id: String,
}

impl<'a> UnderWay<'a> {
    fn new(ids: &'a Mutex<HashSet<String>>, id: &str) -> Self {
        locked(ids).insert(id.to_owned());
        Self {
            ids,
            id: id.to_owned(),
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        locked(self.ids).remove(&self.id);
    }
}
