//! Statuses on their way: what an account posts for all who may see it, and the receipts for it.
//!
//! Whoever posts names the readers; the network keeps no list of contacts. Never decrypts anything.

use std::collections::BTreeSet;

use wacore_binary::Node;

use super::{
    address::{DeviceAddress, Number},
    audience::Audience,
    group::{other_name, recipients, split},
    network::State,
    queue::Delivery,
    wire::{self, WireError},
};

impl State {
    /// Splits a status. `envelope` has what all readers see, `extras` what stands beside the ciphertexts.
    pub(super) fn fan_out_status(
        &self,
        from: DeviceAddress,
        node: &Node,
        mut envelope: Node,
        extras: &[Node],
    ) -> Result<Vec<Delivery>, WireError> {
        let sender = self.accounts.get(&from.number);
        let sender = sender.ok_or(WireError::FORBIDDEN)?;
        let again = wire::jid(node, "participant");
        let named = recipients(node).filter_map(|item| wire::jid(item, "jid"));
        let mut namespace = sender.namespace();
        // Its author always reads it, on its other devices.
        let mut readers = BTreeSet::from([sender.number]);
        for jid in named.chain(again) {
            if let Some((account, called)) = self.account_of(&jid) {
                readers.insert(account.number);
                namespace = called;
            }
        }
        let (key, other) = other_name(sender, namespace);
        let attrs = &mut envelope.attrs;
        attrs.insert("from", Audience::Status.jid());
        attrs.insert("participant", sender.device_jid(namespace, from.device));
        attrs.insert(key, other);
        let devices_of = |number: &Number| self.accounts.get(number);
        let devices = readers
            .iter()
            .filter_map(devices_of)
            .flat_map(|account| account.addresses())
            .filter(|device| *device != from);
        let device_of = |jid: &wacore_binary::Jid| {
            let (account, _) = self.account_of(jid)?;
            let known = account.devices.contains_key(&jid.device);
            known.then(|| account.number.device(jid.device))
        };
        split(node, &envelope, extras, device_of, devices)
    }

    /// Who gets a receipt for statuses.
    pub(super) fn status_receipt_deliveries(
        &self,
        from: DeviceAddress,
        kind: &str,
        retry: bool,
        node: &Node,
    ) -> Vec<Delivery> {
        self.many_receipt_deliveries(from, (Audience::Status.jid(), None), kind, retry, node)
    }
}
