//! The groups of one instance.
//!
//! Owns what is known of them ([`cache`]), how it is kept true ([`tending`]), and every change that a
//! caller asks for ([`changing`], [`members`], [`invites`]). Never believes its own request: what is
//! written down is what WhatsApp confirmed or told.

mod cache;
mod changes;
mod changing;
mod errors;
mod invites;
mod members;
mod picture;
mod query;
mod tending;
mod writing;

use std::{
    sync::{Arc, Mutex as SyncMutex},
    time::{Duration, SystemTime},
};

use prost::Message;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{Client, Jid, features::GroupError};

use self::{
    cache::Cache,
    changes::Told,
    errors::{Asked, explain},
    query::Look,
    tending::Doubts,
};
use super::{addresses::Addresses, error::WaError, once::in_turn};
use crate::{
    domain::recipient::Recipient,
    proto::v1,
    storage::{InstanceRow, RequestMark, Storage},
};

pub use self::{
    changing::{GroupEdit, NewGroup},
    errors::{GroupFault, GroupRefusal},
    invites::{Invite, code_of as invite_code},
    picture::Picture,
    writing::Mentions,
};
pub use super::convert::group::Setting as GroupSetting;

/// How long WhatsApp may take to answer about groups.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// The field that names the group in every request that has one.
const GROUP: &str = "group";

/// A person in a caller's request.
#[derive(Clone, Debug)]
pub struct Somebody {
    /// As the caller wrote it.
    pub text: String,
    /// What that means.
    pub recipient: Recipient,
}

/// The groups of one instance.
pub struct Groups {
    storage: Arc<dyn Storage>,
    cache: Cache,
    client: watch::Receiver<Option<Arc<Client>>>,
    addresses: Arc<Addresses>,
    stop: CancellationToken,
    /// One change at a time: a retry waits for what it repeats.
    turns: Arc<Mutex<()>>,
    doubts: SyncMutex<Doubts>,
}

impl Groups {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        instance: watch::Receiver<InstanceRow>,
        client: watch::Receiver<Option<Arc<Client>>>,
        addresses: Arc<Addresses>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache: Cache::new(storage.clone(), instance),
            storage,
            client,
            addresses,
            stop,
            turns: Arc::default(),
            doubts: SyncMutex::default(),
        })
    }

    fn open_client(&self) -> Result<Arc<Client>, WaError> {
        let client = self.client.borrow().clone();
        client.ok_or_else(|| WaError::not_open(self.cache.row()))
    }

    /// One group with its members; asks WhatsApp only about one that is not known.
    pub async fn get(self: &Arc<Self>, jid: &str) -> Result<v1::Group, WaError> {
        if let Some(known) = self.cache.get(jid).await? {
            return Ok(known);
        }
        let client = self.open_client()?;
        let group = self.look(&client, jid, Told::found()).await?;
        if group.membership() == v1::GroupMembership::Member {
            return Ok(group);
        }
        Err(errors::refuse(GroupFault::NotMember, GROUP))
    }

    /// The groups that the account is in, without their members, by JID after one.
    pub async fn list(
        self: &Arc<Self>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<v1::Group>, WaError> {
        if !self.cache.is_complete().await? {
            let client = self.open_client()?;
            self.look_at_all(&client).await?;
        }
        let groups = self.cache.list(after, limit).await?;
        Ok(groups.iter().map(changes::brief).collect())
    }

    /// Asks WhatsApp what a group is like now and writes it down.
    async fn look(&self, client: &Client, jid: &str, told: Told) -> Result<v1::Group, WaError> {
        loop {
            let mark = self.cache.mark(jid).await;
            let fresh = self.fetch(client, jid).await?;
            if fresh.id != jid {
                return Err(errors::refuse(GroupFault::NotFound, GROUP));
            }
            if let Some(group) = self.cache.adopt(fresh, mark, told.clone()).await? {
                return Ok(group);
            }
        }
    }

    async fn fetch(&self, client: &Client, jid: &str) -> Result<v1::Group, WaError> {
        let look = client.execute(Look::at(&self.parse(jid)?));
        let mut group = ask(look, Asked::Look, GROUP).await?;
        let people = group.participants.iter_mut();
        for party in people.filter_map(|one| one.party.as_mut()) {
            tending::complete(client, party).await;
        }
        Ok(group)
    }

    fn parse(&self, jid: &str) -> Result<Jid, WaError> {
        jid.parse()
            .map_err(|_| errors::refuse(GroupFault::NotFound, GROUP))
    }

    /// The group, if the account is in it, and an admin where that is needed.
    async fn known(self: &Arc<Self>, jid: &str, as_admin: bool) -> Result<v1::Group, WaError> {
        let group = self.get(jid).await?;
        if let Some(fault) = hindrance(&group, as_admin) {
            return Err(errors::refuse(fault, GROUP));
        }
        Ok(group)
    }

    /// Does something once per request: a retry gets the answer of the first. It is done to its end
    /// also if its caller leaves.
    async fn once<T, Work>(
        self: &Arc<Self>,
        request: Option<RequestMark>,
        work: impl FnOnce(Arc<Self>, Option<SystemTime>) -> Work + Send + 'static,
    ) -> Result<T, WaError>
    where
        T: Message + Default + 'static,
        Work: Future<Output = Result<T, WaError>> + Send + 'static,
    {
        let (storage, number) = (self.storage.clone(), self.cache.row().number);
        let (turns, groups) = (self.turns.clone(), self.clone());
        let work = move |begun| work(groups, begun);
        in_turn(turns, storage, number, request, work).await
    }
}

/// Why the account can't do something in a group, by what is known.
fn hindrance(group: &v1::Group, as_admin: bool) -> Option<GroupFault> {
    match group.membership() {
        v1::GroupMembership::Deleted => return Some(GroupFault::NotFound),
        v1::GroupMembership::Member => {}
        _ => return Some(GroupFault::NotMember),
    }
    let admin = matches!(
        group.own_role(),
        v1::GroupRole::Admin | v1::GroupRole::Owner
    );
    (as_admin && !admin).then_some(GroupFault::NotAdmin)
}

/// Asks WhatsApp something, within limits.
async fn ask<T>(
    question: impl Future<Output = Result<T, impl Into<GroupError>>>,
    asked: Asked,
    field: &str,
) -> Result<T, WaError> {
    match timeout(ANSWER_TIME, question).await {
        Ok(answer) => answer.map_err(|error| explain(error.into(), asked, field)),
        Err(_) => Err(WaError::Timeout("no answer about a group".to_owned())),
    }
}
