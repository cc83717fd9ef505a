//! Why a command ended badly, as people and programs read it.

use std::{error::Error, io, process::ExitCode, time::Duration};

use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::format::plain;
use crate::config::ConfigError;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Why a command ended badly.
#[derive(Debug)]
pub enum Failure {
    /// The server said no.
    Refused(Box<Status>),
    /// The server can't be reached.
    Unreachable {
        /// Where it should be.
        endpoint: String,
        /// The deepest cause.
        cause: String,
    },
    /// An argument can't be used.
    Usage(String),
    /// The settings can't be used.
    Config(ConfigError),
    /// The terminal, a pipe or a file failed.
    Io(io::Error),
    /// It was all done right and came to nothing, such as a pairing that expired.
    Outcome(String),
    /// The server itself stopped on an error.
    Server(anyhow::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Server(error)
    }
}

impl Failure {
    /// The server can't be reached: keeps the deepest cause, which is the one that says something.
    pub fn unreachable(endpoint: &str, error: &(dyn Error + 'static)) -> Self {
        Self::Unreachable {
            endpoint: endpoint.to_owned(),
            cause: root(error).to_string(),
        }
    }

    /// Tells it on stderr, and what the process should exit with.
    pub fn report(&self, json: bool) -> ExitCode {
        // Whoever reads us has left: that is no failure, and there is nobody to tell.
        if let Self::Io(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        match json {
            true => eprintln!("{}", self.as_json()),
            false => eprintln!("{}", self.as_text()),
        }
        ExitCode::from(match self {
            Self::Usage(_) | Self::Config(_) => USAGE,
            _ => FAILED,
        })
    }

    fn as_text(&self) -> String {
        match self {
            Self::Refused(status) => status_text(status),
            Self::Unreachable { endpoint, cause } => format!(
                "error: can't reach {endpoint}: {cause}\n  \
                 Start a server with `wagate serve` or `wagate sandbox`, or name another with --endpoint."
            ),
            Self::Server(error) => format!("error: {error:#}"),
            other => format!("error: {}", other.message()),
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Self::Refused(status) => json!({ "error": status_json(status) }),
            other => json!({ "error": { "message": other.message() } }),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Refused(status) => status.message().to_owned(),
            Self::Unreachable { endpoint, cause } => format!("can't reach {endpoint}: {cause}"),
            Self::Usage(why) | Self::Outcome(why) => why.clone(),
            Self::Config(error) => format!("settings: {error}"),
            Self::Io(error) => error.to_string(),
            Self::Server(error) => format!("{error:#}"),
        }
    }
}

fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest
}

/// The reason word of an error that the server itself made.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// When the server wants to be asked again.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// What broke, in one line: the message, or the deepest cause where a transport only says "error".
pub fn one_line(status: &Status) -> String {
    match status.source() {
        Some(error) => root(error).to_string(),
        None => plain(status.message()),
    }
}

fn status_text(status: &Status) -> String {
    let mut text = format!("error: {}", one_line(status));
    let mut more = |line: String| {
        text.push_str("\n  ");
        text.push_str(&line);
    };
    let code = code_name(status.code());
    match status.get_details_error_info() {
        Some(info) => {
            more(format!("reason: {} ({code})", plain(&info.reason)));
            let mut metadata: Vec<_> = info.metadata.into_iter().collect();
            metadata.sort();
            for (key, value) in metadata {
                more(format!("{}: {}", plain(&key), plain(&value)));
            }
        }
        None => more(format!("code: {code}")),
    }
    for violation in violations(status) {
        more(format!(
            "field `{}`: {}",
            plain(&violation.field),
            plain(&violation.description)
        ));
    }
    if let Some(delay) = retry_after(status) {
        more(format!("try again in {:.1} s", delay.as_secs_f64()));
    }
    if let Some(info) = status.get_details_request_info() {
        more(format!("request id: {}", plain(&info.request_id)));
    }
    if let Some(hint) = reason(status).as_deref().and_then(hint) {
        more(hint.to_owned());
    }
    text
}

fn status_json(status: &Status) -> Value {
    let mut object = Map::new();
    object.insert("code".into(), json!(code_name(status.code())));
    object.insert("message".into(), json!(status.message()));
    if let Some(info) = status.get_details_error_info() {
        object.insert("reason".into(), json!(info.reason));
        object.insert("metadata".into(), json!(info.metadata));
    }
    let fields: Vec<Value> = violations(status)
        .into_iter()
        .map(|one| json!({ "field": one.field, "description": one.description }))
        .collect();
    if !fields.is_empty() {
        object.insert("fieldViolations".into(), Value::Array(fields));
    }
    if let Some(delay) = retry_after(status) {
        object.insert(
            "retryDelay".into(),
            json!(format!("{}s", delay.as_secs_f64())),
        );
    }
    Value::Object(object)
}

fn violations(status: &Status) -> Vec<tonic_types::FieldViolation> {
    status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default()
}

/// What to do next, where a command of ours does it.
fn hint(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "API_KEY_MISSING" | "API_KEY_INVALID" => {
            "Pass a key with WAGATE_API_KEY or --api-key. A server prints its first key once, when it \
             starts on an empty data folder; `wagate key create` makes more."
        }
        "INSTANCE_NOT_PAIRED" | "INSTANCE_LOGGED_OUT" => {
            "Link it to a phone with `wagate instance pair`."
        }
        "INSTANCE_DISCONNECTED" | "INSTANCE_REPLACED" => {
            "Open the connection with `wagate instance connect`."
        }
        "INSTANCE_ALREADY_PAIRED" => "End its session first with `wagate instance logout`.",
        "CURSOR_COMPACTED" | "CURSOR_EPOCH_MISMATCH" | "CURSOR_AHEAD_OF_LOG" => {
            "Go on at the earliest event that is kept with --on-gap skip."
        }
        _ => return None,
    })
}

/// The name of a code as the documentation of gRPC writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn refusal() -> Failure {
        let mut details = ErrorDetails::with_bad_request_violation("text", "must not be empty");
        details
            .set_error_info(
                "TEXT_EMPTY",
                "wagate",
                [("limit".to_owned(), "65536".to_owned())],
            )
            .set_retry_info(Some(Duration::from_millis(1_500)));
        Status::with_error_details(Code::InvalidArgument, "the text is empty", details).into()
    }

    #[test]
    fn people_read_all_that_the_server_said() {
        assert_eq!(
            refusal().as_text(),
            "error: the text is empty\n  reason: TEXT_EMPTY (INVALID_ARGUMENT)\n  limit: 65536\n  \
             field `text`: must not be empty\n  try again in 1.5 s"
        );
    }

    #[test]
    fn programs_do_too() {
        let expected = json!({ "error": {
            "code": "INVALID_ARGUMENT",
            "message": "the text is empty",
            "reason": "TEXT_EMPTY",
            "metadata": { "limit": "65536" },
            "fieldViolations": [{ "field": "text", "description": "must not be empty" }],
            "retryDelay": "1.5s",
        }});
        assert_eq!(refusal().as_json(), expected);
    }

    #[test]
    fn who_has_no_key_is_told_where_keys_come_from() {
        let details = ErrorDetails::with_error_info(
            "API_KEY_MISSING",
            "wagate",
            std::collections::HashMap::new(),
        );
        let status = Status::with_error_details(Code::Unauthenticated, "no API key", details);
        let text = Failure::from(status).as_text();
        assert!(text.contains("WAGATE_API_KEY"), "{text}");
        assert!(text.contains("wagate key create"), "{text}");
    }

    #[test]
    fn what_strangers_wrote_can_not_steer_the_terminal() {
        let text = Failure::from(Status::not_found("\u{1b}[2Jgone")).as_text();
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
