//! Why WhatsApp does not take what the account's devices are to share.

use std::time::Duration;

use whatsapp_rust::{IqError, features::AppStateError};

use crate::wa::error::WaError;

/// How long to leave WhatsApp alone where it does not say.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the library ends when every try was outrun. It has no type of its own.
const OUTRUN: &str = "still conflicting";

/// Why the app state can't be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppStateFault {
    /// The phone has not shared its keys.
    #[error("the phone has not yet shared the keys of what the account's devices share")]
    KeysMissing,
    /// Others were always faster.
    #[error("other devices of the account kept changing the same thing")]
    Conflict,
    /// WhatsApp refused it.
    #[error("WhatsApp refused what the account's devices were to share")]
    Refused {
        /// With this code, if it gave one.
        code: Option<u16>,
    },
    /// WhatsApp wants fewer requests.
    #[error("WhatsApp wants fewer requests from the account")]
    RateLimited(Duration),
}

/// What the library's error is to a caller.
pub(super) fn explain(error: AppStateError) -> WaError {
    let cause = match &error {
        AppStateError::Internal(cause) => cause,
        AppStateError::InvalidRequest(_) => {
            return WaError::AppState(AppStateFault::KeysMissing);
        }
        _ => return WaError::Timeout(error.to_string()),
    };
    let text = format!("{cause:#}");
    match cause.downcast_ref::<IqError>() {
        Some(IqError::ServerError {
            code: 429, backoff, ..
        }) => {
            let patience = backoff.map(|seconds| Duration::from_secs(seconds.into()));
            WaError::AppState(AppStateFault::RateLimited(patience.unwrap_or(PATIENCE)))
        }
        Some(IqError::ServerError { code, .. }) if *code < 500 => {
            WaError::AppState(AppStateFault::Refused { code: Some(*code) })
        }
        Some(_) => WaError::Timeout(text),
        None if text.contains(OUTRUN) => WaError::AppState(AppStateFault::Conflict),
        None if text.contains("rejected") => {
            tracing::warn!(error = text, "WhatsApp refused a patch of the app state");
            WaError::AppState(AppStateFault::Refused { code: None })
        }
        None => WaError::Timeout(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(error: AppStateError) -> Option<AppStateFault> {
        match explain(error) {
            WaError::AppState(fault) => Some(fault),
            WaError::Timeout(_) => None,
            other => panic!("{other:?}"),
        }
    }

    fn answered(code: u16) -> AppStateError {
        let error = IqError::ServerError {
            code,
            text: "no".to_owned(),
            error_type: None,
            backoff: None,
        };
        AppStateError::Internal(error.into())
    }

    #[test]
    fn refusals_are_told_from_silence() {
        let refused = |code| Some(AppStateFault::Refused { code });
        assert_eq!(fault(answered(403)), refused(Some(403)));
        assert_eq!(
            fault(answered(429)),
            Some(AppStateFault::RateLimited(PATIENCE))
        );
        assert_eq!(fault(answered(503)), None);
        let silent = AppStateError::Internal(IqError::Timeout.into());
        assert_eq!(fault(silent), None);
        let no_key = AppStateError::InvalidRequest("no app state sync key available".to_owned());
        assert_eq!(fault(no_key), Some(AppStateFault::KeysMissing));
    }

    #[test]
    fn the_librarys_own_words_are_known() {
        let words = |text: &'static str| AppStateError::Internal(anyhow::anyhow!(text));
        let outrun = "app-state patch for regular_high still conflicting after 5 attempts";
        assert_eq!(fault(words(outrun)), Some(AppStateFault::Conflict));
        let rejected = "app-state patch for regular_high rejected: fatal error 400: bad";
        assert_eq!(
            fault(words(rejected)),
            Some(AppStateFault::Refused { code: None })
        );
        assert_eq!(fault(words("the database is locked")), None);
    }
}
