//! The store in SQLite: one file in WAL mode, one writing connection, a few readers beside it.
//!
//! Owns the file, the lock on it and the schema. Writes go through `writer` and are answered after
//! their commit; reads take a reader and so see every write that was answered before.
//! Keeps in memory the counters of the log, its newest events, and the few rows that every call asks for.

mod api_keys;
mod calls;
mod contacts;
mod database;
mod device;
mod error;
mod groups;
mod instances;
mod log;
mod media;
mod merging;
mod messages;
mod payments;
mod queue_items;
mod queues;
mod reading;
mod recent;
mod remembered;
mod requests;
mod rows;
mod sends;
mod time;
mod transaction;
mod unit;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::SqlitePool;
use tokio::sync::watch;

use self::{
    log::Excess,
    recent::Recent,
    remembered::Remembered,
    unit::{Counters, Unit},
    writer::{Signals, Writer},
};
use super::{
    AcceptOutcome, ApiKeyRow, CallQuery, CallRow, ClaimOutcome, EffectsOf, EventPage, EventQuery,
    EventsOf, GroupChange, GroupRow, InstanceChange, InstanceRow, LogBounds, MessageChange,
    MessagePlace, MessageQuery, MessageRecord, MessageRow, NameOutcome, NewEvent, NewInstance,
    RecentEvents, RequestMark, Result, RetentionPolicy, RevokeOutcome, StatusRise, Storage,
    StoredEvent,
    contact::{ContactKey, ContactNews, ContactRow, Sighting},
    device::DeviceStorage,
    media::{MediaKeep, MediaRow},
    payment::{PaymentQuery, PaymentRow},
    send::{NewSend, SendQuery, SendRow},
};
use crate::domain::{
    cursor::{LogEpoch, Position},
    event_type::{EventType, Retention},
    ids::{ApiKeyId, ContactId, EventId, InstanceNumber, MediaId},
    media::MediaState,
};

/// Instances that were looked up, by what they were asked for with: id or name.
type Instances = Remembered<InstanceRow, 16_384>;

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most reads at once.
    pub readers: u32,
    /// Every commit waits for the disk. Without it a commit survives the death of the process but
    /// maybe not that of the machine.
    pub survive_power_cut: bool,
    /// How often a write is tried while none goes through.
    pub probe_interval: Duration,
    /// Files of up to this many bytes are looked through for damage when they are opened: about a
    /// second's reading.
    pub check_up_to: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: 4,
            survive_power_cut: true,
            probe_interval: Duration::from_secs(3),
            check_up_to: 512 << 20,
        }
    }
}

/// The store.
pub struct SqliteStorage {
    readers: SqlitePool,
    writer: Writer,
    epoch: LogEpoch,
    head: watch::Receiver<Position>,
    recent: Arc<Recent>,
    instances: Arc<Instances>,
    writable: watch::Receiver<bool>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what the tests of group commit count")
    )]
    commits: watch::Receiver<u64>,
}

impl SqliteStorage {
    /// Opens the database in this file, or makes one. The folder must be there.
    pub async fn open(path: impl AsRef<Path>, options: Options) -> Result<Arc<Self>> {
        let mut database = database::open(path.as_ref(), &options).await?;
        let counters = Counters::load(&mut database.writer).await?;
        let epoch = counters.epoch;
        let (head, head_seen) = watch::channel(Position(counters.head));
        let recent = Arc::new(Recent::new(Position(counters.head)));
        let instances = Arc::<Instances>::default();
        let (writable, writable_seen) = watch::channel(true);
        let (commits, commits_seen) = watch::channel(0);
        let writer = Writer::spawn(
            Unit::new(database.writer, counters, instances.clone()),
            database.lock,
            options.probe_interval,
            Signals {
                head,
                recent: recent.clone(),
                writable,
                commits,
            },
        );
        Ok(Arc::new(Self {
            readers: database.readers,
            writer,
            epoch,
            head: head_seen,
            recent,
            instances,
            writable: writable_seen,
            commits: commits_seen,
        }))
    }

    fn head(&self) -> Position {
        *self.head.borrow()
    }
}

#[async_trait]
impl Storage for SqliteStorage {
    fn writable(&self) -> watch::Receiver<bool> {
        self.writable.clone()
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }

    fn log_epoch(&self) -> LogEpoch {
        self.epoch
    }

    fn log_head(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    async fn append_events(&self, events: Vec<NewEvent>) -> Result<()> {
        self.writer
            .steps(events, |events, unit| {
                Box::pin(async move { unit.append(events.iter().cloned()) })
            })
            .await
    }

    fn recent_events(&self, after: Position, limit: usize) -> Option<RecentEvents> {
        self.recent.after(after, limit)
    }

    fn log_rewrites(&self) -> u64 {
        self.recent.rewrites()
    }

    async fn read_events(&self, query: EventQuery) -> Result<EventPage> {
        log::read(&self.readers, query, self.head()).await
    }

    async fn lookup_event(&self, id: EventId) -> Result<Option<StoredEvent>> {
        log::lookup(&self.readers, id).await
    }

    async fn position_before(&self, time: SystemTime) -> Result<Position> {
        let mut connection = self.readers.acquire().await?;
        log::position_before(&mut connection, self::time::micros(time), self.head()).await
    }

    async fn log_bounds(&self) -> Result<LogBounds> {
        log::bounds(&self.readers).await
    }

    async fn instance_heads(
        &self,
        instances: Option<Vec<InstanceNumber>>,
    ) -> Result<Vec<(InstanceNumber, u64)>> {
        log::instance_heads(&self.readers, instances).await
    }

    async fn apply_retention(&self, policy: RetentionPolicy) -> Result<u64> {
        let mut removed = 0;
        for excess in [
            Excess::Old(Retention::Full, policy.full_before),
            Excess::Old(Retention::Short, policy.short_before),
            Excess::Big(policy.max_bytes),
        ] {
            loop {
                let bite = self
                    .writer
                    .steps(excess, |excess, unit| {
                        Box::pin(log::remove_some(excess, unit))
                    })
                    .await?;
                if bite == 0 {
                    break;
                }
                removed += bite;
            }
        }
        Ok(removed)
    }

    async fn rewrite_events(
        &self,
        instance: InstanceNumber,
        event_type: EventType,
        rewrite: for<'a> fn(&'a [u8]) -> Option<Vec<u8>>,
    ) -> Result<()> {
        let work = log::Rewrite {
            instance,
            event_type,
            rewrite,
        };
        self.writer
            .steps(work, |work, unit| Box::pin(log::rewrite(work, unit)))
            .await
    }

    async fn create_instance(
        &self,
        new: NewInstance,
        request: Option<RequestMark>,
        events: EventsOf<InstanceRow>,
    ) -> Result<NameOutcome> {
        let work = instances::Create {
            new,
            request,
            events,
        };
        self.writer
            .steps(work, |work, unit| Box::pin(instances::create(work, unit)))
            .await
    }

    async fn change_instance(
        &self,
        number: InstanceNumber,
        change: InstanceChange,
        events: EventsOf<InstanceRow>,
    ) -> Result<NameOutcome> {
        let work = instances::Change {
            number,
            change,
            events,
        };
        self.writer
            .steps(work, |work, unit| Box::pin(instances::change(work, unit)))
            .await
    }

    async fn delete_instance(
        &self,
        number: InstanceNumber,
        events: EventsOf<InstanceRow>,
    ) -> Result<bool> {
        self.writer
            .steps(instances::Delete { number, events }, |work, unit| {
                Box::pin(instances::delete(work, unit))
            })
            .await
    }

    async fn lookup_instance(&self, id_or_name: &str) -> Result<Option<InstanceRow>> {
        let found = instances::lookup(&self.readers, id_or_name);
        self.instances.recall(id_or_name, found).await
    }

    async fn list_instances(
        &self,
        after: Option<InstanceNumber>,
        only: Option<Vec<InstanceNumber>>,
        limit: usize,
    ) -> Result<Vec<InstanceRow>> {
        instances::list(&self.readers, after, only, limit).await
    }

    async fn learn_contacts(
        &self,
        instance: InstanceNumber,
        sightings: Vec<Sighting>,
        events: EventsOf<ContactNews>,
    ) -> Result<()> {
        let work = contacts::Learn {
            instance,
            sightings,
            events,
        };
        self.writer
            .steps(work, |work, unit| Box::pin(contacts::learn(work, unit)))
            .await
    }

    async fn lookup_contact(
        &self,
        instance: InstanceNumber,
        key: ContactKey,
    ) -> Result<Option<ContactRow>> {
        contacts::find(&self.readers, instance, &key).await
    }

    async fn list_contacts(
        &self,
        instance: InstanceNumber,
        after: Option<ContactId>,
        limit: usize,
    ) -> Result<Vec<ContactRow>> {
        contacts::list(&self.readers, instance, after, limit).await
    }

    async fn record_messages(&self, messages: Vec<MessageRecord>) -> Result<Vec<bool>> {
        self.writer.write(messages::RecordMessages(messages)).await
    }

    async fn accept_message(
        &self,
        message: MessageRow,
        request: Option<RequestMark>,
        events: Vec<NewEvent>,
    ) -> Result<AcceptOutcome> {
        self.writer
            .write(messages::AcceptMessage {
                message,
                request,
                item: None,
                events,
            })
            .await
    }

    async fn raise_status(
        &self,
        instance: InstanceNumber,
        rise: StatusRise,
        effects: EffectsOf,
    ) -> Result<Vec<MessageRow>> {
        let work = messages::Raise {
            instance,
            rise,
            effects,
        };
        self.writer.write(work).await
    }

    async fn change_message(
        &self,
        instance: InstanceNumber,
        change: MessageChange,
    ) -> Result<bool> {
        self.writer
            .steps((instance, change), |work, unit| {
                Box::pin(messages::change(work, unit))
            })
            .await
    }

    async fn lookup_message(
        &self,
        instance: InstanceNumber,
        message_id: &str,
        chat: Option<&str>,
    ) -> Result<Option<MessageRow>> {
        messages::lookup(&self.readers, instance, message_id, chat).await
    }

    async fn list_messages(
        &self,
        instance: InstanceNumber,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        messages::list(&self.readers, instance, message_id, limit).await
    }

    async fn query_messages(&self, query: MessageQuery) -> Result<Vec<(MessagePlace, MessageRow)>> {
        reading::list(&self.readers, query).await
    }

    async fn list_targeting(
        &self,
        instance: InstanceNumber,
        target: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, MessageRow)>> {
        reading::targeting(&self.readers, instance, target, after, limit).await
    }

    async fn list_outbound(
        &self,
        instance: InstanceNumber,
        status: i32,
        after: Option<(SystemTime, String)>,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        messages::list_outbound(&self.readers, instance, status, after, limit).await
    }

    async fn accept_send(
        &self,
        send: NewSend,
        request: Option<RequestMark>,
        events: Vec<NewEvent>,
    ) -> Result<AcceptOutcome> {
        self.writer
            .write(sends::AcceptSend {
                send,
                request,
                events,
            })
            .await
    }

    async fn finish_send(&self, message: MessageRow, events: Vec<NewEvent>) -> Result<bool> {
        self.writer
            .steps((message, events), |work, unit| {
                Box::pin(sends::finish(work, unit))
            })
            .await
    }

    async fn postpone_sends(
        &self,
        instance: InstanceNumber,
        person: &str,
        until: SystemTime,
    ) -> Result<()> {
        let postponed = (instance, person.to_owned(), until);
        self.writer
            .steps(postponed, |work, unit| {
                Box::pin(sends::postpone(work, unit))
            })
            .await
    }

    async fn lookup_send(
        &self,
        instance: InstanceNumber,
        message_id: &str,
    ) -> Result<Option<SendRow>> {
        sends::lookup(&self.readers, instance, message_id).await
    }

    async fn list_sends(
        &self,
        instance: InstanceNumber,
        query: SendQuery,
        limit: usize,
    ) -> Result<Vec<SendRow>> {
        sends::list(&self.readers, instance, query, limit).await
    }

    async fn next_send_time(
        &self,
        instance: InstanceNumber,
        after: SystemTime,
    ) -> Result<Option<SystemTime>> {
        sends::next_time(&self.readers, instance, after).await
    }

    async fn is_send_before(
        &self,
        instance: InstanceNumber,
        recipient: &str,
        now: SystemTime,
    ) -> Result<bool> {
        sends::is_before(&self.readers, instance, recipient, now).await
    }

    async fn lookup_request(
        &self,
        instance: InstanceNumber,
        request: &RequestMark,
    ) -> Result<Option<AcceptOutcome>> {
        messages::lookup_request(&self.readers, instance, request).await
    }

    async fn claim_request(
        &self,
        instance: InstanceNumber,
        request: RequestMark,
    ) -> Result<ClaimOutcome> {
        self.writer
            .steps((instance, request), |work, unit| {
                Box::pin(requests::claim(work, unit))
            })
            .await
    }

    async fn answer_request(&self, request: RequestMark, answer: Bytes) -> Result<()> {
        self.writer
            .steps((request, answer), |work, unit| {
                Box::pin(requests::answer(work, unit))
            })
            .await
    }

    async fn release_request(&self, request: RequestMark) -> Result<()> {
        self.writer
            .steps(request, |request, unit| {
                Box::pin(requests::release(request, unit))
            })
            .await
    }

    async fn forget_requests(&self, before: SystemTime) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let bite = self
                .writer
                .steps(self::time::micros(before), |before, unit| {
                    Box::pin(requests::forget(before, unit))
                })
                .await?;
            if bite == 0 {
                return Ok(forgotten);
            }
            forgotten += bite;
        }
    }

    async fn create_media(&self, media: MediaRow) -> Result<bool> {
        self.writer
            .steps(media, |media, unit| Box::pin(media::create(media, unit)))
            .await
    }

    async fn replace_media(
        &self,
        media: MediaRow,
        from: MediaState,
        events: Vec<NewEvent>,
    ) -> Result<bool> {
        self.writer
            .steps((media, from, events), |work, unit| {
                Box::pin(media::replace(work, unit))
            })
            .await
    }

    async fn lookup_media(
        &self,
        instance: InstanceNumber,
        id: MediaId,
    ) -> Result<Option<MediaRow>> {
        media::lookup(&self.readers, instance, id).await
    }

    async fn keep_media(
        &self,
        instance: InstanceNumber,
        id: MediaId,
        keep: MediaKeep,
    ) -> Result<bool> {
        self.writer
            .steps((instance, id, keep), |work, unit| {
                Box::pin(media::keep(work, unit))
            })
            .await
    }

    async fn list_due_media(&self, now: SystemTime, limit: usize) -> Result<Vec<MediaRow>> {
        media::list_due(&self.readers, now, limit).await
    }

    async fn list_expired_media(&self, now: SystemTime, limit: usize) -> Result<Vec<MediaRow>> {
        media::list_expired(&self.readers, now, limit).await
    }

    async fn remove_media(&self, instance: InstanceNumber, id: MediaId) -> Result<()> {
        self.writer
            .steps((instance, id), |work, unit| {
                Box::pin(media::remove(work, unit))
            })
            .await
    }

    async fn change_groups(&self, instance: InstanceNumber, change: GroupChange) -> Result<()> {
        self.writer
            .steps((instance, change), |work, unit| {
                Box::pin(groups::change(work, unit))
            })
            .await
    }

    async fn lookup_group(&self, instance: InstanceNumber, jid: &str) -> Result<Option<GroupRow>> {
        groups::lookup(&self.readers, instance, jid).await
    }

    async fn list_groups(
        &self,
        instance: InstanceNumber,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<GroupRow>> {
        groups::list(&self.readers, instance, after, limit).await
    }

    async fn groups_complete(&self, instance: InstanceNumber) -> Result<bool> {
        groups::is_complete(&self.readers, instance).await
    }

    async fn change_call(&self, call: CallRow, events: Vec<NewEvent>) -> Result<()> {
        self.writer
            .steps((call, events), |work, unit| {
                Box::pin(calls::change(work, unit))
            })
            .await
    }

    async fn lookup_call(
        &self,
        instance: InstanceNumber,
        call_id: &str,
    ) -> Result<Option<CallRow>> {
        calls::lookup(&self.readers, instance, call_id).await
    }

    async fn list_calls(
        &self,
        instance: InstanceNumber,
        query: CallQuery,
        limit: usize,
    ) -> Result<Vec<CallRow>> {
        calls::list(&self.readers, instance, query, limit).await
    }

    async fn find_payments(
        &self,
        instance: InstanceNumber,
        message_id: &str,
        limit: usize,
    ) -> Result<Vec<PaymentRow>> {
        payments::find(&self.readers, instance, message_id, limit).await
    }

    async fn query_payments(&self, query: PaymentQuery) -> Result<Vec<(MessagePlace, PaymentRow)>> {
        payments::list(&self.readers, query).await
    }

    async fn create_api_key(&self, key: ApiKeyRow) -> Result<()> {
        self.writer
            .steps(key, |key, unit| Box::pin(api_keys::create(key, unit)))
            .await
    }

    async fn lookup_api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKeyRow>> {
        api_keys::lookup(&self.readers, id).await
    }

    async fn list_api_keys(&self, after: Option<ApiKeyId>, limit: usize) -> Result<Vec<ApiKeyRow>> {
        api_keys::list(&self.readers, after, limit).await
    }

    async fn revoke_api_key(&self, id: &ApiKeyId, time: SystemTime) -> Result<RevokeOutcome> {
        self.writer
            .steps((id.clone(), time), |work, unit| {
                Box::pin(api_keys::revoke(work, unit))
            })
            .await
    }

    fn device(&self, instance: InstanceNumber) -> Arc<dyn DeviceStorage> {
        let (writer, failed) = self.writer.fenced();
        Arc::new(device::SqliteDevice {
            instance,
            readers: self.readers.clone(),
            writer,
            failed,
            tokens: Arc::default(),
        })
    }
}
