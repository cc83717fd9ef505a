//! Who is who: what WhatsApp shows of people goes into the ledger of contacts.
//!
//! Owns what was entered lately, so that only news costs a write. Never waits for anything but the
//! database and never fails its caller: what is missed comes again with the next message.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;
use whatsapp_rust::{Jid, types::message::MessageInfo};

use super::convert::{label, rows};
use crate::{
    events,
    proto::v1::{self, event::Payload},
    storage::{
        InstanceRow, NewEvent, Storage,
        contact::{ContactNews, ContactRow, Sighting},
    },
};

/// Names remembered; beyond it all are forgotten and learnt anew.
const REMEMBERED: usize = 4_096;

/// The contacts of one instance; clones are the same.
#[derive(Clone)]
pub struct Contacts {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    /// By number or hidden identity.
    entered: Arc<Mutex<HashMap<String, Entered>>>,
}

/// What was entered last of somebody.
#[derive(Default)]
struct Entered {
    other: String,
    name: String,
    met: bool,
}

impl Contacts {
    pub(super) fn new(storage: Arc<dyn Storage>, instance: watch::Receiver<InstanceRow>) -> Self {
        Self {
            storage,
            instance,
            entered: Arc::default(),
        }
    }

    /// Enters what is new of these.
    pub(super) async fn see(&self, mut sightings: Vec<Sighting>) {
        sightings.retain(|one| self.is_news(one));
        if sightings.is_empty() {
            return;
        }
        let row = self.instance.borrow().clone();
        let told = row.clone();
        let learnt = self.storage.learn_contacts(
            row.number,
            sightings.clone(),
            Box::new(move |news| vec![event(&told, news)]),
        );
        match learnt.await {
            Ok(()) => sightings.into_iter().for_each(|one| self.remember(one)),
            Err(error) => tracing::warn!(
                instance = %row.number, %error,
                "contacts can't be stored; they come again"
            ),
        }
    }

    fn is_news(&self, seen: &Sighting) -> bool {
        let entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        let knows = |name: &str, other: &str| {
            name.is_empty()
                || entered.get(name).is_some_and(|entered| {
                    (other.is_empty() || entered.other == other)
                        && (seen.name.is_empty() || entered.name == seen.name)
                        && (entered.met || !seen.met)
                })
        };
        !(knows(&seen.lid, &seen.phone_number) && knows(&seen.phone_number, &seen.lid))
    }

    fn remember(&self, seen: Sighting) {
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        if entered.len() >= REMEMBERED {
            entered.clear();
        }
        let names = [
            (seen.lid.clone(), seen.phone_number.clone()),
            (seen.phone_number, seen.lid),
        ];
        for (name, other) in names {
            if name.is_empty() {
                continue;
            }
            let entered = entered.entry(name).or_default();
            if !other.is_empty() {
                entered.other = other;
            }
            if !seen.name.is_empty() {
                entered.name.clone_from(&seen.name);
            }
            entered.met |= seen.met;
        }
    }
}

fn event(instance: &InstanceRow, news: &ContactNews) -> NewEvent {
    let shown = |row| Some(rows::contact(instance, row));
    let (payload, time, dedupe_key) = match news {
        ContactNews::Created { contact, time } => {
            let payload = Payload::ContactCreated(v1::ContactCreated {
                contact: shown(contact),
            });
            (payload, *time, format!("contact.created/{}", contact.id))
        }
        ContactNews::Updated { before, after } => {
            let payload = Payload::ContactUpdated(v1::ContactUpdated {
                changed_fields: changed_fields(before, after),
                before: shown(before),
                after: shown(after),
            });
            (payload, after.update_time, String::new())
        }
        ContactNews::Merged { kept, gone } => {
            let payload = Payload::ContactMerged(v1::ContactMerged {
                contact: shown(kept),
                merged_contact_id: gone.to_string(),
            });
            (payload, kept.update_time, format!("contact.merged/{gone}"))
        }
    };
    events::compose(instance, payload, time, &dedupe_key)
}

/// In the words of the contract.
fn changed_fields(before: &ContactRow, after: &ContactRow) -> Vec<String> {
    let number = before.phone_number != after.phone_number;
    let changed = [
        ("jid", number),
        ("lid", before.lid != after.lid),
        ("phone_number", number),
        ("name", before.name != after.name),
    ];
    let names = changed.into_iter().filter(|(_, changed)| *changed);
    names.map(|(name, _)| name.to_owned()).collect()
}

/// What a message shows of its sender, and of the other side of its chat.
pub(super) fn of_message(info: &MessageInfo) -> Vec<Sighting> {
    let source = &info.source;
    let time: SystemTime = info.timestamp.into();
    if !source.is_from_me {
        let names = [Some(&source.sender), source.sender_alt.as_ref()];
        return vec![met(names, label(&info.push_name).into_owned(), time)];
    }
    // Of itself the account learns nothing; but the phone may have written to somebody.
    let names = [Some(&source.chat), source.recipient_alt.as_ref()];
    vec![met(names, String::new(), time)]
}

/// Somebody who is written to.
pub(super) fn of_recipient(to: &Jid, other: Option<&Jid>) -> Sighting {
    met([Some(to), other], String::new(), SystemTime::now())
}

fn met(names: [Option<&Jid>; 2], name: String, time: SystemTime) -> Sighting {
    let user = |wanted: fn(&Jid) -> bool| {
        let mut names = names.into_iter().flatten();
        let found = names.find(|jid| wanted(jid));
        found.map_or(String::new(), |jid| jid.user.to_string())
    };
    Sighting {
        lid: user(Jid::is_lid),
        phone_number: user(Jid::is_pn),
        name,
        source: "message".to_owned(),
        time,
        met: true,
    }
}

/// Somebody who was seen by the names of a party.
pub(super) fn of_party(party: &v1::Party, source: &str, time: SystemTime) -> Sighting {
    let lid = party.lid.split('@').next().unwrap_or_default();
    Sighting {
        lid: lid.to_owned(),
        phone_number: party.phone_number.clone(),
        name: party.name.clone(),
        source: source.to_owned(),
        time,
        met: true,
    }
}

/// A pair that the library has learnt.
pub(super) fn of_pair(lid: &str, phone_number: &str, source: &str, seconds: i64) -> Sighting {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Sighting {
        lid: lid.to_owned(),
        phone_number: phone_number.to_owned(),
        name: String::new(),
        source: source.to_owned(),
        time: UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH),
        met: false,
    }
}
