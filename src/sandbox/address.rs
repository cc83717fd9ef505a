//! Who is who on the network: numbers, hidden identities, devices, and the JIDs they appear as.
//!
//! Owns the one place where a JID becomes an account and an account a JID. Never edits JIDs as text elsewhere.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use wacore_binary::{Jid, Server};

/// A phone number, digits only: what an account is known by for life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Number(u64);

/// The hidden identity of an account (the user part of `…@lid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lid(u64);

/// One device of an account. Device 0 is the phone itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceAddress {
    /// The account.
    pub number: Number,
    /// The device of it.
    pub device: u16,
}

/// The two names an account goes by on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// `…@s.whatsapp.net`
    Number,
    /// `…@lid`
    Lid,
}

impl Number {
    /// A login by this number means "not registered yet": how a client that pins the sandbox's key asks to pair.
    pub const PLACEHOLDER: Number = Number(10_000_000_000);

    /// The number as digits.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The user as the wire knows it by number.
    pub fn jid(self) -> Jid {
        Jid::pn(self.to_string())
    }

    /// A device of this account.
    pub const fn device(self, device: u16) -> DeviceAddress {
        DeviceAddress {
            number: self,
            device,
        }
    }
}

impl From<u64> for Number {
    fn from(digits: u64) -> Self {
        Self(digits)
    }
}

impl Lid {
    /// The user as the wire knows it by hidden identity.
    pub fn jid(self) -> Jid {
        Jid::lid(self.to_string())
    }
}

impl From<u64> for Lid {
    fn from(digits: u64) -> Self {
        Self(digits)
    }
}

impl DeviceAddress {
    /// Where stanzas of connections that are not paired yet are logged and matched.
    pub const UNREGISTERED: DeviceAddress = Number::PLACEHOLDER.device(0);

    /// True for the phone of the account.
    pub fn is_phone(self) -> bool {
        self.device == 0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Lid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `15550001111:2`, the form used as key in the store and in the control API.
impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.device)
    }
}

/// Text that is no phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a phone number of 5 to 15 digits")]
pub struct InvalidNumber;

impl FromStr for Number {
    type Err = InvalidNumber;

    /// Takes `15550001111`, `+15550001111` and `15550001111@s.whatsapp.net`.
    fn from_str(text: &str) -> Result<Self, InvalidNumber> {
        let text = text.trim();
        let text = text.strip_suffix("@s.whatsapp.net").unwrap_or(text);
        let digits = text.strip_prefix('+').unwrap_or(text);
        let plausible = (5..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(number) if plausible => Ok(Self(number)),
            _ => Err(InvalidNumber),
        }
    }
}

/// A user named by a JID, before anybody looked whether it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Named by number.
    Number(Number),
    /// Named by hidden identity.
    Lid(Lid),
}

impl User {
    /// The user a JID names; `None` for groups, channels, broadcasts and the server itself.
    pub fn of(jid: &Jid) -> Option<Self> {
        let digits = jid.user_base().parse().ok()?;
        match jid.server {
            Server::Pn | Server::Legacy => Some(Self::Number(Number(digits))),
            Server::Lid => Some(Self::Lid(Lid(digits))),
            _ => None,
        }
    }

    /// Which of its two names was used.
    pub fn namespace(self) -> Namespace {
        match self {
            Self::Number(_) => Namespace::Number,
            Self::Lid(_) => Namespace::Lid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_the_forms_people_write() {
        for text in [
            "15550001111",
            "+15550001111",
            " 15550001111@s.whatsapp.net ",
        ] {
            assert_eq!(text.parse(), Ok(Number(15_550_001_111)), "{text}");
        }
        for text in [
            "",
            "abc",
            "123",
            "0555000111",
            "1555 000 1111",
            "1555000111122233",
        ] {
            assert_eq!(text.parse::<Number>(), Err(InvalidNumber), "{text}");
        }
    }

    #[test]
    fn a_device_is_named_in_both_namespaces() {
        let jid: Jid = "15550001111:3@s.whatsapp.net".parse().unwrap();
        assert_eq!(User::of(&jid), Some(User::Number(Number(15_550_001_111))));
        let jid: Jid = "900001:3@lid".parse().unwrap();
        assert_eq!(User::of(&jid), Some(User::Lid(Lid(900_001))));
        let group: Jid = "120363000000000000@g.us".parse().unwrap();
        assert_eq!(User::of(&group), None);
    }
}
