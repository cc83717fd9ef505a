//! The kinds of events, their names in the contract and how long they live.

/// How long an event is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// As long as the log's age and size allow.
    Full,
    /// An hour: worthless or secret afterwards.
    Short,
}

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// `connection.updated`
    ConnectionUpdated,
    /// `connection.pairing`
    ConnectionPairing,
    /// `connection.pairing_timeout`
    ConnectionPairingTimeout,
    /// `instance.created`
    InstanceCreated,
    /// `instance.updated`
    InstanceUpdated,
    /// `instance.deleted`
    InstanceDeleted,
    /// `message.received`
    MessageReceived,
    /// `message.sent`
    MessageSent,
    /// `message.status`
    MessageStatus,
    /// `message.updated`
    MessageUpdated,
    /// `message.deleted`
    MessageDeleted,
    /// `message.undecryptable`
    MessageUndecryptable,
    /// `group.created`
    GroupCreated,
    /// `group.updated`
    GroupUpdated,
    /// `group.participants_updated`
    GroupParticipantsUpdated,
    /// `group.join_requests_updated`
    GroupJoinRequestsUpdated,
    /// `call.updated`
    CallUpdated,
    /// `error.reported`
    ErrorReported,
    /// `contact.created`
    ContactCreated,
    /// `contact.updated`
    ContactUpdated,
    /// `contact.merged`
    ContactMerged,
    /// `media.updated`
    MediaUpdated,
    /// `payment.requested`
    PaymentRequested,
    /// `payment.declined`
    PaymentDeclined,
    /// `payment.cancelled`
    PaymentCancelled,
    /// `payment.sent`
    PaymentSent,
    /// `send.started`
    SendStarted,
    /// `send.progress`
    SendProgress,
    /// `send.failed`
    SendFailed,
    /// `send.completed`
    SendCompleted,
    /// `queue.paused`
    QueuePaused,
    /// `queue.resumed`
    QueueResumed,
    /// `queue.updated`
    QueueUpdated,
    /// `queue.deleted`
    QueueDeleted,
    /// `unmapped`
    Unmapped,
}

impl EventType {
    /// All there are.
    pub const EVERY: [Self; 35] = [
        Self::ConnectionUpdated,
        Self::ConnectionPairing,
        Self::ConnectionPairingTimeout,
        Self::InstanceCreated,
        Self::InstanceUpdated,
        Self::InstanceDeleted,
        Self::MessageReceived,
        Self::MessageSent,
        Self::MessageStatus,
        Self::MessageUpdated,
        Self::MessageDeleted,
        Self::MessageUndecryptable,
        Self::GroupCreated,
        Self::GroupUpdated,
        Self::GroupParticipantsUpdated,
        Self::GroupJoinRequestsUpdated,
        Self::CallUpdated,
        Self::ErrorReported,
        Self::ContactCreated,
        Self::ContactUpdated,
        Self::ContactMerged,
        Self::MediaUpdated,
        Self::PaymentRequested,
        Self::PaymentDeclined,
        Self::PaymentCancelled,
        Self::PaymentSent,
        Self::SendStarted,
        Self::SendProgress,
        Self::SendFailed,
        Self::SendCompleted,
        Self::QueuePaused,
        Self::QueueResumed,
        Self::QueueUpdated,
        Self::QueueDeleted,
        Self::Unmapped,
    ];

    /// Its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionUpdated => "connection.updated",
            Self::ConnectionPairing => "connection.pairing",
            Self::ConnectionPairingTimeout => "connection.pairing_timeout",
            Self::InstanceCreated => "instance.created",
            Self::InstanceUpdated => "instance.updated",
            Self::InstanceDeleted => "instance.deleted",
            Self::MessageReceived => "message.received",
            Self::MessageSent => "message.sent",
            Self::MessageStatus => "message.status",
            Self::MessageUpdated => "message.updated",
            Self::MessageDeleted => "message.deleted",
            Self::MessageUndecryptable => "message.undecryptable",
            Self::GroupCreated => "group.created",
            Self::GroupUpdated => "group.updated",
            Self::GroupParticipantsUpdated => "group.participants_updated",
            Self::GroupJoinRequestsUpdated => "group.join_requests_updated",
            Self::CallUpdated => "call.updated",
            Self::ErrorReported => "error.reported",
            Self::ContactCreated => "contact.created",
            Self::ContactUpdated => "contact.updated",
            Self::ContactMerged => "contact.merged",
            Self::MediaUpdated => "media.updated",
            Self::PaymentRequested => "payment.requested",
            Self::PaymentDeclined => "payment.declined",
            Self::PaymentCancelled => "payment.cancelled",
            Self::PaymentSent => "payment.sent",
            Self::SendStarted => "send.started",
            Self::SendProgress => "send.progress",
            Self::SendFailed => "send.failed",
            Self::SendCompleted => "send.completed",
            Self::QueuePaused => "queue.paused",
            Self::QueueResumed => "queue.resumed",
            Self::QueueUpdated => "queue.updated",
            Self::QueueDeleted => "queue.deleted",
            Self::Unmapped => "unmapped",
        }
    }

    /// How long it is kept.
    pub fn retention(self) -> Retention {
        match self {
            Self::ConnectionPairing => Retention::Short,
            _ => Retention::Full,
        }
    }

    /// The types that a caller's pattern names: a type, or a prefix with a star such as `message.*`
    /// (or `*` alone). Empty where it names none.
    pub fn matching(pattern: &str) -> Vec<Self> {
        let names = |one: &Self| match pattern.strip_suffix('*') {
            Some(prefix) => {
                (prefix.is_empty() || prefix.ends_with('.')) && one.as_str().starts_with(prefix)
            }
            None => one.as_str() == pattern,
        };
        Self::EVERY.into_iter().filter(names).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_type_or_a_family() {
        assert_eq!(
            EventType::matching("message.sent"),
            [EventType::MessageSent]
        );
        assert_eq!(EventType::matching("message.*").len(), 6);
        assert_eq!(EventType::matching("*").len(), EventType::EVERY.len());
        assert!(EventType::matching("message").is_empty());
        assert!(EventType::matching("mess*").is_empty());
        assert!(EventType::matching("").is_empty());
    }
}
