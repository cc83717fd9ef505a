//! Small requests around a session: properties, privacy, removal of a device.

use wacore_binary::{Node, builder::NodeBuilder};

use super::Answer;
use crate::sandbox::{
    address::DeviceAddress,
    model::GroupAdds,
    network::State,
    store::Batch,
    wire::{self, WireError},
};

pub(super) fn props() -> Vec<Node> {
    vec![
        NodeBuilder::new("props")
            .attr("protocol", "1")
            .attr("ab_key", "sandbox")
            .attr("refresh", "86400")
            .build(),
    ]
}

/// What is open to all, whatever an account would like.
const OPEN: [&str; 6] = [
    "readreceipts",
    "profile",
    "status",
    "online",
    "last",
    "calladd",
];

/// The one setting of privacy that this network keeps.
const GROUP_ADDS: &str = "groupadd";

pub(super) fn privacy(state: &State, from: DeviceAddress) -> Answer {
    let account = state.accounts.get(&from.number);
    let account = account.ok_or(WireError::FORBIDDEN)?;
    let categories = OPEN
        .map(|name| category(name, "all"))
        .into_iter()
        .chain([category(GROUP_ADDS, account.group_adds.word())]);
    Ok(vec![
        NodeBuilder::new("privacy").children(categories).build(),
    ])
}

/// Sets who may add the account to groups; nothing else can be set.
pub(super) fn set_privacy(state: &mut State, from: DeviceAddress, node: &Node) -> Answer {
    let wanted = node
        .get_optional_child_by_tag(&["privacy", "category"])
        .ok_or(WireError::BAD_REQUEST)?;
    if !wire::is(wanted, "name", GROUP_ADDS) {
        return Err(WireError::NOT_IMPLEMENTED);
    }
    let word = wire::text(wanted, "value").unwrap_or_default();
    let adds = GroupAdds::of(&word).ok_or(WireError::BAD_REQUEST)?;
    let account = state.accounts.get(&from.number);
    let mut account = account.ok_or(WireError::FORBIDDEN)?.clone();
    account.group_adds = adds;
    let mut batch = Batch::default();
    account.save(&mut batch);
    state.commit(&batch).map_err(|_| WireError::INTERNAL)?;
    state.accounts.insert(from.number, account);
    let category = category(GROUP_ADDS, adds.word());
    Ok(vec![
        NodeBuilder::new("privacy").children([category]).build(),
    ])
}

fn category(name: &'static str, value: &'static str) -> Node {
    NodeBuilder::new("category")
        .attr("name", name)
        .attr("value", value)
        .build()
}

/// A device takes itself, or the phone one of its companions, off the account.
pub(super) fn remove_device(state: &State, from: DeviceAddress, node: &Node) -> Answer {
    let target = removed(state, node).ok_or(WireError::NOT_FOUND)?;
    let allowed =
        target.number == from.number && !target.is_phone() && (target == from || from.is_phone());
    if allowed {
        Ok(Vec::new())
    } else {
        Err(WireError::FORBIDDEN)
    }
}

/// After the reply, so that the device hears it before its connection ends.
pub(super) fn finish_removal(state: &mut State, from: DeviceAddress, node: &Node) {
    if let Some(target) = removed(state, node) {
        let farewell =
            (target != from).then(|| wire::stream_error(Some(401), Some("device_removed")));
        if let Err(error) = state.unlink(target, farewell) {
            tracing::warn!(%error, "a device was not removed");
        }
    }
}

fn removed(state: &State, node: &Node) -> Option<DeviceAddress> {
    let jid = wire::jid(node.get_optional_child("remove-companion-device")?, "jid")?;
    let (account, _) = state.account_of(&jid)?;
    let address = account.number.device(jid.device);
    state.device(address).map(|_| address)
}
