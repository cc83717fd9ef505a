//! The states of an instance and its legal moves.

use std::fmt;

/// What an instance is doing. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum SessionState {
    /// No credentials.
    Unpaired = 1,
    /// A pairing is running.
    Pairing = 2,
    /// Credentials, no session yet; retried with back-off.
    Connecting = 3,
    /// Logged in.
    Open = 4,
    /// Closed on request, credentials kept.
    Disconnected = 5,
    /// Another program uses the credentials.
    Replaced = 6,
    /// Banned, maybe until a known time.
    Banned = 7,
    /// The protocol version is refused.
    Outdated = 8,
    /// Ended by phone, WhatsApp or us; no credentials.
    LoggedOut = 9,
    /// The login was refused for another reason.
    Refused = 10,
}

impl SessionState {
    /// All there are.
    pub const EVERY: [Self; 10] = [
        Self::Unpaired,
        Self::Pairing,
        Self::Connecting,
        Self::Open,
        Self::Disconnected,
        Self::Replaced,
        Self::Banned,
        Self::Outdated,
        Self::LoggedOut,
        Self::Refused,
    ];

    /// The state with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::EVERY.into_iter().find(|one| *one as i32 == number)
    }

    /// Has credentials.
    pub fn is_paired(self) -> bool {
        !matches!(self, Self::Unpaired | Self::Pairing | Self::LoggedOut)
    }

    /// A client is at work, so a restart of wagate brings it back.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Connecting | Self::Open)
    }

    /// Whether an instance may go from here to there.
    pub fn may_become(self, next: Self) -> bool {
        use SessionState::*;
        match self {
            Unpaired | LoggedOut => matches!(next, Pairing),
            Pairing => matches!(next, Unpaired | Connecting | Open | LoggedOut),
            Connecting | Open => !matches!(next, Unpaired | Pairing) && self != next,
            Disconnected | Replaced | Banned | Outdated | Refused => {
                matches!(next, Connecting | LoggedOut)
            }
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unpaired => "unpaired",
            Self::Pairing => "pairing",
            Self::Connecting => "connecting",
            Self::Open => "open",
            Self::Disconnected => "disconnected",
            Self::Replaced => "replaced",
            Self::Banned => "banned",
            Self::Outdated => "outdated",
            Self::LoggedOut => "logged out",
            Self::Refused => "refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_becomes_itself_and_all_can_be_reached() {
        for state in SessionState::EVERY {
            assert!(!state.may_become(state), "{state}");
            assert_eq!(SessionState::from_number(state as i32), Some(state));
        }
        for goal in SessionState::EVERY {
            let from = SessionState::EVERY
                .into_iter()
                .any(|one| one.may_become(goal));
            assert!(from, "nothing becomes {goal}");
        }
    }

    #[test]
    fn only_a_pairing_gives_credentials() {
        for from in SessionState::EVERY {
            for to in SessionState::EVERY {
                if from.may_become(to) && to.is_paired() && !from.is_paired() {
                    assert_eq!(from, SessionState::Pairing);
                }
            }
        }
    }
}
