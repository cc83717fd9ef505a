//! The verdict over a round: what phones and callers said against the log and the phones' screens.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use wagate::proto::v1::{
    ChatKind, MessageStatus, MessageStatusUpdated, event::Payload, message_content::Content,
};

use crate::{
    ledger::{Inbound, Ledger, Outbound, Recipient},
    people::Account,
    tally::Tally,
    watch::Log,
    wire::Wire,
};

/// How many messages may have readers whose question was never answered: one for so many deaths.
const DEATHS_PER_UNANSWERED: u64 = 10;

/// What the audit carries from round to round.
#[derive(Default)]
pub struct Carried {
    /// Newest instance_sequence by instance.
    sequences: HashMap<String, u64>,
}

/// Compares; complaints go to the ledger, numbers to the tally.
pub fn audit(
    log: &Log,
    accounts: &[Account],
    wire: &Wire,
    ledger: &Ledger,
    carried: &mut Carried,
    tally: &mut Tally,
) {
    check_sequences(log, ledger, carried);
    let mut unanswered = HashSet::new();
    check_inbound(log, accounts, wire, ledger, (&mut *tally, &mut unanswered));
    check_outbound(log, accounts, wire, ledger, (&mut *tally, &mut unanswered));
    tally.unanswered += unanswered.len() as u64;
    let deaths = tally.kills
        + tally
            .points
            .values()
            .map(|(at, short)| at + short)
            .sum::<u64>();
    if tally.unanswered > deaths / DEATHS_PER_UNANSWERED {
        ledger.complain(format!(
            "{} messages were asked for again in vain, too many for {deaths} deaths",
            tally.unanswered
        ));
    }
    for event in log.events() {
        tally.events += 1;
        match &event.payload {
            Some(Payload::MessageUndecryptable(_)) => tally.unreadable += 1,
            Some(Payload::Unmapped(unmapped)) => {
                ledger.complain(format!("an unmapped event: {}", unmapped.name));
            }
            Some(Payload::ErrorReported(error)) => {
                ledger.complain(format!(
                    "wagate reported {}: {}",
                    error.reason, error.detail
                ));
            }
            _ => {}
        }
    }
}

/// No hole in any instance's numbers.
fn check_sequences(log: &Log, ledger: &Ledger, carried: &mut Carried) {
    for event in log.events() {
        let last = carried.sequences.entry(event.instance.clone()).or_default();
        if event.instance_sequence != *last + 1 {
            ledger.complain(format!(
                "the events of an instance go from {last} to {}",
                event.instance_sequence
            ));
        }
        *last = event.instance_sequence;
    }
}

/// Everything that was sent to an instance is in its log once, in the order of its sender.
fn check_inbound(
    log: &Log,
    accounts: &[Account],
    wire: &Wire,
    ledger: &Ledger,
    (tally, unanswered): (&mut Tally, &mut HashSet<String>),
) {
    let mut received: HashMap<(&str, &str), u32> = HashMap::new();
    let mut texts: HashMap<(&str, &str), Vec<(&str, &str)>> = HashMap::new();
    for event in log.events() {
        if let Some(Payload::MessageReceived(told)) = &event.payload
            && let Some(message) = &told.message
        {
            *received.entry((&event.instance, &message.id)).or_default() += 1;
            let sender = message
                .sender
                .as_ref()
                .map_or("", |party| &party.phone_number);
            let kind = message.chat.as_ref().map(|chat| chat.kind());
            if kind == Some(ChatKind::Direct) {
                texts
                    .entry((&event.instance, sender))
                    .or_default()
                    .push((&message.id, text_of(message.content.as_ref())));
            }
        }
    }
    let books = ledger.books();
    let mut complaints = Vec::new();
    // What one instance sent to another is as much a message as what a phone sent.
    let between = books.outbound.iter().flat_map(|sent| {
        let accounts = accounts.iter().enumerate();
        let readers = accounts.filter(|(_, account)| sent.readers.contains(&account.number));
        readers.map(|(reader, _)| (reader, &sent.message_id))
    });
    let from_phones = books
        .inbound
        .iter()
        .map(|sent| (sent.instance, &sent.message_id));
    let answered_for: HashSet<&String> = books.outbound.iter().map(|one| &one.message_id).collect();
    for (instance, id) in from_phones.chain(between) {
        let key = (instance, id.clone());
        let (acked, handed) = wire.with(|notes| {
            let handed = notes.handed.get(&key).copied().unwrap_or_default();
            (notes.acked.contains(&key), handed)
        });
        tally.inbound += 1;
        tally.acked += u64::from(acked);
        tally.handed_again += u64::from(handed.saturating_sub(1));
        match received.remove(&(&*accounts[instance].id, &**id)) {
            Some(1) => {}
            Some(times) => complaints.push(format!(
                "the message {id} is {times} times in the log of {}",
                accounts[instance].name
            )),
            // A gateway's own message that it was asked for again, and died.
            None if answered_for.contains(id)
                && wire.with(|notes| notes.asked_again.contains(&key)) =>
            {
                unanswered.insert(id.clone());
            }
            None => complaints.push(format!(
                "the message {id} is not in the log of {}; acknowledged: {acked}, delivered: {handed}; \
                 its trail:\n     {}",
                accounts[instance].name,
                wire.with(|notes| notes.trail(instance, &id))
            )),
        }
    }
    for ((_, id), _) in received {
        complaints.push(format!("the log holds a message {id} that nobody sent"));
    }
    let mut sent: BTreeMap<(usize, String), Vec<&str>> = BTreeMap::new();
    // What had to be asked for again comes late, and in a group anybody may lack a key.
    let late = wire.with(|notes| notes.asked_again.clone());
    let is_late = |instance: usize, id: &str| late.contains(&(instance, id.to_owned()));
    let in_time = |one: &&Inbound| !one.in_group && !is_late(one.instance, &one.message_id);
    for one in books.inbound.iter().filter(in_time) {
        let key = (one.instance, one.phone.to_string());
        sent.entry(key).or_default().push(&one.text);
    }
    for ((instance, phone), wanted) in sent {
        let found = texts.get(&(&*accounts[instance].id, &*phone));
        let found = found.into_iter().flatten();
        let found: Vec<&str> = found
            .filter(|(id, _)| !is_late(instance, id))
            .map(|(_, text)| *text)
            .collect();
        if found.len() == wanted.len() && found != wanted {
            let at = found
                .iter()
                .zip(&wanted)
                .position(|(one, other)| one != other);
            complaints.push(format!(
                "the texts of {phone} to {} are out of order from {at:?}",
                accounts[instance].name
            ));
        }
    }
    drop(books);
    for complaint in complaints {
        ledger.complain(complaint);
    }
}

/// Everything that was accepted went out once, under one id, and says so.
fn check_outbound(
    log: &Log,
    accounts: &[Account],
    wire: &Wire,
    ledger: &Ledger,
    (tally, unanswered): (&mut Tally, &mut HashSet<String>),
) {
    let mut told: HashMap<(&str, &str), u32> = HashMap::new();
    let mut statuses: HashMap<(&str, &str), Vec<&MessageStatusUpdated>> = HashMap::new();
    for event in log.events() {
        match &event.payload {
            Some(Payload::MessageSent(sent)) => {
                if let Some(message) = &sent.message {
                    *told.entry((&event.instance, &message.id)).or_default() += 1;
                }
            }
            Some(Payload::MessageStatus(update)) => statuses
                .entry((&event.instance, &update.message_id))
                .or_default()
                .push(update),
            _ => {}
        }
    }
    let books = ledger.books();
    let mut complaints = Vec::new();
    let mut ids_of: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    let mut times_seen: HashMap<(String, &str), u32> = HashMap::new();
    for seen in &books.seen {
        ids_of
            .entry(&seen.text)
            .or_default()
            .insert(&seen.message_id);
        *times_seen
            .entry((seen.by.to_string(), &seen.message_id))
            .or_default() += 1;
    }
    for sent in &books.outbound {
        tally.outbound += 1;
        let instance = &accounts[sent.instance];
        let id = &*sent.message_id;
        let key = (&*instance.id, id);
        match told.remove(&key) {
            Some(1) => {}
            times => complaints.push(format!(
                "{id} of {} is told as sent {} times",
                instance.name,
                times.unwrap_or_default()
            )),
        }
        let statuses = statuses.remove(&key).unwrap_or_default();
        complaints.extend(check_statuses(sent, &statuses));
        let mut every = statuses.iter().map(|update| update.status());
        let received = every.any(|status| status >= MessageStatus::Received);
        tally.receipts += u64::from(received);
        let asked = wire.with(|notes| notes.asked_back.contains(id));
        for reader in &sent.readers {
            match times_seen.get(&(reader.to_string(), id)) {
                Some(1) => {}
                None if asked => {
                    unanswered.insert(id.to_owned());
                }
                times => complaints.push(format!(
                    "{id} was seen {} times by {reader}",
                    times.copied().unwrap_or_default(),
                )),
            }
        }
        let ids = ids_of.get(&*sent.text);
        let unseen = ids.is_none() && asked;
        if !unseen && ids.is_none_or(|ids| ids.len() != 1) {
            complaints.push(format!("{:?} was seen under the ids {ids:?}", sent.text));
        }
    }
    for ((_, id), _) in told {
        complaints.push(format!("{id} was told as sent, and no caller sent it"));
    }
    // A text that appeared although its caller was never told so is still one text, one id.
    for (text, ids) in ids_of {
        if ids.len() != 1 {
            complaints.push(format!("{text:?} was seen under the ids {ids:?}"));
        }
    }
    for ((by, id), times) in times_seen {
        if times != 1 {
            complaints.push(format!("{id} was seen {times} times by {by}"));
        }
    }
    drop(books);
    for complaint in complaints {
        ledger.complain(complaint);
    }
}

/// Statuses begin with PENDING and only rise: those of a message to a group for every participant.
fn check_statuses(sent: &Outbound, statuses: &[&MessageStatusUpdated]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut of: BTreeMap<&str, Vec<MessageStatus>> = BTreeMap::new();
    for update in statuses {
        let party = match (&update.party, sent.to) {
            (Some(party), Recipient::Group(_)) if party.jid.is_empty() => &*party.lid,
            (Some(party), Recipient::Group(_)) => &*party.jid,
            _ => "",
        };
        of.entry(party).or_default().push(update.status());
    }
    let id = &sent.message_id;
    for (party, statuses) in of {
        if !statuses.is_sorted_by(|one, next| one < next) {
            complaints.push(format!(
                "the status of {id} for {party:?} did not only rise: {statuses:?}"
            ));
        }
    }
    let statuses: Vec<_> = statuses.iter().map(|update| update.status()).collect();
    if statuses.first() != Some(&MessageStatus::Pending) || statuses.contains(&MessageStatus::Error)
    {
        complaints.push(format!("the statuses of {id} are {statuses:?}"));
    }
    complaints
}

fn text_of(content: Option<&wagate::proto::v1::MessageContent>) -> &str {
    match content.and_then(|content| content.content.as_ref()) {
        Some(Content::Text(text)) => &text.text,
        _ => "",
    }
}
