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
        InstanceRow, Storage,
        contact::{ContactMerge, Sighting},
    },
};

/// Names remembered; beyond it all are forgotten and learnt anew.
const REMEMBERED: usize = 4_096;

/// The contacts of one instance; clones are the same.
#[derive(Clone)]
pub struct Contacts {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    /// By number or hidden identity: the other name and the display name entered last.
    entered: Arc<Mutex<HashMap<String, (String, String)>>>,
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
            Box::new(move |merge| vec![merged(&told, merge)]),
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
                || entered.get(name).is_some_and(|(known, shown)| {
                    (other.is_empty() || known == other)
                        && (seen.name.is_empty() || *shown == seen.name)
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
            let (known, shown) = entered.entry(name).or_default();
            if !other.is_empty() {
                *known = other;
            }
            if !seen.name.is_empty() {
                shown.clone_from(&seen.name);
            }
        }
    }
}

fn merged(instance: &InstanceRow, merge: &ContactMerge) -> crate::storage::NewEvent {
    let payload = Payload::ContactMerged(v1::ContactMerged {
        contact: Some(rows::contact(instance, &merge.kept)),
        merged_contact_id: merge.gone.to_string(),
    });
    let dedupe_key = format!("contact.merged/{}", merge.gone);
    events::compose(instance, payload, merge.kept.update_time, &dedupe_key)
}

/// What a message shows of its sender, and of the other side of its chat.
pub(super) fn of_message(info: &MessageInfo) -> Vec<Sighting> {
    let source = &info.source;
    let time: SystemTime = info.timestamp.into();
    let seen = |one: Option<&Jid>, other: Option<&Jid>, name: &str| {
        let mut sighting = Sighting {
            lid: String::new(),
            phone_number: String::new(),
            name: label(name).into_owned(),
            source: "message".to_owned(),
            time,
        };
        for jid in [one, other].into_iter().flatten() {
            if jid.is_lid() {
                sighting.lid = jid.user.to_string();
            } else if jid.is_pn() {
                sighting.phone_number = jid.user.to_string();
            }
        }
        sighting
    };
    let sender = seen(
        Some(&source.sender),
        source.sender_alt.as_ref(),
        &info.push_name,
    );
    if !source.is_from_me {
        return vec![sender];
    }
    // Of itself the account learns nothing; but the phone may have written to somebody.
    vec![seen(Some(&source.chat), source.recipient_alt.as_ref(), "")]
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
    }
}
