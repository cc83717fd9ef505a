//! Accounts that may write only to those they have exchanged messages with, for a while: what WhatsApp does to one
//! that writes to many strangers.
//!
//! Decides who may write to whom and says until when. A restart of the network forgets it.

use std::time::Duration;

use super::{
    address::Number,
    error::SandboxError,
    model::Account,
    network::State,
    wire::{self, WireError},
};

/// The longest it may be told to last.
const LONGEST: Duration = Duration::from_secs(90 * 86_400);

impl State {
    /// Limits an account for so long, whole seconds; zero ends it. Returns when it ends, in unix seconds.
    pub(super) fn limit_strangers(
        &mut self,
        number: Number,
        length: Duration,
    ) -> Result<u64, SandboxError> {
        if !self.accounts.contains_key(&number) {
            return Err(SandboxError::NoSuchPhone(number));
        }
        if length > LONGEST {
            return Err(SandboxError::invalid("length", "must be at most 90 days"));
        }
        let end = wire::now() + length.as_secs();
        self.limited.insert(number, end);
        Ok(end)
    }

    /// Until when an account is limited, in unix seconds, while it is.
    pub(super) fn limited_until(&self, number: Number) -> Option<u64> {
        let until = self.limited.get(&number).copied();
        until.filter(|until| *until > wire::now())
    }

    /// Refuses what a limited account writes to a stranger.
    pub(super) fn check_stranger(&self, from: &Account, to: &Account) -> Result<(), WireError> {
        let knows = from.number == to.number || from.peers.contains(&to.number);
        match knows || self.limited_until(from.number).is_none() {
            true => Ok(()),
            false => Err(WireError::STRANGER),
        }
    }
}
