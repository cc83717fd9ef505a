//! The list of phones: naming new ones, finding them, telling about them.

use std::sync::Arc;

use wacore_binary::Jid;

use super::{
    address::{DeviceAddress, Lid, Number},
    error::SandboxError,
    model::GroupAdds,
    network::{Network, State},
    phone::{Phone, PhoneOptions},
};

/// Accounts one network holds.
const MAX_ACCOUNTS: usize = 10_000;

/// Where numbers of phones that asked for none begin: reserved for fiction.
const FIRST_NUMBER: u64 = 15_550_001_000;
const FIRST_LID: u64 = 900_000_001;

/// A phone and its linked devices.
#[derive(Debug, Clone)]
pub struct PhoneInfo {
    /// Its number.
    pub number: Number,
    /// Its hidden identity.
    pub lid: Lid,
    /// The name it shows.
    pub push_name: String,
    /// Its direct messages go by LID.
    pub lid_addressed: bool,
    /// It sends no delivery receipts.
    pub dormant: bool,
    /// It is not on the network.
    pub switched_off: bool,
    /// Who may add it to groups.
    pub group_adds: GroupAdds,
    /// Its linked devices.
    pub companions: Vec<CompanionInfo>,
}

/// A linked device.
#[derive(Debug, Clone)]
pub struct CompanionInfo {
    /// Which.
    pub device: DeviceAddress,
    /// True while it is logged in.
    pub connected: bool,
    /// Stanzas that wait for its receipt or ack.
    pub queued: usize,
}

impl Network {
    /// A phone that exists.
    pub fn find_phone(&self, number: Number) -> Result<Arc<Phone>, SandboxError> {
        let phone = self.lock().phones.get(&number).cloned();
        phone.ok_or(SandboxError::NoSuchPhone(number))
    }

    /// Scans for the account with the push name the device registered with; without one, for a new dormant one.
    pub async fn scan_as_anybody(
        self: &Arc<Self>,
        qr: &str,
    ) -> Result<DeviceAddress, SandboxError> {
        let push_name = self.push_name_of_qr(qr)?;
        let known = push_name
            .as_ref()
            .and_then(|name| self.lock().phone_named(name));
        let number = match known {
            Some(number) => number,
            None => {
                let options = PhoneOptions {
                    push_name: push_name.unwrap_or_default(),
                    dormant: true,
                    ..PhoneOptions::default()
                };
                self.create_phone(options).await?.number
            }
        };
        self.scan_qr(number, qr).await
    }
}

impl State {
    /// A number and a LID for a new account.
    pub(super) fn free_names(&self, wanted: Option<Number>) -> Result<(Number, Lid), SandboxError> {
        if self.accounts.len() >= MAX_ACCOUNTS {
            return Err(SandboxError::Exhausted("there are 10000 phones already"));
        }
        let number = match wanted {
            Some(Number::PLACEHOLDER) => {
                return Err(SandboxError::invalid(
                    "number",
                    "10000000000 stands for unpaired devices",
                ));
            }
            Some(number) if self.accounts.contains_key(&number) => {
                return Err(SandboxError::Exists { field: "number" });
            }
            Some(number) => Some(number),
            None => (FIRST_NUMBER..)
                .map(Number::from)
                .find(|number| !self.accounts.contains_key(number)),
        };
        let lid = (FIRST_LID..).map(Lid::from).find(|lid| !self.has_lid(*lid));
        number
            .zip(lid)
            .ok_or(SandboxError::Exhausted("no number is free"))
    }

    fn phone_named(&self, push_name: &str) -> Option<Number> {
        let named = self
            .accounts
            .values()
            .find(|account| account.push_name == push_name);
        named.map(|account| account.number)
    }

    pub(super) fn resolve(&self, user: &str) -> Result<Number, SandboxError> {
        let jid = user.parse::<Number>().map(Number::jid);
        let jid = jid.or_else(|_| user.trim().parse::<Jid>());
        let account = jid
            .ok()
            .and_then(|jid| self.account_of(&jid).map(|(account, _)| account.number));
        account.ok_or_else(|| SandboxError::NoSuchUser(user.to_owned()))
    }

    pub(super) fn phone_infos(&self) -> Vec<PhoneInfo> {
        self.accounts
            .keys()
            .filter_map(|number| self.phone_info(*number))
            .collect()
    }

    pub(super) fn phone_info(&self, number: Number) -> Option<PhoneInfo> {
        let account = self.accounts.get(&number)?;
        let companions = account.addresses().filter(|address| !address.is_phone());
        Some(PhoneInfo {
            number,
            lid: account.lid,
            push_name: account.push_name.clone(),
            lid_addressed: account.lid_addressed,
            dormant: !account.live,
            switched_off: self.phones.get(&number).is_some_and(|phone| !phone.is_on()),
            group_adds: account.group_adds,
            companions: companions
                .map(|device| CompanionInfo {
                    device,
                    connected: self.links.contains_key(&device),
                    queued: self.queues.get(&device).map_or(0, super::queue::Queue::len),
                })
                .collect(),
        })
    }
}
