//! What an API key may do.

use std::fmt;

/// One permission. Keys hold a list of them; `All` includes later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// `*`
    All,
    /// `instances:read`
    InstancesRead,
    /// `instances:write`
    InstancesWrite,
    /// `instances:pair`
    InstancesPair,
    /// `messages:read`
    MessagesRead,
    /// `messages:write`
    MessagesWrite,
    /// `media:read`
    MediaRead,
    /// `media:write`
    MediaWrite,
    /// `contacts:read`
    ContactsRead,
    /// `groups:read`
    GroupsRead,
    /// `groups:write`
    GroupsWrite,
    /// `calls:write`
    CallsWrite,
    /// `payments:read`
    PaymentsRead,
    /// `payments:write`
    PaymentsWrite,
    /// `events:read`
    EventsRead,
    /// `keys:write`
    KeysWrite,
    /// `sandbox:write`
    SandboxWrite,
}

impl Permission {
    /// All there are.
    pub const EVERY: [Self; 17] = [
        Self::All,
        Self::InstancesRead,
        Self::InstancesWrite,
        Self::InstancesPair,
        Self::MessagesRead,
        Self::MessagesWrite,
        Self::MediaRead,
        Self::MediaWrite,
        Self::ContactsRead,
        Self::GroupsRead,
        Self::GroupsWrite,
        Self::CallsWrite,
        Self::PaymentsRead,
        Self::PaymentsWrite,
        Self::EventsRead,
        Self::KeysWrite,
        Self::SandboxWrite,
    ];

    /// Its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::InstancesRead => "instances:read",
            Self::InstancesWrite => "instances:write",
            Self::InstancesPair => "instances:pair",
            Self::MessagesRead => "messages:read",
            Self::MessagesWrite => "messages:write",
            Self::MediaRead => "media:read",
            Self::MediaWrite => "media:write",
            Self::ContactsRead => "contacts:read",
            Self::GroupsRead => "groups:read",
            Self::GroupsWrite => "groups:write",
            Self::CallsWrite => "calls:write",
            Self::PaymentsRead => "payments:read",
            Self::PaymentsWrite => "payments:write",
            Self::EventsRead => "events:read",
            Self::KeysWrite => "keys:write",
            Self::SandboxWrite => "sandbox:write",
        }
    }

    /// The permission with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|one| one.as_str() == text)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
