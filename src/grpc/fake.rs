//! A small store in memory, for tests of this floor and those right below it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    domain::{
        cursor::{LogEpoch, Position},
        event_type::{EventType, Retention},
        ids::{
            ApiKeyId, ContactId, EventId, InstanceId, InstanceName, InstanceNumber, MediaId,
            QueueId,
        },
        media::MediaState,
        permission::Permission,
        session::SessionState,
    },
    storage::{
        AcceptOutcome, ApiKeyRow, BodyRewrite, CallQuery, CallRow, ClaimOutcome, EffectsOf,
        EventPage, EventQuery, EventsOf, GroupChange, GroupRow, InstanceChange, InstanceRow,
        LogBounds, MessageChange, MessagePlace, MessageQuery, MessageRecord, MessageRow,
        NameOutcome, Network, NewEvent, NewInstance, RecentEvents, RequestMark, Result,
        RetentionPolicy, RevokeOutcome, StatusRise, Storage, StorageError, StoredEvent,
        contact::{ContactKey, ContactNews, ContactRow, Sighting},
        device,
        media::{MediaKeep, MediaRow},
        payment::{PaymentQuery, PaymentRow},
        queue::{
            CreateQueueOutcome, HoldRow, ItemChange, ItemMark, ItemQuery, ItemRow, NewQueue,
            QueueApply, QueueRow, QueueStep, QueueStorage,
        },
        send::{NewSend, SendQuery, SendRow},
    },
};

/// Which log the fake is.
pub(crate) const EPOCH: LogEpoch = LogEpoch(0xfa4e);

/// An instance as a new one is.
pub(crate) fn instance(number: InstanceNumber) -> InstanceRow {
    InstanceRow {
        number,
        id: InstanceId(Uuid::from_u128(number.0.into())),
        name: InstanceName::parse(&format!("instance-{number}")).unwrap(),
        network: Network::Sandbox,
        state: SessionState::Unpaired,
        state_reason: String::new(),
        state_time: UNIX_EPOCH,
        banned_until: None,
        phone_number: String::new(),
        lid: String::new(),
        push_name: String::new(),
        show_online: false,
        reject_calls: false,
        reject_calls_text: String::new(),
        create_time: UNIX_EPOCH,
        update_time: UNIX_EPOCH,
    }
}

/// An empty store behind its trait.
pub(crate) fn store() -> Arc<dyn Storage> {
    Arc::new(Fake::new(&[]))
}

pub(crate) struct Fake {
    state: Mutex<State>,
    head: watch::Sender<Position>,
    pub writable: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    events: Vec<StoredEvent>,
    ids: HashMap<EventId, Position>,
    compacted: Position,
    rewrites: u64,
    /// Where the log ended at the last of them.
    rewritten: Position,
    sequences: HashMap<InstanceNumber, u64>,
    instances: Vec<InstanceRow>,
    keys: Vec<ApiKeyRow>,
}

impl Fake {
    pub fn new(instances: &[u32]) -> Self {
        let instances = instances.iter().copied().map(InstanceNumber).map(instance);
        Self {
            state: Mutex::new(State {
                instances: instances.collect(),
                ..State::default()
            }),
            head: watch::Sender::new(Position(0)),
            writable: watch::Sender::new(true),
        }
    }

    /// How many readers of the log there are.
    pub fn readers(&self) -> usize {
        self.head.receiver_count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn append(&self, state: &mut State, events: Vec<NewEvent>) {
        let mut head = *self.head.borrow();
        for new in events {
            head.0 += 1;
            let sequence = state.sequences.entry(new.instance).or_default();
            *sequence += 1;
            let sequence = *sequence;
            state.ids.insert(new.id, head);
            state.events.push(StoredEvent {
                position: head,
                instance: new.instance,
                instance_sequence: sequence,
                event_type: new.event_type,
                record_time: SystemTime::now(),
                body: new.body,
            });
        }
        self.head.send_replace(head);
    }

    fn rewrote(&self, state: &mut State) {
        state.rewrites += 1;
        state.rewritten = *self.head.borrow();
    }
}

fn not_faked<T>() -> Result<T> {
    Err(StorageError::Unavailable(anyhow::anyhow!("not faked")))
}

#[async_trait]
impl QueueStorage for Fake {
    async fn create_queue(&self, _: NewQueue, _: EventsOf<QueueRow>) -> Result<CreateQueueOutcome> {
        not_faked()
    }

    async fn lookup_queue(&self, _: InstanceNumber, _: QueueId) -> Result<Option<QueueRow>> {
        not_faked()
    }

    async fn list_queues(
        &self,
        _: InstanceNumber,
        _: Option<QueueId>,
        _: usize,
    ) -> Result<Vec<QueueRow>> {
        not_faked()
    }

    async fn list_running_queues(&self, _: InstanceNumber) -> Result<Vec<QueueId>> {
        not_faked()
    }

    async fn change_queue(
        &self,
        _: InstanceNumber,
        _: QueueId,
        _: QueueApply,
    ) -> Result<Option<QueueRow>> {
        not_faked()
    }

    async fn delete_queue(
        &self,
        _: InstanceNumber,
        _: QueueId,
        _: EventsOf<QueueRow>,
    ) -> Result<bool> {
        not_faked()
    }

    async fn list_items(
        &self,
        _: InstanceNumber,
        _: QueueId,
        _: ItemQuery,
    ) -> Result<Vec<ItemRow>> {
        not_faked()
    }

    async fn accept_item(
        &self,
        _: MessageRow,
        _: ItemMark,
        _: Vec<NewEvent>,
    ) -> Result<AcceptOutcome> {
        not_faked()
    }

    async fn change_item(
        &self,
        _: InstanceNumber,
        _: ItemChange,
        _: EventsOf<QueueStep>,
    ) -> Result<Option<QueueRow>> {
        not_faked()
    }

    async fn has_received(&self, _: InstanceNumber, _: Vec<String>) -> Result<bool> {
        not_faked()
    }

    async fn lookup_hold(&self, _: InstanceNumber) -> Result<Option<HoldRow>> {
        not_faked()
    }

    async fn store_hold(&self, _: InstanceNumber, _: HoldRow) -> Result<()> {
        not_faked()
    }
}

#[async_trait]
impl Storage for Fake {
    fn writable(&self) -> watch::Receiver<bool> {
        self.writable.subscribe()
    }

    async fn close(&self) {}

    fn log_epoch(&self) -> LogEpoch {
        EPOCH
    }

    fn log_head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    async fn append_events(&self, events: Vec<NewEvent>) -> Result<()> {
        self.append(&mut self.state(), events);
        Ok(())
    }

    fn recent_events(&self, after: Position, limit: usize) -> Option<RecentEvents> {
        let state = self.state();
        let first = state.events.partition_point(|one| one.position <= after);
        (after >= state.rewritten).then(|| RecentEvents {
            rewrites: state.rewrites,
            events: state.events[first..].iter().take(limit).cloned().collect(),
        })
    }

    fn log_rewrites(&self) -> u64 {
        self.state().rewrites
    }

    async fn read_events(&self, query: EventQuery) -> Result<EventPage> {
        let state = self.state();
        let end = query.up_to.unwrap_or(*self.head.borrow());
        let mut page = EventPage {
            events: Vec::new(),
            looked_at: end.max(query.after),
        };
        let mut bytes = 0;
        for event in &state.events {
            let wanted = event.position > query.after
                && event.position <= end
                && query
                    .instances
                    .as_ref()
                    .is_none_or(|some| some.contains(&event.instance))
                && query
                    .event_types
                    .as_ref()
                    .is_none_or(|some| some.contains(&event.event_type));
            if !wanted {
                continue;
            }
            if page.events.len() >= query.limit || bytes >= query.max_bytes {
                page.looked_at = page.events.last().map_or(query.after, |last| last.position);
                break;
            }
            bytes += event.body.len();
            page.events.push(event.clone());
        }
        Ok(page)
    }

    async fn lookup_event(&self, id: EventId) -> Result<Option<StoredEvent>> {
        let state = self.state();
        let position = state.ids.get(&id);
        let found = |one: &&StoredEvent| Some(&one.position) == position;
        Ok(state.events.iter().find(found).cloned())
    }

    async fn position_before(&self, time: SystemTime) -> Result<Position> {
        let state = self.state();
        let first = state.events.iter().find(|one| one.record_time >= time);
        Ok(first.map_or(*self.head.borrow(), |one| Position(one.position.0 - 1)))
    }

    async fn log_bounds(&self) -> Result<LogBounds> {
        let state = self.state();
        Ok(LogBounds {
            compacted: state.compacted,
            head: *self.head.borrow(),
            earliest_time: state.events.first().map(|one| one.record_time),
            head_time: state.events.last().map(|one| one.record_time),
            count: state.events.len() as u64,
            bytes: state.events.iter().map(|one| one.body.len() as u64).sum(),
        })
    }

    async fn instance_heads(
        &self,
        instances: Option<Vec<InstanceNumber>>,
    ) -> Result<Vec<(InstanceNumber, u64)>> {
        let wanted = |one: &InstanceNumber| instances.as_ref().is_none_or(|all| all.contains(one));
        let heads = self.state().sequences.clone().into_iter();
        Ok(heads.filter(|(number, _)| wanted(number)).collect())
    }

    async fn apply_retention(&self, policy: RetentionPolicy) -> Result<u64> {
        let mut state = self.state();
        let before = state.events.len();
        let mut compacted = state.compacted;
        let mut bytes: u64 = state.events.iter().map(|one| one.body.len() as u64).sum();
        state.events.retain(|event| {
            let full = event.event_type.retention() == Retention::Full;
            let until = if full {
                policy.full_before
            } else {
                policy.short_before
            };
            let kept = event.record_time >= until && bytes <= policy.max_bytes;
            if !kept {
                bytes -= event.body.len() as u64;
                if full {
                    compacted = event.position;
                }
            }
            kept
        });
        state.compacted = compacted;
        self.rewrote(&mut state);
        Ok((before - state.events.len()) as u64)
    }

    async fn rewrite_events(
        &self,
        instance: InstanceNumber,
        event_type: EventType,
        rewrite: BodyRewrite,
    ) -> Result<()> {
        let mut state = self.state();
        self.rewrote(&mut state);
        for event in &mut state.events {
            if event.instance == instance
                && event.event_type == event_type
                && let Some(body) = rewrite(&event.body)
            {
                event.body = body.into();
            }
        }
        Ok(())
    }

    async fn create_instance(
        &self,
        _: NewInstance,
        _: Option<RequestMark>,
        _: EventsOf<InstanceRow>,
    ) -> Result<NameOutcome> {
        not_faked()
    }

    async fn change_instance(
        &self,
        _: InstanceNumber,
        _: InstanceChange,
        _: EventsOf<InstanceRow>,
    ) -> Result<NameOutcome> {
        not_faked()
    }

    async fn delete_instance(
        &self,
        number: InstanceNumber,
        events: EventsOf<InstanceRow>,
    ) -> Result<bool> {
        let mut state = self.state();
        let Some(index) = state.instances.iter().position(|one| one.number == number) else {
            return Ok(false);
        };
        let row = state.instances.remove(index);
        state.events.retain(|event| event.instance != number);
        self.append(&mut state, events(&row));
        Ok(true)
    }

    async fn lookup_instance(&self, text: &str) -> Result<Option<InstanceRow>> {
        let named = |row: &&InstanceRow| row.id.to_string() == text || row.name.as_str() == text;
        Ok(self.state().instances.iter().find(named).cloned())
    }

    async fn list_instances(
        &self,
        after: Option<InstanceNumber>,
        only: Option<Vec<InstanceNumber>>,
        limit: usize,
    ) -> Result<Vec<InstanceRow>> {
        let wanted = |row: &InstanceRow| {
            after.is_none_or(|after| row.number > after)
                && only.as_ref().is_none_or(|only| only.contains(&row.number))
        };
        let rows = self.state().instances.clone().into_iter();
        Ok(rows.filter(wanted).take(limit).collect())
    }

    async fn learn_contacts(
        &self,
        _: InstanceNumber,
        _: Vec<Sighting>,
        _: EventsOf<ContactNews>,
    ) -> Result<()> {
        not_faked()
    }

    async fn lookup_contact(&self, _: InstanceNumber, _: ContactKey) -> Result<Option<ContactRow>> {
        not_faked()
    }

    async fn list_contacts(
        &self,
        _: InstanceNumber,
        _: Option<ContactId>,
        _: usize,
    ) -> Result<Vec<ContactRow>> {
        not_faked()
    }

    async fn record_messages(&self, _: Vec<MessageRecord>) -> Result<Vec<bool>> {
        not_faked()
    }

    async fn accept_message(
        &self,
        _: MessageRow,
        _: Option<RequestMark>,
        _: Vec<NewEvent>,
    ) -> Result<AcceptOutcome> {
        not_faked()
    }

    async fn raise_status(
        &self,
        _: InstanceNumber,
        _: StatusRise,
        _: EffectsOf,
    ) -> Result<Vec<MessageRow>> {
        not_faked()
    }

    async fn change_message(&self, _: InstanceNumber, _: MessageChange) -> Result<bool> {
        not_faked()
    }

    async fn lookup_message(
        &self,
        _: InstanceNumber,
        _: &str,
        _: Option<&str>,
    ) -> Result<Option<MessageRow>> {
        not_faked()
    }

    async fn list_messages(&self, _: InstanceNumber, _: &str, _: usize) -> Result<Vec<MessageRow>> {
        not_faked()
    }

    async fn query_messages(&self, _: MessageQuery) -> Result<Vec<(MessagePlace, MessageRow)>> {
        not_faked()
    }

    async fn list_targeting(
        &self,
        _: InstanceNumber,
        _: &str,
        _: i64,
        _: usize,
    ) -> Result<Vec<(i64, MessageRow)>> {
        not_faked()
    }

    async fn list_outbound(
        &self,
        _: InstanceNumber,
        _: i32,
        _: Option<(SystemTime, String)>,
        _: usize,
    ) -> Result<Vec<MessageRow>> {
        not_faked()
    }

    async fn accept_send(
        &self,
        _: NewSend,
        _: Option<RequestMark>,
        _: Vec<NewEvent>,
    ) -> Result<AcceptOutcome> {
        not_faked()
    }

    async fn finish_send(&self, _: MessageRow, _: Vec<NewEvent>) -> Result<bool> {
        not_faked()
    }

    async fn postpone_sends(&self, _: InstanceNumber, _: &str, _: SystemTime) -> Result<()> {
        not_faked()
    }

    async fn lookup_send(&self, _: InstanceNumber, _: &str) -> Result<Option<SendRow>> {
        not_faked()
    }

    async fn list_sends(&self, _: InstanceNumber, _: SendQuery, _: usize) -> Result<Vec<SendRow>> {
        Ok(Vec::new())
    }

    async fn next_send_time(&self, _: InstanceNumber, _: SystemTime) -> Result<Option<SystemTime>> {
        Ok(None)
    }

    async fn is_send_before(&self, _: InstanceNumber, _: &str, _: SystemTime) -> Result<bool> {
        Ok(false)
    }

    async fn lookup_request(
        &self,
        _: InstanceNumber,
        _: &RequestMark,
    ) -> Result<Option<AcceptOutcome>> {
        not_faked()
    }

    async fn claim_request(&self, _: InstanceNumber, _: RequestMark) -> Result<ClaimOutcome> {
        not_faked()
    }

    async fn answer_request(&self, _: RequestMark, _: Bytes) -> Result<()> {
        not_faked()
    }

    async fn release_request(&self, _: RequestMark) -> Result<()> {
        not_faked()
    }

    async fn change_groups(&self, _: InstanceNumber, _: GroupChange) -> Result<()> {
        not_faked()
    }

    async fn lookup_group(&self, _: InstanceNumber, _: &str) -> Result<Option<GroupRow>> {
        not_faked()
    }

    async fn list_groups(
        &self,
        _: InstanceNumber,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<GroupRow>> {
        not_faked()
    }

    async fn groups_complete(&self, _: InstanceNumber) -> Result<bool> {
        not_faked()
    }

    async fn change_call(&self, _: CallRow, _: Vec<NewEvent>) -> Result<()> {
        not_faked()
    }

    async fn lookup_call(&self, _: InstanceNumber, _: &str) -> Result<Option<CallRow>> {
        not_faked()
    }

    async fn list_calls(&self, _: InstanceNumber, _: CallQuery, _: usize) -> Result<Vec<CallRow>> {
        not_faked()
    }

    async fn forget_requests(&self, _: SystemTime) -> Result<u64> {
        Ok(0)
    }

    async fn create_media(&self, _: MediaRow) -> Result<bool> {
        not_faked()
    }

    async fn replace_media(&self, _: MediaRow, _: MediaState, _: Vec<NewEvent>) -> Result<bool> {
        not_faked()
    }

    async fn lookup_media(&self, _: InstanceNumber, _: MediaId) -> Result<Option<MediaRow>> {
        not_faked()
    }

    async fn keep_media(&self, _: InstanceNumber, _: MediaId, _: MediaKeep) -> Result<bool> {
        not_faked()
    }

    async fn list_due_media(&self, _: SystemTime, _: usize) -> Result<Vec<MediaRow>> {
        Ok(Vec::new())
    }

    async fn list_expired_media(&self, _: SystemTime, _: usize) -> Result<Vec<MediaRow>> {
        Ok(Vec::new())
    }

    async fn remove_media(&self, _: InstanceNumber, _: MediaId) -> Result<()> {
        not_faked()
    }

    async fn find_payments(&self, _: InstanceNumber, _: &str, _: usize) -> Result<Vec<PaymentRow>> {
        not_faked()
    }

    async fn query_payments(&self, _: PaymentQuery) -> Result<Vec<(MessagePlace, PaymentRow)>> {
        not_faked()
    }

    async fn create_api_key(&self, key: ApiKeyRow) -> Result<()> {
        self.state().keys.push(key);
        Ok(())
    }

    async fn lookup_api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKeyRow>> {
        Ok(self.state().keys.iter().find(|key| key.id == *id).cloned())
    }

    async fn list_api_keys(&self, after: Option<ApiKeyId>, limit: usize) -> Result<Vec<ApiKeyRow>> {
        let keys = self.state().keys.clone();
        let start = match after {
            None => 0,
            Some(after) => keys
                .iter()
                .position(|key| key.id == after)
                .map_or(0, |at| at + 1),
        };
        Ok(keys.into_iter().skip(start).take(limit).collect())
    }

    async fn revoke_api_key(&self, id: &ApiKeyId, time: SystemTime) -> Result<RevokeOutcome> {
        let mut state = self.state();
        let manages = |key: &ApiKeyRow| {
            let permissions = [Permission::All, Permission::KeysWrite];
            key.revoke_time.is_none() && permissions.iter().any(|one| key.permissions.contains(one))
        };
        let others = state.keys.iter().any(|key| key.id != *id && manages(key));
        let Some(key) = state.keys.iter_mut().find(|key| key.id == *id) else {
            return Ok(RevokeOutcome::Missing);
        };
        if manages(key) && !others {
            return Ok(RevokeOutcome::LastAdmin);
        }
        key.revoke_time.get_or_insert(time);
        Ok(RevokeOutcome::Revoked(key.clone()))
    }

    fn device(&self, _: InstanceNumber) -> Arc<dyn device::DeviceStorage> {
        unreachable!("no test of these floors has a device")
    }
}
