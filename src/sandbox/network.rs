//! The network itself: accounts, links to devices, logins, and the one door every stanza goes through.
//!
//! Owns the state and its lock. Phones and WebSocket devices come in by the same links, so both pass the same
//! routing, queues, faults and log. Never awaits while it holds the lock, and never touches a socket.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wacore_binary::{Jid, Node, builder::NodeBuilder};
use waproto::whatsapp::ClientPayload;

use super::{
    address::{DeviceAddress, Lid, Namespace, Number, User},
    app_state::{Collection, PatchLog, Place},
    error::SandboxError,
    faults::{Direction, Fate, Faults, Refusal},
    group::{Group, GroupId},
    iq,
    keys::NetworkKeys,
    media::MediaHost,
    model::{Account, PreKeyPool},
    pairing::Pairing,
    phone::Phone,
    queue::Queue,
    router::Phase,
    store::{Batch, Records, Store},
    wire::{self, LoginFailure},
    wire_log::WireLog,
};

/// Stanzas that may wait for one slow connection; past it the connection is cut and its queue waits for the next.
const OUTBOUND_QUEUE: usize = 8192;

/// Stanzas that may be on their way delayed at once; past it they go undelayed.
const MAX_DELAYED: usize = 4096;

/// Logins told to fail that have not happened yet.
const MAX_LOGIN_FAILURES: usize = 1024;

/// One connection, for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// What a connection was admitted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A linked device.
    Device(DeviceAddress),
    /// One that waits to be paired.
    Unregistered,
}

/// What a connection has to do next.
#[derive(Debug)]
pub enum Outgoing {
    /// Send it. Shared: what is told to a group goes to thousands of devices.
    Stanza(Arc<Node>),
    /// Send it and close.
    Last(Arc<Node>),
    /// Send these bytes as if they were a stanza, under the cipher.
    Plain(Bytes),
    /// Put these bytes on the socket as a frame, past the cipher.
    Frame(Bytes),
}

/// The network's end of a connection.
#[derive(Clone)]
pub struct Line {
    sender: mpsc::Sender<Outgoing>,
    /// Cancelled to cut the connection at once.
    pub cut: CancellationToken,
}

impl Line {
    /// A line and the connection's end of it.
    pub fn new() -> (Self, mpsc::Receiver<Outgoing>) {
        let (sender, receiver) = mpsc::channel(OUTBOUND_QUEUE);
        let cut = CancellationToken::new();
        (Self { sender, cut }, receiver)
    }

    pub(super) fn send(&self, outgoing: Outgoing) {
        if self.sender.try_send(outgoing).is_err() {
            self.cut.cancel();
        }
    }
}

/// A device that is connected.
pub struct Link {
    pub(super) connection: ConnectionId,
    pub(super) line: Line,
    pub(super) phase: Phase,
}

struct PlannedFailure {
    number: Option<Number>,
    device: Option<u16>,
    failure: LoginFailure,
}

/// All that the lock guards.
pub struct State {
    pub(super) accounts: BTreeMap<Number, Account>,
    lids: HashMap<Lid, Number>,
    pub(super) phones: BTreeMap<Number, Arc<Phone>>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Invite codes that lead somewhere, also those that no longer let anybody in.
    pub(super) invites: HashMap<String, GroupId>,
    pub(super) prekeys: HashMap<DeviceAddress, PreKeyPool>,
    pub(super) queues: HashMap<DeviceAddress, Queue>,
    /// The app state of every account, as far as there is any.
    pub(super) app_state: HashMap<Place, PatchLog>,
    pub(super) links: HashMap<DeviceAddress, Link>,
    pub(super) pairings: HashMap<ConnectionId, Pairing>,
    pub(super) faults: Faults,
    pub(super) wire_log: WireLog,
    /// Where files of the network are served from, as `HOST:PORT`.
    pub(super) host: String,
    pub(super) store: Arc<Store>,
    pub(super) media: Arc<MediaHost>,
    pub(super) tasks: TaskTracker,
    pub(super) network: Weak<Network>,
    login_failures: Vec<PlannedFailure>,
    /// Until when an account may write only to those it knows, in unix seconds.
    pub(super) limited: HashMap<Number, u64>,
    delayed: Arc<Semaphore>,
    stop: CancellationToken,
    last_id: u64,
}

/// A running network.
pub struct Network {
    state: Mutex<State>,
    /// What the listener proves itself with.
    pub keys: NetworkKeys,
    /// Cancelled at shutdown.
    pub stop: CancellationToken,
    /// Every task of the network.
    pub tasks: TaskTracker,
    /// Durable state, also of the phones.
    pub store: Arc<Store>,
    /// Files of the devices.
    pub media: Arc<MediaHost>,
}

impl Network {
    /// Restores a network from what is stored.
    pub fn restore(
        store: Store,
        media: MediaHost,
        records: &Records,
    ) -> Result<Arc<Self>, SandboxError> {
        let mut batch = Batch::default();
        let keys = NetworkKeys::load(records, &mut batch)?;
        store.commit(&batch)?;
        let accounts = Account::load(records)?;
        let (mut lids, mut prekeys, mut queues) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut app_state = HashMap::new();
        for account in accounts.values() {
            lids.insert(account.lid, account.number);
            for collection in Collection::EVERY {
                let place = Place {
                    number: account.number,
                    collection,
                };
                app_state.insert(place, PatchLog::load(records, place)?);
            }
            for address in account.addresses() {
                prekeys.insert(address, PreKeyPool::load(records, address)?);
                queues.insert(address, Queue::load(records, address)?);
            }
        }
        let groups = Group::load(records)?;
        let invites = groups
            .values()
            .flat_map(|group| group.codes().map(|code| (code.to_owned(), group.id)))
            .collect();
        let (store, media) = (Arc::new(store), Arc::new(media));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let network = Arc::new_cyclic(|network| Self {
            state: Mutex::new(State {
                accounts,
                lids,
                phones: BTreeMap::new(),
                groups,
                invites,
                prekeys,
                queues,
                app_state,
                links: HashMap::new(),
                pairings: HashMap::new(),
                faults: Faults::default(),
                wire_log: WireLog::default(),
                host: String::new(),
                store: store.clone(),
                media: media.clone(),
                tasks: tasks.clone(),
                network: network.clone(),
                login_failures: Vec::new(),
                limited: HashMap::new(),
                delayed: Arc::new(Semaphore::new(MAX_DELAYED)),
                stop: stop.clone(),
                // Ids of a run must not meet those of the run before in a client's memory.
                last_id: wire::now() << 20,
            }),
            keys,
            stop,
            tasks,
            store,
            media,
        });
        let numbers: Vec<Number> = network.lock().accounts.keys().copied().collect();
        for number in numbers {
            let phone = Arc::new(Phone::load(&network, number, records)?);
            network.lock().phones.insert(number, phone);
        }
        Ok(network)
    }

    /// The state. A panic elsewhere does not take the network down.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection, or says how it is refused.
    pub fn login(
        &self,
        static_key: [u8; 32],
        payload: &ClientPayload,
        line: Line,
    ) -> Result<(ConnectionId, Role), LoginFailure> {
        let mut state = self.lock();
        let login = payload
            .username
            .map(Number::from)
            .filter(|number| *number != Number::PLACEHOLDER);
        let Some(number) = login else {
            if let Some(failure) = state.planned_failure(DeviceAddress::UNREGISTERED) {
                return Err(failure);
            }
            let connection = state.start_pairing(static_key, payload.push_name.clone(), line);
            return Ok((connection, Role::Unregistered));
        };
        let device =
            u16::try_from(payload.device.unwrap_or(0)).map_err(|_| LoginFailure::UNLINKED)?;
        let address = number.device(device);
        if let Some(failure) = state.planned_failure(address) {
            return Err(failure);
        }
        let known = state
            .device(address)
            .is_some_and(|device| device.noise_key == static_key);
        if !known {
            return Err(LoginFailure::UNLINKED);
        }
        Ok((state.attach(address, line), Role::Device(address)))
    }

    /// A stanza from a connection.
    pub fn receive(&self, connection: ConnectionId, role: Role, node: Node) {
        let mut state = self.lock();
        let address = role.address();
        let copies = match state.faults.decide(Direction::FromDevice, address, &node) {
            Fate::Copies(copies) => copies,
            Fate::Refused(refusal) => {
                state.refuse(address, &node, refusal);
                Vec::new()
            }
        };
        state
            .wire_log
            .record(address, Direction::FromDevice, &node, &copies);
        for delay in copies {
            if delay.is_zero() {
                state.handle(connection, role, &node);
            } else {
                let (node, network) = (node.clone(), state.network.clone());
                state.later(delay, move || {
                    if let Some(network) = network.upgrade() {
                        network.lock().handle(connection, role, &node);
                    }
                });
            }
        }
    }

    /// A connection has ended.
    pub fn detach(&self, connection: ConnectionId, role: Role) {
        let mut state = self.lock();
        match role {
            Role::Unregistered => {
                state.pairings.remove(&connection);
            }
            Role::Device(address) => {
                if state.is_current(address, connection) {
                    state.links.remove(&address);
                }
            }
        }
    }
}

impl Role {
    /// Under what its stanzas are logged and matched.
    pub fn address(self) -> DeviceAddress {
        match self {
            Self::Device(address) => address,
            Self::Unregistered => DeviceAddress::UNREGISTERED,
        }
    }
}

impl State {
    /// A device that exists.
    pub(super) fn device(&self, address: DeviceAddress) -> Option<&super::model::Device> {
        self.accounts
            .get(&address.number)?
            .devices
            .get(&address.device)
    }

    /// The account a JID names.
    pub(super) fn account_of(&self, jid: &Jid) -> Option<(&Account, Namespace)> {
        let user = User::of(jid)?;
        let number = match user {
            User::Number(number) => number,
            User::Lid(lid) => *self.lids.get(&lid)?,
        };
        Some((self.accounts.get(&number)?, user.namespace()))
    }

    /// Adds a new account; its number and LID must be free.
    pub(super) fn insert_account(&mut self, account: Account) {
        self.lids.insert(account.lid, account.number);
        for address in account.addresses() {
            self.prekeys.entry(address).or_default();
            self.queues.entry(address).or_default();
        }
        self.accounts.insert(account.number, account);
    }

    /// True when a LID is taken.
    pub(super) fn has_lid(&self, lid: Lid) -> bool {
        self.lids.contains_key(&lid)
    }

    /// Makes a batch durable; the cause of a failure is logged here.
    pub(super) fn commit(&self, batch: &Batch) -> io::Result<()> {
        self.store
            .commit(batch)
            .inspect_err(|error| tracing::error!(%error, "cannot store the sandbox's state"))
    }

    /// An id for a stanza of the server's own.
    pub(super) fn fresh_id(&mut self) -> String {
        self.last_id += 1;
        format!("{:X}", self.last_id)
    }

    pub(super) fn fresh_connection(&mut self) -> ConnectionId {
        self.last_id += 1;
        ConnectionId(self.last_id)
    }

    /// Runs something after a delay, unless the network stops first.
    pub(super) fn later(&self, delay: Duration, run: impl FnOnce() + Send + 'static) {
        let Ok(permit) = self.delayed.clone().try_acquire_owned() else {
            // Not here: the lock is held, and what runs may want it.
            self.tasks.spawn(async move { run() });
            return;
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => run(),
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }

    /// Connects a device; an older connection of it is replaced. Returns with `<success>` on its way.
    pub(super) fn attach(&mut self, address: DeviceAddress, line: Line) -> ConnectionId {
        let connection = self.fresh_connection();
        if let Some(older) = self.links.remove(&address) {
            older.line.send(Outgoing::Last(
                wire::stream_error(None, Some("replaced")).into(),
            ));
        }
        let link = Link {
            connection,
            line,
            phase: Phase::Waiting,
        };
        self.links.insert(address, link);
        if let Some(account) = self.accounts.get(&address.number) {
            let success = NodeBuilder::new("success")
                .attr("t", wire::now())
                .attr("lid", account.device_jid(Namespace::Lid, address.device))
                .attr("display_name", account.push_name.as_str())
                .attr("props", "0")
                .attr("location", "sandbox")
                .build();
            self.push(address, success);
        }
        connection
    }

    /// True when this is the connection the device is on.
    pub(super) fn is_current(&self, address: DeviceAddress, connection: ConnectionId) -> bool {
        self.links
            .get(&address)
            .is_some_and(|link| link.connection == connection)
    }

    /// Sends a stanza to a device if it is connected.
    pub(super) fn push(&mut self, address: DeviceAddress, node: impl Into<Arc<Node>>) {
        if let Some(link) = self.links.get(&address) {
            let line = link.line.clone();
            self.transmit(&line, address, node);
        }
    }

    /// Tells a device that the network does not do what it asks for.
    fn refuse(&mut self, address: DeviceAddress, node: &Node, refusal: Refusal) {
        if let Some(answer) = wire::refusal(node, refusal.code, refusal.backoff) {
            self.push(address, answer);
        }
    }

    /// Sends a stanza by a line, through faults and log.
    pub(super) fn transmit(
        &mut self,
        line: &Line,
        address: DeviceAddress,
        node: impl Into<Arc<Node>>,
    ) {
        let node = node.into();
        let fate = self.faults.decide(Direction::ToDevice, address, &node);
        let copies = fate.copies();
        self.wire_log
            .record(address, Direction::ToDevice, &node, &copies);
        for delay in copies {
            let outgoing = Outgoing::Stanza(node.clone());
            if delay.is_zero() {
                line.send(outgoing);
            } else {
                let line = line.clone();
                self.later(delay, move || line.send(outgoing));
            }
        }
    }

    /// Ends the connection of a device with a last word. False when it is not connected.
    pub(super) fn end(&mut self, address: DeviceAddress, last: Node) -> bool {
        let Some(link) = self.links.remove(&address) else {
            return false;
        };
        self.wire_log
            .record(address, Direction::ToDevice, &last, &[Duration::ZERO]);
        link.line.send(Outgoing::Last(last.into()));
        true
    }

    /// Cuts the connection of a device without a word. False when it is not connected.
    pub(super) fn cut(&mut self, address: DeviceAddress) -> bool {
        let link = self.links.remove(&address);
        link.is_some_and(|link| {
            link.line.cut.cancel();
            true
        })
    }

    /// Makes the next login that matches fail.
    pub(super) fn plan_failure(
        &mut self,
        number: Option<Number>,
        device: Option<u16>,
        failure: LoginFailure,
    ) -> Result<(), SandboxError> {
        if self.login_failures.len() >= MAX_LOGIN_FAILURES {
            return Err(SandboxError::Exhausted(
                "1024 logins are told to fail already",
            ));
        }
        self.login_failures.push(PlannedFailure {
            number,
            device,
            failure,
        });
        Ok(())
    }

    fn planned_failure(&mut self, address: DeviceAddress) -> Option<LoginFailure> {
        let at = self.login_failures.iter().position(|planned| {
            planned.number.is_none_or(|number| number == address.number)
                && planned.device.is_none_or(|device| device == address.device)
        })?;
        Some(self.login_failures.remove(at).failure)
    }

    fn handle(&mut self, connection: ConnectionId, role: Role, node: &Node) {
        match role {
            Role::Unregistered => self.handle_unregistered(connection, node),
            Role::Device(address) if self.is_current(address, connection) => match &*node.tag {
                "iq" => iq::handle(self, address, node),
                "message" => self.handle_message(address, node),
                "receipt" => self.handle_receipt(address, node),
                "ack" => self.handle_ack(address, node),
                "ib" => self.handle_ib(address, node),
                "call" => self.handle_call(address, node),
                "chatstate" => self.handle_chat_state(address, node),
                // Presence has nobody to show it to yet.
                _ => {}
            },
            // The rest of a connection that was replaced or ended.
            Role::Device(_) => {}
        }
    }
}
