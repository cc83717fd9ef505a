//! Linking an instance to a phone: what to show, how long, and the one way it ends.
//!
//! Owns the steps of one pairing. Never talks to WhatsApp itself: the session feeds it.

use std::time::{Duration, SystemTime};

use tokio::{sync::mpsc, time::Instant};
use whatsapp_rust::wacore::pair_code::PairCodeRejection;

use crate::{
    events::timestamp,
    proto::v1::{self, event::Payload},
    storage::InstanceRow,
};

/// How long WhatsApp may take to send something to show.
const REACH_TIME: Duration = Duration::from_secs(30);

/// How long the caller waits for the session to open after the phone said yes.
const OPEN_TIME: Duration = Duration::from_secs(30);

/// How an instance is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairingMethod {
    /// The phone scans a QR.
    Qr,
    /// The phone with this number is told a code.
    Code(String),
}

impl PairingMethod {
    pub(super) fn phone_number(&self) -> Option<String> {
        match self {
            Self::Qr => None,
            Self::Code(number) => Some(number.clone()),
        }
    }
}

/// Why a pairing can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// The phone or WhatsApp rejected it.
    Rejected,
    /// WhatsApp demands a passkey.
    PasskeyRequired,
    /// Too many attempts.
    RateLimited,
    /// WhatsApp does not take the phone number.
    PhoneNumberRefused,
    /// The protocol version is refused.
    Outdated,
    /// WhatsApp could not be reached.
    Unreachable,
    /// Ended from our side.
    Cancelled,
}

impl RefusedReason {
    pub(super) fn of_code(rejection: Option<&PairCodeRejection>) -> Self {
        match rejection {
            Some(PairCodeRejection::RateOverlimit) => Self::RateLimited,
            // WhatsApp says the same for a number it does not take and for too many tries of one.
            Some(PairCodeRejection::BadRequest | PairCodeRejection::FeatureNotAvailable) => {
                Self::PhoneNumberRefused
            }
            Some(_) => Self::Rejected,
            None => Self::Unreachable,
        }
    }
}

/// One step of a pairing.
#[derive(Clone, Debug)]
pub enum PairStep {
    /// A QR to show.
    Qr {
        /// What it says.
        text: String,
        /// When the phone stops accepting it.
        expire_time: SystemTime,
    },
    /// A code to show.
    Code {
        /// Eight characters.
        code: String,
        /// When the phone stops accepting it.
        expire_time: SystemTime,
    },
    /// The end: it is linked.
    Paired(Box<InstanceRow>),
    /// The end: nobody scanned or typed in time.
    Expired,
    /// The end: it can't be, and why.
    Refused(RefusedReason, String),
}

impl PairStep {
    /// What the log says of it.
    pub(super) fn event(&self) -> Option<Payload> {
        let pairing = match self {
            Self::Qr { text, expire_time } => v1::ConnectionPairing {
                qr_text: text.clone(),
                pairing_code: String::new(),
                expire_time: Some(timestamp(*expire_time)),
            },
            Self::Code { code, expire_time } => v1::ConnectionPairing {
                qr_text: String::new(),
                pairing_code: code.clone(),
                expire_time: Some(timestamp(*expire_time)),
            },
            Self::Paired(_) | Self::Expired | Self::Refused(..) => return None,
        };
        Some(Payload::ConnectionPairing(pairing))
    }

    /// Why the instance is unpaired after it.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Expired => "nobody paired it in time".to_owned(),
            Self::Refused(_, detail) => format!("the pairing was refused: {detail}"),
            Self::Qr { .. } | Self::Code { .. } | Self::Paired(_) => String::new(),
        }
    }
}

/// How far a pairing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing to show yet.
    Reaching,
    /// Something is shown.
    Shown,
    /// The phone said yes.
    Accepted,
}

/// A running pairing.
pub(super) struct Pairing {
    method: PairingMethod,
    steps: mpsc::Sender<PairStep>,
    stage: Stage,
    ends: Instant,
}

impl Pairing {
    pub(super) fn new(method: PairingMethod, steps: mpsc::Sender<PairStep>) -> Self {
        Self {
            method,
            steps,
            stage: Stage::Reaching,
            ends: Instant::now() + REACH_TIME,
        }
    }

    /// When it ends by itself, and the caller, whose leaving ends it too.
    pub(super) fn ends(&self) -> (Instant, mpsc::Sender<PairStep>) {
        (self.ends, self.steps.clone())
    }

    pub(super) fn wants_qr(&self) -> bool {
        self.method == PairingMethod::Qr && self.stage != Stage::Accepted
    }

    /// Shows something to the caller.
    pub(super) fn shown(&mut self, step: PairStep) {
        let expire_time = match &step {
            PairStep::Qr { expire_time, .. } | PairStep::Code { expire_time, .. } => *expire_time,
            PairStep::Paired(_) | PairStep::Expired | PairStep::Refused(..) => return,
        };
        self.stage = Stage::Shown;
        let left = expire_time
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        // A QR is followed by the next; the last by the word that there are no more.
        let grace = match self.method {
            PairingMethod::Qr => REACH_TIME,
            PairingMethod::Code(_) => Duration::ZERO,
        };
        self.ends = Instant::now() + left + grace;
        // The channel holds more steps than a pairing has; a caller that is gone ends it anyway.
        self.steps.try_send(step).ok();
    }

    /// WhatsApp has nothing more to show.
    pub(super) fn expire(&mut self) {
        if self.stage != Stage::Accepted {
            self.stage = Stage::Shown;
            self.ends = Instant::now();
        }
    }

    /// The phone said yes.
    pub(super) fn accepted(&mut self) {
        self.stage = Stage::Accepted;
        self.ends = Instant::now() + OPEN_TIME;
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.stage == Stage::Accepted
    }

    /// How it ends where nothing more happens.
    pub(super) fn verdict(&self) -> PairStep {
        if self.steps.is_closed() {
            return PairStep::Refused(
                RefusedReason::Cancelled,
                "the caller closed the stream".to_owned(),
            );
        }
        match self.stage {
            Stage::Reaching => PairStep::Refused(
                RefusedReason::Unreachable,
                "WhatsApp could not be reached".to_owned(),
            ),
            Stage::Shown | Stage::Accepted => PairStep::Expired,
        }
    }

    /// The last step.
    pub(super) fn finish(self, step: PairStep) {
        self.steps.try_send(step).ok();
    }
}
