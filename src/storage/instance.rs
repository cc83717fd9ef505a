//! Instances as they are kept, and how they change.

use std::time::SystemTime;

use crate::domain::{
    ids::{InstanceId, InstanceName, InstanceNumber},
    session::SessionState,
};

/// Which WhatsApp an instance lives in. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Network {
    /// WhatsApp itself.
    WhatsApp = 1,
    /// The sandbox.
    Sandbox = 2,
}

/// An instance as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    /// Key of all its rows.
    pub number: InstanceNumber,
    /// Public id.
    pub id: InstanceId,
    /// Public name.
    pub name: InstanceName,
    /// For life.
    pub network: Network,
    /// What it was doing when last told.
    pub state: SessionState,
    /// Why.
    pub state_reason: String,
    /// Since when.
    pub state_time: SystemTime,
    /// Until when it is banned.
    pub banned_until: Option<SystemTime>,
    /// Digits of its number; empty if unknown.
    pub phone_number: String,
    /// `…@lid`; empty if unknown.
    pub lid: String,
    /// Its own display name; empty if unknown.
    pub push_name: String,
    /// Setting: show as online.
    pub show_online: bool,
    /// Setting: reject every call.
    pub reject_calls: bool,
    /// Setting: what to write to those who are rejected because of it; empty is nothing.
    pub reject_calls_text: String,
    /// When it was created.
    pub create_time: SystemTime,
    /// When name, settings or identity last changed.
    pub update_time: SystemTime,
}

/// What a new instance begins with.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Public id.
    pub id: InstanceId,
    /// Public name; `None` takes `instance-<number>`, or the first free of `instance-<number>-2`, …
    pub name: Option<InstanceName>,
    /// For life.
    pub network: Network,
    /// Setting: show as online.
    pub show_online: bool,
    /// Now.
    pub create_time: SystemTime,
}

/// A change of an instance: what is `Some` is written.
#[derive(Clone, Debug, Default)]
pub struct InstanceChange {
    /// New state with its reason and time; also sets or clears `banned_until`.
    pub state: Option<StateChange>,
    /// New name.
    pub name: Option<InstanceName>,
    /// New setting.
    pub show_online: Option<bool>,
    /// New setting.
    pub reject_calls: Option<bool>,
    /// New setting.
    pub reject_calls_text: Option<String>,
    /// New identity: digits of the number.
    pub phone_number: Option<String>,
    /// New identity: `…@lid`.
    pub lid: Option<String>,
    /// New display name.
    pub push_name: Option<String>,
    /// Becomes `update_time` if anything but the state is changed.
    pub time: Option<SystemTime>,
}

/// A new state of an instance.
#[derive(Clone, Debug)]
pub struct StateChange {
    /// The state.
    pub state: SessionState,
    /// Why.
    pub reason: String,
    /// When.
    pub time: SystemTime,
    /// Until when it is banned.
    pub banned_until: Option<SystemTime>,
}

/// What came of creating or renaming an instance.
#[derive(Clone, Debug)]
pub enum NameOutcome {
    /// Done.
    Done(Box<InstanceRow>),
    /// Another instance has the name.
    Taken(InstanceName),
    /// There is no such instance (any more).
    Missing,
    /// The request id was used before: with the same body for this subject, …
    Replayed(String),
    /// … or with another body, which differs in these fields.
    Reused(Vec<String>),
}
