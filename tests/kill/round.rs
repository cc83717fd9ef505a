//! One round: some dozens of kills under load, then quiet, then the reckoning.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rand::{RngExt as _, rngs::StdRng};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use wagate::{
    domain::cursor::Cursor,
    proto::v1::{self, MessageStatus},
    sandbox::{GroupId, Number},
};

use crate::{
    World,
    api::Api,
    audit::{self, Carried},
    chance,
    gateway::{Gateway, Plan},
    ledger::Recipient,
    people::{self, Errand, Order, Place},
    subscribers::{History, Phase, Subscriber},
    tally::Tally,
    watch::{self as properties, Log},
};

/// Callers at work at once.
const CALLERS: usize = 6;

/// How long the rest may take once nobody dies any more.
const SETTLE_TIME: Duration = Duration::from_secs(120);

/// How long a reader who asked for a message again may wait for it. The library says that it has the
/// question before it answers, so a kill in between leaves it unanswered.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How often it is looked whether everything has settled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How much of what phones and callers say they say in groups, where everybody hears it.
const IN_GROUPS: f64 = 0.2;

/// How much of that an account is not given the key for.
const WITHOUT_KEY: f64 = 0.05;

/// Pause between two portions of what is said in one life.
const PORTION_EVERY: Duration = Duration::from_millis(60);

/// Portions of one life.
const PORTIONS: u64 = 24;

/// What belongs to one round.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub kills: u64,
    pub inbound: u64,
    pub outbound: u64,
}

pub struct Round {
    pub number: u64,
    pub seed: u64,
    pub share: Share,
    /// Cursor of the end of the round before.
    pub after: Option<String>,
}

/// What a round left.
pub struct Played {
    log: Log,
    histories: Vec<History>,
    /// Cursor of its end.
    pub cursor: String,
}

impl Round {
    pub async fn play(
        &self,
        world: &World,
        gateway: &mut Gateway,
        tally: &mut Tally,
    ) -> anyhow::Result<Played> {
        let mut dice = chance(self.seed, self.number, "round", 0);
        let (phase, phases) = watch::channel(Phase::Wild);
        let mut talkers = JoinSet::new();
        let mut crowd = Crowd::gather(self, world, gateway, &mut talkers);
        let mut readers = JoinSet::new();
        for name in 0..world.subscribers {
            let dice = chance(self.seed, self.number, "subscriber", name);
            let after = self.after.as_deref();
            let subscriber = Subscriber::new(name, &world.accounts, after, dice);
            readers.spawn(subscriber.run(gateway.door(), phases.clone()));
        }
        drop(phases);

        for kill in 0..self.share.kills {
            let plan = draw_plan(kill, world.point, &mut dice);
            // The first life of a round is the one that went before.
            if kill > 0 || self.number > 0 {
                let began = Instant::now();
                gateway.start(Some(&plan))?;
                crowd.speak(kill, self.share, 0..PORTIONS / 4);
                if !matches!(plan, Plan::AfterStart(_)) {
                    gateway.serves().await?;
                    tally.starts.push(began.elapsed());
                }
            }
            let portions = async {
                for portion in PORTIONS / 4..PORTIONS {
                    crowd.speak(kill, self.share, portion..portion + 1);
                    sleep(PORTION_EVERY).await;
                }
                std::future::pending::<()>().await;
            };
            let death = tokio::select! {
                death = gateway.die(&plan) => death?,
                () = portions => unreachable!("it pends"),
                Some(ended) = readers.join_next() => {
                    return Err(early(ended));
                }
            };
            tally.note(&plan, death);
        }
        gateway.start(None)?;
        gateway.serves().await?;
        crowd.say_the_rest(self.share);
        crowd.last_words(world);
        drop(crowd);
        let settled = timeout(SETTLE_TIME, async {
            while let Some(talker) = talkers.join_next().await {
                talker??;
            }
            settle(world, gateway).await
        });
        match settled.await {
            Ok(settled) => settled?,
            Err(_) => world.ledger.complain(format!(
                "after {} s without kills there is still: {}",
                SETTLE_TIME.as_secs(),
                unsettled(world, gateway, true).await?.join(", ")
            )),
        }

        let api = Api::ready(&mut gateway.door()).await?;
        let (events, _) = api.read_log(self.after.as_deref()).await?;
        let begin = self.after.as_deref().and_then(Cursor::parse);
        let log = Log::new(events, begin.map_or(0, |cursor| cursor.position.0))?;
        phase.send_replace(Phase::Last { head: log.head() });
        let mut histories = Vec::new();
        let end = async {
            while let Some(reader) = readers.join_next().await {
                histories.push(reader??);
            }
            anyhow::Ok(())
        };
        timeout(SETTLE_TIME, end)
            .await
            .context("subscribers don't come to the end of the log")??;
        // What was committed after the first look is the log's, too.
        let (events, cursor) = api.read_log(self.after.as_deref()).await?;
        let log = Log::new(events, begin.map_or(0, |cursor| cursor.position.0))?;
        Ok(Played {
            log,
            histories,
            cursor,
        })
    }
}

fn early(ended: Result<anyhow::Result<History>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(history)) => anyhow::anyhow!("subscriber {} ended early", history.name),
        Ok(Err(error)) => error.context("a subscriber failed"),
        Err(error) => error.into(),
    }
}

impl Played {
    /// Compares everything.
    pub fn judge(
        &self,
        world: &World,
        carried: &mut Carried,
        states: &mut HashMap<String, i32>,
        tally: &mut Tally,
    ) {
        audit::audit(
            &self.log,
            &world.accounts,
            &world.wire,
            &world.ledger,
            carried,
            tally,
        );
        let mut broken = Vec::new();
        properties::check_log(&self.log, states, &mut broken);
        for history in &self.histories {
            properties::check_history(history, &self.log, &mut broken);
            tally.subscribers += 1;
            tally.streams += history.sessions.len() as u64;
            for session in &history.sessions {
                let events = session.frames.iter().map(|frame| frame.events.len() as u64);
                tally.delivered += events.sum::<u64>();
            }
        }
        for one in broken {
            *tally.broken.entry(one.property).or_default() += 1;
            world
                .ledger
                .complain(format!("not {}: {}", one.property, one.how));
        }
        let mut books = world.ledger.books();
        let (complaints, more) = books.complaints();
        tally.complaints = (complaints.len() + more) as u64;
        tally.tries = books.tries;
        books.close_round();
        drop(books);
        world.wire.with(|notes| {
            tally.retries = notes.retries;
            notes.clear();
        });
    }
}

fn draw_plan(kill: u64, only: Option<&'static str>, dice: &mut StdRng) -> Plan {
    let milliseconds = |dice: &mut StdRng, most| Duration::from_millis(dice.random_range(0..most));
    let points = crash_points();
    // Every other death at a point, the points by turns.
    let by_turns =
        (kill % 2 == 1 && !points.is_empty()).then(|| points[(kill / 2) as usize % points.len()]);
    if let Some(name) = only.or(by_turns) {
        return Plan::AtPoint {
            name,
            count: dice.random_range(1..12),
            patience: Duration::from_secs(4),
        };
    }
    match dice.random_range(0..5) {
        0 => Plan::AfterStart(milliseconds(dice, 600)),
        _ => Plan::AfterServing(milliseconds(dice, 3_000)),
    }
}

/// A crash point by its name.
pub fn crash_point(name: &str) -> Option<&'static str> {
    crash_points().into_iter().find(|point| *point == name)
}

/// The moments at which wagate can die by its own hand.
fn crash_points() -> Vec<&'static str> {
    #[cfg(debug_assertions)]
    return wagate::crash_points::CrashPoint::EVERY
        .map(wagate::crash_points::CrashPoint::name)
        .to_vec();
    #[cfg(not(debug_assertions))]
    Vec::new()
}

/// All who talk, and what they have been told to say so far.
struct Crowd {
    round: u64,
    dice: StdRng,
    accounts: usize,
    phones: Vec<mpsc::UnboundedSender<Errand>>,
    callers: Vec<mpsc::UnboundedSender<Order>>,
    /// Whom callers write to: phones and owners.
    everybody: Vec<Number>,
    groups: Vec<GroupId>,
    /// The owner of each account, to whom the account itself does not write.
    owners: Vec<Number>,
    inbound: u64,
    outbound: u64,
}

impl Crowd {
    fn gather(
        round: &Round,
        world: &World,
        gateway: &Gateway,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> Self {
        let mut phones = Vec::new();
        for (index, number) in world.phones.iter().enumerate() {
            // Never more than a round's share.
            let (sender, errands) = mpsc::unbounded_channel();
            let dice = chance(round.seed, round.number, "phone", index);
            tasks.spawn(people::phone(
                world.network.clone(),
                *number,
                world.accounts.clone(),
                errands,
                dice,
                world.ledger.clone(),
            ));
            phones.push(sender);
        }
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let (sender, orders) = mpsc::unbounded_channel();
            tasks.spawn(people::caller(
                gateway.door(),
                world.accounts.clone(),
                orders,
                world.ledger.clone(),
            ));
            callers.push(sender);
        }
        Self {
            round: round.number,
            dice: chance(round.seed, round.number, "crowd", 0),
            accounts: world.accounts.len(),
            phones,
            callers,
            everybody: world.everybody(),
            groups: world.groups.clone(),
            owners: world
                .accounts
                .iter()
                .map(|account| account.number)
                .collect(),
            inbound: 0,
            outbound: 0,
        }
    }

    /// Says some portions of what belongs to one life, and what lives before it left unsaid.
    fn speak(&mut self, kill: u64, share: Share, portions: std::ops::Range<u64>) {
        let whole = share.kills.max(1) * PORTIONS;
        let done = kill * PORTIONS + portions.end;
        self.say(share.inbound * done / whole, share.outbound * done / whole);
    }

    fn say_the_rest(&mut self, share: Share) {
        self.say(share.inbound, share.outbound);
    }

    fn say(&mut self, inbound: u64, outbound: u64) {
        while self.inbound < inbound {
            let phone = self.dice.random_range(0..self.phones.len());
            let to = if self.dice.random_bool(IN_GROUPS) {
                let group = self.groups[self.dice.random_range(0..self.groups.len())];
                let account = self.dice.random_range(0..self.accounts);
                let keyless = self.dice.random_bool(WITHOUT_KEY).then_some(account);
                Place::Group { group, keyless }
            } else {
                Place::Instance(self.dice.random_range(0..self.accounts))
            };
            self.write(phone, to);
        }
        while self.outbound < outbound {
            let instance = self.dice.random_range(0..self.accounts);
            if self.dice.random_bool(IN_GROUPS) {
                let group = self.groups[self.dice.random_range(0..self.groups.len())];
                self.order(instance, Recipient::Group(group));
                continue;
            }
            let to = self.everybody[self.dice.random_range(0..self.everybody.len())];
            if to != self.owners[instance] {
                self.order(instance, Recipient::Person(to));
            }
        }
    }

    fn write(&mut self, phone: usize, to: Place) {
        self.inbound += 1;
        let text = format!("in {} {}", self.round, self.inbound);
        // A phone that is gone has failed, which its task tells.
        self.phones[phone].send(Errand { to, text }).ok();
    }

    fn order(&mut self, instance: usize, to: Recipient) {
        self.outbound += 1;
        let readers = match to {
            Recipient::Person(number) => vec![number],
            Recipient::Group(_) => {
                let own = self.owners[instance];
                let others = self.everybody.iter().filter(|one| **one != own);
                others.copied().collect()
            }
        };
        let order = Order {
            instance,
            to,
            readers,
            text: format!("out {} {}", self.round, self.outbound),
            request_id: format!("r{}-{}", self.round, self.outbound),
            patience: self
                .dice
                .random_bool(0.15)
                .then(|| Duration::from_millis(self.dice.random_range(1..60))),
            repeat: self.dice.random_bool(0.15),
            held: self
                .dice
                .random_bool(0.25)
                .then(|| self.dice.random_range(0..300)),
        };
        let caller = self.dice.random_range(0..self.callers.len());
        self.callers[caller].send(order).ok();
    }

    /// One text both ways between everybody and into every group: every session must still work.
    fn last_words(&mut self, world: &World) {
        for phone in 0..self.phones.len() {
            for group in self.groups.clone() {
                let keyless = None;
                self.write(phone, Place::Group { group, keyless });
            }
        }
        for instance in 0..self.accounts {
            for phone in 0..self.phones.len() {
                self.write(phone, Place::Instance(instance));
            }
            for to in world.everybody() {
                if to != self.owners[instance] {
                    self.order(instance, Recipient::Person(to));
                }
            }
            for group in self.groups.clone() {
                self.order(instance, Recipient::Group(group));
            }
        }
    }
}

/// Waits until nothing is on its way any more.
async fn settle(world: &World, gateway: &Gateway) -> anyhow::Result<()> {
    let began = Instant::now();
    while !unsettled(world, gateway, began.elapsed() < ANSWER_TIME)
        .await?
        .is_empty()
    {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What is still on its way; with what readers asked for again, or without.
async fn unsettled(
    world: &World,
    gateway: &Gateway,
    with_asked: bool,
) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for account in world.accounts.iter() {
        for companion in world.network.phone(account.number)?.companions {
            if companion.queued > 0 {
                left.push(format!("{} stanzas for {}", companion.queued, account.name));
            }
        }
    }
    let outbound = world.ledger.books().outbound.clone();
    let seen: HashSet<(String, String)> = {
        let books = world.ledger.books();
        let screens = books.seen.iter();
        screens
            .map(|seen| (seen.by.to_string(), seen.message_id.clone()))
            .collect()
    };
    let asked = world.wire.with(|notes| notes.asked_back.clone());
    let unseen = outbound.iter().filter(|sent| {
        if !with_asked && asked.contains(&sent.message_id) {
            return false;
        }
        let seen_by =
            |reader: &Number| seen.contains(&(reader.to_string(), sent.message_id.clone()));
        !sent.readers.iter().all(seen_by)
    });
    let unseen: Vec<_> = unseen
        .map(|sent| sent.message_id.as_str())
        .take(3)
        .collect();
    if !unseen.is_empty() {
        left.push(format!(
            "messages that not everybody saw, such as {unseen:?}"
        ));
    }
    if !left.is_empty() {
        return Ok(left);
    }
    let api = Api::ready(&mut gateway.door()).await?;
    for sent in outbound {
        let request = v1::GetMessageRequest {
            instance: world.accounts[sent.instance].id.clone(),
            message_id: sent.message_id.clone(),
            chat: String::new(),
        };
        let found = api.messages().get_message(request).await?.into_inner();
        let status = found.message.map(|message| message.status);
        if status < Some(MessageStatus::Sent.into()) {
            left.push(format!("{} in status {status:?}", sent.message_id));
            break;
        }
    }
    Ok(left)
}
