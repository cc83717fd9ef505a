//! Who a recipient is at WhatsApp.
//!
//! Owns the numbers that were asked about. Never guesses: a number is the account that WhatsApp
//! answers for it, and a number is never derived from a hidden identity.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;
use whatsapp_rust::{Client, Jid};

use super::{
    convert::ids::{Names, party},
    error::WaError,
};
use crate::{domain::recipient::Recipient, proto::v1};

/// Resolved numbers that are remembered.
const NUMBERS_KNOWN: usize = 10_000;

/// How long WhatsApp may take to say who a number is.
const RESOLVE_TIME: Duration = Duration::from_secs(20);

/// Numbers of one question.
const NUMBERS_AT_ONCE: usize = 256;

/// Questions at once about numbers that were answered by other ones.
const ALONE_AT_ONCE: usize = 4;

/// Whom a recipient turned out to be.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// What to write to: the number where it is known.
    pub(super) to: Jid,
    /// The other name, where it is known.
    pub(super) other: Option<Jid>,
}

impl Address {
    /// The person, by both names as far as known.
    pub(super) fn party(&self) -> v1::Party {
        party([Some(&self.to), self.other.as_ref()], "")
    }

    /// One name of it, the same whichever it was given by: the number where it is known.
    pub(super) fn person(&self) -> String {
        let names = [Some(&self.to), self.other.as_ref()].into_iter().flatten();
        let number = names.clone().find(|jid| jid.is_pn());
        number.unwrap_or(&self.to).to_string()
    }

    /// The hidden identity, where it is known.
    pub(super) fn lid(&self) -> Option<&Jid> {
        [Some(&self.to), self.other.as_ref()]
            .into_iter()
            .flatten()
            .find(|jid| jid.is_lid())
    }
}

/// Accounts of numbers, as WhatsApp answered.
#[derive(Default)]
pub(super) struct Addresses {
    numbers: Mutex<HashMap<String, Address>>,
}

impl Addresses {
    fn numbers(&self) -> MutexGuard<'_, HashMap<String, Address>> {
        // What is inside is whole after every statement, so a panic elsewhere does not spoil it.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks WhatsApp which account a recipient is; remembers the answer.
    pub(super) async fn resolve(
        &self,
        client: &Client,
        recipient: &Recipient,
    ) -> Result<Address, WaError> {
        let number = match recipient {
            Recipient::Number(number) => number,
            Recipient::Lid(user) => return Ok(hidden(client, user).await),
            Recipient::Group(user) => {
                return Ok(Address {
                    to: Jid::group(user.as_str()),
                    other: None,
                });
            }
        };
        if let Some(known) = self.numbers().get(number) {
            return Ok(known.clone());
        }
        let found = ask(client, &[Jid::pn(number.as_str())])
            .await?
            .into_iter()
            .find(|one| one.registered)
            .ok_or(WaError::NotOnWhatsApp)?;
        self.learn(number, &found.address);
        Ok(found.address)
    }

    /// The same for many people at once; `None` is somebody whom WhatsApp does not know.
    pub(super) async fn resolve_all(
        &self,
        client: &Client,
        recipients: &[Recipient],
    ) -> Result<Vec<Option<Address>>, WaError> {
        let unknown: Vec<Jid> = {
            let known = self.numbers();
            let numbers = recipients.iter().filter_map(|one| match one {
                Recipient::Number(number) if !known.contains_key(number) => Some(number),
                _ => None,
            });
            numbers.map(|number| Jid::pn(number.as_str())).collect()
        };
        let mut missing = HashSet::new();
        for some in unknown.chunks(NUMBERS_AT_ONCE) {
            for found in ask(client, some).await? {
                let number = found.address.to.user.to_string();
                if found.registered {
                    self.learn(&number, &found.address);
                } else {
                    missing.insert(number);
                }
            }
        }
        // A number that was answered by another one, like that with a ninth digit, is asked alone.
        let alone: Vec<_> = recipients
            .iter()
            .map(|one| self.resolve_unless(client, one, &missing))
            .collect();
        stream::iter(alone)
            .buffered(ALONE_AT_ONCE)
            .try_collect()
            .await
    }

    async fn resolve_unless(
        &self,
        client: &Client,
        recipient: &Recipient,
        missing: &HashSet<String>,
    ) -> Result<Option<Address>, WaError> {
        if matches!(recipient, Recipient::Number(number) if missing.contains(number)) {
            return Ok(None);
        }
        match self.resolve(client, recipient).await {
            Ok(address) => Ok(Some(address)),
            Err(WaError::NotOnWhatsApp) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn learn(&self, number: &str, address: &Address) {
        let mut numbers = self.numbers();
        if numbers.len() >= NUMBERS_KNOWN {
            numbers.clear();
        }
        numbers.insert(number.to_owned(), address.clone());
    }
}

struct Found {
    address: Address,
    registered: bool,
}

async fn ask(client: &Client, wanted: &[Jid]) -> Result<Vec<Found>, WaError> {
    let contacts = client.contacts();
    let asked = timeout(RESOLVE_TIME, contacts.is_on_whatsapp(wanted))
        .await
        .map_err(|_| WaError::Timeout("the number was not resolved".to_owned()))?
        .map_err(|error| WaError::Timeout(error.to_string()))?;
    let found = asked.into_iter().map(|found| {
        let (to, other) = if found.jid.is_lid() {
            match found.pn_jid {
                Some(number) => (number, Some(found.jid)),
                // Of one number alone it is known whom the answer means.
                None => match wanted {
                    [number] => (number.clone(), Some(found.jid)),
                    _ => (found.jid, None),
                },
            }
        } else {
            (found.jid, found.lid)
        };
        Found {
            address: Address {
                to: to.to_non_ad(),
                other: other.map(|jid| jid.to_non_ad()),
            },
            registered: found.is_registered,
        }
    });
    Ok(found.collect())
}

async fn hidden(client: &Client, user: &str) -> Address {
    let lid = Jid::lid(user);
    Address {
        other: other_name(client, &lid).await,
        to: lid,
    }
}

/// The other name of somebody, as far as the library has learnt it.
pub(super) async fn other_name(client: &Client, jid: &Jid) -> Option<Jid> {
    let known = client.get_lid_pn_entry(jid).await;
    let entry = known
        .inspect_err(|error| tracing::debug!(%error, "a name can't be looked up"))
        .ok()??;
    Some(if jid.is_lid() {
        Jid::pn(&*entry.phone_number)
    } else {
        Jid::lid(&*entry.lid)
    })
}

/// The other names of these people, as far as the library has learnt them.
pub(super) async fn other_names(client: &Client, jids: impl IntoIterator<Item = Jid>) -> Names {
    let mut names = Names::default();
    for jid in jids {
        let jid = jid.to_non_ad();
        if names.other(&jid).is_none()
            && let Some(other) = other_name(client, &jid).await
        {
            names.pair(&jid, &other);
        }
    }
    names
}
