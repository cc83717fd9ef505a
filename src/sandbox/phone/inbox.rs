//! What a phone has seen: a bounded list of messages that readers follow at their own pace.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use waproto::{buffa::Message as _, whatsapp::Message};

use crate::sandbox::{
    address::{DeviceAddress, Number},
    error::SandboxError,
    group::GroupId,
    manner::seen_once,
    store::{Batch, Records},
};

/// Older messages leave.
const CAPACITY: usize = 2_000;
const MAX_BYTES: usize = 8 << 20;

/// A message as a phone saw it.
#[derive(Debug, Clone)]
pub struct InboxMessage {
    /// Counts up from 1 per phone, without gaps.
    pub sequence: u64,
    /// The WhatsApp message id.
    pub id: String,
    /// The other side of the chat; in a group and of a status whoever wrote.
    pub chat: Number,
    /// The group it was written in.
    pub group: Option<GroupId>,
    /// It was posted as a status.
    pub status: bool,
    /// The device that wrote it; of the phone's own account for what the account sent.
    pub sender: DeviceAddress,
    /// True when the sender was named by LID on the wire.
    pub by_lid: bool,
    /// The name the sender showed.
    pub push_name: String,
    /// When it was sent.
    pub time: SystemTime,
    /// The text, where it has one.
    pub text: Option<String>,
    /// The decrypted protobuf `Message`.
    pub message: Bytes,
}

impl InboxMessage {
    /// Whether it can be opened only once.
    pub fn is_view_once(&self) -> bool {
        let message = Message::decode_from_slice(&self.message);
        message.is_ok_and(|message| seen_once(&message).is_some())
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    chat: Number,
    #[serde(default)]
    group: Option<GroupId>,
    #[serde(default)]
    status: bool,
    sender: DeviceAddress,
    by_lid: bool,
    push_name: String,
    time: u64,
    message: String,
}

/// The messages of one phone.
pub struct Inbox {
    number: Number,
    entries: Mutex<Entries>,
    latest: watch::Sender<u64>,
}

struct Entries {
    messages: VecDeque<InboxMessage>,
    seen: HashSet<(Number, String)>,
    bytes: usize,
}

impl Inbox {
    /// The stored messages of a phone.
    pub fn load(number: Number, records: &Records) -> Result<Self, SandboxError> {
        let mut entries = Entries {
            messages: VecDeque::new(),
            seen: HashSet::new(),
            bytes: 0,
        };
        for record in records.scan::<Stored>(&format!("inbox/{number}/")) {
            let (sequence, stored) = record?;
            let Ok(sequence) = u64::from_str_radix(sequence, 16) else {
                continue;
            };
            let message = BASE64_STANDARD.decode(&stored.message).unwrap_or_default();
            let text = Message::decode_from_slice(&message)
                .ok()
                .and_then(|message| text_of(&message));
            entries.push(InboxMessage {
                sequence,
                id: stored.id,
                chat: stored.chat,
                group: stored.group,
                status: stored.status,
                sender: stored.sender,
                by_lid: stored.by_lid,
                push_name: stored.push_name,
                time: UNIX_EPOCH + Duration::from_secs(stored.time),
                text,
                message: message.into(),
            });
        }
        let latest = entries
            .messages
            .back()
            .map_or(0, |message| message.sequence);
        Ok(Self {
            number,
            entries: Mutex::new(entries),
            latest: watch::Sender::new(latest),
        })
    }

    /// True when this message is here already.
    pub fn has(&self, sender: Number, id: &str) -> bool {
        self.lock().seen.contains(&(sender, id.to_owned()))
    }

    /// The latest message with an id.
    pub fn find(&self, id: &str) -> Option<InboxMessage> {
        self.latest(|message| message.id == id)
    }

    /// A message by its author and id.
    pub fn said_by(&self, sender: Number, id: &str) -> Option<InboxMessage> {
        self.latest(|message| message.sender.number == sender && message.id == id)
    }

    fn latest(&self, wanted: impl Fn(&InboxMessage) -> bool) -> Option<InboxMessage> {
        let entries = self.lock();
        let mut latest_first = entries.messages.iter().rev();
        latest_first.find(|message| wanted(message)).cloned()
    }

    /// Gives a message its place; readers see it after [`Inbox::publish`], once the batch is stored.
    pub fn stage(&self, mut message: InboxMessage, batch: &mut Batch) -> InboxMessage {
        let entries = self.lock();
        let last = entries
            .messages
            .back()
            .map_or(0, |message| message.sequence);
        message.sequence = last + 1;
        for oldest in entries.messages.iter().take(entries.surplus(&message)) {
            batch.delete(self.record(oldest.sequence));
        }
        let time = message
            .time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        batch.put(
            self.record(message.sequence),
            &Stored {
                id: message.id.clone(),
                chat: message.chat,
                group: message.group,
                status: message.status,
                sender: message.sender,
                by_lid: message.by_lid,
                push_name: message.push_name.clone(),
                time,
                message: BASE64_STANDARD.encode(&message.message),
            },
        );
        message
    }

    /// Shows a staged message to readers.
    pub fn publish(&self, message: InboxMessage) {
        let sequence = message.sequence;
        self.lock().push(message);
        self.latest.send_replace(sequence);
    }

    /// The messages after a sequence number, then every later one. Never ends while the phone lives.
    pub fn follow(
        self: std::sync::Arc<Self>,
        after: u64,
    ) -> impl Stream<Item = InboxMessage> + Send + 'static {
        let latest = self.latest.subscribe();
        stream::unfold(
            (self, latest, after),
            |(inbox, mut latest, after)| async move {
                loop {
                    latest.borrow_and_update();
                    if let Some(message) = inbox.next(after) {
                        let after = message.sequence;
                        return Some((message, (inbox, latest, after)));
                    }
                    latest.changed().await.ok()?;
                }
            },
        )
    }

    /// The first message after a sequence number.
    fn next(&self, after: u64) -> Option<InboxMessage> {
        let entries = self.lock();
        let at = entries
            .messages
            .partition_point(|message| message.sequence <= after);
        entries.messages.get(at).cloned()
    }

    fn record(&self, sequence: u64) -> String {
        format!("inbox/{}/{sequence:016x}", self.number)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// How many of the oldest have to leave for one that comes.
    fn surplus(&self, coming: &InboxMessage) -> usize {
        let mut bytes = self.bytes + coming.message.len();
        let mut count = self.messages.len() + 1;
        let leaving = self.messages.iter().take_while(|oldest| {
            let leaves = count > CAPACITY || bytes > MAX_BYTES;
            count -= 1;
            bytes -= oldest.message.len();
            leaves
        });
        leaving.count()
    }

    fn push(&mut self, message: InboxMessage) {
        let surplus = self.surplus(&message);
        for oldest in self.messages.drain(..surplus) {
            self.bytes -= oldest.message.len();
            self.seen.remove(&(oldest.sender.number, oldest.id));
        }
        self.bytes += message.message.len();
        self.seen
            .insert((message.sender.number, message.id.clone()));
        self.messages.push_back(message);
    }
}

/// The text of a message, where it has one.
pub fn text_of(message: &Message) -> Option<String> {
    message
        .conversation
        .clone()
        .or_else(|| message.extended_text_message.as_option()?.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leave_when_it_is_full() {
        let number = Number::PLACEHOLDER;
        let inbox = Inbox::load(number, &Records::default()).unwrap();
        let add = |id: usize, bytes: usize| {
            let message = InboxMessage {
                sequence: 0,
                id: id.to_string(),
                chat: number,
                group: None,
                status: false,
                sender: number.device(0),
                by_lid: false,
                push_name: String::new(),
                time: UNIX_EPOCH,
                text: None,
                message: Bytes::from(vec![0; bytes]),
            };
            let mut batch = Batch::default();
            let staged = inbox.stage(message, &mut batch);
            inbox.publish(staged);
        };
        for id in 0..CAPACITY + 3 {
            add(id, 1);
        }
        assert_eq!(inbox.next(0).unwrap().sequence, 4);
        assert!(!inbox.has(number, "2") && inbox.has(number, "3"));
        add(CAPACITY + 3, MAX_BYTES);
        assert_eq!(inbox.next(0).unwrap().sequence, CAPACITY as u64 + 4);
        assert_eq!(inbox.lock().bytes, MAX_BYTES);
    }
}
