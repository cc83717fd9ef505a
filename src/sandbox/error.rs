//! What can go wrong when the network is started or driven. Never used for what goes over the wire.

use std::io;

use super::{
    address::{DeviceAddress, Number},
    group::GroupId,
};

/// Why a call of the control API failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The listener could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The data folder cannot be read or written.
    #[error("cannot use the sandbox's data folder: {0}")]
    Storage(#[from] io::Error),
    /// Stored state does not decode.
    #[error("the sandbox's data folder is damaged at `{key}`: {source}")]
    Damaged {
        /// The record.
        key: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// A field of a request is wrong.
    #[error("{field}: {problem}")]
    Invalid {
        /// The request field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The phone named does not exist.
    #[error("phone: no phone has the number {0}; create it with CreatePhone")]
    NoSuchPhone(Number),
    /// The user named does not exist.
    #[error("to: nobody on this network has the number or LID {0}")]
    NoSuchUser(String),
    /// The group named does not exist.
    #[error("group: there is no group {0}@g.us")]
    NoSuchGroup(GroupId),
    /// The phone knows no such call.
    #[error("call_id: the phone knows no call {0}")]
    NoSuchCall(String),
    /// The call does not ring at the phone.
    #[error("call_id: call {0} does not ring at this phone")]
    NotRinging(String),
    /// The call is not one that the phone could end.
    #[error("call_id: call {0} is over, or was neither placed nor answered by this phone")]
    NotTalking(String),
    /// The network refused what a phone asked for.
    #[error("the network refuses it: {code} {text}")]
    Denied {
        /// WhatsApp's code for why: 401, 403, 404, 405, 406, 409, 410, 419 …
        code: u16,
        /// WhatsApp's words for it.
        text: String,
    },
    /// The device named does not exist.
    #[error("device: {0} is not a linked device")]
    NoSuchDevice(DeviceAddress),
    /// The device is not connected.
    #[error("device: {0} is not connected")]
    NotConnected(DeviceAddress),
    /// A phone with this number or name exists.
    #[error("{field}: a phone with this {field} exists already")]
    Exists {
        /// The request field.
        field: &'static str,
    },
    /// The QR code or pairing code is of no connection that waits for pairing.
    #[error(
        "{field}: no connection is waiting with this {field}; it may have expired, take a fresh one"
    )]
    NothingToPair {
        /// The request field.
        field: &'static str,
    },
    /// The code was typed wrongly.
    #[error("code: the code does not match the one the device shows")]
    WrongCode,
    /// The device refused the pairing.
    #[error("the device refused the pairing: {0}")]
    Refused(String),
    /// The device did not answer in time.
    #[error("the device did not answer in time")]
    TimedOut,
    /// A bound of the network is reached.
    #[error("{0}")]
    Exhausted(&'static str),
    /// A cryptographic step failed on material of our own.
    #[error("cryptography failed: {0}")]
    Crypto(String),
    /// The network is shutting down.
    #[error("the sandbox is shutting down")]
    Closed,
}

impl SandboxError {
    /// A wrong request field.
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
        }
    }

    /// A failed cryptographic step.
    pub(crate) fn crypto(cause: impl std::fmt::Display) -> Self {
        Self::Crypto(cause.to_string())
    }
}
