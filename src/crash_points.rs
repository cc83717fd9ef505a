//! Moments at which a debug build can be told to die, so that a test can kill it exactly there.
//!
//! Owns the names of these moments and the count-down. A release build has nothing of it: passing a
//! moment is an empty function there, and neither the names nor the way to arm one are compiled.

/// A moment that a crash must not hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// It is stored how far Signal sessions have come; what was decrypted on the way may not be.
    RatchetStored,
    /// A message was decrypted; it is not stored yet.
    HookBeforeCommit,
    /// A message is stored; WhatsApp has not heard so yet.
    HookAfterCommit,
    /// A message to send has its id and is stored; nothing was written to the socket.
    SendAccepted,
    /// A message was written to the socket; nobody has heard what became of it.
    SendWritten,
    /// WhatsApp told what became of a message; it is not stored yet.
    StatusTold,
    /// A frame of events was handed to the connection; others of the same events wait.
    FrameHandedOver,
}

impl CrashPoint {
    /// The process is at this moment now: dies here if it was told to.
    #[inline(always)]
    pub fn pass(self) {
        #[cfg(debug_assertions)]
        armed::pass(self);
    }
}

#[cfg(debug_assertions)]
pub use armed::{ArmError, arm};

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    use super::CrashPoint;

    /// The moment to die at, and how many more times it may pass.
    static ARMED: OnceLock<(CrashPoint, AtomicU32)> = OnceLock::new();

    /// Why no moment could be armed.
    #[derive(Debug, thiserror::Error)]
    #[error("'{0}' is no crash point: it must look like send_accepted:3")]
    pub struct ArmError(String);

    impl CrashPoint {
        /// All there are.
        pub const EVERY: [Self; 7] = [
            Self::RatchetStored,
            Self::HookBeforeCommit,
            Self::HookAfterCommit,
            Self::SendAccepted,
            Self::SendWritten,
            Self::StatusTold,
            Self::FrameHandedOver,
        ];

        /// What it is called in `WAGATE_CRASH_POINT`.
        pub fn name(self) -> &'static str {
            match self {
                Self::RatchetStored => "ratchet_stored",
                Self::HookBeforeCommit => "hook_before_commit",
                Self::HookAfterCommit => "hook_after_commit",
                Self::SendAccepted => "send_accepted",
                Self::SendWritten => "send_written",
                Self::StatusTold => "status_told",
                Self::FrameHandedOver => "frame_handed_over",
            }
        }
    }

    /// Tells the process to die at a moment: `name:count`, where count 1 is the first time.
    pub fn arm(wanted: &str) -> Result<(), ArmError> {
        let parsed = parse(wanted).ok_or_else(|| ArmError(wanted.to_owned()))?;
        // Armed once, at start; a second wish would find the first.
        ARMED.get_or_init(|| (parsed.0, AtomicU32::new(parsed.1)));
        Ok(())
    }

    fn parse(wanted: &str) -> Option<(CrashPoint, u32)> {
        let (name, count) = wanted.split_once(':')?;
        let point = CrashPoint::EVERY
            .into_iter()
            .find(|point| point.name() == name)?;
        let count = count.parse().ok().filter(|count| *count > 0)?;
        Some((point, count))
    }

    pub(super) fn pass(point: CrashPoint) {
        if let Some((armed, left)) = ARMED.get()
            && *armed == point
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // As abrupt as SIGKILL: nothing is dropped, flushed or said.
            std::process::abort();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_a_known_name_with_a_count_is_armed() {
            for point in CrashPoint::EVERY {
                let wanted = format!("{}:7", point.name());
                assert_eq!(parse(&wanted), Some((point, 7)));
            }
            for wrong in [
                "",
                "send_accepted",
                "send_accepted:0",
                "send_accepted:x",
                "nowhere:1",
            ] {
                assert_eq!(parse(wrong), None, "{wrong}");
                assert!(arm(wrong).is_err());
            }
        }
    }
}
