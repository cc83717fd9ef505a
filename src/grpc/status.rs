//! The only maker of `Status`.
//!
//! Owns which code belongs to which reason, and that every error carries its reason. Never lets a
//! driver's words out: they go to our log, inside the span that has the request id.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

mod media;

use super::groups::group_refused;
use crate::{
    auth::AuthError,
    domain::{
        event_type::EventType, ids::InstanceName, limits, permission::Permission,
        session::SessionState,
    },
    events::timestamp,
    proto::v1::{CallState, MessageStatus, PaymentState},
    storage::{InstanceRow, StorageError},
    wa::{AppStateFault, WaError},
};

pub use crate::proto::v1::ErrorReason as Reason;

/// Domain of every ErrorInfo.
pub const DOMAIN: &str = "wagate";

/// When to try again where nothing better is known.
pub(super) const RETRY_SOON: Duration = Duration::from_secs(1);

/// When the phone may have shared its keys.
const KEYS_COME: Duration = Duration::from_secs(10);

/// When to try again what needs others to go first.
const RETRY_LATER: Duration = Duration::from_secs(60);

/// An error on its way to a caller. `Status::from` or `.into()` finishes it.
#[derive(Debug)]
pub struct Refusal {
    reason: Reason,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<FieldViolation>,
    retry_after: Option<Duration>,
}

/// An error with this reason and one sentence that the caller can act on.
pub fn refuse(reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal {
        reason,
        message: message.into(),
        metadata: HashMap::new(),
        violations: Vec::new(),
        retry_after: None,
    }
}

impl Refusal {
    /// Adds a fact for programs.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Names a field of the request and what is wrong with it.
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(FieldViolation::new(path, description));
        self
    }

    /// Says when to try again.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details =
            ErrorDetails::with_error_info(name(refusal.reason), DOMAIN, refusal.metadata);
        if !refusal.violations.is_empty() {
            details.set_bad_request(refusal.violations);
        }
        if refusal.retry_after.is_some() {
            details.set_retry_info(refusal.retry_after);
        }
        Status::with_error_details(code(refusal.reason), refusal.message, details)
    }
}

/// The name of a reason as callers see it.
pub fn name(reason: Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The code that belongs to a reason. No wildcard: a new reason needs a decision.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::ApiKeyMissing | Reason::ApiKeyInvalid | Reason::CredentialRevoked => {
            Code::Unauthenticated
        }
        Reason::PermissionDenied => Code::PermissionDenied,
        Reason::FieldInvalid
        | Reason::PageTokenInvalid
        | Reason::RecipientInvalid
        | Reason::TextEmpty
        | Reason::TextTooLong
        | Reason::RequestIdReused
        | Reason::GroupIdInvalid
        | Reason::GroupSubjectInvalid
        | Reason::GroupDescriptionInvalid
        | Reason::ParticipantsTooMany
        | Reason::PictureInvalid
        | Reason::InviteInvalid
        | Reason::EventTypeUnknown
        | Reason::CursorInvalid
        | Reason::MediaTooLarge
        | Reason::MediaSizeMismatch
        | Reason::MediaHashMismatch
        | Reason::MediaTypeMismatch
        | Reason::MediaEmpty
        | Reason::UrlRefused => Code::InvalidArgument,
        Reason::InstanceNotFound
        | Reason::InstanceGone
        | Reason::MessageNotFound
        | Reason::GroupNotFound
        | Reason::EventNotFound
        | Reason::ContactNotFound
        | Reason::MediaNotFound
        | Reason::CallNotFound
        | Reason::PaymentNotFound
        | Reason::QueueNotFound
        | Reason::ApiKeyNotFound => Code::NotFound,
        Reason::InstanceNameTaken => Code::AlreadyExists,
        Reason::InstanceAlreadyPaired
        | Reason::InstanceNotPaired
        | Reason::PairingInProgress
        | Reason::InstanceDisconnected
        | Reason::InstanceLoggedOut
        | Reason::InstanceReplaced
        | Reason::InstanceBanned
        | Reason::InstanceOutdated
        | Reason::InstanceRefused
        | Reason::NetworkNotConfigured
        | Reason::RecipientNotOnWhatsapp
        | Reason::ApiKeyLastAdmin
        | Reason::StateConflict
        | Reason::MediaNotReady
        | Reason::UrlFailed
        | Reason::CallEnded
        | Reason::PaymentSettled
        | Reason::PaymentRoleRequired
        | Reason::QueueCompleted
        | Reason::GroupNotMember
        | Reason::GroupAdminRequired
        | Reason::InviteRevoked
        | Reason::GroupFull
        | Reason::GroupJoinRefused
        | Reason::GroupRefused
        | Reason::MessageNotChangeable
        | Reason::AppStateKeysMissing
        | Reason::AppStateRefused
        | Reason::SendLeft
        | Reason::SendMayHaveLeft
        | Reason::MessageRefused => Code::FailedPrecondition,
        Reason::CursorCompacted | Reason::CursorEpochMismatch | Reason::CursorAheadOfLog => {
            Code::OutOfRange
        }
        Reason::GroupChangedMeanwhile | Reason::AppStateConflict => Code::Aborted,
        Reason::SlowConsumer
        | Reason::StreamLimit
        | Reason::NewChatsHeld
        | Reason::QueuesTooMany
        | Reason::RateLimited
        | Reason::OutboxFull
        | Reason::WhatsappRateLimited => Code::ResourceExhausted,
        Reason::InstanceConnecting
        | Reason::ServerDraining
        | Reason::StorageUnavailable
        | Reason::MediaNotLeft
        | Reason::WhatsappTimeout => Code::Unavailable,
        Reason::Deadline => Code::DeadlineExceeded,
        Reason::TransferStalled => Code::Aborted,
        Reason::MethodUnknown | Reason::PaymentNotSendable => Code::Unimplemented,
        Reason::Unspecified | Reason::Internal => Code::Internal,
    }
}

impl From<StorageError> for Status {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(cause) => {
                tracing::error!(%cause, "the database can't be used now");
                refuse(
                    Reason::StorageUnavailable,
                    "the database can't be used now; try again",
                )
                .retry_after(RETRY_SOON)
                .into()
            }
            StorageError::Corrupt(cause) => {
                tracing::error!(%cause, "the database can't be understood");
                internal()
            }
        }
    }
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing => refuse(
                Reason::ApiKeyMissing,
                "the call has no API key: send it as `authorization: Bearer …`, `apikey` or `x-api-key`",
            )
            .into(),
            AuthError::Invalid => {
                refuse(Reason::ApiKeyInvalid, "no good API key has this secret").into()
            }
            AuthError::Storage(error) => error.into(),
        }
    }
}

impl From<WaError> for Status {
    fn from(error: WaError) -> Self {
        let sentence = error.to_string();
        match error {
            WaError::InstanceNotFound => refuse(
                Reason::InstanceNotFound,
                "the instance was deleted meanwhile",
            )
            .into(),
            WaError::NameTaken(name) => instance_name_taken(&name),
            WaError::RequestReused(fields) => request_id_reused(&fields),
            WaError::NetworkNotConfigured(network) => {
                refuse(Reason::NetworkNotConfigured, sentence)
                    .with("network", network)
                    .into()
            }
            WaError::AlreadyPaired => refuse(Reason::InstanceAlreadyPaired, sentence)
                .field("instance", "must not be paired yet")
                .into(),
            WaError::PairingInProgress => refuse(Reason::PairingInProgress, sentence)
                .field("instance", "must not be pairing already")
                .into(),
            WaError::NotOpen(row) => not_open(&row).unwrap_or_else(|| {
                refuse(Reason::StateConflict, sentence)
                    .with("state", row.state)
                    .field("instance", "must be in a state that allows this")
                    .into()
            }),
            WaError::NotOnWhatsApp => refuse(Reason::RecipientNotOnWhatsapp, sentence)
                .field("recipient", "must be the number of a WhatsApp account")
                .into(),
            WaError::MessageRefused(code) => refuse(Reason::MessageRefused, sentence)
                .with("code", code)
                .into(),
            WaError::TextTooLong => text_too_long("text.text", sentence, limits::TEXT_CHARS),
            WaError::NothingToQuote => refuse(Reason::MessageNotFound, sentence)
                .field(
                    "quoted_message_id",
                    "must be the id of a message of the instance",
                )
                .into(),
            WaError::TextEmpty => refuse(Reason::TextEmpty, sentence)
                .field("text", "must not be empty")
                .into(),
            WaError::CaptionTooLong => text_too_long("text", sentence, limits::CAPTION_CHARS),
            WaError::NoSuchMessage(field) => refuse(Reason::MessageNotFound, sentence)
                .field(field, "must be the id of a message of the chat")
                .into(),
            WaError::Unchangeable(why) => refuse(Reason::MessageNotChangeable, sentence)
                .field("message_id", format!("must be of another message: {why}"))
                .into(),
            WaError::NoChoice { field, why } => field_invalid(field, why),
            WaError::NobodyToMention(_) => refuse(Reason::RecipientNotOnWhatsapp, sentence)
                .field("mentions.mentioned", "must name WhatsApp accounts")
                .into(),
            WaError::NewChatsHeld { until, .. } => {
                let wait = until
                    .duration_since(SystemTime::now())
                    .unwrap_or(RETRY_SOON);
                refuse(Reason::NewChatsHeld, sentence)
                    .with("until", rfc3339(until).unwrap_or_default())
                    .field("recipient", "must have written to the account")
                    .retry_after(wait)
                    .into()
            }
            WaError::TurnIsOver | WaError::TurnComesTwice => {
                tracing::error!("a turn of a mailing list was asked for by a caller");
                internal()
            }
            WaError::QueueNotFound => refuse(Reason::QueueNotFound, sentence)
                .field("queue_id", "must be the id of a mailing list")
                .into(),
            WaError::QueueCompleted => refuse(Reason::QueueCompleted, sentence)
                .field(
                    "queue_id",
                    "must be the id of a mailing list that is not done",
                )
                .into(),
            WaError::TooManyQueues => refuse(Reason::QueuesTooMany, sentence)
                .with("limit", limits::QUEUES_OPEN)
                .into(),
            WaError::CallNotFound => refuse(Reason::CallNotFound, sentence)
                .field("call_id", "must be the id of a call from call.updated")
                .into(),
            WaError::CallEnded(state) => refuse(Reason::CallEnded, sentence)
                .with("state", call_state(state))
                .field("call_id", "must be the id of a call that rings")
                .into(),
            WaError::AppState(fault) => app_state_refused(fault),
            WaError::PaymentNotFound => payment_not_found(),
            WaError::PaymentSettled(state) => refuse(Reason::PaymentSettled, sentence)
                .with("state", payment_state(state))
                .field(
                    "payment_id",
                    "must be the id of a payment in state REQUESTED",
                )
                .into(),
            WaError::PaymentRole(role) => refuse(Reason::PaymentRoleRequired, sentence)
                .with("role", role)
                .field(
                    "payment_id",
                    format!("must be of a payment whose {role} is the account"),
                )
                .into(),
            WaError::PayerUnknown => refuse(Reason::RecipientNotOnWhatsapp, sentence)
                .field("payer", "must be the number of a WhatsApp account")
                .into(),
            WaError::SendLeft(status) => refuse(Reason::SendLeft, sentence)
                .with("status", message_status(status))
                .field("message_id", "must be of a message that has not left")
                .into(),
            WaError::SendMayHaveLeft => refuse(Reason::SendMayHaveLeft, sentence)
                .field("message_id", "must be of a message that has not left")
                .into(),
            WaError::OutboxFull => refuse(Reason::OutboxFull, sentence)
                .with("limit", limits::WAITING_SENDS)
                .retry_after(RETRY_LATER)
                .into(),
            WaError::Group(refusal) => group_refused(refusal),
            WaError::File { kind, error } => media::of_message(kind, error),
            WaError::Media(error) => error.into(),
            WaError::NotLeft { status, cause } => {
                tracing::warn!(cause, "a file was not taken by WhatsApp's media hosts");
                let refusal = refuse(Reason::MediaNotLeft, sentence).retry_after(RETRY_SOON);
                match status {
                    Some(status) => refusal.with("http_status", status).into(),
                    None => refusal.into(),
                }
            }
            WaError::Timeout(cause) => {
                tracing::warn!(cause, "WhatsApp did not answer");
                refuse(
                    Reason::WhatsappTimeout,
                    "WhatsApp did not answer in time; try again",
                )
                .retry_after(RETRY_SOON)
                .into()
            }
            WaError::ShuttingDown => draining(RETRY_SOON),
            WaError::Storage(error) => error.into(),
        }
    }
}

/// Why what the account's devices share stays as it is.
fn app_state_refused(fault: AppStateFault) -> Status {
    let sentence = fault.to_string();
    match fault {
        AppStateFault::KeysMissing => {
            refuse(Reason::AppStateKeysMissing, sentence).retry_after(KEYS_COME)
        }
        AppStateFault::Conflict => refuse(Reason::AppStateConflict, sentence),
        AppStateFault::Refused { code: None } => refuse(Reason::AppStateRefused, sentence),
        AppStateFault::Refused { code: Some(code) } => {
            refuse(Reason::AppStateRefused, sentence).with("code", code)
        }
        AppStateFault::RateLimited(patience) => {
            refuse(Reason::WhatsappRateLimited, sentence).retry_after(patience)
        }
    }
    .into()
}

/// The name of a state as callers see it.
fn call_state(state: CallState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("CALL_STATE_").unwrap_or(name)
}

fn payment_state(state: PaymentState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("PAYMENT_STATE_").unwrap_or(name)
}

/// No request for money has this id.
pub(super) fn payment_not_found() -> Status {
    refuse(
        Reason::PaymentNotFound,
        "the instance knows no request for money with this id",
    )
    .field("payment_id", "must be the id of a payment of the instance")
    .into()
}

/// The name of a status as callers see it.
fn message_status(number: i32) -> &'static str {
    let name = MessageStatus::try_from(number)
        .unwrap_or_default()
        .as_str_name();
    name.strip_prefix("MESSAGE_STATUS_").unwrap_or(name)
}

/// A text has more characters than WhatsApp takes. `field` names it in the request.
pub(super) fn text_too_long(field: &str, sentence: String, limit: usize) -> Status {
    refuse(Reason::TextTooLong, sentence)
        .with("limit", limit)
        .field(field, format!("must have at most {limit} characters"))
        .into()
}

/// The same error of a message that is a part of this field.
pub(super) fn inside(field: &str, status: &Status) -> Status {
    let mut details = status.get_error_details();
    if let Some(mut bad) = details.bad_request().cloned() {
        for violation in &mut bad.field_violations {
            violation.field = format!("{field}.{}", violation.field);
        }
        details.set_bad_request(bad.field_violations);
    }
    Status::with_error_details(status.code(), status.message(), details)
}

/// A fault of ours. Whoever finds one logs it.
pub fn internal() -> Status {
    refuse(
        Reason::Internal,
        "a fault of the server; its log has the details under the request id",
    )
    .into()
}

/// A field is missing, malformed or out of its range.
pub fn field_invalid(field: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    refuse(Reason::FieldInvalid, format!("{field} {description}"))
        .field(field, description)
        .into()
}

/// The key lacks a permission.
pub fn permission_denied(permission: Permission) -> Status {
    refuse(
        Reason::PermissionDenied,
        format!("the API key lacks the permission {permission}"),
    )
    .with("permission", permission)
    .into()
}

/// The page token is not one of ours.
pub fn page_token_invalid() -> Status {
    refuse(
        Reason::PageTokenInvalid,
        "page_token is not one that this call handed out",
    )
    .field(
        "page_token",
        "must be the next_page_token of the page before",
    )
    .into()
}

/// The server is leaving.
pub fn draining(retry_after: Duration) -> Status {
    refuse(Reason::ServerDraining, "the server is shutting down")
        .retry_after(retry_after)
        .into()
}

/// The key was revoked while its call was open, or can't be asked about any more.
pub fn revoked(asked: Result<(), StorageError>) -> Status {
    match asked {
        Ok(()) => refuse(
            Reason::CredentialRevoked,
            "the API key was revoked while the call was open",
        )
        .into(),
        Err(error) => error.into(),
    }
}

/// The key calls more often than it may.
pub fn rate_limited(wait: Duration) -> Status {
    refuse(
        Reason::RateLimited,
        "the API key calls more often than the server allows; wait and try again",
    )
    .retry_after(wait)
    .into()
}

/// The deadline of the call has passed.
pub fn deadline() -> Status {
    refuse(Reason::Deadline, "the deadline of the call has passed").into()
}

/// No such method.
pub fn method_unknown(path: &str) -> Status {
    refuse(
        Reason::MethodUnknown,
        format!("the server knows no method {path}"),
    )
    .into()
}

/// No such event type; `field` is the path of the pattern.
pub fn event_type_unknown(field: &str, pattern: &str) -> Status {
    let valid = EventType::EVERY.map(EventType::as_str).join(", ");
    refuse(
        Reason::EventTypeUnknown,
        format!("{field}: there is no event type {pattern:?}"),
    )
    .field(
        field,
        format!("must be a type or a prefix with a star, such as message.*; the types are {valid}"),
    )
    .into()
}

/// No instance has this id or name, or the key must not know it; `field` names it in the request.
pub fn instance_not_found(field: &str, instance: &str) -> Status {
    refuse(
        Reason::InstanceNotFound,
        format!("no instance has the id or name {instance:?}"),
    )
    .with("instance", instance)
    .field(field, "must be the id or name of an instance")
    .into()
}

/// Another instance has this name.
pub fn instance_name_taken(name: &InstanceName) -> Status {
    refuse(
        Reason::InstanceNameTaken,
        format!("another instance has the name {:?}", name.as_str()),
    )
    .with("instance", name)
    .field("name", "must be unique")
    .into()
}

/// The same request id came with another body, which differs in these fields.
pub fn request_id_reused(fields: &[String]) -> Status {
    let mut sentence = "this request_id was used within 24 hours with another body".to_owned();
    if !fields.is_empty() {
        sentence = format!("{sentence}, which differs in: {}", fields.join(", "));
    }
    let mut refusal = refuse(Reason::RequestIdReused, sentence)
        .with("fields", fields.join(","))
        .field("request_id", "must be new for a new request");
    for field in fields {
        refusal = refusal.field(field, "is not the same as in the first request");
    }
    refusal.into()
}

/// Why an instance in this state can't talk to WhatsApp; `None` where it can.
pub fn not_open(instance: &InstanceRow) -> Option<Status> {
    let name = instance.name.as_str();
    let refusal = match instance.state {
        SessionState::Open => return None,
        SessionState::Unpaired | SessionState::Pairing => refuse(
            Reason::InstanceNotPaired,
            format!("instance {name} is not paired; pair it first"),
        ),
        SessionState::Connecting => refuse(
            Reason::InstanceConnecting,
            format!("instance {name} is connecting; try again"),
        )
        .retry_after(RETRY_SOON),
        SessionState::Disconnected => refuse(
            Reason::InstanceDisconnected,
            format!("instance {name} is disconnected; connect it first"),
        ),
        SessionState::Replaced => refuse(
            Reason::InstanceReplaced,
            format!("another program took over instance {name}; connect it to take it back"),
        ),
        SessionState::Banned => {
            let refusal = refuse(
                Reason::InstanceBanned,
                format!("WhatsApp banned the account of instance {name}"),
            );
            match instance.banned_until.and_then(rfc3339) {
                Some(until) => refusal.with("banned_until", until),
                None => refusal,
            }
        }
        SessionState::Outdated => refuse(
            Reason::InstanceOutdated,
            "WhatsApp refuses this protocol version; upgrade wagate",
        ),
        SessionState::LoggedOut => refuse(
            Reason::InstanceLoggedOut,
            format!("instance {name} was logged out; pair it again"),
        ),
        SessionState::Refused => refuse(
            Reason::InstanceRefused,
            match instance.state_reason.as_str() {
                "" => format!("WhatsApp refused the login of instance {name}"),
                why => format!("WhatsApp refused the login of instance {name}: {why}"),
            },
        ),
    };
    Some(
        refusal
            .field("instance", "must be in a state that allows this")
            .into(),
    )
}

fn rfc3339(time: std::time::SystemTime) -> Option<String> {
    match serde_json::to_value(timestamp(time)) {
        Ok(serde_json::Value::String(text)) => Some(text),
        _ => None,
    }
}

/// What tonic says by itself, in our words: it knows no reasons. `None` where it is not tonic that
/// speaks.
pub(super) fn explained(bare: &Status, path: &str) -> Option<Status> {
    if bare.code() == Code::Unimplemented && bare.message().is_empty() {
        return Some(method_unknown(path));
    }
    // Services of others, such as health, answer without a reason of ours; ours never do.
    if !path.starts_with("/wagate.v1.") {
        return None;
    }
    let refusal = match bare.code() {
        // The method exists, so it is the encoding of the request that is not known.
        Code::Unimplemented => refuse(
            Reason::FieldInvalid,
            "the request is compressed by a method that the server does not know; it knows gzip",
        )
        .field("grpc-encoding", "must be gzip or identity"),
        Code::Internal => refuse(
            Reason::FieldInvalid,
            "the request is not a message that this method takes",
        ),
        Code::OutOfRange | Code::ResourceExhausted => refuse(
            Reason::FieldInvalid,
            "the request is larger than the server accepts",
        ),
        _ => return None,
    };
    Some(refusal.into())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{domain::ids::InstanceNumber, grpc::fake};

    #[test]
    fn an_error_carries_what_was_said() {
        let status: Status = refuse(Reason::SlowConsumer, "too slow")
            .with("last_sent_cursor", "c")
            .field("batch", "is odd")
            .retry_after(Duration::from_secs(2))
            .into();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("SLOW_CONSUMER", "wagate")
        );
        assert_eq!(info.metadata["last_sent_cursor"], "c");
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            "batch"
        );
        assert_eq!(
            details.retry_info().unwrap().retry_delay,
            Some(Duration::from_secs(2))
        );
    }

    #[test]
    fn every_reason_has_the_shape_that_callers_rely_on() {
        let reasons = (1..1_000).filter_map(|number| Reason::try_from(number).ok());
        assert!(reasons.clone().count() > 60);
        for reason in reasons {
            let name = name(reason);
            assert!(name.len() <= 63 && !name.starts_with("ERROR_REASON"));
            assert_ne!(code(reason), Code::Ok);
        }
    }

    #[test]
    fn what_a_driver_says_stays_here() {
        let status = Status::from(StorageError::Corrupt(anyhow::anyhow!("table secrets")));
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("table secrets"));
    }

    #[test]
    fn only_an_open_instance_talks() {
        for state in SessionState::EVERY {
            let row = InstanceRow {
                state,
                banned_until: Some(UNIX_EPOCH),
                ..fake::instance(InstanceNumber(1))
            };
            let refused = not_open(&row);
            assert_eq!(refused.is_none(), state == SessionState::Open, "{state}");
            let info = refused.map(|status| status.get_error_details());
            if state == SessionState::Banned {
                let info = info.unwrap();
                let until = &info.error_info().unwrap().metadata["banned_until"];
                assert!(until.starts_with("1970-01-01T00:00:00"), "{until}");
            }
        }
    }
}
