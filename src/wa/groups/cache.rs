//! What is known of an instance's groups: read from the store, and changed there with its events.
//!
//! Owns the order of changes: one at a time, each from what the last one left. Counts the changes of
//! each group, so that a look at WhatsApp that was overtaken by news is not taken for newer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use super::changes::{self, Told};
use crate::{
    events,
    proto::v1,
    storage::{GroupChange, GroupRow, InstanceRow, NewEvent, Result, Storage, StorageError},
    wa::convert::rows,
};

/// Groups whose last change is remembered.
const REMEMBERED: usize = 10_000;

/// How close two changes of a group may be until their order is doubted: the library tells them side
/// by side.
const CLOSE: Duration = Duration::from_secs(5);

/// Groups read at once where there may be many.
const PAGE: usize = 500;

/// The groups of one instance.
pub(super) struct Cache {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    marks: Mutex<Marks>,
}

/// How often each group has changed.
#[derive(Default)]
struct Marks {
    changes: u64,
    last: HashMap<String, (u64, Instant)>,
}

impl Marks {
    fn of(&self, jid: &str) -> u64 {
        self.last.get(jid).map_or(0, |(change, _)| *change)
    }

    /// Notes a change; true if there was another one just before.
    fn touch(&mut self, jid: &str) -> bool {
        self.changes += 1;
        let now = Instant::now();
        if self.last.len() >= REMEMBERED {
            self.last.retain(|_, (_, at)| now - *at < CLOSE);
        }
        let before = self.last.insert(jid.to_owned(), (self.changes, now));
        before.is_some_and(|(_, at)| now - at < CLOSE)
    }
}

/// What came of a change.
pub(super) struct Changed {
    /// The group now; `None` where it is unknown and stays so.
    pub(super) group: Option<v1::Group>,
    /// It followed another one so closely that their order is not sure.
    pub(super) doubtful: bool,
}

impl Cache {
    pub(super) fn new(storage: Arc<dyn Storage>, instance: watch::Receiver<InstanceRow>) -> Self {
        Self {
            storage,
            instance,
            marks: Mutex::default(),
        }
    }

    pub(super) fn row(&self) -> InstanceRow {
        self.instance.borrow().clone()
    }

    /// The account, by both names as far as known.
    pub(super) fn own(&self) -> v1::Party {
        rows::account(&self.instance.borrow())
    }

    pub(super) async fn get(&self, jid: &str) -> Result<Option<v1::Group>> {
        let row = self.storage.lookup_group(self.row().number, jid).await?;
        row.as_ref().map(|row| self.decode(row)).transpose()
    }

    pub(super) async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<v1::Group>> {
        let number = self.row().number;
        let rows = self.storage.list_groups(number, after, limit).await?;
        rows.iter().map(|row| self.decode(row)).collect()
    }

    pub(super) async fn is_complete(&self) -> Result<bool> {
        self.storage.groups_complete(self.row().number).await
    }

    fn decode(&self, row: &GroupRow) -> Result<v1::Group> {
        v1::Group::decode(row.body.clone())
            .map_err(|error| StorageError::Corrupt(anyhow::Error::new(error)))
    }

    /// How far a group has come: to be shown again with what was seen meanwhile.
    pub(super) async fn mark(&self, jid: &str) -> u64 {
        self.marks.lock().await.of(jid)
    }

    /// The same for all groups together.
    pub(super) async fn mark_all(&self) -> u64 {
        self.marks.lock().await.changes
    }

    /// Changes one group, from what it is now. The function says what it becomes; `None` leaves it.
    pub(super) async fn change(
        &self,
        jid: &str,
        told: Told,
        becomes: impl FnOnce(Option<&v1::Group>) -> Option<v1::Group>,
    ) -> Result<Changed> {
        let mut marks = self.marks.lock().await;
        let before = self.get(jid).await?;
        let Some(after) = becomes(before.as_ref()) else {
            return Ok(Changed {
                group: before,
                doubtful: false,
            });
        };
        let (group, doubtful) = self.commit(&mut marks, before, after, told).await?;
        Ok(Changed {
            group: Some(group),
            doubtful,
        })
    }

    /// Takes over what was seen of a group, unless it has changed since the mark. `None` then.
    pub(super) async fn adopt(
        &self,
        fresh: v1::Group,
        mark: u64,
        told: Told,
    ) -> Result<Option<v1::Group>> {
        let mut marks = self.marks.lock().await;
        if marks.of(&fresh.id) != mark {
            return Ok(None);
        }
        let before = self.get(&fresh.id).await?;
        let fresh = seen_again(before.as_ref(), fresh);
        let (group, _) = self.commit(&mut marks, before, fresh, told).await?;
        Ok(Some(group))
    }

    /// Takes over what was seen of all groups at once. Returns those that changed meanwhile, and were
    /// left alone.
    pub(super) async fn adopt_all(&self, fresh: Vec<v1::Group>, mark: u64) -> Result<Vec<String>> {
        let marks = self.marks.lock().await;
        let first_time = !self.is_complete().await?;
        let overtaken = |jid: &str| marks.of(jid) > mark;
        let mut left_alone = Vec::new();
        let mut change = GroupChange {
            complete: true,
            ..Default::default()
        };
        let present: std::collections::HashSet<String> =
            fresh.iter().map(|group| group.id.clone()).collect();
        for group in fresh {
            if overtaken(&group.id) {
                left_alone.push(group.id);
                continue;
            }
            let before = self.get(&group.id).await?;
            // Groups from before the pairing are no news.
            let quiet = first_time && before.is_none();
            let group = seen_again(before.as_ref(), group);
            self.compose(before, group, Told::found(), quiet, &mut change);
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.list(after.as_deref(), PAGE).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|group| group.id.clone());
            for before in page {
                if present.contains(&before.id) {
                    continue;
                }
                if overtaken(&before.id) {
                    left_alone.push(before.id);
                    continue;
                }
                let mut gone = before.clone();
                self.remove_own(&mut gone);
                self.compose(Some(before), gone, Told::found(), false, &mut change);
            }
            if last {
                break;
            }
        }
        self.storage
            .change_groups(self.row().number, change)
            .await?;
        Ok(left_alone)
    }

    /// Takes the account out of a group.
    pub(super) fn remove_own(&self, group: &mut v1::Group) {
        let own = self.own();
        group.participants.retain(|one| {
            let party = one.party.as_ref();
            !party.is_some_and(|party| crate::wa::convert::ids::is_same(party, &own))
        });
    }

    async fn commit(
        &self,
        marks: &mut Marks,
        before: Option<v1::Group>,
        after: v1::Group,
        told: Told,
    ) -> Result<(v1::Group, bool)> {
        let mut written = GroupChange::default();
        let group = self.compose(before, after, told, false, &mut written);
        if written.groups.is_empty() {
            return Ok((group, false));
        }
        let number = self.row().number;
        self.storage.change_groups(number, written).await?;
        let doubtful = marks.touch(&group.id);
        Ok((group, doubtful))
    }

    /// Adds a group and its events to what is to be written, if it is other than before.
    fn compose(
        &self,
        before: Option<v1::Group>,
        mut after: v1::Group,
        told: Told,
        quiet: bool,
        into: &mut GroupChange,
    ) -> v1::Group {
        let row = self.instance.borrow();
        let own = rows::account(&row);
        after.instance = row.id.to_string();
        if let Some(before) = &before {
            after.update_time = before.update_time;
        }
        changes::settle(&mut after, &own, &told);
        if before.as_ref() == Some(&after) {
            return after;
        }
        after.update_time = Some(events::timestamp(told.time));
        if !quiet {
            let payloads = changes::payloads(before.as_ref(), &after, &own, &told);
            let events = payloads
                .into_iter()
                .map(|payload| events::compose(&row, payload, told.time, ""));
            into.events.extend(events);
        }
        into.groups.push(GroupRow {
            jid: after.id.clone(),
            member: after.membership() == v1::GroupMembership::Member,
            body: after.encode_to_vec().into(),
        });
        after
    }

    /// Tells something of a group that changes nothing of what is kept.
    pub(super) async fn tell(&self, events: Vec<NewEvent>) -> Result<()> {
        self.storage.append_events(events).await
    }
}

/// What was seen of a group at WhatsApp, with what only we know of it.
fn seen_again(before: Option<&v1::Group>, mut fresh: v1::Group) -> v1::Group {
    if let Some(before) = before {
        changes::keep_known(before, &mut fresh);
        fresh.membership = before.membership;
        if before.membership() == v1::GroupMembership::Deleted {
            fresh.set_membership(v1::GroupMembership::Removed);
        }
    }
    fresh
}
