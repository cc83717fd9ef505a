//! JIDs, and the people and chats they stand for.
//!
//! One person has two names, a number (`…@s.whatsapp.net`) and a hidden identity (`…@lid`). WhatsApp
//! uses either; a number is never derived from a hidden identity.

use std::collections::HashMap;

use whatsapp_rust::{Jid, wacore_binary::JidExt as _};

use super::label;
use crate::proto::v1;

/// The account of an instance, by both names.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// `…@s.whatsapp.net`, without a device.
    pub number: Option<Jid>,
    /// `…@lid`, without a device.
    pub lid: Option<Jid>,
    /// Its own display name.
    pub push_name: String,
}

impl Account {
    /// Whether the JID is the account, by either name and on any of its devices.
    pub fn is(&self, jid: &Jid) -> bool {
        let jid = jid.to_non_ad();
        self.number.as_ref() == Some(&jid) || self.lid.as_ref() == Some(&jid)
    }

    /// The account as the writer of a message.
    pub fn party(&self) -> v1::Party {
        party([self.number.as_ref(), self.lid.as_ref()], &self.push_name)
    }
}

/// Which two names are those of one person, as far as known.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<Jid, Jid>);

impl Names {
    /// These two are one.
    pub fn pair(&mut self, one: &Jid, other: &Jid) {
        self.0.insert(one.to_non_ad(), other.to_non_ad());
        self.0.insert(other.to_non_ad(), one.to_non_ad());
    }

    /// The other name of somebody.
    pub fn other(&self, jid: &Jid) -> Option<&Jid> {
        self.0.get(&jid.to_non_ad())
    }

    /// The person with this JID.
    pub fn party(&self, jid: &Jid, name: &str) -> v1::Party {
        party([Some(jid), self.other(jid)], name)
    }
}

/// Whether two parties are one person, by either name.
pub fn is_same(one: &v1::Party, other: &v1::Party) -> bool {
    (!one.lid.is_empty() && one.lid == other.lid) || (!one.jid.is_empty() && one.jid == other.jid)
}

/// The person behind these JIDs, whichever name each is.
pub fn party(jids: [Option<&Jid>; 2], name: &str) -> v1::Party {
    let mut party = v1::Party {
        name: label(name).into_owned(),
        ..Default::default()
    };
    for jid in jids.into_iter().flatten() {
        if jid.is_pn() {
            party.phone_number = jid.user.as_str().to_owned();
            party.jid = jid.to_non_ad_string();
        } else if jid.is_lid() {
            party.lid = jid.to_non_ad_string();
        }
    }
    party
}

/// The chat with this JID; of a direct one, also by the other name where it is known.
pub fn chat(jid: &Jid, other: Option<&Jid>, name: &str) -> v1::Chat {
    let kind = if jid.is_pn() || jid.is_lid() {
        v1::ChatKind::Direct
    } else if jid.is_group() {
        v1::ChatKind::Group
    } else if jid.is_newsletter() {
        v1::ChatKind::Newsletter
    } else {
        v1::ChatKind::Broadcast
    };
    if kind != v1::ChatKind::Direct {
        return v1::Chat {
            id: jid.to_non_ad_string(),
            kind: kind.into(),
            party: None,
        };
    }
    let party = party([Some(jid), other], name);
    v1::Chat {
        id: if party.jid.is_empty() {
            party.lid.clone()
        } else {
            party.jid.clone()
        },
        kind: kind.into(),
        party: Some(party),
    }
}
