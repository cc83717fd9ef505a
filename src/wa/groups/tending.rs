//! How what is known of groups is kept true.
//!
//! WhatsApp tells every change once; the library tells them side by side and forgets them with the
//! process. So all groups are looked at after every login, and one of which the order of changes is
//! not sure once it is quiet.

use std::{collections::HashMap, sync::Arc, sync::MutexGuard, sync::PoisonError, time::Duration};

use tokio::time::sleep;
use whatsapp_rust::{Client, types::events::Event, wacore::iq::dirty::DirtyType};

use super::{
    Asked, GroupFault, GroupRefusal, Groups, ask,
    changes::{self, Told},
    query::LookAtAll,
};
use crate::{
    events,
    proto::v1::{self, event::Payload},
    storage::StorageError,
    wa::{
        addresses::other_name,
        convert::group::{self, Action, News},
        error::WaError,
    },
};

/// How long a group must be quiet before it is looked at, …
const QUIET: Duration = Duration::from_millis(500);

/// … and how long what is seen waits for news that came before it.
const OVERTAKEN: Duration = Duration::from_millis(250);

/// Pause after a look that failed, longer each time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Looks that may fail in a row; the next login does it then.
const TRIES: u32 = 5;

/// Most groups in doubt by themselves; beyond that all are looked at.
const DOUBTS: usize = 100;

/// Pause after news could not be stored.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// What is to be looked at.
#[derive(Default)]
pub(super) struct Doubts {
    all: bool,
    groups: HashMap<String, Told>,
    /// Somebody is at it.
    tended: bool,
}

/// What to look at next.
enum Next {
    All,
    One(String, Told),
}

impl Groups {
    /// What the library tells of groups; everything else passes by.
    pub(in crate::wa) async fn observe(self: &Arc<Self>, event: &Event) {
        let news = match event {
            Event::GroupUpdate(update) => group::news(update),
            Event::PictureUpdate(update) => group::picture_news(update),
            Event::DirtyState(state) if state.dirty_type == DirtyType::Groups => {
                self.refresh();
                None
            }
            _ => None,
        };
        let Some(mut news) = news else { return };
        self.complete(&mut news).await;
        if is_incomplete(event) {
            self.doubt(&news.group, Told::of(&news));
        }
        loop {
            let Err(error) = self.hear(&news).await else {
                return;
            };
            tracing::warn!(%error, "news of a group wait for the database");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(STORE_AGAIN) => {}
            }
        }
    }

    /// Adds the other names of people, as far as they are known.
    async fn complete(&self, news: &mut News) {
        let Some(client) = self.client.borrow().clone() else {
            return;
        };
        let people: Vec<&mut v1::Party> = match &mut news.action {
            Action::Add(people, _)
            | Action::Remove(people, _)
            | Action::Promote(people)
            | Action::Demote(people) => people
                .iter_mut()
                .filter_map(|one| one.party.as_mut())
                .collect(),
            Action::Create(group) => group
                .participants
                .iter_mut()
                .filter_map(|one| one.party.as_mut())
                .collect(),
            Action::JoinRequests(_, parties, _) => parties.iter_mut().collect(),
            _ => Vec::new(),
        };
        for party in people.into_iter().chain(news.actor.as_mut()) {
            complete(&client, party).await;
        }
    }

    async fn hear(self: &Arc<Self>, news: &News) -> Result<(), StorageError> {
        let told = Told::of(news);
        match &news.action {
            Action::Doubt => self.doubt(&news.group, told),
            Action::JoinRequests(change, parties, method) => {
                self.tell_requests(news, *change, parties, method).await?;
            }
            Action::Create(group) => {
                let changed = self.cache.change(&news.group, told, |before| {
                    // One that is known is known better.
                    let known = before.is_some_and(is_in);
                    (!known && group.id == news.group).then(|| (**group).clone())
                });
                changed.await?;
            }
            action => {
                let own = self.cache.own();
                let mut unknown = false;
                let changed = self.cache.change(&news.group, told.clone(), |before| {
                    let Some(before) = before.filter(|before| is_in(before)) else {
                        unknown = before.is_none() || adds(action, &own);
                        return None;
                    };
                    let mut after = before.clone();
                    changes::apply(&mut after, action, &told);
                    Some(after)
                });
                if changed.await?.doubtful {
                    self.doubt(&news.group, Told::found());
                } else if unknown {
                    self.doubt(&news.group, told);
                }
            }
        }
        Ok(())
    }

    async fn tell_requests(
        &self,
        news: &News,
        change: v1::GroupJoinRequestChange,
        parties: &[v1::Party],
        method: &str,
    ) -> Result<(), StorageError> {
        let known = self.cache.get(&news.group).await?;
        let payload = Payload::GroupJoinRequestsUpdated(v1::GroupJoinRequestsUpdated {
            group_id: news.group.clone(),
            subject: known.map(|group| group.subject).unwrap_or_default(),
            change: change.into(),
            parties: parties.to_vec(),
            actor: news.actor.clone(),
            method: method.to_owned(),
        });
        let row = self.cache.row();
        let event = events::compose(&row, payload, news.time, "");
        self.cache.tell(vec![event]).await
    }

    /// Has all groups looked at.
    pub(in crate::wa) fn refresh(self: &Arc<Self>) {
        self.doubts().all = true;
        self.tend();
    }

    /// Has a group looked at that refused.
    pub(in crate::wa) fn suspect(self: &Arc<Self>, jid: &str) {
        self.doubt(jid, Told::found());
    }

    /// Has a group looked at once it is quiet. What is found is told with this.
    pub(super) fn doubt(self: &Arc<Self>, jid: &str, told: Told) {
        {
            let mut doubts = self.doubts();
            if doubts.groups.len() >= DOUBTS {
                doubts.groups.clear();
                doubts.all = true;
            }
            if !doubts.all {
                // The first knows best why.
                doubts.groups.entry(jid.to_owned()).or_insert(told);
            }
        }
        self.tend();
    }

    fn doubts(&self) -> MutexGuard<'_, Doubts> {
        // Every change is one statement.
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tend(self: &Arc<Self>) {
        if std::mem::replace(&mut self.doubts().tended, true) {
            return;
        }
        let groups = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = groups.stop.cancelled() => {}
                () = groups.tend_to_all() => {}
            }
        });
    }

    async fn tend_to_all(self: &Arc<Self>) {
        let mut failed = 0;
        loop {
            sleep(QUIET).await;
            let client = self.client.borrow().clone();
            let (client, next) = {
                let mut doubts = self.doubts();
                // Without a connection the next login looks at everything.
                let next = client.and_then(|client| Some((client, doubts.next()?)));
                let Some(next) = next else {
                    *doubts = Doubts::default();
                    return;
                };
                next
            };
            let looked = match &next {
                Next::All => self.look_at_all(&client).await,
                Next::One(jid, told) => self.renew(&client, jid, told.clone()).await,
            };
            match looked {
                Ok(()) => failed = 0,
                Err(error) => {
                    failed += 1;
                    let instance = self.cache.row().number;
                    tracing::warn!(%instance, %error, failed, "groups can't be looked at");
                    if failed < TRIES {
                        self.doubts().again(next);
                        sleep(LOOK_AGAIN * failed).await;
                    } else {
                        failed = 0;
                    }
                }
            }
        }
    }

    /// Asks WhatsApp for all groups of the account and writes down what they are like.
    pub(super) async fn look_at_all(self: &Arc<Self>, client: &Client) -> Result<(), WaError> {
        let mark = self.cache.mark_all().await;
        let look = client.execute(LookAtAll::new());
        let fresh = ask(look, Asked::Look, "instance").await?;
        sleep(OVERTAKEN).await;
        let left_alone = self.cache.adopt_all(fresh, mark).await?;
        for jid in left_alone {
            self.doubt(&jid, Told::found());
        }
        Ok(())
    }

    /// Asks WhatsApp what a group is like now, also if that is "gone", and writes it down.
    pub(super) async fn renew(
        &self,
        client: &Client,
        jid: &str,
        told: Told,
    ) -> Result<(), WaError> {
        loop {
            let mark = self.cache.mark(jid).await;
            let seen = self.fetch(client, jid).await;
            sleep(OVERTAKEN).await;
            if self.cache.mark(jid).await != mark {
                continue;
            }
            match seen {
                Ok(fresh) if fresh.id == jid => {
                    if self.cache.adopt(fresh, mark, told.clone()).await?.is_some() {
                        return Ok(());
                    }
                }
                Ok(_) => return Ok(()),
                Err(WaError::Group(GroupRefusal { fault, .. }))
                    if matches!(fault, GroupFault::NotMember | GroupFault::NotFound) =>
                {
                    self.gone(jid, fault, told.clone()).await?;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The account is no longer in a group, or the group is no more.
    async fn gone(&self, jid: &str, fault: GroupFault, told: Told) -> Result<(), StorageError> {
        let changed = self.cache.change(jid, told, |before| {
            let mut after = before.filter(|before| is_in(before))?.clone();
            if fault == GroupFault::NotFound {
                after.set_membership(v1::GroupMembership::Deleted);
            } else {
                self.cache.remove_own(&mut after);
            }
            Some(after)
        });
        changed.await.map(drop)
    }
}

impl Doubts {
    fn next(&mut self) -> Option<Next> {
        if std::mem::take(&mut self.all) {
            // Among all is each.
            self.groups.clear();
            return Some(Next::All);
        }
        let jid = self.groups.keys().next()?.clone();
        let told = self.groups.remove(&jid)?;
        Some(Next::One(jid, told))
    }

    fn again(&mut self, next: Next) {
        match next {
            Next::All => self.all = true,
            Next::One(jid, told) => {
                self.groups.entry(jid).or_insert(told);
            }
        }
    }
}

/// Adds the other name of somebody, if it is known.
pub(super) async fn complete(client: &Client, party: &mut v1::Party) {
    let known = if party.jid.is_empty() {
        &party.lid
    } else if party.lid.is_empty() {
        &party.jid
    } else {
        return;
    };
    let Ok(jid) = known.parse() else { return };
    if let Some(other) = other_name(client, &jid).await {
        let name = std::mem::take(&mut party.name);
        *party = crate::wa::convert::ids::party([Some(&jid), Some(&other)], &name);
    }
}

/// Whether WhatsApp left people out whom it could not name.
fn is_incomplete(event: &Event) -> bool {
    matches!(event, Event::GroupUpdate(update) if update.has_incomplete_participant_information)
}

fn is_in(group: &v1::Group) -> bool {
    group.membership() == v1::GroupMembership::Member
}

fn adds(action: &Action, own: &v1::Party) -> bool {
    let Action::Add(people, _) = action else {
        return false;
    };
    let mut parties = people.iter().filter_map(|one| one.party.as_ref());
    parties.any(|party| crate::wa::convert::ids::is_same(party, own))
}
