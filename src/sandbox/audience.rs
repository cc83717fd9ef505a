//! For whom a message is that is encrypted once for many: a group, or all who see what an account posts as its status.

use std::{fmt, str::FromStr};

use wacore_binary::{Jid, JidExt as _};

use super::group::{GroupId, InvalidGroupId};

/// The name under which what concerns statuses is kept.
const STATUS: &str = "status";

/// Many who get one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// The members of a group.
    Group(GroupId),
    /// Whoever may see the statuses of an account.
    Status,
}

impl Audience {
    /// What the wire calls it.
    pub fn jid(self) -> Jid {
        match self {
            Self::Group(group) => group.jid(),
            Self::Status => Jid::status_broadcast(),
        }
    }

    /// The audience a JID names; `None` for a person.
    pub fn of(jid: &Jid) -> Option<Self> {
        if jid.is_status_broadcast() {
            return Some(Self::Status);
        }
        GroupId::of(jid).map(Self::Group)
    }

    /// The group, if it is one.
    pub fn group(self) -> Option<GroupId> {
        match self {
            Self::Group(group) => Some(group),
            Self::Status => None,
        }
    }
}

impl From<GroupId> for Audience {
    fn from(group: GroupId) -> Self {
        Self::Group(group)
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => group.fmt(f),
            Self::Status => f.write_str(STATUS),
        }
    }
}

impl FromStr for Audience {
    type Err = InvalidGroupId;

    fn from_str(text: &str) -> Result<Self, InvalidGroupId> {
        match text {
            STATUS => Ok(Self::Status),
            group => group.parse().map(Self::Group),
        }
    }
}
