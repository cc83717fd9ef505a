//! Ids. Each is its own type, so that one can't be passed where another is meant.

use std::fmt;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// An instance's small number: key of its rows, device number of integer-keyed consumers. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceNumber(pub u32);

impl fmt::Display for InstanceNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// An instance's public id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InstanceId(pub Uuid);

impl InstanceId {
    /// A new one, later than all before.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// An event's id, the same at every delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(pub Uuid);

impl EventId {
    /// A new one, later than all before.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A contact's public id, in the order of their creation. One that was merged into another means that
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactId(pub Uuid);

impl ContactId {
    /// A new one, later than all before.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for ContactId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A media's id: the handle by which its bytes are sent, read and linked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaId(pub Uuid);

impl MediaId {
    /// A new one. Random: a link that holds it gives nothing away about others.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// That of the file which a message brings: the same whenever WhatsApp delivers the message.
    pub fn of_message(instance: InstanceNumber, chat: &str, sender: &str, message: &str) -> Self {
        let name = format!("media\n{instance}\n{chat}\n{sender}\n{message}");
        let digest: [u8; 32] = Sha256::digest(name).into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A mailing list's public id, in the order of their creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub Uuid);

impl QueueId {
    /// A new one, later than all before.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id in this text, if it has the shape of one.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// An instance's unique name: 1–63 of a–z, 0–9, `-`, `_`, starting with a letter or digit, and not
/// looking like an id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceName(String);

impl InstanceName {
    /// The name, or why it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let first = text.bytes().next().ok_or("must not be empty")?;
        if text.len() > 63 {
            return Err("must have at most 63 characters");
        }
        if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
            return Err("must start with a letter a-z or a digit");
        }
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !text.bytes().all(legal) {
            return Err("may hold only a-z, 0-9, '-' and '_'");
        }
        if Uuid::try_parse(text).is_ok() {
            return Err("must not look like an id");
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// An API key's public id: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiKeyId(String);

impl ApiKeyId {
    /// Stands for wagate itself, for what it does once without being called.
    pub fn of_wagate() -> Self {
        Self("0".repeat(16))
    }

    /// The id, if it has the shape of one.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 16 && text.bytes().all(legal)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
